"""The directories of a TIFF: tag values of one, and how many there are.

Classic and big files of either byte order. Every offset is checked against the length of the file:
a value that lies beyond it makes the file incomplete.
"""

import struct

from parfocal.decoding import ImageError, take
from parfocal.reasons import FileReason

MAX_PAGES = 4096
"""Pages are counted up to here: a count for a note is not worth more."""

MAX_VALUES = 2**20
"""Values of one tag; a 64 Mpx image of one-row strips has 8,000."""

TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 16: "Q"}
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 16: 8}

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 256, 257, 258, 259, 262, 270
OFFSETS, CHANNELS, ROWS, COUNTS, X_RESOLUTION, Y_RESOLUTION = 273, 277, 278, 279, 282, 283
PLANAR, UNIT, PREDICTOR, COLOUR_MAP = 284, 296, 317, 320
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, SAMPLE_FORMAT = 322, 323, 324, 325, 339
KNOWN = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, OFFSETS, CHANNELS, ROWS, COUNTS}
    | {X_RESOLUTION, Y_RESOLUTION, PLANAR, UNIT, PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT}
    | {TILE_OFFSETS, TILE_COUNTS, SAMPLE_FORMAT}
)

Tags = dict[int, tuple[int, ...] | bytes]


def first_offset(data: bytes, order: str, big: bool) -> int:
    """Where the first directory lies; 0 while a writer has not finished."""
    at, form = (8, "Q") if big else (4, "I")
    (offset,) = struct.unpack(order + form, take(data, at, struct.calcsize(form)))
    if offset == 0:
        raise ImageError(FileReason.INCOMPLETE, "TIFF whose directory is not yet written")
    return int(offset)


def directory(data: bytes, order: str, big: bool, offset: int) -> tuple[int, int, int]:
    """(start of entries, number of entries, offset of the next directory or 0)."""
    form, entry, link = ("Q", 20, "Q") if big else ("H", 12, "I")
    (n,) = struct.unpack(order + form, take(data, offset, struct.calcsize(form)))
    start = offset + struct.calcsize(form)
    (following,) = struct.unpack(order + link, take(data, start + n * entry, struct.calcsize(link)))
    return start, n, following


def read_tags(data: bytes, order: str, big: bool, offset: int) -> tuple[Tags, int]:
    """Values of the known tags of one directory, and where the next one lies."""
    start, n, following = directory(data, order, big, offset)
    if n > MAX_VALUES:
        raise ImageError(FileReason.CORRUPT, f"TIFF directory of {n} entries")
    form, entry, inline = ("HHQ", 20, 8) if big else ("HHI", 12, 4)
    tags: Tags = {}
    for at in range(start, start + n * entry, entry):
        tag, kind, count = struct.unpack(order + form, data[at : at + entry - inline])
        if tag not in KNOWN or kind not in TYPES or count == 0:
            continue
        size = count * SIZES[kind]
        place = at + entry - inline
        if size > inline:
            (place,) = struct.unpack(order + form[-1], data[place : place + inline])
        tags[tag] = read_values(take(data, place, size), order, kind, count)
    return tags, following


def read_values(raw: bytes, order: str, kind: int, count: int) -> tuple[int, ...] | bytes:
    """Numbers of one tag (a rational gives two), or its bytes if it is text."""
    if kind == 2:
        return raw
    if count > MAX_VALUES:
        raise ImageError(FileReason.CORRUPT, f"TIFF tag of {count} values")
    return struct.unpack(f"{order}{count * len(TYPES[kind])}{TYPES[kind][0]}", raw)


def count_pages(data: bytes, order: str, big: bool, following: int) -> int:
    """Number of directories in the chain; a loop or `MAX_PAGES` ends it."""
    seen: set[int] = set()
    while following and following not in seen and len(seen) + 1 < MAX_PAGES:
        seen.add(following)
        _, _, following = directory(data, order, big, following)
    return len(seen) + 1


def number(tags: Tags, tag: int, default: int) -> int:
    """The first value of a numeric tag."""
    values = tags.get(tag, ())
    return values[0] if isinstance(values, tuple) and values else default


def numbers(tags: Tags, tag: int) -> tuple[int, ...]:
    """All values of a numeric tag; none if it is absent."""
    values = tags.get(tag, ())
    return values if isinstance(values, tuple) else ()


def text(tags: Tags) -> str:
    """The image description, empty if there is none."""
    raw = tags.get(DESCRIPTION, b"")
    return raw.split(b"\0")[0].decode("utf-8", "replace") if isinstance(raw, bytes) else ""
