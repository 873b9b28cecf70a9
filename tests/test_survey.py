"""`parfocal-train survey`: what is drawn, the sheets and the page, the answers and their scores."""

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parfocal.card import DetectorRules, Novelty
from parfocal.intervals import wilson
from parfocal.normalize import Reference
from parfocal_training import cli, cropset
from parfocal_training.checkpoint import Checkpoint, write_checkpoint
from parfocal_training.cropset import CropIndex, CropRow, CropRules, CropSet
from parfocal_training.dataset import Row
from parfocal_training.evaluate import measure
from parfocal_training.fit import pixel_rules
from parfocal_training.model import ConvNetConfig, initialized
from parfocal_training.recipe import FIELD
from parfocal_training.survey.candidates import Candidate
from parfocal_training.survey.choice import Impossible, Size
from parfocal_training.survey.draw import draw_part
from parfocal_training.survey.key import Key, SheetPart
from parfocal_training.survey.scores import fleiss_kappa, rank_correlation

CROP_PX, FRAMES_EACH = 224, 4
SMALL = ("--labelled", "3", "--unlabelled", "4")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def blob(rng: np.random.Generator, bright: bool, shape: tuple[int, int]) -> NDArray[np.uint8]:
    noise = rng.normal(120, 8, shape)
    y, x = np.ogrid[: shape[0], : shape[1]]
    cell = np.hypot(y - shape[0] / 2, x - shape[1] / 2) < rng.uniform(30, 50)
    return np.clip(noise + (50 if bright else -50) * cell, 0, 255).astype(np.uint8)


def drawn_set(pairs: Sequence[str] = ("1", "2", "3"), known: bool = True) -> CropSet:
    """Crops of A (bright) and B: of each flask, three frames with three cells each."""
    rng, rows, crops = np.random.default_rng(3), [], []
    for pair in pairs:
        for line in "AB":
            for i in range(9):
                flask = f"{line}{pair}" if known else ""
                image = Row(
                    path=f"{line}{pair}-{i // 3}.png",
                    cell_line=line,
                    flask=flask,
                    pair=pair if known else "",
                    group=flask or f"{line}{pair}-{i // 3}",
                )
                sha256 = f"{'AB'.index(line)}{pair}{i // 3}".ljust(64, "0")
                rows.append(CropRow(image=image, sha256=sha256, x_px=1.0 + i, y_px=2.0))
                crops.append(blob(rng, line == "A", (CROP_PX, CROP_PX)))
    rules = CropRules(
        um_per_px=0.5,
        crop_px=CROP_PX,
        margin_px=0,
        flat_field_um=0.0,
        detector=DetectorRules(name="external"),
    )
    index = CropIndex(
        data="drawn",
        classes=("A", "B"),
        group_kind="flask" if known else "field",
        rules=rules,
        rows=tuple(rows),
    )
    return CropSet(np.stack(crops), index)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    cropset.save(drawn_set(), folder)
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("frames"), np.random.default_rng(4)
    lines = ["path,cell_line,flask,pair,um_per_px"]
    for line in "AB":
        for i in range(FRAMES_EACH):
            name = f"{line}-{i}.png"
            wide = 400 if i else 384  # of two sizes
            assert cv2.imwrite(str(folder / name), blob(rng, line == "A", (300, wide)))
            lines.append(f"{name},{line},{line}1,1,0.5")
    (folder / "flasks.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def made(crops: Path, frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four parts, with what a network may be trained on in `rest`."""
    home = tmp_path_factory.mktemp("survey")
    code = cli.main(
        ["survey", "make", str(crops), "-o", str(home / "out"), "--frames", str(frames), *SMALL,
         "--labelled-frames", "2", "--rest", str(home / "rest")]
    )  # fmt: skip
    assert code == 0
    return home / "out"


def parts_of(folder: Path) -> list[SheetPart]:
    key = msgspec.json.decode((folder / "key.json").read_bytes(), type=Key)
    return list(key.parts)


def test_the_four_parts_of_the_paper_are_drawn(made: Path) -> None:
    parts = parts_of(made)
    assert [p.kind for p in parts] == ["within", "same-type", "across", "frames"]
    assert json.loads((made / "key.json").read_text())["schema"] == "parfocal.survey/1"
    for part in parts:
        assert [len(part.of("labelled", name)) for name in part.classes] == (
            [2, 2] if part.kind == "frames" else [3, 3]
        )
        asked = part.of("unlabelled")
        assert [i.number for i in asked] == [1, 2, 3, 4]
        assert sorted(i.truth for i in asked) == sorted(2 * part.classes)
    flasks = parts[1].classes
    assert flasks[0][0] == flasks[1][0] and all(i.path[:2] in flasks for i in parts[1].images)
    asked_pairs = {i.path[1] for i in parts[2].of("unlabelled")}
    assert len(asked_pairs) == 1
    assert asked_pairs.isdisjoint({i.path[1] for i in parts[2].of("labelled")})


def test_nothing_asked_is_shown_elsewhere_and_roles_share_no_field(made: Path) -> None:
    parts = parts_of(made)
    for part in parts:
        told = {i.unit for i in part.of("labelled")}
        assert told.isdisjoint({i.unit for i in part.of("unlabelled")}) and not part.shared
        elsewhere = {i.sha256 for other in parts if other is not part for i in other.images}
        assert elsewhere.isdisjoint({i.sha256 for i in part.of("unlabelled")})
        assert len({i.sha256 for i in part.images}) == len(part.images)


def test_the_rest_holds_no_file_that_is_asked_for(made: Path) -> None:
    asked = {i.file_sha256 for part in parts_of(made) for i in part.of("unlabelled")}
    rest = cropset.load(made.parent / "rest")
    assert len(rest) and asked.isdisjoint(rest.sha256s)


def test_one_seed_gives_one_survey(crops: Path, tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        args = ["survey", "make", str(crops), "-o", str(tmp_path / name), "--parts", "1", *SMALL]
        assert cli.main([*args, "--seed", seed]) == 0
        texts.append([(tmp_path / name / f).read_bytes() for f in ("key.json", "survey.pdf")])
    assert texts[0] == texts[1] and texts[0][0] != texts[2][0]


def test_parts_without_their_metadata_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cropset.save(drawn_set(known=False), tmp_path / "crops")
    args = ["survey", "make", str(tmp_path / "crops"), "-o", str(tmp_path / "out"), *SMALL]
    assert cli.main([*args, "--json"]) == 0
    *parts, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [part["kind"] for part in parts] == ["within"]
    assert parts[0]["separated_by"] == "field" and "no flask pair" in parts[0]["notes"][0]
    assert [reason.split()[0] for reason in last["left_out"]] == ["same-type", "across", "frames"]


def test_a_part_asked_for_by_name_is_not_left_out(
    crops: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    args = ["survey", "make", str(crops), "-o", str(tmp_path / "out"), *SMALL, "--parts"]
    assert cli.main([*args, "within,frames"]) == 65
    assert "give --frames" in caplog.text
    for spec, code, said in (
        ("within:9", 2, "pair '9' is not in the set, which has 1, 2, 3"),
        ("same-type:A1+B1", 2, "does not give two flasks of one cell line"),
        ("sideways", 2, "got 'sideways'"),
        ("7", 2, "from 1 to 4"),
    ):
        assert cli.main([*args, spec]) == code
        assert said in caplog.text
    assert not (tmp_path / "out").exists()
    assert cli.main([*args, "across:2,same-type:A1+A3"]) == 0
    across, same = parts_of(tmp_path / "out")
    assert {i.path[1] for i in across.of("unlabelled")} == {"2"}
    assert same.classes == ("A1", "A3")


def test_too_few_images_are_counted_and_what_is_possible_offered(
    crops: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    args = ["survey", "make", str(crops), "-o", str(tmp_path / "out"), "--parts", "within"]
    assert cli.main(args) == 65
    assert "50 of A are needed, there are 9" in caplog.text
    offer = re.search(r"--labelled (\d+) --unlabelled (\d+)", caplog.text)
    assert offer and "within:all" in caplog.text
    assert cli.main([*args, "--labelled", offer[1], "--unlabelled", offer[2]]) == 0


def test_a_folder_with_a_key_is_not_overwritten(
    crops: Path, made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = (made / "key.json").read_bytes()
    assert cli.main(["survey", "make", str(crops), "-o", str(made), *SMALL]) == 2
    assert "is not empty" in caplog.text and (made / "key.json").read_bytes() == before


def test_fields_are_shared_only_where_nothing_else_is_possible_and_it_is_said() -> None:
    pool = candidates({"A": [10], "B": [5, 5]})
    part = draw_part(1, ("within", ""), pool, Size(3, 4), (), np.random.default_rng(0))
    assert part.separated_by == "none" and "A0" in part.shared
    assert f"share {len(part.shared)} field(s)" in part.notes[-1]


def test_what_is_asked_comes_from_many_fields() -> None:
    pool = candidates({"A": [20] * 6, "B": [20] * 4})
    part = draw_part(1, ("within", ""), pool, Size(20, 20), (), np.random.default_rng(0))
    units = {i.unit for i in part.of("unlabelled")}
    assert sorted(unit[0] for unit in units) == ["A"] * 3 + ["B"] * 2


def candidates(fields: dict[str, list[int]]) -> list[Candidate]:
    return [
        Candidate(
            at=0,
            cell_line=line,
            flask="",
            pair="",
            field=f"{line}{f}",
            path="",
            sha256=f"{line}-{f}-{i}",
            file_sha256=f"{line}-{f}",
        )
        for line, sizes in fields.items()
        for f, n in enumerate(sizes)
        for i in range(n)
    ]


SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(a=SIZES, b=SIZES, told=st.integers(1, 8), asked=st.integers(2, 8), seed=st.integers(0, 9))
def test_a_drawn_part_has_its_numbers_and_tells_what_it_shares(
    a: list[int], b: list[int], told: int, asked: int, seed: int
) -> None:
    pool, rng = candidates({"A": a, "B": b}), np.random.default_rng(seed)
    try:
        part = draw_part(1, ("within", ""), pool, Size(told, asked), (), rng)
    except Impossible:
        assert min(sum(a), sum(b)) < told + (asked + 1) // 2
        return
    assert [len(part.of("labelled", name)) for name in "AB"] == [told, told]
    assert [i.number for i in part.of("unlabelled")] == list(range(1, asked + 1))
    assert len({i.sha256 for i in part.images}) == 2 * told + asked
    both = {i.unit for i in part.of("labelled")} & {i.unit for i in part.of("unlabelled")}
    assert set(part.shared) == both and (part.separated_by == "none" or not both)


def test_the_pdf_has_every_page_and_the_page_no_address(made: Path) -> None:
    data = (made / "survey.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", data)) == 4 * 3 + 2
    text = (made / "survey.html").read_text()
    assert not re.search(r"https?://|//[a-z]+\.[a-z]", text.split("<script type")[0])
    assert text.count("data:image/jpeg") == sum(len(part.images) for part in parts_of(made))
    assert "default-src 'none'" in text
    for part in parts_of(made):  # no name, hash or place of an image that would give it away
        assert not any(i.sha256 in text or i.path in text for i in part.images)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_page_is_answered_scored_and_saved(made: Path, tmp_path: Path) -> None:
    drive = """<script>
    const log = [at("start").hidden, at("finish").disabled];
    at("person").value = "Ann,  O'Hara"; at("years").value = "2.5";
    at("who").requestSubmit();
    const key = k =>
      document.dispatchEvent(new KeyboardEvent("keydown", { key: k, bubbles: true }));
    log.push(at("end").hidden);
    parts.forEach((p, i) => { at("tabs").children[i].click();
      p.unlabelled.forEach((_, j) => {
        if (i + j === 0) { key("2"); key("ArrowLeft"); }
        key(j % 2 ? "2" : "1"); }); });
    log.push(at("count").textContent, at("finish").disabled, at("end").hidden);
    at("finish").click(); key("2");
    log.push(at("total").textContent);
    document.body.innerHTML = `<pre id="found">${JSON.stringify([log, csv()])}</pre>`;
    </script></body>"""
    page = tmp_path / "page.html"
    page.write_text((made / "survey.html").read_text().replace("</body>", drive))
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu",
         "--disable-background-networking", "--disable-sync", "--no-first-run",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=50, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stdout[-500:]
    (start_hidden, locked, hidden, count, still_locked, unseen, total), text = json.loads(found[1])
    assert (start_hidden, locked, hidden) == (False, True, True)
    assert (count, still_locked, unseen) == ("16 of 16 answered", False, True)
    truth = [p.classes.index(i.truth) for p in parts_of(made) for i in p.of("unlabelled")]
    right = sum(t == i % 2 for i, t in enumerate(truth))
    low, high = wilson(right, 16)
    assert f"{right} of 16 right" in total
    assert f"{100 * low:.1f} % to {100 * high:.1f} %" in total
    (tmp_path / "ann.csv").write_text(text)
    args = ["survey", "score", str(made / "key.json"), str(tmp_path / "ann.csv")]
    assert cli.main([*args, "-o", str(tmp_path / "report")]) == 0
    assert next(csv.DictReader(text.splitlines()))["person"] == "Ann, O'Hara"


Edit = Callable[[list[list[str]]], object]


def answers(
    made: Path, path: Path, person: str, wrong: int, years: str = "3", edit: Edit = list
) -> Path:
    """A file of answers with the first `wrong` of each part wrong."""
    rows = [["person", "years", "part", "number", "answer"]]
    for part in parts_of(made):
        for image in part.of("unlabelled"):
            other = part.classes[1 - part.classes.index(image.truth)]
            said = other if image.number <= wrong else image.truth
            rows.append([person, years, str(part.number), str(image.number), said])
    edit(rows)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_scores_of_people_and_their_agreement(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [
        answers(made, tmp_path / "a.csv", "Ann", wrong=0, years="9"),
        answers(made, tmp_path / "b.csv", "Ben", wrong=1, years="2"),
        answers(made, tmp_path / "c.csv", "Cleo", wrong=4, years="0.5"),
    ]
    out = tmp_path / "report"
    args = ["survey", "score", str(made / "key.json"), *map(str, files), "-o", str(out), "--json"]
    assert cli.main(args) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert cli.main(args) == 2  # a report that is there is not written over
    ben = next(line for line in lines if line.get("person") == "Ben" and line["part"] == 1)
    assert (ben["right"], ben["n"], ben["low"]) == (3, 4, pytest.approx(wilson(3, 4)[0]))
    part = next(line for line in lines if line.get("kind") == "within")
    assert part["mean"] == pytest.approx(np.mean([1, 0.75, 0]))
    assert part["sd"] == pytest.approx(np.std([1, 0.75, 0], ddof=1))
    assert part["mean_low"] <= part["mean"] <= part["mean_high"] and "51.6 %" in part["paper"]
    shares = {(a, b): share for a, b, share in part["agreement"]["pairs"]}
    assert shares == {("Ann", "Ben"): 0.75, ("Ann", "Cleo"): 0.0, ("Ben", "Cleo"): 0.25}
    assert lines[-1]["spearman_years"] == pytest.approx(1.0)
    report = (out / "report.html").read_text()
    assert "77 % (Fig. 3f)" in report and "Cleo" in report


def of_sheet_abc(rows: list[list[str]]) -> None:
    for row in rows:
        row.append("sheet" if row is rows[0] else "abc")


FAULTS: dict[str, tuple[Edit, str]] = {
    "unknown part": (lambda rows: rows[1].__setitem__(2, "9"), "line 2: part '9' is none of 1, 2"),
    "number missing": (lambda rows: rows.pop(3), "number 3 of part 1 missing for 'Ann'"),
    "number twice": (
        lambda rows: rows.insert(2, list(rows[1])),
        "line 3: part 1 number 1 is on line 2 too",
    ),
    "no such number": (lambda rows: rows[1].__setitem__(3, "77"), "part 1 has no number '77'"),
    "no class": (lambda rows: rows[2].__setitem__(4, "C"), "line 3: answer 'C' is neither A nor B"),
    "years": (
        lambda rows: [row.__setitem__(1, "old") for row in rows[1:]],
        "'old' is not a number",
    ),
    "two ages": (lambda rows: rows[5].__setitem__(1, "4"), "line 6 gives 'Ann' 4 years, not 3"),
    "no column": (lambda rows: rows[0].__setitem__(4, "guess"), "line 1 has no column answer"),
    "another sheet": (of_sheet_abc, "line 2 answers survey abc"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_answers_is_named_with_its_file_and_line(
    fault: str, made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit, said = FAULTS[fault]
    file = answers(made, tmp_path / "ann.csv", "Ann", wrong=0, edit=edit)
    args = ["survey", "score", str(made / "key.json"), str(file), "-o", str(tmp_path / "report")]
    assert cli.main(args) == 65
    assert said in caplog.text and "ann.csv" in caplog.text
    assert not (tmp_path / "report").exists()


def test_two_files_of_one_person_are_refused(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [answers(made, tmp_path / f"{i}.csv", n, 0) for i, n in enumerate(("Ann", " ann"))]
    args = ["survey", "score", str(made / "key.json"), *map(str, files)]
    assert cli.main([*args, "-o", str(tmp_path / "report")]) == 65
    assert "0.csv and" in caplog.text and "are both answers of 'Ann'" in caplog.text


def write_network(trained_on: CropSet, folder: Path) -> None:
    """A checkpoint of a small untrained network that says it was trained on these crops."""
    folder.mkdir()
    reference = Reference.of(trained_on.crops[0])
    model = initialized(ConvNetConfig(classes=2, kernels=4), seed=1)
    rules = trained_on.index.rules
    done = Checkpoint(
        created_at="2026-01-01T00:00:00Z",
        code_version="0",
        config=model.config,
        recipe=FIELD,
        seed=1,
        classes=trained_on.classes,
        pixels=pixel_rules(rules, reference),
        detector=rules.detector,
        data="drawn",
        data_sha256s=trained_on.sha256s,
        groups=(),
        novelty=Novelty(mean="", precision="", d=0, scores=()),
        measured=measure(None, "flask", 1),
    )
    write_checkpoint(done, model, folder)


def test_a_network_answers_the_same_images_and_its_training_on_them_is_told(
    crops: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = answers(made, tmp_path / "ann.csv", "Ann", wrong=2)
    write_network(cropset.load(made.parent / "rest"), tmp_path / "clean")
    write_network(cropset.load(crops), tmp_path / "leaky")
    said = {}
    for name in ("clean", "leaky"):
        capsys.readouterr()
        args = ["survey", "score", str(made / "key.json"), str(file), "--detector", "classical"]
        model = ["--model", str(tmp_path / name), "-o", str(tmp_path / f"r-{name}")]
        assert cli.main([*args, *model, "--json"]) == 0
        said[name] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    parts = {line["kind"]: line for line in said["clean"] if "kind" in line}
    assert parts["same-type"]["network"] is None  # it knows cell lines, not flasks
    within = parts["within"]["network"]
    assert within["score"]["n"] == 4 and within["silent"] == 0
    assert within["ahead"] == pytest.approx(within["score"]["accuracy"] - 0.5)
    assert parts["frames"]["network"]["score"]["n"] == 4
    warned = {name: " ".join(lines[-1]["warnings"]) for name, lines in said.items()}
    assert "was trained on the image files of 4 of the 4" in warned["leaky"]
    assert "trained on the image files" not in warned["clean"]
    assert "network less people" in (tmp_path / "r-clean" / "report.html").read_text()


def test_fleiss_kappa_of_the_published_example() -> None:
    # Fleiss (1971) as in the worked example of 10 subjects, 14 raters and 5 categories: 0.210
    counts = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    raters = np.stack([np.repeat(np.arange(5), row) for row in counts], 1)
    assert fleiss_kappa(raters, 5) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa(np.zeros((3, 4), np.int64), 2) is None


def test_rank_correlation_shares_ranks_between_ties() -> None:
    assert rank_correlation([1, 2, 2, 3], [10, 20, 20, 90]) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert rank_correlation([1, 2], [3, 2]) is None
