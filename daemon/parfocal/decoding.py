"""What the readers of all image formats share: the error, the limits, two decoding libraries.

Whatever a library raises on damaged data becomes an `ImageError` here, by named type.
"""

import io
import struct
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from parfocal.reasons import FileReason
from parfocal.types import Pixels


class ImageError(Exception):
    """A file that gives no frame, with the stable reason and a detail for people."""

    def __init__(self, reason: FileReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused unread: more samples (width * height * channels) or more bytes."""

    max_pixels: int = 64_000_000
    max_bytes: int = 256 * 2**20

    def check(self, width_px: int, height_px: int, channels: int) -> None:
        """Raise unless a header's geometry is within the limit."""
        if width_px <= 0 or height_px <= 0:
            raise ImageError(FileReason.CORRUPT, f"declares {width_px} x {height_px} pixels")
        if width_px * height_px * channels > self.max_pixels:
            raise ImageError(
                FileReason.TOO_LARGE,
                f"declares {width_px} x {height_px} x {channels}, limit {self.max_pixels}",
            )


def take(data: bytes, offset: int, size: int) -> bytes:
    """Bytes that a header declares; they must be there."""
    if offset + size > len(data):
        raise ImageError(
            FileReason.INCOMPLETE, f"needs {offset + size} bytes, the file has {len(data)}"
        )
    return data[offset : offset + size]


def through_pillow(data: bytes, form: str, limits: Limits) -> Pixels:
    """Pixels by Pillow, after our own checks of header and completeness."""
    try:
        with Image.open(io.BytesIO(data), formats=[form]) as image:
            limits.check(*image.size, 1)  # the header that Pillow saw, should it differ from ours
            image.load()
            if image.mode == "P":
                table = np.zeros((256, 3), np.uint8)
                colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
                table[: len(colours)] = colours
                return coloured(np.array(image), table)
            array = np.array(image)
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        # UnidentifiedImageError is an OSError; SyntaxError is Pillow's word for a broken chunk
        word = "not recognized" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ImageError(FileReason.CORRUPT, f"{form}: {word}") from error
    except Image.DecompressionBombError as error:  # only where our limit is set above Pillow's
        raise ImageError(FileReason.TOO_LARGE, str(error)) from error
    except (IndexError, KeyError, TypeError, OverflowError) as error:
        raise ImageError(FileReason.CORRUPT, f"{form}: {error!r}") from error
    return without_alpha(array)


def coloured(index: NDArray[np.uint8], table: NDArray[np.uint8]) -> Pixels:
    """RGB of palette indices: `table` has shape (256, 3), the result (h, w, 3)."""
    rgb: NDArray[np.uint8] = np.take(table, index, axis=0)
    return rgb


def without_alpha(array: NDArray[np.generic]) -> Pixels:
    """Gray (h, w) or RGB (h, w, 3) of 8 or 16 bits, contiguous."""
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3):
        raise ImageError(FileReason.UNSUPPORTED, f"{array.dtype} of {array.ndim} dimensions")
    if array.ndim == 3:
        array = array[..., 0] if array.shape[2] <= 2 else array[..., :3]
    pixels: Pixels = np.ascontiguousarray(array)
    return pixels


def through_opencv(data: bytes, shape: tuple[int, int], dtype: type[np.generic]) -> Pixels:
    """Pixels by OpenCV, for what Pillow would reduce to 8 bits; (h, w) and dtype are known."""
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(FileReason.CORRUPT, f"OpenCV: {error.err}") from error
    if array is None:
        raise ImageError(FileReason.CORRUPT, "OpenCV cannot decode it")
    if array.shape[:2] != shape or array.dtype != dtype:
        raise ImageError(
            FileReason.CORRUPT, f"decoded to {array.shape} {array.dtype}, declared {shape}"
        )
    if array.ndim == 3 and array.shape[2] >= 3:
        array = np.ascontiguousarray(array[..., 2::-1])  # OpenCV's order is blue, green, red
    return without_alpha(array)
