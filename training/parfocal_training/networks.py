"""Trained networks whose LCA can be looked at: of a `fit`, or the repeats of a `selflabel`."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from parfocal.prepare import PixelRules
from parfocal_training.augment import Augmentation
from parfocal_training.checkpoint import decoded, read_checkpoint, read_weights
from parfocal_training.cropset import CropSet
from parfocal_training.errors import DataError
from parfocal_training.model import ConvNet
from parfocal_training.selflabel.store import read_selflabelled


@dataclass(frozen=True, slots=True, eq=False)
class TrainedNetwork:
    """A network in evaluation mode, what its crops went through, and the hash of its weights."""

    name: str
    model: ConvNet
    pixels: PixelRules
    augmentation: Augmentation
    crops_sha256: str | None
    weights_sha256: str

    def knows(self, crop_set: CropSet) -> bool:
        """Whether it was trained on these crops, as far as its training says; `split` test aside.

        True where it does not say.
        """
        rows = tuple(row for row in crop_set.index.rows if row.image.split != "test")
        index = msgspec.structs.replace(crop_set.index, rows=rows)
        training = CropSet(crop_set.crops, index)  # for its digest, which asks for no pixels
        return self.crops_sha256 in (None, crop_set.digest, training.digest)


def trained_networks(folder: Path) -> tuple[TrainedNetwork, ...]:
    """The networks of a finished training, whichever command made it.

    `crops_sha256` is None where the training does not say which crops it saw.

    Raises
    ------
    DataError
        Neither a finished `fit` nor a finished `selflabel`, or a damaged one.
    """
    if (folder / "selflabel.json").exists():
        done = read_selflabelled(folder)
        return tuple(
            TrainedNetwork(
                name=repeat.name,
                model=read_weights(folder / repeat.name / "model.safetensors"),
                pixels=done.pixels,
                augmentation=done.recipe.augmentation,
                crops_sha256=done.crops_sha256,
                weights_sha256=repeat.weights_sha256,
            )
            for repeat in done.repeats
        )
    if not (folder / "checkpoint.json").exists():
        raise DataError(
            f"'{folder}' holds no finished training (neither selflabel.json nor checkpoint.json): "
            "make one with parfocal-train selflabel or fit"
        )
    checkpoint, model = read_checkpoint(folder)
    return (
        TrainedNetwork(
            name="fit",
            model=model,
            pixels=checkpoint.pixels,
            augmentation=checkpoint.recipe.augmentation,
            crops_sha256=_crops_of(folder / "plan.json"),
            weights_sha256=weights_sha256(folder / "model.safetensors"),
        ),
    )


class _Plan(msgspec.Struct):
    """What is read of a `fit`'s plan."""

    crops_sha256: str


def _crops_of(plan: Path) -> str | None:
    """Hash of the crops that a `fit` was given; None where its plan was not copied along."""
    return decoded(plan.read_bytes(), _Plan, plan).crops_sha256 if plan.exists() else None


def weights_sha256(path: Path) -> str:
    """Hash of a weight file, by which a phenotype model names its network."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
