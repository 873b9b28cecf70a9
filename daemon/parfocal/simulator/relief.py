"""The parts of a cell's relief, each drawn into a local window: edge, dome, texture, granules."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.outline import Outline
from parfocal.simulator.parameters import Texture

Float = NDArray[np.float32]
FOOT_UM = 0.95
EDGE_POWER = 1.9  # of the slope from margin to body: 1 is a wedge, 2 a parabola
BARE_UM = (0.0, 1.0)  # thin margin where there is no lamella
LAMELLA_UM = 3.5  # and how much wider it is along one


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A cell's mask on the pixel grid; its top left lies `offset_px` (x, y) from the anchor."""

    mask: NDArray[np.bool_]  # (h, w)
    offset_px: tuple[int, int]
    um_per_px: float

    def to_px(self, points_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Window pixels (n, 2) of points around the anchor."""
        points: NDArray[np.float64] = points_um / self.um_per_px - np.array(self.offset_px)
        return points

    def grid_um(self) -> tuple[Float, Float]:
        """X (1, w) and y (h, 1) of the pixel centres around the anchor."""
        h, w = self.mask.shape
        x = (np.arange(w, dtype=np.float32) + self.offset_px[0]) * np.float32(self.um_per_px)
        y = (np.arange(h, dtype=np.float32) + self.offset_px[1]) * np.float32(self.um_per_px)
        return x[None, :], y[:, None]


def shoulder(
    window: Window, outline: Outline, edge_um: float, one_sided: float, rng: np.random.Generator
) -> tuple[Float, Float]:
    """How far the body has risen to its thickness, and the thin margin around it: both (h, w).

    0 outside to 1. The body starts inside the outline and rises steeply on one side and gently
    on the other; the margin is widest along a lamella and at corners.
    """
    depth = cv2.distanceTransform(window.mask.astype(np.uint8), cv2.DIST_L2, 5)
    depth_um = np.asarray(depth, np.float32) * np.float32(window.um_per_px)
    width, inset = _edge_um(window, outline, edge_um, one_sided, rng)
    inset = np.minimum(inset, np.float32(0.45) * depth_um.max())
    beyond = np.maximum(depth_um - inset, 0)
    near = 1 - np.minimum(beyond / width, 1)
    # a short foot: the dark rim has a breadth
    rise = (1 - near**EDGE_POWER) * _foot(beyond)
    return np.asarray(rise, np.float32), _foot(depth_um)


def _foot(depth_um: Float) -> Float:
    return np.asarray(1 - np.exp(-((depth_um / np.float32(FOOT_UM)) ** 2)), np.float32)


def _edge_um(
    window: Window, outline: Outline, edge_um: float, one_sided: float, rng: np.random.Generator
) -> tuple[Float, Float]:
    """Width of the slope, and of the thin margin before it, for the nearest edge: both (h, w)."""
    x, y = window.grid_um()
    turn = rng.uniform(0, 2 * np.pi)
    radius = float(np.abs(outline.points_um).max())
    side = (x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))) / np.float32(radius)
    width = np.float32(edge_um) * np.exp(np.float32(1.3 * one_sided) * side)
    flat = np.zeros(window.mask.shape, np.float32)
    _discs(flat, window, outline.corners_um, 3.0, 0.6)
    _discs(flat, window, outline.points_um[outline.ruffled > 0.5], 5.0, 1.0)
    soft = np.asarray(cv2.GaussianBlur(flat, (0, 0), 1.5 / window.um_per_px), np.float32)
    inset = np.float32(rng.uniform(*BARE_UM)) + np.float32(LAMELLA_UM) * soft
    return np.asarray(width * (1 + soft), np.float32), np.asarray(inset, np.float32)


def _discs(
    layer: Float, window: Window, points_um: NDArray[np.float64], radius_um: float, level: float
) -> None:
    radius = max(1, round(radius_um / window.um_per_px))
    for x, y in np.round(window.to_px(points_um)).astype(int).tolist():
        cv2.circle(layer, (x, y), radius, level, -1)


def dome(window: Window, centre_px: tuple[float, float], radius_um: float, level: float) -> Float:
    """1 over the nucleus, falling to `level` far from it: shape (h, w)."""
    x, y = window.grid_um()
    cx, cy = (np.float32(c * window.um_per_px) for c in centre_px)
    distance2 = ((x - cx) ** 2 + (y - cy) ** 2) / np.float32(radius_um) ** 2
    return np.asarray(level + (1 - level) * np.exp(-distance2), np.float32)


def mottle(window: Window, scale_um: float, rng: np.random.Generator) -> Float:
    """Random texture of about unit spread, grains of one size and coarser: shape (h, w).

    Uneven: here lively and there nearly smooth.
    """
    patchy = np.float32(0.5) * _band(window, 4 * scale_um, rng)
    # lumps rather than hollows: the logarithm is what is symmetric
    lumps = np.exp(np.float32(0.7) * _band(window, scale_um, rng) + patchy)
    coarse = np.float32(0.6) * _band(window, 2.2 * scale_um, rng)
    return np.asarray(lumps + coarse - 1, np.float32)


def _band(window: Window, scale_um: float, rng: np.random.Generator) -> Float:
    h, w = window.mask.shape
    step = max(1.0, 0.5 * scale_um / window.um_per_px)
    coarse = rng.standard_normal((int(h / step) + 4, int(w / step) + 4), np.float32)
    return np.asarray(cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC), np.float32)


def beads(
    window: Window,
    texture: Texture,
    nucleus_px: tuple[float, float],
    core_um: float,
    gain: float,
    rng: np.random.Generator,
) -> tuple[Float, Float]:
    """Granules around the nucleus, as micrometres of thickness, and dark vacuoles: both (h, w)."""
    layer = np.zeros(window.mask.shape, np.float32)
    dark = np.zeros_like(layer)
    area_um2 = float(window.mask.sum()) * window.um_per_px**2
    centre = np.array(nucleus_px) * window.um_per_px
    n = rng.poisson(texture.granules_per_100um2 * area_um2 / 100)
    _dots(layer, window, centre + rng.normal(0, 1.3 * core_um, (n, 2)), texture.granule_um, rng)
    near = centre + rng.normal(0, 1.1 * core_um, (rng.poisson(texture.vacuoles), 2))
    _dots(dark, window, near, 0.5, rng, 1.0)
    soft = cv2.GaussianBlur(layer * window.mask, (0, 0), 0.32 / window.um_per_px)
    ink = cv2.GaussianBlur(dark * window.mask, (0, 0), 0.3 / window.um_per_px)
    return np.asarray(soft, np.float32) * np.float32(gain), np.asarray(ink, np.float32)


def _dots(
    layer: Float,
    window: Window,
    points_um: NDArray[np.float64],
    height_um: float,
    rng: np.random.Generator,
    radius_um: float = 0.5,
) -> None:
    places = np.round(window.to_px(points_um) * 16).astype(int)
    radii = np.exp(0.3 * rng.standard_normal(len(places))) * radius_um / window.um_per_px
    # some are thicker than their surroundings, the others are hollows
    signs = np.where(rng.random(len(places)) < 0.5, 1.0, -1.0)
    heights = height_um * rng.uniform(0.5, 1.5, len(places)) * signs
    for (x, y), radius, height in zip(
        places.tolist(), radii.tolist(), heights.tolist(), strict=True
    ):
        cv2.circle(layer, (x, y), max(1, round(radius * 16)), height, -1, shift=4)
