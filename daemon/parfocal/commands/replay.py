"""`parfocal replay`: stored images once more through the live road, and what that changed."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from parfocal import console
from parfocal.client import Received
from parfocal.commands.arguments import (
    DATA,
    INTERRUPTED,
    OK,
    Commands,
    command,
    configured,
    jsonable,
    print_json,
    settings_of,
)
from parfocal.config import DetectorChoice, Model, Settings, find
from parfocal.follow import json_line
from parfocal.quantities import between
from parfocal.reasons import FileReason
from parfocal.replay import RESULTS, Replay, settings_for
from parfocal.replay_compare import Comparison, compare
from parfocal.replay_images import Source, source_at
from parfocal.replay_report import comparison_shown, summary_shown
from parfocal.replay_summary import Summary, summary


def add_replay(commands: Commands) -> None:
    """Add the arguments of `parfocal replay`."""
    text = "score stored images again, on the road of the service, with this or another model"
    made = command(commands, "replay", text, run_replay)
    made.add_argument("source", type=Path, metavar="SOURCE",
                      help="a folder of images, or a state folder or journal.sqlite, which is only "
                      "read; a journal's results are compared with the new ones")  # fmt: skip
    made.add_argument("-o", "--out", type=Path, required=True, metavar="DIR",
                      help="where the new journal, results.jsonl and the comparison go; it must "
                      "hold no journal")  # fmt: skip
    made.add_argument("--model", metavar="BUNDLE",
                      help="a shipped name or a bundle file (default: the rig's, without "
                      f"configuration {Model().bundle})")  # fmt: skip
    made.add_argument("--device", choices=("auto", "cpu", "cuda"),
                      help="where to run it (default: as configured, else auto)")  # fmt: skip
    made.add_argument("--detector", metavar="NAME",
                      help="auto, classical, a shipped detector or a bundle file "
                      "(default: as configured, else auto)")  # fmt: skip
    made.add_argument("--um-per-px", type=between(0.01, 100, "um/px"), metavar="X",
                      help="pixel size in micrometres (default: that of the journal; in a folder "
                      "flasks.csv, then where the service looks)")  # fmt: skip
    configured(made)
    jsonable(made)


def run_replay(options: argparse.Namespace) -> int:
    """`parfocal replay`: status 65 when an image has no result, 130 when it was interrupted."""
    source = source_at(options.source, options.um_per_px)
    finished = _replay(options, source)
    told = summary(source, options.out, finished)
    changes = compare(source, options.out) if source.journal else None
    if options.json:
        print_json({"replay": told, "comparison": changes})
    else:
        _show(told, changes, options.out)
    if not finished:
        return INTERRUPTED
    copies = sum(one.reason is FileReason.DUPLICATE for one in told.refused)
    return OK if told.n_scored + copies == told.n_images else DATA


def rig_of(options: argparse.Namespace) -> Settings:
    """The rig's settings, as far as the command line says nothing else; one need not be there."""
    asked = options.overrides or find(options.config)
    rig = settings_of(options) if asked else Settings()
    model, detector = rig.model, rig.detector
    if options.model:
        model = replace(model, bundle=options.model, sha256=None)
    if options.device:
        model = replace(model, device=options.device)
    if options.detector:
        detector = DetectorChoice(name=options.detector)
    return replace(rig, model=model, detector=detector)


def _replay(options: argparse.Namespace, source: Source) -> bool:
    """Run to the end; False when it was interrupted."""
    settings = settings_for(options.out, rig_of(options))
    show: Callable[[Received], None] = _print_line if options.json else _nothing
    with Replay(source, options.out, settings, show) as replay, _progress(replay):
        replay.run()
    return replay.finished


def _print_line(message: Received) -> None:
    sys.stdout.buffer.write(json_line(message))
    sys.stdout.buffer.flush()


def _nothing(_: Received) -> None:
    return


@contextmanager
def _progress(replay: Replay) -> Iterator[None]:
    """A progress bar on stderr when a person is watching and it will take long."""
    total = len(replay.replayed.images)
    if total < console.PROGRESS_FROM or not sys.stderr.isatty():
        yield
        return
    shown = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shown, transient=True) as progress:
        task = progress.add_task("replaying", total=total)
        replay.on_progress = lambda n_left: progress.update(task, completed=total - n_left)
        yield


def _show(told: Summary, changes: Comparison | None, out: Path) -> None:
    screen = console.out()
    for part in summary_shown(told):
        screen.print(part)
    if changes is not None:
        for part in comparison_shown(changes):
            screen.print(part)
    console.say(f"{RESULTS} and the new journal are in {out}")
