"""Whether the same clusters come again: other starts, other networks, other flasks."""

from collections.abc import Sequence
from itertools import combinations

import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.card import Metric
from parfocal_training.phenotypes.choice import starts
from parfocal_training.phenotypes.clustering import Method, clusters_of
from parfocal_training.phenotypes.lca import CellLca
from parfocal_training.phenotypes.progress import Watched, unwatched
from parfocal_training.phenotypes.space import Floats, Ints, Kind, fitted, spread_of
from parfocal_training.pixels.agreement import adjusted_rand

BEST_OF = 10
"""Starts for each other network and each sample of groups; the best is kept."""


class Agreed(msgspec.Struct, frozen=True, kw_only=True):
    """Adjusted Rand index between `n` pairs of clusterings: mean and range.

    `what` was changed between them.
    """

    what: str
    mean: float
    low: float
    high: float
    n: int


def agreed(what: str, values: Sequence[float]) -> Agreed:
    """Mean and range of what was found."""
    return Agreed(
        what=what,
        mean=float(np.mean(values)),
        low=float(np.min(values)),
        high=float(np.max(values)),
        n=len(values),
    )


def between_starts(labels: Ints) -> Agreed | None:
    """Every pair of clusterings (repeats, n) from independent starts; None for a single one."""
    found = [_rand(one, other) for one, other in combinations(labels, 2)]
    return agreed("start of the clustering", found) if found else None


def between_networks(
    lcas: Sequence[CellLca],
    labels: Ints,
    kind: Kind,
    components: int | None,
    method: Method,
    seed: int,
    watched: Watched = unwatched,
) -> Agreed | None:
    """Every pair of networks at the same k, each with its own LCAs and space.

    `labels` (n,) are those of the first. None for a single network.
    """
    k = int(labels.max()) + 1
    every = [labels]
    for lca in watched(lcas[1:], "other networks"):
        points = fitted(lca.mean, kind, components, spread_of(lca.copies)).at(lca.mean)
        every.append(_best(points, k, method, seed))
    found = [_rand(one, other) for one, other in combinations(every, 2)]
    return agreed("network (repeat of the training)", found) if found else None


def between_methods(labels: Ints, medoids: Ints) -> Agreed:
    """Clusters (n,) and those of k-medoids at the same k."""
    return agreed("method (k-medoids instead)", [_rand(labels, medoids)])


def over_groups(
    points: Floats,
    labels: Ints,
    groups: Ints,
    method: Method,
    draws: int,
    kind: str,
    rng: np.random.Generator,
    watched: Watched = unwatched,
) -> Agreed:
    """Clusters of whole groups drawn with replacement, each told of all cells, against `labels`.

    A cell belongs to the nearest cluster, so that cells of groups not drawn count too.
    """
    k = int(labels.max()) + 1
    places = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    found: list[float] = []
    for _ in watched(range(draws), f"draws of {kind}s"):
        some = _drawn(places, k, rng)
        mine = _best(points[some], k, method, int(rng.integers(2**31)))
        found.append(_rand(labels, clusters_of(points[some], mine, method).nearest(points)[0]))
    return agreed(f"{kind}s drawn with replacement", found)


def _drawn(places: list[Ints], k: int, rng: np.random.Generator) -> Ints:
    """Cells of groups drawn with replacement; `places` are the cells of each group.

    Drawn again where there are no more cells than the k clusters.
    """
    while True:
        some = np.concatenate([places[i] for i in rng.integers(len(places), size=len(places))])
        if len(np.unique(some)) > k:
            return some


def as_metric(found: Agreed) -> Metric:
    """For the card: the range takes the place of an interval, and says so."""
    how = f"adjusted Rand index with the clusters of {found.n} samples, {found.what}; low and high "
    return Metric(
        value=found.mean, low=found.low, high=found.high, n=found.n, how=how + "are the range"
    )


def _best(points: Floats, k: int, method: Method, seed: int) -> Ints:
    labels, cost = starts(points, k, method, BEST_OF, seed)
    best: Ints = labels[int(cost.argmin())]
    return best


def _rand(one: Ints, other: NDArray[np.int64]) -> float:
    return adjusted_rand(one.astype(np.intp), other.astype(np.int64))
