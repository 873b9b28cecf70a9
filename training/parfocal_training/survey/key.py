"""The key to a survey: which images are shown where, and what they truly are."""

import hashlib
from pathlib import Path
from typing import Literal, get_args

import msgspec

from parfocal_training.checkpoint import decoded
from parfocal_training.errors import DataError

Kind = Literal["within", "same-type", "across", "frames"]
Role = Literal["labelled", "unlabelled"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One image on the sheet; labelled ones are numbered within their class.

    `unit` is the field it comes from, or its image file where fields are not known.
    """

    role: Role
    number: int
    truth: str
    sha256: str
    file_sha256: str
    path: str
    unit: str
    at: int


class SheetPart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the survey, with the truth.

    `separated_by` is what labelled and unlabelled images never share (`none`: they share what
    `shared` lists); `notes` say what a reader of the scores must know.
    """

    number: int
    kind: Kind
    title: str
    classes: tuple[str, str]
    separated_by: str
    shared: tuple[str, ...]
    notes: tuple[str, ...]
    images: tuple[Shown, ...]

    def of(self, role: Role, truth: str | None = None) -> tuple[Shown, ...]:
        """The images of a role (and class) in the order of their numbers."""
        mine = [i for i in self.images if i.role == role and truth in (None, i.truth)]
        return tuple(sorted(mine, key=lambda image: image.number))


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `key.json`; `um_per_px`, `flat_field_um` and `masked` are the crops' own."""

    schema: Literal["parfocal.survey/1"] = "parfocal.survey/1"
    code_version: str
    data: str
    frames: str
    seed: int
    shown: Literal["normalized", "raw"]
    um_per_px: float
    flat_field_um: float
    masked: bool = False
    parts: tuple[SheetPart, ...]

    @property
    def sheet(self) -> str:
        """A short name of exactly these images in this order; answers carry it."""
        shown = [(i.role, i.number, i.truth, i.sha256) for p in self.parts for i in p.images]
        return hashlib.sha256(msgspec.json.encode(shown)).hexdigest()[:12]


def read_key(path: Path) -> Key:
    """The key in a file.

    Raises
    ------
    DataError
        There is no such file, or it holds something else.
    """
    try:
        text = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"'{path}' is no key: give key.json of a survey") from error
    return decoded(text, Key, path)
