"""Touching nuclei parted at their necks, by flooding the distance to the border."""

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]


def split(mask: Mask, neck_px: float) -> Labels:
    """Pieces 1..n of a mask (h, w), parted at necks."""
    _, whole, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    out, n = np.zeros(mask.shape, np.int32), 0
    for i, (left, top, width, height, _) in enumerate(stats[1:], start=1):
        window = np.s_[top : top + height, left : left + width]
        here = whole[window] == i
        pieces = parted(here, neck_px)
        out[window][here] = pieces[here] + n
        n += int(pieces.max())
    return out


def parted(mask: Mask, neck_px: float) -> Labels:
    """Pieces 1..n of one connected mask, by flooding the distance to its border.

    A summit is a maximum of the distance at least `neck_px` above the pass to a higher one (its
    h-maximum), so that a ragged border does not part a nucleus.
    """
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5), np.float32)
    lowered = reconstructed(depth - np.float32(neck_px), depth)
    summits = lowered - reconstructed(lowered - np.float32(1e-3), lowered) > 5e-4
    n, markers = cv2.connectedComponents((summits & (padded > 0)).astype(np.uint8))
    if n <= 2:  # the background and one summit
        return mask.astype(np.int32)
    return np.asarray(flooded(markers.astype(np.uint16), depth)[1:-1, 1:-1], np.int32)


def flooded(markers: NDArray[np.uint16], depth: Float) -> NDArray[np.uint16]:
    """Markers (h, w) grown down the depth in steps of half a pixel, each over what it reaches."""
    square, labels = np.ones((3, 3), np.uint8), markers.copy()
    for level in np.arange(np.ceil(2 * depth.max()) / 2 - 0.5, -0.25, -0.5):
        while True:
            new = (depth > level) & (labels == 0)
            new &= cv2.dilate(labels, square) > 0
            if not new.any():
                break
            labels[new] = cv2.dilate(labels, square)[new]
    return labels


def reconstructed(marker: Float, limit: Float) -> Float:
    """Grey-scale reconstruction by dilation of a marker under a limit, both (h, w)."""
    square = np.ones((3, 3), np.uint8)
    now = np.minimum(marker, limit)
    while True:
        grown = np.minimum(cv2.dilate(now, square), limit)
        if np.array_equal(grown, now):
            return now
        now = grown
