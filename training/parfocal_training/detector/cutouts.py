"""Single cells cut out of real images, to be laid on other backgrounds."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.segment import fill_holes
from parfocal_training.detector.fields import TrainingField

Float = NDArray[np.float32]
FEATHER_PX = 2.5
"""The halo of a cell goes with it, fading over about this far outside its outline."""


@dataclass(frozen=True, slots=True, eq=False)
class CutOut:
    """One cell: contrast and mask of a window around it, both (h, w)."""

    contrast: Float
    mask: NDArray[np.uint8]


def outlined(crop: Float) -> NDArray[np.uint8] | None:
    """Mask of the cell in the middle of a levelled single-cell crop, None where none stands out.

    Local deviation above its background level, closed and filled; the piece nearest the middle.
    """
    mean = cv2.blur(crop, (5, 5))
    deviation = np.sqrt(np.maximum(cv2.blur(crop * crop, (5, 5)) - mean * mean, 0))
    deviation = cv2.GaussianBlur(deviation, (0, 0), 1.0)
    quiet = np.median(deviation)
    rough = (deviation > 1.55 * quiet).astype(np.uint8)
    closed = cv2.morphologyEx(rough, cv2.MORPH_CLOSE, _disc(7))
    solid = cv2.morphologyEx(fill_holes(closed, 1e4), cv2.MORPH_OPEN, _disc(5))
    solid = cv2.erode(solid, _disc(3))
    n, labels, stats, _ = cv2.connectedComponentsWithStats(solid)
    if n < 2:
        return None
    h, w = crop.shape
    ys, xs = np.nonzero(labels)
    nearest = np.hypot(ys - h / 2, xs - w / 2).argmin()
    chosen = labels[ys[nearest], xs[nearest]]
    if stats[chosen, cv2.CC_STAT_AREA] < 150:
        return None
    return np.asarray(labels == chosen, np.uint8)


def _disc(side: int) -> NDArray[np.uint8]:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.uint8)


def cells_of(field: TrainingField, contrast: Float, margin_px: int = 6) -> list[CutOut]:
    """Every whole cell of a field, with the pixels of `contrast` (the field in some optics)."""
    out = []
    h, w = field.labels.shape
    n = int(field.labels.max()) + 1
    ys, xs = np.nonzero(field.labels)
    label = field.labels[ys, xs]
    for box in _boxes(label, ys, xs, n):
        i, y0, x0, y1, x1 = box
        if y0 == 0 or x0 == 0 or y1 == h or x1 == w:
            continue
        window = (slice(max(y0 - margin_px, 0), min(y1 + margin_px, h)),
                  slice(max(x0 - margin_px, 0), min(x1 + margin_px, w)))  # fmt: skip
        out.append(CutOut(contrast[window], (field.labels[window] == i).astype(np.uint8)))
    return out


def _boxes(
    label: NDArray[np.int32], ys: NDArray[np.int64], xs: NDArray[np.int64], n: int
) -> list[tuple[int, int, int, int, int]]:
    low = np.full((2, n), 1 << 30)
    high = np.zeros((2, n), np.int64)
    for k, at in enumerate((ys, xs)):
        np.minimum.at(low[k], label, at)
        np.maximum.at(high[k], label, at + 1)
    present = np.unique(label)
    return [
        (int(i), int(low[0, i]), int(low[1, i]), int(high[0, i]), int(high[1, i])) for i in present
    ]


def alpha(mask: NDArray[np.uint8], feather_px: float) -> Float:
    """How much of a pixel is the cut-out's: 1 on the cell, fading outside."""
    away = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 3)
    return np.asarray(np.clip(1 - away / np.float32(feather_px + 1), 0, 1), np.float32)


def trim(cell: CutOut, rim_px: float) -> CutOut:
    """The cell without a rim of its mask; itself where nothing would be left."""
    if rim_px <= 0:
        return cell
    depth = cv2.distanceTransform(cell.mask, cv2.DIST_L2, 3)
    inner = (depth > rim_px).astype(np.uint8)
    return CutOut(cell.contrast, inner) if inner.sum() > 60 else cell


def turned(cell: CutOut, matrix: NDArray[np.float64]) -> CutOut:
    """The cell under a (2, 2) affine, in a window that just holds it."""
    h, w = cell.mask.shape
    corners = matrix @ (np.array([[0, w, 0, w], [0, 0, h, h]]) - np.array([[w / 2], [h / 2]]))
    size = np.ceil(np.abs(corners).max(1) * 2).astype(int) + 2  # (w, h)
    warp = np.column_stack([matrix, size / 2 - matrix @ np.array([w / 2, h / 2])])
    to = (int(size[0]), int(size[1]))
    contrast = cv2.warpAffine(cell.contrast, warp, to, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(cell.mask, warp, to, flags=cv2.INTER_NEAREST)
    return CutOut(contrast.astype(np.float32), mask.astype(np.uint8))
