"""What a session's fields have in common, and whether a frame still fits it.

The lamp's unevenness is the ruler for light: exposure and lamp only shift the logarithm of the
background, a gamma stretches it, and a bubble or the medium's edge bends it elsewhere. A lamp
that is quite even tells no gamma. The ruler for the objective is the half width of what stands
out of the background: it needs cells, and in sparse fields 10x and 20x are not told apart.
"""

import statistics
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.gate.measures import SMALL, Float, Glance
from parfocal.gate.settings import GateSettings
from parfocal.reasons import GateReason

GRID = (6, 8)
SURE = 4.0
"""Standard errors by which a slope must differ from 1."""

KEPT = 25
"""Latest fields that make the reference: a session may go on all day."""

Grid = NDArray[np.float64]


@dataclass(slots=True)
class Reference:
    """Logarithms of backgrounds, half widths and focus of the latest fields."""

    backdrops: list[Grid] = field(default_factory=list)
    widths_px: list[float] = field(default_factory=list)
    focuses: list[float] = field(default_factory=list)

    def add(self, glance: Glance) -> None:
        """Learn a field that was taken."""
        self.backdrops = [*self.backdrops, backdrop(glance.small)][-KEPT:]
        self.focuses = [*self.focuses, glance.focus][-KEPT:]
        width_px = half_width_px(glance.relief)
        if width_px > 0:
            self.widths_px = [*self.widths_px, width_px][-KEPT:]

    def least_focus(self, settings: GateSettings) -> float:
        """Below this a frame is not sharp."""
        if len(self.focuses) < settings.reference_fields:
            return settings.least_focus
        usual = statistics.median(self.focuses)
        return max(settings.least_focus, settings.focus_share * usual)

    def light_fault(self, glance: Glance, settings: GateSettings) -> GateReason | None:
        """What is wrong with the light of a frame, if anything is; it need not be sharp."""
        now = backdrop(glance.small)
        if bent(now) > settings.bent_light:
            return GateReason.BUBBLE_OR_MENISCUS
        if len(self.backdrops) < settings.reference_fields:
            return None
        slope, error, left = stretch(np.median(self.backdrops, 0), now)
        if left > settings.bent_light:
            return GateReason.BUBBLE_OR_MENISCUS
        if abs(slope - 1) > SURE * error and changed(slope, settings.gamma_ratio):
            return GateReason.CHANGED_GAMMA
        return None

    def scale_fault(self, glance: Glance, settings: GateSettings) -> GateReason | None:
        """Whether what a sharp frame shows is of another size."""
        if len(self.widths_px) < settings.reference_fields:
            return None
        width_px, usual_px = half_width_px(glance.relief), statistics.median(self.widths_px)
        other = width_px > 0 and changed(width_px / usual_px, settings.scale_ratio)
        return GateReason.WRONG_OBJECTIVE if other else None


def changed(ratio: float, limit: float) -> bool:
    """Whether a ratio is beyond the limit, or its inverse."""
    return ratio > limit or ratio < 1 / limit


def backdrop(small: Float) -> Grid:
    """Logarithm of the background's level in each part of the frame: GRID."""
    (rows, columns), (h, w) = GRID, small.shape
    parts = small[: h // rows * rows, : w // columns * columns]
    blocks = parts.reshape(rows, h // rows, columns, w // columns)
    return np.asarray(np.log(np.maximum(np.median(blocks, (1, 3)), 0.5)), np.float64)


def bent(now: Grid) -> float:
    """Largest departure of a background from a tilted and vignetted one."""
    y, x = np.mgrid[-1 : 1 : GRID[0] * 1j, -1 : 1 : GRID[1] * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], -1).reshape(-1, 6)
    fit, *_ = np.linalg.lstsq(terms, now.ravel(), rcond=None)
    return float(np.abs(now.ravel() - terms @ fit).max())


def stretch(usual: Grid, now: Grid) -> tuple[float, float, float]:
    """Slope of a background over the usual one, its standard error, and the largest rest."""
    x, y = (grid.ravel() - grid.mean() for grid in (usual, now))
    spread = float(x @ x)
    if spread <= 0:
        return 1.0, np.inf, float(np.abs(y).max())
    slope = float(x @ y) / spread
    rest = y - slope * x
    error = float(np.sqrt(rest @ rest / (len(x) - 2) / spread))
    return slope, error, float(np.abs(rest).max())


def half_width_px(relief: Float) -> float:
    """How far the inside of things is from their edge, in camera pixels; 0 if nothing is there."""
    strength = np.abs(relief)
    least = max(4 * 1.4826 * float(np.median(strength)), 0.015)
    square = np.ones((3, 3), np.uint8)
    strong = (strength > least).astype(np.uint8)
    closed = cv2.morphologyEx(strong, cv2.MORPH_CLOSE, square, iterations=2)
    things = cv2.morphologyEx(closed, cv2.MORPH_OPEN, square)
    depth = cv2.distanceTransform(things, cv2.DIST_L2, 3)
    total = float(depth.sum())
    # deep points count more: cells, not the specks between them
    return SMALL * float(np.vdot(depth, depth)) / total if total > 0 else 0.0
