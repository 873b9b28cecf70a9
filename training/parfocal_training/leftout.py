"""Answers to cells of groups left out of training, and intervals that take groups as the units."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parfocal.card import Metric
from parfocal.intervals import wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

REPEATS = 2000


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """Answers to n cells by networks that had not seen their groups.

    `logits` (n, classes) float64, `labels` (n,), `folds` (n,), n `groups`, `distances` (n,): LCA
    distance to the nearest class of the network that answered. `images`: the frame of each cell, n
    names, or empty where a cell is all that is known of its frame. `tested` says how the answers
    were got where that was not by cross-validation. `among_others` (n,): the answered classes once
    each cell lies in the surroundings of another class; None where that was not tried.
    """

    logits: Floats
    labels: Ints
    folds: Ints
    groups: tuple[str, ...]
    distances: Floats
    images: tuple[str, ...] = ()
    tested: str = ""
    among_others: Ints | None = None


def numbered(names: tuple[str, ...]) -> tuple[tuple[str, ...], Ints]:
    """The different names in order, and the place of each of n names among them: (n,)."""
    different, number = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)
    return tuple(map(str, different)), number.astype(np.int64)


def share(hits: Floats, totals: Floats, rng: np.random.Generator) -> Metric | None:
    """Sum of hits over sum of totals of (g,) groups with its 95 % interval; None over nothing.

    Whole groups are drawn with replacement. Where no group, or every one, has hits only, drawing
    shows no spread: then it is Wilson's interval of as many trials as there are groups.
    """
    total = float(totals.sum())
    if total == 0:
        return None
    value, used = float(hits.sum()) / total, int((totals > 0).sum())
    if value in (0, 1):
        low, high = wilson(value * used, used)
    else:
        drawn = rng.multinomial(len(totals), np.full(len(totals), 1 / len(totals)), REPEATS)
        over = drawn @ totals  # (repeats,)
        some = over > 0
        ends = np.quantile((drawn @ hits)[some] / over[some], [0.025, 0.975])
        low, high = float(ends[0]), float(ends[1])
    return Metric(value=value, low=min(low, value), high=max(high, value), n=round(total))
