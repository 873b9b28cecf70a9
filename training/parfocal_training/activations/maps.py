"""Feature maps of single cells (paper, Fig. S2)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from parfocal_training.activations.network import Image, on_network
from parfocal_training.errors import DataError
from parfocal_training.model import ConvNet

Maps = NDArray[np.float32]
POOLS = (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@torch.no_grad()
def feature_maps(model: ConvNet, crop: Image, pooled: bool = True) -> list[Maps]:
    """The maps of every block for one normalized crop (s, s).

    Parameters
    ----------
    pooled : bool
        After the pooling that ends a block; else before it, as the paper's Fig. S2.

    Returns
    -------
    list of ndarrays of shape (maps, side, side), float32
        One a block; number and size are the network's own.
    """
    kept: list[Tensor] = []
    hooks = []
    for block in model.blocks:
        if pooled:
            hooks.append(block.register_forward_hook(lambda _m, _in, out: kept.append(out)))
        else:
            hooks.append(
                _pool(block).register_forward_pre_hook(lambda _m, got: kept.append(got[0]))
            )
    try:
        model(on_network(crop[None], model))
    finally:
        for hook in hooks:
            hook.remove()
    return [maps[0].cpu().numpy().astype(np.float32) for maps in kept]


def _pool(block: nn.Module) -> nn.Module:
    pools = [module for module in block.modules() if isinstance(module, POOLS)]
    if not pools:
        raise DataError("a block of this network has no pooling layer: leave --unpooled out")
    return pools[-1]


def montage(maps: Maps, columns: int = 8) -> Image:
    """Maps (m, s, s) side by side in rows of `columns`, NaN between them and where none is left."""
    m, side = len(maps), maps.shape[1]
    columns = min(columns, m)
    gap = max(1, side // 28)
    step, rows = side + gap, -(-m // columns)
    out = np.full((rows * step - gap, columns * step - gap), np.nan, np.float32)
    for i, one in enumerate(maps):
        y, x = i // columns * step, i % columns * step
        out[y : y + side, x : x + side] = one
    return out


@dataclass(frozen=True, slots=True)
class Range:
    """Colour scale of one block: from `low` to `high`, for all of its maps of all chosen cells."""

    low: float
    high: float


def ranges(cells: list[list[Maps]]) -> list[Range]:
    """One range a block, over all maps of all cells, without the outermost 0.2 % at each end."""
    out = []
    for blocks in zip(*cells, strict=True):
        values = np.concatenate([maps.ravel() for maps in blocks])
        low, high = np.quantile(values, [0.002, 0.998])
        out.append(Range(float(low), float(max(high, low + 1e-6))))
    return out
