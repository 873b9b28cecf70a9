"""How a fluorescence frame lies over the brightfield frame of the same field."""

from collections.abc import Sequence
from typing import Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.detect import apart
from parfocal.reasons import ObjectReason
from parfocal.types import Finds
from parfocal_training.mixed.nuclei import Float, Labels, Mask, Nuclei

Shift = tuple[float, float]
"""x right, y down, in brightfield pixels: light of a point at p is found at p + shift."""

DEEP_UM = 8.0
"""Radius of a nucleus: farther inside a cell its place says nothing more about the shift."""

MIN_NUCLEI = 4
"""A frame with fewer has no estimate of its own: one nucleus lies anywhere in its cell."""

MAX_STRAY_UM = 4.0
"""A frame farther from the median of its set moved between the exposures, or was estimated wrongly;
on simulated frames estimates scatter by 0.5 um."""


class FrameShift(msgspec.Struct, frozen=True, kw_only=True):
    """How a fluorescence frame is displaced; x right, y down, in brightfield pixels.

    `origin`: `own` estimate; or the `median` of the set instead, because the frame has too few
    nuclei (`own_px` None) or an estimate that strays too far; or `none`, where no frame of the set
    has an estimate and all are taken to be in register.
    """

    own_px: Shift | None
    used_px: Shift
    origin: Literal["own", "median", "none"]


def laid_over(
    image: Labels | Mask, size: tuple[int, int], frame: tuple[int, int], shift_px: Shift
) -> Labels:
    """A label image of the fluorescence frame as it lies over the brightfield frame.

    Parameters
    ----------
    image : (h_f, w_f) int32 or bool
    size : (h', w'), of the result, which shows the whole brightfield frame
    frame : (h, w), of the brightfield frame
    shift_px : shift of the fluorescence frame in brightfield pixels

    Returns
    -------
    (h', w') int32
    """
    (h_f, w_f), (h, w) = image.shape, size
    x, y = shift_px[0] * w_f / frame[1], shift_px[1] * h_f / frame[0]
    move = np.array(  # pixel centres at integers, hence the halves
        [[w_f / w, 0, 0.5 * w_f / w - 0.5 + x], [0, h_f / h, 0.5 * h_f / h - 0.5 + y]], np.float64
    )
    way = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(image.astype(np.float32), move, (w, h), flags=way)
    return np.asarray(moved, np.int32)


def own_shift(
    nuclei: Nuclei, finds: Finds, frame: tuple[int, int], um_per_px: float, max_shift_px: float
) -> Shift | None:
    """The shift at which the nuclei lie deepest inside the cells; None where nothing decides.

    Each nucleus has one vote, spread over its pixels; a pixel counts by its depth in its cell up
    to `DEEP_UM`. All shifts are tried at once as a cross-correlation, and a parabola through the
    summit gives parts of a pixel. None: too few nuclei, or a summit at the limit of the search.
    """
    if len(nuclei) < MIN_NUCLEI:
        return None
    ratio = frame[1] / finds.labels.shape[1]  # brightfield pixels a pixel of the labels
    votes = vote_map(laid_over(nuclei.labels, finds.labels.shape, frame, (0.0, 0.0)))
    depth = depth_map(finds, um_per_px * ratio)
    reach = max(1, round(max_shift_px / ratio))
    agreement = correlation(votes, depth, reach)
    y, x = (int(i) for i in np.unravel_index(int(agreement.argmax()), agreement.shape))
    if agreement[y, x] <= 0 or not (0 < x < 2 * reach and 0 < y < 2 * reach):
        return None
    return (
        ratio * (x - reach + summit(agreement[y, x - 1 : x + 2])),
        ratio * (y - reach + summit(agreement[y - 1 : y + 2, x])),
    )


def vote_map(nuclei: Labels) -> Float:
    """1 for each nucleus, spread evenly over its pixels: (h, w)."""
    area = np.bincount(nuclei.ravel())
    weight = 1 / np.maximum(area, 1)
    weight[0] = 0
    return np.asarray(weight[nuclei], np.float32)


def depth_map(finds: Finds, um_per_px: float) -> Float:
    """Depth of each pixel in its own object, from 0 outside to 1 from `DEEP_UM` on: (h, w)."""
    cell = np.array([False, *(reason != ObjectReason.DEBRIS for reason in finds.reasons)])
    inside = cell[finds.labels] & apart(finds.labels)
    depth = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(np.minimum(depth * (um_per_px / DEEP_UM), 1), np.float32)


def correlation(moving: Float, still: Float, reach: int) -> NDArray[np.float64]:
    """Sum of products at each shift of `moving` by -reach..reach: (2 reach + 1, 2 reach + 1)."""
    shape = [extent + 2 * reach for extent in still.shape]  # room, so that nothing wraps round
    product = np.fft.rfft2(moving, shape) * np.conj(np.fft.rfft2(still, shape))
    around = np.roll(np.fft.irfft2(product, shape), (reach, reach), (0, 1))
    return np.asarray(around[: 2 * reach + 1, : 2 * reach + 1], np.float64)


def summit(values: NDArray[np.float64]) -> float:
    """Place of the top of a parabola through three values, from the middle one: -1/2 to 1/2."""
    left, middle, right = (float(v) for v in values)
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else 0.5 * (left - right) / bend


def agreed_shifts(own: Sequence[Shift | None], um_per_px: Sequence[float]) -> list[FrameShift]:
    """The shift to use for each frame: its own, unless it has none or strays from the median."""
    known = np.array([shift for shift in own if shift is not None], np.float64).reshape(-1, 2)
    if not len(known):
        return [FrameShift(own_px=None, used_px=(0.0, 0.0), origin="none") for _ in own]
    x, y = (float(v) for v in np.median(known, axis=0))
    out = []
    for shift, scale in zip(own, um_per_px, strict=True):
        if shift is None or np.hypot(shift[0] - x, shift[1] - y) * scale > MAX_STRAY_UM:
            out.append(FrameShift(own_px=shift, used_px=(x, y), origin="median"))
        else:
            out.append(FrameShift(own_px=shift, used_px=shift, origin="own"))
    return out
