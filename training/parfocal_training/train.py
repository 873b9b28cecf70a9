"""The training loop, once and in sight: augment, normalize, forward, backward, step, average."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from parfocal.normalize import Reference
from parfocal.types import Gray
from parfocal_training.augment import augment, centre
from parfocal_training.model import ConvNet, ConvNetConfig, draw, initialized
from parfocal_training.normalize import normalize_batch
from parfocal_training.recipe import Balance, Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Raw crops on the training device: (n, s, s) uint8 or int32 levels.

    `labels` (n,) int64; `groups` (n,) int64 numbers the flask or field of each crop.
    """

    crops: Tensor
    labels: Tensor
    groups: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, chosen: Tensor) -> "Labelled":
        """The crops with these indices (m,)."""
        return Labelled(self.crops[chosen], self.labels[chosen], self.groups[chosen])

    @classmethod
    def on(
        cls, device: torch.device, crops: Gray, labels: NDArray[np.int64], groups: Sequence[str]
    ) -> "Labelled":
        """The arrays (n, s, s) and (n,) on a device; PyTorch computes little on uint16."""
        wide = crops if crops.dtype == np.uint8 else crops.astype(np.int32)
        number = {name: i for i, name in enumerate(sorted(set(groups)))}
        return cls(
            torch.from_numpy(wide).to(device),
            torch.from_numpy(labels).to(device),
            torch.tensor([number[name] for name in groups], dtype=torch.int64, device=device),
        )


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the data gave; held-out figures are None when nothing is held out.

    `train_accuracy` is that of the augmented crops as they went by, before each step.
    """

    number: int
    of: int
    loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None


@dataclass(slots=True, eq=False)
class TrainingState:
    """All that a resumed training needs to go on bit for bit (`checkpoint` writes it).

    `averaged` is the exponential mean of the weights and is what is used afterwards; without
    averaging it is `model` itself.
    """

    model: ConvNet
    averaged: ConvNet
    optimizer: torch.optim.SGD
    generator: torch.Generator
    epoch: int = 0
    best_accuracy: float = -1.0


def begin(config: ConvNetConfig, recipe: Recipe, seed: int, device: torch.device) -> TrainingState:
    """A fresh network, its optimizer and its random numbers, all from one seed."""
    # channels-last: the memory order that CPU and GPU convolutions want (1.5 times as fast here)
    model = initialized(config, seed).to(device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(model) if recipe.average_decay else model
    decayed = [p for p in model.parameters() if p.ndim > 1 or recipe.decay_all]
    free = [p for p in model.parameters() if p.ndim <= 1 and not recipe.decay_all]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}]
    if free:
        groups.append({"params": free, "weight_decay": 0.0})
    optimizer = torch.optim.SGD(
        groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov
    )
    generator = torch.Generator(device=device).manual_seed(seed)
    return TrainingState(model, averaged, optimizer, generator)


def train(
    state: TrainingState,
    crops: Labelled,
    held_out: Labelled | None,
    recipe: Recipe,
    reference: Reference,
) -> Iterator[Epoch]:
    """Train from where `state` stands to the last epoch, yielding after each one."""
    model, device = state.model, crops.labels.device
    size = recipe.batch_of(len(crops))
    steps = max(1, len(crops) // size)  # a short last batch is dropped: its BN statistics are poor
    while state.epoch < recipe.epochs:
        model.train()
        losses, right = torch.zeros(steps), 0
        order = drawn(crops, recipe.balance, state.generator)  # (n,)
        for step in range(steps):
            batch = crops.of(order[step * size : (step + 1) * size])
            varied = augment(  # (b, 224, 224), integer levels
                batch.crops, recipe.augmentation, model.config.crop_px, state.generator
            )
            x = normalize_batch(varied, reference)[:, None]  # (b, 1, 224, 224), after augmentation
            truth = F.one_hot(batch.labels, model.config.classes).float()  # (b, classes)
            if recipe.mixup:
                x, truth = mixed_up(x, truth, state.generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                logits, _ = model(x, recipe.mix_statistics, state.generator)  # (b, classes)
            loss = F.cross_entropy(logits, truth, label_smoothing=recipe.label_smoothing)
            state.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            done = state.epoch * steps + step
            for group in state.optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(done / (steps * recipe.epochs))
            state.optimizer.step()
            average(state, recipe.average_decay, done)
            losses[step] = loss.detach()
            right += int((logits.argmax(1) == batch.labels).sum())
        state.epoch += 1
        yield _epoch(
            state, held_out, recipe, reference, losses.mean().item(), right / (steps * size)
        )


def drawn(crops: Labelled, balance: Balance, generator: torch.Generator) -> Tensor:
    """The order in which an epoch visits the crops: (n,) indices.

    `groups` draws with replacement so that every flask (or field) comes equally often, and every
    class; `crops` visits each crop once.
    """
    n, device = len(crops), crops.labels.device
    if balance == "crops":
        return torch.randperm(n, generator=generator, device=device)
    in_group = torch.bincount(crops.groups)[crops.groups].double()  # (n,)
    weight = 1 / in_group
    for label in torch.unique(crops.labels):
        mine = crops.labels == label
        weight[mine] /= weight[mine].sum()
    return torch.multinomial(weight, n, replacement=True, generator=generator)


def mixed_up(x: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each crop blended with another, its truth likewise (mixup, Zhang et al. 2018).

    One weight a batch, Beta(1/2, 1/2). Shapes as given: (b, 1, h, w) and (b, classes).
    """
    other = torch.randperm(len(x), generator=generator, device=x.device)
    share = math.sin(draw(generator) * math.pi / 2) ** 2
    return share * x + (1 - share) * x[other], share * truth + (1 - share) * truth[other]


def average(state: TrainingState, decay: float, done: int) -> None:
    """Move the averaged weights, and BN's running statistics with them, towards the model's."""
    if not decay:
        return
    keep = min(decay, (1 + done) / (10 + done))  # short memory while the first steps move fast
    new = state.model.state_dict()
    with torch.no_grad():
        for name, value in state.averaged.state_dict().items():
            if value.is_floating_point():
                value.lerp_(new[name], 1 - keep)
            else:
                value.copy_(new[name])


def _epoch(
    state: TrainingState,
    held_out: Labelled | None,
    recipe: Recipe,
    reference: Reference,
    loss: float,
    train_accuracy: float,
) -> Epoch:
    val_loss = val_accuracy = None
    if held_out is not None and len(held_out):
        logits, _ = answer(state.averaged, held_out.crops, reference)
        val_loss = F.cross_entropy(logits, held_out.labels).item()
        val_accuracy = (logits.argmax(1) == held_out.labels).float().mean().item()
    return Epoch(state.epoch, recipe.epochs, loss, train_accuracy, val_loss, val_accuracy)


@torch.no_grad()
def answer(model: ConvNet, crops: Tensor, reference: Reference) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) and LCA (n, d) of raw crops (n, s, s), as the daemon would get them."""
    model.eval()
    batch = 64 if crops.is_cuda else 1  # one crop's activations stay in a CPU's cache: faster
    parts = []
    for some in torch.split(crops, batch):
        x = normalize_batch(centre(some, model.config.crop_px), reference)[:, None]
        parts.append(model(x))  # float32 whatever the recipe: this is what is measured and shipped
    logits, lca = (torch.cat(part) for part in zip(*parts, strict=True))
    return logits, lca
