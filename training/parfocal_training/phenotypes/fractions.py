"""Fractions of phenotypes in flasks, densities and cell lines."""

from collections.abc import Sequence

import msgspec
import numpy as np

from parfocal.intervals import clustered
from parfocal_training.cropset import CropSet
from parfocal_training.leftout import numbered
from parfocal_training.phenotypes.space import Ints
from parfocal_training.phenotypes.trends import many_numbers, of_flasks, thirds
from parfocal_training.seen import order

MOST_VALUES = 12
"""Values of an attribute (passages, say) that are told apart."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """k of n cells of one `value` of an attribute are of a phenotype (1, 2, ...).

    The 95 % interval takes the `units` (images of a group; groups of anything else) as clusters.
    """

    attribute: str
    value: str
    phenotype: int
    k: int
    n: int
    units: int
    fraction: float
    low: float
    high: float


def shares(crop_set: CropSet, labels: Ints) -> tuple[Share, ...]:
    """Fractions in every group and for every recorded density, passage and cell line.

    Many numbers stand as three ranges, each of a third of the groups; more than `MOST_VALUES` names
    are left out.
    """
    rows = [row.image for row in crop_set.index.rows]
    kind = crop_set.index.group_kind
    units = numbered(crop_set.groups)[1]
    out = _shares(kind, crop_set.groups, labels, numbered(tuple(row.path for row in rows))[1])
    known = {
        name: _few(tuple(getattr(row, name) for row in rows), units)
        for name in ("density", "passage")
    }
    known["cell line"] = tuple(row.cell_line for row in rows)
    if len(set(known["cell line"])) > 1:
        pairs = zip(known["cell line"], known["density"], strict=True)
        known["cell line and density"] = tuple(f"{a}, {b}" if b else "" for a, b in pairs)
    for name, values in known.items():
        n = len(set(values))
        if all(values) and 1 < n <= MOST_VALUES and n < len(set(crop_set.groups)):
            out += _shares(name, values, labels, units)
    return tuple(out)


def too_many(crop_set: CropSet) -> tuple[str, ...]:
    """A sentence for each attribute whose names are too many for `shares`."""
    rows = [row.image for row in crop_set.index.rows]
    out = []
    for name in ("density", "passage"):
        values = tuple(getattr(row, name) for row in rows)
        n = len(set(values))
        if n > MOST_VALUES and not many_numbers(values):
            out.append(f"Shares by {name} are not shown: {n} names are more than {MOST_VALUES}.")
    return tuple(out)


def _few(values: tuple[str, ...], units: Ints) -> tuple[str, ...]:
    """Values, or where they are many numbers the third of the groups that each cell is in."""
    if len(set(values)) <= MOST_VALUES or not many_numbers(values):
        return values
    of_units = of_flasks(values, units)
    part = thirds(of_units)
    names = []
    for i in range(int(part.max()) + 1):
        mine = of_units[part == i]
        names.append(f"{mine.min():g} to {mine.max():g}")
    return tuple(names[i] for i in part[units])


def _shares(attribute: str, values: Sequence[str], labels: Ints, units: Ints) -> list[Share]:
    names = np.array(values)
    out = []
    for value in sorted(set(values), key=_first):
        mine = names == value
        for j in range(int(labels.max()) + 1):
            counts = _counts(labels[mine] == j, units[mine])
            k, n = sum(k for k, _ in counts), sum(n for _, n in counts)
            low, high = clustered(counts)
            out.append(
                Share(
                    attribute=attribute,
                    value=value,
                    phenotype=j + 1,
                    k=k,
                    n=n,
                    units=len(counts),
                    fraction=k / n,
                    low=low,
                    high=high,
                )
            )
    return out


def _first(value: str) -> tuple[tuple[float, str], ...]:
    """Where a value stands among others; a range stands where it begins."""
    return tuple(order(part.partition(" to ")[0]) for part in value.split(", "))


def _counts(hits: Ints, units: Ints) -> list[tuple[int, int]]:
    return [(int(hits[units == u].sum()), int((units == u).sum())) for u in np.unique(units)]
