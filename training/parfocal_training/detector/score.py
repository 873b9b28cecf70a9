"""The figures of a detector on a field with truth: found, false, split, outlines, foreground.

A find hits a cell when its point lies in the cell's mask or within `REACH_UM` of it; further finds
in the same cell are splits, finds in no cell are false. Cells that touch the frame's edge neither
count nor punish. Average precision is TP / (TP + FP + FN) at an intersection over union of 0.5.
Intervals come from drawing groups of fields with replacement.
"""

from collections.abc import Callable, Sequence

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.types import Finds
from parfocal_training.detector.fields import Labels, Mask, Truth

REACH_UM = 3.0
DRAWS = 2000


class FieldScore(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one field; the last six are None where its truth has no such thing."""

    name: str
    group: str
    hits: int
    missed: int
    false: int
    splits: int
    matched: int | None = None
    unmatched_finds: int | None = None
    unmatched_cells: int | None = None
    inside: int | None = None
    outside: int | None = None
    uncovered: int | None = None


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its 95 % interval over groups."""

    value: float
    low: float
    high: float


def score_field(
    name: str,
    group: str,
    finds: Finds,
    truth: Labels,
    um_per_px: float,
    says: Truth = "instances",
    single: NDArray[np.bool_] | None = None,
    valid: Mask | None = None,
) -> FieldScore:
    """Counts of one field.

    Parameters
    ----------
    truth : (h, w) int32
        Labels at frame size.
    single : (n_labels + 1,) bool, optional
        Which labels are one cell each; None: all. The others count as cell, but not as cells.
    valid : (h, w) uint8, optional
        Pixels that count for the foreground; None: all.
    """
    cells = np.array([reason is None for reason in finds.reasons], bool)
    points = finds.points_px[cells]
    at = labels_at(truth, points, REACH_UM / um_per_px)
    wanted = np.bincount(truth.ravel()) > 0
    wanted[0] = False
    if single is not None:
        wanted &= single
    counted = wanted.copy()
    if says == "instances":
        counted[border_labels(truth)] = False
    hit = np.bincount(at, minlength=len(wanted))
    hits = int((counted & (hit > 0)).sum())
    splits = int(np.maximum(hit - 1, 0)[counted].sum())
    base = FieldScore(
        name=name,
        group=group,
        hits=hits,
        missed=int(counted.sum()) - hits,
        false=int(hit[0]),
        splits=splits,
    )
    guess = finds.labels_at((truth.shape[0], truth.shape[1])).astype(np.int32)
    if says == "instances":
        tp, fp, fn = overlaps(truth, guess, ~counted)
        base = msgspec.structs.replace(base, matched=tp, unmatched_finds=fp, unmatched_cells=fn)
    if says != "points":
        is_cell, said = truth > 0, guess > 0
        ok = np.ones(truth.shape, bool) if valid is None else valid > 0
        base = msgspec.structs.replace(
            base,
            inside=int((is_cell & said & ok).sum()),
            outside=int((~is_cell & said & ok).sum()),
            uncovered=int((is_cell & ~said & ok).sum()),
        )
    return base


def labels_at(truth: Labels, points: NDArray[np.float64], reach_px: float) -> NDArray[np.int64]:
    """Label under each point (n, 2), else the nearest within reach, else 0: shape (n,)."""
    h, w = truth.shape
    away, nearest = cv2.distanceTransformWithLabels(
        (truth == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    label_of = np.zeros(int(nearest.max()) + 1, np.int64)
    inside = truth > 0
    label_of[nearest[inside]] = truth[inside]
    x, y = (np.clip(np.rint(points[:, k]), 0, (w, h)[k] - 1).astype(int) for k in (0, 1))
    return np.where(away[y, x] <= reach_px, label_of[nearest[y, x]], 0)


def border_labels(truth: Labels) -> NDArray[np.int64]:
    """Labels that touch the frame's edge."""
    edge = np.concatenate([truth[0], truth[-1], truth[:, 0], truth[:, -1]])
    return np.unique(edge[edge > 0]).astype(np.int64)


def overlaps(truth: Labels, guess: Labels, ignored: NDArray[np.bool_]) -> tuple[int, int, int]:
    """(TP, FP, FN) at IoU 0.5; ignored labels and finds that lie mostly in them do not count."""
    nt, ng = len(ignored), int(guess.max(initial=0)) + 1
    pairs = np.bincount((truth.astype(np.int64) * ng + guess).ravel(), minlength=nt * ng)
    both = pairs.reshape(nt, ng)
    area_t, area_g = both.sum(1), both.sum(0)
    union = area_t[:, None] + area_g[None] - both
    good = (both / np.maximum(union, 1) >= 0.5)[1:, 1:]
    free = ~ignored[1:] & (area_t[1:] > 0)
    found = good.any(1)
    tp = int((found & free).sum())
    in_ignored = (both[1:][ignored[1:]] / np.maximum(area_g, 1) > 0.5).any(0)[1:]
    fp = int(((area_g[1:] > 0) & ~good.any(0) & ~in_ignored).sum())
    return tp, fp, int(free.sum()) - tp


def figures(fields: Sequence[FieldScore], seed: int = 0) -> dict[str, Figure]:
    """Every figure that the fields allow, with its interval over groups."""
    names = sorted({one.group for one in fields})
    sums = np.array([_sums([f for f in fields if f.group == name]) for name in names])
    rng = np.random.default_rng(seed)
    drawn = sums[rng.integers(0, len(names), (DRAWS, len(names)))].sum(1)  # (draws, counts)
    out = {}
    for name, rate in RATES.items():
        value = rate(sums.sum(0)[None])[0]
        if np.isfinite(value):
            low, high = np.nanpercentile(rate(drawn), [2.5, 97.5])
            out[name] = Figure(value=float(value), low=float(low), high=float(high))
    return out


COUNTS = ("hits", "missed", "false", "splits", "matched", "unmatched_finds", "unmatched_cells",
          "inside", "outside", "uncovered")  # fmt: skip


def _sums(fields: Sequence[FieldScore]) -> NDArray[np.float64]:
    return np.array([sum(getattr(f, name) or 0 for f in fields) for name in COUNTS], float)


def _ratio(over: NDArray[np.float64], under: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(under > 0, over / np.maximum(under, 1), np.nan)


def _f1(c: NDArray[np.float64], tp: int, fp: Sequence[int], fn: int) -> NDArray[np.float64]:
    wrong = sum((c[:, k] for k in fp), c[:, fn])
    return _ratio(2 * c[:, tp], 2 * c[:, tp] + wrong)


def _where_counted(
    value: NDArray[np.float64], c: NDArray[np.float64], kinds: tuple[int, int]
) -> NDArray[np.float64]:
    """The value where anything of these two kinds was counted, else NaN."""
    return np.where(c[:, kinds[0]] + c[:, kinds[1]] > 0, value, np.nan)


Rate = Callable[[NDArray[np.float64]], NDArray[np.float64]]
RATES: dict[str, Rate] = {
    "recall": lambda c: _ratio(c[:, 0], c[:, 0] + c[:, 1]),
    "precision": lambda c: _ratio(c[:, 0], c[:, 0] + c[:, 2] + c[:, 3]),
    "f1": lambda c: _where_counted(_f1(c, 0, (2, 3), 1), c, (0, 1)),
    "false_per_cell": lambda c: _ratio(c[:, 2], c[:, 0] + c[:, 1]),
    "splits_per_cell": lambda c: _ratio(c[:, 3], c[:, 0] + c[:, 1]),
    "ap50": lambda c: _ratio(c[:, 4], c[:, 4] + c[:, 5] + c[:, 6]),
    "foreground_f1": lambda c: _where_counted(_f1(c, 7, (8,), 9), c, (7, 9)),
}
