"""How far clusters agree with what is known of the cells."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parfocal_training.pixels.clusters import Ints


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
