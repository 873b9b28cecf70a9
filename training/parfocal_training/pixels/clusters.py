"""Clusters in the space of components, by k-means and by k-medoids."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from parfocal_training.pixels.following import orientation_r2
from parfocal_training.pixels.orientation import Axes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REPEATS = 50
"""Starts of k-means; the best sum of squares is kept."""


def k_means(scores: Floats, k: int, seed: int) -> Ints:
    """Cluster of each row (n,): the best of 50 starts, clusters numbered by falling size."""
    found = KMeans(k, n_init=REPEATS, random_state=seed).fit(scores).labels_
    return by_size(found.astype(np.int64))


def k_medoids(scores: Floats, k: int, seed: int = 0) -> Ints:
    """Cluster of each row (n,) by partitioning around medoids, numbered by falling size.

    Build and swap of Kaufman and Rousseeuw (1990) on Euclidean distances, without random starts:
    `seed` is not used. Written out because scikit-learn has no k-medoids.
    """
    square = (scores**2).sum(1)
    apart = np.sqrt(np.maximum(square[:, None] + square - 2 * scores @ scores.T, 0))  # (n, n)
    medoids = _built(apart, k)
    cost = apart[:, medoids].min(1).sum()
    while True:
        best, place, candidate = _best_swap(apart, medoids)
        if best >= cost * (1 - 1e-9):
            return by_size(apart[:, medoids].argmin(1).astype(np.int64))
        medoids[place], cost = candidate, best


def _built(apart: Floats, k: int) -> list[int]:
    nearest = np.full(len(apart), np.inf)
    medoids: list[int] = []
    for _ in range(k):
        cost = np.minimum(apart, nearest[:, None]).sum(0)  # (n,) with one more medoid
        cost[medoids] = np.inf
        medoids.append(int(cost.argmin()))
        nearest = np.minimum(nearest, apart[:, medoids[-1]])
    return medoids


def _best_swap(apart: Floats, medoids: list[int]) -> tuple[float, int, int]:
    best = (np.inf, 0, 0)
    for place in range(len(medoids)):
        others = medoids[:place] + medoids[place + 1 :]
        nearest = apart[:, others].min(1, initial=np.inf)
        cost = np.minimum(apart, nearest[:, None]).sum(0)  # (n,) for each candidate
        cost[others] = np.inf
        candidate = int(cost.argmin())
        best = min(best, (float(cost[candidate]), place, candidate))
    return best


def by_size(labels: Ints) -> Ints:
    """The same clusters, 0 being the largest."""
    names, of, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(names), np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(names))
    return rank[of]


METHODS: dict[str, Callable[[Floats, int, int], Ints]] = {
    "k-means": k_means,
    "k-medoids": k_medoids,
}


@dataclass(frozen=True, slots=True, eq=False)
class Clustering:
    """One clustering of n cells: `labels` (n,), its mean silhouette and its orientation R2."""

    method: str
    k: int
    labels: Ints
    silhouette: float
    orientation_r2: float


def clusterings(scores: Floats, axes: Axes, ks: range, seed: int) -> list[Clustering]:
    """Both methods at every number of clusters."""
    out = []
    for method, cluster in METHODS.items():
        for k in ks:
            labels = cluster(scores, k, seed)
            mean = float(silhouette_score(scores, labels))
            r2 = orientation_r2(labels, axes.angle_rad, axes.elongated)
            out.append(Clustering(method, k, labels, mean, r2))
    return out
