"""`parfocal-train morphology`: CellProfiler's features of cells, and what tells clusters apart."""

import argparse
from pathlib import Path

from rich.console import Console

from parfocal_training.errors import UsageError
from parfocal_training.options import Commands, not_below_zero, shared_options

ATTRIBUTES = ("cell_line", "density", "passage", "day", "flask", "field")


def add(commands: Commands) -> None:
    """The command and its options."""
    command = commands.add_parser(
        "morphology", help="CellProfiler's features of every cell, and which tell clusters apart"
    )
    shared_options(command)
    command.add_argument("crops", type=Path, help="folder made by parfocal-train crops")
    what = command.add_mutually_exclusive_group()
    what.add_argument(
        "--clusters",
        type=Path,
        metavar="CSV",
        help="cells.csv that parfocal-train phenotypes or pca wrote for these crops: its clusters "
        "are compared; None: see --by",
    )
    what.add_argument(
        "--by",
        choices=ATTRIBUTES,
        help="compare cells by what flasks.csv says of them; None, and no --clusters: only measure",
    )
    command.add_argument(
        "--column",
        help="column of CSV that holds the clusters; None: name, else phenotype, cluster, k_means",
    )
    command.add_argument(
        "--pair",
        nargs=2,
        metavar=("A", "B"),
        help="the two clusters to compare; None: those whose shares fall and rise most with "
        "density, without densities the two largest",
    )
    command.add_argument(
        "--top",
        type=two_or_more,
        default=20,
        metavar="N",
        help="features, by rank, of which every pair is scored by a support vector machine",
    )
    command.add_argument(
        "--jobs", type=not_below_zero, default=0, help="processes that measure; 0: one a core"
    )
    command.add_argument(
        "--seed", type=not_below_zero, default=1, help="of shuffles, folds and resampling"
    )
    command.set_defaults(run=run)


def two_or_more(text: str) -> int:
    """A whole number from 2 on."""
    if int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text} is below 2: pairs need two features")
    return int(text)


def run(options: argparse.Namespace, console: Console) -> None:
    """The command `morphology`.

    Raises
    ------
    UsageError
        The packages that it needs are not installed.
    """
    try:
        from parfocal_training.morphology import outcome
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error.name} is not installed: pip install 'parfocal[morphology]'"
        ) from error
    outcome.run(options, console)
