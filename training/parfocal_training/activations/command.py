"""`parfocal-train activations`: what a network makes of chosen cells, and how far to believe it."""

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from parfocal_training import cropset
from parfocal_training.activations.checks import METHODS, mean_probability
from parfocal_training.activations.looks import Look, choose_cells, looks
from parfocal_training.activations.network import fast
from parfocal_training.activations.report import means, report, table
from parfocal_training.activations.saliency import Window
from parfocal_training.checkpoint import Checkpoint, read_checkpoint
from parfocal_training.cropset import CropSet
from parfocal_training.errors import UsageError
from parfocal_training.jsonlines import emit
from parfocal_training.options import (
    Commands,
    above_zero,
    not_below_zero,
    shared_options,
    whole_above_zero,
)


def add(commands: Commands) -> None:
    """The command and its options."""
    command = commands.add_parser(
        "activations", help="feature maps of chosen cells, and which regions carry the answer"
    )
    shared_options(command)
    command.add_argument("checkpoint", type=Path, help="folder made by parfocal-train fit")
    command.add_argument("crops", type=Path, help="folder made by parfocal-train crops")
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--cells", type=not_below_zero, nargs="+", metavar="N", help="places in the crop set, 0 on"
    )
    which.add_argument(
        "--per-class",
        type=whole_above_zero,
        default=2,
        help="cells a class, drawn at random from different groups; not with --cells",
    )
    command.add_argument(
        "--unpooled", action="store_true", help="maps before pooling, as in the paper's Fig. S2"
    )
    command.add_argument(
        "--window-um",
        type=above_zero,
        default=12.0,
        help="side in micrometres of the window that is covered with background",
    )
    command.add_argument(
        "--stride-um",
        type=above_zero,
        default=6.0,
        help="step of the window in micrometres; half of it takes four times as long",
    )
    command.add_argument("--seed", type=not_below_zero, default=1, help="of cells and backgrounds")
    command.add_argument("--threads", type=not_below_zero, default=0, help="of the CPU; 0: all")
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """The command `activations`."""
    if options.threads:
        torch.set_num_threads(options.threads)
    checkpoint, model = read_checkpoint(options.checkpoint)
    model, crop_set = fast(model), cropset.load(options.crops)
    _check(options, checkpoint, crop_set)
    cells = options.cells or choose_cells(
        crop_set.labels, crop_set.groups, options.per_class, np.random.default_rng(options.seed)
    )
    options.out.mkdir(parents=True, exist_ok=True)
    window = _window(options, checkpoint.pixels.um_per_px)
    seen = []
    with Progress(console=console, disable=options.json or not console.is_terminal) as bar:
        pooled, seed = not options.unpooled, options.seed
        found = looks(model, checkpoint, crop_set, cells, window, pooled, seed)
        for look in bar.track(found, total=len(cells), description="cells"):
            seen.append(look)
            if options.json:
                emit(_line(look))
    report(seen, checkpoint, window, options).write(options.out / "report.html")
    if options.json:
        emit({"out": str(options.out), "cells": cells, **means(seen)})
        return
    console.print(table(seen))
    console.print(f"report in {options.out / 'report.html'}")


def _check(options: argparse.Namespace, checkpoint: Checkpoint, crop_set: CropSet) -> None:
    if options.out.exists() and any(options.out.iterdir()):
        raise UsageError(f"'{options.out}' is not empty: give another folder")
    differ = crop_set.index.rules.differences(checkpoint.pixels)
    if differ:
        raise UsageError(
            f"the network takes other crops than these ({differ}): make the crops again with the "
            "network's"
        )
    beyond = [cell for cell in options.cells or () if cell >= len(crop_set)]
    if beyond:
        raise UsageError(
            f"--cells {beyond[0]}: '{options.crops}' holds {len(crop_set)} crops, numbered from 0"
        )


def _window(options: argparse.Namespace, um_per_px: float) -> Window:
    side, stride = (round(um / um_per_px) for um in (options.window_um, options.stride_um))
    if not 1 <= stride <= side:
        raise UsageError(
            f"a window of {side} px moved by {stride} px leaves gaps or stands still: give "
            "--stride-um of at least a pixel and at most --window-um"
        )
    return Window(side, stride)


def _line(look: Look) -> dict[str, object]:
    found = look.saliency
    return {
        "cell": look.cell,
        "path": look.path,
        "cell_line": look.cell_line,
        "answer": look.answer,
        "probability": look.probability,
        "trained_on": look.trained_on,
        "maps": [list(maps.shape) for maps in look.maps],
        "deletion_mean_probability": {n: mean_probability(c) for n, c in found.curves.items()},
        "random_weights_rank_correlation": {name: found.same[name][-1] for name in METHODS},
        "random_weights_rank_correlation_absolute": found.same_size,
    }
