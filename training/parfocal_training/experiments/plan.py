"""What an experiment will do, said before it is done."""

import hashlib
from collections.abc import Sequence

import msgspec

from parfocal_training.adapt import Variant
from parfocal_training.experiments.designs import Run
from parfocal_training.novelty import copies_of
from parfocal_training.recipe import Recipe


class ExperimentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the figures of an experiment."""

    code_version: str
    experiment: str
    recipe: Recipe
    repeats: int
    seed: int
    split: str
    variants: tuple[Variant, ...]
    crops_sha256: str
    devices: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the plan: results of another plan are refused."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """How much there is to do; `seconds` is an estimate from a few measured steps."""

    networks: int
    tests: int
    crop_steps: int
    crops_answered: int
    seconds_a_crop: float
    processes: int

    @property
    def seconds(self) -> float:
        """Expected duration with all processes at work."""
        forward = self.crops_answered / 3  # as a rule the way back costs twice the way forth
        return (self.crop_steps + forward) * self.seconds_a_crop / self.processes


def crop_steps(runs: Sequence[Run], recipe: Recipe) -> int:
    """Crops that pass through training in all."""
    total = 0
    for run in runs:
        mine = (run.recipe or recipe).for_crops(len(run.train))
        total += len(run.train) * mine.epochs + mine.pretraining
    return total


def crops_answered(runs: Sequence[Run], recipe: Recipe) -> int:
    """Crops that a network answers without learning: its tests, the first one every epoch too.

    Where novelty is measured, training cells and their copies as well.
    """
    total = 0
    for run in runs:
        epochs = (run.recipe or recipe).for_crops(len(run.train)).epochs
        sizes = [len(test.cells) for test in run.tests]
        total += sum(sizes) + epochs * sum(sizes[:1])
        if run.novelty:
            total += (1 + copies_of(len(run.train))) * len(run.train) + sum(sizes)
    return total


def cost(runs: Sequence[Run], recipe: Recipe, seconds_a_crop: float, processes: int) -> Cost:
    """The cost of these runs."""
    return Cost(
        networks=len(runs),
        tests=sum(len(run.tests) for run in runs),
        crop_steps=crop_steps(runs, recipe),
        crops_answered=crops_answered(runs, recipe),
        seconds_a_crop=seconds_a_crop,
        processes=min(processes, max(1, len(runs))),
    )
