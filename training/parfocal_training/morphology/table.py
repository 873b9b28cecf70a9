"""The features of every cell of a crop set, measured on several processor cores."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from parfocal.normalize import LEVELS, Reference, normalize
from parfocal.types import Gray
from parfocal_training.cropset import CropSet, Masks
from parfocal_training.morphology.features import feature_names, measured
from parfocal_training.morphology.patch import Bools, Floats
from parfocal_training.pixels.orientation import foreground
from parfocal_training.reference import medoid_reference

CHUNK = 32
"""Cells that a process takes at a time: a second of work."""

MaskOrigin = Literal["detector or drawn", "foreground of the crop"]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """n cells with f features each.

    Parameters
    ----------
    names : tuple of f
    values : ndarray of shape (n, f), float64
        NaN where a feature cannot be measured; a whole row of them for a cell without a mask.
    cut_off : ndarray of shape (n,), bool
        The mask reaches the edge of the crop: the cell is larger than what was measured.
    masks_from : "detector or drawn" or "foreground of the crop"
    """

    names: tuple[str, ...]
    values: Floats
    cut_off: Bools
    masks_from: MaskOrigin

    @property
    def found(self) -> Bools:
        """Cells (n,) that have a mask."""
        there: Bools = np.isfinite(self.values[:, self.names.index("AreaShape_Area")])
        return there

    def column(self, name: str) -> Floats:
        """One feature of all cells: (n,)."""
        return self.values[:, self.names.index(name)]


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Some cells and all that is needed to measure them; what a process gets."""

    crops: Gray  # (n, s, s)
    masks: Masks | None  # (n, s, s)
    reference: tuple[int, ...]
    um_per_px: float


def measure(
    crop_set: CropSet, jobs: int, watched: Callable[[Iterable[int], int], Iterable[int]]
) -> FeatureTable:
    """Features of all cells, quantile-normalized as the network sees them.

    `watched` shows the progress of something that yields numbers of cells, of so many.
    """
    reference = medoid_reference(crop_set.bare(np.arange(len(crop_set))))
    chunks = list(_chunks(crop_set, reference))
    parts: list[tuple[Floats, Bools]] = []

    def counted() -> Iterator[int]:
        for part in _answers(chunks, jobs):
            parts.append(part)
            yield len(part[0])

    for _ in watched(counted(), len(crop_set)):
        pass
    values, cut_off = (np.concatenate(part) for part in zip(*parts, strict=True))
    origin: MaskOrigin = "foreground of the crop" if crop_set.masks is None else "detector or drawn"
    return FeatureTable(feature_names(), values, cut_off, origin)


def _chunks(crop_set: CropSet, reference: Reference) -> Iterator[Chunk]:
    counts = tuple(int(n) for n in reference.counts)
    for at in range(0, len(crop_set), CHUNK):
        chosen = np.arange(at, min(at + CHUNK, len(crop_set)))
        yield Chunk(
            crop_set.bare(chosen),
            crop_set.bare_masks(chosen),
            counts,
            crop_set.index.rules.um_per_px,
        )


def _answers(chunks: list[Chunk], jobs: int) -> Iterator[tuple[Floats, Bools]]:
    jobs = min(jobs, len(chunks))
    if jobs < 2:
        yield from map(measured_chunk, chunks)
        return
    fresh = multiprocessing.get_context("spawn")  # a fork would copy PyTorch's threads half-way
    with ProcessPoolExecutor(
        jobs, mp_context=fresh, initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        yield from pool.map(measured_chunk, chunks)


def measured_chunk(chunk: Chunk) -> tuple[Floats, Bools]:
    """Features (n, f) of some cells, and which of them reach the edge of their crop (n,)."""
    levels = normalize(chunk.crops, Reference(np.array(chunk.reference, np.int64)))  # (n, s, s)
    names = feature_names()
    values = np.full((len(levels), len(names)), np.nan)
    cut_off = np.zeros(len(levels), np.bool_)
    with threadpool_limits(1):  # matrices are small: a thread costs more than it does
        for i, crop in enumerate(levels):
            mask = foreground(crop) if chunk.masks is None else chunk.masks[i]
            if mask.any():
                found = measured(crop.astype(np.float64) / (LEVELS - 1), mask, chunk.um_per_px)
                values[i] = [found[name] for name in names]
                cut_off[i] = bool(np.concatenate([mask[[0, -1]], mask[:, [0, -1]].T]).any())
    return values, cut_off
