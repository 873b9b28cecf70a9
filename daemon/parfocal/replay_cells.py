"""Which cell of one result is which of another, and how far two models agree on the same cells."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parfocal.types import Cell

MATCH_UM = 10.0
"""Two detectors mostly put one cell nearer; single cells that lie apart are over 20 um from each
other."""
RESAMPLES = 1000
FEWEST_FLASKS = 5
"""Fewer flasks than this cannot stand for others, so that images are drawn instead."""


def matched(old: Sequence[Cell], new: Sequence[Cell], limit_px: float) -> list[tuple[int, int]]:
    """Pairs (index in old, index in new) of the same cell, each cell in at most one.

    The nearest pair first, then the nearest of those left, up to `limit_px`.
    """
    if not old or not new:
        return []
    one, two = _places(old), _places(new)
    apart_px = np.hypot(*(one[:, None] - two[None]).transpose(2, 0, 1))
    i, j = np.nonzero(apart_px <= limit_px)
    pairs: list[tuple[int, int]] = []
    used_old, used_new = set[int](), set[int]()
    for at in np.argsort(apart_px[i, j], kind="stable"):
        a, b = int(i[at]), int(j[at])
        if a not in used_old and b not in used_new:
            pairs.append((a, b))
            used_old.add(a)
            used_new.add(b)
    return sorted(pairs)


def _places(cells: Sequence[Cell]) -> NDArray[np.float64]:
    """Shape (n, 2): x, y in pixels."""
    return np.array([(cell.x_px, cell.y_px) for cell in cells])


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two models gave the same cell the same class.

    Parameters
    ----------
    n : int
        Cells that both classified.
    same : float
        Share of the same class.
    kappa : float or None
        Cohen's kappa; None where both gave one and the same class to all.
    low, high : float or None
        95 % bootstrap interval of kappa.
    unit : str
        What was drawn for the interval: `flask` or `image`.
    n_units : int
    """

    n: int
    same: float
    kappa: float | None
    low: float | None
    high: float | None
    unit: str
    n_units: int


Answer = tuple[str, str, str, str]
"""Flask session ("" for none), image, old class, new class of one cell."""


def agreement(answers: Iterable[Answer], seed: int = 0) -> Agreement | None:
    """Cohen's kappa with an interval from whole flasks, or whole images where flasks are few.

    None without a cell that both classified.
    """
    rows = list(answers)
    if not rows:
        return None
    labels = sorted({label for row in rows for label in row[2:]})
    flasks = {row[0] for row in rows if row[0]}
    unit = "flask" if len(flasks) >= FEWEST_FLASKS and all(row[0] for row in rows) else "image"
    groups: dict[str, NDArray[np.float64]] = {}
    for flask, image, old, new in rows:
        key = flask if unit == "flask" else image
        table = groups.setdefault(key, np.zeros((len(labels), len(labels))))
        table[labels.index(old), labels.index(new)] += 1
    tables = np.stack(list(groups.values()))
    total = tables.sum(0)
    low, high = _interval(tables, seed)
    return Agreement(
        n=len(rows),
        same=float(np.trace(total) / total.sum()),
        kappa=_number(kappa(total[None])[0]),
        low=low,
        high=high,
        unit=unit,
        n_units=len(tables),
    )


def kappa(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cohen's kappa of each table (n, k, k) of counts; NaN where chance alone agrees fully."""
    n = tables.sum((1, 2))
    seen = np.trace(tables, axis1=1, axis2=2) / n
    chance = (tables.sum(1) * tables.sum(2)).sum(1) / n**2
    with np.errstate(invalid="ignore", divide="ignore"):
        value: NDArray[np.float64] = np.where(chance < 1, (seen - chance) / (1 - chance), np.nan)
    return value


def _interval(tables: NDArray[np.float64], seed: int) -> tuple[float | None, float | None]:
    """2.5 % and 97.5 % of kappa over groups (n, k, k) drawn with replacement."""
    n = len(tables)
    if n < 2:
        return None, None
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    values = kappa(np.tensordot(drawn.astype(np.float64), tables, 1))
    if np.isnan(values).all():
        return None, None
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
