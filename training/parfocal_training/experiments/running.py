"""Trains the networks of an experiment: in parallel, one file a run, resumed where it stopped.

runs/NAME.progress   while it trains: weights, momentum, random state, history
runs/NAME.json       when it is done: history, and the answers to every test

NAME is that of the run, with `%` and a code for what a file name cannot hold.
"""

import hashlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch

from parfocal.card import Novelty
from parfocal.normalize import Reference
from parfocal_training import checkpoint as store
from parfocal_training import cropset, novelty
from parfocal_training.adapt import Variant, answers
from parfocal_training.cropset import CropSet
from parfocal_training.errors import DataError
from parfocal_training.experiments.designs import Ints, Run
from parfocal_training.model import ConvNet, ConvNetConfig, config_of
from parfocal_training.pretraining import pretrain
from parfocal_training.recipe import Recipe
from parfocal_training.reference import mean_and_sd, medoid_reference
from parfocal_training.train import Epoch, Labelled, begin, lca_of, train
from parfocal_training.write import write_whole


class HeldOutResult(msgspec.Struct, frozen=True, kw_only=True):
    """Answers to one test: logits [cell][class] of each way to answer, and the truth.

    A label of -1 is a class that the network does not know. `distances`, where novelty is measured:
    LCA distance of each cell to the nearest class.
    """

    series: str
    on: str
    cells: tuple[int, ...]
    labels: tuple[int, ...]
    logits: dict[str, tuple[tuple[float, ...], ...]]
    distances: tuple[float, ...] | None = None

    @property
    def known(self) -> bool:
        """Whether the answers can be right."""
        return min(self.labels, default=0) >= 0


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `runs/NAME.json`.

    `training` is the SHA-256 of its training cells' places in the crop set: networks that have it
    in common were trained on the same cells. `seconds` is the duration of its last sitting, which
    began after `epochs_before`.
    """

    schema: Literal["parfocal.run/1"] = "parfocal.run/1"
    plan: str
    name: str
    trained_on: str
    classes: tuple[str, ...]
    n_train: int
    training: str
    recipe: str
    seed: int
    seconds: float
    epochs_before: int
    history: tuple[Epoch, ...]
    tests: tuple[HeldOutResult, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is told: everything but the crops, which it loads once, and its device."""

    run: Run
    recipe: Recipe
    variants: tuple[Variant, ...]
    plan: str
    folder: Path

    @property
    def result(self) -> Path:
        """Where the answers will be."""
        return self.folder / f"{self.run.file_name}.json"


def labelled(crop_set: CropSet, run: Run, cells: Ints, device: torch.device) -> Labelled:
    """The crops of a run on its device, with their labels and groups."""
    return Labelled.on(device, crop_set.of(cells), run.labels(crop_set, cells))


def shape_of(recipe: Recipe, run: Run, crop_set: CropSet, reference: Reference) -> ConvNetConfig:
    """The network that a recipe asks for."""
    zero, unit = mean_and_sd(reference)
    crop_px = crop_set.index.rules.crop_px
    return config_of(recipe.network, recipe.order, len(run.classes), crop_px, zero, unit)


def trained(
    crop_set: CropSet, run: Run, recipe: Recipe, device: torch.device, progress: Path, tag: str
) -> tuple[ConvNet, Reference, list[Epoch], int]:
    """The network of a run, its reference distribution, its history, and epochs done before.

    It sees no cell but those of its training, labelled or not.
    """
    crops = labelled(crop_set, run, run.train, device)
    recipe = recipe.for_crops(len(crops))
    reference = medoid_reference(crop_set.bare(run.train))
    config = shape_of(recipe, run, crop_set, reference)
    state = begin(config, recipe, run.seed, device, len(crops))
    history = list[Epoch]()
    if progress.exists():
        history = store.restore_progress(state, tag, progress)
    elif recipe.pretraining:
        pretrain(state, crop_set.of(run.train), recipe, reference, run.seed)
    before = len(history)
    test = run.tests[0] if run.tests else None
    held_out = labelled(crop_set, run, test.cells, device) if test else None
    for epoch in train(state, crops, held_out, recipe, reference):
        history.append(epoch)
        store.write_progress(state, tag, history, progress)
    return state.averaged, reference, history, before


def execute(crop_set: CropSet, job: Job, device: torch.device) -> RunResult:
    """Train one network and ask it all its tests; the result is also written."""
    run, start = job.run, time.perf_counter()
    progress = job.folder / f"{run.file_name}.progress"
    tag = f"{job.plan} {run.name}"
    model, reference, history, before = trained(crop_set, run, job.recipe, device, progress, tag)
    around = _neighbourhood(crop_set, run, job.recipe, model, reference) if run.novelty else None
    tests = []
    for test in run.tests:
        asked = labelled(crop_set, run, test.cells, device)
        given = answers(model, asked, reference, job.variants)
        distances = None
        if around is not None:
            lca = lca_of(model, asked.crops, reference)
            apart = novelty.distances(around, lca, len(run.classes))
            distances = tuple(float(f"{value:.6g}") for value in apart)
        tests.append(
            HeldOutResult(
                series=test.series,
                on=test.on,
                cells=tuple(int(i) for i in test.cells),
                labels=tuple(int(v) for v in asked.labels.tolist()),
                logits={name: _rounded(logits) for name, logits in given.items()},
                distances=distances,
            )
        )
    result = RunResult(
        plan=job.plan,
        name=run.name,
        trained_on=run.trained_on,
        classes=run.classes,
        n_train=len(run.train),
        training=hashlib.sha256(run.train.tobytes()).hexdigest(),
        recipe=job.recipe.name,
        seed=run.seed,
        seconds=round(time.perf_counter() - start, 3),
        epochs_before=before,
        history=tuple(history),
        tests=tuple(tests),
    )
    write_whole(job.result, msgspec.json.encode(result))
    progress.unlink(missing_ok=True)
    return result


def _neighbourhood(
    crop_set: CropSet, run: Run, recipe: Recipe, model: ConvNet, reference: Reference
) -> Novelty:
    """What the training cells look like to the network, as a model card would carry it."""
    device = next(model.parameters()).device
    crops = labelled(crop_set, run, run.train, device)
    generator = torch.Generator(device).manual_seed(run.seed)
    return novelty.neighbourhood(model, crops, recipe, reference, generator)


def _rounded(logits: torch.Tensor) -> tuple[tuple[float, ...], ...]:
    values = np.round(logits.double().cpu().numpy(), 5)
    return tuple(tuple(float(v) for v in row) for row in values)


_worker: list[tuple[CropSet, torch.device]] = []


def _begin_worker(folder: Path, threads: int, devices: "Queue[str]") -> None:
    """Load the crops once; a process keeps to its device and its share of the cores."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _worker[:] = [(cropset.load(folder).for_training(), torch.device(devices.get()))]


def _end_with_parent() -> None:
    """Leave nothing behind when the parent is killed: a worker would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: Job) -> RunResult:
    crop_set, device = _worker[0]
    return execute(crop_set, job, device)


def finished(job: Job) -> RunResult | None:
    """The stored result of a job, if it is done.

    Raises
    ------
    DataError
        The file is damaged or belongs to another plan.
    """
    if not job.result.exists():
        return None
    result = store.decoded(job.result.read_bytes(), RunResult, job.result)
    if result.plan != job.plan:
        raise DataError(f"'{job.result}' belongs to another plan: use another folder")
    return result


def run_all(
    crops: Path,
    crop_set: CropSet,
    jobs: Sequence[Job],
    devices: Sequence[str],
    processes: int,
    threads: int,
) -> Iterator[RunResult]:
    """The results of all jobs, stored ones first, then as they are done.

    Each process has a device to itself, or shares it evenly, and takes the next job when it is
    free. One process trains in this very process, on the first device, so that Ctrl-C and a
    debugger work as everywhere.
    """
    left = []
    for job in jobs:
        done = finished(job)
        if done is None:
            left.append(job)
        else:
            yield done
    if processes == 1 or len(left) < 2:
        for job in left:
            yield execute(crop_set, job, torch.device(devices[0]))
        return
    yield from _in_processes(crops, left, devices, min(processes, len(left)), threads)


def _in_processes(
    crops: Path, jobs: Sequence[Job], devices: Sequence[str], processes: int, threads: int
) -> Iterator[RunResult]:
    context = multiprocessing.get_context("spawn")  # CUDA and threads do not survive a fork
    free: Queue[str] = context.Queue()
    for number in range(processes):
        free.put(devices[number % len(devices)])
    pool = ProcessPoolExecutor(processes, context, _begin_worker, (crops, threads, free))
    try:
        open_jobs: set[Future[RunResult]] = {pool.submit(_work, job) for job in jobs}
        while open_jobs:
            done, open_jobs = wait(open_jobs, return_when=FIRST_COMPLETED)
            for one in done:
                yield one.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def default_processes(devices: Sequence[str]) -> int:
    """One for each GPU, else one for each core."""
    if devices[0] != "cpu":
        return len(devices)
    return max(1, len(os.sched_getaffinity(0)))


def seconds_a_crop(crop_set: CropSet, job: Job, device: str, clock_s: Callable[[], float]) -> float:
    """Seconds that a crop takes in the training of a job, from three steps after a first one."""
    place, run, recipe = torch.device(device), job.run, job.recipe
    size = recipe.batch_of(len(run.train))
    short = msgspec.structs.replace(recipe, epochs=1, crops_seen=0, batch=size)
    cells = run.train[:size]
    reference = medoid_reference(crop_set.bare(cells))
    config = shape_of(recipe, run, crop_set, reference)
    crops = labelled(crop_set, run, cells, place)
    times = []
    for _ in range(4):
        state = begin(config, short, 0, place, len(crops))
        start = clock_s()
        for _ in train(state, crops, None, short, reference):
            pass
        times.append(clock_s() - start)
    return float(np.median(times[1:])) / size
