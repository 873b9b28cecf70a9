"""Self-label pre-training: what cells look like, learned before anybody says what they are."""

import msgspec

from parfocal.normalize import Reference
from parfocal_training.cropset import CropSet
from parfocal_training.recipe import Recipe
from parfocal_training.train import Labelled, TrainingState, begin, train


def pretrain(
    state: TrainingState,
    crop_set: CropSet,
    recipe: Recipe,
    reference: Reference,
    seed: int,
) -> None:
    """Begin from a network that learned to tell every cell of the set from every other.

    Self-labels (Yao et al. 2019, Fig. 5): each crop is a class of its own, its augmented copies
    are the examples. No label of a cell line is used; cells of tested flasks are left out all the
    same, for a network that has seen them is no measure of a new flask.
    """
    n, device = len(crop_set), state.generator.device
    crops = Labelled.each_its_own(device, crop_set)
    shape = msgspec.structs.replace(state.model.config, classes=n)
    task = msgspec.structs.replace(
        recipe,
        crops_seen=recipe.pretraining,
        pretraining=0,
        balance="crops",
        mixup=False,
        self_labels=0.0,
    ).for_crops(n)
    learned = begin(shape, task, seed, device)
    for _ in train(learned, crops, None, task, reference):
        pass
    state.model.blocks.load_state_dict(learned.averaged.blocks.state_dict())
    if state.averaged is not state.model:
        state.averaged.blocks.load_state_dict(learned.averaged.blocks.state_dict())
