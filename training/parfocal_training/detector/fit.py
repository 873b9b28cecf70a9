"""A detector's training: measure on groups left out, then train on everything.

plan.json                    what was asked; --resume goes on only with the same
runs/PART/last.safetensors   after every report: weights, moments, history
overlays/NAME.png            the worst of the left-out fields, as they were found
model.safetensors, checkpoint.json
"""

import hashlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from parfocal.card import Metric
from parfocal.fieldview import ViewRules, seen
from parfocal.instances import VoteRules
from parfocal.learned import Engine, FindRules, found, padded
from parfocal.types import Finds
from parfocal_training.claim import claim
from parfocal_training.detector import checkpoint as store
from parfocal_training.detector.fields import TrainingField, Truth
from parfocal_training.detector.material import Material
from parfocal_training.detector.network import DetectorNet
from parfocal_training.detector.overlay import overlay
from parfocal_training.detector.recipe import DetectorRecipe
from parfocal_training.detector.sampler import Sampler
from parfocal_training.detector.score import FieldScore, figures, score_field
from parfocal_training.detector.train import DetectorState, Report, begin, train
from parfocal_training.errors import DataError
from parfocal_training.write import write_whole

WORST = 6
"""Left-out fields that are drawn for a person to look at."""


class DetectorPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the result."""

    code_version: str
    recipe: DetectorRecipe
    seed: int
    folds: int
    sources: str
    files_sha256: str
    started_from: str
    device: str
    view: ViewRules = ViewRules()
    votes: VoteRules = VoteRules()
    rules: FindRules = FindRules()

    @property
    def digest(self) -> str:
        """SHA-256 of the plan: progress files of another plan are refused."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


@dataclass(frozen=True, slots=True)
class DetectorPart:
    """One training: `fold-1` ... `fold-k`, then `final`, which has number 0."""

    name: str
    number: int
    folds: int
    n_left_out: int

    def steps_after(self, recipe: DetectorRecipe) -> int:
        """Steps of all parts that come after this one."""
        if not self.number:
            return 0
        return (self.folds - self.number) * recipe.of_fold().steps + recipe.steps


@dataclass(slots=True, eq=False)
class DetectorFit:
    """A training under way: iterate `run()`; the folder then holds the checkpoint."""

    material: Material
    folder: Path
    plan: DetectorPlan
    device: torch.device
    now: Callable[[], datetime]
    workers: int = 0
    start: DetectorNet | None = None
    left_out: list[tuple[FieldScore, TrainingField, Finds]] = field(default_factory=list)

    def run(self, resume: bool) -> Generator[tuple[DetectorPart, Report], None, None]:
        """Train all parts, yielding every report, then write the checkpoint."""
        claim(self.folder, self.plan, resume)
        for number, groups in enumerate(self._folds()):
            recipe = self.plan.recipe.of_fold()
            state = yield from self._train(f"fold-{number + 1}", number + 1, recipe, groups)
            self.left_out += self._measured(state, groups)
        state = yield from self._train("final", 0, self.plan.recipe, frozenset())
        self._draw_worst()
        self._finish(state)

    def _folds(self) -> list[frozenset[str]]:
        """The groups that each fold leaves out, of fields and of crops."""
        if not self.plan.folds:
            return []
        fields = split([one.group for one in self.material.scored()], self.plan.folds)
        crops = [group for group, _ in self.material.cutouts]
        few = len(set(crops)) < self.plan.folds
        others = [frozenset[str]()] * self.plan.folds if few else split(crops, self.plan.folds)
        return [a | b for a, b in zip(fields, others, strict=True)]

    def _train(
        self, name: str, number: int, recipe: DetectorRecipe, groups: frozenset[str]
    ) -> Generator[tuple[DetectorPart, Report], None, DetectorState]:
        left_out = [one for one in self.material.scored() if one.group in groups]
        part = DetectorPart(name, number, self.plan.folds, len(left_out))
        seed = self.plan.seed * 1000 + number
        state = begin(recipe, seed, self.device, self.start)
        folder = self.folder / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        last, tag = folder / "last.safetensors", f"{self.plan.digest} {name}"
        if last.exists():
            store.restore_progress(state, tag, last)
        material = self.material.without(groups)
        sampler = Sampler(material, self.plan.view, recipe.variation, seed)
        for report in train(state, sampler, recipe, self.device, self.workers):
            store.write_progress(state, tag, last)
            yield part, report
        return state

    def _measured(
        self, state: DetectorState, groups: frozenset[str]
    ) -> Iterable[tuple[FieldScore, TrainingField, Finds]]:
        engine = torch_engine(state.averaged, self.device)
        for one in self.material.scored():
            if one.group in groups:
                finds = found_in(one, engine, self.plan)
                yield scored(one, finds, self.plan.view.um_per_px), one, finds

    def _draw_worst(self) -> None:
        folder = self.folder / "overlays"
        ordered = sorted(self.left_out, key=lambda item: _badness(item[0]))
        for score, one, finds in ordered[:WORST]:
            folder.mkdir(exist_ok=True)
            picture = overlay(one.contrast, one.labels, finds, score)
            write_whole(folder / f"{one.name}.png", picture)

    def _finish(self, state: DetectorState) -> None:
        scores = tuple(score for score, _, _ in self.left_out)
        plan = self.plan
        checkpoint = store.DetectorCheckpoint(
            created_at=self.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            code_version=plan.code_version,
            config=plan.recipe.config,
            recipe=plan.recipe,
            seed=plan.seed,
            view=plan.view,
            votes=plan.votes,
            rules=plan.rules,
            data=plan.sources,
            data_sha256s=tuple(self.material.sha256s),
            groups=tuple(sorted({one.group for one in self.material.every()})),
            started_from=plan.started_from,
            scores=scores,
            metrics=metrics(scores, plan.folds),
            caveats=caveats(scores),
        )
        store.write_detector(checkpoint, state.averaged, self.folder)


def split(groups: Sequence[str], folds: int) -> list[frozenset[str]]:
    """The groups of each fold, as equal in number of members as they go.

    Raises
    ------
    DataError
        There are fewer groups than folds.
    """
    names = np.array(groups)
    if len(set(groups)) < folds:
        raise DataError(
            f"{len(set(groups))} group(s) of fields cannot make {folds} folds: give --folds 0, or "
            "more fields, or a table with their groups"
        )
    parts = GroupKFold(folds).split(names, groups=names)
    return [frozenset(names[test].tolist()) for _, test in parts]


def torch_engine(net: DetectorNet, device: torch.device) -> Engine:
    """The network as `parfocal.learned` takes it."""

    @torch.no_grad()
    def maps(view: NDArray[np.float32]) -> NDArray[np.float32]:
        answer: NDArray[np.float32] = (
            net.eval()(torch.from_numpy(view).to(device)[None, None])[0].cpu().numpy()
        )
        return answer

    return maps


def found_in(one: TrainingField, engine: Engine, plan: DetectorPlan) -> Finds:
    """What is found in a field, at view scale, by the daemon's own code."""
    maps = engine(padded(seen(one.contrast, plan.view)))
    h, w = one.contrast.shape
    return found(maps, one.contrast, plan.view.um_per_px, (h, w), plan.votes, plan.rules)


def scored(one: TrainingField, finds: Finds, um_per_px: float) -> FieldScore:
    """The counts of a field at view scale; clumps in its truth are no cells to be found."""
    whole = np.zeros(int(one.labels.max(initial=0)) + 1, bool)
    whole[np.unique(one.labels[one.inner > 0])] = True
    says: Truth = "instances" if whole[1:].all() else "foreground"
    return score_field(one.name, one.group, finds, one.labels, um_per_px, says, whole, one.known)


def _badness(score: FieldScore) -> float:
    wrong = score.missed + score.false + score.splits
    return 2 * score.hits / max(1, 2 * score.hits + wrong)


def metrics(scores: Sequence[FieldScore], folds: int) -> dict[str, Metric]:
    """The figures of the left-out fields as a card states them."""
    how = f"{folds}-fold over groups of fields, {len(scores)} fields"
    return {
        name: Metric(value=one.value, low=one.low, high=one.high, n=len(scores), how=how)
        for name, one in (figures(scores) if scores else {}).items()
    }


def caveats(scores: Sequence[FieldScore]) -> tuple[str, ...]:
    """What the way of testing cannot show."""
    if not scores:
        return ("Trained without leaving fields out: how well it finds cells is unmeasured.",)
    return (
        "Measured on left-out fields of the microscopes it was trained on: another microscope, "
        "medium or cell line must be checked by eye.",
    )
