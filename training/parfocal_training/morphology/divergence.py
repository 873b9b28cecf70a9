"""How far two clusters differ in each feature: Jensen-Shannon distances, and those by chance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parfocal_training.morphology.patch import Bools, Floats, Ints

MOST_BINS, CELLS_A_BIN = 20, 5
SHUFFLES = 500

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Chance:
    """What distances come about without any difference.

    `high` (f,): the 95 % quantile of each feature's distance over shuffles. `p` (f,): share of
    shuffles in which the largest distance of all features reaches the feature's own, so corrected
    for looking at f of them. `shuffled`: what was shuffled.
    """

    high: Floats
    p: Floats
    shuffled: str


def bins_for(label: Bools) -> int:
    """How many bins of equal mass two clusters can fill: 4 to 20."""
    smaller = min(int(label.sum()), int((~label).sum()))
    return int(np.clip(smaller // CELLS_A_BIN, 4, MOST_BINS))


def binned(values: Floats, bins: int) -> Codes:
    """The bin of each value (n, f) among bins of equal mass of its feature; -1 where it is NaN.

    Edges are quantiles of both clusters together, so a monotone change of a feature changes
    nothing. Equal values share a bin: a count with three values has three bins.
    """
    out = np.empty(values.shape, np.int64)
    for i, column in enumerate(values.T):
        there = np.isfinite(column)
        edges = np.unique(np.quantile(column[there], np.arange(1, bins) / bins))
        out[:, i] = np.where(there, np.searchsorted(edges, column, side="left"), -1)
    return out


def distances(codes: Codes, label: Bools) -> Floats:
    """Jensen-Shannon distance, base 2, in [0, 1], of the two clusters in each feature: (f,)."""
    found: Floats = _distances(codes, label[None].astype(np.float32))[0]
    return found


def _distances(codes: Codes, labels: NDArray[np.float32]) -> Floats:
    """Distances (r, f) for r labellings (r, n) of 0 and 1."""
    bins, wide = int(codes.max()) + 1, 64
    out = np.empty((len(labels), codes.shape[1]))
    for at in range(0, codes.shape[1], wide):
        some = codes[:, at : at + wide]
        hot = (some[:, :, None] == np.arange(bins)).astype(np.float32)  # (n, w, bins)
        flat = hot.reshape(len(hot), -1)
        first = (labels @ flat).reshape(len(labels), -1, bins).astype(np.float64)
        second = hot.sum(0, dtype=np.float64) - first
        out[:, at : at + wide] = jensen_shannon(first, second)
    return out


def jensen_shannon(first: Floats, second: Floats) -> Floats:
    """Square root of the Jensen-Shannon divergence of counts (..., bins), in bits: 0 to 1."""
    p, q = (c / np.maximum(c.sum(-1, keepdims=True), 1) for c in (first, second))
    middle = (p + q) / 2

    def bits(part: Floats) -> Floats:
        ratio = np.divide(part, middle, out=np.ones_like(part), where=part > 0)
        sums: Floats = (part * np.log2(ratio)).sum(-1)
        return sums

    return np.sqrt(np.maximum((bits(p) + bits(q)) / 2, 0))


def by_chance(codes: Codes, label: Bools, groups: Ints, rng: np.random.Generator) -> Chance:
    """Distances after shuffling which cluster is which, with groups kept together."""
    whole = all(len(np.unique(label[groups == g])) == 1 for g in np.unique(groups))
    shuffle = _whole_groups if whole else _within_groups
    labels = np.stack([shuffle(label, groups, rng) for _ in range(SHUFFLES)])
    found = _distances(codes, labels.astype(np.float32))  # (r, f)
    own, most = distances(codes, label), found.max(1)
    p = (1 + (most[:, None] >= own - 1e-12).sum(0)) / (1 + SHUFFLES)
    what = "whole groups" if whole else "cells within their group"
    return Chance(np.quantile(found, 0.95, axis=0), p, what)


def _whole_groups(label: Bools, groups: Ints, rng: np.random.Generator) -> Bools:
    """Groups exchange their clusters; cells of a group stay together."""
    first = np.array([label[groups == g][0] for g in range(int(groups.max()) + 1)])
    shuffled: Bools = rng.permutation(first)[groups]
    return shuffled


def _within_groups(label: Bools, groups: Ints, rng: np.random.Generator) -> Bools:
    """Cells exchange their clusters with others of their group: what groups differ in stays."""
    out = label.copy()
    for g in np.unique(groups):
        here = np.flatnonzero(groups == g)
        out[here] = label[rng.permutation(here)]
    return out
