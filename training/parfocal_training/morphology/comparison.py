"""Two clusters compared: features ranked, the two axes chosen, pairs of features scored."""

from dataclasses import dataclass

import numpy as np

from parfocal_training.leftout import numbered
from parfocal_training.morphology.axes import second_axis, spearman
from parfocal_training.morphology.clusters import Chosen
from parfocal_training.morphology.divergence import (
    Chance,
    binned,
    bins_for,
    by_chance,
    distances,
)
from parfocal_training.morphology.features import ranked
from parfocal_training.morphology.patch import Bools, Floats, Ints
from parfocal_training.morphology.separation import Rules, Separation, separation
from parfocal_training.morphology.table import FeatureTable

MEASURED = 0.95
"""Share of the cells in which a feature must have been measured to be ranked."""


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What tells two clusters apart; features in the order of their distance.

    Parameters
    ----------
    pair : tuple of 2
        Names of the clusters; `label` is False for the first.
    cells : ndarray of shape (n,), int64
        Places of the compared cells in the crop set: those of either cluster that have a mask.
    label : ndarray of shape (n,), bool
    groups : ndarray of shape (n,), int64
    names : tuple of f
    values : ndarray of shape (n, f), float64
    jsd, rho, medians : ndarrays of shape (f,), (f,) and (2, f)
        Jensen-Shannon distance, Spearman's correlation with the first feature over all compared
        cells, median of each cluster.
    chance : Chance
    bins : int
    first, second : int
        The two axes, as places in `names`.
    unranked : dict
        Features that are not ranked, and why.
    separation : Separation or None
        None where a cluster lies in a single group: then nothing can be left out.
    """

    pair: tuple[str, str]
    cells: Ints
    label: Bools
    groups: Ints
    names: tuple[str, ...]
    values: Floats
    jsd: Floats
    rho: Floats
    medians: Floats
    chance: Chance
    bins: int
    first: int
    second: int
    unranked: dict[str, str]
    separation: Separation | None


def compare(
    made: FeatureTable, chosen: Chosen, groups: tuple[str, ...], seed: int, top: int
) -> Compared:
    """The comparison of two clusters of cells, by all features that can be ranked.

    Every pair of the first `top` features is scored.
    """
    rng = np.random.default_rng(seed)
    cells = np.flatnonzero(chosen.either & made.found)
    label = chosen.second[cells]
    names = ranked(made.names)
    columns = [made.names.index(name) for name in names]
    values, unranked = made.values[cells][:, columns], dict[str, str]()
    usable = []
    for i, name in enumerate(names):
        if why := _unusable(values[:, i]):
            unranked[name] = why
        else:
            usable.append(i)
    bins, number = bins_for(label), numbered(tuple(groups[i] for i in cells))[1]
    codes = binned(values[:, usable], bins)
    jsd, chance = distances(codes, label), by_chance(codes, label, number, rng)
    order = np.argsort(-jsd, kind="stable")
    kept = [usable[i] for i in order]
    values = values[:, kept]
    rho = spearman(values)
    axes = (0, second_axis(jsd[order], rho))
    return Compared(
        pair=chosen.pair,
        cells=cells,
        label=label,
        groups=number,
        names=tuple(names[i] for i in kept),
        values=values,
        jsd=jsd[order],
        rho=rho,
        medians=np.stack([np.nanmedian(values[label == side], 0) for side in (False, True)]),
        chance=Chance(chance.high[order], chance.p[order], chance.shuffled),
        bins=bins,
        first=axes[0],
        second=axes[1],
        unranked=unranked,
        separation=separation(values, label, number, axes, Rules(bins, top, seed)),
    )


def _unusable(column: Floats) -> str:
    there = np.isfinite(column)
    if there.mean() < MEASURED:
        return f"not measurable in {int((~there).sum())} of {len(column)} cells"
    return "the same in every cell" if np.ptp(column[there]) == 0 else ""
