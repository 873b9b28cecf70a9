"""`parfocal-train dataset`: every fault with its code, warnings that do not stop, and the card."""

import html
import json
import re
from collections.abc import Iterable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from parfocal.card import DetectorRules
from parfocal.prepare import CROP_PX
from parfocal_export.question import golden_crops
from parfocal_training import cli, cropset
from parfocal_training.crops import gathered, ready_crops
from parfocal_training.cropset import CropIndex, CropRow, CropRules, CropSet, ImageTally
from parfocal_training.datacard import write_card
from parfocal_training.dataset import Row
from parfocal_training.errors import DataError

HEAD = "path,cell_line,flask,density,split,fluorescence"
GOOD = [
    f"{line}{flask}{i}.png,{line},{line}{flask},{'low' if flask == 1 else 'high'},,"
    for line in "AB"
    for flask in (1, 2)
    for i in range(3)
]
"""Two lines, two flasks each at two densities, three images a flask."""

RULES = CropRules(
    um_per_px=0.5,
    crop_px=CROP_PX,
    margin_px=0,
    flat_field_um=0.0,
    detector=DetectorRules(name="external"),
)


def image(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cv2.imwrite(str(path), rng.normal(120, 20, (30, 40)).clip(0, 255).astype(np.uint8))


def data_set(folder: Path, lines: Iterable[str]) -> Path:
    """A table, and a drawn image of its own for every line."""
    folder.mkdir(exist_ok=True)
    lines = list(lines)
    for seed, line in enumerate(lines):
        image(folder / line.split(",")[0], seed)
    (folder / "flasks.csv").write_text("\n".join([HEAD, *lines]) + "\n")
    return folder


def faults_of(
    folder: Path, capsys: pytest.CaptureFixture[str], code: int = 0
) -> list[dict[str, object]]:
    assert cli.main(["dataset", str(folder), "--json"]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def codes(faults: Iterable[dict[str, object]]) -> list[object]:
    return [fault["code"] for fault in faults]


def test_a_good_data_set_has_no_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = data_set(tmp_path / "data", GOOD)
    assert faults_of(folder, capsys) == []
    assert cli.main(["dataset", str(folder)]) == 0
    assert "no faults" in capsys.readouterr().out


def test_a_file_that_is_no_image_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = data_set(tmp_path / "data", GOOD)
    whole = (folder / "A10.png").read_bytes()
    (folder / "A10.png").write_bytes(whole[: len(whole) // 2])
    (fault,) = faults_of(folder, capsys, 65)
    assert (fault["code"], fault["severity"], fault["path"]) == ("unreadable", "error", "A10.png")
    assert str(fault["text"]).startswith("'A10.png' cannot be read as an image (incomplete: ")
    assert "has 1 error(s): mend them" in caplog.text


def test_fluorescence_is_decoded_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = data_set(tmp_path / "data", [GOOD[0] + "f.png", *GOOD[1:]])
    assert codes(faults_of(folder, capsys, 65)) == ["fluorescence_missing"]
    (folder / "f.png").write_bytes(b"")
    (fault,) = faults_of(folder, capsys, 65)
    assert (fault["code"], fault["path"]) == ("unreadable", "f.png")
    image(folder / "f.png", 99)
    assert faults_of(folder, capsys) == []
    (folder / "f.png").write_bytes((folder / "B10.png").read_bytes())
    (fault,) = faults_of(folder, capsys, 65)
    assert fault["code"] == "duplicate" and "'f.png', 'B10.png'" in str(fault["text"])


def test_pairs_that_lack_a_line_or_an_image_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = data_set(tmp_path / "data", GOOD)
    pairs = {"A1": "1", "B1": "1", "A2": "2", "B2": "3"}

    def told() -> list[str]:
        lines = [f"{line},{pairs[line[:2]]}" for line in GOOD]
        (folder / "flasks.csv").write_text("\n".join([f"{HEAD},pair", *lines]) + "\n")
        return [str(fault["text"]).split(":")[0] for fault in faults_of(folder, capsys)]

    assert told() == ["pair '2' has no B", "pair '3' has no A"]
    pairs |= {"A2": "", "B2": ""}
    assert told() == ["6 of 12 images have no pair (first"]
    pairs |= {"A2": "2", "B2": "2"}
    assert told() == []


@pytest.mark.parametrize(
    ("copy", "ending"),
    [
        ("A11.png", " are the same file (equal SHA-256): keep one"),
        ("A20.png", ", yet differ in group: keep one"),
        ("B10.png", ", yet differ in cell line and group: keep one"),
    ],
)
def test_one_file_under_two_names_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], copy: str, ending: str
) -> None:
    folder = data_set(tmp_path / "data", GOOD)
    (folder / copy).write_bytes((folder / "A10.png").read_bytes())
    (fault,) = faults_of(folder, capsys, 65)
    assert fault["code"] == "duplicate"
    assert str(fault["text"]).startswith(f"'A10.png', '{copy}'")
    assert str(fault["text"]).endswith(ending)


def test_faults_of_the_table_and_of_the_images_are_told_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [*GOOD, "gone.png,A,A1,low,,", "A10.png,B,A1,mid,val,", "../out.png,B,B1,low,test,"]
    folder = data_set(tmp_path / "data", lines)
    (folder / "gone.png").unlink()
    (folder / "B10.png").write_bytes(b"none")
    found = faults_of(folder, capsys, 65)
    assert sorted({str(f["code"]) for f in found if f["severity"] == "error"}) == [
        "bad_split", "flask_two_lines", "flask_two_values", "leakage", "missing_file", "outside",
        "repeated_path", "unreadable",
    ]  # fmt: skip
    assert [f["line"] for f in found if f["code"] == "missing_file"] == [14]
    capsys.readouterr()
    assert cli.main(["dataset", str(folder)]) == 65
    shown = capsys.readouterr().out
    assert all(str(fault["code"]) in shown for fault in found)


def test_a_file_outside_the_data_set_is_not_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret.png").write_bytes(b"no image")
    folder = data_set(tmp_path / "data", GOOD)
    with (folder / "flasks.csv").open("a") as file:
        file.write("../secret.png,A,A1,low,,\n")
    assert codes(faults_of(folder, capsys, 65)) == ["outside"]


def test_two_depths_cannot_be_one_crop_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = data_set(tmp_path / "data", GOOD)
    cv2.imwrite(str(folder / "A10.png"), np.full((30, 40), 3000, np.uint16))
    (fault,) = faults_of(folder, capsys, 65)
    assert fault["code"] == "two_depths"
    assert "1 uint16 and 11 uint8" in str(fault["text"])


def of_line(line: str, flasks: int, density: str, split: str = "", field: str = "") -> list[str]:
    return [
        f"{line}{flask}{i}{split}.png,{line},{field or f'{line}{flask}{split}'},{density},{split},"
        for flask in range(flasks)
        for i in range(3)
    ]


WARNINGS = [
    ([*of_line("A", 1, ""), *of_line("B", 2, "")], {"label_one_flask": 1, "few_images": 1}),
    ([*of_line("A", 2, "low"), *of_line("B", 2, "low")], {"line_one_density": 2}),
    ([*of_line("A", 2, "low"), *of_line("B", 2, "high")], {"line_one_density": 2}),
    (
        [*of_line("A", 2, "30"), *of_line("B", 2, "20"), *of_line("B", 2, "40", "train")],
        {"line_one_density": 1},
    ),
    (
        [*of_line("A", 2, ""), *of_line("A", 1, "", "test"), *of_line("B", 2, "")],
        {"one_group_in_split": 2},
    ),
    ([*of_line("A", 2, ""), *of_line("B", 2, "")[:2]], {"label_one_flask": 1, "few_images": 1}),
]


@pytest.mark.parametrize(("lines", "expected"), WARNINGS)
def test_a_risky_design_is_a_warning_and_does_not_stop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[str], expected: dict[str, int]
) -> None:
    found = faults_of(data_set(tmp_path / "data", lines), capsys)
    assert {str(code): codes(found).count(code) for code in codes(found)} == expected
    assert {fault["severity"] for fault in found} == {"warning"}


def test_disjoint_densities_are_told_from_a_single_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apart = [*of_line("A", 2, "20"), *of_line("B", 2, "30"), *of_line("B", 2, "40", "train")]
    found = faults_of(data_set(tmp_path / "data", apart), capsys)
    assert [str(f["text"]).split(":")[0] for f in found] == [
        "A has densities that no other line has (20; others",
        "B has densities that no other line has (30, 40; others",
    ]


def test_folders_for_classes_have_no_flask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(12):
        path = tmp_path / "AB"[seed % 2] / f"{seed}.png"
        path.parent.mkdir(exist_ok=True)
        image(path, seed)
    assert codes(faults_of(tmp_path, capsys)) == ["no_flask"]


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r'src="[^"]+"', "", page)))


def table_rows(page: str) -> list[list[str]]:
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in page.split("<tr>")[1:]]
    return [[html.unescape(cell) for cell in row] for row in cells]


def test_the_card_of_a_data_set(tmp_path: Path) -> None:
    folder = data_set(tmp_path / "data", [*GOOD, "gone.png,A,A1,low,,"])
    (folder / "gone.png").unlink()
    assert cli.main(["dataset", str(folder), "-o", str(tmp_path / "new" / "card.html")]) == 65
    page = (tmp_path / "new" / "card.html").read_text()
    assert "line 14 names 'gone.png', which does not exist [missing_file]" in text_of(page)
    assert "13 images of 2 cell lines, 12 readable: 12 of 40x30 px, uint8" in text_of(page)
    assert table_rows(page)[:3] == [
        ["cell line", "flask", "density", "images"],
        ["A", "A2", "high", "3"],
        ["A", "A1", "low", "4"],
    ]
    assert page.count("<figure>") == 4  # counts, samples, grey levels of lines and of flasks


def drawn_set(images: tuple[ImageTally, ...] | msgspec.UnsetType = msgspec.UNSET) -> CropSet:
    """Four crops of each of two lines, two from each image, with a margin of 2 px."""
    side = CROP_PX + 4
    rows = tuple(
        CropRow(image=row_of(i // 2), sha256=f"{i // 2:064d}", x_px=1.0, y_px=float(i))
        for i in range(8)
    )
    rules = msgspec.structs.replace(RULES, margin_px=2, detector=DetectorRules(name="grid"))
    index = CropIndex(
        data="drawn", classes=("A", "B"), group_kind="flask", rules=rules, rows=rows, images=images
    )
    return CropSet(golden_crops(8, side, np.random.default_rng(3)), index)


def row_of(i: int) -> Row:
    return Row(path=f"{i}.png", cell_line="AB"[i // 2], flask=f"F{i}", group=f"F{i}", passage="8")


def test_the_card_of_crops_counts_cells_and_rejected_finds(tmp_path: Path) -> None:
    tallies = (
        *(ImageTally(image=row_of(i), n_crops=2, rejected={"edge": i + 1}) for i in range(4)),
        ImageTally(image=Row(path="9.png", cell_line="A", flask="F9"), n_crops=0),
    )
    write_card(drawn_set(tallies), tmp_path / "card.html")
    page = (tmp_path / "card.html").read_text()
    assert table_rows(page)[:4] == [
        ["cell line", "flask", "passage", "images", "crops", "edge"],
        ["A", "F0", "8", "1", "2", "1"],
        ["A", "F1", "8", "1", "2", "2"],
        ["A", "F9", "", "1", "0", "0"],
    ]
    assert "A has 4 cells: with fewer than 100" in text_of(page)
    assert page.count("<figure>") == 5  # and cells per image


def test_the_card_of_crops_that_do_not_tell_of_their_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cropset.save(drawn_set(), tmp_path / "crops")
    code = cli.main(["dataset", str(tmp_path / "crops"), "-o", str(tmp_path), "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (code, codes(found)) == (0, ["few_cells", "few_cells"])
    text = text_of((tmp_path / "card.html").read_text())
    assert "This set does not say how many finds were rejected." in text
    assert "Images that gave none are not known here." in text


def test_the_same_card_is_drawn_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_card(drawn_set(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_told_of_images_does_not_change_what_a_training_is_made_from() -> None:
    told = drawn_set((ImageTally(image=row_of(0), n_crops=2),))
    assert told.digest == drawn_set().digest
    assert told.of(np.array([0, 1])).index.images is msgspec.UNSET


def crops_with_a_copy(folder: Path, *same: Row) -> CropSet:
    """What `crops` makes of two images of one file, and of one of another cell line."""
    first, other = golden_crops(2, CROP_PX, np.random.default_rng(1))
    rows = (*same, Row(path="other.png", cell_line="C", group="z"))
    for row in rows:
        cv2.imwrite(str(folder / row.path), other if row.path == "other.png" else first)
    return gathered(list(ready_crops(folder, rows)), RULES, "flask", "drawn")


@pytest.mark.parametrize(
    ("line", "group", "split", "differ"),
    [
        ("B", "x", "", "cell line"),
        ("A", "y", "", "group"),
        ("A", "x", "test", "split"),
    ],
)
def test_crops_refuse_a_file_that_contradicts_itself(
    tmp_path: Path, line: str, group: str, split: str, differ: str
) -> None:
    first = Row(path="1.png", cell_line="A", group="x")
    second = Row(path="2.png", cell_line=line, group=group, split=split)
    sentence = rf"images come twice: '1.png', '2.png' are .* yet differ in {differ}: keep one"
    with pytest.raises(DataError, match=sentence):
        crops_with_a_copy(tmp_path, first, second)


def test_crops_keep_a_file_that_only_comes_twice_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    same = (Row(path=f"{i}.png", cell_line="A", group="x") for i in (1, 2))
    made = crops_with_a_copy(tmp_path, *same)
    assert len(made) == 3
    assert "1 image(s) come twice, their cells count twice: '1.png', '2.png'" in caplog.text
    assert made.index.images is not msgspec.UNSET
    assert [tally.n_crops for tally in made.index.images] == [1, 1, 1]


def test_help_names_units_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["dataset", "--help"])
    assert "None: no card" in " ".join(capsys.readouterr().out.split())
