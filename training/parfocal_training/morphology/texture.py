"""CellProfiler's MeasureTexture of one cell: Haralick's 13 features at 3 scales, 4 directions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from parfocal_training.morphology.patch import Ints, Patch

Features = dict[str, float]

LEVELS = 256
SCALES_PX = (3, 5, 10)
DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))
"""Down and right, for `_00` to `_03`: along a row, falling, along a column, rising."""

HARALICK = (
    *("AngularSecondMoment", "Contrast", "Correlation", "Variance", "InverseDifferenceMoment"),
    *("SumAverage", "SumVariance", "SumEntropy", "Entropy", "DifferenceVariance"),
    *("DifferenceEntropy", "InfoMeas1", "InfoMeas2"),
)


def texture(patch: Patch, channel: str) -> Features:
    """`Texture_SumVariance_Brightfield_5_00_256`: feature, channel, scale, direction, levels.

    Levels are rounded to 0-255 and not stretched. A pixel of level 0 counts as outside, as in
    CellProfiler; without one pair of pixels in some direction all 13 x 4 of a scale are NaN.
    """
    grey = np.where(patch.mask, np.rint(patch.levels * (LEVELS - 1)), 0).astype(np.int64)
    found: Features = {}
    for scale_px in SCALES_PX:
        pairs = [_pairs(grey, scale_px * down, scale_px * right) for down, right in DIRECTIONS]
        measurable = all(len(lower) for lower, _ in pairs)
        for i, (lower, upper) in enumerate(pairs):
            values = _haralick(lower, upper, int(grey.max())) if measurable else [float("nan")] * 13
            for name, value in zip(HARALICK, values, strict=True):
                found[f"Texture_{name}_{channel}_{scale_px}_{i:02d}_{LEVELS}"] = value
    return found


def _pairs(grey: Ints, down: int, right: int) -> tuple[Ints, Ints]:
    """The lower and the higher level of each pair of pixels so far apart: two of (n,)."""
    h, w = grey.shape
    if down >= h or abs(right) >= w:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    one = grey[: h - down, max(0, -right) : w - max(0, right)]
    other = grey[down:, max(0, right) : w - max(0, -right)]
    both = (one > 0) & (other > 0)
    a, b = one[both], other[both]
    return np.minimum(a, b), np.maximum(a, b)


def _haralick(lower: Ints, upper: Ints, most: int) -> list[float]:
    """The 13 features of a symmetric co-occurrence matrix, from its pairs (n,) of levels.

    Only the cells of the matrix that are not empty are visited: there are as many as pairs at most,
    of 65,536.
    """
    least, width = int(lower.min()), int(upper.max()) + 1
    counts = np.bincount((lower - least) * width + upper)
    filled = np.flatnonzero(counts)
    i, j = np.divmod(filled, width)
    i += least
    p = counts[filled] / len(lower)  # of both orders together; half of it each off the diagonal
    single = np.where(i == j, p, p / 2)
    rows = np.bincount(i, p / 2, LEVELS) + np.bincount(j, p / 2, LEVELS)
    sums = np.bincount(i + j, p, 2 * LEVELS)
    gaps = np.bincount(j - i, p, most + 1)
    at, twice = np.arange(LEVELS), np.arange(2 * LEVELS)
    mean = float(rows @ at)
    variance = float(rows @ at**2) - mean**2
    sum_mean = float(sums @ twice)
    own = _entropy(rows)
    joint = -float(p @ np.log2(single))
    spread = float(np.sqrt(max(variance, 0.0)))
    return [
        float(p @ single),
        float(gaps @ np.arange(most + 1) ** 2),
        (float(p @ (i * j)) - mean**2) / spread**2 if spread else 1.0,
        variance,
        float(p @ (1 / (1 + (j - i) ** 2))),
        sum_mean,
        float(sums @ twice**2) - sum_mean**2,
        _entropy(sums),
        joint,
        float(gaps.var()),
        _entropy(gaps),
        (joint - 2 * own) / own if own else joint - 2 * own,
        float(np.sqrt(max(0.0, 1 - np.exp(-2 * (2 * own - joint))))),
    ]


def _entropy(counted: NDArray[Any]) -> float:
    """Shannon entropy in bits; `counted` are shares that add up to 1."""
    p = counted.astype(np.float64, copy=False)
    some = p[p > 0]
    return -float(some @ np.log2(some))
