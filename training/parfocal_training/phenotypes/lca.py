"""The LCA of every cell: as imaged, and over augmented copies, kept on disk for the next run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from parfocal.normalize import Reference
from parfocal_training.activations.network import fast
from parfocal_training.checkpoint import read_checkpoint, read_tensors
from parfocal_training.copies import Copies
from parfocal_training.cropset import CropSet
from parfocal_training.model import ConvNet
from parfocal_training.networks import TrainedNetwork
from parfocal_training.recipe import Recipe
from parfocal_training.selflabel.store import read_selflabelled
from parfocal_training.train import Labelled, Material, lca_of, to_vary, varied
from parfocal_training.write import write_whole

Values = NDArray[np.float32]
Ints = NDArray[np.int64]

MOST_SPREAD = 500
"""Cells whose copies are kept one by one: enough for a distribution of distances."""

FIRST_COPY = 1_000_000
"""Copies are numbered from here: no training has seen them, whatever its seed."""

HEADER = "parfocal.lca"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What LCAs were made from: equal sources give equal LCAs."""

    weights_sha256: str
    crops_sha256: str
    pixels: str
    recipe: Recipe
    copies: int
    seed: int
    device: str


@dataclass(frozen=True, slots=True, eq=False)
class CellLca:
    """LCAs of n cells, float32.

    `single` (n, d): of the crop as imaged. `mean` (n, d): over its augmented copies. `copies`
    (m, c, d): each of the c copies of the cells `spread` (m,).
    """

    single: Values
    mean: Values
    copies: Values
    spread: Ints


def recipe_of(folder: Path) -> Recipe:
    """How the networks of a finished training were trained, whichever command made it.

    Raises
    ------
    DataError
        No finished training there, or a damaged one.
    """
    if (folder / "selflabel.json").exists():
        return read_selflabelled(folder).recipe
    return read_checkpoint(folder)[0].recipe


def kept_lca(
    path: Path, network: TrainedNetwork, crop_set: CropSet, asked: Source, say: Callable[[], None]
) -> CellLca:
    """The LCAs that a file holds if they come from this source, else made now and written there.

    `say` is called after every copy.
    """
    if path.exists():
        tensors, header = read_tensors(path, HEADER, "compute these LCAs again")
        if header == _text(asked):
            arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
            return CellLca(**arrays)
    made = _made(network, crop_set, asked, say)
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(getattr(made, name)))
        for name in ("single", "mean", "copies", "spread")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(tensors, {HEADER: _text(asked)}))
    return made


def _text(asked: Source) -> str:
    return msgspec.json.encode(asked, order="sorted").decode()


def _made(
    network: TrainedNetwork, crop_set: CropSet, asked: Source, say: Callable[[], None]
) -> CellLca:
    device, n = torch.device(asked.device), len(crop_set)
    model = fast(network.model).to(device)
    reference = network.pixels.reference_distribution()
    cells = Labelled.each_its_own(device, crop_set)
    single = lca_of(model, cells.crops, reference).cpu().numpy()  # (n, d)
    say()
    material = to_vary(cells, asked.recipe, model.config, reference)
    known = Copies.on(device, n, FIRST_COPY + asked.copies, 0, asked.seed)
    spread = np.sort(np.random.default_rng(asked.seed).permutation(n)[:MOST_SPREAD])
    total, kept = np.zeros(single.shape, np.float64), []
    for copy in range(FIRST_COPY, FIRST_COPY + asked.copies):
        lca = _copy(model, material, asked.recipe, reference, known, copy)
        total += lca
        kept.append(lca[spread])
        say()
    mean = (total / asked.copies).astype(np.float32)
    return CellLca(single, mean, np.stack(kept, 1), spread.astype(np.int64))


@torch.no_grad()
def _copy(
    model: ConvNet,
    material: Material,
    recipe: Recipe,
    reference: Reference,
    known: Copies,
    copy: int,
) -> Values:
    """LCA (n, d) of one augmented copy of every cell, varied as in training."""
    views = recipe.vary == "view"
    network = model.seen if views else model
    device = material.pixels.device
    every, out = torch.arange(len(material), device=device), []
    for cells in torch.split(every, 64 if views or device.type == "cuda" else 4):
        draws = known.draws(cells, torch.full_like(cells, copy))
        x = varied(material, cells, recipe, model.config, reference, draws)
        out.append(network(x)[1].cpu())
    lca: Values = torch.cat(out).numpy()
    return lca
