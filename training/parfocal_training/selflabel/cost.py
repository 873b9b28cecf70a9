"""How much a self-label training will do, said before it is done."""

from collections.abc import Callable

import msgspec
import numpy as np
import torch

from parfocal_training.copies import Copies
from parfocal_training.cropset import CropSet
from parfocal_training.model import config_of
from parfocal_training.recipe import Recipe
from parfocal_training.reference import mean_and_sd, medoid_reference
from parfocal_training.train import Labelled, begin, train

LEAST_SEEN = 300_000
"""Copies, of whatever cells, that a network needs to see before it tells any of them apart."""

ENOUGH_FOR = 1_100
"""Cells for which these are enough: 93 % of 1,069 were recognized after them, and 39 % of 2,185."""

SEEN_FOR_EACH_MORE = 2_400
"""Copies for every further cell: 2,208 get the 3 million with which the paper reached 98 %."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """All that is to be done, at most; `seconds` are expected from a few measured steps."""

    cells: int
    networks: int
    epochs: int
    copies_seen: int
    seconds: float


def epochs_for(recipe: Recipe, n_cells: int) -> int:
    """Epochs for so many cells, each of which shows one copy of every cell; at least the recipe's.

    Few cells get more of them, and so do many: there are more others to tell each from.
    """
    copies = LEAST_SEEN + SEEN_FOR_EACH_MORE * max(0, n_cells - ENOUGH_FOR)
    return max(recipe.epochs, -(-copies // n_cells))


def cost(
    crop_set: CropSet,
    recipe: Recipe,
    networks: int,
    device: torch.device,
    clock_s: Callable[[], float],
) -> Cost:
    """The cost of so many networks."""
    n = len(crop_set)
    return Cost(
        cells=n,
        networks=networks,
        epochs=recipe.epochs,
        copies_seen=recipe.epochs * recipe.steps_of(n) * recipe.batch_of(n),
        seconds=networks * recipe.epochs * n * seconds_a_cell(crop_set, recipe, device, clock_s),
    )


def seconds_a_cell(
    crop_set: CropSet, recipe: Recipe, device: torch.device, clock_s: Callable[[], float]
) -> float:
    """Seconds in which a pass trains on a copy of one cell and tests another, from three steps.

    The network that they train is thrown away.
    """
    n, size = len(crop_set), recipe.batch_of(len(crop_set))
    some = crop_set.of(np.arange(size))
    reference = medoid_reference(some.bare(slice(None)))
    crop_px, levels = crop_set.index.rules.crop_px, mean_and_sd(reference)
    short = msgspec.structs.replace(recipe, epochs=4, batch=size)
    state = begin(config_of(recipe.network, recipe.order, n, crop_px, *levels), short, 0, device)
    crops, copies = Labelled.each_its_own(device, some), Copies.on(device, size, 2, 1, seed=0)
    at_s = [clock_s() for _ in train(state, crops, None, short, reference, copies)]
    return float(np.median(np.diff(at_s))) / size
