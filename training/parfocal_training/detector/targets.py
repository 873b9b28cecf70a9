"""What the detector network is to answer for a field: maps at half the view's resolution."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.instances import REACH_PX
from parfocal_training.detector.network import STRIDE

DEPTH_PX = 6.0
"""Depth saturates here, in answer pixels (12 um at 1 um/px): the width of a slim body."""

Float = NDArray[np.float32]
Labels = NDArray[np.int32]
Mask = NDArray[np.uint8]
UNKNOWN = 255


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Wanted answers of a tile, all (h, w) at the answer's resolution.

    `cell`, `other`: 0, 1, or 255 where the truth does not say. `dy`, `dx`: way to the middle of the
    pixel's cell, in units of `REACH_PX`. `depth`: distance to the outline over `DEPTH_PX`, at most
    1. `border`: 1 on cell pixels beside another cell. The last four hold where `inner` is 1.
    """

    cell: Mask
    other: Mask
    inner: Mask
    dy: Float
    dx: Float
    depth: Float
    border: Float


def targets(labels: Labels, known: Mask, inner: Mask, other: Mask) -> Targets:
    """Targets of a tile at view resolution.

    Parameters
    ----------
    labels : (h, w) int32
        Instances, 0 is background.
    known : (h, w) uint8
        1 where cell or background is certain.
    inner : (h, w) uint8
        1 where a label is one whole cell, so that its middle and outline mean something.
    other : (h, w) uint8
        1 on dead or floating cells, 255 where nobody marked those.
    """
    labels = np.ascontiguousarray(labels[::STRIDE, ::STRIDE])
    known, inner, other = (
        np.ascontiguousarray(a[::STRIDE, ::STRIDE]) for a in (known, inner, other)
    )
    inside = labels > 0
    edge = touching(labels)
    alone = (inside & ~edge).astype(np.uint8)
    padded = np.pad(alone, 1, mode="edge")
    depth = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1], np.float32)
    dy, dx = to_middle(labels, depth)
    near = cv2.dilate(edge.astype(np.uint8), np.ones((3, 3), np.uint8))
    return Targets(
        cell=np.where(known > 0, inside, UNKNOWN).astype(np.uint8),
        other=other,
        inner=(inside & (inner > 0)).astype(np.uint8),
        dy=dy,
        dx=dx,
        depth=np.minimum(depth / np.float32(DEPTH_PX), 1).astype(np.float32),
        border=(inside & (near > 0)).astype(np.float32),
    )


def touching(labels: Labels) -> NDArray[np.bool_]:
    """Pixels with a pixel of another cell to the right, below, left or above."""
    edge = np.zeros(labels.shape, np.bool_)
    right = (labels[:, 1:] != labels[:, :-1]) & (labels[:, 1:] > 0) & (labels[:, :-1] > 0)
    below = (labels[1:] != labels[:-1]) & (labels[1:] > 0) & (labels[:-1] > 0)
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    edge[1:] |= below
    edge[:-1] |= below
    return edge


def to_middle(labels: Labels, depth: Float) -> tuple[Float, Float]:
    """Way (dy, dx) from each cell pixel to its cell's middle, in units of `REACH_PX`.

    The middle is the pixel that is near the centre of mass and deep inside: for a bent cell it
    still lies in the cell.
    """
    ys, xs = np.nonzero(labels)
    dy, dx = (np.zeros(labels.shape, np.float32) for _ in range(2))
    if not len(ys):
        return dy, dx
    order = np.argsort(labels[ys, xs], kind="stable")
    ys, xs = ys[order], xs[order]
    label = labels[ys, xs]
    start = np.flatnonzero(np.r_[True, label[1:] != label[:-1]])
    size = np.diff(np.r_[start, len(label)])
    number = np.repeat(np.arange(len(start)), size)
    mean_y, mean_x = (np.add.reduceat(v, start) / size for v in (ys, xs))
    cost = np.hypot(ys - mean_y[number], xs - mean_x[number]) - depth[ys, xs]
    best = np.lexsort((cost, number))[start]  # first of each cell in order of cost
    dy[ys, xs] = (ys[best][number] - ys) / REACH_PX
    dx[ys, xs] = (xs[best][number] - xs) / REACH_PX
    return dy, dx
