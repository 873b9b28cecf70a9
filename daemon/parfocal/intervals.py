"""Intervals for the numbers that people read: fractions and densities."""

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

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


PRIOR_FRAMES = 15.0
PRIOR_CORRELATION = 0.035
"""What is assumed of a flask before its frames say more: cells of one frame resemble each other
with this intraclass correlation, an assumption worth as much as `PRIOR_FRAMES` frames.
`tests/bench/verdicts.py` measures the coverage that follows."""


def student_t(degrees: float, z: float = Z_95) -> float:
    """Two-sided 95 % quantile of Student's t (Abramowitz and Stegun 26.7.5; 1 % off at 2)."""
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / degrees + g2 / degrees**2 + g3 / degrees**3 + g4 / degrees**4


def beta_cdf(x: ArrayLike, a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Regularised incomplete beta function I_x(a, b), of any shapes that broadcast.

    Lentz's continued fraction (DLMF 8.17.22), on the side where it converges fast; a, b > 0.
    """
    values = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (x, a, b)))
    share, first, second = np.clip(values[0], 0.0, 1.0), values[1], values[2]
    swap = share > (first + 1) / (first + second + 2)
    near = np.where(swap, 1 - share, share)
    one, two = np.where(swap, second, first), np.where(swap, first, second)
    inside = np.clip(near, 1e-300, 1 - 1e-16)
    front = one * np.log(inside) + two * np.log1p(-inside) - log_beta(one, two)
    below = np.where(near > 0, np.exp(front) / one / _continued(inside, one, two), 0.0)
    return np.clip(np.where(swap, 1 - below, below), 0.0, 1.0)


def _continued(
    x: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Continued fraction 1 + d1 / (1 + d2 / (1 + ...)) of DLMF 8.17.22."""
    c, d = np.ones_like(x), np.zeros_like(x)
    value = np.ones_like(x)
    for step in range(1, 400):
        m, odd = divmod(step, 2)
        term = (
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
            if odd
            else m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        )
        d = 1 / _apart(1 + term * d)
        c = _apart(1 + term / c)
        value = value * c * d
        if np.all(np.abs(c * d - 1) < 1e-8):
            break
    return value


def _apart(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(value) < 1e-300, 1e-300, value)  # Lentz: never divide by 0


STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)


def log_gamma(x: ArrayLike) -> NDArray[np.float64]:
    """Logarithm of the gamma function of x > 0, any shape (Stirling's series from 8 on)."""
    x = np.asarray(x, np.float64)
    shift = np.ones_like(x)
    for i in range(8):
        shift = shift * (x + i)
    y = x + 8
    series = sum(c / y ** (2 * i + 1) for i, c in enumerate(STIRLING))
    return np.asarray((y - 0.5) * np.log(y) - y + 0.5 * math.log(2 * math.pi) + series
                      - np.log(shift))  # fmt: skip


def log_beta(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Logarithm of the beta function B(a, b)."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return log_gamma(a) + log_gamma(b) - log_gamma(a + b)


@lru_cache(maxsize=512)
def student_quantile(degrees: float, tail: float) -> float:
    """The value that Student's t exceeds with this probability (below 0.5), by bisection."""
    low, high = 0.0, 1.0
    while _student_tail(high, degrees) > tail:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        above = _student_tail(middle, degrees) > tail
        low, high = (middle, high) if above else (low, middle)
    return (low + high) / 2


def _student_tail(t: float, degrees: float) -> float:
    return float(beta_cdf(degrees / (degrees + t * t), degrees / 2, 0.5)) / 2


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


def clustered_mean(values: Sequence[float], weights: Sequence[float]) -> tuple[float, float, float]:
    """Mean of a figure over frames with its 95 % interval (Student's t); needs one value.

    Weighted by the area of each frame, all above 0, a mean of densities is that of all cells in
    all area: a ratio estimator (Cochran 1977, chapter 6), and the plain mean of equal frames.
    """
    n, total = len(values), sum(weights)
    mean = sum(w * v for w, v in zip(weights, values, strict=True)) / total
    if n == 1:
        return mean, 0.0, math.inf
    spread = sum((w * (v - mean)) ** 2 for w, v in zip(weights, values, strict=True))
    half = student_t(n - 1) * math.sqrt(spread * n / (n - 1)) / total
    return mean, max(0.0, mean - half), mean + half
