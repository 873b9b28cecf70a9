"""Intervals for the numbers that people read: fractions and densities."""

import math
from collections.abc import Sequence
from statistics import NormalDist

from parfocal.types import Density, Fraction

Z_95 = NormalDist().inv_cdf(0.975)


def wilson(k: float, n: float, z: float = Z_95) -> tuple[float, float]:
    """95 % interval of a binomial fraction k / n (Wilson 1927); (0, 1) where n is 0."""
    if n <= 0:
        return 0.0, 1.0
    p = k / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if k <= 0 else max(0.0, middle - half)  # exact where rounding would miss k / n
    return low, 1.0 if k >= n else min(1.0, middle + half)


def poisson(k: int, z: float = Z_95) -> tuple[float, float]:
    """95 % interval of a Poisson mean after k events (Byar's approximation)."""
    high = (k + 1) * (1 - 1 / (9 * (k + 1)) + z / (3 * math.sqrt(k + 1))) ** 3
    if k == 0:
        return 0.0, high
    return k * (1 - 1 / (9 * k) - z / (3 * math.sqrt(k))) ** 3, high


def composition(counts: dict[str, int]) -> dict[str, Fraction]:
    """Fraction of each class among the counted cells of ONE frame, with Wilson intervals."""
    total = sum(counts.values())
    out = {}
    for label, n in counts.items():
        low, high = wilson(n, total)
        out[label] = Fraction(n=n, fraction=n / total if total else 0.0, low=low, high=high)
    return out


def density(n_cells: int, area_mm2: float) -> Density:
    """Cells per mm2 of a frame of this area, with a Poisson interval for this frame."""
    low, high = poisson(n_cells)
    return Density(cells_per_mm2=n_cells / area_mm2, low=low / area_mm2, high=high / area_mm2)


PRIOR_FRAMES = 2.0
PRIOR_CORRELATION = 0.03
"""What is assumed of a flask before its frames say more: cells of one frame resemble each other
with this intraclass correlation, an assumption worth as much as `PRIOR_FRAMES` frames."""


def student_t(degrees: float, z: float = Z_95) -> float:
    """Two-sided 95 % quantile of Student's t (Abramowitz and Stegun 26.7.5; 1 % off at 2)."""
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / degrees + g2 / degrees**2 + g3 / degrees**3 + g4 / degrees**4


def design_effect(counts: Sequence[tuple[int, int]]) -> float:
    """How much larger the variance of a fraction is than if all cells were independent.

    `counts` holds (k, n) of each frame with cells. The ratio estimator's between-frame variance
    over the binomial one (Cochran 1977, chapter 3), shrunk towards the prior, never below 1.
    """
    total, hits, frames = sum(n for _, n in counts), sum(k for k, _ in counts), len(counts)
    expected = 1 + max(0.0, total / frames - 1) * PRIOR_CORRELATION
    p = hits / total
    if frames < 2 or not 0 < p < 1:
        return expected
    spread = sum((k - p * n) ** 2 for k, n in counts) / (total * p * (1 - p))
    observed = spread * frames / (frames - 1)
    blended = (frames - 1) * observed + PRIOR_FRAMES * expected
    return max(1.0, blended / (frames - 1 + PRIOR_FRAMES))


def clustered(counts: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """95 % interval of a fraction over frames that differ: (k, n) of each frame.

    Wilson's interval at the effective number of cells, with Student's quantile for the few frames
    that the variance is known from. (0, 1) without cells.
    """
    used = [(k, n) for k, n in counts if n > 0]
    if not used:
        return 0.0, 1.0
    k, n = sum(k for k, _ in used), sum(n for _, n in used)
    effect = design_effect(used)
    return wilson(k / effect, n / effect, student_t(len(used) - 1 + PRIOR_FRAMES))


def clustered_mean(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of a figure over frames with its 95 % interval (Student's t); needs one value."""
    n = len(values)
    mean = sum(values) / n
    if n == 1:
        return mean, 0.0, math.inf
    variance = sum((v - mean) ** 2 for v in values) / (n - 1)
    half = student_t(n - 1) * math.sqrt(variance / n)
    return mean, max(0.0, mean - half), mean + half
