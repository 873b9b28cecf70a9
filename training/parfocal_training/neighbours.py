"""Whether a network answers for a cell or for its neighbours.

In flasks of one line all neighbours are of the cell's own line, so a network can be right by them,
and be wrong where lines are mixed. Crops whose surroundings are exchanged show how much.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from parfocal.types import Gray
from parfocal_training.augment import centre, own_of, with_surroundings
from parfocal_training.cropset import CropSet
from parfocal_training.train import levels

BATCH = 64


def among_others(crop_set: CropSet, cells: NDArray[np.int64], seed: int) -> Gray | None:
    """These cells (m,) in the surroundings of cells of another class: (m, crop_px, crop_px).

    The surroundings come from all crops of the set, since a left-out flask may hold one class.
    None where the outlines of the cells are not known or nothing lies beyond them, or all cells
    are of one class.
    """
    labels = crop_set.labels
    if crop_set.masks is None or crop_set.index.rules.masked or len(np.unique(labels)) < 2:
        return None
    rng, crop_px = np.random.default_rng(seed), crop_set.index.rules.crop_px
    elsewhere = {label: np.flatnonzero(labels != label) for label in np.unique(labels)}
    others = np.array([rng.choice(elsewhere[label]) for label in labels[cells]])
    draws, parts = torch.Generator().manual_seed(seed), []
    for some in np.array_split(np.arange(len(cells)), -(-len(cells) // BATCH)):
        pairs = [
            (levels(crop_set.crops[i]), own_of(crop_set.masks[i], crop_px))
            for i in (cells[some], others[some])
        ]
        moved = with_surroundings(*pairs[0], *pairs[1], 1.0, draws)
        parts.append(centre(moved, crop_px).numpy().astype(crop_set.crops.dtype))
    out: Gray = np.concatenate(parts)
    return out
