"""Does a network answer for a cell, or for its neighbours?"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rigs import CLASSES, measured_card

from parfocal.bundle import load
from parfocal.card import DetectorRules
from parfocal.prepare import CROP_PX
from parfocal.types import Gray
from parfocal_export import cli, sentences
from parfocal_training import cropset
from parfocal_training.cropset import CropIndex, CropRow, CropRules, CropSet
from parfocal_training.dataset import Row
from parfocal_training.evaluate import measure
from parfocal_training.leftout import LeftOut
from parfocal_training.neighbours import among_others

FLASKS, PER_FLASK = 12, 6
EVERY = np.arange(FLASKS * PER_FLASK)


def flasks(classes: tuple[str, ...] = CLASSES, dtype: type = np.uint8) -> CropSet:
    """Cells alike in all flasks; beside those of every other flask there are stripes."""
    n, rng = FLASKS * PER_FLASK, np.random.default_rng(1)
    crops = rng.integers(90, 110, (n, CROP_PX, CROP_PX))
    masks = np.zeros(crops.shape, np.bool_)
    masks[:, 90:130, 80:150] = True
    rows = []
    for i in range(n):
        flask = i // PER_FLASK
        if flask % 2:
            crops[i, :, ::8] += 60
            crops[i, 70:150, 60:170] = rng.integers(90, 110, (80, 110))
        image = Row(path=f"{flask}.png", cell_line=classes[flask % len(classes)],
                    flask=str(flask), group=str(flask))  # fmt: skip
        rows.append(CropRow(image=image, sha256=f"{i:064d}", x_px=1.0, y_px=1.0))
    rules = CropRules(um_per_px=0.44, crop_px=CROP_PX, margin_px=0, flat_field_um=0.0,
                      detector=DetectorRules(name="external"))  # fmt: skip
    index = CropIndex(data="ours", classes=tuple(sorted(classes)), group_kind="flask",
                      rules=rules, rows=tuple(rows))  # fmt: skip
    return CropSet(crops.astype(dtype), index, masks)


def striped(crops: Gray) -> NDArray[np.bool_]:
    """Whether each crop shows stripes at its upper edge."""
    edge = crops[:, :40].astype(np.float64)
    found: NDArray[np.bool_] = edge.mean(1).std(1) > 0.5 * edge.std((1, 2))
    return found


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_cell_is_placed_beside_what_lies_beside_another_class(dtype: type) -> None:
    crop_set = flasks(dtype=dtype)
    moved = among_others(crop_set, EVERY, 0)
    assert moved is not None and moved.dtype == dtype and moved.shape == crop_set.crops.shape
    assert (striped(moved) == ~striped(crop_set.crops)).all()
    own = np.s_[:, 90:130, 80:150]
    assert np.array_equal(moved[own], crop_set.crops[own])
    flask = EVERY[:PER_FLASK]  # all of one class: the surroundings are those of other flasks
    placed = among_others(crop_set, flask, 0)
    assert placed is not None and (striped(placed) == ~striped(crop_set.crops[flask])).all()
    again = among_others(crop_set, EVERY, 0)
    assert again is not None and np.array_equal(moved, again)


def test_without_outlines_or_with_one_class_nothing_is_placed() -> None:
    assert among_others(replace(flasks(), masks=None), EVERY, 0) is None
    assert among_others(flasks(("alpha",)), EVERY, 0) is None


@pytest.mark.parametrize("outlines", [True, False])
def test_a_card_says_how_often_cells_are_right_among_others(
    tiny_bundle: Path, tmp_path: Path, outlines: bool
) -> None:
    crop_set = flasks() if outlines else replace(flasks(), masks=None)
    cropset.save(crop_set, tmp_path / "crops")
    said = ("--name", "local", "--model-version", "2", "--licence", "CC0-1.0")
    out = tmp_path / "local.onnx"
    assert (
        cli.main([str(tiny_bundle), "--measure", str(tmp_path / "crops"), "-o", str(out), *said])
        == 0
    )
    metrics = load(str(out)).card.training.metrics
    assert ("accuracy_among_others" in metrics) == outlines
    if outlines:
        how = metrics["accuracy_among_others"].how
        assert "placed in the surroundings of another class" in how and "temperature" not in how
        assert "temperature from the other folds" in metrics["ece"].how


@pytest.mark.parametrize("wrong", [0.0, 0.6])
def test_a_network_that_goes_by_neighbours_says_so(wrong: float) -> None:
    rng, n = np.random.default_rng(3), 600
    labels = rng.integers(0, 2, n)
    logits = np.where(np.eye(2)[labels] > 0, 3.0, 0.0) + rng.normal(0, 1, (n, 2))
    placed = np.where(rng.random(n) < wrong, 1 - labels, logits.argmax(1))
    left_out = LeftOut(
        logits, labels, labels, tuple(str(i % 20) for i in range(n)), rng.random(n),
        among_others=placed,
    )  # fmt: skip
    measured = measure(left_out, "flask", 0, classes=CLASSES)
    assert measured.metrics["accuracy_among_others"].value == (placed == labels).mean()
    said = sentences.caveats(measured_card(measured))
    assert any("goes by neighbours" in one for one in said) == (wrong > 0)


def test_other_outlines_are_another_training(tmp_path: Path) -> None:
    crop_set, digests = flasks(), []
    assert crop_set.masks is not None
    for shift in (0, 5):
        moved = replace(crop_set, masks=np.roll(crop_set.masks, shift, axis=1))
        cropset.save(moved, tmp_path / str(shift))
        digests.append(cropset.load(tmp_path / str(shift)).digest)
    assert digests[0] != digests[1]
