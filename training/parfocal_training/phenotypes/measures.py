"""Figures of a clustering: spread of copies, phenotypes one by one, k-medoids beside it."""

import numpy as np

from parfocal.card import Phenotypes
from parfocal_training.phenotypes.choice import MOST_CELLS
from parfocal_training.phenotypes.lca import CellLca
from parfocal_training.phenotypes.results import Cluster, Medoids
from parfocal_training.phenotypes.silhouette import all_silhouettes
from parfocal_training.phenotypes.space import Floats, Ints, Space
from parfocal_training.pixels.agreement import adjusted_rand
from parfocal_training.pixels.clusters import k_medoids


def spread(
    lca: CellLca, space: Space, points: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Distances of copies to their own cell's mean, and between the means of pairs of cells."""
    places = space.at(lca.copies)  # (m, c, q)
    own = np.linalg.norm(places - points[lca.spread][:, None], axis=2).ravel()
    one, other = rng.integers(len(points), size=(2, max(len(own), 1000)))
    differ = one != other
    between = np.linalg.norm(points[one[differ]] - points[other[differ]], axis=1)
    return own, between


def clusters(
    labels: Ints, silhouettes: Floats, groups: Ints, known: Phenotypes
) -> tuple[Cluster, ...]:
    """Each phenotype, by falling size."""
    return tuple(
        Cluster(
            number=j + 1,
            cells=int((labels == j).sum()),
            groups=len(np.unique(groups[labels == j])),
            silhouette=float(silhouettes[labels == j].mean()),
            limit=limit,
        )
        for j, limit in enumerate(known.limits)
    )


def medoids(points: Floats, labels: Ints, rng: np.random.Generator) -> Medoids:
    """k-medoids, whose cost grows as the square of the cells, on at most 3,000 of them."""
    some = np.sort(rng.permutation(len(points))[:MOST_CELLS])
    k = len(np.unique(labels))
    found, mine = k_medoids(points[some], k), labels[some]
    return Medoids(
        n=len(some),
        silhouette=float(all_silhouettes(points[some], found).mean()),
        clusters_silhouette=float(all_silhouettes(points[some], mine).mean()),
        rand=adjusted_rand(mine.astype(np.intp), found),
    )
