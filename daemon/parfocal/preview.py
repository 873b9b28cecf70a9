"""Small pictures of a frame for people: a JPEG preview, and its instance labels as PNG."""

import cv2
import numpy as np

from parfocal.types import Finds, Frame, Gray

THUMBNAIL_PX = 480
"""Longer side of the preview that rides with a result: about 20 kB of JPEG."""


def masks_png(finds: Finds, gray: Gray) -> bytes:
    """PNG of instance labels, uint16, same size as the image, in the order of its single cells."""
    labels = finds.labels_at((gray.shape[0], gray.shape[1]))
    return bytes(cv2.imencode(".png", labels)[1])


def thumbnail(frame: Frame, longest_px: int = THUMBNAIL_PX) -> bytes:
    """JPEG preview, longer side at most `longest_px`; 16 bit is stretched to its range."""
    pixels = frame.pixels
    factor = min(1.0, longest_px / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if small.dtype != np.uint8:
        low, high = float(small.min()), float(small.max())
        small = cv2.convertScaleAbs(small - low, alpha=255 / max(high - low, 1))
    if small.ndim == 3:
        small = small[..., ::-1]  # RGB to OpenCV's BGR
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1])
