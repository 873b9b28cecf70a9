"""Feature maps of single cells (paper, Fig. S2), and what a network answers to normalized crops."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from parfocal_training.errors import DataError
from parfocal_training.model import ConvNet

Image = NDArray[np.float32]
Maps = NDArray[np.float32]
POOLS = (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def on_network(crops: Image, model: ConvNet) -> Tensor:
    """Normalized crops (n, s, s) as the network takes them: (n, 1, s, s) on its device."""
    device = next(model.parameters()).device
    return torch.from_numpy(np.ascontiguousarray(crops, np.float32))[:, None].to(device)


def fast(model: ConvNet) -> ConvNet:
    """The same network in evaluation mode, channels last: the memory order convolutions want."""
    ordered: ConvNet = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ordered


def log_odds(logits: Tensor, answer: int) -> Tensor:
    """Log of p / (1 - p) of class `answer`: (n,); for two classes the difference of the logits."""
    others = torch.cat([logits[:, :answer], logits[:, answer + 1 :]], 1)  # (n, classes - 1)
    return logits[:, answer] - others.logsumexp(1)


@torch.no_grad()
def support(model: ConvNet, crops: Image, answer: int) -> NDArray[np.float64]:
    """Log odds (n,) of a class for normalized crops (n, s, s), in batches kind to a CPU's cache."""
    parts = [log_odds(model(x)[0], answer) for x in torch.split(on_network(crops, model), 1)]
    values: NDArray[np.float64] = torch.cat(parts).cpu().numpy().astype(np.float64)
    return values


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


def choose_cells(
    labels: NDArray[np.int64], groups: tuple[str, ...], per_class: int, rng: np.random.Generator
) -> list[int]:
    """Indices of cells drawn at random, `per_class` a class, each from another group if it goes."""
    chosen: list[int] = []
    for label in np.unique(labels):
        seen: dict[str, int] = {}
        mixed = rng.permutation(np.flatnonzero(labels == label))
        rank = [seen.setdefault(groups[i], 0) for i in mixed]
        for place, i in enumerate(mixed):
            rank[place] = seen[groups[i]]
            seen[groups[i]] += 1
        order = np.argsort(rank, kind="stable")  # first cells of all groups, then second ones
        chosen += mixed[order][:per_class].tolist()
    return chosen
