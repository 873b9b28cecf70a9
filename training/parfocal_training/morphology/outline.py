"""The convex hull of a mask and what follows from it: its area, Feret diameters, least circle."""

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal_training.morphology.patch import Floats, Ints


def row_ends(y: Ints, x: Ints) -> tuple[Ints, Ints, Ints]:
    """Rows of a mask, the first and the last pixel of each: three of (h,). Pixels come by row."""
    rows, first = np.unique(y, return_index=True)
    last = np.append(first[1:], len(y)) - 1
    return rows, x[first], x[last]


def hull(points: Ints) -> Floats:
    """Corners (k, 2) of the convex hull of points (n, 2), in order; collinear points left out."""
    corners: NDArray[np.int32] = cv2.convexHull(points.astype(np.int32)).astype(np.int32)
    return corners.reshape(-1, 2).astype(np.float64)


def pixel_hull(y: Ints, x: Ints) -> Floats:
    """Corners (k, 2), as (row, column), of the convex hull of pixel centres."""
    rows, first, last = row_ends(y, x)
    ends = np.concatenate([np.stack([rows, first], 1), np.stack([rows, last], 1)])
    return hull(ends)


def convex_area(y: Ints, x: Ints) -> int:
    """How many pixel centres the hull of a mask holds; a pixel reaches half a pixel in 4 ways."""
    rows, first, last = row_ends(y, x)
    twice = 2 * np.stack([np.concatenate([rows, rows]), np.concatenate([first, last])], 1)
    reach = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    corners = hull((twice[:, None] + reach).reshape(-1, 2))  # (k, 2), doubled so as to be whole
    at = 2.0 * np.arange(rows[0], rows[-1] + 1)
    left, right = (_side(corners, sign) for sign in (-1, 1))
    low = np.ceil(np.interp(at, left[:, 0], left[:, 1]) / 2 - 1e-9)
    high = np.floor(np.interp(at, right[:, 0], right[:, 1]) / 2 + 1e-9)
    return int((high - low + 1).sum())


def _side(corners: Floats, sign: int) -> Floats:
    """The left (-1) or right (1) side of a hull from top to bottom: (j, 2), rows increasing."""
    top, bottom = corners[:, 0].min(), corners[:, 0].max()
    ends = [
        max(corners[corners[:, 0] == row].tolist(), key=lambda corner: sign * corner[1])
        for row in (top, bottom)
    ]
    (y0, x0), (y1, x1) = ends
    across = (corners[:, 1] - x0) * (y1 - y0) - (corners[:, 0] - y0) * (x1 - x0)
    between = (corners[:, 0] > top) & (corners[:, 0] < bottom) & (sign * across > 0)
    chain = corners[between]
    return np.concatenate([[ends[0]], chain[np.argsort(chain[:, 0])], [ends[1]]])


def feret(corners: Floats) -> tuple[float, float]:
    """The least and the largest distance of two parallel lines that hold all corners (k, 2)."""
    apart = corners[:, None] - corners[None]  # (k, k, 2)
    largest = float(np.sqrt((apart**2).sum(2).max()))
    if len(corners) < 3:
        return 0.0, largest
    edge = np.roll(corners, -1, 0) - corners
    normal = np.stack([-edge[:, 1], edge[:, 0]], 1) / np.hypot(*edge.T)[:, None]
    across = np.einsum("ei,pei->pe", normal, apart)  # distance of corner p from edge e
    return float(np.abs(across).max(0).min()), largest


def least_circle(corners: Floats) -> tuple[Floats, float]:
    """Centre (2,) and radius of the smallest circle round the corners (k, 2) of a hull.

    Chrystal (1884), as in centrosome: from one side of the hull to ever larger circles through two
    or three corners, until the corner that sees the side under the least angle is in it.
    """
    if len(corners) < 2:
        return corners[0], 0.0
    a, b = 0, 1
    for _ in range(4 * len(corners)):
        others = np.array([i for i in range(len(corners)) if i not in (a, b)], np.int64)
        if not len(others):
            break
        angles = _angle(corners[a], corners[others], corners[b])
        least = int(angles.argmin())
        v = int(others[least])
        if angles[least] >= np.pi / 2:
            break
        at_a, at_b = (
            float(_angle(corners[p], corners[q][None], corners[v])[0]) for p, q in ((b, a), (a, b))
        )
        if max(at_a, at_b) <= np.pi / 2:
            return _through(corners[a], corners[b], corners[v])
        a, b = (v, b) if at_a > np.pi / 2 else (a, v)
    centre = (corners[a] + corners[b]) / 2
    return centre, float(np.hypot(*(corners[a] - centre)))


def _angle(one: Floats, at: Floats, other: Floats) -> Floats:
    """Angles (k,) under which points (k, 2) see two others, in radians."""
    u, v = one - at, other - at
    across = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    angles: Floats = np.abs(np.arctan2(across, (u * v).sum(1)))
    return angles


def _through(a: Floats, b: Floats, c: Floats) -> tuple[Floats, float]:
    """Centre and radius of the circle through three points."""
    sides = 2 * np.stack([b - a, c - a])
    centre = np.linalg.solve(sides, np.array([b @ b - a @ a, c @ c - a @ a]))
    return centre, float(np.hypot(*(a - centre)))
