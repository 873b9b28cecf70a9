"""`parfocal-train experiment NAME`: an experiment of the paper on a crop set."""

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from parfocal import __version__
from parfocal_training import cropset
from parfocal_training.adapt import VARIANTS
from parfocal_training.claim import claim
from parfocal_training.cropset import CropSet
from parfocal_training.errors import UsageError
from parfocal_training.experiments import report
from parfocal_training.experiments.catalogue import EXPERIMENTS, Experiment, units
from parfocal_training.experiments.designs import Run
from parfocal_training.experiments.plan import Cost, ExperimentPlan, cost
from parfocal_training.experiments.running import (
    Job,
    RunResult,
    default_processes,
    run_all,
    seconds_a_crop,
)
from parfocal_training.experiments.summary import SeriesFigures, figures
from parfocal_training.experiments.unknown_figures import UnknownFigures, unknown_figures
from parfocal_training.experiments.unknown_scores import SHIPPED
from parfocal_training.jsonlines import emit
from parfocal_training.mixed import command as mixed
from parfocal_training.options import (
    Commands,
    changed,
    not_below_zero,
    recipe_from,
    recipe_options,
    shared_options,
    whole_above_zero,
)
from parfocal_training.recipe import PAPER_RECIPE, Recipe
from parfocal_training.screen import clock_text


def add(commands: Commands) -> None:
    """Add `experiment` with one sub-command for each experiment."""
    top = commands.add_parser("experiment", help="repeat an experiment of the paper on your crops")
    names = top.add_subparsers(dest="experiment", required=True, metavar="NAME")
    for one in EXPERIMENTS.values():
        _options(names.add_parser(one.name, help=one.question), one)
    mixed.add(names)


def _options(command: argparse.ArgumentParser, one: Experiment) -> None:
    shared_options(command)
    command.description = f"{one.question} The paper: {one.found}."
    command.add_argument("crops", type=Path, help="folder made by parfocal-train crops")
    recipe_options(command, default="paper")
    if one.own_recipes:
        command.set_defaults(recipe=None)
    command.add_argument("--repeats", type=whole_above_zero, default=one.repeats, metavar="N",
                         help="of every run, each with a seed of its own")  # fmt: skip
    command.add_argument("--seed", type=not_below_zero, default=1, help="of splits and weights")
    if one.unit == "field":
        command.add_argument(
            "--split", choices=("field", "crop"), default="field",
            help="what is never divided: fields (images), or, as in the paper, cells",
        )  # fmt: skip
    else:
        command.set_defaults(split="field")  # whole flasks are left out
    command.add_argument(
        "--answer", nargs="+", choices=VARIANTS, default=["plain"], metavar="WAY",
        help="how the tests are answered: plain; turned: mean over eight turns and reflections; "
        "flask: batch statistics of the asked flask; with-control: those of the asked flask and a "
        "control flask of another line",
    )  # fmt: skip
    command.add_argument("--devices", nargs="+", default=["auto"], metavar="DEVICE",
                         help="auto: every GPU, else cpu; cuda:1 ...; each takes the next network "
                         "when it is free")  # fmt: skip
    command.add_argument("--jobs", type=not_below_zero, default=0,
                         help="processes; 0: one a GPU, else one a core")  # fmt: skip
    command.add_argument("--plan-only", action="store_true", help="print the plan and stop")
    command.add_argument("--resume", action="store_true",
                         help="go on with an experiment that was interrupted")  # fmt: skip
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Plan, train, test, and write the report."""
    one = EXPERIMENTS[options.experiment]
    crop_set = cropset.load(options.crops).for_training()
    devices = _devices(options.devices)
    runs = one.design(crop_set, options.repeats, options.seed, options.split)
    recipes = _recipes(options, one, runs, torch.device(devices[0]).type)
    plan = ExperimentPlan(
        code_version=__version__,
        experiment=one.name,
        recipes=tuple({recipe.name: recipe for recipe in recipes}.values()),
        repeats=options.repeats,
        seed=options.seed,
        split=options.split,
        variants=tuple(dict.fromkeys(options.answer)),
        crops_sha256=crop_set.digest,
        devices=devices,
    )
    processes = options.jobs or default_processes(devices)
    threads = 1 if processes > 1 else torch.get_num_threads()
    torch.set_num_threads(threads)  # as each of the processes will have it
    folder = options.out / "runs"
    jobs = [
        Job(run, recipe, plan.variants, plan.digest, folder)
        for run, recipe in zip(runs, recipes, strict=True)
    ]
    left = [job for job in jobs if not (options.resume and job.result.exists())]
    first = {job.recipe.name: job for job in reversed(left)}
    pace = {
        name: seconds_a_crop(crop_set, job, devices[0], time.perf_counter)
        for name, job in first.items()
    }
    _say_plan(options, console, left, cost(left, pace, processes), crop_set)
    if options.plan_only:
        return
    claim(options.out, plan, options.resume)
    folder.mkdir(exist_ok=True)
    every = run_all(options.crops, crop_set, jobs, devices, processes, threads)
    results = _watched(options, console, every, len(jobs))
    order = {run.name: i for i, run in enumerate(runs)}
    results.sort(key=lambda result: order[result.name])
    found = figures(results, crop_set, options.seed, units(one, crop_set))
    series = [one.beside_the_paper(each) for each in found]
    novelty = unknown_figures(results, crop_set, options.seed) if one.novelty else []
    report.write(options.out, one, plan, results, series, crop_set, novelty)
    _say_figures(options, console, series, novelty)


def _recipes(
    options: argparse.Namespace, one: Experiment, runs: Sequence[Run], device_type: str
) -> list[Recipe]:
    """The recipe of each run with the changes that were asked for."""
    if not one.own_recipes:
        return [recipe_from(options, device_type)] * len(runs)
    if options.recipe is not None:
        raise UsageError(
            f"{one.name} compares recipes of its own: leave out --recipe {options.recipe}; --set, "
            "--epochs and --batch change every one of them"
        )
    return [changed(run.recipe or PAPER_RECIPE, options, device_type) for run in runs]


def _devices(names: Sequence[str]) -> tuple[str, ...]:
    gpus = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    for name in names:
        if name.startswith("cuda") and not gpus:
            raise UsageError(f"--devices {name}: this PyTorch finds no CUDA device")
        if name not in ("auto", "cpu") and not name.startswith("cuda"):
            raise UsageError(f"--devices takes auto, cpu, cuda or cuda:N, got '{name}'")
    every = gpus or ("cpu",)
    return tuple(one for name in names for one in (every if name == "auto" else (name,)))


def _say_plan(
    options: argparse.Namespace,
    console: Console,
    jobs: Sequence[Job],
    price: Cost,
    crop_set: CropSet,
) -> None:
    if options.json:
        emit({"plan": price})
        return
    runs = [job.run for job in jobs]
    table = Table("series", "networks", "training cells", "tests", "test cells", "groups")
    for name in dict.fromkeys(series_of(run) for run in runs):
        mine = [run for run in runs if series_of(run) == name]
        tests = [test for run in mine for test in run.tests]
        groups = {crop_set.groups[i] for test in tests for i in test.cells}
        table.add_row(
            name,
            str(len(mine)),
            _span([len(run.train) for run in mine]),
            str(len(tests)),
            _span([len(test.cells) for test in tests]),
            str(len(groups)),
        )
    console.print(table)
    console.print(
        f"{price.networks} networks, {price.tests} tests, about {clock_text(price.seconds)} "
        f"min:s in {price.processes} process(es)"
    )


def series_of(run: Run) -> str:
    """What a network is for: the series of its tests, or, where these differ, its training."""
    names = {test.series for test in run.tests}
    return names.pop() if len(names) == 1 else run.trained_on


def _span(values: Sequence[int]) -> str:
    low, high = min(values, default=0), max(values, default=0)
    return str(low) if low == high else f"{low}-{high}"


def _watched(
    options: argparse.Namespace,
    console: Console,
    every: Iterable[RunResult],
    count: int,
) -> list[RunResult]:
    results = []
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/"
               "{task.total}"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("networks", total=count)
        for result in every:
            results.append(result)
            bar.advance(task)
            if options.json:
                emit({"run": result.name, "accuracy": _accuracies(result)})
            elif not console.is_terminal:
                console.print(f"{len(results)}/{count} {report.log_line(result)}",
                              soft_wrap=True)  # fmt: skip
    return results


def _accuracies(result: RunResult) -> dict[str, float]:
    out = {}
    for test in (test for test in result.tests if test.known):
        for variant, logits in test.logits.items():
            right = [
                max(range(len(row)), key=row.__getitem__) == label
                for row, label in zip(logits, test.labels, strict=True)
            ]
            out[f"{test.on} ({variant})"] = sum(right) / max(1, len(right))
    return out


def _say_figures(
    options: argparse.Namespace,
    console: Console,
    series: Sequence[SeriesFigures],
    novelty: Sequence[UnknownFigures],
) -> None:
    if options.json:
        for one in (*series, *novelty):
            emit(one)
        return
    table = Table("series", "answered", "tests", "cells", "accuracy (%)", "95 % interval",
                  "the paper found", "frames by vote (%)", "flasks by vote (%)")  # fmt: skip
    for one in series:
        table.add_row(
            one.series,
            one.variant,
            str(one.n_tests),
            str(one.n_cells),
            f"{100 * one.accuracy:.1f}",
            f"{100 * one.low:.0f}-{100 * one.high:.0f}",
            one.paper_words,
            "" if one.frame_accuracy is None else f"{100 * one.frame_accuracy:.0f}",
            f"{100 * one.flask_accuracy:.0f}",
        )
    console.print(table)
    if novelty:
        console.print(_novelty_table(novelty))
    console.print(f"report in {options.out / 'report.html'}")


def _novelty_table(novelty: Sequence[UnknownFigures]) -> Table:
    table = Table("left out", "AUROC of cells", "of images", "refused (%)", "known lines",
                  "balanced accuracy (%)", "images by vote (%)")  # fmt: skip
    for one in novelty:
        score = one.novelty.get(SHIPPED)
        parts = ("", "", "")
        if score:
            parts = (f"{score.cells.value:.3f}", f"{score.images.value:.3f}",
                     f"{100 * score.refused.value:.0f}")  # fmt: skip
        accuracy = [f"{100 * part.value:.1f}" for part in (one.cells, one.images)]
        table.add_row(one.left_out, *parts, str(one.classes), *accuracy)
    return table
