"""Fields with truth, at the scale of the network's view."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.fieldview import ViewRules, field_contrast
from parfocal.types import Gray

Optics = Literal["phase", "brightfield"]
Truth = Literal["instances", "foreground", "points"]
Labels = NDArray[np.int32]
Mask = NDArray[np.uint8]

UNKNOWN = 255
POINT_UM = 4.0
"""Radius of the disc that a centre marks as cell."""
EMPTY_UM = 25.0
"""Farther than this from every centre, a pixel is background."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingField:
    """One field: contrast to the illumination, and what is true of it, all (h, w).

    `labels`: instances, 0 is background. `known`: 1 where cell or background is certain. `inner`:
    1 where a label is one whole cell, so that its middle and its outline mean something. `other`: 1
    on dead or floating cells and heaps, `UNKNOWN` where nobody marked those.
    """

    name: str
    group: str
    optics: Optics
    contrast: NDArray[np.float32]
    labels: Labels
    known: Mask
    inner: Mask
    other: Mask


def field_of(
    gray: Gray,
    truth: Labels,
    um_per_px: float,
    view: ViewRules,
    says: Truth = "instances",
    single_um2: float = float("inf"),
    name: str = "",
    group: str = "",
    optics: Optics = "brightfield",
    other: Mask | None = None,
) -> TrainingField:
    """A field from a frame and its labels (for `points`: a label a centre), both (h, w)."""
    contrast = field_contrast(gray, um_per_px, view)
    labels = resized_labels(truth, contrast.shape)
    known = np.ones(labels.shape, np.uint8)
    inner = np.ones(labels.shape, np.uint8)
    if says == "foreground":
        area = np.bincount(truth.ravel()) * um_per_px**2
        inner[(area > single_um2)[labels]] = 0
    if says == "points":
        labels, known = _discs(truth, contrast.shape, view.um_per_px)
    marked = np.full(labels.shape, UNKNOWN, np.uint8)
    if other is not None:
        marked = resized_labels(other.astype(np.int32), contrast.shape).astype(np.uint8)
    return TrainingField(name, group, optics, contrast, labels, known, inner, marked)


def _discs(truth: Labels, shape: tuple[int, ...], um_per_px: float) -> tuple[Labels, Mask]:
    """A disc round each centre, and where that leaves no doubt."""
    ys, xs = np.nonzero(truth)
    ratio = np.array(shape) / truth.shape
    labels = np.zeros(shape, np.int32)
    away = np.ones(shape, np.uint8)
    for number, (y, x) in enumerate(zip(ys * ratio[0], xs * ratio[1], strict=True), start=1):
        at = (min(round(x), shape[1] - 1), min(round(y), shape[0] - 1))
        cv2.circle(labels, at, max(1, round(POINT_UM / um_per_px)), number, -1)
        away[at[1], at[0]] = 0
    if not len(ys):
        return labels, np.ones(shape, np.uint8)
    far = cv2.distanceTransform(away, cv2.DIST_L2, 5) * um_per_px > EMPTY_UM
    return labels, ((labels > 0) | far).astype(np.uint8)


def resized_labels(labels: NDArray[np.integer], shape: tuple[int, ...]) -> Labels:
    """Labels at another size, nearest pixel."""
    size = (shape[1], shape[0])
    exact = labels.astype(np.float32)  # OpenCV resizes no int32; exact up to 16 million labels
    return cv2.resize(exact, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)
