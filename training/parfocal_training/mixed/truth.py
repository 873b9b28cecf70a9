"""The true line of each cell of a mixed flask, by the nucleus that lies in it or does not."""

from typing import Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.types import Finds
from parfocal_training.mixed.nuclei import Mask, Nuclei
from parfocal_training.mixed.registration import Shift, laid_over

CellTruth = Literal["labelled", "unlabelled", "ambiguous"]
Truths = tuple[CellTruth, ...]
"""Those of a frame's finds, in their order."""


class TruthRules(msgspec.Struct, frozen=True, kw_only=True):
    """When a cell's line is known from the fluorescence frame."""

    least_overlap: float = 0.6  # of a nucleus inside the cell's outline, which detectors draw tight
    spill: float = 0.1  # of a neighbour's nucleus inside this outline: then the outline is in doubt
    guard_um: float = 3.0  # light nearer than this may be the cell's own


DEFAULT_RULES = TruthRules()


def cell_truths(
    nuclei: Nuclei,
    finds: Finds,
    shift_px: Shift,
    frame: tuple[int, int],
    um_per_px: float,
    rules: TruthRules = DEFAULT_RULES,
) -> Truths:
    """What each object of a brightfield frame (h, w) is by the nuclei over it.

    A nucleus belongs to the object that holds most of it, if that is enough. A cell is labelled
    when a nucleus belongs to it; unlabelled when neither a nucleus without an owner nor doubtful
    light lies in it or near it, and none that belongs to a neighbour spills into it; else
    ambiguous.
    """
    size = finds.labels.shape
    over = laid_over(nuclei.labels, size, frame, shift_px)
    shares = overlap_shares(over, finds.labels, len(nuclei), len(finds))  # (nuclei, objects)
    owner = shares.argmax(1) if len(finds) else np.zeros(len(nuclei), np.int64)
    owned = shares.max(1, initial=0) >= rules.least_overlap
    labelled = np.zeros(len(finds), np.bool_)
    labelled[owner[owned]] = True
    stray = ~np.array([True, *owned])[over] | (
        laid_over(nuclei.doubtful, size, frame, shift_px) > 0
    )
    near = nearest_px(stray, finds) * um_per_px * frame[1] / size[1] <= rules.guard_um
    spilt = (shares[owned] >= rules.spill).any(0)
    return tuple(
        "labelled" if mine else "ambiguous" if close or some else "unlabelled"
        for mine, close, some in zip(labelled, near, spilt, strict=True)
    )


def overlap_shares(
    nuclei: NDArray[np.int32], objects: NDArray[np.int32], n_nuclei: int, n_objects: int
) -> NDArray[np.float64]:
    """Share of each nucleus inside each object, from two label images: (n_nuclei, n_objects)."""
    both = nuclei.astype(np.int64) * (n_objects + 1) + objects
    counts = np.bincount(both.ravel(), minlength=(n_nuclei + 1) * (n_objects + 1))
    table = counts.reshape(n_nuclei + 1, n_objects + 1)[1:].astype(np.float64)
    shares: NDArray[np.float64] = table[:, 1:] / np.maximum(table.sum(1, keepdims=True), 1)
    return shares


def nearest_px(light: Mask, finds: Finds) -> NDArray[np.float64]:
    """Distance of each object to the nearest light (h', w'); infinite without light: (n,)."""
    nearest = np.full(len(finds) + 1, np.inf)
    if light.any():
        away = cv2.distanceTransform((~light).astype(np.uint8), cv2.DIST_L2, 5)
        np.minimum.at(nearest, finds.labels.ravel(), away.ravel())
    return nearest[1:]
