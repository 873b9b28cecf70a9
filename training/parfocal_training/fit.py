"""Fit: cross-validate over groups, train on everything, and write one checkpoint folder.

plan.json                    what was asked; --resume goes on only with the same
runs/PART/last.safetensors   after every epoch: weights, momentum, random state, history
runs/PART/best.safetensors   weights of the best held-out epoch: to look at, never used
out-of-fold.safetensors      logits, labels, folds, distances of cells by networks that had
not seen their groups
curves.png, model.safetensors, checkpoint.json
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
from parfocal.types import Gray
from parfocal_training import checkpoint as store
from parfocal_training import novelty
from parfocal_training.claim import claim
from parfocal_training.cropset import CropRules, CropSet
from parfocal_training.crossvalidate import group_folds
from parfocal_training.curves import draw
from parfocal_training.evaluate import LeftOut, measure
from parfocal_training.model import ConvNetConfig
from parfocal_training.recipe import Recipe
from parfocal_training.reference import mean_and_sd, medoid_reference
from parfocal_training.train import Epoch, Labelled, TrainingState, answer, begin, train


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
        reference = medoid_reference(self._bare(training))
        state = begin(self._config(reference), self.plan.recipe, self._seed(number), self.device)
        folder = self.folder / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        last, tag = folder / "last.safetensors", f"{self.plan.digest} {name}"
        history = store.restore_progress(state, tag, last) if last.exists() else []
        self.histories[name] = history
        crops, held_out = self._labelled(training), self._labelled(test)
        for epoch in train(state, crops, held_out, self.plan.recipe, reference):
            history.append(epoch)
            if epoch.val_accuracy is not None and epoch.val_accuracy > state.best_accuracy:
                state.best_accuracy = epoch.val_accuracy
                store.write_weights(state.averaged, folder / "best.safetensors")
            store.write_progress(state, tag, history, last)
            yield part, epoch
        return state, reference

    def _bare(self, chosen: NDArray[np.int64]) -> Gray:
        """Crops without margin: (m, 224, 224)."""
        margin, side = self.crop_set.index.rules.margin_px, self.crop_set.index.rules.crop_px
        return self.crop_set.crops[chosen, margin : margin + side, margin : margin + side]

    def _config(self, reference: Reference) -> ConvNetConfig:
        zero, unit = mean_and_sd(reference)  # the first layer then sees mean 0 and variance 1
        return ConvNetConfig(
            classes=len(self.crop_set.classes),
            crop_px=self.crop_set.index.rules.crop_px,
            order=self.plan.recipe.order,
            level_zero=zero,
            level_unit=unit,
        )

    def _seed(self, part: int) -> int:
        return self.plan.seed * 1000 + part

    def _labelled(self, chosen: NDArray[np.int64]) -> Labelled:
        crops = self.crop_set.crops[chosen]
        wide = crops if crops.dtype == np.uint8 else crops.astype(np.int32)
        labels = torch.from_numpy(self.crop_set.labels[chosen])
        return Labelled(torch.from_numpy(wide).to(self.device), labels.to(self.device))

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
        known = self._known(state, reference, fold)
        return LeftOut(
            logits=logits.cpu().numpy().astype(np.float64),
            labels=self.crop_set.labels[test],
            folds=np.full(len(test), fold),
            groups=tuple(self.crop_set.groups[i] for i in test),
            distances=novelty.distances(known, lca, len(self.crop_set.classes)),
        )

    def _finish(self, state: TrainingState, reference: Reference, left_out: LeftOut | None) -> None:
        draw(self.histories, self.folder / "curves.png")
        known = self._known(state, reference, self.plan.folds)
        scores = novelty.thinned(left_out.distances) if left_out else ()
        index = self.crop_set.index
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
            novelty=msgspec.structs.replace(known, scores=scores),
            measured=measure(left_out, index.group_kind, self._seed(0)),
            caveats=caveats(self.crop_set, left_out),
        )
        store.write_checkpoint(finished, state.averaged, self.folder)


def pixel_rules(rules: CropRules, reference: Reference) -> PixelRules:
    """The strict half of the preparation, complete now that the reference is chosen."""
    return PixelRules(
        um_per_px=rules.um_per_px,
        reference=tuple(int(count) for count in reference.counts),
        crop_px=rules.crop_px,
        flat_field_um=rules.flat_field_um,
    )


def caveats(crop_set: CropSet, left_out: LeftOut | None) -> tuple[str, ...]:
    """What the way of testing cannot show, in sentences that travel with the model."""
    out = []
    kind, n = crop_set.index.group_kind, len(set(crop_set.groups))
    if left_out is None:
        out.append(
            "Trained without cross-validation: accuracy, calibration and novelty unmeasured."
        )
    if kind != "flask":
        out.append(
            f"Tested on left-out {kind}s, not on left-out flasks: how it does on another flask is "
            "not shown."
        )
    out.append(f"Trained on {len(crop_set)} crops from {n} groups ({kind}).")
    return tuple(out)


def joined(parts: list[LeftOut]) -> LeftOut:
    """The answers of all folds, one after another."""
    return LeftOut(
        logits=np.concatenate([part.logits for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        folds=np.concatenate([part.folds for part in parts]),
        groups=tuple(group for part in parts for group in part.groups),
        distances=np.concatenate([part.distances for part in parts]),
    )
