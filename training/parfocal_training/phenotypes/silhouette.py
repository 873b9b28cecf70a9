"""Silhouettes from distances: how much nearer a cell is to its cluster than to the next one."""

import numpy as np
from numpy.typing import NDArray

from parfocal_training.phenotypes.space import Floats, Ints

Distances = NDArray[np.float32]


def distances(points: Floats, others: Floats) -> Distances:
    """Euclidean distances of points (n, q) to others (m, q): (n, m), float32."""
    squared = (points**2).sum(1)[:, None] + (others**2).sum(1) - 2 * points @ others.T
    apart: Distances = np.sqrt(np.maximum(squared, 0)).astype(np.float32)
    return apart


def silhouettes(apart: Distances, mine: Ints, labels: Ints) -> Floats:
    """Silhouette (n,) of cells in clusters `mine` (n,), whose distances to m cells are `apart`.

    `labels` (m,) are the clusters of those m, among which every cell itself is. 0 for a cell that
    is alone in its cluster (Rousseeuw 1987).
    """
    k = int(labels.max()) + 1
    sizes = np.bincount(labels, minlength=k)  # (k,)
    sums = (apart @ np.eye(k, dtype=np.float32)[labels]).astype(np.float64)  # (n, k)
    cells = np.arange(len(mine))
    own = sums[cells, mine] / np.maximum(sizes[mine] - 1, 1)
    means = np.where(sizes > 0, sums / np.maximum(sizes, 1), np.inf)
    means[cells, mine] = np.inf
    other = means.min(1)
    wide = np.maximum(np.maximum(own, other), 1e-12)
    out: Floats = np.where((sizes[mine] > 1) & np.isfinite(other), (other - own) / wide, 0.0)
    return out


def all_silhouettes(points: Floats, labels: Ints, rows: int = 512) -> Floats:
    """Silhouette of every cell (n,), a few rows of the distance matrix at a time."""
    parts = [
        silhouettes(distances(points[at : at + rows], points), labels[at : at + rows], labels)
        for at in range(0, len(points), rows)
    ]
    return np.concatenate(parts)
