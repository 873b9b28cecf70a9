"""Which cells are looked at, and all that is seen of each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parfocal.normalize import normalize
from parfocal_training.activations.checks import Saliency, saliency
from parfocal_training.activations.maps import Maps, feature_maps
from parfocal_training.activations.network import Image
from parfocal_training.activations.saliency import Window
from parfocal_training.checkpoint import Checkpoint
from parfocal_training.cropset import CropSet
from parfocal_training.model import ConvNet
from parfocal_training.trained import calibrated_answers


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


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One cell: its normalized crop (s, s), its maps a block, the answer and what carries it."""

    cell: int
    path: str
    cell_line: str
    answer: str
    probability: float
    trained_on: bool
    crop: Image
    maps: list[Maps]
    saliency: Saliency

    @property
    def title(self) -> str:
        """What stands above its pictures."""
        return (
            f"cell {self.cell}, {self.cell_line}: answered {self.answer} ({self.probability:.2f})"
        )


def looks(
    model: ConvNet,
    checkpoint: Checkpoint,
    crop_set: CropSet,
    cells: list[int],
    window: Window,
    pooled: bool,
    seed: int,
) -> Iterator[Look]:
    """Each of the cells, looked at; `pooled` as in `feature_maps`, `seed` of the backgrounds."""
    some, groups = crop_set.of(np.array(cells)), set(checkpoint.groups)
    crops, given = _normalized_and_answered(model, checkpoint, some)
    for place, cell in enumerate(cells):
        best, row = int(given[place].argmax()), some.index.rows[place].image
        rng = np.random.default_rng([seed, cell])
        yield Look(
            cell=cell,
            path=row.path,
            cell_line=row.cell_line,
            answer=checkpoint.classes[best],
            probability=float(given[place, best]),
            trained_on=row.group in groups,
            crop=crops[place],
            maps=feature_maps(model, crops[place], pooled),
            saliency=saliency(model, crops[place], best, window, rng, seed),
        )


def _normalized_and_answered(
    model: ConvNet, checkpoint: Checkpoint, some: CropSet
) -> tuple[Image, NDArray[np.float64]]:
    """Crops (n, s, s) as the network sees them, and its probabilities (n, classes)."""
    bare = some.bare(np.arange(len(some)))
    reference = checkpoint.pixels.reference_distribution()
    return normalize(bare, reference), calibrated_answers(model, checkpoint, some.crops)[0]
