"""Trains the networks of a self-label run, one after another, resumed where it stopped.

plan.json                        what was asked; --resume goes on only with the same
repeat-1/last.safetensors        after every pass: weights, moments, random state, history
repeat-1/model.safetensors       the finished network
selflabel.json, curves.png       when all repeats are done
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import torch

from parfocal import __version__
from parfocal.normalize import Reference
from parfocal_training import checkpoint as store
from parfocal_training.claim import claim
from parfocal_training.copies import Copies
from parfocal_training.cropset import CropSet
from parfocal_training.curves import draw
from parfocal_training.fit import Part, pixel_rules
from parfocal_training.model import ConvNetConfig, config_of
from parfocal_training.networks import weights_sha256
from parfocal_training.recipe import Recipe
from parfocal_training.reference import mean_and_sd, medoid_reference
from parfocal_training.selflabel.store import Repeat, SelfLabelled, write_selflabelled
from parfocal_training.train import (
    Epoch,
    Labelled,
    TrainingState,
    begin,
    held_out_copies,
    to_vary,
    train,
)
from parfocal_training.write import write_whole


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the result of a self-label run."""

    code_version: str
    recipe: Recipe
    copies: int
    held_out: int
    target_accuracy: float
    repeats: int
    seed: int
    crops_sha256: str
    device: str

    @property
    def digest(self) -> str:
        """SHA-256 of the plan: progress files of another plan are refused."""
        return sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


@dataclass(slots=True, eq=False)
class SelfLabel:
    """A run under way: iterate `run()` for its passes; the folder then holds the networks."""

    crop_set: CropSet
    folder: Path
    plan: Plan
    device: torch.device
    now: Callable[[], datetime]
    clock_s: Callable[[], float] = time.monotonic
    histories: dict[str, list[Epoch]] = field(default_factory=dict)

    def run(self, resume: bool) -> Generator[tuple[Part, Epoch], None, None]:
        """Train every repeat, yielding each pass, then write what came out."""
        claim(self.folder, self.plan, resume)
        reference = medoid_reference(self.crop_set.bare(slice(None)))
        made: tuple[Repeat, ...] = ()
        for number in range(self.plan.repeats):
            made += ((yield from self._repeat(number, reference)),)
        draw(self.histories, self.folder / "curves.png")
        self._finish(reference, made)

    def _repeat(
        self, number: int, reference: Reference
    ) -> Generator[tuple[Part, Epoch], None, Repeat]:
        n, name, seed = len(self.crop_set), f"repeat-{number + 1}", self.plan.seed * 1000 + number
        part = Part(name, number, self.plan.repeats, n, n)
        folder = self.folder / name
        done = folder / "repeat.json"
        if done.exists():
            stored = store.decoded(done.read_bytes(), tuple[Repeat, tuple[Epoch, ...]], done)
            self.histories[name] = list(stored[1])
            return stored[0]
        folder.mkdir(parents=True, exist_ok=True)
        state = begin(self._config(reference), self.plan.recipe, seed, self.device)
        copies = Copies.on(self.device, n, self.plan.copies, self.plan.held_out, seed)
        yield from self._passes(part, state, copies, reference, folder)
        store.write_weights(state.averaged, folder / "model.safetensors")
        repeat = self._tested(name, seed, state, copies, reference, folder)
        write_whole(done, msgspec.json.encode((repeat, self.histories[name])))
        return repeat

    def _passes(
        self,
        part: Part,
        state: TrainingState,
        copies: Copies,
        reference: Reference,
        folder: Path,
    ) -> Generator[tuple[Part, Epoch], None, None]:
        """Train until the target is reached or the passes are used up."""
        last, tag = folder / "last.safetensors", f"{self.plan.digest} {part.name}"
        history = store.restore_progress(state, tag, last) if last.exists() else []
        self.histories[part.name] = history
        if history and self._ends_with(history[-1]):
            return
        crops, begun_s = self._cells(), self.clock_s() - state.seconds
        for epoch in train(state, crops, None, self.plan.recipe, reference, copies):
            history.append(epoch)
            state.seconds = self.clock_s() - begun_s
            store.write_progress(state, tag, history, last)
            yield part, epoch
            if self._ends_with(epoch):
                break

    def _reached(self, epoch: Epoch) -> bool:
        return epoch.val_accuracy is not None and epoch.val_accuracy >= self.plan.target_accuracy

    def _ends_with(self, epoch: Epoch) -> bool:
        """A target of 1 asks for every pass, however good one of them is."""
        return self.plan.target_accuracy < 1 and self._reached(epoch)

    def _cells(self) -> Labelled:
        return Labelled.each_its_own(self.device, self.crop_set)

    def _config(self, reference: Reference) -> ConvNetConfig:
        zero, unit = mean_and_sd(reference)
        recipe, crop_px = self.plan.recipe, self.crop_set.index.rules.crop_px
        return config_of(recipe.network, recipe.order, len(self.crop_set), crop_px, zero, unit)

    def _tested(
        self,
        name: str,
        seed: int,
        state: TrainingState,
        copies: Copies,
        reference: Reference,
        folder: Path,
    ) -> Repeat:
        """The network on all held-out copies, made the daemon's way: varied, then normalized."""
        # raw crops of other images differ in brightness: their surroundings would be new to it; and
        # no camera bends the grey scale
        straight = replace(self.plan.recipe.augmentation, tone=0.0)
        recipe = msgspec.structs.replace(
            self.plan.recipe, vary="crop", surroundings=0.0, augmentation=straight
        )
        crops, n = self._cells(), len(self.crop_set)
        material = to_vary(crops, recipe, state.averaged.config, reference)
        found = [
            held_out_copies(state.averaged, material, crops.labels, recipe, reference, copies, turn)
            for turn in range(copies.held_out)
        ]
        loss, accuracy = (float(np.mean(values)) for values in zip(*found, strict=True))
        last = self.histories[name][-1]
        return Repeat(
            name=name,
            seed=seed,
            epochs=state.epoch,
            copies_seen=state.epoch * recipe.steps_of(n) * recipe.batch_of(n),
            accuracy=accuracy,
            loss=loss,
            seconds=state.seconds,
            reached=self._reached(last),
            last_pass=last.val_accuracy,
            weights_sha256=weights_sha256(folder / "model.safetensors"),
        )

    def _finish(self, reference: Reference, repeats: tuple[Repeat, ...]) -> None:
        index, plan = self.crop_set.index, self.plan
        write_selflabelled(
            SelfLabelled(
                created_at=self.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
                code_version=__version__,
                device=plan.device,
                config=self._config(reference),
                recipe=plan.recipe,
                copies=plan.copies,
                held_out=plan.held_out,
                target_accuracy=plan.target_accuracy,
                seed=plan.seed,
                n_cells=len(self.crop_set),
                crops_sha256=plan.crops_sha256,
                pixels=pixel_rules(index.rules, reference),
                detector=index.rules.detector,
                data=index.data,
                repeats=repeats,
            ),
            self.folder,
        )
