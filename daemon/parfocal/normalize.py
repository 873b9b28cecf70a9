"""Exact quantile normalization of single-cell crops to one reference distribution.

A pixel of rank r among the crop's pixels gets the r-th smallest grey level of the reference crop;
pixels that tie get the mean of the reference levels whose ranks they span. This is the textbook
definition (Bolstad et al. 2003), carried out exactly through a histogram and a lookup table. The
paper's own script maps 1,000 percentiles step-wise (Yao et al. 2019, Methods; authors' MATLAB
code). On real crops the two differ by 0.06 grey levels on average and by more than one level in
less than 1 % of the pixels, all in the outermost tails (`tests/test_normalize.py`).
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

LEVELS = 256
"""Grey levels of a reference distribution; crops of 16 bits are mapped onto them too."""

Crops = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The grey-level distribution that every crop is given.

    Parameters
    ----------
    counts : ndarray of shape (256,), int64
        How many pixels of the reference crop have each grey level.
    """

    counts: NDArray[np.int64]
    sums: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts, np.int64)
        if counts.shape != (LEVELS,) or counts.min() < 0 or counts.sum() == 0:
            raise ValueError(f"a reference has {LEVELS} counts >= 0, got shape {counts.shape}")
        ordered = np.repeat(np.arange(LEVELS, dtype=np.int64), counts)  # (pixels,)
        sums = np.concatenate([[0], np.cumsum(ordered)]).astype(np.float64)  # exact: < 2**53
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "sums", sums)

    @property
    def pixels(self) -> int:
        """Number of pixels of the reference crop."""
        return len(self.sums) - 1

    @classmethod
    def of(cls, crop: Crops) -> "Reference":
        """The distribution of one crop (uint16 levels are scaled onto 0-255)."""
        levels = crop if crop.dtype == np.uint8 else np.rint(crop / 257.0).astype(np.uint8)
        return cls(np.bincount(levels.ravel(), minlength=LEVELS).astype(np.int64))


def lookup_table(histogram: NDArray[np.int64], reference: Reference) -> NDArray[np.float32]:
    """The new value of every grey level of a crop with this histogram: shape (levels,), float32."""
    upper = np.cumsum(histogram)  # (levels,)
    spanned = reference.sums[upper] - reference.sums[upper - histogram]
    table: NDArray[np.float32] = (spanned / np.maximum(histogram, 1)).astype(np.float32)
    return table


def normalize(crops: Crops, reference: Reference) -> NDArray[np.float32]:
    """Crops with the reference's grey-level distribution.

    Parameters
    ----------
    crops : ndarray of shape (n, h, w), uint8 or uint16
        Raw crops; h * w must equal the number of pixels of the reference.
    reference : Reference
        Levels 0-255.

    Returns
    -------
    ndarray of shape (n, h, w), float32
        Grey levels 0-255. Ties get the mean of the reference levels they span.
    """
    if crops.ndim != 3 or crops.shape[1] * crops.shape[2] != reference.pixels:
        raise ValueError(
            f"crops of shape {crops.shape} do not match a reference of {reference.pixels} pixels"
        )
    levels = {np.dtype(np.uint8): 256, np.dtype(np.uint16): 65536}.get(crops.dtype)
    if levels is None:
        raise ValueError(f"crops must be uint8 or uint16, got {crops.dtype}")
    out = np.empty(crops.shape, np.float32)  # (n, h, w)
    for crop, target in zip(crops, out, strict=True):
        flat = np.ascontiguousarray(crop)
        counted = cv2.calcHist([flat], [0], None, [levels], [0, levels])  # float32: exact < 2**24
        table = lookup_table(counted.ravel().astype(np.int64), reference)
        cv2.LUT(flat, table, dst=target)
    return out
