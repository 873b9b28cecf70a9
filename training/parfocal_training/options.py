"""The commands and options of `parfocal-train`, each with its unit and default."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from parfocal import __version__
from parfocal_training.dataset import NAME_RULE
from parfocal_training.detector.recipe import RECIPES as DETECTOR_RECIPES
from parfocal_training.errors import UsageError
from parfocal_training.recipe import FIELD, RECIPES, Recipe

Commands = Any
"""The sub-parsers of `parfocal-train`; argparse has no public type for them."""


def parser(more: Iterable[Callable[[Commands], None]] = ()) -> argparse.ArgumentParser:
    """All commands and options, with those that `more` adds."""
    top = argparse.ArgumentParser(
        prog="parfocal-train", description="Train a cell-type network on your own flasks."
    )
    top.add_argument("--version", action="version", version=f"parfocal {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _crops_options(commands.add_parser("crops", help="cut single-cell crops from images"))
    _fit_options(commands.add_parser("fit", help="train and cross-validate a network on crops"))
    _detector_options(commands.add_parser("detector", help="train the network that finds cells"))
    for add in more:
        add(commands)
    return top


def _detector_options(command: argparse.ArgumentParser) -> None:
    shared_options(command)
    command.add_argument(
        "sources",
        type=Path,
        help="TOML file that lists and weighs sources, or a folder of images with their masks "
        "(NAME_masks.png beside an image, or masks/NAME.png)",
    )
    command.add_argument(
        "--um-per-px",
        type=above_zero,
        help="pixel size in micrometres of a folder's images; None: as their files say",
    )
    command.add_argument(
        "--init",
        metavar="DETECTOR",
        help="start from this one: a shipped name, a bundle file or a checkpoint folder; None: "
        "from nothing",
    )
    command.add_argument(
        "--recipe",
        choices=sorted(DETECTOR_RECIPES),
        help="base: from nothing, everything varied; fine-tune: a known rig; None: fine-tune with "
        "--init, else base",
    )
    command.add_argument(
        "--folds",
        type=not_below_zero,
        default=0,
        help="parts of the cross-validation over groups of fields; 0: none, nothing is measured",
    )
    command.add_argument("--steps", type=whole_above_zero, help="None: as the recipe says")
    command.add_argument("--seed", type=not_below_zero, default=1, help="of weights and tiles")
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA if there is"
    )
    command.add_argument("--threads", type=not_below_zero, default=0, help="of the CPU; 0: all")
    command.add_argument(
        "--workers", type=not_below_zero, default=1, help="processes that draw training tiles"
    )
    command.add_argument(
        "--resume", action="store_true", help="go on with a training that was interrupted"
    )


def shared_options(command: argparse.ArgumentParser) -> None:
    """Options that every command has: where to write, and how to speak."""
    command.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    command.add_argument("-o", "--out", type=Path, required=True, help="folder to write")
    command.add_argument("--json", action="store_true", help="JSON Lines on stdout, nothing else")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _crops_options(command: argparse.ArgumentParser) -> None:
    shared_options(command)
    command.add_argument(
        "data", type=Path, help="folder of images with flasks.csv, or with one folder per cell line"
    )
    command.add_argument(
        "--um-per-px",
        type=above_zero,
        help="pixel size of the crops in micrometres; None: that of the images, if all agree",
    )
    command.add_argument(
        "--frame-um-per-px",
        type=above_zero,
        help="pixel size in micrometres of images that neither flasks.csv nor their file knows",
    )
    command.add_argument(
        "--masked",
        action="store_true",
        help="show nothing beyond a cell's own outline and rim, so that no network can go by its "
        "neighbours; such a network needs outlines live, too",
    )
    command.add_argument(
        "--margin",
        type=not_below_zero,
        default=48,
        metavar="PX",
        help="real surroundings kept on each side of a crop for rotation and shifts, in pixels; "
        "48 covers any rotation; cells nearer the edge are lost; ready crops bring their own",
    )
    command.add_argument(
        "--detector",
        default="auto",
        metavar="NAME",
        help="what finds the cells: auto, classical, a shipped detector or a bundle file; take the "
        "one that the rig will use",
    )
    command.add_argument(
        "--ready-crops", action="store_true", help="each image is one single-cell crop already"
    )
    command.add_argument(
        "--crop-um-per-px",
        type=above_zero,
        help="pixel size in micrometres of ready crops whose um_per_px is not in flasks.csv: they "
        "are resampled to --um-per-px; None: they have it already",
    )
    command.add_argument(
        "--masks",
        type=Path,
        metavar="DIR",
        help="folder with a PNG for each ready crop, of its name and size, in which the cell is "
        "not 0; of several objects the one nearest to the middle counts",
    )
    command.add_argument(
        "--flat-field-um",
        type=not_below_zero_float,
        default=0.0,
        help="SD in micrometres of the Gaussian that estimates a frame's illumination, which is "
        "divided out; 0: leave it. Ready crops are not changed: for them it says how live frames "
        "are to be made as even as the crops already are",
    )
    command.add_argument(
        "--class-names", nargs="+", default=[], metavar="OLD=NEW", help="rename cell lines"
    )
    command.add_argument(
        "--group-by",
        choices=("auto", "flask", "field", "name", "image"),
        default="auto",
        help="what is never split between training and test; auto: flask, else field, else name",
    )
    command.add_argument(
        "--group-regex",
        help=f"parenthesis round the part of a file name that tells the field; None: {NAME_RULE}",
    )


def _fit_options(command: argparse.ArgumentParser) -> None:
    shared_options(command)
    command.add_argument("crops", type=Path, help="folder made by parfocal-train crops")
    recipe_options(command, default=FIELD.name)
    command.add_argument(
        "--folds",
        type=not_below_zero,
        default=5,
        help="parts of the cross-validation over groups; as many as there are groups leave out one "
        "at a time; 0: none, then nothing is measured",
    )
    command.add_argument(
        "--error-rate",
        type=between_0_and_1,
        default=0.05,
        metavar="SHARE",
        help="share of a new group's cells that may be accepted and wrong; abstention is set to "
        "keep it where the number of groups allows a guarantee",
    )
    command.add_argument("--seed", type=not_below_zero, default=1, help="of weights and batches")
    command.add_argument("--fold-seed", type=not_below_zero, default=0, help="of the folds")
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA if there is"
    )
    command.add_argument("--threads", type=not_below_zero, default=0, help="of the CPU; 0: all")
    command.add_argument(
        "--resume", action="store_true", help="go on with a training that was interrupted"
    )


def recipe_options(command: argparse.ArgumentParser, default: str) -> None:
    """Options that choose a recipe and change parts of it."""
    command.add_argument(
        "--recipe",
        choices=sorted(RECIPES),
        default=default,
        help="; ".join(f"{name}: {recipe.about}" for name, recipe in RECIPES.items()),
    )
    command.add_argument("--epochs", type=whole_above_zero, help="None: as the recipe says")
    command.add_argument(
        "--batch", type=not_below_zero, help="crops a step; 0: 5 %% of them; None: as the recipe"
    )
    command.add_argument("--order", choices=("conv-relu-bn", "conv-bn-relu"), help="layer order")
    command.add_argument(
        "--precision",
        choices=("auto", "bf16", "f32"),
        help="of convolutions in training; auto: bf16 on CUDA, else f32; None: as the recipe says",
    )
    command.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="change any other part of the recipe, for example augmentation.zoom=0.3 or "
        "network=compact",
    )


def recipe_from(options: argparse.Namespace, device_type: str) -> Recipe:
    """The recipe that `recipe_options` asked for, on a kind of device: `cuda`, `cpu`.

    Raises
    ------
    UsageError
        `--set` names no part of a recipe, or gives it a value that it cannot have.
    """
    return changed(RECIPES[options.recipe], options, device_type)


def changed(recipe: Recipe, options: argparse.Namespace, device_type: str) -> Recipe:
    """A recipe with all changes that `recipe_options` asked for; raises as `recipe_from` does."""
    values: dict[str, Any] = msgspec.to_builtins(recipe)
    for name in ("epochs", "batch", "order", "precision"):
        if getattr(options, name) is not None:
            values[name] = getattr(options, name)
    if options.epochs is not None:
        values["crops_seen"] = 0  # else it would decide the number of epochs
    for pair in options.set:
        name, _, value = pair.partition("=")
        *outer, last = name.split(".")
        place = values[outer[0]] if outer and isinstance(values.get(outer[0]), dict) else values
        if last not in place or len(outer) > 1 or (outer and place is values):
            known = ", ".join(recipe.flat())
            raise UsageError(f"--set {pair}: a recipe has no '{name}', it has {known}")
        place[last] = value
    try:
        return msgspec.convert(values, Recipe, strict=False).on(device_type)
    except msgspec.ValidationError as error:
        raise UsageError(f"--set gives a value that cannot be used: {error}") from error


def above_zero(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def between_0_and_1(text: str) -> float:
    """A number above 0 and below 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number between 0 and 1")
    return value


def not_below_zero_float(text: str) -> float:
    """A number from 0 on."""
    return 0.0 if float(text) == 0 else above_zero(text)


def not_below_zero(text: str) -> int:
    """A whole number from 0 on."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def whole_above_zero(text: str) -> int:
    """A whole number from 1 on."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return int(text)
