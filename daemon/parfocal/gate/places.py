"""Where a field lies on earlier ones, and which of its points those have already counted.

Points are (x, y) in camera pixels, x right and y down. A field is turned by a hand as well as
shifted, so the map to an earlier field is a rotation and a shift.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COARSE = 16
"""Side in camera pixels of a cell of the grid on which covered area is measured."""

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Overlap:
    """How a frame lies on an earlier field.

    A point p of the frame is at R p + offset of the earlier field, R turning by `turn_rad` from
    x to y. `share` is how much of the frame's area lies on it, `confidence` the correlation of
    the two where they meet, 1 when they are the same.
    """

    field: int
    offset_px: tuple[float, float]
    turn_rad: float
    share: float
    confidence: float

    def to_earlier(self, points: Points) -> Points:
        """Points (n, 2) of the frame in the coordinates of the earlier field."""
        return np.asarray(points @ turned(self.turn_rad).T + np.array(self.offset_px))

    def to_frame(self, points: Points) -> Points:
        """Points (n, 2) of the earlier field in the coordinates of the frame."""
        return np.asarray((points - np.array(self.offset_px)) @ turned(self.turn_rad))


def turned(turn_rad: float) -> NDArray[np.float64]:
    """The matrix (2, 2) that turns from x to y."""
    c, s = np.cos(turn_rad), np.sin(turn_rad)
    return np.array([[c, -s], [s, c]])


def already_counted(
    points: Points,
    overlaps: Sequence[Overlap],
    size: tuple[int, int],
    margin_px: float = 0.0,
) -> NDArray[np.bool_]:
    """Which points (n, 2) of a frame (h, w) lie where an earlier field has counted: shape (n,).

    `margin_px` is the border inside which a field counts nothing because a crop would leave it:
    a cell there was not counted yet.
    """
    seen = np.zeros(len(points), bool)
    for one in overlaps:
        seen |= inside(one.to_earlier(points), size, margin_px)
    return seen


def inside(points: Points, size: tuple[int, int], margin_px: float = 0.0) -> NDArray[np.bool_]:
    """Which points (n, 2) lie in a frame (h, w), at least the margin from its border."""
    h, w = size
    low, high = margin_px - 0.5, np.array([w, h]) - 0.5 - margin_px
    return np.asarray(((points >= low) & (points < high)).all(1))


def shared(offset_px: tuple[float, float], turn_rad: float, size: tuple[int, int]) -> float:
    """Share of a frame (h, w) that lies on an earlier field of the same size."""
    h, w = size
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], float)
    polygon = corners @ turned(turn_rad).T + np.array(offset_px)
    for axis, high in ((0, w), (1, h)):
        polygon = _clipped(polygon, polygon[:, axis])
        polygon = _clipped(polygon, high - polygon[:, axis])
    x, y = polygon.T
    area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return float(np.clip(area / (h * w), 0, 1))


def _clipped(polygon: Points, inside_px: Points) -> Points:
    """What of a convex polygon (n, 2) has a distance to a line of at least 0 (Sutherland, Hodgman).

    Written out because OpenCV's intersection of polygons fails where a corner lies on an edge.
    """
    kept: list[Points] = []
    for at in range(len(polygon)):
        here, then = inside_px[at], inside_px[(at + 1) % len(polygon)]
        if here >= 0:
            kept.append(polygon[at])
        if (here >= 0) != (then >= 0):
            part = here / (here - then)
            kept.append(polygon[at] + part * (polygon[(at + 1) % len(polygon)] - polygon[at]))
    return np.array(kept).reshape(-1, 2)


def covered(overlaps: Sequence[Overlap], size: tuple[int, int]) -> float:
    """Share of a frame (h, w) that earlier fields cover together."""
    if len(overlaps) < 2:
        return sum(one.share for one in overlaps)
    y, x = np.mgrid[COARSE / 2 : size[0] : COARSE, COARSE / 2 : size[1] : COARSE]
    points = np.column_stack([x.ravel(), y.ravel()])
    return float(already_counted(points, overlaps, size).mean())
