"""People's answers, read from CSV files with every fault named."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from parfocal_training.errors import DataError
from parfocal_training.survey.key import Key

COLUMNS = ("person", "years", "part", "number", "answer")
SHOWN_FAULTS = 8


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """One person's answers to all parts, in the order of the numbers; places in `part.classes`."""

    name: str
    years: float | None
    answers: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One answer as it stands in a file."""

    file: str
    line: int
    person: str
    years: str
    part: str
    number: str
    answer: str

    @property
    def at(self) -> str:
        """Where it stands."""
        return f"{self.file}, line {self.line}"

    @property
    def who(self) -> str:
        """The person, however the name is spaced and capitalized."""
        return " ".join(self.person.split()).casefold()


def read_answers(key: Key, paths: Sequence[Path]) -> tuple[Person, ...]:
    """Everybody's answers, complete.

    Raises
    ------
    DataError
        Everything that is wrong with the files, each with its file and line.
    """
    lines: list[Line] = []
    faults: list[str] = []
    for path in paths:
        mine, wrong = _lines(path, key.sheet)
        lines += mine
        faults += wrong
    by_person = _by_person(lines)
    for mine in by_person:
        faults += [*_person_faults(mine), *_answer_faults(key, mine), *_gaps(key, mine)]
    if faults:
        more = len(faults) - SHOWN_FAULTS
        shown = "; ".join(faults[:SHOWN_FAULTS]) + (f"; and {more} more" if more > 0 else "")
        raise DataError(f"the answers cannot be scored: {shown}")
    return tuple(_person(key, mine) for mine in by_person)


def _by_person(lines: Sequence[Line]) -> list[list[Line]]:
    persons: dict[str, list[Line]] = {}
    for line in lines:
        persons.setdefault(line.who, []).append(line)
    return list(persons.values())


def _lines(path: Path, sheet: str) -> tuple[list[Line], list[str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        return [], [f"{path} is not UTF-8 text"]
    rows = text.splitlines()
    head = rows[0] if rows else ""
    reader = csv.DictReader(rows, delimiter=";" if head.count(";") > head.count(",") else ",")
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        return [], [f"{path}, line 1 has no column {', '.join(missing)}"]
    lines: list[Line] = []
    faults: list[str] = []
    for row in reader:
        cells = {name: (row[name] or "").strip() for name in columns}
        lines.append(Line(str(path), reader.line_num, *(cells[name] for name in COLUMNS)))
        other = cells.get("sheet") or sheet
        if other != sheet and not faults:  # one line says it for the whole file
            faults.append(
                f"{path}, line {reader.line_num} answers survey {other}, the key is of {sheet}"
            )
    return lines, faults or ([] if lines else [f"{path} holds no answers"])


def _person_faults(mine: Sequence[Line]) -> Iterator[str]:
    first = mine[0]
    if not first.who:
        yield f"{first.at} names no person"
    files = list(dict.fromkeys(line.file for line in mine))
    if len(files) > 1:
        yield f"{' and '.join(files)} are both answers of '{first.person}'"
    for line in mine:
        if line.years != first.years:
            yield f"{line.at} gives '{first.person}' {line.years or 'no'} years, not {first.years}"
            return
    if first.years and _years(first.years) is None:
        yield f"{first.at}: years '{first.years}' is not a number from 0 on"


def _years(text: str) -> float | None:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _answer_faults(key: Key, mine: Sequence[Line]) -> Iterator[str]:
    parts = {str(part.number): part for part in key.parts}
    seen: dict[tuple[str, str, str], Line] = {}
    for line in mine:
        part = parts.get(line.part)
        if part is None:
            yield f"{line.at}: part '{line.part}' is none of {', '.join(parts)}"
            continue
        if line.number not in {str(image.number) for image in part.of("unlabelled")}:
            yield f"{line.at}: part {line.part} has no number '{line.number}'"
        if line.answer not in part.classes:
            yield f"{line.at}: answer '{line.answer}' is neither {' nor '.join(part.classes)}"
        before = seen.setdefault((line.file, line.part, line.number), line)
        if before is not line:
            yield f"{line.at}: part {line.part} number {line.number} is on line {before.line} too"


def _gaps(key: Key, mine: Sequence[Line]) -> Iterator[str]:
    given = {(line.part, line.number) for line in mine}
    files = " and ".join(dict.fromkeys(line.file for line in mine))
    for part in key.parts:
        wanted = [str(image.number) for image in part.of("unlabelled")]
        missing = [number for number in wanted if (str(part.number), number) not in given]
        if missing:
            listed = "all numbers" if missing == wanted else f"number {', '.join(missing)}"
            last = max(line.line for line in mine)
            yield (
                f"{files}, up to line {last}: {listed} of part {part.number} missing for "
                f"'{mine[0].person}'"
            )


def _person(key: Key, mine: Sequence[Line]) -> Person:
    said = {(line.part, line.number): line.answer for line in mine}
    return Person(
        name=" ".join(mine[0].person.split()),
        years=_years(mine[0].years),
        answers=tuple(
            tuple(
                part.classes.index(said[str(part.number), str(image.number)])
                for image in part.of("unlabelled")
            )
            for part in key.parts
        ),
    )
