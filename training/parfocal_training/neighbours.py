"""Whether a network answers for a cell or for its neighbours.

In flasks of one line all neighbours are of the cell's own line, so a network can be right by them,
and be wrong where lines are mixed. Crops whose surroundings are exchanged show how much.
"""

import numpy as np
import torch

from parfocal.types import Gray
from parfocal_training.augment import centre, own_of, with_surroundings
from parfocal_training.cropset import CropSet
from parfocal_training.train import levels

BATCH = 64


def among_others(crop_set: CropSet, seed: int) -> Gray | None:
    """Every cell in the surroundings of a cell of another class: (n, crop_px, crop_px).

    None where the outlines of the cells are not known, or all are of one class.
    """
    labels = crop_set.labels
    if crop_set.masks is None or len(np.unique(labels)) < 2:
        return None
    rng, crop_px = np.random.default_rng(seed), crop_set.index.rules.crop_px
    others = np.array([rng.choice(np.flatnonzero(labels != label)) for label in labels])
    draws, parts = torch.Generator().manual_seed(seed), []
    for some in np.array_split(np.arange(len(labels)), -(-len(labels) // BATCH)):
        pairs = [
            (levels(crop_set.crops[i]), own_of(crop_set.masks[i], crop_px))
            for i in (some, others[some])
        ]
        moved = with_surroundings(*pairs[0], *pairs[1], 1.0, draws)
        parts.append(centre(moved, crop_px).numpy().astype(crop_set.crops.dtype))
    out: Gray = np.concatenate(parts)
    return out
