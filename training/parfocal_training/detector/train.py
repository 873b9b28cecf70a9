"""The training loop of the detector, once and in sight: tiles, forward, backward, step, average."""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import torch
from torch.utils.data import DataLoader, Dataset

from parfocal_training.detector.loss import Batch, batch_of, losses, total
from parfocal_training.detector.network import DetectorNet, initialized
from parfocal_training.detector.recipe import DetectorRecipe
from parfocal_training.detector.sampler import Sampler


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The mean parts of the loss over the last steps, and how long a step took."""

    step: int
    of: int
    loss: dict[str, float]
    step_s: float


@dataclass(slots=True, eq=False)
class DetectorState:
    """All that a resumed training needs; tiles need nothing, they follow from their number."""

    net: DetectorNet
    averaged: DetectorNet
    optimizer: torch.optim.AdamW
    step: int = 0
    history: list[Report] = field(default_factory=list)


def begin(
    recipe: DetectorRecipe, seed: int, device: torch.device, start: DetectorNet | None
) -> DetectorState:
    """A fresh network, or a copy of one to go on from, with its optimizer."""
    net = copy.deepcopy(start) if start is not None else initialized(recipe.config, seed)
    net = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        net.parameters(),
        lr=recipe.learning_rate,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
    )
    return DetectorState(net, copy.deepcopy(net).eval(), optimizer)


class Batches(Dataset[Batch]):
    """Batch i of a training: tiles i * size and on."""

    def __init__(self, sampler: Sampler, size: int, first: int, last: int) -> None:
        self.sampler, self.size, self.first, self.last = sampler, size, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, i: int) -> Batch:
        if i >= len(self):
            raise IndexError(i)
        at = (self.first + i) * self.size
        return batch_of([self.sampler(k) for k in range(at, at + self.size)])


def train(
    state: DetectorState,
    sampler: Sampler,
    recipe: DetectorRecipe,
    device: torch.device,
    workers: int,
) -> Iterator[Report]:
    """Train from where `state` stands to the last step, yielding now and then.

    `workers` processes draw tiles beside the training; with 0 it draws them itself.
    """
    batches = Batches(sampler, recipe.batch, state.step, recipe.steps)
    loader = DataLoader(batches, batch_size=None, num_workers=workers)
    sums: dict[str, float] = {}
    since, begun = 0, time.monotonic()
    for batch in loader:
        parts = step(state, batch, recipe, device)
        since += 1
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value
        if state.step % recipe.report_every == 0 or state.step == recipe.steps:
            now = time.monotonic()
            mean = {name: value / since for name, value in sums.items()}
            report = Report(
                step=state.step, of=recipe.steps, loss=mean, step_s=(now - begun) / since
            )
            sums, since, begun = {}, 0, now
            state.history.append(report)
            yield report


def step(
    state: DetectorState, batch: Batch, recipe: DetectorRecipe, device: torch.device
) -> dict[str, float]:
    """One step; the parts of its loss."""
    wanted = Batch(
        *(getattr(batch, name).to(device, non_blocking=True) for name in Batch.__slots__)
    )
    view = wanted.view.contiguous(memory_format=torch.channels_last)  # (n, 1, s, s)
    state.net.train()
    parts = losses(state.net(view), wanted)
    loss = total(parts, recipe.loss)
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.net.parameters(), recipe.gradient_clip)
    for group in state.optimizer.param_groups:
        group["lr"] = recipe.learning_rate_at(state.step)
    state.optimizer.step()
    average(state, recipe.average_decay)
    state.step += 1
    return {name: float(part.detach()) for name, part in parts.items()}


@torch.no_grad()
def average(state: DetectorState, decay: float) -> None:
    """Move the averaged weights, and BN's running statistics with them, towards the network's."""
    keep = min(decay, (1 + state.step) / (10 + state.step))
    new = state.net.state_dict()
    for name, value in state.averaged.state_dict().items():
        if value.is_floating_point():
            value.lerp_(new[name], 1 - keep)
        else:
            value.copy_(new[name])
