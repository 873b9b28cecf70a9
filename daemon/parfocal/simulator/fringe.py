"""What a cell's edge carries: ruffles along its lamellae and tips, and straight filopodia."""

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.outline import Outline
from parfocal.simulator.parameters import Texture
from parfocal.simulator.relief import Window

Float = NDArray[np.float32]
STROKE_UM = (1.0, 3.5)  # length
BLUR_UM = 0.3


def fringe(window: Window, outline: Outline, texture: Texture, rng: np.random.Generator) -> Float:
    """Ruffles and filopodia as micrometres of thickness: shape (h, w)."""
    layer = np.zeros(window.mask.shape, np.float32)
    _ruffles(layer, window, outline, texture, rng)
    _filopodia(layer, window, outline, texture.filopodia, rng)
    return np.asarray(cv2.GaussianBlur(layer, (0, 0), BLUR_UM / window.um_per_px), np.float32)


def _ruffles(
    layer: Float, window: Window, outline: Outline, texture: Texture, rng: np.random.Generator
) -> None:
    """Short wavy strokes, folds and furrows, those of one place roughly side by side."""
    places, outward = _places(outline, texture, rng)
    n = len(places)
    angle = outward + np.where(rng.random(n) < 0.5, np.pi / 2, 0) + rng.normal(0, 0.5, n)
    along = np.stack([np.cos(angle), np.sin(angle)], 1)  # (n, 2)
    aside = np.stack([-along[:, 1], along[:, 0]], 1)
    s = np.linspace(-0.5, 0.5, 5)[None, :, None] * rng.uniform(*STROKE_UM, (n, 1, 1))
    wave = np.sin(2.2 * s + rng.uniform(0, 2 * np.pi, (n, 1, 1))) * rng.uniform(0.1, 0.5, (n, 1, 1))
    points = places[:, None] + s * along[:, None] + wave * aside[:, None]  # (n, 5, 2)
    heights = texture.ruffle_um * rng.uniform(1.0, 3.0, n) * np.where(rng.random(n) < 0.5, 1, -1)
    strokes = np.round(window.to_px(points) * 16).astype(np.int32)
    for stroke, height in zip(strokes, heights.tolist(), strict=True):
        cv2.polylines(layer, [stroke], False, height, 1, cv2.LINE_8, 4)


def _places(
    outline: Outline, texture: Texture, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where ruffles sit, (n, 2), and which way is outward there, (n,) in radians."""
    step = np.linalg.norm(np.diff(outline.points_um, axis=0, append=outline.points_um[:1]), axis=1)
    n = rng.poisson(texture.ruffles_per_10um / 10 * step * outline.ruffled)
    m = rng.poisson(1.1 * texture.ruffles_per_10um, len(outline.corners_um))
    m = np.where(rng.random(len(m)) < 0.6, m, 0)
    at = np.concatenate([np.repeat(outline.points_um, n, 0), np.repeat(outline.corners_um, m, 0)])
    spread = np.concatenate([np.full(n.sum(), 1.0), np.full(m.sum(), 1.9)])
    places = at + rng.normal(0, 1, at.shape) * spread[:, None]
    return places * (1 - rng.uniform(0, 0.1, (len(at), 1))), np.arctan2(at[:, 1], at[:, 0])


def _filopodia(
    layer: Float, window: Window, outline: Outline, mean_count: float, rng: np.random.Generator
) -> None:
    """Thin straight processes beyond the outline, most of them at corners."""
    count = int(rng.poisson(mean_count))
    ends = (outline.corners_um, outline.points_um)
    pools = [ends[int(rng.random() > 0.7)] for _ in range(count)]
    for source in pools:
        start = source[rng.integers(len(source))]
        outward = start / max(float(np.linalg.norm(start)), 1e-6)
        end = start + (outward + rng.normal(0, 0.35, 2)) * rng.uniform(2, 6)
        a, b = np.round(window.to_px(np.stack([start * 0.93, end])) * 16).astype(int).tolist()
        cv2.line(layer, a, b, float(rng.uniform(0.3, 0.9)), 1, shift=4)
