"""`parfocal-train survey`: sheets that ask people what the network is asked, and their scores.

make   survey.pdf and survey.html for the people; key.json and unlabelled/ for the one who scores
score  report.html
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from parfocal import __version__
from parfocal_training import cropset
from parfocal_training.cropset import CropSet
from parfocal_training.dataset import Row, read_rows
from parfocal_training.errors import UsageError
from parfocal_training.jsonlines import emit
from parfocal_training.options import (
    Commands,
    above_zero,
    not_below_zero,
    shared_options,
    whole_above_zero,
)
from parfocal_training.survey.answers import read_answers
from parfocal_training.survey.candidates import crop_candidates, frame_candidates, of_classes
from parfocal_training.survey.choice import Size
from parfocal_training.survey.draw import Pools, Sizes, draw_parts
from parfocal_training.survey.key import KINDS, Key, SheetPart, read_key
from parfocal_training.survey.network import network_answers
from parfocal_training.survey.page import page
from parfocal_training.survey.pdf import pdf
from parfocal_training.survey.pictures import crop_pictures, frame_pictures
from parfocal_training.survey.report import report
from parfocal_training.survey.scores import Ints, part_scores
from parfocal_training.survey.told import made_lines, print_made, score_lines, score_table
from parfocal_training.survey.unlabelled import write_rest, write_unlabelled
from parfocal_training.survey.wanted import wanted_parts
from parfocal_training.write import write_whole


def add(commands: Commands) -> None:
    """The options of `survey make` and `survey score`."""
    survey = commands.add_parser("survey", help="ask people what the network is asked, and score")
    actions = survey.add_subparsers(dest="action", required=True, metavar="ACTION")
    _make_options(actions.add_parser("make", help="sheets to print and a page that asks"))
    _score_options(actions.add_parser("score", help="score answers, beside a network's"))


def _make_options(command: argparse.ArgumentParser) -> None:
    shared_options(command)
    command.set_defaults(run=make)
    command.description = (
        "Parts, as in the paper: within (cells of one flask pair), same-type (two flasks of one "
        "cell line), across (a flask pair that is not among the labelled ones), frames (whole "
        "frames of one pair). survey.html hides the answers from a glance at its source, no more: "
        "who wants to can work them out. Keep key.json and unlabelled/ to yourself."
    )
    command.add_argument("crops", type=Path, help="folder made by parfocal-train crops")
    command.add_argument(
        "--frames", type=Path, metavar="DATA", help="data set of frames for the part frames"
    )
    command.add_argument(
        "--parts",
        default=str(len(KINDS)),
        help="a number: so many of within, same-type, across, frames as the data tell apart; or "
        "a list such as within:1,same-type:HT1080,across:4,frames:all. VALUE is a pair (within, "
        "across, frames), a cell line or FLASK+FLASK (same-type), or all (within, frames)",
    )
    command.add_argument(
        "--labelled", type=whole_above_zero, default=40, help="labelled images of each class"
    )
    command.add_argument(
        "--unlabelled",
        type=whole_above_zero,
        default=20,
        help="images to answer in each part, half of each class",
    )
    command.add_argument(
        "--labelled-frames", type=whole_above_zero, help="in the part frames; None: as --labelled"
    )
    command.add_argument("--unlabelled-frames", type=whole_above_zero, help="None: as --unlabelled")
    command.add_argument(
        "--classes", nargs=2, metavar="CELL_LINE", help="two of the set's; None: it has only two"
    )
    command.add_argument(
        "--raw",
        action="store_true",
        help="show grey levels as they are; else normalized as for the network, all with the same "
        "contrast",
    )
    command.add_argument(
        "--frame-width",
        type=whole_above_zero,
        default=808,
        metavar="PX",
        help="frames are shown no wider than this, in pixels",
    )
    command.add_argument(
        "--rest",
        type=Path,
        metavar="FOLDER",
        help="also write the crops from image files that nobody is asked about: train on these "
        "the network that is to be compared",
    )
    command.add_argument("--seed", type=not_below_zero, default=1, help="of the drawing")


def _score_options(command: argparse.ArgumentParser) -> None:
    shared_options(command)
    command.set_defaults(run=score)
    command.add_argument("key", type=Path, help="key.json made by parfocal-train survey make")
    command.add_argument(
        "answers",
        type=Path,
        nargs="+",
        help="CSV files with the columns person, years, part, number, answer",
    )
    command.add_argument(
        "--model", type=Path, metavar="CHECKPOINT", help="folder made by parfocal-train fit"
    )
    command.add_argument(
        "--detector", default="auto", help="what finds the cells of frames for the network"
    )
    command.add_argument(
        "--frame-um-per-px",
        type=above_zero,
        help="pixel size in micrometres of frames that neither flasks.csv nor their file knows",
    )
    command.add_argument("--seed", type=not_below_zero, default=1, help="of the intervals")


def make(options: argparse.Namespace, console: Console) -> None:
    """The command `survey make`."""
    out: Path = options.out
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"'{out}' is not empty: give another folder, lest a key in use is lost")
    crop_set = cropset.load(options.crops)
    rows = read_rows(options.frames) if options.frames else ()
    pools = _pools(crop_set, rows, options)
    wanted, strict = wanted_parts(options.parts)
    parts, left_out = draw_parts(wanted, strict, pools, _sizes(options), options.seed)
    key = _key(parts, crop_set, options)
    _write(key, crop_set, rows, options)
    if options.json:
        for line in made_lines(key, left_out, out):
            emit(line)
    else:
        print_made(key, left_out, out, console)


def _pools(crop_set: CropSet, rows: Sequence[Row], options: argparse.Namespace) -> Pools:
    """From which images the parts of each kind are drawn."""
    frames = frame_candidates(options.frames, rows) if options.frames else ()
    cells, frames = (
        of_classes(pool, options.classes) if pool else ()
        for pool in (crop_candidates(crop_set), frames)
    )
    return {kind: frames if kind == "frames" else cells for kind in KINDS}


def _sizes(options: argparse.Namespace) -> Sizes:
    cells = Size(options.labelled, options.unlabelled)
    frames = Size(
        options.labelled_frames or cells.labelled, options.unlabelled_frames or cells.unlabelled
    )
    if min(cells.unlabelled, frames.unlabelled) < 2:
        raise UsageError("--unlabelled must be 2 or more: one image of each class")
    return {kind: frames if kind == "frames" else cells for kind in KINDS}


def _key(parts: tuple[SheetPart, ...], crop_set: CropSet, options: argparse.Namespace) -> Key:
    return Key(
        code_version=__version__,
        data=crop_set.index.data,
        frames=options.frames.resolve().name if options.frames else "",
        seed=options.seed,
        shown="raw" if options.raw else "normalized",
        um_per_px=crop_set.index.rules.um_per_px,
        flat_field_um=crop_set.index.rules.flat_field_um,
        masked=bool(crop_set.index.rules.masked),
        parts=parts,
    )


def _write(key: Key, crop_set: CropSet, rows: Sequence[Row], options: argparse.Namespace) -> None:
    """All files, the key last: it vouches for them."""
    out, data, raw = options.out, options.frames, options.raw
    pictures = crop_pictures(key.parts, crop_set, raw)
    pictures |= frame_pictures(key.parts, data, rows, options.frame_width, raw)
    out.mkdir(parents=True, exist_ok=True)
    write_unlabelled(key, crop_set, data, rows, out / "unlabelled")
    if options.rest:
        write_rest(key, crop_set, options.rest)
    write_whole(out / "survey.pdf", pdf(key, pictures))
    write_whole(out / "survey.html", page(key, pictures).encode())
    write_whole(out / "key.json", msgspec.json.format(msgspec.json.encode(key), indent=1))


def score(options: argparse.Namespace, console: Console) -> None:
    """The command `survey score`."""
    told: Path = options.out / "report.html"
    if told.exists():
        raise UsageError(f"'{told}' is there already: give another folder")
    key = read_key(options.key)
    persons = read_answers(key, options.answers)
    said, warnings = _network(key, options)
    rng = np.random.default_rng(options.seed)
    parts = [
        part_scores(part, place, persons, said.get(part.number), rng)
        for place, part in enumerate(key.parts)
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    asked = options.model if said else None
    report(key, persons, parts, warnings, asked).write(told)
    if options.json:
        for line in score_lines(key, persons, parts, warnings):
            emit(line)
        return
    console.print(score_table(parts))
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    console.print(f"report in {told}", markup=False)


def _network(key: Key, options: argparse.Namespace) -> tuple[dict[int, Ints], list[str]]:
    """What the network says to each part, and what a reader must be told; nothing without one."""
    if not options.model:
        return {}, []
    folder, um_per_px = options.key.parent / "unlabelled", options.frame_um_per_px or 0.0
    return network_answers(key, folder, options.model, options.detector, um_per_px)
