"""How good a frame is, from a few cheap numbers; advice for people, not a filter.

Focus compares two octaves of the gray frame, a quarter and an eighth of its resolution: finer ones
hold mostly camera noise, since a microscope's own resolution is several pixels wide. The result
depends on the objective and on how dense the cells are; it says most against its own history.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.types import Gray, Quality

DARK, BRIGHT = 0.08, 0.92
"""Mean grey level, as a share of the scale, beyond which the lamp is too low or too high."""

UNCLIPPED = 0.99
"""Least exposure: more than 1 % of pixels at an end of the scale lose what they showed."""

STRUCTURE = 0.007
"""Least gradient, as a share of the mean level: noise of 3 levels in 128 gives 0.006, cells 0.05
and more."""

IN_FOCUS = 0.12
"""Least focus: frames of 4x to 20x in focus gave 0.36 to 1, blurred by 4 px 0.23 and less."""


def quality(gray: Gray) -> Quality:
    """Focus, exposure and flags of one frame."""
    scale = grey_scale(gray)
    fine, coarse, mean = octaves(gray)
    structured = mean > 0 and np.sqrt(coarse) >= STRUCTURE * mean
    focus = float(np.clip(fine / coarse - 0.25, 0, 1)) if structured else 0.0
    exposure = 1 - clipped(gray, scale)
    faults = {
        "dark": mean < DARK * scale,
        "bright": mean > BRIGHT * scale,
        "saturated": exposure < UNCLIPPED,
        "low_contrast": not structured,
        "out_of_focus": structured and focus < IN_FOCUS,
    }
    flags = tuple(flag for flag, wrong in faults.items() if wrong)
    return Quality(focus=focus, exposure=exposure, flags=flags)


def grey_scale(gray: Gray) -> int:
    """Highest level of the camera: 255, or of 10, 12, 14 or 16 bits by the brightest pixel."""
    if gray.dtype == np.uint8:
        return 255
    brightest = int(gray.max(initial=0))
    return next(top for top in (1023, 4095, 16383, 65535) if brightest <= top)


def octaves(gray: Gray) -> tuple[float, float, float]:
    """Gradient energy at a quarter and at an eighth of the resolution, and the mean level.

    In a smooth frame halving the resolution doubles each gradient: the ratio is 1/4. Detail that
    only the finer one resolves raises it; 5/4 and more is as sharp as can be.
    """
    half = halved(gray).astype(np.float32)
    quarter = halved(half)
    eighth = halved(quarter)
    return gradient_energy(quarter), gradient_energy(eighth), float(cv2.mean(eighth)[0])


def halved(image: NDArray[np.integer | np.floating]) -> NDArray[np.integer | np.floating]:
    """The image at half the resolution, by area."""
    h, w = image.shape
    return cv2.resize(image, (max(1, w // 2), max(1, h // 2)), interpolation=cv2.INTER_AREA)


def gradient_energy(image: NDArray[np.integer | np.floating]) -> float:
    """Mean of the squared differences of neighbouring pixels."""
    across = cv2.norm(image[:, 1:], image[:, :-1], cv2.NORM_L2SQR) if image.shape[1] > 1 else 0.0
    down = cv2.norm(image[1:], image[:-1], cv2.NORM_L2SQR) if image.shape[0] > 1 else 0.0
    return (across + down) / image.size


def clipped(gray: Gray, scale: int) -> float:
    """Share of pixels at either end of the grey scale, from every second row and column."""
    sample = np.ascontiguousarray(gray[::2, ::2])
    ends = np.count_nonzero(sample == 0) + np.count_nonzero(sample == scale)
    return float(ends / sample.size)
