"""The training loop, once and in sight: augment, normalize, forward, backward, step, average."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from parfocal.normalize import Reference
from parfocal_training.augment import augment, centre
from parfocal_training.model import ConvNet, ConvNetConfig, initialized
from parfocal_training.normalize import normalize_batch
from parfocal_training.recipe import Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Raw crops on the training device: (n, s, s) uint8 or int32 levels, labels (n,) int64."""

    crops: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, chosen: Tensor) -> "Labelled":
        """The crops with these indices (m,)."""
        return Labelled(self.crops[chosen], self.labels[chosen])


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
        order = torch.randperm(len(crops), generator=state.generator, device=device)  # (n,)
        for step in range(steps):
            batch = crops.of(order[step * size : (step + 1) * size])
            varied = augment(  # (b, 224, 224), integer levels
                batch.crops, recipe.augmentation, model.config.crop_px, state.generator
            )
            x = normalize_batch(varied, reference)[:, None]  # (b, 1, 224, 224), after augmentation
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                logits, _ = model(x)  # (b, classes)
            loss = F.cross_entropy(logits, batch.labels, label_smoothing=recipe.label_smoothing)
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
