"""Which crop lends its grey levels to all others."""

import numpy as np
import torch
from numpy.typing import NDArray

from parfocal.normalize import LEVELS, Reference
from parfocal.types import Gray


def levels_8bit(crops: Gray) -> NDArray[np.uint8]:
    """Levels on the scale of a reference, 0-255; 16-bit levels are divided by 257."""
    if crops.dtype == np.uint8:
        return crops.astype(np.uint8, copy=False)
    scaled: NDArray[np.uint8] = np.rint(crops / 257.0).astype(np.uint8)
    return scaled


def medoid(crops: Gray) -> int:
    """Index of the crop whose sorted levels have the least summed L1 distance to all others.

    The L1 distance of two sorted-level vectors equals that of their cumulative histograms (both
    are the area between the two distribution functions), which have 256 values instead of 50,176.

    Parameters
    ----------
    crops : ndarray of shape (n, h, w), uint8 or uint16
        Without margin. The first of equally good crops is taken.
    """
    counts = [np.bincount(levels_8bit(crop).ravel(), minlength=LEVELS) for crop in crops]
    upper = torch.from_numpy(np.cumsum(counts, 1).astype(np.float32))  # (n, 256), exact < 2**24
    summed = [torch.cdist(rows, upper, p=1).sum(1) for rows in torch.split(upper, 256)]
    return int(torch.cat(summed).argmin())


def medoid_reference(crops: Gray) -> Reference:
    """The grey-level distribution of the medoid crop (n, h, w)."""
    return Reference.of(crops[medoid(crops)])


def mean_and_sd(reference: Reference) -> tuple[float, float]:
    """Mean and standard deviation of a reference's levels; every normalized crop has them."""
    at = np.arange(LEVELS)
    mean = float((at * reference.counts).sum() / reference.pixels)
    variance = float(((at - mean) ** 2 * reference.counts).sum() / reference.pixels)
    return mean, max(variance**0.5, 1.0)
