"""Principal components of pixels, and clusters in their space: the baseline the paper rejects.

Crops are compared pixel by pixel, so two cells of one shape that lie at different angles are
different; Yao, Rochman and Sun (2019, Fig. S4) saw that the clusters then sort cells by their
orientation in the camera's frame. Here that is a number, with controls.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from parfocal_training.errors import DataError
from parfocal_training.orientation import (
    Axes,
    Following,
    axes_of,
    disc,
    following,
    orientation_r2,
    turned,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Images = NDArray[np.float32]

REPEATS = 50
"""Starts of k-means; the best sum of squares is kept."""


def area_averaged(crops: Images, factor: int) -> Images:
    """Crops (n, s, s) as means of factor x factor pixels: (n, s // factor, s // factor)."""
    if factor == 1:
        return crops
    side = crops.shape[1] // factor
    small = [cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA) for crop in crops]
    return np.stack(small).astype(np.float32)


def pixel_components(crops_float: Images, n: int) -> tuple[Floats, Images, Floats]:
    """The first principal components of pixels.

    Parameters
    ----------
    crops_float : ndarray of shape (m, h, w), float32
    n : int
        Components wanted; at most m - 1 are there.

    Returns
    -------
    scores : ndarray of shape (m, n)
    components : ndarray of shape (n, h, w)
        Of unit length; the pixel of largest weight is positive, so that signs are repeatable.
    explained : ndarray of shape (n,)
        Share of the variance of all pixels, descending.
    """
    m = len(crops_float)
    centred = (crops_float - crops_float.mean(0)).reshape(m, -1)  # (m, h * w)
    total = float(np.einsum("ij,ij->", centred, centred, dtype=np.float64))
    if total <= 0:
        raise DataError(f"the {m} crops are all the same: they have no components")
    gram = (centred @ centred.T).astype(np.float64)  # (m, m): crops are fewer than pixels
    values, vectors = np.linalg.eigh(gram)
    keep = np.argsort(values)[::-1][: min(n, m - 1)]
    values, vectors = np.maximum(values[keep], 0), vectors[:, keep]
    scale = np.sqrt(np.maximum(values, 1e-12 * total))
    components = (vectors / scale).T.astype(np.float32) @ centred  # (n, h * w)
    largest = np.abs(components).argmax(1)
    sign = np.sign(components[np.arange(len(keep)), largest])
    components = (components * sign[:, None]).reshape(-1, *crops_float.shape[1:])
    return vectors * np.sqrt(values) * sign, components.astype(np.float32), values / total


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


@dataclass(frozen=True, slots=True)
class Agreement:
    """Adjusted Rand index of clusters and an attribute: 0 by chance, 1 the same partition."""

    attribute: str
    values: int
    rand: float
    low: float | None
    high: float | None


def adjusted_rand(one: NDArray[np.intp], other: Ints) -> float:
    """Adjusted Rand index of two partitions given as whole numbers (n,) from 0.

    scikit-learn's, without its checks of the input, which take most of the time of a bootstrap.
    """
    n, width = len(one), int(other.max()) + 1
    table = np.bincount(one * width + other, minlength=(int(one.max()) + 1) * width)
    table = table.reshape(-1, width)
    cells, rows, columns = (
        float((counts * (counts - 1)).sum()) for counts in (table, table.sum(1), table.sum(0))
    )
    chance, most = rows * columns / max(n * (n - 1), 1), (rows + columns) / 2
    return 1.0 if most == chance else (cells - chance) / (most - chance)


def agreement(
    labels: Ints, attribute: str, values: tuple[str, ...], groups: Ints, rng: np.random.Generator
) -> Agreement:
    """Adjusted Rand index with its 95 % bootstrap over groups (none where values are groups)."""
    _, of = np.unique(values, return_inverse=True)
    rand = adjusted_rand(of, labels)
    n, n_groups = len(np.unique(of)), len(np.unique(groups))
    if n == n_groups:  # a resampled group would agree with its copies
        return Agreement(attribute, n, rand, None, None)
    places = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    drawn = []
    for _ in range(500):
        some = np.concatenate([places[i] for i in rng.integers(n_groups, size=n_groups)])
        drawn.append(adjusted_rand(of[some], labels[some]))
    bias = np.mean(drawn) - rand  # a flask drawn twice brings more of its own cells together
    low, high = np.quantile(np.array(drawn) - bias, [0.025, 0.975])
    return Agreement(attribute, n, rand, float(low), float(high))


@dataclass(frozen=True, slots=True)
class Control:
    """What clusters of crops that were turned in one way follow.

    `camera` is on the orientation in the camera's frame, `crop` on that in the turned crop; None
    where all cells lie the same way there.
    """

    variant: str
    method: str
    camera: Following
    crop: Following | None


def controls(
    crops: Images,
    axes: Axes,
    groups: Ints,
    k: int,
    prepare: Callable[[Images], Floats],
    rng: np.random.Generator,
) -> list[Control]:
    """The same clustering of crops as imaged, with all long axes level, and turned at random.

    The turned ones and one of those as imaged are cut to the inscribed disc, so that no filled
    corner tells how a crop was turned.
    """
    at = np.nan_to_num(axes.angle_rad)
    turns = rng.uniform(0, 2 * np.pi, len(crops))
    made: list[tuple[str, Images, Floats | None]] = [
        ("as imaged, square", crops, at),
        ("as imaged, disc", disc(crops), at),
        ("long axis level, disc", disc(turned(crops, -at)), None),
        ("turned at random, disc", disc(turned(crops, turns)), at + turns),
    ]
    out = []
    for variant, images, inside in made:
        scores = prepare(images)
        for method, cluster in METHODS.items():
            labels = cluster(scores, k, 0)
            camera = following(labels, at, axes.elongated, groups, rng)
            crop = camera if inside is at else None
            if inside is not None and inside is not at:
                crop = following(labels, inside, axes.elongated, groups, rng)
            out.append(Control(variant, method, camera, crop))
    return out


def long_axes(crops: Images) -> Axes:
    """The long axis of each normalized crop (n, s, s).

    Raises
    ------
    DataError
        Too few elongated cells to say what clusters follow.
    """
    axes = axes_of(crops)
    if axes.elongated.sum() < 10:
        raise DataError(
            f"{int(axes.elongated.sum())} of {len(crops)} cells are elongated and whole in their "
            "crop: 10 are the least from which orientation can be told"
        )
    return axes
