"""How far the view moved between two frames, from their small reliefs."""

import cv2
import numpy as np

from parfocal.gate.measures import SMALL, Float

ALIKE = 0.5
"""Least correlation at which the difference of two reliefs is a small shift's: beyond, search."""

FOUND = 0.05
"""Least response of a phase correlation that shows the same place twice."""

BLUR = 1.2


def correlation(before: Float, after: Float) -> float:
    """How alike two reliefs (h, w) are where they lie: 1 the same, 0 unrelated."""
    spread = float(cv2.norm(before) * cv2.norm(after))
    return float(np.vdot(before, after)) / spread if spread > 0 else 0.0


def shift_px(before: Float, after: Float) -> tuple[float, float] | None:
    """How far (x, y) what is seen moved, in camera pixels; nothing when they share no place.

    A small shift is read off the slopes, to within a quarter of itself and without steps; a larger
    one is searched. Dust on the camera that outshines the cells hides both.
    """
    if correlation(before, after) >= ALIKE:
        x, y = slid(before, after)
    else:
        # given the window, phaseCorrelate may apply it to our own arrays in place
        fade = window(before.shape)
        (x, y), response = cv2.phaseCorrelate(before * fade, after * fade)
        if response < FOUND:
            return None
    return SMALL * x, SMALL * y


def slid(before: Float, after: Float) -> tuple[float, float]:
    """Least-squares shift (x, y) in small pixels, for shifts of less than about one."""
    # unblurred, detail of a pixel's size has slopes that differences see too flat
    first, second = (cv2.GaussianBlur(one, (0, 0), BLUR) for one in (before, after))
    mean = (first + second) / 2
    dx = (mean[1:-1, 2:] - mean[1:-1, :-2]) / 2
    dy = (mean[2:, 1:-1] - mean[:-2, 1:-1]) / 2
    gap = (second - first)[1:-1, 1:-1]
    xx, xy, yy = (float(np.vdot(a, b)) for a, b in ((dx, dx), (dx, dy), (dy, dy)))
    bx, by = float(np.vdot(dx, gap)), float(np.vdot(dy, gap))
    det = xx * yy - xy * xy
    if det <= 1e-9 * max(xx * yy, 1e-30):
        return 0.0, 0.0
    return (xy * by - yy * bx) / det, (xy * bx - xx * by) / det


def window(shape: tuple[int, ...]) -> Float:
    """A Hanning window (h, w)."""
    return np.asarray(cv2.createHanningWindow((shape[1], shape[0]), cv2.CV_32F), np.float32)
