"""Prepare: from a decoded frame to normalized crops, one object shared by training and daemon.

What the network saw in training and what it sees live are the same thing because both are made
here. `PixelRules` is the strict half of the fingerprint: a bundle whose pixels cannot be
reproduced is refused. The detector is the recorded half: it only decides where crops are centred.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Literal, cast

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.cut import cut, inside, rescale
from parfocal.masking import alone, label_windows
from parfocal.normalize import Reference, normalize
from parfocal.reasons import ObjectReason
from parfocal.types import Detector, Finds, Gray, Pixels

CROP_PX = 224


class PixelRules(msgspec.Struct, frozen=True, kw_only=True):
    """Every parameter that decides the pixels of a crop.

    `flat_field_um` is the standard deviation in micrometres of the Gaussian that estimates the
    illumination; 0 leaves the illumination as it is. `reference` holds the 256 counts of
    `parfocal.normalize.Reference`. With `masked` a crop shows nothing beyond its own cell
    (`parfocal.masking`); unset, it shows the surroundings too.
    """

    um_per_px: float
    reference: tuple[int, ...]
    crop_px: int = CROP_PX
    gray: Literal["rec601"] = "rec601"
    flat_field_um: float = 0.0
    normalization: Literal["quantile-rank/1"] = "quantile-rank/1"
    masked: bool | msgspec.UnsetType = msgspec.UNSET  # not False: older fingerprints hold

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all parameters: equal fingerprints mean equal pixels."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()

    def reference_distribution(self) -> Reference:
        """The reference as `normalize` takes it."""
        return Reference(np.array(self.reference, np.int64))


def to_gray(pixels: Pixels) -> Gray:
    """Rec. 601 luma, as MATLAB's rgb2gray: shape (h, w), dtype kept; gray passes unchanged."""
    if pixels.ndim == 2:
        return pixels
    return cast("Gray", cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY))


def flatten(gray: Gray, um_per_px: float, sigma_um: float) -> Gray:
    """The frame divided by its own illumination (a wide Gaussian), at the same mean level.

    The blur runs at 1/16 of the resolution: it is far wider than that. `sigma_um` 0 returns the
    frame itself.
    """
    if sigma_um == 0:
        return gray
    h, w = gray.shape
    small = cv2.resize(
        gray, (max(1, w // 16), max(1, h // 16)), interpolation=cv2.INTER_AREA
    ).astype(np.float32)
    light = cv2.GaussianBlur(
        small, (0, 0), sigma_um / um_per_px / 16, borderType=cv2.BORDER_REFLECT
    )
    gain = np.float32(light.mean()) / np.maximum(light, 1)
    full = cv2.resize(gain, (w, h), interpolation=cv2.INTER_LINEAR)
    kind = cv2.CV_8U if gray.dtype == np.uint8 else cv2.CV_16U
    return cast("Gray", cv2.multiply(gray, full, dtype=kind))


@dataclass(frozen=True, slots=True, eq=False)
class RawCells:
    """The cells of one frame as they were cut, before normalization.

    `finds` lists every object of the frame; `chosen` are the indices of those that were cut, in
    the order of `crops`.
    """

    finds: Finds
    chosen: NDArray[np.int64]  # (n,)
    crops: Gray  # (n, crop_px + 2 * margin_px, crop_px + 2 * margin_px)


@dataclass(frozen=True, slots=True, eq=False)
class Prepare:
    """The shared contract: `cut` makes raw crops at physical scale, `normalize` finishes them."""

    rules: PixelRules
    detector: Detector
    max_cells: int = 1024

    def to_scale(self, gray: Gray, um_per_px: float) -> Gray:
        """The flat-fielded frame at the rules' pixel size: shape (h', w')."""
        flat = flatten(gray, um_per_px, self.rules.flat_field_um)
        return rescale(flat, um_per_px, self.rules.um_per_px)

    def cut(self, gray: Gray, um_per_px: float, margin_px: int = 0) -> RawCells:
        """Detect, then cut every single cell whose window lies in the frame.

        A window is `crop_px + 2 * margin_px` wide. Objects without a crop keep or get a reason.
        """
        return self.cut_finds(gray, um_per_px, self.detector(gray, um_per_px), margin_px)

    def cut_finds(self, gray: Gray, um_per_px: float, finds: Finds, margin_px: int = 0) -> RawCells:
        """`cut` for objects that were already found."""
        side = self.rules.crop_px + 2 * margin_px
        scaled = self.to_scale(gray, um_per_px)
        ratio = np.array(scaled.shape[::-1]) / gray.shape[::-1]  # (x, y)
        centres = (finds.centroids_px + 0.5) * ratio - 0.5  # (n, 2) in scaled pixels
        fits = inside(centres, side, scaled.shape)
        reasons = [
            reason if reason is not None or ok else ObjectReason.EDGE
            for reason, ok in zip(finds.reasons, fits, strict=True)
        ]
        single = [i for i, reason in enumerate(reasons) if reason is None]
        for i in single[self.max_cells :]:
            reasons[i] = ObjectReason.OVER_LIMIT
        chosen = np.array(single[: self.max_cells], np.int64)
        crops = cut(scaled, centres[chosen], side)
        if self.rules.masked:
            shown = label_windows(finds, centres[chosen], side, (scaled.shape[0], scaled.shape[1]))
            for crop, i, labels in zip(crops, chosen, shown, strict=True):
                own = labels == i + 1
                crop[...] = alone(crop, own, (labels > 0) & ~own, self.rules.um_per_px, margin_px)
        return RawCells(replace(finds, reasons=tuple(reasons)), chosen, crops)

    def normalize(self, crops: Gray) -> NDArray[np.float32]:
        """Raw crops (n, crop_px, crop_px) as the network takes them: float32, levels 0-255."""
        return normalize(crops, self.rules.reference_distribution())
