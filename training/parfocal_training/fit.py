"""Fit: cross-validate over groups, train on everything, and write one checkpoint folder.

plan.json                    what was asked; --resume goes on only with the same
runs/PART/last.safetensors   after every epoch: weights, momentum, random state, history
runs/PART/best.safetensors   weights of the best held-out epoch: to look at, never used
out-of-fold.safetensors      logits, labels, folds, distances of cells by networks that had
not seen their groups
curves.png, reliability.png, model.safetensors, checkpoint.json
"""

import hashlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from parfocal import __version__
from parfocal.card import Novelty
from parfocal.normalize import Reference
from parfocal.prepare import PixelRules
from parfocal_training import checkpoint as store
from parfocal_training import novelty
from parfocal_training.claim import claim
from parfocal_training.cropset import CropRules, CropSet
from parfocal_training.crossvalidate import group_folds
from parfocal_training.curves import draw
from parfocal_training.evaluate import ERROR_RATE, LeftOut, Measured, measure
from parfocal_training.model import ConvNetConfig, config_of
from parfocal_training.neighbours import among_others
from parfocal_training.pretraining import pretrain
from parfocal_training.recipe import Recipe
from parfocal_training.reference import mean_and_sd, medoid_reference
from parfocal_training.reliability import draw as draw_reliability
from parfocal_training.report import drawn
from parfocal_training.seen import seen
from parfocal_training.train import (
    Epoch,
    Labelled,
    TrainingState,
    answer,
    begin,
    lca_of,
    levels,
    train,
)
from parfocal_training.write import write_whole


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the result of a fit."""

    code_version: str
    recipe: Recipe
    seed: int
    fold_seed: int
    folds: int
    classes: tuple[str, ...]
    crops_sha256: str
    device: str

    @property
    def digest(self) -> str:
        """SHA-256 of the plan: progress files of another plan are refused."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


@dataclass(frozen=True, slots=True)
class Part:
    """One training of a fit: `fold-1` ... `fold-k`, then `final`."""

    name: str
    number: int
    of: int
    n_train: int
    n_held_out: int


@dataclass(slots=True, eq=False)
class Fit:
    """A fit under way: iterate `run()` for its epochs; the folder then holds the checkpoint."""

    crop_set: CropSet
    folder: Path
    plan: Plan
    device: torch.device
    now: Callable[[], datetime]
    histories: dict[str, list[Epoch]] = field(default_factory=dict)
    error_rate: float = ERROR_RATE

    def run(self, resume: bool) -> Generator[tuple[Part, Epoch], None, None]:
        """Train all parts, yielding every epoch, then write the checkpoint."""
        claim(self.folder, self.plan, resume)
        folds, answers = self._folds(), []
        for number in range(self.plan.folds):
            training, test = np.flatnonzero(folds != number), np.flatnonzero(folds == number)
            state, reference = yield from self._train(f"fold-{number + 1}", number, training, test)
            answers.append(self._answers(state, reference, number))
        left_out = joined(answers) if answers else None
        if left_out:
            store.write_left_out(left_out, self.folder / "out-of-fold.safetensors")
        every, none = np.arange(len(self.crop_set)), np.empty(0, np.int64)
        state, reference = yield from self._train("final", self.plan.folds, every, none)
        self._finish(state, reference, left_out)

    def _folds(self) -> NDArray[np.int64]:
        if not self.plan.folds:
            return np.full(len(self.crop_set), -1, np.int64)
        return group_folds(
            self.crop_set.labels,
            self.crop_set.groups,
            self.plan.folds,
            self.plan.fold_seed,
            self.crop_set.classes,
        )

    def _train(
        self, name: str, number: int, training: NDArray[np.int64], test: NDArray[np.int64]
    ) -> Generator[tuple[Part, Epoch], None, tuple[TrainingState, Reference]]:
        part = Part(name, number, self.plan.folds + 1, len(training), len(test))
        reference = medoid_reference(self.crop_set.bare(training))
        recipe = self.plan.recipe.for_crops(len(training))
        state = begin(
            self._config(reference), recipe, self._seed(number), self.device, len(training)
        )
        folder = self.folder / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        last, tag = folder / "last.safetensors", f"{self.plan.digest} {name}"
        history = []
        if last.exists():
            history = store.restore_progress(state, tag, last)
        elif recipe.pretraining:
            known = self.crop_set.of(training)  # left-out crops stay unseen, labels or not
            pretrain(state, known, recipe, reference, self._seed(number))
        self.histories[name] = history
        crops, held_out = self._labelled(training), self._labelled(test)
        for epoch in train(state, crops, held_out, recipe, reference):
            history.append(epoch)
            if epoch.val_accuracy is not None and epoch.val_accuracy > state.best_accuracy:
                state.best_accuracy = epoch.val_accuracy
                store.write_weights(state.averaged, folder / "best.safetensors")
            store.write_progress(state, tag, history, last)
            yield part, epoch
        return state, reference

    def _config(self, reference: Reference) -> ConvNetConfig:
        zero, unit = mean_and_sd(reference)  # the first layer then sees mean 0 and variance 1
        recipe, rules = self.plan.recipe, self.crop_set.index.rules
        classes = len(self.crop_set.classes)
        return config_of(recipe.network, recipe.order, classes, rules.crop_px, zero, unit)

    def _seed(self, part: int) -> int:
        return self.plan.seed * 1000 + part

    def _labelled(self, chosen: NDArray[np.int64]) -> Labelled:
        some = self.crop_set.of(chosen)
        return Labelled.on(self.device, some, some.labels)

    def _known(self, state: TrainingState, reference: Reference, part: int) -> Novelty:
        training = np.flatnonzero(self._folds() != part)
        generator = torch.Generator(self.device).manual_seed(self._seed(part))
        return novelty.neighbourhood(
            state.averaged, self._labelled(training), self.plan.recipe, reference, generator
        )

    def _answers(self, state: TrainingState, reference: Reference, fold: int) -> LeftOut:
        """What a fold's network says of the crops that it was not trained on."""
        test = np.flatnonzero(self._folds() == fold)
        logits, lca = answer(state.averaged, self._labelled(test).crops, reference)
        known, placed = self._known(state, reference, fold), None
        moved = among_others(self.crop_set, test, self._seed(fold))
        if moved is not None:
            there = levels(moved).to(self.device)
            placed = answer(state.averaged, there, reference)[0].argmax(1).cpu().numpy()
        return LeftOut(
            logits=logits.cpu().numpy().astype(np.float64),
            labels=self.crop_set.labels[test],
            folds=np.full(len(test), fold),
            groups=tuple(self.crop_set.groups[i] for i in test),
            images=frames_of(self.crop_set, test),
            distances=novelty.distances(known, lca, len(self.crop_set.classes)),
            among_others=placed,
        )

    def _finish(self, state: TrainingState, reference: Reference, left_out: LeftOut | None) -> None:
        draw(self.histories, self.folder / "curves.png")
        known = self._known(state, reference, self.plan.folds)
        if left_out:
            usual = left_out.distances
        else:  # those of its own crops: the best there is before `parfocal-export --measure`
            every = self._labelled(np.arange(len(self.crop_set)))
            lca = lca_of(state.averaged, every.crops, reference)
            usual = novelty.distances(known, lca, len(self.crop_set.classes))
        index, measured = self.crop_set.index, self._measured(left_out)
        finished = store.Checkpoint(
            created_at=self.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            code_version=__version__,
            config=state.averaged.config,
            recipe=self.plan.recipe,
            seed=self.plan.seed,
            classes=index.classes,
            pixels=pixel_rules(index.rules, reference),
            detector=index.rules.detector,
            data=index.data,
            data_sha256s=self.crop_set.sha256s,
            groups=tuple(sorted(set(self.crop_set.groups))),
            novelty=msgspec.structs.replace(known, scores=novelty.thinned(usual)),
            measured=measured,
        )
        store.write_checkpoint(finished, state.averaged, self.folder)

    def _measured(self, left_out: LeftOut | None) -> Measured:
        """What left-out groups and the list of crops say of the model, with its reliability.png."""
        index = self.crop_set.index
        shown = measure(left_out, index.group_kind, self._seed(0), self.error_rate, index.classes)
        if shown.reliability is not None:
            figure = drawn(draw_reliability(shown.reliability))
            write_whole(self.folder / "reliability.png", figure)
        return msgspec.structs.replace(shown, seen=seen(self.crop_set))


def frames_of(crop_set: CropSet, chosen: NDArray[np.int64]) -> tuple[str, ...]:
    """The image of each of these crops; none where an image is one ready crop."""
    rows = [crop_set.index.rows[i] for i in chosen]
    ready = any(row.x_px is None for row in rows)
    return () if ready else tuple(row.image.path for row in rows)


def pixel_rules(rules: CropRules, reference: Reference) -> PixelRules:
    """The strict half of the preparation, complete now that the reference is chosen."""
    return PixelRules(
        um_per_px=rules.um_per_px,
        reference=tuple(int(count) for count in reference.counts),
        crop_px=rules.crop_px,
        flat_field_um=rules.flat_field_um,
        masked=rules.masked,
    )


def joined(parts: list[LeftOut]) -> LeftOut:
    """The answers of all folds, one after another."""
    placed = [part.among_others for part in parts if part.among_others is not None]
    return LeftOut(
        logits=np.concatenate([part.logits for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        folds=np.concatenate([part.folds for part in parts]),
        groups=tuple(group for part in parts for group in part.groups),
        distances=np.concatenate([part.distances for part in parts]),
        images=tuple(image for part in parts for image in part.images),
        among_others=np.concatenate(placed) if len(placed) == len(parts) else None,
    )
