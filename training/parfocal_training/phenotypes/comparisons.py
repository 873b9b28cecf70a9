"""How phenotypes go with density and passage: what is tested, and what cannot be.

A few values, or names, are compared two by two; many numbers are tested for a trend.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from parfocal_training.cropset import CropSet
from parfocal_training.leftout import numbered
from parfocal_training.phenotypes.differences import LEAST_FLASKS, Difference, differences, holm
from parfocal_training.phenotypes.space import Ints
from parfocal_training.phenotypes.trends import (
    FEW_VALUES,
    Trend,
    many_numbers,
    of_flasks,
    trends,
)
from parfocal_training.seen import order

ATTRIBUTES = {"density": "densities", "passage": "passages"}


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Tests of pairs of values and of trends, and sentences that say what was not tested."""

    differences: tuple[Difference, ...]
    trends: tuple[Trend, ...]
    untested: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Flasks:
    """Cells of one line, by flask and value.

    `value` are n texts, `flask` (n,) numbers from 0, `labels` (n,) clusters of which there are `k`.
    """

    line: str
    value: tuple[str, ...]
    flask: Ints
    labels: Ints
    k: int


def comparisons(crop_set: CropSet, labels: Ints) -> Comparisons:
    """Every phenotype in each cell line: pairs of densities and passages, or trends over them.

    p-values are corrected over all tests of an attribute.
    """
    kind = crop_set.index.group_kind
    if kind != "flask":
        return Comparisons((), (), (f"Nothing is tested: cells are grouped by {kind}, not flask.",))
    found = [_of_attribute(crop_set, labels, attribute) for attribute in ATTRIBUTES]
    return Comparisons(
        tuple(one for part in found for one in part.differences),
        tuple(one for part in found for one in part.trends),
        tuple(sentence for part in found for sentence in part.untested),
    )


def _of_attribute(crop_set: CropSet, labels: Ints, attribute: str) -> Comparisons:
    there = [getattr(row.image, attribute) != "" for row in crop_set.index.rows]
    if not all(there):
        for_all = " for every cell" if any(there) else ""
        plural = ATTRIBUTES[attribute].capitalize()
        return Comparisons((), (), (f"{plural} are not compared: not recorded{for_all}.",))
    pairs: list[Difference] = []
    along: list[Trend] = []
    untested = []
    for cells in _lines(crop_set, labels, attribute):
        some, trend, why = _tested(attribute, cells)
        pairs, along = pairs + some, along + trend
        untested += [why] if why else []
    tests: list[Difference | Trend] = [*pairs, *along]
    p = holm(np.array([one.p for one in tests])).tolist()
    return Comparisons(
        tuple(replace(one, p_holm=q) for one, q in zip(pairs, p, strict=False)),
        tuple(replace(one, p_holm=q) for one, q in zip(along, p[len(pairs) :], strict=True)),
        tuple(untested),
    )


def _lines(crop_set: CropSet, labels: Ints, attribute: str) -> Iterator[Flasks]:
    rows = [row.image for row in crop_set.index.rows]
    for line in crop_set.classes:
        mine = [i for i, row in enumerate(rows) if row.cell_line == line]
        if mine:
            yield Flasks(
                line=line,
                value=tuple(getattr(rows[i], attribute) for i in mine),
                flask=numbered(tuple(rows[i].group for i in mine))[1],
                labels=labels[mine],
                k=int(labels.max()) + 1,
            )


def _tested(attribute: str, cells: Flasks) -> tuple[list[Difference], list[Trend], str]:
    """Pairs or trends of one line, and what of it could not be tested."""
    what = f"{ATTRIBUTES[attribute].capitalize()} of {cells.line}"
    if many_numbers(cells.value):
        values = of_flasks(cells.value, cells.flask)
        if len(values) <= FEW_VALUES:
            return [], [], f"{what} are not tested for a trend: {len(values)} flasks are too few."
        hits, n = counts(cells.labels, cells.flask, cells.k)
        return [], trends(attribute, cells.line, values, hits, n), ""
    sides = _sides(cells)
    if len(sides) == 1:
        return [], [], f"{what} are not compared: all its flasks have {next(iter(sides))}."
    enough = {name: side for name, side in sides.items() if len(side[1]) >= LEAST_FLASKS}
    if len(enough) < 2:
        few = f"no two have at least {LEAST_FLASKS} flasks each"
        return [], [], f"{what} are not compared: {few}, and one flask tells nothing about flasks."
    alone = ", ".join(name for name in sides if name not in enough)
    why = f"{what}: {alone}, of one flask each, cannot be compared." if alone else ""
    return differences(attribute, cells.line, enough), [], why


def _sides(cells: Flasks) -> dict[str, tuple[Ints, Ints]]:
    """What `counts` says of the flasks of each value, by rising value."""
    out = {}
    for name in sorted(set(cells.value), key=order):
        there = np.array([value == name for value in cells.value])
        flask = np.unique(cells.flask[there], return_inverse=True)[1]
        out[name] = counts(cells.labels[there], flask, cells.k)
    return out


def counts(labels: Ints, units: Ints, k: int) -> tuple[Ints, Ints]:
    """Cells (f, k) of each of k clusters (n,) in units (n,) from 0, and all their cells (f,)."""
    hits = np.zeros((int(units.max()) + 1, k), np.int64)
    np.add.at(hits, (units, labels), 1)
    return hits, hits.sum(1)
