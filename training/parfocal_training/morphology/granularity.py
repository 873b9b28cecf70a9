"""CellProfiler's MeasureGranularity of one cell: how much of it bright grains of each size hold."""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal_training.morphology.patch import Bools, Floats

Features = dict[str, float]
Images = NDArray[np.float32]

SPECTRUM = 16
SUBSAMPLE = 4
"""Each way, for the spectrum, and once more for the background; CellProfiler's default 0.25."""

BACKGROUND_PX = 10
"""Radius of the opening that is the background, at a 16th of the resolution."""

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def granularity(levels: Floats, mask: Bools, channel: str) -> Features:
    """`Granularity_1_Brightfield` to `_16_`: per cent of the cell's light lost at each step.

    `levels` and `mask` are the whole crop (s, s), not a patch: the background is that of the crop.
    """
    coarse = levels[::SUBSAMPLE, ::SUBSAMPLE]
    small: Images = np.maximum(coarse - _background(coarse), 0).astype(np.float32)
    seeds = [small]
    for _ in range(SPECTRUM):
        seeds.append(cv2.erode(seeds[-1], CROSS).astype(np.float32, copy=False))
    left = _reconstructed(np.stack(seeds[1:], 2), small)  # (h, w, 16)
    weights = _stretched(mask.astype(np.float64), small.shape) / mask.sum()
    start = float(levels[mask].mean())
    means = np.concatenate([[start], np.tensordot(weights, left.astype(np.float64), 2)])
    lost = -np.diff(means) * 100 / max(start, np.finfo(float).eps)
    return {f"Granularity_{i + 1}_{channel}": float(value) for i, value in enumerate(lost)}


def _background(small: Floats) -> Floats:
    """What a wide opening leaves of an image at a quarter of its resolution: same shape."""
    coarse = small[::SUBSAMPLE, ::SUBSAMPLE]
    opened = cv2.dilate(cv2.erode(coarse, _disc()), _disc()).astype(np.float64)
    rows, columns = (stretch(n, m) for n, m in zip(small.shape, opened.shape, strict=True))
    return rows @ opened @ columns.T


@cache
def _disc() -> NDArray[np.uint8]:
    at = np.arange(-BACKGROUND_PX, BACKGROUND_PX + 1)
    return (np.add.outer(at**2, at**2) <= BACKGROUND_PX**2).astype(np.uint8)


@cache
def stretch(n: int, m: int) -> Floats:
    """The matrix (n, m) that interpolates m samples linearly to n, end to end.

    A place that rounding puts beyond the last sample weighs nothing, as in CellProfiler.
    """
    at = np.arange(n) * ((m - 1) / (n - 1))
    low = np.floor(at).astype(np.int64)
    part, inside = at - low, at <= m - 1
    matrix = np.zeros((n, m))
    matrix[np.arange(n)[inside], low[inside]] = (1 - part)[inside]
    matrix[np.arange(n)[inside], np.minimum(low + 1, m - 1)[inside]] += part[inside]
    return matrix


def _stretched(mask: Floats, shape: tuple[int, ...]) -> Floats:
    """How much each small pixel counts in the sum over the mask of the image stretched to it."""
    rows, columns = (stretch(n, m) for n, m in zip(mask.shape, shape, strict=True))
    return rows.T @ mask @ columns


def _reconstructed(seeds: Images, limit: Images) -> Images:
    """Each seed (h, w, k) grown under the limit (h, w) until nothing changes.

    What is left is every grain that survived its erosion, whole again. All seeds grow at once:
    OpenCV takes them as channels, which is several times faster than one after the other.
    """
    out, growing = seeds.copy(), np.arange(seeds.shape[2])
    while len(growing):
        grown = before = np.ascontiguousarray(out[:, :, growing])
        ceiling = np.repeat(limit[:, :, None], len(growing), 2)  # faster than to broadcast it
        for _ in range(8):  # a comparison costs as much as growing
            grown = cv2.dilate(grown, CROSS).astype(np.float32, copy=False)
            grown = grown.reshape(before.shape)
            np.minimum(grown, ceiling, out=grown)
        out[:, :, growing] = grown
        growing = growing[(grown != before).reshape(-1, len(growing)).any(0)]
    return out
