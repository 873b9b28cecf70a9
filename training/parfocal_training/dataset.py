"""Data sets: a folder of images and what `flasks.csv`, or its folders, say about them."""

import csv
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from parfocal_training.dataset_contradictions import field_name, flask_faults
from parfocal_training.dataset_faults import (
    MIXED,
    REQUIRED,
    Fault,
    Line,
    column_faults,
    error,
    positive,
    table_faults,
)
from parfocal_training.errors import DataError

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".tif", ".tiff", ".bmp", ".png", ".jpg", ".jpeg"})
TEXT_COLUMNS = ("flask", "field", "pair", "density", "passage", "day", "fluorescence", "split")
NAMED = 20
"""Faults that one message names; `parfocal-train dataset` lists them all."""

NAME_RULE = r"(.*?-\d{6})"
"""Field of view in a file name of the paper's authors: `293A-000005.j-4-8.jpg` is `293A-000005`."""

GroupBy = Literal["auto", "flask", "field", "name", "image"]
GroupKind = Literal["flask", "field", "image"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One image of a data set. Empty text and None mean that nobody said.

    `path` is relative to the data set's folder. `group` is what must never be split between
    training and test; it is assigned by `grouped`.
    """

    path: str
    cell_line: str
    flask: str = ""
    field: str = ""
    pair: str = ""
    density: str = ""
    passage: str = ""
    day: str = ""
    um_per_px: float | None = None
    fluorescence: str = ""
    split: str = ""
    group: str = ""


ROW_FIELDS = tuple(Row.__struct_fields__)


def read_rows(folder: Path) -> tuple[Row, ...]:
    """The images of a data set: from `flasks.csv` if there is one, else from a folder per class.

    Raises
    ------
    DataError
        No such folder, no images, or everything that is wrong with `flasks.csv` in one sentence.
        What only the content of the images shows is left to who reads them.
    """
    rows, faults = listed(folder)
    errors = [fault.text for fault in faults if fault.severity == "error"]
    if errors:
        more = len(errors) - NAMED
        hint = f"; and {more} more: parfocal-train dataset lists them all" if more > 0 else ""
        table = folder / "flasks.csv"
        named = table if table.is_file() else folder
        raise DataError(f"'{named}' cannot be used: {'; '.join(errors[:NAMED])}{hint}")
    return rows


def listed(folder: Path) -> tuple[tuple[Row, ...], tuple[Fault, ...]]:
    """The images of a data set as far as they can be read, and every fault of the listing.

    Raises
    ------
    DataError
        No such folder.
    """
    if not folder.is_dir():
        raise DataError(f"no data set at '{folder}': it must be a folder of images")
    table = folder / "flasks.csv"
    if not table.is_file():
        rows = _from_folders(folder)
        return rows, _too_few_lines(rows)
    try:
        columns, lines, faults = _parsed(table)
    except (UnicodeDecodeError, csv.Error) as fault:
        text = f"flasks.csv is not a UTF-8 comma-separated table: {fault}"
        return (), (error("not_a_table", text),)
    faults.extend(column_faults(columns))
    if not set(REQUIRED) <= set(columns):
        return (), tuple(faults)
    faults.extend((*table_faults(folder, lines), *flask_faults(lines)))
    rows = tuple(_row(line) for line in lines)
    return rows, (*faults, *_too_few_lines(rows))


def _from_folders(folder: Path) -> tuple[Row, ...]:
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return tuple(
        Row(path=image.relative_to(folder).as_posix(), cell_line=one.name)
        for one in classes
        for image in sorted(one.rglob("*"))
        if image.suffix.lower() in SUFFIXES and image.is_file()
    )


def _parsed(table: Path) -> tuple[list[str], list[Line], list[Fault]]:
    """The columns and lines of a table, and the lines that are longer than the heading."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        columns = [name.strip() for name in next(reader, [])]
        lines, faults = [], []
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            cells = {name: text.strip() for name, text in zip(columns, values, strict=False)}
            line = Line(cells, reader.line_num)
            lines.append(line)
            if any(text.strip() for text in values[len(columns) :]):
                what = f"has {len(values)} cells under {len(columns)} columns: quote its commas"
                faults.append(line.fault("too_many_cells", what))
    return columns, lines, faults


def _too_few_lines(rows: Sequence[Row]) -> tuple[Fault, ...]:
    lines = {row.cell_line for row in rows if row.cell_line}
    if len(lines) > 1:
        return ()
    listed = "list them in flasks.csv (path, cell_line) or make one folder of images for each line"
    if lines:
        return (
            Fault(
                code="one_cell_line",
                severity="warning",
                text=f"it holds {len(rows)} images of 1 cell line: enough to cluster its cells, "
                f"but two are needed to tell lines apart: {listed}",
            ),
        )
    return (error("no_cell_line", f"it holds no images of a cell line: {listed}"),)


def lines_of(rows: Iterable[Row]) -> tuple[Line, ...]:
    """Rows as lines that can be checked once more, with their groups."""
    return tuple(Line({name: str(getattr(row, name) or "") for name in ROW_FIELDS}) for row in rows)


def _row(line: Line) -> Row:
    return Row(
        path=line["path"],
        cell_line=line["cell_line"],
        um_per_px=positive(line["um_per_px"]),
        **{name: line[name] for name in TEXT_COLUMNS},
    )


def renamed(rows: Iterable[Row], names: Mapping[str, str]) -> tuple[Row, ...]:
    """Rows with their cell lines under other names.

    Raises
    ------
    DataError
        A name to be replaced occurs nowhere.
    """
    rows = tuple(rows)
    present = {row.cell_line for row in rows}
    strange = sorted(set(names) - present)
    if strange:
        raise DataError(
            f"--class-names names {', '.join(strange)}, but the data set has "
            f"{', '.join(sorted(present))}"
        )
    return tuple(
        msgspec.structs.replace(row, cell_line=names.get(row.cell_line, row.cell_line))
        for row in rows
    )


def without_mixed(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Rows whose cells are of one line, with a warning of those left out; all if there is no other.

    Nobody knows the line of a cell in a mixed flask: it is no example of one, and `mixed` no class.
    """
    rows = tuple(rows)
    pure = tuple(row for row in rows if row.cell_line != MIXED)
    if not pure or len(pure) == len(rows):
        return rows
    log.warning(
        "%d images of mixed flasks are left out, for nobody knows the line of their cells: "
        "parfocal-train experiment mixed takes them as they are",
        len(rows) - len(pure),
    )
    return pure


def grouped(
    rows: Iterable[Row], by: GroupBy = "auto", name_rule: str | None = None
) -> tuple[tuple[Row, ...], GroupKind]:
    """Rows of one cell line each with their group, and what kind of thing a group is.

    `auto` takes the flask if every row has one, else the field, else what `name_rule` (its first
    parenthesis; default `NAME_RULE`) finds in every file name. A field is one of its flask, or,
    where flasks are not known, of its line and folder; groups by name are kept apart between cell
    lines. A single image is a group only when asked: cells of one field are alike, and a test on
    them would flatter.

    Raises
    ------
    DataError
        The rows do not have what `by` asks for, or `auto` finds nothing.
    """
    rows = without_mixed(rows)
    wanted = ("name" if name_rule else by) if by == "auto" else by
    kinds = ("flask", "field", "name") if wanted == "auto" else (wanted,)
    for kind in kinds:
        keys = [_group(row, kind, name_rule or NAME_RULE) for row in rows]
        if all(keys):
            labelled = tuple(
                msgspec.structs.replace(row, group=key) for row, key in zip(rows, keys, strict=True)
            )
            return labelled, "field" if kind == "name" else kind  # type: ignore[return-value]
        without = [row.path for row, key in zip(rows, keys, strict=True) if not key]
    raise DataError(
        f"no group can be derived for {len(without)} of {len(rows)} images (first: "
        f"'{without[0]}'): give flasks.csv a column flask or field, or --group-regex with a "
        "parenthesis round the part of the file name that tells the field, or accept "
        "--group-by image, which lets cells of one field be in training and test"
    )


def _group(row: Row, kind: str, name_rule: str) -> str:
    if kind == "flask":
        return row.flask
    if kind == "field":
        return field_name(lines_of([row])[0]) if row.field else ""
    if kind == "image":
        return row.path
    try:
        found = re.search(name_rule, Path(row.path).name)
        return f"{row.cell_line}|{found.group(1)}" if found else ""
    except (re.error, IndexError) as error:
        raise DataError(
            f"--group-regex '{name_rule}' is not a regular expression with one parenthesis: {error}"
        ) from error
