"""What a person at the microscope should do next, in one sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

from parfocal.composition import Answers, fields_for, half_width, labels_of
from parfocal.composition_rates import Reading
from parfocal.declared import LOOKS, class_of, with_cells
from parfocal.shift import shift_text
from parfocal.types import Contamination, Declared, Shift

HALF_WIDTH = 0.05
"""Half width of the 95 % interval of the share that is asked for, unless another is wanted."""

RECENT, MANY = 5, 3
"""So many of the latest fields out of focus are a series, not an accident."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One sentence, and how many more fields it asks for."""

    text: str
    more_fields: int | None = None


def out_of_focus(blurred: Sequence[bool]) -> bool:
    """Whether the latest fields are a series out of focus."""
    return sum(blurred[-RECENT:]) >= MANY


def foreign_text(line: Declared | None, contamination: Contamination | None) -> str:
    """What is wrong with the cells of a flask; empty if nothing is known to be."""
    if line is not None and line.match == "mismatch":
        return f"most cells are not the declared {line.cell_line}"
    if line is not None and contamination is not None and contamination.found:
        return f"more cells than in a pure flask are not the declared {line.cell_line}"
    return ""


def advice(
    frames: Answers,
    reading: Reading | None,
    cell_line: str | None,
    blurred: Sequence[bool],
    shift: Shift | None,
    wanted: float = HALF_WIDTH,
    foreign: str = "",
) -> Advice:
    """The first that applies: refocus, do not rely on it, set it aside, take more fields, enough.

    The share looked at is that of the declared class, else of the class known worst.

    Parameters
    ----------
    frames, reading, cell_line
        As for `parfocal.declared.declared`.
    blurred : sequence of bool
        Whether each frame was flagged as out of focus.
    shift : Shift or None
    wanted : float
        Half width of the interval that is enough.
    foreign : str
        What is wrong with its cells (`foreign_text`).
    """
    if out_of_focus(blurred):
        recent = blurred[-RECENT:]
        return Advice(f"refocus: {sum(recent)} of the last {len(recent)} fields are out of focus")
    if shift is not None and shift.flagged:
        return Advice(f"do not rely on it: the cells are {shift_text(shift)}")
    if foreign:
        return Advice(f"set the flask aside and check it: {foreign}")
    used = with_cells(frames)
    if len(used) < LOOKS[0]:
        missing = LOOKS[0] - len(used)
        return Advice(f"take at least {_fields(missing)} with cells", missing)
    return _more(used, reading, cell_line, wanted)


def _more(used: Answers, reading: Reading | None, cell_line: str | None, wanted: float) -> Advice:
    classes = reading.classes if reading else tuple(labels_of(used))
    own = class_of(cell_line, classes)
    every = range(len(classes)) if own is None else [own]
    width, at = max((half_width(i, used, reading), i) for i in every)
    known = f"the share of {classes[at]} is known to {_points(width)}"
    if width <= wanted:
        return Advice(f"enough: {known}")
    total, aim = fields_for(wanted, at, used, reading)
    more = total - len(used)
    if aim > wanted and more <= 0:
        why = "the model's own errors are not known better, and more fields would add little"
        return Advice(f"enough: {known}; {why}")
    more = max(1, more)
    return Advice(f"take about {_fields(more)} for {_points(aim)}: {known}", more)


def _fields(n: int) -> str:
    return f"{n} more field{'s' * (n != 1)}"


def _points(width: float) -> str:
    return f"+- {100 * width:.1f} points"
