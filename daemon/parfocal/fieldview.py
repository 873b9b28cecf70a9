"""What a detector network sees of a frame, made by the same code in training and live.

The frame at a fixed physical scale, divided by its own illumination, so that neither gain nor
vignetting nor the colour of the medium is left; then an inverse hyperbolic sine, under which a
faint spread cell in brightfield (3 % contrast) and a bright one in phase (70 %) are both in range.
"""

import hashlib
from typing import Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.segment import flat_contrast
from parfocal.types import Gray

Float = NDArray[np.float32]


class ViewRules(msgspec.Struct, frozen=True, kw_only=True):
    """Every parameter that decides what a detector network sees.

    `um_per_px` is the pixel size of the view, `light_um` the width of the box that estimates the
    illumination, `contrast_unit` the contrast at which the arcsinh bends. `most_enlarged` bounds
    how far a coarser frame is enlarged: beyond that a cell is too few pixels to be found anyway.
    """

    um_per_px: float = 1.0
    light_um: float = 120.0
    contrast_unit: float = 0.03
    most_enlarged: float = 4.0
    way: Literal["flat-asinh/1"] = "flat-asinh/1"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all parameters."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def field_contrast(gray: Gray, um_per_px: float, rules: ViewRules) -> Float:
    """Contrast to the local illumination at the rules' scale: shape (h', w'), 0 is background."""
    small = to_view_scale(gray, um_per_px, rules)
    scale_um = um_per_px * gray.shape[1] / small.shape[1]
    return np.asarray(flat_contrast(small, scale_um, rules.light_um), np.float32)


def seen(contrast: Float, rules: ViewRules) -> Float:
    """The network's input for a contrast image: same shape, arcsinh(contrast / contrast_unit).

    Written out as a logarithm: OpenCV's is five times as fast as numpy's arcsinh.
    """
    size = np.abs(contrast) * np.float32(1 / rules.contrast_unit)
    root = cv2.sqrt(cv2.multiply(size, size) + np.float32(1))
    return np.copysign(np.asarray(cv2.log(size + root), np.float32), contrast)


def to_view_scale(gray: Gray, um_per_px: float, rules: ViewRules) -> Gray:
    """The frame at the rules' pixel size.

    A finer frame is first binned by the whole factor, which is fast and keeps the noise low, the
    rest is bilinear; a coarser one is enlarged bilinearly, at most `most_enlarged` times.
    """
    factor = max(rules.um_per_px / um_per_px, 1 / rules.most_enlarged)
    h, w = gray.shape
    whole = int(factor + 1e-6)
    if whole > 1:
        size = (max(1, w // whole), max(1, h // whole))
        trimmed = gray[: size[1] * whole, : size[0] * whole] if min(h, w) >= whole else gray
        gray = cv2.resize(trimmed, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    size = (max(1, round(w / factor)), max(1, round(h / factor)))
    if size == gray.shape[::-1]:
        return gray
    return cv2.resize(gray, size, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
