"""`parfocal-train crops`: what training sees is what the daemon cuts."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from parfocal.card import DetectorRules
from parfocal.images import Limits, decode
from parfocal.prepare import CROP_PX, PixelRules, Prepare, to_gray
from parfocal.reasons import ObjectReason
from parfocal.types import Finds, Gray
from parfocal_export.question import golden_crops
from parfocal_training import cropset
from parfocal_training.cli import main
from parfocal_training.crops import cut_frames, gathered
from parfocal_training.cropset import CropRules
from parfocal_training.dataset import Row

SCALE = ("--um-per-px", "0.5")


class GridDetector:
    """Says that there are cells on a grid of 150 px, and that the first is debris."""

    name = "grid"
    fingerprint = "0"

    def __call__(self, gray: Gray, um_per_px: float, /) -> Finds:
        h, w = gray.shape
        at = [(x + 0.25, y - 0.25) for y in range(75, h, 150) for x in range(75, w, 150)]
        n, points = len(at), np.array(at, np.float64)
        return Finds(
            labels=np.zeros((1, 1), np.int32),
            points_px=points,
            centroids_px=points,
            boxes_px=np.zeros((n, 4)),
            area_um2=np.ones(n),
            score=np.ones(n),
            reasons=(ObjectReason.DEBRIS, *[None] * (n - 1)),
        )


def ready(folder: Path, side: int = CROP_PX) -> Path:
    """Two cell lines, two fields each, one crop a field; PNG."""
    crops = golden_crops(4, side, np.random.default_rng(0))
    for i, crop in enumerate(crops):
        path = folder / "AB"[i // 2] / f"{'AB'[i // 2]}-{i:06d}-1.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), crop)
    return folder


def frame_of(seed: int, h: int = 600, w: int = 750) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (h, w), dtype=np.uint8)


@pytest.mark.parametrize("margin_px", [0, 10])
def test_ready_crops_are_kept_as_they_are(tmp_path: Path, margin_px: int) -> None:
    data = ready(tmp_path / "data", CROP_PX + 2 * margin_px)
    options = ["--ready-crops", *SCALE, "--class-names", "A=Alpha", "B=Beta-2"]
    assert main(["crops", str(data), "-o", str(tmp_path / "out"), *options]) == 0
    made = cropset.load(tmp_path / "out")
    assert made.classes == ("Alpha", "Beta-2")
    assert made.index.rules.margin_px == margin_px
    assert made.index.rules.detector == DetectorRules(name="external")
    assert made.index.group_kind == "field"
    for crop, row in zip(made.crops, made.index.rows, strict=True):
        np.testing.assert_array_equal(crop, cv2.imread(str(data / row.image.path), 0))


def test_json_lines_tell_every_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ready(tmp_path / "data")
    (data / "A" / "A-000009-1.png").write_bytes(b"no image")
    options = ["--ready-crops", *SCALE, "--json"]
    assert main(["crops", str(data), "-o", str(tmp_path / "out"), *options]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    bad = next(line for line in lines if line.get("image") == "A/A-000009-1.png")
    assert bad["n_crops"] == 0
    assert sum(bad["rejected"].values()) == 1
    assert (lines[-1]["n_crops"], lines[-1]["n_groups"]) == (4, 4)


FAULTS = [
    ([], "the pixel size of the crops is not known: give --um-per-px"),
    ([*SCALE, "--group-regex", "(nothing like it)"], "no group can be derived for 4 of 4"),
    ([*SCALE, "--group-by", "flask"], "no group can be derived for 4 of 4"),
    ([*SCALE, "--class-names", "C=D"], "--class-names names C, but the data set has A, B"),
]


@pytest.mark.parametrize(("options", "sentence"), FAULTS)
def test_a_fault_is_one_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, options: list[str], sentence: str
) -> None:
    data = ready(tmp_path / "data")
    command = ["crops", str(data), "-o", str(tmp_path / "out"), "--ready-crops", *options]
    assert main(command) == 65
    assert sentence in caplog.text
    assert not (tmp_path / "out").exists()


def test_a_crop_of_the_wrong_size_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = ready(tmp_path / "data", CROP_PX - 1)
    command = ["crops", str(data), "-o", str(tmp_path / "out"), "--ready-crops", *SCALE]
    assert main(command) == 65
    assert "'A/A-000000-1.png' has 223x223 px: a ready crop is square" in caplog.text


def test_bad_usage_is_exit_code_2(tmp_path: Path) -> None:
    data = ready(tmp_path / "data")
    command = ["crops", str(data), "-o", str(tmp_path / "out"), "--ready-crops", *SCALE]
    assert main([*command, "--class-names", "A"]) == 2
    with pytest.raises(SystemExit) as caught:
        main([*command, "--um-per-px", "-1"])
    assert caught.value.code == 2


def rules(margin_px: int) -> CropRules:
    return CropRules(
        um_per_px=0.5,
        crop_px=CROP_PX,
        margin_px=margin_px,
        flat_field_um=0.0,
        detector=DetectorRules(name="grid", fingerprint="0"),
    )


@pytest.mark.parametrize("um_per_px", [0.5, 0.4])
def test_training_crops_are_the_daemons_pixel_for_pixel(tmp_path: Path, um_per_px: float) -> None:
    for i, line in enumerate("AB"):
        cv2.imwrite(str(tmp_path / f"{line}.png"), frame_of(i))
    rows = tuple(Row(path=f"{c}.png", cell_line=c, group=c, um_per_px=um_per_px) for c in "AB")
    images = list(cut_frames(tmp_path, rows, rules(20), GridDetector(), 0.0))
    made = gathered(images, rules(20), "field", "noise")
    pixels = PixelRules(um_per_px=0.5, reference=(CROP_PX**2, *[0] * 255))
    daemon = Prepare(pixels, GridDetector())
    for line in "AB":
        gray = to_gray(decode((tmp_path / f"{line}.png").read_bytes(), Limits()).pixels)
        cells = daemon.cut(gray, um_per_px)
        at_px = {tuple(p): crop for p, crop in
                 zip(cells.finds.centroids_px[cells.chosen], cells.crops, strict=True)}  # fmt: skip
        mine = [i for i, row in enumerate(made.index.rows) if row.image.cell_line == line]
        assert mine
        for i in mine:
            row = made.index.rows[i]
            theirs = at_px[(row.x_px or 0.0, row.y_px or 0.0)]
            np.testing.assert_array_equal(made.crops[i, 20:-20, 20:-20], theirs)


def test_rejected_finds_are_counted_by_reason(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), frame_of(0))
    row = Row(path="a.png", cell_line="A", group="a", um_per_px=0.5)
    (image,) = cut_frames(tmp_path, (row,), rules(0), GridDetector(), 0.0)
    assert image.crops is not None
    assert image.rejected == {"debris": 1, "edge": 20 - 1 - len(image.crops)}


def test_frames_are_cut_by_the_command(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    table = "path,cell_line,flask,um_per_px\n"
    for line in "AB":
        rng = np.random.default_rng(ord(line))
        frame = (165 + 5 * rng.normal(0, 1, (900, 1200))).astype(np.uint8)
        for i, crop in enumerate(golden_crops(4, 200, rng)):
            y, x = 350 * (i // 2) + 150, 400 * (i % 2) + 250
            frame[y : y + 200, x : x + 200] = crop
        cv2.imwrite(str(folder / f"{line}.png"), frame)
        table += f"{line}.png,{line},{line}1,0.5\n"
    (folder / "flasks.csv").write_text(table)
    code = main(["crops", str(folder), "-o", str(tmp_path / "out"), "--margin", "8"])
    assert code == 0, caplog.text
    made = cropset.load(tmp_path / "out")
    assert (made.index.group_kind, made.crops.shape[1]) == ("flask", CROP_PX + 16)
    assert set(made.groups) == {"A1", "B1"}
