"""Data sets: a folder of images and what `flasks.csv`, or its folders, say about them."""

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from parfocal_training.errors import DataError

SUFFIXES = frozenset({".tif", ".tiff", ".bmp", ".png", ".jpg", ".jpeg"})
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
TEXT_COLUMNS = ("flask", "field", "pair", "density", "passage", "day", "fluorescence", "split")

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


def read_rows(folder: Path) -> tuple[Row, ...]:
    """The images of a data set: from `flasks.csv` if there is one, else from a folder per class.

    Raises
    ------
    DataError
        No such folder, no images, or everything that is wrong with `flasks.csv` in one sentence.
    """
    if not folder.is_dir():
        raise DataError(f"no data set at '{folder}': it must be a folder of images")
    table = folder / "flasks.csv"
    rows = _from_table(folder, table) if table.is_file() else _from_folders(folder)
    if len({row.cell_line for row in rows}) < 2:
        raise DataError(
            f"'{folder}' holds {len(rows)} images of {len({row.cell_line for row in rows})} cell "
            "line(s), two are needed: list them in flasks.csv (path, cell_line) or make one folder "
            "of images for each cell line"
        )
    return rows


def _from_folders(folder: Path) -> tuple[Row, ...]:
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return tuple(
        Row(path=image.relative_to(folder).as_posix(), cell_line=one.name)
        for one in classes
        for image in sorted(one.rglob("*"))
        if image.suffix.lower() in SUFFIXES and image.is_file()
    )


def _from_table(folder: Path, table: Path) -> tuple[Row, ...]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [name.strip() for name in reader.fieldnames or ()]
            lines = [dict(zip(columns, line.values(), strict=False)) for line in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"flasks.csv is not a UTF-8 comma-separated table: {error}") from error
    _check_columns(columns)
    faults = [*_cell_faults(lines), *_path_faults(folder, lines)]
    if faults:
        shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
        raise DataError(f"flasks.csv cannot be used: {shown}")
    return tuple(_row(line) for line in lines)


def _check_columns(columns: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    unknown = [name for name in columns if name not in (*REQUIRED, *OPTIONAL)]
    parts = []
    if missing:
        parts.append(f"lacks the column(s) {', '.join(missing)}")
    if unknown:
        parts.append(f"has the unknown column(s) {', '.join(map(repr, unknown))}")
    if parts:
        raise DataError(
            f"flasks.csv {' and '.join(parts)}: it needs {', '.join(REQUIRED)} and may have "
            f"{', '.join(OPTIONAL)}"
        )


def _cell_faults(lines: Iterable[Mapping[str, object]]) -> Iterable[str]:
    for number, line in enumerate(lines, start=2):  # line 1 is the heading
        for name in REQUIRED:
            if not _text(line, name):
                yield f"line {number} has no {name}"
        scale = _text(line, "um_per_px")
        if scale and _positive(scale) is None:
            yield f"line {number} has um_per_px '{scale}', not a number of micrometres above 0"


def _path_faults(folder: Path, lines: Iterable[Mapping[str, object]]) -> Iterable[str]:
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=2):
        path = _text(line, "path")
        if not path:
            continue
        if path in seen:
            yield f"line {number} repeats '{path}' of line {seen[path]}"
        elif Path(path).is_absolute() or ".." in Path(path).parts:
            yield f"line {number} points outside the data set: '{path}'"
        elif not (folder / path).is_file():
            yield f"line {number} names '{path}', which does not exist"
        seen.setdefault(path, number)


def _text(line: Mapping[str, object], name: str) -> str:
    value = line.get(name)
    return value.strip() if isinstance(value, str) else ""


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def _row(line: Mapping[str, object]) -> Row:
    scale = _text(line, "um_per_px")
    return Row(
        path=_text(line, "path"),
        cell_line=_text(line, "cell_line"),
        um_per_px=_positive(scale) if scale else None,
        **{name: _text(line, name) for name in TEXT_COLUMNS},
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


def grouped(
    rows: Iterable[Row], by: GroupBy = "auto", name_rule: str | None = None
) -> tuple[tuple[Row, ...], GroupKind]:
    """Rows with their group, and what kind of thing a group is.

    `auto` takes the flask if every row has one, else the field, else what `name_rule` (its first
    parenthesis; default `NAME_RULE`) finds in every file name. Groups by name are kept apart
    between cell lines. A single image is a group only when asked: cells of one field are alike,
    and a test on them would flatter.

    Raises
    ------
    DataError
        The rows do not have what `by` asks for, or `auto` finds nothing.
    """
    rows = tuple(rows)
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
        return "|".join(filter(None, (row.flask, row.field))) if row.field else ""
    if kind == "image":
        return row.path
    try:
        found = re.search(name_rule, Path(row.path).name)
        return f"{row.cell_line}|{found.group(1)}" if found else ""
    except (re.error, IndexError) as error:
        raise DataError(
            f"--group-regex '{name_rule}' is not a regular expression with one parenthesis: {error}"
        ) from error
