"""The size of a pixel from an image: a burnt-in scale bar, a stage micrometre, or the cells.

A bar and a micrometre measure; the cells only hint, because cells differ in size by more than
objectives do.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.types import Finds, Gray

TYPICAL_CELL_UM2 = 1100.0
"""Median area of adherent cells in the public sets that parfocal was measured on: 330 to 2600."""
TRIED_UM_PER_PX = tuple(float(x) for x in np.round(0.16 * 2 ** (np.arange(9) / 2), 3))
LEAST_CELLS = 5
RULED = 0.35
"""Correlation of a ruled image with itself, one division on."""


class NoScaleError(Exception):
    """The image shows nothing that tells its scale; the message says what was looked for."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A scale bar or its box in frame pixels: place, length and height."""

    left_px: int
    top_px: int
    length_px: int
    height_px: int


def find_bars(gray: Gray) -> list[Bar]:
    """Flat rectangles of the darkest or brightest level near the frame's edge, longest first.

    A bar is one line, or the box behind its label; either is at least 2 % of the frame wide, at
    most 5 % high and four times as long as high.
    """
    low, high = float(gray.min()), float(gray.max())
    levels = (gray - low) * (255 / max(high - low, 1))
    found = [bar for mask in (levels <= 12, levels >= 243) for bar in _rectangles(mask)]
    return sorted(set(found), key=lambda bar: -bar.length_px)


def _rectangles(mask: NDArray[np.bool_]) -> list[Bar]:
    h, w = mask.shape
    outlines, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    out = []
    for outline in outlines:
        x, y, length, height = cv2.boundingRect(outline)
        inside = cv2.contourArea(outline) + cv2.arcLength(outline, True) / 2 + 1
        flat = inside > 0.85 * length * height
        shaped = length >= 0.02 * w and height <= 0.05 * h and length >= 4 * height
        outer = y + height > 0.8 * h or y < 0.2 * h
        if flat and shaped and outer and length < 0.6 * w:
            out.append(Bar(x, y, length, height))
    return out


def bar_um_per_px(gray: Gray, bar_um: float) -> tuple[float, list[Bar]]:
    """Pixel size from a bar of known length; all candidates, the one that was used first.

    Bars in the lower part go first, where microscope software puts them.

    Raises
    ------
    NoScaleError
        There is none.
    """
    bars = find_bars(gray)
    if not bars:
        raise NoScaleError(
            "no scale bar was found: it must be flat, black or white, and near the upper or lower "
            "edge; measure it by hand and give its length divided by its pixels as um_per_px"
        )
    lower = [bar for bar in bars if bar.top_px > gray.shape[0] / 2]
    ordered = lower + [bar for bar in bars if bar not in lower]
    return bar_um / ordered[0].length_px, ordered


def division_um_per_px(gray: Gray, division_um: float) -> float:
    """Pixel size from a stage micrometre, whose lines may lie at any angle.

    The lines' direction is that of the structure tensor; across it, the distance of a line to the
    next is the first strong peak of the autocorrelation, refined over as many lines as there are.

    Raises
    ------
    NoScaleError
        There is no ruling.
    """
    profile = _across(gray)
    period = _period(profile)
    if period is None:
        raise NoScaleError(
            "no ruling of even lines was found: the micrometre must fill the frame and be in focus"
        )
    return division_um / period


def _across(gray: Gray) -> NDArray[np.float64]:
    """Mean level along lines perpendicular to the strongest direction of change."""
    image = gray.astype(np.float32)
    image -= cv2.blur(image, (101, 101))
    dx, dy = (cv2.Sobel(image, cv2.CV_32F, *way) for way in ((1, 0), (0, 1)))
    xx, yy, xy = float((dx * dx).sum()), float((dy * dy).sum()), float((dx * dy).sum())
    angle = 0.5 * np.degrees(np.arctan2(2 * xy, xx - yy))
    h, w = gray.shape
    turn = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), float(angle), 1.0)
    level = cv2.warpAffine(image, turn, (w, h), borderMode=cv2.BORDER_CONSTANT)
    inside = cv2.warpAffine(np.ones_like(image), turn, (w, h))
    rows = slice(h // 3, h - h // 3)
    weight = np.maximum(inside[rows].sum(0), 1)
    profile: NDArray[np.float64] = (level[rows].sum(0) / weight).astype(np.float64)
    return profile


def _period(profile: NDArray[np.float64]) -> float | None:
    """Distance between lines in pixels, sub-pixel; None where nothing repeats."""
    centred = profile - profile.mean()
    n = len(centred)
    spectrum = np.abs(np.fft.rfft(centred, 4 * n)) ** 2
    lags = np.fft.irfft(spectrum)[: n // 2]
    lags = lags / max(lags[0], 1e-9) * n / (n - np.arange(n // 2))  # unbiased
    peaks = np.flatnonzero((lags[1:-1] > lags[:-2]) & (lags[1:-1] >= lags[2:])) + 1
    strong = peaks[(lags[peaks] > RULED) & (peaks >= 3)]
    if not len(strong):
        return None
    first = _refined(lags, int(strong[0]))
    period = first
    for k in range(2, int((n // 2 - 2) / first)):
        near = round(k * period)
        window = lags[near - 1 : near + 2]
        if len(window) < 3 or window.max() < RULED / 2:
            break
        top = near - 1 + int(window.argmax())
        if not 0 < top < len(lags) - 1:
            break
        period = _refined(lags, top) / k
    return period


def _refined(values: NDArray[np.float64], at: int) -> float:
    """Place of a maximum by a parabola through three values."""
    left, middle, right = values[at - 1 : at + 2]
    bend = left - 2 * middle + right
    return at + (0.5 * (left - right) / bend if bend < 0 else 0.0)


def cells_um_per_px(gray: Gray, detector: Callable[[Gray, float], Finds]) -> float:
    """Pixel size at which the cells have the usual size: a hint, within a factor of two or so.

    Raises
    ------
    NoScaleError
        At no scale were there enough cells.
    """
    medians = []
    for um_per_px in TRIED_UM_PER_PX:
        finds = detector(gray, um_per_px)
        single = np.array([reason is None for reason in finds.reasons], bool)
        if single.sum() >= LEAST_CELLS:
            medians.append((um_per_px, float(np.median(finds.area_um2[single]))))
    if not medians:
        raise NoScaleError("no cells were found at any scale: the pixel size cannot be estimated")
    size = np.array([area for _, area in medians])
    best = int(np.abs(np.log(size / TYPICAL_CELL_UM2)).argmin())
    return medians[best][0]
