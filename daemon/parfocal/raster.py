"""JPEG, PNG and BMP: header, completeness, then pixels.

The header is checked against the limits before any pixel is decoded, and the bytes that it
declares must be there. JPEG and PNG go through Pillow, PNG of 16 bit colour through OpenCV (Pillow
would reduce it to 8), plain BMP is laid out here.
"""

import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.decoding import (
    ImageError,
    Limits,
    coloured,
    take,
    through_opencv,
    through_pillow,
    without_alpha,
)
from parfocal.reasons import FileReason
from parfocal.types import Pixels

# ------------------------------------------------------------------------------------------ JPEG

NO_LENGTH = {0x01, *range(0xD0, 0xD9)}  # markers that stand alone
FRAME_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
BASELINE_OR_PROGRESSIVE = {0xC0, 0xC1, 0xC2}


def decode_jpeg(data: bytes, limits: Limits) -> Pixels:
    """Pixels of a JPEG of 8 bits, gray or colour."""
    at = 2
    seen = False
    while True:
        mark, code = take(data, at, 2)
        if mark != 0xFF:
            raise ImageError(FileReason.CORRUPT, f"no JPEG marker at byte {at}")
        if code == 0xFF or code in NO_LENGTH:  # fill bytes may stand before a marker
            at += 1 if code == 0xFF else 2
            continue
        if code == 0xDA:
            break
        (size,) = struct.unpack(">H", take(data, at + 2, 2))
        segment = take(data, at + 4, max(size - 2, 0))
        if code in FRAME_MARKERS:
            check_jpeg(code, segment, limits)
            seen = True
        at += 2 + max(size, 2)
    if not seen:
        raise ImageError(FileReason.CORRUPT, "JPEG data without a frame header")
    if data.find(b"\xff\xd9", at) < 0:  # in coded data FF is followed by 00, so this is the end
        raise ImageError(FileReason.INCOMPLETE, "JPEG without its end marker")
    return through_pillow(data, "JPEG", limits)


def check_jpeg(code: int, segment: bytes, limits: Limits) -> None:
    """Raise unless the frame header is of a kind and size that is read."""
    if len(segment) < 6:
        raise ImageError(FileReason.CORRUPT, "JPEG frame header too short")
    bits, height_px, width_px, channels = struct.unpack(">BHHB", segment[:6])
    limits.check(width_px, height_px, max(channels, 1))
    if code not in BASELINE_OR_PROGRESSIVE or bits != 8 or channels not in (1, 3):
        raise ImageError(
            FileReason.UNSUPPORTED, f"JPEG process {code:#x}, {bits} bits, {channels} channels"
        )


# ------------------------------------------------------------------------------------------- PNG

PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type: gray, RGB, palette, and with alpha


def decode_png(data: bytes, limits: Limits) -> Pixels:
    """Pixels of a PNG: 8 or 16 bits, gray, colour or palette."""
    chunks = png_chunks(data)
    name, header = next(chunks)
    if name != b"IHDR" or len(header) != 13:
        raise ImageError(FileReason.CORRUPT, f"PNG begins with {name!r}")
    width_px, height_px, bits, colour = struct.unpack(">IIBB", header[:10])
    if colour not in PNG_CHANNELS:
        raise ImageError(FileReason.CORRUPT, f"PNG colour type {colour}")
    limits.check(width_px, height_px, 3 if colour == 3 else PNG_CHANNELS[colour])
    if bits not in (8, 16) and colour != 3:
        raise ImageError(FileReason.UNSUPPORTED, f"PNG of {bits} bits")
    for _ in chunks:
        pass
    if bits == 16 and colour in (2, 4, 6):
        return through_opencv(data, (height_px, width_px), np.uint16)
    return through_pillow(data, "PNG", limits)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk up to IEND, checksums verified."""
    at = 8
    while True:
        size, name = struct.unpack(">I4s", take(data, at, 8))
        body = take(data, at + 8, size)
        (stored,) = struct.unpack(">I", take(data, at + 8 + size, 4))
        if zlib.crc32(body, zlib.crc32(name)) != stored:
            raise ImageError(FileReason.CORRUPT, f"PNG chunk {name!r} fails its checksum")
        yield name, body
        if name == b"IEND":
            return
        at += 12 + size


# ------------------------------------------------------------------------------------------- BMP


def decode_bmp(data: bytes, limits: Limits) -> Pixels:
    """Pixels of an uncompressed BMP of 8 (palette), 24 or 32 bits.

    Read directly: five times faster than Pillow, and the file's size field, which many writers
    get wrong, is not needed: geometry says how many bytes there must be.
    """
    offset, size = struct.unpack("<II", take(data, 10, 8))
    if size < 40:
        raise ImageError(FileReason.UNSUPPORTED, f"BMP header of {size} bytes")
    width_px, height_px, _, bits, packing = struct.unpack("<iiHHI", take(data, 18, 16))
    limits.check(width_px, abs(height_px), max(bits // 8, 1))
    if bits not in (8, 24, 32) or not plain(data, bits, packing):
        raise ImageError(FileReason.UNSUPPORTED, f"BMP of {bits} bits, compression {packing}")
    stride = (width_px * bits // 8 + 3) // 4 * 4
    take(data, offset + stride * abs(height_px), 0)
    rows = np.frombuffer(data, np.uint8, stride * abs(height_px), offset)
    image = rows.reshape(abs(height_px), stride)[:, : width_px * bits // 8]  # (h, w * channels)
    upright = np.ascontiguousarray(image[::-1] if height_px > 0 else image)  # rows from the top
    if bits == 8:
        return through_palette(upright, bmp_palette(data, size))
    way = cv2.COLOR_BGR2RGB if bits == 24 else cv2.COLOR_BGRA2RGB
    colour = cv2.cvtColor(upright.reshape(abs(height_px), width_px, bits // 8), way)
    return without_alpha(colour)


def plain(data: bytes, bits: int, packing: int) -> bool:
    """Whether pixels are stored byte by byte as blue, green, red."""
    usual = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
    return packing == 0 or (packing == 3 and bits == 32 and take(data, 54, 12) == usual)


def bmp_palette(data: bytes, header_size: int) -> NDArray[np.uint8]:
    """RGB of each index: shape (256, 3); indices that the file does not define are black."""
    (colours,) = struct.unpack("<I", take(data, 46, 4))
    colours = min(colours or 256, 256)
    stored = np.frombuffer(take(data, 14 + header_size, 4 * colours), np.uint8).reshape(-1, 4)
    table = np.zeros((256, 3), np.uint8)
    table[:colours] = stored[:, 2::-1]
    return table


def through_palette(index: NDArray[np.uint8], table: NDArray[np.uint8]) -> Pixels:
    """Gray where every colour of the table is gray (how gray is stored in BMP), else RGB."""
    if (table == table[:, :1]).all():
        plain_gray = np.array_equal(table[:, 0], np.arange(256))
        return index if plain_gray else np.take(table[:, 0], index)
    return coloured(index, table)
