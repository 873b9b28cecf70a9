"""What an experiment will do, said before it is done."""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from parfocal_training.adapt import PASSES, Variant
from parfocal_training.experiments.running import Job
from parfocal_training.novelty import copies_of
from parfocal_training.recipe import Recipe
from parfocal_training.train import MOST_WATCHED


class ExperimentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the figures of an experiment."""

    code_version: str
    experiment: str
    recipes: tuple[Recipe, ...]
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
    """How much there is left to do; `seconds`, with all processes at work, is an estimate."""

    networks: int
    tests: int
    crop_steps: int
    crops_answered: int
    processes: int
    seconds: float


def cost(jobs: Sequence[Job], pace: Mapping[str, float], processes: int) -> Cost:
    """The cost of these jobs; `pace` is seconds a crop in training, by the name of the recipe."""
    steps, answers = [crop_steps(job) for job in jobs], [crops_answered(job) for job in jobs]
    processes = min(processes, max(1, len(jobs)))
    seconds = sum(
        (step + answer / 3) * pace[job.recipe.name]  # the way back costs twice the way forth
        for job, step, answer in zip(jobs, steps, answers, strict=True)
    )
    return Cost(
        networks=len(jobs),
        tests=sum(len(job.run.tests) for job in jobs),
        crop_steps=sum(steps),
        crops_answered=sum(answers),
        processes=processes,
        seconds=seconds / processes,
    )


def crop_steps(job: Job) -> int:
    """Crops that pass through training."""
    n = len(job.run.train)
    return n * job.recipe.for_crops(n).epochs + job.recipe.pretraining


def crops_answered(job: Job) -> int:
    """Crops that a network answers without learning: its tests, the first one every epoch too.

    Where novelty is measured, training cells and their copies as well.
    """
    n, sizes = len(job.run.train), [len(test.cells) for test in job.run.tests]
    passes = sum(PASSES[variant] for variant in job.variants)
    watched = min(MOST_WATCHED, sum(sizes[:1]))
    total = passes * sum(sizes) + job.recipe.for_crops(n).epochs * watched
    if job.run.novelty:
        total += (1 + copies_of(n)) * n + sum(sizes)
    return total
