"""CellProfiler's MeasureObjectSizeShape of one cell: `AreaShape_...`.

Names of positions and boxes are in pixels of the crop; moments are about the bounding box.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal_training.morphology.outline import convex_area, feret, pixel_hull
from parfocal_training.morphology.patch import Bools, Floats, Patch

Features = dict[str, float]

BENKRID = {5: 1.0, 7: 1.0, 15: 1.0, 17: 1.0, 25: 1.0, 27: 1.0, 21: 2**0.5, 33: 2**0.5}
BENKRID |= {13: (1 + 2**0.5) / 2, 23: (1 + 2**0.5) / 2}
"""Length in pixels that a border pixel stands for, by the code of its neighbourhood."""

CROFTON = (
    *(0, np.pi / 4 * (1 + 2**-0.5), np.pi / 4 * 2**-0.5, np.pi / 2 * 2**-0.5),
    *(0, np.pi / 4 * (1 + 2**-0.5), 0, np.pi / 4 * 2**-0.5),
    *(np.pi / 4, np.pi / 2, np.pi / 4 * 2**-0.5, np.pi / 4 * 2**-0.5),
    *(np.pi / 4, np.pi / 2, 0, 0),
)
"""Length by the code of a 2 x 2 square, from the intercepts of lines in 4 directions."""

EULER = (0, 0, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0, 0, 0, -1, 0)
"""What a 2 x 2 square adds to the Euler number; diagonal neighbours are connected."""


def shape(patch: Patch) -> Features:
    """Size, outline and moments."""
    area = float(len(patch.y))
    top, left, bottom, right = _box(patch)
    perimeter = benkrid(patch.mask)
    hull_area, box_area = convex_area(patch.y, patch.x), (bottom - top) * (right - left)
    least, largest = feret(pixel_hull(patch.y, patch.x))
    squares = np.bincount(_squares(patch.mask), minlength=16)
    depth = depths(patch.mask)[patch.mask]
    found = {
        "Area": area,
        "BoundingBoxArea": float(box_area),
        "ConvexArea": float(hull_area),
        "EquivalentDiameter": float(np.sqrt(4 * area / np.pi)),
        "Perimeter": perimeter,
        "Center_X": float(patch.x.mean()) + patch.left,
        "Center_Y": float(patch.y.mean()) + patch.top,
        "BoundingBoxMinimum_X": float(left + patch.left),
        "BoundingBoxMaximum_X": float(right + patch.left),
        "BoundingBoxMinimum_Y": float(top + patch.top),
        "BoundingBoxMaximum_Y": float(bottom + patch.top),
        "FormFactor": 4 * np.pi * area / perimeter**2 if perimeter else float("nan"),
        "Extent": area / box_area,
        "Solidity": area / hull_area,
        "Compactness": perimeter**2 / (4 * np.pi * area),
        "EulerNumber": float(squares @ EULER),
        "MaximumRadius": float(depth.max()),
        "MeanRadius": float(depth.mean()),
        "MedianRadius": float(np.median(depth)),
        "FilledArea": float(filled_area(patch.mask)),
        "PerimeterCrofton": float(squares @ CROFTON),
        "MinFeretDiameter": least,
        "MaxFeretDiameter": largest,
        **moments(patch.y - top, patch.x - left),
    }
    return {f"AreaShape_{name}": value for name, value in found.items()}


def _box(patch: Patch) -> tuple[int, int, int, int]:
    return int(patch.y[0]), int(patch.x.min()), int(patch.y[-1]) + 1, int(patch.x.max()) + 1


def _padded(mask: Bools) -> NDArray[np.uint8]:
    return np.pad(mask.astype(np.uint8), 1)


def benkrid(mask: Bools) -> float:
    """Perimeter in pixels from the neighbourhoods of border pixels (Benkrid and Crookes 2000)."""
    full = _padded(mask)
    border = full - cv2.erode(full, np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8))
    kernel = np.array([[10, 2, 10], [2, 1, 2], [10, 2, 10]], np.float32)
    codes = cv2.filter2D(border, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    counts = np.bincount(codes.ravel(), minlength=50)
    return float(sum(counts[code] * length for code, length in BENKRID.items()))


def _squares(mask: Bools) -> NDArray[np.uint8]:
    """The code 0-15 of each 2 x 2 square: (n,)."""
    full = np.pad(mask.astype(np.uint8), 2)
    here, left, above, corner = full[1:, 1:], full[1:, :-1], full[:-1, 1:], full[:-1, :-1]
    codes: NDArray[np.uint8] = (here + 4 * left + 2 * above + 8 * corner).ravel()
    return codes


def depths(mask: Bools) -> Floats:
    """Distance in pixels of each pixel (h, w) to the nearest outside the mask or the image."""
    near = cv2.distanceTransform(_padded(mask), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return np.sqrt(np.rint(near.astype(np.float64) ** 2))  # squares are whole: exact again


def filled_area(mask: Bools) -> int:
    """Pixels of a mask with its holes; a hole is what no 8-connected way leads out of."""
    _, labels = cv2.connectedComponents(1 - _padded(mask), connectivity=8)
    return int((labels != labels[0, 0]).sum())


def moments(y: NDArray[np.int64], x: NDArray[np.int64]) -> Features:
    """Raw, central, normalized and Hu moments of pixels (n,), and the ellipse that has them."""
    raw = _moments(y.astype(np.float64), x.astype(np.float64))
    central = _moments(y - y.mean(), x - x.mean())
    order = np.add.outer(np.arange(4), np.arange(4))
    normalized = np.where(order >= 2, central / len(y) ** (order / 2 + 1), np.nan)
    return {
        **_ellipse(central / len(y)),
        **{f"SpatialMoment_{p}_{q}": float(raw[p, q]) for p in range(3) for q in range(4)},
        **{f"CentralMoment_{p}_{q}": float(central[p, q]) for p in range(3) for q in range(4)},
        **{f"NormalizedMoment_{p}_{q}": float(normalized[p, q])
           for p in range(4) for q in range(4) if p + q >= 2},
        **{f"HuMoment_{i}": float(value) for i, value in enumerate(_hu(normalized))},
    }  # fmt: skip


def _moments(y: Floats, x: Floats) -> Floats:
    """Sums of y**p * x**q: (4, 4)."""
    powers = [np.stack([np.ones_like(v), v, v * v, v * v * v]) for v in (y, x)]
    sums: Floats = powers[0] @ powers[1].T
    return sums


def _hu(n: Floats) -> Floats:
    """The seven rotation invariants of Hu (1962) from normalized moments (4, 4)."""
    a, b = n[3, 0] + n[1, 2], n[2, 1] + n[0, 3]
    c, d = n[3, 0] - 3 * n[1, 2], 3 * n[2, 1] - n[0, 3]
    split = n[2, 0] - n[0, 2]
    return np.array(
        [
            n[2, 0] + n[0, 2],
            split**2 + 4 * n[1, 1] ** 2,
            c**2 + d**2,
            a**2 + b**2,
            c * a * (a**2 - 3 * b**2) + d * b * (3 * a**2 - b**2),
            split * (a**2 - b**2) + 4 * n[1, 1] * a * b,
            d * a * (a**2 - 3 * b**2) - c * b * (3 * a**2 - b**2),
        ]
    )


def _ellipse(covariance: Floats) -> Features:
    """Axes, eccentricity, orientation and inertia from central moments over the area (4, 4)."""
    vertical, mixed, level = covariance[2, 0], covariance[1, 1], covariance[0, 2]
    half, split = (vertical + level) / 2, np.hypot((level - vertical) / 2, mixed)
    major, minor = max(half + split, 0.0), max(half - split, 0.0)
    if level == vertical:
        angle = np.pi / 4 if mixed > 0 else -np.pi / 4
    else:
        angle = 0.5 * np.arctan2(2 * mixed, vertical - level)
    return {
        "MajorAxisLength": float(4 * np.sqrt(major)),
        "MinorAxisLength": float(4 * np.sqrt(minor)),
        "Eccentricity": float(np.sqrt(1 - minor / major)) if major else 0.0,
        "Orientation": float(np.rad2deg(angle)),
        "InertiaTensor_0_0": float(level),
        "InertiaTensor_0_1": float(-mixed),
        "InertiaTensor_1_0": float(-mixed),
        "InertiaTensor_1_1": float(vertical),
        "InertiaTensorEigenvalues_0": float(major),
        "InertiaTensorEigenvalues_1": float(minor),
    }
