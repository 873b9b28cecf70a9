"""What the detector network is punished for, each part only where the truth says something."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from parfocal_training.detector.fields import UNKNOWN
from parfocal_training.detector.network import MAPS
from parfocal_training.detector.recipe import Loss
from parfocal_training.detector.targets import Targets

CELL, OTHER, DY, DX, DEPTH, BORDER = range(len(MAPS))
SMOOTH_PX = 20.0
"""Keeps the Dice loss of a nearly empty tile calm."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """n tiles on the training device; shapes (n, 1, s, s), then (n, s/2, s/2) and (n, 2, ...)."""

    view: Tensor
    cell: Tensor
    other: Tensor
    inner: Tensor
    way: Tensor
    depth: Tensor
    border: Tensor


def batch_of(tiles: list[tuple[NDArray[np.float32], Targets]]) -> Batch:
    """Tiles stacked."""
    wanted = [one for _, one in tiles]

    def stacked(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(one, name) for one in wanted]))

    return Batch(
        view=torch.from_numpy(np.stack([view for view, _ in tiles]))[:, None],
        cell=stacked("cell"),
        other=stacked("other"),
        inner=stacked("inner"),
        way=torch.stack([stacked("dy"), stacked("dx")], 1),
        depth=stacked("depth"),
        border=stacked("border"),
    )


def losses(maps: Tensor, wanted: Batch) -> dict[str, Tensor]:
    """Each part of the loss, unweighted, for maps (n, 6, s/2, s/2)."""
    known, cell = (wanted.cell != UNKNOWN).float(), (wanted.cell == 1).float()
    p = torch.sigmoid(maps[:, CELL]) * known
    both = p.sum((1, 2)) + (cell * known).sum((1, 2))
    dice = 1 - (2 * (p * cell).sum((1, 2)) + SMOOTH_PX) / (both + SMOOTH_PX)
    marked, other = (wanted.other != UNKNOWN).float(), (wanted.other == 1).float()
    inner = wanted.inner.float()
    way = (maps[:, DY : DX + 1] - wanted.way).abs().sum(1)
    whole = torch.ones_like(inner)
    # depth is also taught on the background (0), but not in clumps, whose outline means nothing
    deep = whole - cell * (1 - inner)
    return {
        "cell": _mean(_cross_entropy(maps[:, CELL], cell), known),
        "dice": dice.mean(),
        "other": _mean(_cross_entropy(maps[:, OTHER], other), marked),
        "way": _mean(way, inner),
        "depth": _mean((maps[:, DEPTH] - wanted.depth * inner).abs(), deep * known),
        "border": _mean(_cross_entropy(maps[:, BORDER], wanted.border), inner),
    }


def total(parts: dict[str, Tensor], weights: Loss) -> Tensor:
    """The weighted sum."""
    return torch.stack([getattr(weights, name) * part for name, part in parts.items()]).sum()


def _cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / (where.sum() + 1)
