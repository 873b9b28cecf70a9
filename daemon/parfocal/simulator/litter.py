"""What lies on, in and above the plastic besides cells: specks, rings, scratches, ghosts, dust.

Decided tile by tile like the culture, so that it moves with the flask; dust sits on the optics
and stays in the frame.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.culture import TILE_UM
from parfocal.simulator.parameters import Plastic

Float = NDArray[np.float32]
_ORIGIN = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """The layers of a view while it is drawn; its top left lies `corner_px` on the flask."""

    height_um: Float  # (h, w)
    absorption: Float  # (h, w)
    shade: Float  # (h, w) relative change of intensity
    corner_px: tuple[int, int]
    um_per_px: float

    @classmethod
    def empty(cls, size: tuple[int, int], corner_px: tuple[int, int], um_per_px: float) -> "Canvas":
        """Nothing but medium, (h, w) = size."""
        height, ink, shade = (np.zeros(size, np.float32) for _ in range(3))
        return cls(height, ink, shade, corner_px, um_per_px)

    @property
    def box_um(self) -> tuple[float, float, float, float]:
        """left, top, right, bottom on the flask."""
        h, w = self.shade.shape
        x, y = self.corner_px
        left, top, right, bottom = (v * self.um_per_px for v in (x, y, x + w, y + h))
        return left, top, right, bottom


def strew(canvas: Canvas, plastic: Plastic, seed: int) -> None:
    """Draw the litter of every tile in view."""
    left, top, right, bottom = canvas.box_um
    reach = 60.0  # half of the longest scratch
    for ty in range(int((top - reach) // TILE_UM), int((bottom + reach) // TILE_UM) + 1):
        for tx in range(int((left - reach) // TILE_UM), int((right + reach) // TILE_UM) + 1):
            rng = np.random.default_rng((seed, tx + _ORIGIN, ty + _ORIGIN, 5))
            origin_um = np.array([tx, ty]) * TILE_UM
            _specks(canvas, plastic.specks_per_mm2, origin_um, rng)
            _rings(canvas, plastic.blobs_per_mm2, origin_um, rng)
            _ghosts(canvas, plastic.ghosts_per_mm2, origin_um, rng)
            _scratches(canvas, plastic.scratches_per_mm2, origin_um, rng)


def _places(
    canvas: Canvas, per_mm2: float, origin_um: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    n = int(rng.poisson(per_mm2 * TILE_UM**2 * 1e-6))
    at = origin_um + rng.uniform(0, TILE_UM, (n, 2))
    places: NDArray[np.float64] = at / canvas.um_per_px - np.array(canvas.corner_px)
    return places  # (n, 2) canvas pixels


def _specks(
    canvas: Canvas, per_mm2: float, origin_um: NDArray[np.float64], rng: np.random.Generator
) -> None:
    places = _places(canvas, per_mm2, origin_um, rng)
    gathered = rng.random(len(places)) < 0.45
    if gathered.any():
        heap = places[0] + rng.normal(0, 9 / canvas.um_per_px, (len(places), 2))
        places = np.where(gathered[:, None], heap, places)
    radii = 0.7 * np.exp(0.35 * rng.standard_normal(len(places))) / canvas.um_per_px
    ink = rng.uniform(0.2, 1.1, len(places)) ** 1.5
    for (x, y), radius, dark in zip(places.tolist(), radii.tolist(), ink.tolist(), strict=True):
        at, size = (round(x * 16), round(y * 16)), max(8, round(radius * 16))
        cv2.circle(canvas.absorption, at, size, 1.6 * dark, -1, shift=4)
        cv2.circle(canvas.height_um, at, size, 1.2 * dark, -1, shift=4)


def _rings(
    canvas: Canvas, per_mm2: float, origin_um: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """Substrate impurities: damped cosine rings, dark or bright in the middle."""
    for x, y in _places(canvas, per_mm2, origin_um, rng).tolist():
        sigma = rng.uniform(1.6, 3.4) / canvas.um_per_px
        strength = rng.uniform(0.03, 0.16) * (-1 if rng.random() < 0.75 else 1)
        waves = rng.uniform(0.35, 0.9)
        r = _radius(3 * sigma)
        _stamp(canvas.shade, x, y, strength * np.cos(waves * r / sigma * 2) * _fall(r, sigma))


def _ghosts(
    canvas: Canvas, per_mm2: float, origin_um: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """Far out of focus: soft dark discs."""
    for x, y in _places(canvas, per_mm2, origin_um, rng).tolist():
        sigma = float(3.0 * np.exp(0.4 * rng.standard_normal())) / canvas.um_per_px
        strength = float(-0.06 * np.exp(0.7 * rng.standard_normal()))
        _stamp(canvas.shade, x, y, max(strength, -0.5) * _fall(_radius(3 * sigma), sigma, 4))


def _scratches(
    canvas: Canvas, per_mm2: float, origin_um: NDArray[np.float64], rng: np.random.Generator
) -> None:
    for x, y in _places(canvas, per_mm2, origin_um, rng).tolist():
        angle = rng.normal(1.2, 0.5)
        half = rng.uniform(15, 60) / canvas.um_per_px
        dx, dy = half * np.cos(angle), half * np.sin(angle)
        a = (round((x - dx) * 16), round((y - dy) * 16))
        b = (round((x + dx) * 16), round((y + dy) * 16))
        cv2.line(canvas.height_um, a, b, float(rng.uniform(0.08, 0.3)), 1, cv2.LINE_8, 4)


def dust(shape: tuple[int, int], count: int, um_per_px: float, rng: np.random.Generator) -> Float:
    """Relative intensity of dust on the optics: (h, w), mostly 0, negative in the spots."""
    shade = np.zeros(shape, np.float32)
    for _ in range(count):
        x, y = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
        sigma = rng.uniform(4, 12) / um_per_px
        _stamp(shade, x, y, -rng.uniform(0.01, 0.06) * _fall(_radius(3 * sigma), sigma, 4))
    return shade


def _radius(reach_px: float) -> Float:
    n = int(reach_px) + 1
    line = np.arange(-n, n + 1, dtype=np.float32)
    return np.asarray(np.hypot(line[:, None], line[None, :]), np.float32)


def _fall(r: Float, sigma: float, power: int = 2) -> Float:
    return np.asarray(np.exp(-0.5 * (r / np.float32(sigma)) ** power), np.float32)


def _stamp(layer: Float, x: float, y: float, pattern: Float) -> None:
    """Add a pattern centred at a pixel, as far as it lies on the layer."""
    n = pattern.shape[0] // 2
    left, top = round(x) - n, round(y) - n
    h, w = layer.shape
    x0, x1 = max(left, 0), min(left + 2 * n + 1, w)
    y0, y1 = max(top, 0), min(top + 2 * n + 1, h)
    if x0 < x1 and y0 < y1:
        layer[y0:y1, x0:x1] += pattern[y0 - top : y1 - top, x0 - left : x1 - left]
