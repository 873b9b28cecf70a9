"""Whether the fraction of a phenotype differs between two values, with flasks as the units."""

import math
from itertools import combinations

import msgspec
import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]

from parfocal_training.phenotypes.space import Floats, Ints

LEAST_FLASKS = 2
"""Flasks a side below which nothing is tested: one flask tells nothing about flasks."""

MOST_ARRANGEMENTS = 20_000


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Mean fraction of a phenotype at value `second` of an attribute less that at `first`.

    Means are over flasks. `p` is Welch's, `p_holm` corrected over all tests of the attribute,
    `p_permutation` exact over arrangements of whole flasks (or 20,000 of them), not corrected.
    """

    attribute: str = "density"
    cells: str
    phenotype: int
    first: str
    second: str
    flasks: tuple[int, int]
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    p_permutation: float


def differences(attribute: str, line: str, sides: dict[str, tuple[Ints, Ints]]) -> list[Difference]:
    """Every phenotype at any two values of an attribute.

    Each value has the hits (f, k) of its flasks among their cells (f,). Welch's test on one
    fraction a flask: flasks are the units, values may vary unequally, and with two to four flasks
    a side no arrangement of them is rare enough to pass a correction for several phenotypes.
    """
    out = []
    for first, second in combinations(sides, 2):
        (one, n), (other, m) = sides[first], sides[second]
        for j in range(one.shape[1]):
            difference, half, p = welch(one[:, j], n, other[:, j], m)
            out.append(
                Difference(
                    attribute=attribute,
                    cells=line,
                    phenotype=j + 1,
                    first=first,
                    second=second,
                    flasks=(len(n), len(m)),
                    difference=difference,
                    low=difference - half,
                    high=difference + half,
                    p=p,
                    p_holm=p,
                    p_permutation=permutation(one[:, j] / n, other[:, j] / m),
                )
            )
    return out


def welch(k1: Ints, n1: Ints, k2: Ints, n2: Ints) -> tuple[float, float, float]:
    """Difference of the mean fractions of flasks, half its 95 % interval, and Welch's p-value.

    k of n cells of each flask (m,). Flasks that happen to agree vary no less than the sampling of
    their cells, which is the least variance that is believed.
    """
    squared, degrees, means = [], [], []
    for k, n in ((k1, n1), (k2, n2)):
        p = (k.sum() + 0.5) / (n.sum() + 1)
        variance = max(float((k / n).var(ddof=1)), float((p * (1 - p) / n).mean()))
        squared.append(variance / len(k))
        degrees.append(len(k) - 1)
        means.append(float((k / n).mean()))
    se2 = sum(squared)
    df = se2**2 / sum(s**2 / d for s, d in zip(squared, degrees, strict=True))
    difference = means[1] - means[0]
    half = float(student.ppf(0.975, df)) * math.sqrt(se2)
    p_value = 2 * float(student.sf(abs(difference) / math.sqrt(se2), df))
    return difference, half, p_value


def permutation(one: Floats, other: Floats) -> float:
    """Share of arrangements of the flasks with a difference of means at least as large."""
    pooled, m = np.concatenate([one, other]), len(one)
    if math.comb(len(pooled), m) <= MOST_ARRANGEMENTS:
        chosen = np.array(list(combinations(range(len(pooled)), m)))
        extra = 0
    else:
        rng = np.random.default_rng(0)
        chosen = rng.random((MOST_ARRANGEMENTS, len(pooled))).argsort(1)[:, :m]
        extra = 1  # the arrangement that was seen is one of them
    first = pooled[chosen].sum(1)
    apart = np.abs((pooled.sum() - first) / len(other) - first / m)
    as_far = (apart >= abs(other.mean() - one.mean()) - 1e-12).sum()
    return float((as_far + extra) / (len(chosen) + extra))


def holm(p: Floats) -> Floats:
    """Holm's (1979) step-down correction of p-values (m,)."""
    order_of = np.argsort(p, kind="stable")
    scaled = np.maximum.accumulate(p[order_of] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order_of] = np.minimum(scaled, 1)
    return out
