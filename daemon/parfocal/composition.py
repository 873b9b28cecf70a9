"""Shares of true classes from what a model answered, with intervals for all that is not known."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from parfocal.composition_rates import Reading
from parfocal.intervals import PRIOR_FRAMES, Z_95, clustered, design_effect, student_t
from parfocal.types import Fraction

Answers = Sequence[dict[str, int]]
"""Of each frame: class to number of classified cells that were answered so, abstained or not. The
model's confusion was counted the same way."""

SHARES = np.linspace(0, 1, 1001)
TAIL_95 = 0.025
NEAR_FLOOR = 1.4
LEAST_HALF_WIDTH = 1e-4
"""Nobody can ask for less, and no number of fields gives 0."""


def mixture(counts: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Most likely shares of true classes: (k,) from answered counts (k,) and rates (k, k).

    Expectation maximization for the proportions of a mixture with known parts (Saerens et al.,
    Neural Computation 2002), which never leaves the simplex as inverting the matrix does.
    """
    k = len(counts)
    if k == 2:
        answered, low, high = counts[0] / counts.sum(), matrix[1, 0], matrix[0, 0]
        first = np.clip((answered - low) / (high - low), 0, 1) if high > low else 0.5
        return np.array([first, 1 - first])
    shares = np.full(k, 1 / k)
    for _ in range(500):
        mixed = np.maximum(shares @ matrix, 1e-300)
        fresh = shares * (matrix @ (counts / mixed)) / counts.sum()
        if np.abs(fresh - shares).max() < 1e-7:
            break
        shares = fresh
    return shares


def share_of(
    at: int,
    frames: Answers,
    reading: Reading,
    tail: float = TAIL_95,
    frames_tail: float = TAIL_95,
) -> tuple[float, float, float]:
    """Share of one true class with an interval that each end exceeds with probability `tail`.

    Inverts a test (Fieller 1954): shares p whose expected answers lie near enough to those seen.
    Two variances count: that of frames as clusters, with Student's quantile; and that of the rates
    of this flask, which no number of frames makes smaller. How the rates of two classes go together
    in one flask cannot be seen in flasks of one class each, so their SDs add up, which is nearly
    true where a flask makes one class look like the other. `frames_tail` replaces `tail` for the
    first variance where one looks again and again.
    """
    counts = np.array([sum(f.get(c, 0) for f in frames) for c in reading.classes], np.float64)
    n = counts.sum()
    if n == 0:
        return 0.0, 0.0, 1.0
    shares = mixture(counts, reading.matrix)
    expected = _expected(at, shares, reading)
    own, other = _rate_sds(at, shares, reading)
    of_rates = (SHARES * own + (1 - SHARES) * other) ** 2
    of_frames = expected * (1 - expected) * effect(reading.classes[at], frames) / n
    z = NormalDist().inv_cdf(1 - tail)
    t = student_t(_used(frames) - 1 + PRIOR_FRAMES, NormalDist().inv_cdf(1 - frames_tail))
    half = np.sqrt(t**2 * of_frames + z**2 * of_rates)
    seen = np.clip(counts[at] / n, *sorted((expected[0], expected[-1])))
    inside = SHARES[np.abs(seen - expected) <= half + 1e-12]
    share = float(shares[at])
    ends = (float(inside[0]), float(inside[-1])) if len(inside) else (share, share)
    return share, min(share, ends[0]), max(share, ends[1])


def _expected(at: int, shares: NDArray[np.float64], reading: Reading) -> NDArray[np.float64]:
    """Share of answers `at` if this share of `SHARES` is that class, the others as estimated."""
    rest = _rest(at, shares)
    expected: NDArray[np.float64] = SHARES * reading.matrix[at, at] + (1 - SHARES) * (
        rest @ reading.matrix[:, at]
    )
    return expected


def _rate_sds(at: int, shares: NDArray[np.float64], reading: Reading) -> tuple[float, float]:
    """SDs of the rate of answers `at` in a new flask: among cells of the class, and of others."""
    sd = np.sqrt(reading.variance[:, at])
    return float(sd[at]), float(_rest(at, shares) @ sd)


def _rest(at: int, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mix of the other classes: (k,), 0 at the class itself, sum 1."""
    rest = np.where(np.arange(len(shares)) == at, 0.0, shares + 1e-6)
    normed: NDArray[np.float64] = rest / rest.sum()
    return normed


def effect(label: str, frames: Answers) -> float:
    """Design effect of the share of an answer, frames as clusters."""
    pairs = [(f.get(label, 0), sum(f.values())) for f in frames]
    used = [(k, n) for k, n in pairs if n > 0]
    return design_effect(used) if used else 1.0


def _used(frames: Answers) -> int:
    return sum(any(f.values()) for f in frames)


def corrected(frames: Answers, reading: Reading | None) -> dict[str, Fraction] | None:
    """Share of each true class among all classified cells; None without cells or rates.

    `n` of a class is how many cells were answered so, before the correction.
    """
    if reading is None or not _used(frames):
        return None
    out = {}
    for at, label in enumerate(reading.classes):
        share, low, high = share_of(at, frames, reading)
        n = sum(f.get(label, 0) for f in frames)
        out[label] = Fraction(n=n, fraction=share, low=low, high=high)
    return out


def fields_for(
    wanted: float, at: int, frames: Answers, reading: Reading | None
) -> tuple[int, float]:
    """Total number of frames like these, and the half width of the interval that they give.

    The half width is the wanted one, or, if that is out of reach, the next best: the model's own
    rates are known so well and no better, whatever the number of fields. At `NEAR_FLOOR` times the
    half width that follows from them, the fields' chance counts no more than the model's errors do,
    and more fields add little.
    """
    n_frames, n = _used(frames), sum(sum(f.values()) for f in frames)
    label, gain, of_rates = _sensitivity(at, frames, reading)
    floor = Z_95 * math.sqrt(of_rates) / gain
    aim = max(wanted, NEAR_FLOOR * floor, LEAST_HALF_WIDTH)
    p = (sum(f.get(label, 0) for f in frames) + 0.5) / (n + 1)
    one_frame = p * (1 - p) * effect(label, frames) * n_frames / n / gain**2
    room = aim**2 - floor**2
    low, high = 0, 1
    while _half_squared(high, one_frame) > room:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _half_squared(middle, one_frame) > room else (low, middle)
    return high, aim


def _half_squared(n_frames: int, one_frame: float) -> float:
    return student_t(n_frames - 1 + PRIOR_FRAMES) ** 2 * one_frame / n_frames


def half_width(at: int, frames: Answers, reading: Reading | None) -> float:
    """Half the 95 % interval of a class's share: of answers where the confusion is not known."""
    if reading is not None:
        _, low, high = share_of(at, frames, reading)
    else:
        label = labels_of(frames)[at]
        low, high = clustered([(f.get(label, 0), sum(f.values())) for f in frames])
    return (high - low) / 2


def labels_of(frames: Answers) -> list[str]:
    """Every class that was answered, in alphabetical order."""
    return sorted({label for f in frames for label in f})


def _sensitivity(at: int, frames: Answers, reading: Reading | None) -> tuple[str, float, float]:
    """The class's name, change of its answers by its share, and the variance of its rates."""
    if reading is None:
        return labels_of(frames)[at], 1.0, 0.0
    counts = np.array([sum(f.get(c, 0) for f in frames) for c in reading.classes], np.float64)
    shares = mixture(counts, reading.matrix)
    gain = reading.matrix[at, at] - _rest(at, shares) @ reading.matrix[:, at]
    p = float(shares[at])
    own, other = _rate_sds(at, shares, reading)
    return reading.classes[at], max(float(gain), 0.05), (p * own + (1 - p) * other) ** 2
