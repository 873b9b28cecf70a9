"""`parfocal-train dataset`: everything that is wrong with a data set, and its card."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from parfocal_training import cropset
from parfocal_training.datacard import crop_card, crop_set_faults, image_card
from parfocal_training.dataset import listed
from parfocal_training.dataset_faults import Fault, is_there
from parfocal_training.dataset_images import Looks, content_faults, look, sampled_paths
from parfocal_training.dataset_warnings import data_warnings
from parfocal_training.errors import DataError
from parfocal_training.options import Commands
from parfocal_training.report import Report

STYLES = {"error": "bold red", "warning": "yellow"}


def add(commands: Commands) -> None:
    """The command and its options."""
    command = commands.add_parser(
        "dataset",
        help="check a data set, and describe it on a card",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Name every fault of a data set (exit code 65 if there is an error; warnings "
        "alone are 0), and write a card of it with tables and pictures.",
    )
    command.add_argument(
        "data",
        type=Path,
        help="folder of images with flasks.csv, or with one folder per cell line, or a folder made "
        "by parfocal-train crops",
    )
    command.add_argument(
        "-o", "--out", type=Path, metavar="CARD", help="HTML file to write; None: no card"
    )
    command.add_argument(
        "--json", action="store_true", help="JSON Lines on stdout, one a fault, nothing else"
    )
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """The command `dataset`."""
    is_cut = (options.data / "crops.json").is_file()
    faults, card = _of_crops(options.data) if is_cut else _of_images(options.data, console)
    _tell(faults, options, console)
    if options.out is not None and card is not None:
        path = options.out / "card.html" if options.out.is_dir() else options.out
        path.parent.mkdir(parents=True, exist_ok=True)
        card.write(path)
        console.print(f"card in {path}", soft_wrap=True)
    n = sum(fault.severity == "error" for fault in faults)
    if n:
        raise DataError(f"'{options.data}' has {n} error(s): mend them before you train on it")


def _of_crops(folder: Path) -> tuple[tuple[Fault, ...], Report | None]:
    crop_set = cropset.load(folder)
    faults = crop_set_faults(crop_set)
    return faults, crop_card(crop_set, faults)


def _of_images(folder: Path, console: Console) -> tuple[tuple[Fault, ...], Report | None]:
    rows, faults = listed(folder)
    looks = Looks()
    present = {row.path: row for row in rows if is_there(folder, row.path)}
    images = look(folder, present.values(), sampled_paths(tuple(present.values())), looks)
    for _ in track(images, "reading", len(present), console=console, transient=True,
                   disable=not console.is_terminal):  # fmt: skip
        pass
    every = (*faults, *content_faults(looks), *(data_warnings(rows) if rows else ()))
    return every, image_card(folder.resolve().name, rows, looks, every) if rows else None


def _tell(faults: Sequence[Fault], options: argparse.Namespace, console: Console) -> None:
    if options.json:
        for fault in faults:
            sys.stdout.write(msgspec.json.encode(fault).decode() + "\n")
        sys.stdout.flush()
    elif faults:
        console.print(_table(faults))
    else:
        console.print(f"no faults in '{options.data}'", soft_wrap=True)


def _table(faults: Sequence[Fault]) -> Table:
    table = Table("", "code", "what is wrong")
    for fault in faults:
        severity = Text(fault.severity, STYLES[fault.severity])
        table.add_row(severity, Text(fault.code), Text(fault.text))
    return table
