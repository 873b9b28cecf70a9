"""What can be wrong with a line of `flasks.csv`, each fault with a stable code and a sentence."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

REQUIRED = ("path", "cell_line")
OPTIONAL = (
    "flask",
    "field",
    "pair",
    "density",
    "passage",
    "day",
    "um_per_px",
    "fluorescence",
    "split",
)
SPLITS = ("", "train", "test")
MIXED = "mixed"
"""Cell line of every image of a flask that holds several lines on purpose."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong: a stable code, a sentence, and where if it is in one place.

    An `error` must be mended before crops are cut; a `warning` says what a training on this data
    set may learn, or cannot show. `line` counts the lines of `flasks.csv`, the heading being 1.
    """

    code: str
    text: str
    severity: Literal["error", "warning"]
    line: int | None = None
    path: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """What is said of one image, as text; `number` is None where no table says it."""

    cells: Mapping[str, str]
    number: int | None = None

    def __getitem__(self, name: str) -> str:
        return self.cells.get(name, "")

    @property
    def place(self) -> str:
        """Where a person finds it."""
        return f"line {self.number}" if self.number else repr(self["path"])

    def fault(self, code: str, what: str) -> Fault:
        """An error of this image; `what` goes on after the place."""
        text = f"{self.place} {what}"
        return Fault(code=code, text=text, severity="error", line=self.number, path=self["path"])


def error(code: str, text: str) -> Fault:
    """An error that is in no single place."""
    return Fault(code=code, text=text, severity="error")


def column_faults(columns: Sequence[str]) -> Iterator[Fault]:
    """The heading of `flasks.csv`: missing, unknown and repeated columns."""
    missing = [name for name in REQUIRED if name not in columns]
    unknown = [name for name in columns if name not in (*REQUIRED, *OPTIONAL)]
    parts = []
    if missing:
        parts.append(f"lacks the column(s) {', '.join(missing)}")
    if unknown:
        parts.append(f"has the unknown column(s) {', '.join(map(repr, unknown))}")
    if parts:
        divided = any(mark in name for name in unknown for mark in ";\t")
        hint = " (columns are divided by commas, not by semicolons or tabs)" if divided else ""
        yield error(
            "bad_columns",
            f"flasks.csv {' and '.join(parts)}{hint}: it needs {', '.join(REQUIRED)} and may have "
            f"{', '.join(OPTIONAL)}",
        )
    for name in sorted({name for name in columns if columns.count(name) > 1}):
        yield error("bad_columns", f"flasks.csv has the column {name!r} twice: leave one")


def table_faults(folder: Path, lines: Sequence[Line]) -> Iterator[Fault]:
    """What is wrong with single lines, and with the files that they name."""
    yield from _path_faults(folder, lines)
    for line in lines:
        yield from _cell_faults(line)
        yield from _fluorescence_faults(folder, line)


def _path_faults(folder: Path, lines: Iterable[Line]) -> Iterator[Fault]:
    seen: dict[str, Line] = {}
    for line in lines:
        path = line["path"]
        if not path:
            continue
        same = str(PurePosixPath(path))
        if same in seen:
            yield line.fault("repeated_path", f"repeats {path!r} of {seen[same].place}")
        elif _is_outside(path):
            yield line.fault("outside", f"points outside the data set: {path!r}")
        elif not os.path.isfile(folder / path):  # a path that cannot be one is no file either
            hint = ": folders are divided by /" if "\\" in path else ""
            yield line.fault("missing_file", f"names {path!r}, which does not exist{hint}")
        seen.setdefault(same, line)


def _is_outside(path: str) -> bool:
    return Path(path).is_absolute() or ".." in Path(path).parts


def is_there(folder: Path, path: str) -> bool:
    """Whether a path names a file inside the data set."""
    return bool(path) and not _is_outside(path) and os.path.isfile(folder / path)


def _cell_faults(line: Line) -> Iterator[Fault]:
    for name in REQUIRED:
        if not line[name]:
            yield line.fault("no_value", f"has no {name}")
    scale, passage, split = line["um_per_px"], line["passage"], line["split"]
    if scale and positive(scale) is None:
        what = f"has um_per_px {scale!r}, not a number of micrometres above 0"
        yield line.fault("bad_number", what)
    number = as_number(passage)
    if number is not None and (number < 0 or number % 1):
        what = f"has passage {passage!r}, not a whole number from 0 on"
        yield line.fault("bad_number", what)
    if split not in SPLITS:
        yield line.fault("bad_split", f"has split {split!r}: train, test or nothing")


def _fluorescence_faults(folder: Path, line: Line) -> Iterator[Fault]:
    path = line["fluorescence"]
    if not path:
        return
    if _is_outside(path):
        yield line.fault("outside", f"has its fluorescence outside the data set: {path!r}")
    elif not os.path.isfile(folder / path):
        what = f"names the fluorescence {path!r}, which does not exist"
        yield line.fault("fluorescence_missing", what)


def as_number(text: str) -> float | None:
    """The number that a text is; None if it is none, or not finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def positive(text: str) -> float | None:
    """A finite number above 0, or None."""
    value = as_number(text)
    return value if value is not None and value > 0 else None
