"""The phenotype model: centroids and limits that assign a cell by its single-view LCA."""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from parfocal.calibrate import from_base64, to_base64
from parfocal.card import Metric, Phenotypes
from parfocal.phenotypes import UNLIKE_ANY, Phenotyper
from parfocal_training.leftout import share
from parfocal_training.phenotypes.lca import CellLca
from parfocal_training.phenotypes.silhouette import distances
from parfocal_training.phenotypes.space import Floats, Ints, Kind, Space, fitted, spread_of
from parfocal_training.phenotypes.stability import Agreed, as_metric
from parfocal_training.pixels.agreement import adjusted_rand

BEYOND = 0.02
"""Share of cells from left-out groups that should lie beyond every limit."""

LEAST_CELLS = 10
"""Left-out cells from which a phenotype's own median distance is taken; else that of all."""


class SingleView(msgspec.Struct, frozen=True, kw_only=True):
    """How well the LCA of the crop as imaged finds the cluster that the copies' mean LCA found.

    `accuracy`: nearest centroid over all cells; `left_out`: of cells from groups that neither space
    nor centroids had seen. `rand` is the adjusted Rand index over all cells.
    """

    accuracy: float
    left_out: Metric
    rand: float


@dataclass(frozen=True, slots=True, eq=False)
class LeftOutCells:
    """n cells as models of the other groups see them, from single-view LCAs.

    `nearest` (n,): the cluster, numbered as in the whole set; `apart` (n,): distance to it.
    """

    nearest: Ints
    apart: Floats
    folds: Ints


def folds_of(groups: Ints, folds: int, rng: np.random.Generator) -> Ints:
    """A fold (n,) for each cell of groups (n,): whole groups, in folds of like size."""
    names, sizes = np.unique(groups, return_counts=True)
    order = rng.permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    load, fold_of = np.zeros(min(folds, len(names))), np.zeros(len(names), np.int64)
    for place in order:
        fold_of[place] = load.argmin()
        load[fold_of[place]] += sizes[place]
    return fold_of[np.searchsorted(names, groups)]


def left_out_cells(
    lca: CellLca, labels: Ints, kind: Kind, components: int | None, folds: Ints
) -> LeftOutCells:
    """Every cell as a model made of the other folds sees it.

    Space and k-means are made anew from the others; k-means begins at their clusters, so that
    clusters keep their numbers.
    """
    nearest, apart = np.zeros(len(labels), np.int64), np.zeros(len(labels))
    for fold in np.unique(folds):
        others = folds != fold
        space = fitted(lca.mean[others], kind, components, spread_of(lca.copies))
        points, before = space.at(lca.mean[others]), labels[others]
        there = np.unique(before)
        begin = np.stack([points[before == j].mean(0) for j in there])
        found = KMeans(len(there), init=begin, n_init=1).fit(points).labels_.astype(np.int64)
        single = space.at(lca.single[others])
        centroids = np.stack([single[found == j].mean(0) for j in range(len(there))])
        away = distances(space.at(lca.single[~others]), centroids)
        nearest[~others], apart[~others] = there[away.argmin(1)], away.min(1)
    return LeftOutCells(nearest, apart, folds)


def limits_of(nearest: Ints, apart: Floats, k: int) -> Floats:
    """Limit (k,) of each cluster: its median distance times one factor for all.

    The factor leaves `BEYOND` of the cells outside. A quantile of each cluster's own would hang on
    the one or two farthest cells of a small cluster.
    """
    medians = np.full(k, np.median(apart))
    for j in range(k):
        if (nearest == j).sum() >= LEAST_CELLS:
            medians[j] = np.median(apart[nearest == j])
    n = len(apart)
    level = min(1.0, (1 - BEYOND) * (n + 1) / n)  # as for one more cell (conformal prediction)
    limits: Floats = medians * np.quantile(apart / medians[nearest], level, method="higher")
    return limits


def unlike_any(
    cells: LeftOutCells, groups: Ints, k: int, kind: str, rng: np.random.Generator
) -> Metric:
    """Share of left-out cells beyond every limit, with limits from the OTHER folds."""
    beyond = np.zeros(len(groups))
    for fold in np.unique(cells.folds):
        here = cells.folds == fold
        limits = limits_of(cells.nearest[~here], cells.apart[~here], k)
        beyond[here] = cells.apart[here] > limits[cells.nearest[here]]
    how = (
        f"cells of left-out {kind}s beyond limits that the other {kind}s set for "
        f"{BEYOND:.0%}, {len(np.unique(cells.folds))} folds; bootstrap over {kind}s"
    )
    return _share(beyond, groups, how, rng)


def single_view(
    lca: CellLca,
    labels: Ints,
    space: Space,
    cells: LeftOutCells,
    groups: Ints,
    rng: np.random.Generator,
) -> SingleView:
    """Agreement of single-view assignment with the clusters (n,) of mean LCAs."""
    near = distances(space.at(lca.single), centroids_of(lca, labels, space)).argmin(1)
    right = (cells.nearest == labels).astype(np.float64)
    return SingleView(
        accuracy=float((near == labels).mean()),
        left_out=_share(right, groups, "nearest centroid, groups left out", rng),
        rand=adjusted_rand(labels.astype(np.intp), near.astype(np.int64)),
    )


def centroids_of(lca: CellLca, labels: Ints, space: Space) -> Floats:
    """Mean place (k, q) of the single-view LCAs of each cluster's cells."""
    points = space.at(lca.single)
    return np.stack([points[labels == j].mean(0) for j in range(int(labels.max()) + 1)])


def phenotypes(
    space: Space,
    centroids: Floats,
    cells: LeftOutCells,
    labels: Ints,
    unlike: Metric,
    stability: Agreed,
    group_kind: str,
    how: str,
) -> Phenotypes:
    """The part of a model card that assigns phenotypes."""
    k = len(centroids)
    return Phenotypes(
        names=tuple(f"phenotype {j + 1}" for j in range(k)),
        mean=to_base64(space.mean.astype("<f4")),
        axes=to_base64(space.axes.astype("<f4")),
        centroids=to_base64(centroids.astype("<f4")),
        d=len(space.mean),
        limits=tuple(float(limit) for limit in limits_of(cells.nearest, cells.apart, k)),
        unlike_any=unlike,
        cells=tuple(int(size) for size in np.bincount(labels, minlength=k)),
        stability=as_metric(stability),
        group_kind=group_kind,
        how=how,
    )


def nearest(lca: NDArray[np.floating], known: Phenotypes) -> tuple[Ints, Floats]:
    """Nearest phenotype (n,) of LCAs (n, d), and the distance (n,) to it."""
    mean = from_base64(known.mean).astype(np.float64)
    axes = from_base64(known.axes).reshape(known.d, -1).astype(np.float64)
    centroids = from_base64(known.centroids).reshape(len(known.names), -1).astype(np.float64)
    points: Floats = (lca.astype(np.float64) - mean) @ axes
    apart = np.linalg.norm(points[:, None] - centroids, axis=2)  # (n, k)
    return apart.argmin(1).astype(np.int64), apart.min(1)


def assigned(lca: NDArray[np.floating], known: Phenotypes) -> Ints:
    """Phenotype (n,) of LCAs (n, d) of crops as imaged; -1 for a cell that is unlike any.

    The daemon's own code says so.
    """
    number = {name: j for j, name in enumerate(known.names)} | {UNLIKE_ANY: -1}
    names = Phenotyper(known, known.d)(lca.astype(np.float32))
    return np.array([number[name] for name in names], np.int64)


def _share(hits: Floats, groups: Ints, how: str, rng: np.random.Generator) -> Metric:
    found = share(
        np.bincount(groups, hits).astype(np.float64), np.bincount(groups).astype(np.float64), rng
    )
    if found is None:
        raise ValueError("a share needs cells")
    return msgspec.structs.replace(found, how=how)
