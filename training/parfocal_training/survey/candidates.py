"""The images that may be shown: crops of a crop set and whole frames of a data set."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from parfocal.types import Gray
from parfocal_training.cropset import CropRow, CropSet
from parfocal_training.dataset import Row
from parfocal_training.errors import UsageError


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One image that may be shown; `at` is its place in the crop set or the list of frames.

    `sha256` is that of the raw crop or of the frame's file, `file_sha256` that of the image file
    it comes from. `field` is empty where nobody knows which cells were neighbours.
    """

    at: int
    cell_line: str
    flask: str
    pair: str
    field: str
    path: str
    sha256: str
    file_sha256: str

    @property
    def unit(self) -> str:
        """Its field, or its image file where fields are not known."""
        return self.field or self.path


def crop_candidates(crop_set: CropSet) -> tuple[Candidate, ...]:
    """Every crop of a set."""
    kind = crop_set.index.group_kind
    return tuple(
        _candidate(at, row.image, _field(row, kind), crop_sha256(crop), row.sha256)
        for at, (row, crop) in enumerate(zip(crop_set.index.rows, crop_set.crops, strict=True))
    )


def _field(row: CropRow, group_kind: str) -> str:
    """The field a crop comes from: as its row says, else its frame, else its group if that is one.

    Empty for a crop that somebody else has cut from who knows where.
    """
    image = row.image
    if image.field:
        return "|".join(filter(None, (image.flask, image.field)))
    if row.x_px is not None:
        return image.path
    return image.group if group_kind == "field" else ""


def _candidate(at: int, row: Row, field: str, sha256: str, file_sha256: str) -> Candidate:
    return Candidate(
        at=at,
        cell_line=row.cell_line,
        flask=row.flask,
        pair=row.pair,
        field=field,
        path=row.path,
        sha256=sha256,
        file_sha256=file_sha256,
    )


def frame_candidates(folder: Path, rows: Sequence[Row]) -> tuple[Candidate, ...]:
    """Every frame of a data set."""
    out = []
    for at, row in enumerate(rows):
        digest = hashlib.sha256((folder / row.path).read_bytes()).hexdigest()
        field = "|".join(filter(None, (row.flask, row.field))) if row.field else row.path
        out.append(_candidate(at, row, field, digest, digest))
    return tuple(out)


def of_classes(pool: Sequence[Candidate], classes: Sequence[str] | None) -> tuple[Candidate, ...]:
    """The images of two cell lines; None: the pool has only two.

    Raises
    ------
    UsageError
        A line that the pool lacks, or no choice among more than two.
    """
    there = sorted({c.cell_line for c in pool})
    strange = set(classes or ()) - set(there)
    if strange:
        raise UsageError(f"--classes: no {', '.join(sorted(strange))} in {', '.join(there)}")
    if not classes and len(there) != 2:
        raise UsageError(
            f"a survey has two classes, the set has {', '.join(there)}: give two as --classes"
        )
    return tuple(c for c in pool if c.cell_line in (classes or there))


def crop_sha256(crop: Gray) -> str:
    """SHA-256 of the grey levels of a raw crop (s, s) with its margin."""
    return hashlib.sha256(np.ascontiguousarray(crop).tobytes()).hexdigest()
