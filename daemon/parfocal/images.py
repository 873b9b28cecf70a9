"""One decoder for the rig and the bench: bytes of a file in, pixels or a reason out.

What is returned is what is stored: no orientation tag, gamma, colour profile or alpha is applied,
12 bits in 16 stay as they are, and only palettes and white-is-zero levels are resolved. A
half-copied file is `incomplete` and never half a frame. Damage inside compressed JPEG data cannot
be seen by any decoder; PNG has checksums, and they are verified.
"""

from parfocal.decoding import ImageError, Limits
from parfocal.raster import decode_bmp, decode_jpeg, decode_png
from parfocal.reasons import FileReason
from parfocal.tiff import decode_tiff
from parfocal.types import Frame

__all__ = ["IMAGE_SUFFIXES", "ImageError", "Limits", "decode", "kind"]

IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".bmp", ".png", ".jpg", ".jpeg"})
"""File names that are looked at; what a file is, its content says."""

MAGIC = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"BM": "bmp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
}

DEFAULT_LIMITS = Limits()


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Frame:
    """The frame in an image file's bytes.

    Raises
    ------
    ImageError
        With one of the reasons empty, incomplete, not_an_image, unsupported, too_large, corrupt.
    """
    if not data:
        raise ImageError(FileReason.EMPTY, "0 bytes")
    if len(data) > limits.max_bytes:
        raise ImageError(FileReason.TOO_LARGE, f"{len(data)} bytes, limit {limits.max_bytes}")
    match kind(data):
        case "jpeg":
            return Frame(decode_jpeg(data, limits))
        case "png":
            return Frame(decode_png(data, limits))
        case "bmp":
            return Frame(decode_bmp(data, limits))
        case _:
            return decode_tiff(data, limits)


def kind(data: bytes) -> str:
    """jpeg, png, bmp or tiff, by content."""
    for magic, name in MAGIC.items():
        if data.startswith(magic):
            return name
    if any(magic.startswith(data) for magic in MAGIC):
        raise ImageError(FileReason.INCOMPLETE, f"only {len(data)} bytes of a file's first mark")
    if not any(data[:64]):  # copies to a share reserve the space first, and fill it from the front
        raise ImageError(
            FileReason.INCOMPLETE, "begins with zeros: space reserved, not yet written"
        )
    raise ImageError(FileReason.NOT_AN_IMAGE, f"begins with {data[:8]!r}")
