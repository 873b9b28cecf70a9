"""Intervals cover what they say, by exact enumeration or by simulated flasks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parfocal.intervals import clustered, composition, density, poisson, wilson


def binomial(k: int, n: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


def wilson_coverage(n: int, p: float) -> float:
    inside = (k for k in range(n + 1) if wilson(k, n)[0] <= p <= wilson(k, n)[1])
    return sum(binomial(k, n, p) for k in inside)


@pytest.mark.parametrize("n", [5, 20, 60, 200])
def test_a_fraction_is_covered_in_95_of_100_frames(n: int) -> None:
    shares = [i / 200 for i in range(1, 200)]
    coverages = [wilson_coverage(n, p) for p in shares]
    assert 0.94 <= sum(coverages) / len(coverages) <= 0.98
    assert min(c for p, c in zip(shares, coverages, strict=True) if 0.1 <= p <= 0.9) >= 0.87
    assert min(coverages) >= 0.82  # Wilson's known dip near 0 and 1


def poisson_coverage(mean: float) -> float:
    total, chance = 0.0, math.exp(-mean)
    for k in range(int(mean + 12 * math.sqrt(mean) + 20)):
        low, high = poisson(k)
        total += chance if low <= mean <= high else 0.0
        chance *= mean / (k + 1)
    return total


@pytest.mark.parametrize("means", [(0.1, 1), (1, 5), (5, 20), (20, 120)])
def test_a_density_is_covered_in_95_of_100_frames(means: tuple[float, float]) -> None:
    low, high = means
    coverages = [poisson_coverage(low + (high - low) * i / 100) for i in range(101)]
    assert min(coverages) >= 0.94
    assert sum(coverages) / len(coverages) >= 0.95


@pytest.mark.parametrize(
    ("k", "exact"),
    [(0, (0.0, 3.689)), (1, (0.0253, 5.572)), (5, (1.623, 11.67)), (100, (81.36, 121.63))],
)
def test_poisson_is_near_the_exact_interval(k: int, exact: tuple[float, float]) -> None:
    assert poisson(k) == pytest.approx(exact, rel=0.05, abs=0.02)


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_a_fraction_lies_in_its_own_interval(k: int, rest: int) -> None:
    shares = composition({"a": k, "b": rest})
    for share in shares.values():
        assert 0 <= share.low <= share.fraction <= share.high <= 1
    assert share.n == rest


def test_no_cells_say_nothing_about_the_fraction() -> None:
    share = composition({"a": 0, "b": 0})["a"]
    assert (share.fraction, share.low, share.high) == (0, 0, 1)


@given(st.integers(0, 100_000), st.floats(0.01, 100))
def test_a_density_lies_in_its_own_interval(n: int, area_mm2: float) -> None:
    found = density(n, area_mm2)
    assert 0 <= found.low <= found.cells_per_mm2 <= found.high < math.inf


@pytest.mark.parametrize("correlation", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("n_frames", [3, 10, 30])
def test_a_flasks_fraction_is_covered_though_its_frames_differ(
    n_frames: int, share: float, correlation: float
) -> None:
    """Simulated beta-binomial flasks of about 15 cells a frame; 600 flasks, so +- 2 points."""
    rng = np.random.default_rng((n_frames, int(100 * share), int(100 * correlation)))
    covered = 0
    for _ in range(600):
        n = rng.poisson(14, n_frames) + 1
        p = np.full(n_frames, share)
        if correlation:
            spread = (1 - correlation) / correlation
            p = rng.beta(share * spread, (1 - share) * spread, n_frames)
        low, high = clustered(list(zip(rng.binomial(n, p).tolist(), n.tolist(), strict=True)))
        covered += low <= share <= high
    assert covered / 600 >= 0.93


def test_frames_that_differ_widen_the_interval() -> None:
    alike, apart = [(8, 16)] * 6, [(15, 16), (1, 16)] * 3
    widths = [high - low for low, high in (clustered(alike), clustered(apart))]
    assert widths[1] > 1.5 * widths[0]
