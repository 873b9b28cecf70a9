"""The training loop, once and in sight: augment, normalize, forward, backward, step, average."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from parfocal.normalize import Reference
from parfocal.types import Gray
from parfocal_training.augment import (
    Draws,
    augment,
    beside_others,
    centre,
    own_of,
    uniform,
    with_surroundings,
)
from parfocal_training.copies import Copies
from parfocal_training.cropset import CropSet, Masks
from parfocal_training.model import ConvNet, ConvNetConfig, draw, initialized
from parfocal_training.normalize import normalize_batch, normalize_with_margin
from parfocal_training.recipe import Balance, Recipe

MOST_WATCHED = 256
"""Held-out crops that are answered after every epoch: enough for a curve to look at."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Raw crops on the training device: (n, s, s) uint8 or int32 levels.

    `labels` (n,) int64; `groups` (n,) int64 numbers the flask or field of each crop. `masks`
    (n, s, s) bool, not on the device, are the pixels of each crop's own cell, where they are known.
    `masked`: the crops show nothing else.
    """

    crops: Tensor
    labels: Tensor
    groups: Tensor
    masks: Masks | None = None
    masked: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, chosen: Tensor) -> "Labelled":
        """The crops with these indices (m,)."""
        masks = None if self.masks is None else self.masks[chosen.cpu().numpy()]
        return Labelled(
            self.crops[chosen], self.labels[chosen], self.groups[chosen], masks, self.masked
        )

    def at_most(self, n: int) -> "Labelled":
        """These, or n of them evenly spaced."""
        if len(self) <= n:
            return self
        return self.of(torch.linspace(0, len(self) - 1, n, device=self.labels.device).long())

    @classmethod
    def on(cls, device: torch.device, crop_set: CropSet, labels: NDArray[np.int64]) -> "Labelled":
        """The crops of a set on a device, with these labels (n,)."""
        number = {name: i for i, name in enumerate(sorted(set(crop_set.groups)))}
        groups = torch.tensor([number[name] for name in crop_set.groups], dtype=torch.int64)
        return cls(
            levels(crop_set.crops).to(device),
            torch.from_numpy(labels).to(device),
            groups.to(device),
            crop_set.masks,
            bool(crop_set.index.rules.masked),
        )

    @classmethod
    def each_its_own(cls, device: torch.device, crop_set: CropSet) -> "Labelled":
        """The crops of a set on a device, every one a class."""
        return cls.on(device, crop_set, np.arange(len(crop_set)))


def levels(crops: Gray) -> Tensor:
    """Raw crops as PyTorch computes with them: uint8, or int32 for 16 bits."""
    wide = crops if crops.dtype == np.uint8 else crops.astype(np.int32)
    return torch.from_numpy(np.ascontiguousarray(wide))


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What is varied: n raw crops or, if nothing is done to raw ones, their views (n, s, s).

    `own` (n, s, s) uint8 is 255 where a crop shows its own cell; None if nobody asks or knows.
    `masked`: crops show nothing else.
    """

    pixels: Tensor
    own: Tensor | None = None
    masked: bool = False

    def __len__(self) -> int:
        return len(self.pixels)


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
    averaging it is `model` itself. `self_head` tells every training cell from every other and is
    thrown away with the rest. `seconds` is what the epochs took, where somebody counts.
    """

    model: ConvNet
    averaged: ConvNet
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    epoch: int = 0
    best_accuracy: float = -1.0
    self_head: nn.Linear | None = None
    seconds: float = 0.0

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All that is trained, by name."""
        yield from self.model.named_parameters()
        if self.self_head is not None:
            yield from self.self_head.named_parameters("self_head")


def begin(
    config: ConvNetConfig, recipe: Recipe, seed: int, device: torch.device, n_crops: int = 0
) -> TrainingState:
    """A fresh network, its optimizer and its random numbers, all from one seed.

    `n_crops` is the number of training crops: a recipe with `self_labels` needs it.
    """
    # channels-last: the memory order that CPU and GPU convolutions want (1.5 times as fast here)
    model = initialized(config, seed).to(device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(model) if recipe.average_decay else model
    self_head = None
    if recipe.self_labels:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self_head = nn.Linear(config.lca_values, n_crops).to(device)
    trained = [*model.parameters(), *(self_head.parameters() if self_head else ())]
    decayed = [p for p in trained if p.ndim > 1 or recipe.decay_all]
    free = [p for p in trained if p.ndim <= 1 and not recipe.decay_all]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}]
    if free:
        groups.append({"params": free, "weight_decay": 0.0})
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate)
    else:
        optimizer = torch.optim.SGD(
            groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov
        )
    generator = torch.Generator(device=device).manual_seed(seed)
    return TrainingState(model, averaged, optimizer, generator, self_head=self_head)


def train(
    state: TrainingState,
    crops: Labelled,
    held_out: Labelled | None,
    recipe: Recipe,
    reference: Reference,
    copies: Copies | None = None,
) -> Iterator[Epoch]:
    """Train from where `state` stands to the last epoch, yielding after each one.

    With `copies` an epoch sees one of the copies of every crop, and the held-out figures are those
    of copies that are never trained on. Of `held_out` at most `MOST_WATCHED` are looked at.
    """
    watched = held_out.at_most(MOST_WATCHED) if held_out is not None else None
    model, device = state.model, crops.labels.device
    network = model.seen if recipe.vary == "view" else model
    material = to_vary(crops, recipe, model.config, reference)
    size, steps = recipe.batch_of(len(crops)), recipe.steps_of(len(crops))
    while state.epoch < recipe.epochs:
        model.train()
        # summed on the device: to ask after every step would keep a GPU waiting
        losses, right = torch.zeros(steps, device=device), torch.zeros((), device=device)
        order = drawn(crops, recipe.balance, state.generator)  # (n,)
        which = copies.of_pass(state.epoch) if copies else None  # (n,)
        for step in range(steps):
            cells = order[step * size : (step + 1) * size]  # (b,)
            labels, draws = crops.labels[cells], cast(Draws, state.generator)
            if copies is not None and which is not None:
                draws = copies.draws(cells, which[cells])
            x = varied(material, cells, recipe, model.config, reference, draws)  # (b, 1, 224, 224)
            truth = F.one_hot(labels, model.config.classes).float()  # (b, classes)
            if recipe.mixup:
                x, truth = mixed_up(x, truth, state.generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                logits, lca = network(x, recipe.mix_statistics, state.generator)  # (b, classes)
            loss = F.cross_entropy(logits, truth, label_smoothing=recipe.label_smoothing)
            if state.self_head is not None:  # the LCA must also say which cell it is
                loss = loss + recipe.self_labels * F.cross_entropy(state.self_head(lca), cells)
            state.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            done = state.epoch * steps + step
            for group in state.optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(done / (steps * recipe.epochs))
            state.optimizer.step()
            average(state, recipe.average_decay, done)
            losses[step] = loss.detach()
            right += (logits.argmax(1) == labels).sum()
        state.epoch += 1
        tested: tuple[float, float] | tuple[None, None] = None, None
        if copies is not None:
            tested = held_out_copies(
                state.averaged, material, crops.labels, recipe, reference, copies, state.epoch
            )
        elif watched is not None and len(watched):
            logits, _ = answer(state.averaged, watched.crops, reference)
            tested = loss_and_accuracy(logits, watched.labels)
        yield Epoch(
            state.epoch, recipe.epochs, losses.mean().item(), right.item() / (steps * size), *tested
        )


def to_vary(
    crops: Labelled, recipe: Recipe, config: ConvNetConfig, reference: Reference
) -> Material:
    """What a recipe varies."""
    if recipe.surroundings and crops.masks is not None and not crops.masked:
        own = own_of(crops.masks, config.crop_px)
        return Material(crops.crops, own.to(crops.crops.device))
    if recipe.vary == "crop":
        return Material(crops.crops, masked=crops.masked)
    views = [viewed(some, config, reference) for some in torch.split(crops.crops, 64)]
    return Material(torch.cat(views), masked=crops.masked)


def viewed(crops: Tensor, config: ConvNetConfig, reference: Reference) -> Tensor:
    """Raw crops as the network sees them, with a margin: (n, s, s) -> (n, s', s'), float32."""
    shrink = config.shrink
    margin = (crops.shape[-1] - config.crop_px) // 2 // shrink * shrink
    cut = centre(crops, config.crop_px + 2 * margin)
    return F.avg_pool2d(normalize_with_margin(cut, margin, reference)[:, None], shrink)[:, 0]


def varied(
    material: Material,
    cells: Tensor,
    recipe: Recipe,
    config: ConvNetConfig,
    reference: Reference,
    draws: Draws,
) -> Tensor:
    """A variant of each of these cells (b,), as the network takes it: (b, 1, side, side)."""
    view = recipe.vary == "view"
    shrink = config.shrink if view else 1
    side, share, own = config.crop_px // shrink, recipe.surroundings, material.own
    options = recipe.augmentation
    if material.masked:  # nothing lies beside these cells
        options, share = options.masked(), 0.0
    x = material.pixels[cells]  # (b, s, s)
    if own is not None:
        others = uniform((len(cells),), 0, len(material), draws).long()
        x = with_surroundings(x, own[cells], material.pixels[others], own[others], share, draws)
        x = viewed(x, config, reference) if view else x
    x = augment(x, options.at(shrink), side, draws)  # (b, side, side)
    if share and own is None:
        others = uniform((len(cells),), 0, len(material), draws).long()
        x = beside_others(x, centre(material.pixels[others], side), share, draws)
    if not view:
        x = normalize_batch(x, reference)  # after augmentation, as the paper does
    return x[:, None]


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


def loss_and_accuracy(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Cross-entropy in nats, and the share of right answers."""
    return (
        F.cross_entropy(logits, labels).item(),
        (logits.argmax(1) == labels).float().mean().item(),
    )


@torch.no_grad()
def held_out_copies(
    model: ConvNet,
    material: Material,
    labels: Tensor,
    recipe: Recipe,
    reference: Reference,
    copies: Copies,
    turn: int,
) -> tuple[float, float]:
    """Loss and accuracy on one held-out copy of each cell; the copies take turns."""
    model.eval()
    network = model.seen if recipe.vary == "view" else model
    n, which = len(material), copies.held_out_of_pass(turn)
    loss, right = torch.zeros(2, device=labels.device)
    for cells in torch.split(torch.arange(n, device=labels.device), 64):
        draws = copies.draws(cells, which[cells])
        x = varied(material, cells, recipe, model.config, reference, draws)
        logits, truth = network(x)[0], labels[cells]  # (b, n): kept, they would be n x n
        loss += F.cross_entropy(logits, truth, reduction="sum")
        right += (logits.argmax(1) == truth).sum()
    return loss.item() / n, right.item() / n


def answer(model: ConvNet, crops: Tensor, reference: Reference) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) and LCA (n, d) of raw crops (n, s, s), as the daemon would get them."""
    logits, lca = (torch.cat(part) for part in zip(*_answers(model, crops, reference), strict=True))
    return logits, lca


def lca_of(model: ConvNet, crops: Tensor, reference: Reference) -> Tensor:
    """The LCA (n, d) alone: logits of a class a cell would be n x n."""
    return torch.cat([lca for _, lca in _answers(model, crops, reference)])


@torch.no_grad()
def _answers(
    model: ConvNet, crops: Tensor, reference: Reference
) -> Iterator[tuple[Tensor, Tensor]]:
    model.eval()
    batch = 64 if crops.is_cuda else 1  # one crop's activations stay in a CPU's cache: faster
    for some in torch.split(crops, batch):
        x = normalize_batch(centre(some, model.config.crop_px), reference)[:, None]
        yield model(x)  # float32 whatever the recipe: this is what is measured and shipped
