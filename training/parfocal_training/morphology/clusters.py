"""Which cells are compared: classes, densities or clusters, and two of them."""

import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parfocal_training.cropset import CropSet
from parfocal_training.errors import DataError, UsageError
from parfocal_training.morphology.patch import Bools, Ints
from parfocal_training.phenotypes.trends import many_numbers, of_flasks, spearman_test
from parfocal_training.seen import order

COLUMNS = ("name", "phenotype", "cluster", "k_means")
"""Columns of a table of cells that can hold clusters; the first that is there counts."""

LEAST_CELLS = 10
"""Cells of a cluster from which its distribution of a feature can be told."""


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Two clusters: their names, the cells (n,) of either and of the second, and why these two."""

    pair: tuple[str, str]
    either: Bools
    second: Bools
    why: str


def read_clusters(path: Path, crop_set: CropSet, column: str | None) -> tuple[str, ...]:
    """The cluster of each cell from a table such as `cells.csv` of phenotypes or pca.

    Raises
    ------
    DataError
        No such table, or one of other crops.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
        raise DataError(
            f"'{path}' is no table of cells: give the cells.csv that parfocal-train phenotypes "
            "wrote for these crops"
        ) from error
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    there = tuple(rows[0]) if rows else ()
    wanted = column or next((name for name in COLUMNS if name in there), None)
    if wanted not in there:
        raise DataError(
            f"'{path}' has no column {wanted or ' or '.join(COLUMNS)}, it has {', '.join(there)}"
        )
    theirs = [row.get("path") for row in rows]
    mine = [row.image.path for row in crop_set.index.rows]
    if theirs != mine:
        raise DataError(
            f"'{path}' lists {len(theirs)} cells, the crops are {len(mine)}"
            if len(theirs) != len(mine)
            else f"'{path}' lists other cells than these crops: make the clusters again"
        )
    return tuple(row[str(wanted)] for row in rows)


def classes_by(crop_set: CropSet, attribute: str) -> tuple[str, ...]:
    """What the table of flasks says of each cell: its line, density, passage and so on.

    Raises
    ------
    DataError
        It was not recorded for every cell.
    """
    values = tuple(str(getattr(row.image, attribute)) for row in crop_set.index.rows)
    without = sum(not value for value in values)
    if without:
        raise DataError(
            f"--by {attribute}: it was not recorded for {without} of {len(values)} cells; add it "
            "to flasks.csv and cut the crops again"
        )
    return values


def choose(
    clusters: tuple[str, ...],
    pair: tuple[str, str] | None,
    densities: tuple[str, ...],
    groups: Ints,
) -> Chosen:
    """The two clusters that were asked for, else the two that say most.

    Shares change with density in whole groups (n,).

    Raises
    ------
    UsageError, DataError
        There are no such two, or too few cells in one of them.
    """
    counts = Counter(clusters)
    if pair is None:
        pair, why = _two_of(clusters, counts, densities, groups)
    else:
        strange = sorted(set(pair) - set(counts))
        if strange or pair[0] == pair[1]:
            raise UsageError(
                f"--pair {' '.join(pair)}: there are {', '.join(sorted(counts, key=order))}; name "
                "two of them"
            )
        why = "asked for"
    small = [f"{name} has {counts[name]}" for name in pair if counts[name] < LEAST_CELLS]
    if small:
        raise DataError(
            f"{' and '.join(small)} cell(s): {LEAST_CELLS} are the least that can be compared"
        )
    names = np.array(clusters, dtype=object)
    second: Bools = np.asarray(names == pair[1], np.bool_)
    return Chosen(pair, np.asarray(names == pair[0], np.bool_) | second, second, why)


def _two_of(
    clusters: tuple[str, ...], counts: Counter[str], densities: tuple[str, ...], groups: Ints
) -> tuple[tuple[str, str], str]:
    different = sorted(counts, key=order)
    if len(different) < 2:
        raise DataError(f"all cells are {different[0]}: there is nothing to compare")
    if len(different) == 2:
        return (different[0], different[1]), "the only two"
    enough = [name for name in different if counts[name] >= LEAST_CELLS]
    if len(set(densities)) > 1 and all(densities) and len(enough) > 1:
        change, how = _changes(clusters, enough, densities, groups)
        first, second = min(change, key=change.__getitem__), max(change, key=change.__getitem__)
        return (first, second), (
            f"of {len(different)} clusters the one whose share falls most {how} "
            f"({change[first]:+.2f}), and the one whose share rises most ({change[second]:+.2f})"
        )
    largest = sorted(different, key=lambda name: -counts[name])[:2]
    return (largest[0], largest[1]), f"the two largest of {len(different)}"


def _changes(
    clusters: tuple[str, ...], names: list[str], densities: tuple[str, ...], groups: Ints
) -> tuple[dict[str, float], str]:
    """How the share of each cluster changes with density over groups (n,), and in which sense."""
    cells = np.bincount(groups)
    shares = {
        name: np.bincount(groups, np.array([c == name for c in clusters])) / cells for name in names
    }
    if many_numbers(densities):
        values = of_flasks(densities, groups)
        found = {name: spearman_test(values, share)[0] for name, share in shares.items()}
        return found, f"with density, by Spearman's correlation over {len(cells)} groups"
    known = sorted(set(densities), key=order)
    low, high = (
        np.unique(groups[[density == end for density in densities]])
        for end in (known[0], known[-1])
    )
    change = {name: float(s[high].mean() - s[low].mean()) for name, s in shares.items()}
    return change, f"from density {known[0]} to {known[-1]}, by the mean share of groups"
