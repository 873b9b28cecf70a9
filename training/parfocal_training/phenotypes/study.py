"""A whole phenotyping: from LCAs to clusters, their model, and everything measured of them."""

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from parfocal import __version__
from parfocal.card import Phenotypes
from parfocal.phenotypes import Clusters
from parfocal_training.cropset import CropSet
from parfocal_training.leftout import numbered
from parfocal_training.networks import TrainedNetwork
from parfocal_training.phenotypes import measures, origins, stability
from parfocal_training.phenotypes.choice import OfK, best_k, elbow_k, kept_sweep, starts, sweep
from parfocal_training.phenotypes.clustering import CALLED, clusters_of
from parfocal_training.phenotypes.comparisons import comparisons
from parfocal_training.phenotypes.fractions import shares, too_many
from parfocal_training.phenotypes.lca import CellLca, Source
from parfocal_training.phenotypes.model import (
    LeftOutCells,
    folds_of,
    left_out_cells,
    phenotypes,
    single_view,
    unlike_any,
)
from parfocal_training.phenotypes.progress import Watched
from parfocal_training.phenotypes.results import Results, Spread
from parfocal_training.phenotypes.silhouette import all_silhouettes
from parfocal_training.phenotypes.space import Floats, Ints, Space, fitted, spread_of
from parfocal_training.seen import seen

FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """What a study is made of: crops, networks, and the LCAs that each network gives them.

    `profile` is the picture of the networks' training, a PNG, if there is one.
    """

    crop_set: CropSet
    networks: Sequence[TrainedNetwork]
    lcas: Sequence[CellLca]
    made_from: Source
    profile: bytes | None = None

    @property
    def groups(self) -> Ints:
        """Number of each cell's group: (n,)."""
        return numbered(self.crop_set.groups)[1]

    @property
    def kind(self) -> str:
        """What a group is: flask, field or image."""
        return self.crop_set.index.group_kind

    @property
    def simulated(self) -> bool:
        """Whether all cells are known to be simulated."""
        return bool(seen(self.crop_set).simulated)


@dataclass(frozen=True, slots=True, eq=False)
class Clustered:
    """n cells in the space (n, q) of their mean LCA, and their clusters.

    `every` (repeats, n) holds the clusters of each start, `labels` (n,) those of the best.
    `single` (n, q) are the places of the crops as imaged, and `known` the clusters among them.
    """

    space: Space
    points: Floats
    found: tuple[OfK, ...]
    every: Ints
    labels: Ints
    single: Floats
    known: Clusters


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """What clusters are compared with: other clusters (n,) by name, pixels and their long axes."""

    others: dict[str, Ints]
    pixels: origins.Pixels


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """All that files and figures show of n cells; `spread` are distances of copies and cells.

    `others` are clusters (n,) to compare with: k-medoids of LCA, and k-means of pixels.
    """

    lca: CellLca
    points: Floats
    labels: Ints
    others: dict[str, Ints]
    silhouettes: Floats
    spread: tuple[Floats, Floats]
    known: Phenotypes
    results: Results


def study(
    cells: Cells, options: argparse.Namespace, say: Callable[[OfK], None], watched: Watched
) -> Study:
    """All of it; `say` is told every k as its clusters are found, `watched` sees each stage."""
    rng = np.random.default_rng(options.seed)
    lca, made = cells.lcas[0], _clustered(cells, options, say, watched)
    steady = _steady(cells, made, options, rng, watched)
    left_out = left_out_cells(
        lca,
        made.labels,
        options.space,
        options.components,
        options.method,
        folds_of(cells.groups, FOLDS, rng),
        watched,
    )
    known = _phenotypes(cells, made, left_out, steady[-1], options, rng)
    silhouettes = all_silhouettes(made.points, made.labels)
    apart = measures.spread(lca, made.space, made.points, rng)
    beside = _beside(cells, made, options, rng, watched)
    results = _results(
        cells, made, left_out, steady, known, silhouettes, apart, beside, options, rng, watched
    )
    return Study(lca, made.points, made.labels, beside.others, silhouettes, apart, known, results)


def _clustered(
    cells: Cells, options: argparse.Namespace, say: Callable[[OfK], None], watched: Watched
) -> Clustered:
    lca = cells.lcas[0]
    space = fitted(lca.mean, options.space, options.components, spread_of(lca.copies))
    points, single = space.at(lca.mean), space.at(lca.single)
    found = _found(cells, points, options, say, watched)
    k = options.clusters or best_k(found)
    every, cost = starts(points, k, options.method, options.repeats, options.seed, watched)
    labels = every[int(cost.argmin())]
    known = clusters_of(single, labels, options.method)
    return Clustered(space, points, found, every, labels, single, known)


def _found(
    cells: Cells,
    points: Floats,
    options: argparse.Namespace,
    say: Callable[[OfK], None],
    watched: Watched,
) -> tuple[OfK, ...]:
    """Clusters at every k, kept on disk for a next run with another choice."""
    ks = range(2, min(options.max_clusters, len(points) // 5) + 1)
    asked = (options.method, options.space, options.components, options.starts, options.seed)
    text = msgspec.json.encode((cells.made_from, asked, ks[-1], __version__))
    return kept_sweep(
        options.out / "lca" / "sweep.json",
        hashlib.sha256(text).hexdigest(),
        lambda: sweep(points, ks, options.method, options.starts, options.seed, say, watched),
        say,
    )


def _steady(
    cells: Cells,
    made: Clustered,
    options: argparse.Namespace,
    rng: np.random.Generator,
    watched: Watched,
) -> list[stability.Agreed]:
    """Stability, the draws of groups last."""
    found = (
        stability.between_starts(made.every),
        stability.between_networks(
            cells.lcas,
            made.labels,
            options.space,
            options.components,
            options.method,
            options.seed,
            watched,
        ),
        stability.over_groups(
            made.points,
            made.labels,
            cells.groups,
            options.method,
            options.resamples,
            cells.kind,
            rng,
            watched,
        ),
    )
    return [one for one in found if one is not None]


def _phenotypes(
    cells: Cells,
    made: Clustered,
    left_out: LeftOutCells,
    steady: stability.Agreed,
    options: argparse.Namespace,
    rng: np.random.Generator,
) -> Phenotypes:
    k, simulated = int(made.labels.max()) + 1, "simulated " if cells.simulated else ""
    return phenotypes(
        space=made.space,
        clusters=made.known,
        cells=left_out,
        labels=made.labels,
        unlike=unlike_any(left_out, cells.groups, k, cells.kind, rng),
        stability=steady,
        group_kind=cells.kind,
        how=f"{CALLED[options.method]}, k = {k}, on the mean LCA of {options.copies} augmented "
        f"copies of each of {len(made.labels)} {simulated}cells ({options.space}); clusters and "
        f"limits from the LCA of the crop as imaged, limits on left-out {cells.kind}s",
    )


def _results(
    cells: Cells,
    made: Clustered,
    left_out: LeftOutCells,
    steady: list[stability.Agreed],
    known: Phenotypes,
    silhouettes: Floats,
    apart: tuple[Floats, Floats],
    beside: Beside,
    options: argparse.Namespace,
    rng: np.random.Generator,
    watched: Watched,
) -> Results:
    crop_set, lca, labels = cells.crop_set, cells.lcas[0], made.labels
    every = {origins.LCA: labels} | beside.others
    medoids = beside.others[origins.MEDOIDS]
    tested = comparisons(crop_set, labels)
    return Results(
        data=crop_set.index.data,
        simulated=cells.simulated,
        n_cells=len(crop_set),
        n_groups=len(np.unique(cells.groups)),
        group_kind=cells.kind,
        network=cells.networks[0].name,
        networks=len(cells.networks),
        other_crops=not cells.networks[0].knows(crop_set),
        copies=options.copies,
        lca_values=lca.mean.shape[1],
        method=options.method,
        space=options.space,
        components=made.points.shape[1],
        explained=made.space.explained,
        seed=options.seed,
        starts=options.starts,
        repeats=options.repeats,
        sweep=made.found,
        k=len(known.names),
        k_sought=options.clusters or best_k(made.found),
        k_asked=options.clusters is not None,
        best_k=best_k(made.found),
        elbow_k=elbow_k(made.found),
        silhouette=float(silhouettes.mean()),
        clusters=measures.clusters(labels, silhouettes, cells.groups, known),
        medoids=measures.medoids(made.points, labels, medoids),
        stability=(*steady, stability.between_methods(labels, medoids)),
        spread=Spread(
            copies=float(np.median(apart[0])),
            cells=float(np.median(apart[1])),
            n_cells=len(lca.spread),
        ),
        single_view=single_view(made.single, labels, made.known, left_out, cells.groups, rng),
        unlike_any=known.unlike_any,
        orientation=origins.oriented(every, beside.pixels.axes, cells.groups, rng, watched),
        attributes=origins.attributes(every, crop_set, rng, watched),
        shares=shares(crop_set, labels),
        differences=tested.differences,
        trends=tested.trends,
        untested=" ".join((*tested.untested, *too_many(crop_set))),
    )


def _beside(
    cells: Cells,
    made: Clustered,
    options: argparse.Namespace,
    rng: np.random.Generator,
    watched: Watched,
) -> Beside:
    reference = cells.networks[0].pixels.reference_distribution()
    pixels = origins.pixels_of(cells.crop_set, reference, options.shrink, watched)
    k = int(made.labels.max()) + 1
    find: dict[str, Callable[[], Ints]] = {
        origins.MEDOIDS: lambda: measures.medoid_clusters(made.points, k, rng),
        origins.PIXELS: lambda: origins.pixel_clusters(pixels, k, options.seed),
    }
    others = {
        name: found() for name, found in watched(tuple(find.items()), "clusters to compare with")
    }
    return Beside(others, pixels)
