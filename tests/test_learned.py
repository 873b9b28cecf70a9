"""From maps to finds: places, sizes, and a reason for everything that is no single living cell."""

import numpy as np
import pytest
from numpy.typing import NDArray

from parfocal.instances import VoteRules
from parfocal.learned import FindRules, found, padded
from parfocal.reasons import ObjectReason
from parfocal.types import Finds
from parfocal_training.detector.targets import targets

VOTES, RULES = VoteRules(), FindRules()
Labels = NDArray[np.int32]


def maps_of(labels: Labels, other: Labels | None = None, sure: float = 6.0) -> NDArray[np.float32]:
    """The maps of a network that is right, and this sure."""
    ones = np.ones(labels.shape, np.uint8)
    wanted = targets(labels, ones, ones, ones)
    strange = np.zeros(labels.shape, np.int32) if other is None else other
    cell = np.where(wanted.cell == 1, sure, -6.0)
    lifeless = np.where(strange[::2, ::2] > 0, 6.0, -6.0)
    rest = np.zeros_like(cell)
    stacked = np.stack([cell, lifeless, wanted.dy, wanted.dx, rest, rest])
    return stacked.astype(np.float32)


def finds_of(labels: Labels, other: Labels | None = None, sure: float = 6.0) -> Finds:
    h, w = labels.shape
    contrast = np.zeros((h, w), np.float32)
    maps = maps_of(padded_labels(labels), None if other is None else padded_labels(other), sure)
    return found(maps, contrast, 1.0, (2 * h, 2 * w), VOTES, RULES)


def padded_labels(labels: Labels) -> Labels:
    return np.pad(labels, ((0, -labels.shape[0] % 16), (0, -labels.shape[1] % 16)))


def scene() -> Labels:
    labels = np.zeros((150, 211), np.int32)
    labels[20:50, 30:70] = 1  # a cell
    labels[90:130, 100:130] = 2  # another
    return labels


def test_a_cell_is_where_and_as_large_as_it_is() -> None:
    finds = finds_of(scene())
    assert finds.reasons == (None, None)
    assert np.allclose(finds.centroids_px[0], [2 * 49.5 + 0.5, 2 * 34.5 + 0.5], atol=3)
    assert np.allclose(finds.area_um2, [1200, 1200], rtol=0.08)
    assert np.allclose(finds.boxes_px[0], [60, 40, 80, 60], atol=5)
    assert (finds.score > 0.99).all()
    full = finds.labels_at((300, 422))
    assert np.unique(full).tolist() == [0, 1, 2] and full[70, 100] == 1


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        pytest.param((50, 60, 60, 70), ObjectReason.DEBRIS, id="too small"),
        pytest.param((0, 60, 25, 110), ObjectReason.EDGE, id="cut by the edge"),
        pytest.param((20, 20, 140, 120), ObjectReason.CLUMP, id="larger than any cell"),
    ],
)
def test_what_is_no_single_cell_has_its_reason(
    box: tuple[int, int, int, int], reason: ObjectReason
) -> None:
    labels = np.zeros((150, 211), np.int32)
    top, left, bottom, right = box
    labels[top:bottom, left:right] = 1
    assert finds_of(labels).reasons == (reason,)


def test_a_doubtful_cell_is_told_apart_from_a_sure_one() -> None:
    assert finds_of(scene(), sure=2.0).reasons == (ObjectReason.UNSURE, ObjectReason.UNSURE)


def test_lifeless_things_are_found_and_rejected() -> None:
    other = np.zeros((150, 211), np.int32)
    other[100:116, 20:36] = 1  # round
    other[20:60, 120:200] = 1  # a heap
    finds = finds_of(scene(), other)
    assert len(finds) == 4
    assert sorted(r.value for r in finds.reasons if r) == ["debris", "rounded"]


def test_burnt_in_ink_is_no_cell() -> None:
    labels = scene()
    contrast = np.where(labels == 1, -0.9, 0).astype(np.float32)
    finds = found(maps_of(padded_labels(labels)), contrast, 1.0, (300, 422), VOTES, RULES)
    assert finds.reasons == (ObjectReason.DEBRIS, None)


def test_the_point_of_a_bent_cell_lies_in_it() -> None:
    labels = np.zeros((150, 211), np.int32)
    labels[20:120, 30:45] = labels[105:120, 30:120] = labels[20:120, 105:120] = 1  # a U
    finds = finds_of(labels)
    x, y = np.rint((finds.points_px[0] - 0.5) / 2).astype(int)
    assert labels[y, x] == 1
    bx, by = np.rint((finds.centroids_px[0] - 0.5) / 2).astype(int)
    assert labels[by, bx] == 0


def test_touching_cells_keep_their_own_points() -> None:
    labels = np.zeros((150, 211), np.int32)
    for k in range(4):
        labels[40:80, 30 + 30 * k : 60 + 30 * k] = k + 1
    finds = finds_of(labels)
    assert len(finds) == 4
    assert np.allclose(np.sort(finds.points_px[:, 0]), 2 * (44.5 + 30 * np.arange(4)) + 0.5, atol=6)


def test_padding_only_adds() -> None:
    for shape in ((1, 1), (5, 40), (16, 32), (33, 17)):
        view = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
        more = padded(view)
        assert more.shape[0] % 16 == more.shape[1] % 16 == 0
        assert (more[: shape[0], : shape[1]] == view).all()
