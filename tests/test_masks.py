"""Masks of single cells: cut like their crops, stored beside them, drawn for ready crops."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parfocal.card import DetectorRules
from parfocal.cut import rescale
from parfocal.images import Limits, decode
from parfocal.prepare import CROP_PX, to_gray
from parfocal.reader import centre_crop
from parfocal.types import Finds, Gray
from parfocal_export.question import golden_crops
from parfocal_training import cropset
from parfocal_training.cli import main
from parfocal_training.crops import cut_frames
from parfocal_training.cropset import CropIndex, CropRow, CropRules, CropSet
from parfocal_training.dataset import Row

SIDE_PX = 24


class Rectangles:
    """Finds rectangles of given grey levels, and labels them at a scale of its own."""

    name, fingerprint = "rectangles", "0"

    def __init__(self, levels: list[int], factor: float) -> None:
        self.levels, self.factor = levels, factor

    def __call__(self, gray: Gray, um_per_px: float, /) -> Finds:
        h, w = (max(1, round(n * self.factor)) for n in gray.shape)
        small = cv2.resize(gray, (w, h), interpolation=cv2.INTER_NEAREST_EXACT)
        labels, centres = np.zeros((h, w), np.int32), []
        for i, level in enumerate(self.levels):
            labels[small == level] = i + 1
            y, x = np.nonzero(gray == level)
            centres.append((x.mean(), y.mean()))
        n, points = len(centres), np.array(centres, np.float64)
        return Finds(
            labels=labels,
            points_px=points,
            centroids_px=points,
            boxes_px=np.zeros((n, 4)),
            area_um2=np.ones(n),
            score=np.ones(n),
            reasons=(None,) * n,
        )


def drawn_frame(x: int, y: int, w: int, h: int) -> NDArray[np.uint8]:
    """A cell of level 200 at (x, y), and a neighbour of level 100 that touches it."""
    frame = np.zeros((120, 160), np.uint8)
    frame[y : y + h, x : x + w] = 200
    frame[y : y + h, x + w : x + w + 6] = 100
    return frame


@settings(max_examples=25, deadline=None)
@given(
    x=st.integers(50, 80),
    y=st.integers(40, 60),
    w=st.integers(6, 14),
    h=st.integers(6, 14),
    um_per_px=st.sampled_from([0.5, 0.4, 0.61]),
    factor=st.sampled_from([1.0, 0.5, 0.73]),
)
def test_a_mask_lies_where_its_cell_lies_in_the_crop(
    tmp_path_factory: pytest.TempPathFactory,
    x: int,
    y: int,
    w: int,
    h: int,
    um_per_px: float,
    factor: float,
) -> None:
    folder = tmp_path_factory.mktemp("frames")
    cv2.imwrite(str(folder / "a.png"), drawn_frame(x, y, w, h))
    row = Row(path="a.png", cell_line="A", group="a", um_per_px=um_per_px)
    rules = CropRules(
        um_per_px=0.5,
        crop_px=SIDE_PX,
        margin_px=2,
        flat_field_um=0.0,
        detector=DetectorRules(name="rectangles"),
    )
    (image,) = cut_frames(folder, (row,), rules, Rectangles([200, 100], factor), 0.0)
    assert image.crops is not None
    assert image.masks is not None
    assert image.masks.shape == image.crops.shape
    crop, mask = image.crops[0], image.masks[0]
    bright = crop > 150
    if um_per_px == 0.5 and factor == 1.0:
        np.testing.assert_array_equal(mask, crop == 200)
    else:  # resampled twice: the same but for the rim, whose width is a pixel of the labels
        reach = np.ones((2 * int(np.ceil(1 / factor)) + 1,) * 2, np.uint8)
        grown = cv2.dilate(bright.astype(np.uint8), reach) > 0
        shrunk = cv2.erode(bright.astype(np.uint8), reach) > 0
        assert not (mask & ~grown).any()
        assert not (shrunk & ~mask).any()


def test_crops_cut_by_the_command_have_their_masks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
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
    out = tmp_path / "out"
    code = main(["crops", str(folder), "-o", str(out), "--margin", "8", "--detector", "classical"])
    assert code == 0, caplog.text
    made = cropset.load(out)
    assert made.masks is not None
    assert made.masks.shape == made.crops.shape
    middle = made.crops.shape[1] // 2
    for mask in made.masks:
        at = np.argwhere(mask)
        assert len(at) > 200
        assert np.hypot(*(at.mean(0) - middle)) < 12
        assert cv2.connectedComponents(mask.astype(np.uint8))[0] == 2
    some = made.of(np.array([1, 0]))
    assert some.masks is not None
    np.testing.assert_array_equal(some.masks[0], made.masks[1])
    bare = made.bare_masks(np.array([0]))
    assert bare is not None
    np.testing.assert_array_equal(bare[0], made.masks[0, 8:-8, 8:-8])


def small_set(masks: NDArray[np.bool_] | None = None) -> CropSet:
    rows = tuple(
        CropRow(image=Row(path=f"{i}.png", cell_line="AB"[i], group=f"g{i}"), sha256=f"{i:064d}")
        for i in range(2)
    )
    rules = CropRules(
        um_per_px=0.5,
        crop_px=8,
        margin_px=1,
        flat_field_um=0.0,
        detector=DetectorRules(name="external"),
    )
    index = CropIndex(data="drawn", classes=("A", "B"), group_kind="field", rules=rules, rows=rows)
    crops = (np.arange(200) % 251).astype(np.uint8).reshape(2, 10, 10)
    return CropSet(crops, index, masks)


def test_masks_are_part_of_what_a_training_is_made_from(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((2, 10, 10)) < 0.5
    for name, some in (("without", None), ("with", masks)):
        cropset.save(small_set(some), tmp_path / name)
    without, with_masks = (cropset.load(tmp_path / name) for name in ("without", "with"))
    assert without.masks is None
    assert with_masks.masks is not None
    np.testing.assert_array_equal(with_masks.masks, masks)
    # what sets cut before there were masks are known by: networks trained on them name it
    stored = "88bba14a38f31eb26c3a85429cbef9b37d71d1a0606d42e3b20404e31ea698bd"
    assert without.digest == stored
    assert with_masks.digest != stored  # training exchanges surroundings along them
    cropset.save(small_set(), tmp_path / "with")
    assert cropset.load(tmp_path / "with").masks is None
    assert not (tmp_path / "with" / "masks.npy").exists()


def test_masks_of_another_set_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cropset.save(small_set(np.ones((2, 10, 10), np.bool_)), tmp_path)
    np.save(tmp_path / "masks.npy", np.zeros((2, 10, 2), np.uint8))
    assert main(["fit", str(tmp_path), "-o", str(tmp_path / "out")]) == 65
    assert "masks.npy' is not the file that crops.json describes" in caplog.text
    (tmp_path / "masks.npy").unlink()
    assert main(["fit", str(tmp_path), "-o", str(tmp_path / "out")]) == 65
    assert "holds no crops (No such file or directory: masks.npy)" in caplog.text


def ready(folder: Path, side: int, masks: Path | None = None) -> Path:
    """One crop of each of two lines with a square cell, and a mask that shows a neighbour, too."""
    for i, line in enumerate("AB"):
        crop = golden_crops(1, side, np.random.default_rng(i))[0]
        path = folder / line / f"{line}-{i:06d}-1.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), crop)
        if masks is not None:
            drawn = np.zeros((side, side), np.uint8)
            drawn[side // 4 : side // 2 + 5, side // 4 : side // 2 + 5] = 255
            drawn[:10, :20] = 255
            masks.mkdir(exist_ok=True)
            cv2.imwrite(str(masks / path.name), drawn)
    return folder


def test_ready_crops_of_another_scale_are_resampled_as_the_daemon_does(tmp_path: Path) -> None:
    data = ready(tmp_path / "data", 128, tmp_path / "masks")
    options = ["--ready-crops", "--um-per-px", "0.44", "--crop-um-per-px", "0.8708"]
    options += ["--masks", str(tmp_path / "masks"), "--detector", "classical"]
    assert main(["crops", str(data), "-o", str(tmp_path / "out"), *options]) == 0
    made = cropset.load(tmp_path / "out")
    side = round(128 * 0.8708 / 0.44)
    assert made.index.rules.margin_px == (side - CROP_PX) // 2
    assert made.masks is not None
    for i, row in enumerate(made.index.rows):
        gray = decode((data / row.image.path).read_bytes(), Limits()).pixels
        theirs = centre_crop(to_gray(gray), 0.8708, 0.44, CROP_PX)
        np.testing.assert_array_equal(made.bare(np.array([i]))[0], theirs)
        square = np.zeros((128, 128), np.uint8)
        square[32:69, 32:69] = 255
        enlarged = rescale(square, 0.8708, 0.44)[: made.crops.shape[1], : made.crops.shape[1]]
        share = (made.masks[i] & (enlarged > 127)).sum() / made.masks[i].sum()
        assert share > 0.97
        assert made.masks[i].sum() == pytest.approx((enlarged > 127).sum(), rel=0.05)


def test_a_rows_own_pixel_size_comes_first(tmp_path: Path) -> None:
    data = ready(tmp_path / "data", 128)
    table = "path,cell_line,flask,um_per_px\nA/A-000000-1.png,A,A1,0.9\nB/B-000001-1.png,B,B1,0.9\n"
    (data / "flasks.csv").write_text(table)
    options = ["--ready-crops", "--um-per-px", "0.5", "--crop-um-per-px", "3"]
    options += ["--detector", "classical"]
    assert main(["crops", str(data), "-o", str(tmp_path / "out"), *options]) == 0
    assert cropset.load(tmp_path / "out").index.rules.margin_px == (230 - CROP_PX) // 2


FAULTS = [
    (128, ["--crop-um-per-px", "0.8708", "--um-per-px", "0.6"], "resampled 186x186 px", 65),
    (128, ["--crop-um-per-px", "0.8708", "--um-per-px", "0.6"], "give a smaller --um-per-px", 65),
    (128, ["--um-per-px", "0.5"], "has 128x128 px: a ready crop is square", 65),
    (CROP_PX, ["--um-per-px", "0.5", "--masks", "nowhere"], "has no mask: neither", 65),
]


@pytest.mark.parametrize(("side", "options", "sentence", "code"), FAULTS)
def test_a_fault_is_one_sentence(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    side: int,
    options: list[str],
    sentence: str,
    code: int,
) -> None:
    data = ready(tmp_path / "data", side)
    command = ["crops", str(data), "-o", str(tmp_path / "out"), "--detector", "classical"]
    assert main([*command, "--ready-crops", *options]) == code
    assert sentence in caplog.text


def test_an_unfit_mask_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    masks = tmp_path / "masks"
    data = ready(tmp_path / "data", CROP_PX, masks)
    command = ["crops", str(data), "-o", str(tmp_path / "out"), "--detector", "classical"]
    command += ["--um-per-px", "0.5", "--masks", str(masks)]
    assert main(command) == 2
    assert "add --ready-crops" in caplog.text
    cv2.imwrite(str(masks / "A-000000-1.png"), np.zeros((CROP_PX, CROP_PX), np.uint8))
    assert main([*command, "--ready-crops"]) == 65
    assert "marks nothing: draw the cell" in caplog.text
    cv2.imwrite(str(masks / "A-000000-1.png"), np.ones((50, 50), np.uint8))
    assert main([*command, "--ready-crops"]) == 65
    assert "its shape is (50, 50), that of the crop (224, 224)" in caplog.text


def test_json_of_a_set_without_masks_is_as_before(tmp_path: Path) -> None:
    cropset.save(small_set(), tmp_path)
    assert "masks_sha256" not in json.loads((tmp_path / "crops.json").read_text())
