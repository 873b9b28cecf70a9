"""Networks that have never seen one of the cell lines, and what is held out of the others.

One line at a time is left out of training. What is held out of a known line is its last group
(flask, field), or, where it has one group only, the last image of that group, by name.
"""

import numpy as np

from parfocal_training.cropset import CropRow, CropSet
from parfocal_training.errors import DataError
from parfocal_training.experiments.designs import HeldOut, Ints, Run, by, need_lines

ALL_LINES = "all lines"
ALL_BUT_ONE = "all lines but one"
UNSEEN = "never seen"
"""Series of the cells of the line that was left out: their answers cannot be right."""


def unknown(crop_set: CropSet, repeats: int, seed: int) -> list[Run]:
    """A network that knows all lines, and one without each of them; novelty is measured.

    Raises
    ------
    DataError
        Fewer than three lines (one is left out, the others told apart), or one of which nothing
        can be held out.
    """
    classes, rows = crop_set.classes, crop_set.index.rows
    need_lines(crop_set, 3)
    units, lines = units_of(crop_set), by(rows, lambda row: row.image.cell_line)
    held = {line: _last(line, cells, units) for line, cells in lines.items()}
    runs = []
    for repeat in range(repeats):
        for left_out in ("", *classes):
            known = tuple(line for line in classes if line != left_out)
            train = [i for line in known for i in lines[line] if units[i] != held[line]]
            asked = [i for line in known for i in lines[line] if units[i] == held[line]]
            series = ALL_BUT_ONE if left_out else ALL_LINES
            tests = [HeldOut(series, "held-out cells of known lines", _sorted(asked))]
            if left_out:
                tests.append(HeldOut(UNSEEN, left_out, lines[left_out]))
            name = f"without-{left_out}" if left_out else "all"
            trained_on = f"all lines but {left_out}" if left_out else ALL_LINES
            runs.append(
                Run(f"{name}-{repeat + 1}", trained_on, _sorted(train), tuple(tests),
                    seed + repeat, classes=known, novelty=True)
            )  # fmt: skip
    return runs


def units_of(crop_set: CropSet) -> tuple[str, ...]:
    """For each crop, what is held out and drawn again: its group, or its image."""
    whole = by_group(crop_set)
    return tuple(_unit(row, row.image.cell_line in whole) for row in crop_set.index.rows)


def by_group(crop_set: CropSet) -> set[str]:
    """The lines with two groups or more: of these a whole group is held out, else an image."""
    groups: dict[str, set[str]] = {}
    for row in crop_set.index.rows:
        groups.setdefault(row.image.cell_line, set()).add(row.image.group)
    return {line for line, names in groups.items() if len(names) > 1}


def _unit(row: CropRow, whole: bool) -> str:
    return f"{row.image.cell_line}|{row.image.group if whole else row.image.path}"


def _last(line: str, cells: Ints, units: tuple[str, ...]) -> str:
    names = sorted({units[i] for i in cells})
    if len(names) < 2:
        raise DataError(f"{line} has cells of 1 image only: two are needed, for one is held out")
    return str(names[-1])


def _sorted(cells: list[int]) -> Ints:
    return np.sort(np.array(cells, np.int64))
