"""Composed fields: real cells from different images, laid on a background where none were."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parfocal_training.detector.cutouts import FEATHER_PX, CutOut, alpha, trim, turned
from parfocal_training.detector.fields import TrainingField
from parfocal_training.detector.geometry import log_uniform, turn

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Composition:
    """How cells are strewn: `size` is common to a field, `own_size` and `stretch` to each cell.

    In a packed field cells lie side by side and over each other's rims; in some, the rims of
    all of them are trimmed off, for in a confluent sheet halos are gone.
    """

    size: tuple[float, float] = (0.35, 1.2)
    own_size: tuple[float, float] = (0.8, 1.25)
    stretch: float = 3.0
    packed: float = 0.45
    trimmed: float = 0.5
    rim_px: float = 3.0
    cover: tuple[float, float] = (0.03, 0.45)


def composed(
    background: Float,
    cells: Sequence[CutOut],
    rng: np.random.Generator,
    rules: Composition,
) -> TrainingField:
    """A field of the background's size with cells on it; `other` is unknown nowhere."""
    h, w = background.shape
    field = TrainingField(
        name="composed",
        group="composed",
        optics="brightfield",
        contrast=background.copy(),
        labels=np.zeros((h, w), np.int32),
        known=np.ones((h, w), np.uint8),
        inner=np.ones((h, w), np.uint8),
        other=np.zeros((h, w), np.uint8),
    )
    packed = rng.random() < rules.packed
    wanted = rng.uniform(0.75, 1.1) if packed else log_uniform(rng, *rules.cover)
    size = log_uniform(rng, *rules.size)
    stretch = log_uniform(rng, 1.0, rules.stretch)
    allowed = 0.3 if packed else 0.12
    gain = log_uniform(rng, 0.7, 1.4)
    rim_px = rng.uniform(1, rules.rim_px) if packed and rng.random() < rules.trimmed else 0.0
    covered, number, misses = 0.0, 0, 0
    while covered < wanted * h * w and misses < 25 and number < 1500:
        cell = cells[int(rng.integers(len(cells)))]
        matrix = _matrix(rng, size * log_uniform(rng, *rules.own_size), stretch)
        placed = lay(field, turned(trim(cell, rim_px), matrix), number + 1, rng, allowed, gain)
        if placed:
            number, covered, misses = number + 1, covered + placed, 0
        else:
            misses += 1
    return field


def _matrix(rng: np.random.Generator, size: float, stretch: float) -> NDArray[np.float64]:
    long = np.sqrt(log_uniform(rng, 1.0, stretch))
    matrix: NDArray[np.float64] = turn(rng) @ np.diag([size * long, size / long]) @ turn(rng)
    return matrix


def lay(
    field: TrainingField,
    cell: CutOut,
    number: int,
    rng: np.random.Generator,
    allowed: float,
    gain: float,
) -> int:
    """Put one cell at a random place; its area there, 0 where it would hide too much of others.

    Parameters
    ----------
    allowed : float
        Largest share of its mask that may lie on other cells.
    """
    h, w = field.labels.shape
    ch, cw = cell.mask.shape
    y, x = int(rng.integers(-ch // 2, h - ch // 2)), int(rng.integers(-cw // 2, w - cw // 2))
    y0, x0, y1, x1 = max(y, 0), max(x, 0), min(y + ch, h), min(x + cw, w)
    here = (slice(y0, y1), slice(x0, x1))
    part = (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
    mask = cell.mask[part] > 0
    area = int(mask.sum())
    if area < 30 or (field.labels[here][mask] > 0).sum() > allowed * area:
        return 0
    weight = alpha(cell.mask, FEATHER_PX)[part]
    on_cell = (field.labels[here] > 0) & ~mask  # a halo does not wipe out a neighbour
    weight = np.where(on_cell, weight * np.float32(0.4), weight)
    field.contrast[here] += weight * (np.float32(gain) * cell.contrast[part] - field.contrast[here])
    field.labels[here][mask] = number
    return area
