"""How far clusters and components follow the orientation of cells."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parfocal_training.pixels.orientation import Axes, Bools, Floats

Ints = NDArray[np.int64]


def orientation_r2(clusters: Ints, angles_rad: Floats, elongated: Bools) -> float:
    """Share of the variance of orientation that clusters explain, adjusted for their number.

    One-way analysis of variance of (cos 2a, sin 2a) over the elongated cells, both coordinates
    pooled; adjusted R2 = 1 - (1 - R2) (n - 1) / (n - k). 0 is what clusters without regard to
    orientation have on average (a sample can fall below), 1 says that a cluster is an orientation.
    NaN when there are no more elongated cells than clusters.

    Parameters
    ----------
    clusters, angles_rad, elongated : ndarrays of shape (n,)
        Cells that are not elongated are left out.
    """
    of = np.unique(clusters[elongated], return_inverse=True)[1]
    return _r2(of, _doubled(angles_rad[elongated]))


def _doubled(angles_rad: Floats) -> Floats:
    return np.stack([np.cos(2 * angles_rad), np.sin(2 * angles_rad)])  # (2, n)


def _r2(of: NDArray[np.intp], axis: Floats) -> float:
    """Adjusted R2 of cluster numbers (n,) on unit vectors (2, n), whose squares sum to n."""
    sizes = np.bincount(of)
    n, k = len(of), int((sizes > 0).sum())
    sums = np.stack([np.bincount(of, coordinate, len(sizes)) for coordinate in axis])  # (2, k)
    total = n - (axis.sum(1) ** 2).sum() / max(n, 1)
    if n <= k or total <= 1e-9 * n:
        return float("nan")
    within = n - ((sums**2).sum(0) / np.maximum(sizes, 1)).sum()
    return float(1 - within / total * (n - 1) / (n - k))


@dataclass(frozen=True, slots=True)
class Following:
    """How far clusters follow orientation.

    `low` and `high` bound the 95 % interval over groups; `null_high` is what 95 % of clusterings
    without regard to orientation stay below; `p` is the one-sided permutation p-value.
    """

    r2: float
    low: float
    high: float
    null_high: float
    p: float
    n_elongated: int
    n_groups: int


def following(
    clusters: Ints,
    angles_rad: Floats,
    elongated: Bools,
    groups: Ints,
    rng: np.random.Generator,
    draws: int = 1000,
) -> Following:
    """Adjusted R2 of the clusters on orientation, with a bootstrap over groups and its null.

    The null permutes orientations within each group (cells that are alone in theirs change places
    with each other), so what a group's cells share by lying in one flask or field stays.
    """
    of = np.unique(clusters[elongated], return_inverse=True)[1]
    axis, group = _doubled(angles_rad[elongated]), groups[elongated]
    r2, n_groups = _r2(of, axis), len(np.unique(group))
    if not np.isfinite(r2):
        return Following(r2, r2, r2, r2, r2, len(of), n_groups)
    low, high = _interval(of, axis, group, r2, rng, draws)
    strata = _strata(group)
    null = np.array([_r2(of, axis[:, _shuffled(strata, rng)]) for _ in range(draws)])
    p = float((1 + (null >= r2 - 1e-12).sum()) / (1 + draws))
    return Following(r2, low, high, float(np.quantile(null, 0.95)), p, len(of), n_groups)


def _interval(
    of: NDArray[np.intp],
    axis: Floats,
    group: Ints,
    r2: float,
    rng: np.random.Generator,
    draws: int,
) -> tuple[float, float]:
    places = [np.flatnonzero(group == g) for g in np.unique(group)]
    found = []
    for _ in range(draws):
        some = np.concatenate([places[i] for i in rng.integers(len(places), size=len(places))])
        found.append(_r2(of[some], axis[:, some]))
    drawn = np.array(found)[np.isfinite(found)]
    if not len(drawn):
        return float("nan"), float("nan")
    bias = drawn.mean() - r2  # cells drawn twice make clusters look tighter than they are
    low, high = np.quantile(drawn - bias, [0.025, 0.975])
    return float(low), float(min(high, 1.0))


def _strata(group: Ints) -> Ints:
    _, of, sizes = np.unique(group, return_inverse=True, return_counts=True)
    strata: Ints = np.where(sizes[of] > 1, of, -1)
    return strata


def _shuffled(strata: Ints, rng: np.random.Generator) -> Ints:
    """A permutation (n,) that keeps every cell in its stratum."""
    places = np.argsort(strata, kind="stable")
    mixed = np.lexsort((rng.random(len(strata)), strata))
    out = np.empty_like(places)
    out[places] = mixed
    return out


def component_r2(scores: Floats, axes: Axes) -> Floats:
    """Share of the variance of each component (n,) that a line in (cos 2a, sin 2a) explains.

    Adjusted for the two slopes, over the elongated cells.
    """
    twice = 2 * axes.angle_rad[axes.elongated]
    design = np.stack([np.ones_like(twice), np.cos(twice), np.sin(twice)], 1)  # (m, 3)
    mine = scores[axes.elongated]  # (m, n)
    fitted = design @ np.linalg.lstsq(design, mine, rcond=None)[0]
    left = ((mine - fitted) ** 2).sum(0) / ((mine - mine.mean(0)) ** 2).sum(0)
    adjusted: Floats = 1 - left * (len(mine) - 1) / (len(mine) - 3)
    return adjusted
