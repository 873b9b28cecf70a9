"""A glance at one frame: everything that the gate needs of it, in a few milliseconds.

The frame is halved three times; what follows is measured on a quarter and an eighth of its
resolution, and the focus is that of `parfocal.quality`.
"""

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.quality import STRUCTURE, gradient_energy, halved
from parfocal.types import Gray

SMALL = 8
"""Side in camera pixels of one pixel of a small image."""

AROUND_PX = 15
"""Side of the square, in small pixels, whose mean is the background of its middle."""

TILE = 16
TOP = 255
Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    """One frame as the gate sees it; `small` and `relief` are (h // 8, w // 8) float32.

    `relief` is the small image over its background, less 1: free of lamp and exposure.
    `focus` is that of `parfocal.quality` less the camera's noise, and without its upper bound.
    """

    small: Float
    relief: Float
    focus: float
    structured: bool
    mean: float  # share of the grey scale
    black: float  # share of pixels at the lower end of the scale
    white: float  # and at its upper end


def glance(gray: Gray) -> Glance:
    """Measure one gray frame (h, w) uint8."""
    half = halved(gray).astype(np.float32)
    quarter = cast(Float, halved(half))
    small = cast(Float, halved(quarter))
    noise = noise_energy(half)
    # white noise loses three quarters of its energy with each halving
    fine = max(gradient_energy(quarter) - noise / 4, 0.0)
    coarse = gradient_energy(small) - noise / 16
    mean = cv2.mean(small)[0]
    structured = bool(mean > 0 and coarse >= (STRUCTURE * mean) ** 2)
    black, white = ends(gray)
    return Glance(
        small=small,
        relief=relief_of(small),
        focus=max(fine / coarse - 0.25, 0.0) if structured else 0.0,
        structured=structured,
        mean=mean / TOP,
        black=black,
        white=white,
    )


def noise_energy(half: Float) -> float:
    """Gradient energy that the camera's noise alone has at half the resolution.

    That of the quietest quarter of the frame's tiles: a frame full of cells seems noisier.
    """
    rows = half[: len(half) // TILE * TILE : 2]
    step = rows[:, 1:] - rows[:, :-1]
    n = step.shape[1] // TILE
    if not n or not len(rows):
        return 0.0
    tiles = (step[:, : n * TILE] ** 2).reshape(-1, TILE // 2, n, TILE).mean((1, 3))
    return 2 * float(np.quantile(tiles, 0.25))


def relief_of(small: Float) -> Float:
    """The image over its background, less 1, same shape."""
    around = cv2.blur(small, (AROUND_PX, AROUND_PX), borderType=cv2.BORDER_REFLECT)
    return np.asarray(small / np.maximum(around, 1) - 1, np.float32)


def ends(gray: Gray) -> tuple[float, float]:
    """Shares of pixels at the lower and the upper end of the scale, of every fourth row, column."""
    sample = np.ascontiguousarray(gray[::4, ::4])
    n = max(sample.size, 1)
    return np.count_nonzero(sample == 0) / n, np.count_nonzero(sample == TOP) / n
