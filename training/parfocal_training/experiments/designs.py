"""Which networks an experiment trains, on which cells, and on which cells each is tested.

The designs are those of Yao, Rochman and Sun (2019), Fig. 2 and 3. A design knows the rows of a
crop set and nothing of networks.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from parfocal_training.cropset import CropRow, CropSet
from parfocal_training.errors import DataError
from parfocal_training.recipe import Recipe

Ints = NDArray[np.int64]
HELD_OUT_SHARE = 0.2
"""The paper trains on 80 % and tests on 20 %."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Cells on which a network is tested, and the series of the report that they count in."""

    series: str
    on: str
    cells: Ints  # (m,) indices into the crop set


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One network: its training cells, what it must tell apart, and its tests.

    `recipe` None takes that of the experiment. `novelty`: also measure how far the asked cells lie
    from those of training.
    """

    name: str
    trained_on: str
    train: Ints  # (n,) indices into the crop set
    tests: tuple[HeldOut, ...]
    seed: int
    target: str = "cell_line"
    classes: tuple[str, ...] = ()
    recipe: Recipe | None = None
    novelty: bool = False

    @property
    def file_name(self) -> str:
        """The name as that of a file: `NIH/3T3` becomes `NIH%2F3T3`."""
        return quote(self.name, safe=" +,")

    def labels(self, crop_set: CropSet, cells: Ints) -> Ints:
        """Class of these cells, -1 for what the network does not know: (n,)."""
        number = {name: i for i, name in enumerate(self.classes)}
        rows = crop_set.index.rows
        return np.array([number.get(target_of(rows[i], self.target), -1) for i in cells], np.int64)


def target_of(row: CropRow, target: str) -> str:
    """What a network must answer of a crop: its `cell_line` or its `flask`."""
    return row.image.flask if target == "flask" else row.image.cell_line


def unit_of(row: CropRow, kind: str) -> str:
    """What is never split within a flask: a field where it is known, else an image."""
    if kind == "crop":
        return f"{row.image.path}|{row.x_px}|{row.y_px}"
    if row.image.field:
        return f"{row.image.flask}|{row.image.field}"
    return row.image.path if row.image.flask else row.image.group


def unit_kind(crop_set: CropSet, kind: str) -> str:
    """What `unit_of` names, in a word: a field, an image, or but a cell where an image is one."""
    rows = crop_set.index.rows
    if kind == "crop":
        return "cell"
    if all(row.image.field for row in rows):
        return "field"
    if any(row.image.flask and not row.image.field for row in rows):
        return "cell" if any(row.x_px is None for row in rows) else "image"
    return crop_set.index.group_kind


def within(crop_set: CropSet, repeats: int, seed: int, split: str = "field") -> list[Run]:
    """Fig. 2a: each flask pair by itself, trained on 80 % and tested on 20 %, again and again.

    Fields (or images) are never split; `split` "crop" does as the paper did, which flatters.
    """
    rows = crop_set.index.rows
    need_lines(crop_set)
    if any(row.image.flask or row.image.pair for row in rows):
        parts = {f"pair {pair}": cells for pair, cells in flask_pairs(rows).items()}
    else:
        parts = {"all cells": np.arange(len(rows))}
    runs = []
    for name, cells in parts.items():
        for repeat in range(repeats):
            runs += _split(crop_set, cells, name, repeat, seed, split, crop_set.classes)
    return runs


def same_type(crop_set: CropSet, repeats: int, seed: int, split: str = "field") -> list[Run]:
    """Fig. 2e: two flasks of ONE line told apart, for every two flasks of each line."""
    rows = crop_set.index.rows
    _need(rows, "flask")
    runs = []
    for line in crop_set.classes:
        flasks = {row.image.flask for row in rows if row.image.cell_line == line}
        for one, other in combinations(sorted(flasks), 2):
            cells = np.flatnonzero([row.image.flask in (one, other) for row in rows])
            for repeat in range(repeats):
                name = f"{line}: {one} | {other}"
                runs += _split(
                    crop_set, cells, name, repeat, seed, split, (one, other), target="flask"
                )
    if not runs:
        raise DataError("same-type needs two flasks of one cell line: none has more than one")
    return runs


def cross(crop_set: CropSet, repeats: int, seed: int) -> list[Run]:
    """Fig. 2c and 3e: trained on 1, 2, ... of the flask pairs, tested on each other pair.

    Of four pairs: 12 tests of 4 networks, 12 of 6, and 4 of 4, as in the paper.
    """
    pairs = pairs_to_leave_out(crop_set)
    runs = []
    for size in range(1, len(pairs)):
        for chosen in combinations(sorted(pairs), size):
            for repeat in range(repeats):
                train = np.sort(np.concatenate([pairs[pair] for pair in chosen]))
                tests = tuple(
                    HeldOut(f"{size} of {len(pairs)} pairs", f"pair {pair}", pairs[pair])
                    for pair in sorted(pairs)
                    if pair not in chosen
                )
                name = f"cross-{'+'.join(chosen)}-{repeat + 1}"
                runs.append(
                    Run(name, f"pairs {'+'.join(chosen)}", train, tests, seed + repeat,
                        classes=crop_set.classes)
                )  # fmt: skip
    return runs


def pooled(crop_set: CropSet, repeats: int, seed: int) -> list[Run]:
    """Fig. 3d-e: pools of growing size, tested on a pair of flasks that no pool holds.

    Each repeat leaves one pair out, in turn, and draws one pool of every size from the others.
    """
    pairs = pairs_to_leave_out(crop_set)
    names, rng = sorted(pairs), np.random.default_rng(seed)
    sizes = sorted({1, 2, 3, 4, 6, 8, len(names) - 1} & set(range(1, len(names))))
    runs = []
    for repeat in range(repeats):
        left = names[repeat % len(names)]
        others = [name for name in names if name != left]
        order = list(rng.permutation(others))  # pools are nested: only their size differs
        for size in sizes:
            train = np.sort(np.concatenate([pairs[name] for name in order[:size]]))
            test = HeldOut(f"pool of {size}", f"pair {left}", pairs[left])
            runs.append(
                Run(f"pool-{size}-{repeat + 1}", f"{size} pairs", train, (test,), seed + repeat,
                    classes=crop_set.classes)
            )  # fmt: skip
    return runs


def density(crop_set: CropSet, repeats: int, seed: int) -> list[Run]:
    """Fig. 3b-d: trained at one density and passage, or on mixed densities; tested on all others.

    Each repeat trains on half of the flasks of a condition (one of every line at least) and tests
    on flasks that were not trained on. Mixed training takes the training flasks of both densities,
    so twice as many; `crops_seen` in the recipe keeps the work equal.
    """
    rows = crop_set.index.rows
    need_lines(crop_set)
    for column in ("flask", "density", "passage"):
        _need(rows, column)
    levels = sorted({row.image.density for row in rows}, key=_low_first)
    if len(levels) != 2:
        raise DataError(
            f"the density experiment compares two densities, got {', '.join(levels)}: give each "
            "flask one of two words (low, high) in the column density"
        )
    conditions = [(d, p) for d in levels for p in _sorted(row.image.passage for row in rows)]
    runs = []
    for repeat in range(repeats):
        halves = {c: _halves(rows, c, np.random.default_rng((seed, repeat))) for c in conditions}
        for d, p in conditions:
            name, flasks = f"{d} density, passage {p}", halves[d, p][0]
            runs.append(_density_run(crop_set, name, flasks, (d, p), conditions, repeat, seed))
        for p in _sorted(p for _, p in conditions):
            flasks = halves[levels[0], p][0] | halves[levels[1], p][0]
            name = f"mixed densities, passage {p}"
            runs.append(_density_run(crop_set, name, flasks, ("", p), conditions, repeat, seed))
    return runs


def _density_run(
    crop_set: CropSet,
    name: str,
    flasks: set[str],
    trained_on: tuple[str, str],
    conditions: Sequence[tuple[str, str]],
    repeat: int,
    seed: int,
) -> Run:
    """A network of one density and passage, or with "" of both densities, and all its tests."""
    rows = crop_set.index.rows
    train = np.flatnonzero([row.image.flask in flasks for row in rows])
    tests = []
    for d, p in conditions:
        cells = np.flatnonzero(
            [
                (row.image.density, row.image.passage) == (d, p) and row.image.flask not in flasks
                for row in rows
            ]
        )
        if len(cells):
            series = _density_series(trained_on, (d, p))
            tests.append(HeldOut(series, f"{d} density, passage {p}", cells))
    label = f"density {name} {repeat + 1}"
    return Run(label, name, train, tuple(tests), seed + repeat, classes=crop_set.classes)


def _density_series(trained: tuple[str, str], tested: tuple[str, str]) -> str:
    passage = "same passage" if trained[1] == tested[1] else "other passage"
    if not trained[0]:
        return f"mixed densities, {passage}"
    same = "same density" if trained[0] == tested[0] else "other density"
    return f"{same}, {passage}"


def _halves(
    rows: Sequence[CropRow], condition: tuple[str, str], rng: np.random.Generator
) -> tuple[set[str], set[str]]:
    """The flasks of a condition, half of every line's for training and the others."""
    train, test = set[str](), set[str]()
    mine = [row for row in rows if (row.image.density, row.image.passage) == condition]
    for line in sorted({row.image.cell_line for row in rows}):
        flasks = sorted({row.image.flask for row in mine if row.image.cell_line == line})
        if not flasks:
            raise DataError(
                f"no flask of {line} at density {condition[0]}, passage {condition[1]}: the "
                "density experiment needs every line in every condition"
            )
        order = [str(name) for name in rng.permutation(flasks)]
        half = max(1, len(order) // 2)
        train |= set(order[:half])
        test |= set(order[half:])
    return train, test


def _split(
    crop_set: CropSet,
    cells: Ints,
    name: str,
    repeat: int,
    seed: int,
    split: str,
    classes: tuple[str, ...],
    target: str = "cell_line",
) -> list[Run]:
    """One random 80/20 split over units, within each class so that none is left empty."""
    rows = crop_set.index.rows
    rng = np.random.default_rng((seed, repeat))
    held = np.zeros(len(rows), bool)
    for label in classes:
        mine = [i for i in cells if target_of(rows[i], target) == label]
        units = sorted({unit_of(rows[i], split) for i in mine})
        if len(units) < 2:
            raise DataError(
                f"{label} in '{name}' has {len(units)} {unit_kind(crop_set, split)}: an 80/20 "
                "split needs two"
            )
        count = max(1, round(HELD_OUT_SHARE * len(units)))
        out = {str(unit) for unit in rng.permutation(units)[:count]}
        for i in mine:
            held[i] = unit_of(rows[i], split) in out
    test = cells[held[cells]]
    train = cells[~held[cells]]
    one = HeldOut(name, f"left-out {unit_kind(crop_set, split)}s", test)
    return [Run(f"{name} {repeat + 1}", name, train, (one,), seed + repeat, target, classes)]


def flask_pairs(rows: Sequence[CropRow]) -> dict[str, Ints]:
    """Cells of each pair of flasks: by the column `pair`, else by density, passage and order.

    Raises
    ------
    DataError
        The column is filled in part, nothing says which flasks belong together, or a pair lacks a
        line.
    """
    if any(row.image.pair for row in rows):
        _need(rows, "pair")
        pairs = by(rows, lambda row: row.image.pair)
        remedy = "mend the column pair in flasks.csv"
    else:
        _need(rows, "flask")
        pairs = _matched(rows)
        remedy = (
            "without a column pair in flasks.csv, flasks of equal density and passage are put "
            "together in the order of their names; say there which belong together"
        )
    lines = {row.image.cell_line for row in rows}
    for name, cells in pairs.items():
        missing = lines - {rows[i].image.cell_line for i in cells}
        if missing:
            raise DataError(f"pair {name} has no {', '.join(sorted(missing))}: {remedy}")
    return pairs


def pairs_to_leave_out(crop_set: CropSet) -> dict[str, Ints]:
    """The pairs of flasks, of which one can be left out: two at least.

    Raises
    ------
    DataError
        There is one pair only, one line only, or `flask_pairs` finds none.
    """
    need_lines(crop_set)
    pairs = flask_pairs(crop_set.index.rows)
    if len(pairs) < 2:
        raise DataError(f"{len(pairs)} pair of flasks leaves none to test on: two are needed")
    return pairs


def need_lines(crop_set: CropSet, least: int = 2) -> None:
    """Raise DataError if there are fewer lines than this to tell apart, or one has no cell."""
    classes = crop_set.classes
    if len(classes) < least:
        raise DataError(
            f"the crops are of {len(classes)} cell line(s), {', '.join(classes)}: this experiment "
            f"needs {least} to tell lines apart"
        )
    present = {row.image.cell_line for row in crop_set.index.rows}
    empty = [line for line in classes if line not in present]
    if empty:
        raise DataError(
            f"no cell of {', '.join(empty)} can be trained on: its images all say test in the "
            "column split of flasks.csv, and are kept for later"
        )


def _matched(rows: Sequence[CropRow]) -> dict[str, Ints]:
    """Flasks of equal density and passage, one of each line, put together in name order."""
    flasks: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        image = row.image
        mine = flasks.setdefault((image.density, image.passage, image.cell_line), [])
        if image.flask not in mine:
            mine.append(image.flask)
    number: dict[str, str] = {}
    for (d, p, _), names in flasks.items():
        for i, flask in enumerate(sorted(names), 1):
            number[flask] = "-".join(filter(None, (d, f"p{p}" if p else "", str(i))))
    return by(rows, lambda row: number[row.image.flask])


def by(rows: Iterable[CropRow], key: Callable[[CropRow], str]) -> dict[str, Ints]:
    """Indices of the rows of every key."""
    found: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        found.setdefault(key(row), []).append(i)
    return {name: np.array(cells, np.int64) for name, cells in found.items()}


def _need(rows: Sequence[CropRow], column: str) -> None:
    without = [row.image.path for row in rows if not getattr(row.image, column)]
    if without:
        raise DataError(
            f"this experiment needs the column {column} in flasks.csv for every image; "
            f"{len(set(without))} have none (first: '{without[0]}')"
        )


def _low_first(word: str) -> tuple[int, float, str]:
    known = {"low": 0, "high": 1}
    try:
        return 0, float(word), word
    except ValueError:
        return 1, known.get(word.lower(), 2), word


def _sorted(values: Iterable[str]) -> list[str]:
    return sorted(set(values), key=_low_first)
