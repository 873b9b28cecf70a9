"""A phenotype model on disk: `phenotypes.json`, and the names that a person gives."""

import csv
import io
import unicodedata
from pathlib import Path
from typing import Literal

import msgspec

from parfocal.card import Phenotypes
from parfocal.phenotypes import UNLIKE_ANY, default_names
from parfocal_training.checkpoint import decoded
from parfocal_training.errors import DataError, UsageError
from parfocal_training.phenotypes.results import Results
from parfocal_training.write import write_whole

LONGEST_NAME = 40

MODEL, RESULTS, CELLS = "phenotypes.json", "phenotypes-figures.json", "cells.csv"


class PhenotypeModel(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `phenotypes.json`: what a bundle takes over, and what it was made from."""

    schema: Literal["parfocal.phenotypes/1"] = "parfocal.phenotypes/1"
    created_at: str
    code_version: str
    network: str
    weights_sha256: str
    crops_sha256: str
    data: str
    seed: int
    phenotypes: Phenotypes


def write_model(model: PhenotypeModel, folder: Path) -> None:
    """Write `phenotypes.json`, whole or not at all."""
    text = msgspec.json.format(msgspec.json.encode(model), indent=1)
    write_whole(folder / MODEL, text)


def read_model(folder: Path) -> PhenotypeModel:
    """The phenotype model of a folder.

    Raises
    ------
    DataError
        None there, or a damaged one.
    """
    return decoded(_text(folder / MODEL), PhenotypeModel, folder / MODEL)


def write_results(results: Results, folder: Path) -> None:
    """Write `phenotypes-figures.json`; NaN becomes null."""
    text = msgspec.json.format(msgspec.json.encode(results), indent=1)
    write_whole(folder / RESULTS, text)


def read_results(folder: Path) -> Results:
    """The figures beside a phenotype model.

    Raises
    ------
    DataError
        None there, or damaged ones.
    """
    return decoded(_text(folder / RESULTS), Results, folder / RESULTS)


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"'{path.parent}' holds no phenotypes (no {path.name}): make them with "
            "parfocal-train phenotypes NETWORK CROPS -o OUT"
        ) from error


def is_named(folder: Path) -> bool:
    """Whether a person gave names to the phenotypes of this folder."""
    if not (folder / MODEL).exists():
        return False
    known = read_model(folder).phenotypes
    return known.named_by != "" or known.names != default_names(len(known.names))


def named(known: Phenotypes, pairs: list[str], by: str) -> Phenotypes:
    """Phenotypes with the names that `N=NAME` pairs give; the others keep theirs.

    Whoever gave names before stays among the authors.

    Raises
    ------
    UsageError
        A pair that names no phenotype, or a name that cannot be used.
    """
    names = list(known.names)
    for pair in pairs:
        number, _, name = pair.partition("=")
        if not number.isascii() or not number.isdecimal() or not 1 <= int(number) <= len(names):
            raise UsageError(
                f"--name takes N=NAME with N from 1 to {len(names)}, got '{pair}': look at "
                "montage.png for the numbers"
            )
        names[int(number) - 1] = unicodedata.normalize("NFC", name.strip())
    _check_names(names, by)
    authors = [known.named_by] if known.named_by else []
    if by and by not in known.named_by.split(", "):
        authors.append(by)
    return msgspec.structs.replace(known, names=tuple(names), named_by=", ".join(authors))


def _check_names(names: list[str], by: str) -> None:
    for name in (*names, *([by] if by else [])):
        if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
            raise UsageError(
                f"a name has 1 to {LONGEST_NAME} printable characters, got {name!r}: give another"
            )
    folded = [name.casefold() for name in names]
    if UNLIKE_ANY in folded:
        raise UsageError(f"'{UNLIKE_ANY}' is what cells beyond every limit are called")
    twice = sorted({name for name, one in zip(names, folded, strict=True) if folded.count(one) > 1})
    if twice:
        raise UsageError(f"two phenotypes would be called '{twice[0]}': names must differ")


def renamed_cells(text: str, names: tuple[str, ...]) -> str:
    """`cells.csv` with these names in its column `name`."""
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow(row | {"name": names[int(row["phenotype"]) - 1]})
    return out.getvalue()
