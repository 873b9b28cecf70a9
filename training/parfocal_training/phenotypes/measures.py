"""Figures of a clustering: spread of copies, phenotypes one by one, k-medoids beside it."""

import numpy as np

from parfocal.card import Phenotypes
from parfocal_training.phenotypes.choice import MOST_CELLS
from parfocal_training.phenotypes.lca import CellLca
from parfocal_training.phenotypes.results import Cluster, Medoids
from parfocal_training.phenotypes.silhouette import all_silhouettes, distances
from parfocal_training.phenotypes.space import Floats, Ints, Space
from parfocal_training.pixels.agreement import adjusted_rand
from parfocal_training.pixels.clusters import by_size, k_medoids


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


def medoid_clusters(points: Floats, k: int, rng: np.random.Generator) -> Ints:
    """k-medoids (n,) of points (n, q).

    The cost grows as the square of the cells, so medoids are sought among at most `MOST_CELLS` of
    them and every other cell goes to the nearest (CLARA, Kaufman and Rousseeuw 1990).
    """
    some = points[np.sort(rng.permutation(len(points))[:MOST_CELLS])]
    labels = k_medoids(some, k)
    middles = []
    for j in range(k):
        mine = some[labels == j]
        middles.append(mine[distances(mine, mine).sum(1).argmin()])
    return by_size(distances(points, np.stack(middles)).argmin(1).astype(np.int64))


def medoids(points: Floats, labels: Ints, found: Ints) -> Medoids:
    """k-medoids `found` (n,) beside the clusters (n,) of a study."""
    return Medoids(
        n=min(len(points), MOST_CELLS),
        silhouette=float(all_silhouettes(points, found).mean()),
        clusters_silhouette=float(all_silhouettes(points, labels).mean()),
        rand=adjusted_rand(labels.astype(np.intp), found),
    )
