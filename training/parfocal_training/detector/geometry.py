"""Random turns, sizes and stretches of a field, the same for its pixels and its truth."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal_training.detector.fields import TrainingField


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a tile is cut: size and aspect vary log-uniformly in these factors, angles fully.

    Below 1 a cell gets smaller. Other lines are half the size of T98G cells and twice as slender.
    """

    size: tuple[float, float] = (0.5, 1.3)
    stretch: float = 1.7


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A factor whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def affine(rng: np.random.Generator, geometry: Geometry) -> NDArray[np.float64]:
    """A random turn, stretch, turn and mirror: (2, 2), tile from field."""
    size = log_uniform(rng, *geometry.size)
    long = np.sqrt(log_uniform(rng, 1, geometry.stretch))
    mirror = np.diag([1.0, rng.choice([-1.0, 1.0])])
    stretched: NDArray[np.float64] = (
        turn(rng) @ np.diag([size * long, size / long]) @ turn(rng) @ mirror
    )
    return stretched


def turn(rng: np.random.Generator) -> NDArray[np.float64]:
    """A rotation by any angle."""
    a = rng.uniform(0, 2 * np.pi)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


def tile(
    field: TrainingField, side_px: int, rng: np.random.Generator, geometry: Geometry
) -> TrainingField:
    """A random square of a field, turned and stretched; outside of the field nothing is known.

    Half of the tiles are centred near a cell, so that sparse fields teach cells too.
    """
    h, w = field.labels.shape
    at = np.array([rng.uniform(0, w), rng.uniform(0, h)])
    if rng.random() < 0.5 and field.labels.any():
        ys, xs = np.nonzero(field.labels[::8, ::8])
        if len(ys):
            k = rng.integers(len(ys))
            at = np.array([xs[k], ys[k]]) * 8.0 + rng.uniform(-side_px / 3, side_px / 3, 2)
    matrix = affine(rng, geometry)
    inset = side_px / 2 / np.sqrt(abs(np.linalg.det(matrix)))  # keeps most of the tile inside
    at = np.array([np.clip(at[0], min(inset, w / 2), max(w - inset, w / 2)),
                   np.clip(at[1], min(inset, h / 2), max(h - inset, h / 2))])  # fmt: skip
    warp = np.column_stack([matrix, side_px / 2 - matrix @ at])
    shrink = np.sqrt(abs(np.linalg.det(matrix)))
    contrast = field.contrast
    if shrink < 0.8:  # no aliasing: as a coarser camera would average
        contrast = cv2.GaussianBlur(contrast, (0, 0), 0.4 / shrink)  # type: ignore[assignment]
    return TrainingField(
        field.name,
        field.group,
        field.optics,
        _warped(contrast, warp, side_px, cv2.INTER_LINEAR, cv2.BORDER_REFLECT),
        _warped(field.labels.astype(np.float32), warp, side_px).astype(np.int32),
        _warped(field.known, warp, side_px),
        _warped(field.inner, warp, side_px),
        _warped(field.other, warp, side_px),
    )


def _warped(
    image: NDArray[Any],
    warp: NDArray[np.float64],
    side_px: int,
    how: int = cv2.INTER_NEAREST,
    border: int = cv2.BORDER_CONSTANT,
) -> NDArray[Any]:
    return cv2.warpAffine(image, warp, (side_px, side_px), flags=how, borderMode=border)
