"""Crops of a fixed physical field around each cell."""

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8] | NDArray[np.uint16]

SCALE_TOLERANCE = 0.005
"""Relative difference of pixel size below which a frame is used as it is (1 px over 200)."""


def rescale(gray: Gray, um_per_px: float, target_um_per_px: float) -> Gray:
    """The frame at the target pixel size: shape (h', w'), same dtype.

    Area averaging when the frame is finer than the target (no aliasing), bilinear when coarser.
    Within `SCALE_TOLERANCE` the frame itself is returned, bit for bit.
    """
    factor = um_per_px / target_um_per_px
    if abs(factor - 1) <= SCALE_TOLERANCE:
        return gray
    h, w = gray.shape
    size = (max(1, round(w * factor)), max(1, round(h * factor)))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cast("Gray", cv2.resize(gray, size, interpolation=way))


def windows(centres_px: NDArray[np.float64], side_px: int) -> NDArray[np.int64]:
    """Top-left corner (x, y) of the square window centred on each point: shape (n, 2)."""
    corners: NDArray[np.int64] = np.floor(centres_px + 0.5).astype(np.int64) - side_px // 2
    return corners


def inside(
    centres_px: NDArray[np.float64], side_px: int, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Whether each window lies wholly in a frame of this (h, w): shape (n,)."""
    corners = windows(centres_px, side_px)
    h, w = shape
    fits = (corners >= 0) & (corners + side_px <= (w, h))  # (n, 2)
    return np.asarray(fits.all(axis=1), np.bool_)


def cut(gray: Gray, centres_px: NDArray[np.float64], side_px: int) -> Gray:
    """Square crops around points of a frame already at the target scale.

    Parameters
    ----------
    gray : ndarray of shape (h, w), uint8 or uint16
    centres_px : ndarray of shape (n, 2), float64
        x right, y down, pixel centres at integers.
    side_px : int
        Side of a crop; add twice a margin to keep surroundings for augmentation.

    Returns
    -------
    ndarray of shape (n, side_px, side_px), dtype of `gray`

    Raises
    ------
    ValueError
        A window leaves the frame (`inside` tells beforehand).
    """
    if not inside(centres_px, side_px, gray.shape).all():
        raise ValueError("a crop would leave the frame")
    out = np.empty((len(centres_px), side_px, side_px), gray.dtype)
    for crop, (x, y) in zip(out, windows(centres_px, side_px), strict=True):
        crop[...] = gray[y : y + side_px, x : x + side_px]
    return out
