"""`parfocal-train`: crops from images, and a network from crops."""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import torch
from rich.console import Console

from parfocal import __version__
from parfocal.card import DetectorRules
from parfocal.prepare import CROP_PX
from parfocal.types import Detector
from parfocal_training import (
    cropset,
    dataset_command,
    screen,
)
from parfocal_training.activations import command as activations
from parfocal_training.checkpoint import Checkpoint, read_checkpoint
from parfocal_training.crops import (
    EXTERNAL,
    ImageCrops,
    ReadyRules,
    cut_frames,
    detector_named,
    gathered,
    ready_crops,
)
from parfocal_training.cropset import CropRules, CropSet
from parfocal_training.datacard import write_card
from parfocal_training.dataset import Row, grouped, read_rows, renamed
from parfocal_training.detector.command import train_detector
from parfocal_training.device import device_named
from parfocal_training.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    DataError,
    TrainingError,
    UsageError,
    exit_code,
    sentence,
)
from parfocal_training.experiments import command as experiment
from parfocal_training.fit import Fit, Part, Plan
from parfocal_training.jsonlines import emit
from parfocal_training.morphology import command as morphology
from parfocal_training.options import Commands, parser, recipe_from
from parfocal_training.phenotypes import command as phenotypes
from parfocal_training.pixels import command as pixels
from parfocal_training.selflabel import command as selflabel
from parfocal_training.survey import command as survey
from parfocal_training.train import Epoch

log = logging.getLogger(__name__)


def make_crops(options: argparse.Namespace, console: Console) -> None:
    """The command `crops`."""
    names = _class_names(options.class_names)
    rows = renamed(read_rows(options.data), names)
    rows, kind = grouped(rows, options.group_by, options.group_regex)
    _check_ready(options)
    um_per_px = options.um_per_px or _common_scale(rows, options.crop_um_per_px)
    detector = detector_named(options.detector)
    ready = bool(options.ready_crops)
    rules = CropRules(
        um_per_px=um_per_px,
        crop_px=CROP_PX,
        margin_px=options.margin,
        flat_field_um=options.flat_field_um,
        masked=options.masked or msgspec.UNSET,
        detector=EXTERNAL if ready else _named(detector),
    )
    made = (
        ready_crops(
            options.data,
            rows,
            ReadyRules(um_per_px, options.crop_um_per_px, options.masks, options.masked),
        )
        if ready
        else cut_frames(options.data, rows, rules, detector, options.frame_um_per_px or 0.0)
    )
    images = list(screen.watched(made, len(rows), console))
    crop_set = gathered(images, rules, kind, options.data.resolve().name)
    cropset.save(crop_set, options.out)
    write_card(crop_set, options.out / "card.html")
    _report_crops(crop_set, images, options, console)


def _class_names(pairs: Sequence[str]) -> dict[str, str]:
    wrong = [pair for pair in pairs if pair.count("=") != 1 or not all(pair.split("="))]
    if wrong:
        raise UsageError(f"--class-names takes OLD=NEW, got {', '.join(map(repr, wrong))}")
    return {pair.split("=")[0]: pair.split("=")[1] for pair in pairs}


def _check_ready(options: argparse.Namespace) -> None:
    if not options.ready_crops and (options.masks or options.crop_um_per_px):
        raise UsageError(
            "--masks and --crop-um-per-px are for crops that are cut already: add --ready-crops; "
            "cells that parfocal finds bring their own masks"
        )
    if options.masked and options.ready_crops and not options.masks:
        raise UsageError("--masked needs the outlines of ready crops: add --masks DIR")


def _common_scale(rows: Sequence[Row], else_um_per_px: float | None) -> float:
    scales = {row.um_per_px or else_um_per_px for row in rows}
    only = scales.pop() if len(scales) == 1 else None
    if only is None:
        raise DataError(
            "the pixel size of the crops is not known: give --um-per-px, or one um_per_px for all "
            "images in flasks.csv"
        )
    return only


def _named(detector: Detector) -> DetectorRules:
    return DetectorRules(name=detector.name, fingerprint=detector.fingerprint)


def _report_crops(
    crop_set: CropSet, images: list[ImageCrops], options: argparse.Namespace, console: Console
) -> None:
    if options.json:
        for image in images:
            n = 0 if image.crops is None else len(image.crops)
            rejected = dict(image.rejected)
            emit(
                {
                    "image": image.row.path,
                    "group": image.row.group,
                    "n_crops": n,
                    "rejected": rejected,
                }
            )
        emit(_summary(crop_set, options.out))
        return
    console.print(screen.crops_table(crop_set, images))
    console.print(f"{len(crop_set)} crops in {options.out}")


def _summary(crop_set: CropSet, out: Path) -> dict[str, object]:
    return {
        "out": str(out),
        "n_crops": len(crop_set),
        "classes": crop_set.classes,
        "n_groups": len(set(crop_set.groups)),
        "group_kind": crop_set.index.group_kind,
    }


def fit(options: argparse.Namespace, console: Console) -> None:
    """The command `fit`."""
    crop_set = cropset.load(options.crops).for_training()
    if len(crop_set.classes) < 2:
        raise DataError(
            f"'{options.crops}' holds cells of 1 cell line, two are needed to tell lines apart; "
            "parfocal-train selflabel takes one"
        )
    if options.folds == 1:
        raise UsageError("--folds 1 leaves nothing to train on: give 0 (none), or 2 or more")
    if options.threads:
        torch.set_num_threads(options.threads)
    device = device_named(options.device)
    recipe = recipe_from(options, device.type)
    plan = Plan(
        code_version=__version__,
        recipe=recipe,
        seed=options.seed,
        fold_seed=options.fold_seed,
        folds=options.folds,
        classes=crop_set.classes,
        crops_sha256=crop_set.digest,
        device=device.type,
    )
    running = Fit(
        crop_set,
        options.out,
        plan,
        device,
        lambda: datetime.now(UTC),
        error_rate=options.error_rate,
    )
    if options.json:
        for part, epoch in running.run(options.resume):
            _emit_epoch(part, epoch)
    else:
        pace = screen.Pace(time.monotonic)
        with screen.shown_epochs(console, pace) as say:
            for part, epoch in running.run(options.resume):
                say(part, epoch)
    _report_fit(read_checkpoint(options.out)[0], options, console)


def detector(options: argparse.Namespace, console: Console) -> None:
    """The command `detector`."""
    if options.folds == 1:
        raise UsageError("--folds 1 leaves nothing to train on: give 0 (none), or 2 or more")
    if options.threads:
        torch.set_num_threads(options.threads)
    train_detector(options, device_named(options.device), console)


def _report_fit(done: Checkpoint, options: argparse.Namespace, console: Console) -> None:
    if options.json:
        figures = msgspec.to_builtins(done.measured.metrics)
        emit({"out": str(options.out), "classes": done.classes, "metrics": figures})
        return
    console.print(screen.metrics_table(done))
    console.print(f"checkpoint in {options.out}; make it a model with parfocal-export")


def _emit_epoch(part: Part, epoch: Epoch) -> None:
    emit({"part": msgspec.to_builtins(part), "epoch": msgspec.to_builtins(epoch)})


COMMANDS = {"crops": make_crops, "fit": fit, "detector": detector}
MORE: tuple[Callable[[Commands], None], ...] = (
    dataset_command.add,
    experiment.add,
    survey.add,
    activations.add,
    pixels.add,
    selflabel.add,
    phenotypes.add,
    morphology.add,
)
"""Commands that bring their own options: each sets `run(options, console)` as a default."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parser(MORE).parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    console = Console(stderr=options.json)
    try:
        run = COMMANDS.get(options.command) or options.run
        run(options, console)
    except KeyboardInterrupt:
        goes_on = "; what trains goes on from its last epoch with --resume"
        log.error("interrupted%s", goes_on if "resume" in options else "")
        return EXIT_INTERRUPTED
    except (TrainingError, OSError, MemoryError, RuntimeError) as error:
        code = exit_code(error)
        if code is None:
            raise
        if options.debug:
            log.exception("traceback")
        log.error("parfocal-train: %s", sentence(error))
        return code
    return EXIT_DONE
