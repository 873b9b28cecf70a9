"""One cell cut out of its crop: the smallest image from which its features are the same."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """The bounding box of a mask with a rim of one pixel where the crop has one.

    Parameters
    ----------
    mask : ndarray of shape (h, w), bool
    levels : ndarray of shape (h, w), float64
        Grey levels in [0, 1].
    top, left : int
        Where the patch lies in the crop, in pixels.
    y, x : ndarrays of shape (n,), int64
        The pixels of the mask in the patch, row by row.
    """

    mask: Bools
    levels: Floats
    top: int
    left: int
    y: Ints
    x: Ints

    @property
    def inside(self) -> Floats:
        """Grey levels of the cell's pixels: (n,)."""
        return self.levels[self.y, self.x]


def patch_of(levels: Floats, mask: Bools) -> Patch:
    """The patch of a mask (s, s) that is not empty in a crop (s, s) of levels in [0, 1]."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = max(int(rows[0]) - 1, 0), max(int(columns[0]) - 1, 0)
    box = np.s_[top : int(rows[-1]) + 2, left : int(columns[-1]) + 2]
    small = np.ascontiguousarray(mask[box])
    y, x = np.nonzero(small)
    return Patch(small, np.ascontiguousarray(levels[box]), top, left, y, x)
