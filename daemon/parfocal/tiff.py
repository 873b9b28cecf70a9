"""TIFF: the first page of a classic or big file of either byte order.

The header is read strictly: every strip or tile that it declares must lie in the file.
Uncompressed and deflated pixels are laid out here, with memory bounded by the geometry; LZW,
PackBits and JPEG go through OpenCV after the same checks. Further pages are counted, not read.
"""

import re
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parfocal.decoding import ImageError, Limits, coloured, through_opencv, without_alpha
from parfocal.reasons import FileReason
from parfocal.tiffscale import scale
from parfocal.tifftags import (
    BITS,
    CHANNELS,
    COLOUR_MAP,
    COMPRESSION,
    COUNTS,
    HEIGHT,
    OFFSETS,
    PHOTOMETRIC,
    PLANAR,
    PREDICTOR,
    ROWS,
    SAMPLE_FORMAT,
    TILE_COUNTS,
    TILE_HEIGHT,
    TILE_OFFSETS,
    TILE_WIDTH,
    WIDTH,
    Tags,
    count_pages,
    first_offset,
    number,
    numbers,
    read_tags,
    text,
)
from parfocal.types import Frame, Pixels

NONE, LZW, JPEG, PACKBITS = 1, 5, 7, 32773
DEFLATE = {8, 32946}
OPENCV = {LZW, JPEG, PACKBITS}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6


@dataclass(frozen=True, slots=True)
class Page:
    """What the header says of the first page: `height` x `width` pixels in chunks.

    A chunk is a strip (`across` 1) or a tile; with `planes` > 1 each channel has its own chunks.
    """

    order: str  # "<" or ">"
    width: int
    height: int
    channels: int
    bits: int
    compression: int
    photometric: int
    predictor: int
    planes: int
    chunk_width: int
    chunk_height: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def across(self) -> int:
        """Chunks side by side."""
        return -(-self.width // self.chunk_width)

    @property
    def down(self) -> int:
        """Chunks one below the other, in one plane."""
        return -(-self.height // self.chunk_height)


def decode_tiff(data: bytes, limits: Limits) -> Frame:
    """The first page of a TIFF and its pixel size where the file tells one."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    tags, following = read_tags(data, order, big, first_offset(data, order, big))
    page = read_page(tags, order, limits, len(data))
    pages = count_pages(data, order, big, following)
    description = text(tags)
    told = re.search(r"^images=(\d{1,6})$", description, re.M)  # ImageJ: planes without own pages
    n = max(pages, int(told[1]) if told and description.startswith("ImageJ=") else 1)
    um_per_px, notes = scale(tags, description)
    if n > 1:
        notes = (*notes, f"first_page_of_{n}")
    return Frame(read_pixels(data, page, tags), um_per_px, notes)


def read_page(tags: Tags, order: str, limits: Limits, file_bytes: int) -> Page:
    """The page of these tags, of a kind that is read and with all its chunks in the file."""
    width, height = number(tags, WIDTH, 0), number(tags, HEIGHT, 0)
    channels = number(tags, CHANNELS, 1)
    limits.check(width, height, max(channels, 1))
    tiled = TILE_OFFSETS in tags
    chunk_width = number(tags, TILE_WIDTH, 0) if tiled else width
    chunk_height = (
        number(tags, TILE_HEIGHT, 0) if tiled else min(number(tags, ROWS, height), height)
    )
    limits.check(chunk_width, chunk_height, channels)
    page = Page(
        order=order,
        width=width,
        height=height,
        channels=channels,
        bits=number(tags, BITS, 1),
        compression=number(tags, COMPRESSION, NONE),
        photometric=number(tags, PHOTOMETRIC, BLACK_IS_ZERO),
        predictor=number(tags, PREDICTOR, 1),
        planes=channels if number(tags, PLANAR, 1) == 2 else 1,
        chunk_width=chunk_width,
        chunk_height=chunk_height,
        offsets=numbers(tags, TILE_OFFSETS if tiled else OFFSETS),
        counts=numbers(tags, TILE_COUNTS if tiled else COUNTS),
    )
    check_kind(page, tags)
    limits.check(page.across * chunk_width, page.down * chunk_height, channels)
    check_chunks(page, file_bytes)
    return page


def check_kind(page: Page, tags: Tags) -> None:
    """Raise unless samples, colours and compression are of a kind that is read."""
    allowed = {WHITE_IS_ZERO: (1, 2), BLACK_IS_ZERO: (1, 2), RGB: (3, 4), PALETTE: (1,)}
    if page.compression == JPEG:
        allowed[YCBCR] = (3,)
    simple = page.photometric in (BLACK_IS_ZERO, RGB, YCBCR) and page.planes == 1
    faults = {
        f"{page.bits} bits": page.bits not in (8, 16) or len(set(numbers(tags, BITS))) > 1,
        "samples that are no unsigned integers": number(tags, SAMPLE_FORMAT, 1) != 1,
        f"{page.channels} channels of colour kind {page.photometric}": page.channels
        not in allowed.get(page.photometric, ()),
        f"compression {page.compression}": page.compression not in {NONE, *DEFLATE, *OPENCV}
        or (page.compression in OPENCV and not simple),
        f"predictor {page.predictor}": page.predictor not in (1, 2),
        "a palette of 16 bits": page.photometric == PALETTE and page.bits != 8,
    }
    for word, wrong in faults.items():
        if wrong:
            raise ImageError(FileReason.UNSUPPORTED, f"TIFF with {word}")


def chunk_bytes(page: Page) -> int:
    """Bytes of one full chunk once it is decompressed."""
    return page.chunk_width * page.chunk_height * page.channels // page.planes * page.bits // 8


def check_chunks(page: Page, file_bytes: int) -> None:
    """Raise unless every strip or tile lies in the file."""
    n = page.across * page.down * page.planes
    if len(page.offsets) != n or len(page.counts) != n:
        raise ImageError(
            FileReason.CORRUPT, f"TIFF with {len(page.offsets)} chunks where {n} are needed"
        )
    if min(page.offsets) == 0:
        raise ImageError(FileReason.INCOMPLETE, "TIFF with a strip that is not yet written")
    end = max(offset + count for offset, count in zip(page.offsets, page.counts, strict=True))
    if end > file_bytes:
        raise ImageError(
            FileReason.INCOMPLETE, f"TIFF needs {end} bytes, the file has {file_bytes}"
        )


# ---------------------------------------------------------------------------------------- pixels


def read_pixels(data: bytes, page: Page, tags: Tags) -> Pixels:
    """Gray (h, w) or RGB (h, w, 3) in the machine's byte order."""
    dtype = np.uint8 if page.bits == 8 else np.uint16
    if page.compression in OPENCV:
        return through_opencv(data, (page.height, page.width), dtype)
    planes = [plane(data, page, i) for i in range(page.planes)]
    array = planes[0] if page.planes == 1 else np.concatenate(planes, axis=2)  # (h, w, channels)
    pixels = without_alpha(array)
    if page.photometric == WHITE_IS_ZERO:
        return np.invert(pixels)
    if page.photometric == PALETTE:
        table = numbers(tags, COLOUR_MAP)
        if len(table) != 3 * 256:
            raise ImageError(FileReason.CORRUPT, f"TIFF palette of {len(table)} values")
        colours = (np.array(table).reshape(3, 256).T >> 8).astype(np.uint8)  # (256, 3)
        return coloured(pixels.astype(np.uint8, copy=False), colours)
    return pixels


def plane(data: bytes, page: Page, which: int) -> NDArray[np.generic]:
    """One plane: shape (h, w, channels of the plane), native byte order."""
    depth = page.channels // page.planes
    stored = np.dtype(f"{page.order}u{page.bits // 8}")
    across, down = page.across, page.down
    out = np.empty((page.height, page.width, depth), stored.newbyteorder("="))
    for i in range(across * down):
        top, left = i // across * page.chunk_height, i % across * page.chunk_width
        rows = min(page.chunk_height, page.height - top)
        columns = min(page.chunk_width, page.width - left)
        needed = rows if across == 1 and page.chunk_width == page.width else page.chunk_height
        shape = (needed, page.chunk_width, depth)
        chunk = read_chunk(data, page, which * across * down + i, shape, stored)
        out[top : top + rows, left : left + columns] = chunk[:rows, :columns]
    return out


def read_chunk(
    data: bytes, page: Page, i: int, shape: tuple[int, int, int], stored: np.dtype[np.generic]
) -> NDArray[np.generic]:
    """One strip or tile, decompressed: shape (rows, columns, channels), stored byte order."""
    size = shape[0] * shape[1] * shape[2] * stored.itemsize
    raw = memoryview(data)[page.offsets[i] : page.offsets[i] + page.counts[i]]
    whole: bytes | memoryview = raw if page.compression == NONE else inflate(raw, size)
    if len(whole) < size:
        raise ImageError(FileReason.CORRUPT, f"TIFF chunk of {len(whole)} bytes, {size} needed")
    chunk = np.frombuffer(whole, stored, size // stored.itemsize).reshape(shape)
    if page.predictor == 2 and page.compression != NONE:
        chunk = np.cumsum(chunk, axis=1, dtype=stored.newbyteorder("="))  # differences wrap round
    return chunk


def inflate(raw: memoryview, size: int) -> bytes:
    """At most `size` bytes, however much the data would expand to."""
    try:
        return zlib.decompressobj().decompress(raw, size)
    except zlib.error as error:
        raise ImageError(FileReason.CORRUPT, f"TIFF deflate data: {error}") from error
