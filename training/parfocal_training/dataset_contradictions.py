"""Where the lines of a data set contradict each other: flasks, splits and files that come twice."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from parfocal_training.dataset_faults import MIXED, Fault, Line, error

TRAIN_TEST = ("training", "test")

LISTED = 4
"""Places of one fault that are written out; a flask can have hundreds of images."""


def flask_faults(lines: Sequence[Line]) -> Iterator[Fault]:
    """Flasks that contradict themselves, and what is in training and test at once."""
    flasks: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line["flask"]:
            flasks[line["flask"]].append(line)
    for flask, mine in flasks.items():
        yield from _contradictions(flask, mine)
    yield from _leakages(lines)


def _contradictions(flask: str, lines: Sequence[Line]) -> Iterator[Fault]:
    named = by_value(lines, "cell_line")
    if len(named) > 1:
        hint = f": a co-culture is {MIXED!r} on every line" if MIXED in named else ""
        text = f"flask {flask!r} is given {len(named)} cell lines, {listed_values(named)}{hint}"
        yield error("flask_two_lines", text)
    for name in ("passage", "pair"):
        values = by_value(lines, name)
        if len(values) > 1:
            text = f"flask {flask!r} has {len(values)} values of {name}, {listed_values(values)}"
            yield error("flask_two_values", text)
    for day, today in _by_day(lines).items():
        values = by_value(today, "density")
        if len(values) > 1:
            when = f" on day {day!r}" if day else ""
            text = f"flask {flask!r} has {len(values)} densities{when}, {listed_values(values)}"
            yield error("flask_two_values", text)


def _by_day(lines: Iterable[Line]) -> dict[str, list[Line]]:
    days: dict[str, list[Line]] = defaultdict(list)  # a flask grows: its density is that of a day
    for line in lines:
        days[line["day"]].append(line)
    return days


def by_value(lines: Iterable[Line], name: str) -> dict[str, list[Line]]:
    """The lines with each value of a column; those that say nothing contradict nobody."""
    found: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line[name]:
            found[line[name]].append(line)
    return dict(found)


def listed_values(values: Mapping[str, Sequence[Line]]) -> str:
    """`'A' (line 2, line 3) and 'B' (line 9 and 4 more)`."""
    return " and ".join(f"{value!r} ({places(lines)})" for value, lines in values.items())


def places(lines: Sequence[Line]) -> str:
    """The first few places, and how many more."""
    shown = ", ".join(line.place for line in lines[:LISTED])
    return shown + (f" and {len(lines) - LISTED} more" if len(lines) > LISTED else "")


def _leakages(lines: Sequence[Line]) -> Iterator[Fault]:
    units: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        units[unit(line)].append(line)
    for (kind, name), mine in units.items():
        roles = {role: [line for line in mine if role_of(line) == role] for role in TRAIN_TEST}
        if name and all(roles.values()):
            text = (
                f"{kind} {name!r} is in training ({places(roles['training'])}) and in test "
                f"({places(roles['test'])}): a test on it would flatter"
            )
            yield error("leakage", text)


def role_of(line: Line) -> str:
    """`test`, or `training`: an image whose split is empty is trained on."""
    return "test" if line["split"] == "test" else "training"


def unit(line: Line) -> tuple[str, str]:
    """What must not be in training and test at once, and its name; empty if nothing is known."""
    for kind in ("flask", "group"):
        if line[kind]:
            return kind, line[kind]
    return ("field", field_name(line)) if line["field"] else ("", "")


def field_name(line: Line) -> str:
    """A field's name in the whole data set: it is one of its flask, else of its line and folder."""
    if line["flask"]:
        return f"{line['flask']}|{line['field']}"
    folders = PurePosixPath(line["path"]).parent.parts
    where = (name for name in folders if name != line["cell_line"])
    return "|".join((line["cell_line"], *where, line["field"]))


@dataclass(frozen=True, slots=True)
class Copies:
    """Images whose files have the same bytes, and in which respects they are said to differ."""

    lines: tuple[Line, ...]
    differ: tuple[str, ...]

    @property
    def text(self) -> str:
        """One sentence."""
        differ = f", yet differ in {' and '.join(self.differ)}" if self.differ else ""
        shown = [repr(line["path"]) for line in self.lines[:LISTED]]
        more = f" and {len(self.lines) - LISTED} more" if len(self.lines) > LISTED else ""
        return f"{', '.join(shown)}{more} are the same file (equal SHA-256){differ}: keep one"


def copies(lines: Iterable[Line], sha256s: Iterable[str]) -> Iterator[Copies]:
    """The images that occur more than once; those that contradict each other first."""
    same: dict[str, dict[str, Line]] = defaultdict(dict)
    for line, sha256 in zip(lines, sha256s, strict=True):
        if sha256:
            same[sha256].setdefault(line["path"], line)
    found = [_copies(tuple(mine.values())) for mine in same.values() if len(mine) > 1]
    yield from sorted(found, key=lambda one: not one.differ)


def _copies(lines: tuple[Line, ...]) -> Copies:
    respects = {
        "cell line": {line["cell_line"] for line in lines},
        "group": {line["group"] or line["flask"] or line["field"] for line in lines},
        "split": {role_of(line) for line in lines},
    }
    return Copies(lines, tuple(name for name, values in respects.items() if len(values) > 1))
