"""A cell without its surroundings: what lies beyond its outline and rim gets one grey level.

In a flask of one line all neighbours are of that line, so a network that sees them can go by them,
and be wrong where lines are mixed.
"""

from collections.abc import Iterator
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.cut import windows
from parfocal.types import Finds, Gray

RIM_UM = 4.0
"""Kept around an outline: the bright or dark rim that belongs to the cell."""
EDGE_UM = 2.0
"""Width over which the cell blends into the level beyond."""

Bools = NDArray[np.bool_]


def label_windows(
    finds: Finds, centres_px: NDArray[np.float64], side_px: int, shape: tuple[int, int]
) -> Iterator[NDArray[np.int32]]:
    """Instance labels (side, side) around each of n centres in a frame scaled to this (h, w).

    The labels cover the whole frame at the detector's scale; the nearest one counts.
    """
    rows, columns = (nearest(n, m) for n, m in zip(shape, finds.labels.shape, strict=True))
    for x, y in windows(centres_px, side_px):
        yield finds.labels[rows[y : y + side_px, None], columns[None, x : x + side_px]]


def nearest(n: int, m: int) -> NDArray[np.intp]:
    """Which of m pixels that cover the same length each of n pixels lies in: (n,)."""
    return np.minimum((np.arange(n) + 0.5) * m / n, m - 1).astype(np.intp)


def alone(crop: Gray, own: Bools, beside: Bools | None, um_per_px: float, margin_px: int) -> Gray:
    """A crop (s, s) that shows its own cell only.

    Parameters
    ----------
    crop : ndarray of shape (s, s), uint8 or uint16
    own, beside : ndarrays of shape (s, s), bool
        Pixels of the crop's cell and of other cells; None if others are not known.
    um_per_px : float
    margin_px : int
        Width of the crop's margin, where nothing counts for the level.

    Returns
    -------
    ndarray of shape (s, s), dtype of `crop`
        Beyond `RIM_UM` and in other cells the mean level of what is no cell, or of all that is
        beyond where cells cover everything.
    """
    apart = cv2.distanceTransform((~own).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    weight = np.clip((RIM_UM + EDGE_UM - apart * np.float32(um_per_px)) / EDGE_UM, 0, 1)
    if not own.any():
        weight = np.zeros_like(weight)
    elif beside is not None:
        weight[beside] = 0
    bare = slice(margin_px, len(crop) - margin_px)
    beyond = weight[bare, bare] == 0
    free = beyond if beside is None else beyond & ~beside[bare, bare]
    seen = crop[bare, bare]
    level = next((float(seen[some].mean()) for some in (free, beyond) if some.any()), 0.0)
    shown = np.rint(level + weight * (crop - np.float32(level)))
    return cast("Gray", shown.astype(crop.dtype))
