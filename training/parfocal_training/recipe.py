"""Recipes: every number that decides a training, each with the reason for its value."""

import math
from typing import Annotated, Literal

import msgspec

from parfocal_training.augment import PAPER, Augmentation
from parfocal_training.model import LayerOrder, Network

Balance = Literal["crops", "groups"]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How a network is trained; the defaults are the recipe `field`, made for small data sets."""

    name: str = "field"
    about: str = "augmented, one-cycle, averaged"
    network: Network = "paper"
    # None: as the network has it; the paper's text says conv-relu-bn.
    order: LayerOrder | None = None
    # Few crops make noisy gradients; about 800 steps in all let the loss settle.
    epochs: int = 60
    # Above 0: so many crops pass through training whatever the size of the data, in place of
    # `epochs`. Pools of different size are then compared at equal work.
    crops_seen: int = 0
    # Crops seen in self-label pre-training (Yao et al. 2019, Fig. 5) on the training crops of
    # the set, before the labels are shown.
    pretraining: int = 0
    # The paper asks for about 5 % of the data; 8 of about 100 crops is that, and stays in cache.
    batch: int = 8
    # One-cycle (Smith 2018): a high middle rate flattens the minimum, the descent to 0 settles it.
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    learning_rate: float = 0.02
    # AdamW (Loshchilov and Hutter 2019) starts where SGD stays on a plateau: with a class a cell.
    optimizer: Literal["sgd", "adamw"] = "sgd"
    warm_up_share: Share = 0.25
    # Plain momentum SGD as in the authors' script; Nesterov damps the swing of small batches.
    momentum: float = 0.9
    nesterov: bool = True
    # On weights only: a decayed BN scale or bias has no regularizing meaning.
    weight_decay: float = 5e-4
    decay_all: bool = False
    # Keeps 130,000 parameters from growing certain of 100 cells.
    label_smoothing: Share = 0.05
    # Mean over about 100 steps (8 epochs): the answer no longer depends on the last few batches.
    average_decay: Share = 0.99
    # bfloat16 convolutions are 2.5 times as fast on CPUs that have them; weights stay float32.
    # auto: bf16 on CUDA, f32 elsewhere.
    precision: Literal["auto", "bf16", "f32"] = "bf16"
    # What an epoch draws equally often: crops, or flasks (fields) whatever their number of crops.
    balance: Balance = "crops"
    # mixup (Zhang et al. 2018): blends of two crops with blended truth.
    mixup: bool = False
    # Probability of mixing the statistics of early maps between crops (MixStyle, Zhou et al. 2021).
    mix_statistics: Share = 0.0
    # Where crops are varied: `crop`, before normalization, as the paper does; `view`, after it and
    # after averaging to the network's own pixels: many times as fast, and what a variant uncovers
    # or moves no longer shifts its grey levels. Tests always go the way of the daemon.
    vary: Literal["crop", "view"] = "crop"
    # Above 0: the network also learns to tell every training cell from every other, with this
    # weight beside the classes. Its LCA then holds what cells look like, for phenotypes.
    self_labels: float = 0.0
    # Probability of seeing a cell in the surroundings of another: neighbours identify a cell.
    surroundings: Share = 0.0
    augmentation: Augmentation = Augmentation(flips=True, zoom=0.1)

    def for_crops(self, n_crops: int) -> "Recipe":
        """The recipe with its number of epochs settled for so many training crops."""
        if not self.crops_seen:
            return self
        epochs = max(1, round(self.crops_seen / n_crops))
        return msgspec.structs.replace(self, epochs=epochs, crops_seen=0)

    def on(self, device_type: str) -> "Recipe":
        """The recipe with its precision settled for a kind of device: `cuda`, `cpu`."""
        if self.precision != "auto":
            return self
        return msgspec.structs.replace(self, precision="bf16" if device_type == "cuda" else "f32")

    def batch_of(self, n_crops: int) -> int:
        """Crops in one step; `batch` 0 asks for the paper's 5 % of the data, at least 2 for BN."""
        return min(n_crops, self.batch or max(2, round(0.05 * n_crops)))

    def steps_of(self, n_crops: int) -> int:
        """Steps of an epoch; a short last batch is dropped: its BN statistics are poor."""
        return max(1, n_crops // self.batch_of(n_crops))

    def learning_rate_at(self, progress: float) -> float:
        """Rate at this share [0, 1] of all steps."""
        if self.schedule == "constant":
            return self.learning_rate
        if progress < self.warm_up_share:
            return self.learning_rate * progress / self.warm_up_share
        down = (progress - self.warm_up_share) / (1 - self.warm_up_share)
        return self.learning_rate * (1 + math.cos(math.pi * down)) / 2

    def flat(self) -> dict[str, str | float | int | bool | None]:
        """Every value under one level of names, for the card."""
        values = msgspec.to_builtins(self)
        inner = {f"augmentation.{k}": v for k, v in values.pop("augmentation").items()}
        return {**values, **inner}


FIELD = Recipe()

PAPER_RECIPE = Recipe(
    name="paper",
    about="constant rate, as published",
    epochs=100,  # authors' script
    batch=0,  # text: about 5 % of the data
    schedule="constant",  # text: fixed rate
    learning_rate=1e-3,  # script; the text names 1e-4 and says that 1e-3 to 1e-4 works
    nesterov=False,
    weight_decay=0.005,  # script: L2Regularization, on every parameter as MATLAB does
    decay_all=True,
    label_smoothing=0.0,
    average_decay=0.0,
    precision="f32",
    augmentation=PAPER,
)

FLASK = Recipe(
    name="flask",
    about="compact network, varied in what differs between flasks: size, focus, noise, statistics",
    network="compact",
    crops_seen=6000,
    precision="f32",
    # Flasks differ in cell size by about 12 % (SD) and in focus by a micrometre or two.
    augmentation=Augmentation(flips=True, zoom=0.3, blur_sigma_px=2.5, noise_levels=6.0),
    # The one change that helped most on simulated flasks that were not trained on.
    mix_statistics=0.5,
)

SELF_LABEL = Recipe(
    name="selflabel",
    about="a class a cell: sees a quarter of the resolution, trained by AdamW",
    network="coarse",
    epochs=120,
    batch=32,
    optimizer="adamw",
    learning_rate=2e-3,
    warm_up_share=0.1,
    weight_decay=1e-4,
    label_smoothing=0.0,
    average_decay=0.995,
    precision="auto",
    vary="view",
    surroundings=0.5,
    # Not zoomed: the size of a cell is part of its shape. Bent: how bright it is says which cell
    # it is, and little of its shape.
    augmentation=Augmentation(flips=True, tone=1.0),
)

RECIPES = {recipe.name: recipe for recipe in (FIELD, PAPER_RECIPE, FLASK, SELF_LABEL)}
