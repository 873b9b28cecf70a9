"""The phenotype model: clusters and limits that assign a cell by its single-view LCA."""

from dataclasses import dataclass

import msgspec
import numpy as np

from parfocal.calibrate import to_base64
from parfocal.card import Metric, Phenotypes
from parfocal.phenotypes import Clusters
from parfocal_training.leftout import share
from parfocal_training.phenotypes.clustering import Method, clustered_from, clusters_of
from parfocal_training.phenotypes.lca import CellLca
from parfocal_training.phenotypes.progress import Watched, unwatched
from parfocal_training.phenotypes.space import Floats, Ints, Kind, Space, fitted, spread_of
from parfocal_training.phenotypes.stability import Agreed, as_metric
from parfocal_training.pixels.agreement import adjusted_rand

BEYOND = 0.02
"""Share of cells from left-out groups that should lie beyond every limit."""

LEAST_CELLS = 10
"""Left-out cells from which a phenotype's own median distance is taken; else that of all."""


class SingleView(msgspec.Struct, frozen=True, kw_only=True):
    """How well the LCA of the crop as imaged finds the cluster that the copies' mean LCA found.

    `accuracy`: nearest cluster over all cells; `left_out`: of cells from groups that neither space
    nor clusters had seen, though k was chosen on all. `rand` is the adjusted Rand index
    over all cells.
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
    lca: CellLca,
    labels: Ints,
    kind: Kind,
    components: int | None,
    method: Method,
    folds: Ints,
    watched: Watched = unwatched,
) -> LeftOutCells:
    """Every cell as a model made of the other folds sees it.

    Space and clusters are made anew from the others, beginning at their clusters, so that these
    keep their numbers. What comes from all cells is how many clusters there are, and that start.
    """
    nearest, apart = np.zeros(len(labels), np.int64), np.zeros(len(labels))
    for fold in watched(np.unique(folds).tolist(), "left-out folds"):
        others = folds != fold
        within = spread_of(lca.copies[others[lca.spread]])
        space = fitted(lca.mean[others], kind, components, within)
        found = clustered_from(space.at(lca.mean[others]), labels[others], method)
        there, of = np.unique(found, return_inverse=True)
        known = clusters_of(space.at(lca.single[others]), of, method)
        near, away = known.nearest(space.at(lca.single[~others]))
        nearest[~others], apart[~others] = there[near], away
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
    points: Floats,
    labels: Ints,
    clusters: Clusters,
    cells: LeftOutCells,
    groups: Ints,
    rng: np.random.Generator,
) -> SingleView:
    """Agreement of single-view assignment of points (n, q) with the clusters (n,) of mean LCAs."""
    near, _ = clusters.nearest(points)
    right = (cells.nearest == labels).astype(np.float64)
    return SingleView(
        accuracy=float((near == labels).mean()),
        left_out=_share(right, groups, "nearest cluster, groups left out", rng),
        rand=adjusted_rand(labels.astype(np.intp), near),
    )


def phenotypes(
    space: Space,
    clusters: Clusters,
    cells: LeftOutCells,
    labels: Ints,
    unlike: Metric,
    stability: Agreed,
    group_kind: str,
    how: str,
) -> Phenotypes:
    """The part of a model card that assigns phenotypes."""
    k, weights = len(clusters.centroids), clusters.weights
    return Phenotypes(
        names=tuple(f"phenotype {j + 1}" for j in range(k)),
        mean=to_base64(space.mean.astype("<f4")),
        axes=to_base64(space.axes.astype("<f4")),
        centroids=to_base64(clusters.centroids.astype("<f4")),
        precisions=(
            None if clusters.precisions is None else to_base64(clusters.precisions.astype("<f4"))
        ),
        weights=None if weights is None else tuple(map(float, weights)),
        d=len(space.mean),
        limits=tuple(float(limit) for limit in limits_of(cells.nearest, cells.apart, k)),
        unlike_any=unlike,
        cells=tuple(int(size) for size in np.bincount(labels, minlength=k)),
        stability=as_metric(stability),
        group_kind=group_kind,
        how=how,
    )


def _share(hits: Floats, groups: Ints, how: str, rng: np.random.Generator) -> Metric:
    found = share(
        np.bincount(groups, hits).astype(np.float64), np.bincount(groups).astype(np.float64), rng
    )
    if found is None:
        raise ValueError("a share needs cells")
    return msgspec.structs.replace(found, how=how)
