"""`parfocal-train selflabel`: networks that learn to tell every cell from every other."""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import torch
from rich.console import Console
from rich.table import Table

from parfocal import __version__
from parfocal_training import cropset, screen
from parfocal_training.device import device_named
from parfocal_training.errors import DataError, UsageError
from parfocal_training.fit import Part
from parfocal_training.jsonlines import emit
from parfocal_training.options import (
    Commands,
    not_below_zero,
    recipe_from,
    recipe_options,
    shared_options,
    whole_above_zero,
)
from parfocal_training.recipe import SELF_LABEL, Recipe
from parfocal_training.selflabel.cost import (
    ENOUGH_FOR,
    LEAST_SEEN,
    SEEN_FOR_EACH_MORE,
    Cost,
    cost,
    epochs_for,
)
from parfocal_training.selflabel.store import SelfLabelled, read_selflabelled
from parfocal_training.selflabel.training import Plan, SelfLabel
from parfocal_training.train import Epoch


def add(commands: Commands) -> None:
    """The command and its options."""
    command = commands.add_parser(
        "selflabel",
        help="self-label training: each cell a class of its own, its varied copies the examples",
    )
    shared_options(command)
    command.add_argument("crops", type=Path, help="folder made by parfocal-train crops")
    recipe_options(command, SELF_LABEL.name)
    command.add_argument(
        "--copies", type=whole_above_zero, default=50, help="augmented copies of each cell"
    )
    command.add_argument(
        "--held-out",
        type=whole_above_zero,
        default=10,
        help="of these copies, so many are for testing only",
    )
    command.add_argument(
        "--target",
        type=float,
        default=0.98,
        metavar="SHARE",
        help="training ends once so many of the cells are recognized in the held-out copies by "
        "which a pass is tested, one of each cell; 1: after all epochs, each of which shows one "
        f"copy of every cell (--epochs None: about {LEAST_SEEN:,} copies, and "
        f"{SEEN_FOR_EACH_MORE:,} for each cell beyond {ENOUGH_FOR:,})",
    )
    command.add_argument(
        "--repeats", type=whole_above_zero, default=5, help="networks, each with a seed of its own"
    )
    command.add_argument("--seed", type=not_below_zero, default=1, help="of weights and copies")
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA if there is"
    )
    command.add_argument("--threads", type=not_below_zero, default=0, help="of the CPU; 0: all")
    command.add_argument(
        "--resume", action="store_true", help="go on with a training that was interrupted"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """The command `selflabel`."""
    if options.held_out >= options.copies:
        raise UsageError(
            f"--held-out {options.held_out} of --copies {options.copies} leaves nothing to train on"
        )
    if not 0 < options.target <= 1:
        raise UsageError(f"--target takes a share above 0 and up to 1, got {options.target:g}")
    crop_set = cropset.load(options.crops)
    if len(crop_set) < 2:
        raise DataError("one cell cannot be told from others: give a set of at least two crops")
    if options.threads:
        torch.set_num_threads(options.threads)
    device = device_named(options.device)
    plan = Plan(
        code_version=__version__,
        recipe=recipe_for(options, device.type, len(crop_set)),
        copies=options.copies,
        held_out=options.held_out,
        target_accuracy=options.target,
        repeats=options.repeats,
        seed=options.seed,
        crops_sha256=crop_set.digest,
        device=device.type,
    )
    price = cost(crop_set, plan.recipe, plan.repeats, device, time.perf_counter)
    _say_cost(price, plan.target_accuracy < 1, options, console)
    running = SelfLabel(crop_set, options.out, plan, device, lambda: datetime.now(UTC))
    _follow(running, options, console)
    _report(read_selflabelled(options.out), options, console)


def recipe_for(options: argparse.Namespace, device_type: str, n_cells: int) -> Recipe:
    """The recipe; unless `--epochs` says so, its epochs are those for so many cells."""
    recipe = recipe_from(options, device_type)
    if recipe.self_labels or recipe.mixup or recipe.balance != "crops":
        raise UsageError(
            "self_labels, mixup and balance are for cells with classes: leave them out of --set"
        )
    if options.epochs is not None:
        return recipe
    return msgspec.structs.replace(recipe, epochs=epochs_for(recipe, n_cells))


def _say_cost(
    price: Cost, may_end_early: bool, options: argparse.Namespace, console: Console
) -> None:
    if options.json:
        emit({"plan": msgspec.to_builtins(price)})
        return
    most = "at most " if may_end_early else ""
    console.print(
        f"{price.networks} network(s) of {price.cells:,} cells, each {most}{price.epochs:,} epochs "
        f"({price.copies_seen:,} copies): {most}about {screen.clock_text(price.seconds)} min:s in "
        "all",
        soft_wrap=True,
    )


def _follow(running: SelfLabel, options: argparse.Namespace, console: Console) -> None:
    pace = screen.Pace(time.monotonic, may_end_early=running.plan.target_accuracy < 1)
    if options.json:
        for part, epoch in running.run(options.resume):
            _emit(part, epoch, pace.left(part, epoch))
        return
    with screen.shown_epochs(console, pace) as say:
        for part, epoch in running.run(options.resume):
            say(part, epoch)


def _emit(part: Part, epoch: Epoch, left: screen.Left) -> None:
    emit(
        {
            "part": msgspec.to_builtins(part),
            "epoch": msgspec.to_builtins(epoch),
            "left": msgspec.to_builtins(left),
        }
    )


def _report(done: SelfLabelled, options: argparse.Namespace, console: Console) -> None:
    if options.json:
        emit({"out": str(options.out), "repeats": msgspec.to_builtins(done.repeats)})
        return
    table = Table("network", "epochs", "copies seen", "last pass", "as live", "min:s")
    for one in done.repeats:
        shares = screen.percent(one.last_pass), screen.percent(one.accuracy)
        clock = screen.clock_text(one.seconds)
        table.add_row(one.name, str(one.epochs), f"{one.copies_seen:,}", *shares, clock)
    console.print(table)
    console.print(
        "last pass: recognized of one held-out copy of each cell, varied as in training; the "
        f"target is of these. as live: of all {done.held_out}, made as live crops are"
    )
    short = [one.name for one in done.repeats if not one.reached]
    if short and done.target_accuracy < 1:
        console.print(
            f"{', '.join(short)} ended below the target of {done.target_accuracy:.0%} of the last "
            "pass: give more epochs with --epochs"
        )
    console.print(f"networks in {options.out}; cluster their cells with parfocal-train phenotypes")
