"""How many clusters: every k, with its silhouettes, its elbow and, of a mixture, its BIC."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from parfocal_training.checkpoint import decoded
from parfocal_training.phenotypes.clustering import Method, clustered
from parfocal_training.phenotypes.progress import Watched, unwatched
from parfocal_training.phenotypes.silhouette import distances, silhouettes
from parfocal_training.phenotypes.space import Floats, Ints
from parfocal_training.pixels.clusters import by_size
from parfocal_training.write import write_whole

MOST_CELLS = 3000
"""Cells among which silhouettes are averaged while k is chosen; their cost grows as the square."""


class OfK(msgspec.Struct, frozen=True, kw_only=True):
    """Clusters at one k.

    `inertia` (sum of squares about the centroids), `silhouette` (mean over cells) and a mixture's
    `bic` (Bayesian information criterion) are those of the start with the least cost;
    `mean_silhouette` and `sd_silhouette` are over all starts, as the paper shows them.
    """

    k: int
    inertia: float
    silhouette: float
    mean_silhouette: float
    sd_silhouette: float
    bic: float | None = None


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """Clusters at every k, and the key of what it was made from."""

    key: str
    found: tuple[OfK, ...]


def starts(
    points: Floats,
    k: int,
    method: Method,
    repeats: int,
    seed: int,
    watched: Watched = unwatched,
) -> tuple[Ints, Floats]:
    """Independent starts: clusters (repeats, n), numbered by falling size, and their costs."""
    labels, cost = [], []
    for repeat in watched(range(repeats), "starts"):
        found, lost = clustered(points, k, method, seed + repeat)
        labels.append(by_size(found))
        cost.append(lost)
    return np.stack(labels), np.array(cost)


def sweep(
    points: Floats,
    ks: range,
    method: Method,
    repeats: int,
    seed: int,
    say: Callable[[OfK], None],
    watched: Watched = unwatched,
) -> tuple[OfK, ...]:
    """Every k, told to `say` as it is done."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(points))[:MOST_CELLS])
    apart = distances(points[chosen], points[chosen])
    out = []
    for k in watched(ks, "numbers of clusters"):
        labels, cost = starts(points, k, method, repeats, seed)
        means = np.array([silhouettes(apart, one, one).mean() for one in labels[:, chosen]])
        best = int(cost.argmin())
        out.append(
            OfK(
                k=k,
                inertia=inertia(points, labels[best]),
                silhouette=float(means[best]),
                mean_silhouette=float(means.mean()),
                sd_silhouette=float(means.std(ddof=1)) if repeats > 1 else 0.0,
                bic=float(cost[best]) if method == "mixture" else None,
            )
        )
        say(out[-1])
    return tuple(out)


def inertia(points: Floats, labels: Ints) -> float:
    """Sum of squares of points (n, q) about the centroids of their clusters (n,)."""
    every = [points[labels == j] for j in np.unique(labels)]
    return float(sum(((mine - mine.mean(0)) ** 2).sum() for mine in every))


def kept_sweep(
    path: Path, key: str, make: Callable[[], tuple[OfK, ...]], say: Callable[[OfK], None]
) -> tuple[OfK, ...]:
    """The sweep that a file holds if its key is this one, else made now and written there.

    Every k of a sweep that was kept is told to `say`; `make` tells for itself.
    """
    if path.exists():
        kept = decoded(path.read_bytes(), Sweep, path)
        if kept.key == key:
            for one in kept.found:
                say(one)
            return kept.found
    found = make()
    write_whole(path, msgspec.json.encode(Sweep(key=key, found=found)))
    return found


def best_k(found: tuple[OfK, ...]) -> int:
    """The k of the highest mean silhouette; of a mixture, of the lowest BIC."""
    return max(found, key=lambda one: one.silhouette if one.bic is None else -one.bic).k


def elbow_k(found: tuple[OfK, ...]) -> int:
    """Where inertia over k lies farthest below the line from its first to its last point.

    Both axes are scaled to 0 to 1, which makes the farthest the one where the curve bends.
    """
    k = np.array([one.k for one in found], np.float64)
    inertia = np.array([one.inertia for one in found])
    across = (k - k[0]) / max(k[-1] - k[0], 1)
    down = (inertia - inertia[-1]) / max(inertia[0] - inertia[-1], 1e-12)
    return found[int((1 - across - down).argmax())].k
