"""A detector's figures, against counts made by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from parfocal.reasons import ObjectReason
from parfocal.types import Finds
from parfocal_training.detector.score import FieldScore, figures, score_field

Labels = NDArray[np.int32]


def finds_at(labels: Labels, reasons: tuple[ObjectReason | None, ...] | None = None) -> Finds:
    n = int(labels.max())
    points = np.array([np.argwhere(labels == k + 1).mean(0)[::-1] for k in range(n)]).reshape(n, 2)
    return Finds(
        labels=labels,
        points_px=points,
        centroids_px=points,
        boxes_px=np.zeros((n, 4)),
        area_um2=np.ones(n),
        score=np.ones(n),
        reasons=reasons or (None,) * n,
    )


def truth() -> Labels:
    labels = np.zeros((100, 100), np.int32)
    labels[10:30, 10:30], labels[50:70, 10:30], labels[50:70, 50:70] = 1, 2, 3
    labels[0:8, 80:100] = 4  # touches the edge
    return labels


def test_the_truth_itself_is_perfect() -> None:
    score = score_field("a", "g", finds_at(truth()), truth(), 1.0)
    assert (score.hits, score.missed, score.false, score.splits) == (3, 0, 0, 0)
    assert (score.matched, score.unmatched_finds, score.unmatched_cells) == (3, 0, 0)
    assert (score.outside, score.uncovered) == (0, 0)
    assert {name: one.value for name, one in figures([score]).items()} == {
        "recall": 1, "precision": 1, "f1": 1, "false_per_cell": 0, "splits_per_cell": 0,
        "ap50": 1, "foreground_f1": 1,
    }  # fmt: skip


def test_each_kind_of_error_is_counted_once() -> None:
    guess = np.zeros((100, 100), np.int32)
    guess[10:20, 10:30], guess[20:30, 10:30] = 1, 2  # split
    guess[52:70, 12:30] = 3  # found
    guess[80:95, 80:95] = 4  # false
    score = score_field("a", "g", finds_at(guess), truth(), 1.0)
    assert (score.hits, score.missed, score.false, score.splits) == (2, 1, 1, 1)
    assert (score.matched, score.unmatched_cells) == (2, 1)  # half of a cell is IoU 0.5
    assert score.unmatched_finds == 1


def test_what_was_rejected_is_not_found() -> None:
    finds = finds_at(truth(), (None, ObjectReason.UNSURE, None, None))
    score = score_field("a", "g", finds, truth(), 1.0)
    assert (score.hits, score.missed) == (2, 1)


def test_clumps_and_invalid_pixels_do_not_count() -> None:
    single = np.array([False, True, False, True, True])
    valid = np.ones((100, 100), np.uint8)
    valid[:40] = 0
    guess = np.where(truth() == 2, 0, truth())
    score = score_field("a", "g", finds_at_dense(guess), truth(), 1.0, "foreground", single, valid)
    assert (score.hits, score.missed, score.false) == (3, 0, 0)
    assert (score.inside, score.uncovered, score.matched) == (400, 400, None)


def finds_at_dense(labels: Labels) -> Finds:
    _, dense = np.unique(labels, return_inverse=True)
    return finds_at(dense.reshape(labels.shape).astype(np.int32))


def test_intervals_hold_groups_together() -> None:
    good = FieldScore(name="a", group="x", hits=10, missed=0, false=0, splits=0)
    bad = FieldScore(name="b", group="y", hits=0, missed=10, false=0, splits=0)
    spread = figures([good, bad])["recall"]
    assert (spread.value, spread.low, spread.high) == (0.5, 0.0, 1.0)
    together = figures([good, FieldScore(name="b", group="x", hits=0, missed=10, false=0,
                                         splits=0)])["recall"]  # fmt: skip
    assert together.low == together.high == pytest.approx(0.5)
