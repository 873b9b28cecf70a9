"""Whether the share of a phenotype rises or falls with a number, with flasks as the units."""

from itertools import permutations
from math import factorial

import msgspec
import numpy as np
from scipy.stats import rankdata  # type: ignore[import-untyped]

from parfocal.intervals import clustered
from parfocal_training.phenotypes.space import Floats, Ints
from parfocal_training.seen import number

FEW_VALUES = 4
"""So many different numbers are compared two by two; more of them, in more flasks, are a trend."""

MOST_ORDERS = 20_000


class Third(msgspec.Struct, frozen=True, kw_only=True):
    """k of n cells of the flasks with values from `first` to `last` are of a phenotype.

    The 95 % interval takes flasks as clusters.
    """

    first: float
    last: float
    flasks: int
    k: int
    n: int
    fraction: float
    low: float
    high: float


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """Rank correlation of an attribute and the share of a phenotype, one pair of values a flask.

    `rho` is Spearman's. `p` is from orders of the flasks, all of them or 20,000; `p_holm` is
    corrected over all tests of the attribute. `thirds` are the flasks by rising value, in three
    parts as far as equal values allow.
    """

    attribute: str
    cells: str
    phenotype: int
    flasks: int
    rho: float
    p: float
    p_holm: float
    thirds: tuple[Third, ...]


def many_numbers(values: tuple[str, ...]) -> bool:
    """Whether all values are numbers, and too many different ones to compare two by two."""
    return len(set(values)) > FEW_VALUES and all(number(value) is not None for value in values)


def of_flasks(values: tuple[str, ...], flasks: Ints) -> Floats:
    """The value (f,) of each flask: the mean over its cells, n values that are numbers."""
    cells = np.array([float(value) for value in values])
    sums: Floats = np.bincount(flasks, cells) / np.bincount(flasks)
    return sums


def thirds(values: Floats) -> Ints:
    """Which third (f,) of the flasks each is in by its value (f,): 0, 1, ... without a gap."""
    edges = np.quantile(values, [1 / 3, 2 / 3])
    part = (values[:, None] > edges).sum(1)
    return np.unique(part, return_inverse=True)[1].astype(np.int64)


def trends(attribute: str, line: str, values: Floats, hits: Ints, cells: Ints) -> list[Trend]:
    """Each of k phenotypes: hits (f, k) among the cells (f,) of flasks with values (f,)."""
    part = thirds(values)
    out = []
    for j, mine in enumerate(hits.T):
        rho, p = spearman_test(values, mine / cells)
        out.append(
            Trend(
                attribute=attribute,
                cells=line,
                phenotype=j + 1,
                flasks=len(values),
                rho=rho,
                p=p,
                p_holm=p,
                thirds=tuple(
                    _third(values[part == i], mine[part == i], cells[part == i])
                    for i in range(int(part.max()) + 1)
                ),
            )
        )
    return out


def _third(values: Floats, hits: Ints, cells: Ints) -> Third:
    low, high = clustered([(int(k), int(n)) for k, n in zip(hits, cells, strict=True)])
    return Third(
        first=float(values.min()),
        last=float(values.max()),
        flasks=len(values),
        k=int(hits.sum()),
        n=int(cells.sum()),
        fraction=float(hits.sum() / cells.sum()),
        low=low,
        high=high,
    )


def spearman_test(one: Floats, other: Floats) -> tuple[float, float]:
    """Spearman's correlation of two features (f,), and its p-value over orders of one of them.

    Exact where there are at most 20,000 orders (7 flasks). (0, 1) where one does not vary.
    """
    ranks = [rankdata(values) for values in (one, other)]
    away = [r - r.mean() for r in ranks]
    spread = float(np.sqrt((away[0] ** 2).sum() * (away[1] ** 2).sum()))
    if spread == 0:
        return 0.0, 1.0
    f = len(one)
    if factorial(f) <= MOST_ORDERS:
        orders, extra = np.array(list(permutations(range(f)))), 0
    else:
        orders = np.random.default_rng(0).random((MOST_ORDERS, f)).argsort(1)
        extra = 1  # the order that was seen is one of them
    seen = float(away[0] @ away[1])
    as_far = int((np.abs(away[1][orders] @ away[0]) >= abs(seen) - 1e-9).sum())
    return seen / spread, (as_far + extra) / (len(orders) + extra)
