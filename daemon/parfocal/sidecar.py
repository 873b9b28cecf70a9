"""What people declare beside their images: one file for an image, one for a folder.

`frame1.tif.toml` beside `frame1.tif`, and `parfocal-folder.toml` in a folder or any of its parents
up to the watched root. The nearest wins, key by key:

    um_per_px = 0.44
    acquired_at = 2026-11-23T10:15:00Z     # sidecar only

    [flask]
    id = "HeLa-F12"
    cell_line = "HeLa"
    passage = 7

The sidecar of a frame that parfocal's camera child kept also says so, which session of the stage
it was taken in ("" when no flask was open), and where the frame lies on earlier ones of its flask,
of the same size, with a table for each (`DeclaredOverlap`):

    source = "camera"
    session = "6f1c0f0e-3a07-4a55-9a2e-0d1f7f3c9f10"

    [[overlap]]
    image = "20261123T101455.120000Z.png"  # as a path from here
    offset_px = [-812.4, 3.1]
    turn_rad = 0.0021
    share = 0.49
    confidence = 0.93
"""

import os
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

FOLDER_FILE = "parfocal-folder.toml"
MAX_BYTES = 64 * 1024
MAX_PASSAGE = 100_000


class SidecarError(Exception):
    """A declaration that cannot be used; the message names file and fault."""


class DeclaredFlask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which flask an image shows."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    cell_line: str | None = None
    passage: Annotated[int, msgspec.Meta(ge=0, le=MAX_PASSAGE)] | None = None
    note: str | None = None


Pixels = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class DeclaredOverlap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an image lies on an earlier one, `image`, named by its path from this one's folder.

    A point p (x right, y down, pixels) is at R p + `offset_px` of the earlier image, R turning by
    `turn_rad` from x to y. `share` of the frame lies there; `confidence` is the correlation of the
    two where they meet, 1 when they are the same.
    """

    image: Annotated[str, msgspec.Meta(min_length=1)]
    offset_px: tuple[Pixels, Pixels]
    turn_rad: Annotated[float, msgspec.Meta(ge=-4, le=4)]
    share: Share
    confidence: Share


class _Declaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    um_per_px: float | None = None
    acquired_at: datetime | None = None
    source: Literal["camera"] | None = None
    session: str | None = None
    flask: DeclaredFlask | None = None
    overlap: Any = None


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What the declarations around one image say together; None where they say nothing.

    `code`: a QR code in the image names the flask, or closes the one on the stage.
    `session` is the one that was on the stage when a camera frame was taken, "" for none.
    `overlap_fault` says why the sidecar's overlaps are not understood; then `overlaps` is empty,
    and the image is one like any other.
    """

    um_per_px: float | None = None
    um_per_px_from: Literal["sidecar", "folder"] | None = None
    acquired_at: str | None = None
    source: Literal["camera"] | None = None
    session: str | None = None
    flask: DeclaredFlask | None = None
    code: Literal["flask", "close"] | None = None
    overlaps: tuple[DeclaredOverlap, ...] = ()
    overlap_fault: str | None = None


def declared(image: str, root: str) -> Declared:
    """Everything declared for an image, from its sidecar and the folders up to the root.

    Raises
    ------
    SidecarError
        A declaration exists but is not understood: a wrong scale must never be guessed around.
    """
    found = [(path, _read(path)) for path in _places(image, root)]
    scale = next(((d.um_per_px, p) for p, d in found if d and d.um_per_px is not None), None)
    whose: Literal["sidecar", "folder"] = (
        "folder" if scale and scale[1].endswith(FOLDER_FILE) else "sidecar"
    )
    flask = next((d.flask for _, d in found if d and d.flask), None)
    own = found[0][1] or _Declaration()
    overlaps, overlap_fault = _overlaps(own.overlap, found[0][0])
    return Declared(
        um_per_px=scale[0] if scale else None,
        um_per_px_from=whose if scale else None,
        acquired_at=_utc(own.acquired_at, found[0][0]) if own.acquired_at else None,
        source=own.source,
        session=own.session,
        flask=flask,
        overlaps=overlaps,
        overlap_fault=overlap_fault,
    )


def _overlaps(table: Any, path: str) -> tuple[tuple[DeclaredOverlap, ...], str | None]:
    """The overlaps, or why there are none."""
    try:
        return msgspec.convert([] if table is None else table, tuple[DeclaredOverlap, ...]), None
    except msgspec.ValidationError as error:
        return (), f"[[overlap]] of {path} is not understood: {error}"


def _places(image: str, root: str) -> list[str]:
    folder, top = Path(image).parent, Path(root)
    parents = [folder, *folder.parents] if folder.is_relative_to(top) else [folder]
    inside = [p for p in parents if p.is_relative_to(top)] or [folder]
    return [f"{image}.toml", *(str(p / FOLDER_FILE) for p in inside)]


def _read(path: str) -> _Declaration | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SidecarError(f"{path} cannot be read: {error.strerror}") from error
    try:
        with open(fd, "rb") as file:
            text = file.read(MAX_BYTES + 1)
            if len(text) > MAX_BYTES:
                raise SidecarError(f"{path} is larger than {MAX_BYTES} bytes")
            declaration = msgspec.convert(tomllib.loads(text.decode()), _Declaration)
    except OSError as error:
        raise SidecarError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # of TOML, of its text, of its values
        raise SidecarError(f"{path} is not understood: {error}") from error
    if declaration.um_per_px is not None and not 0.01 <= declaration.um_per_px <= 100:
        raise SidecarError(
            f"{path}: um_per_px is {declaration.um_per_px}, not between 0.01 and 100"
        )
    return declaration


def _utc(moment: datetime, path: str) -> str:
    """The moment in UTC; one without a zone is in this machine's."""
    try:
        return moment.astimezone(UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError) as error:
        raise SidecarError(f"{path}: acquired_at is {moment}, which no calendar holds") from error
