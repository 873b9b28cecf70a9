"""`parfocal scale`: how large a pixel is, from a scale bar, a stage micrometre, or the cells."""

import argparse

from parfocal import console
from parfocal.commands.arguments import DATA, OK, Commands, command, jsonable, print_json
from parfocal.config import Limits
from parfocal.detectors import choose, started
from parfocal.images import ImageError, decode
from parfocal.intake import RefusalError, read_file
from parfocal.pixelsize import NoScaleError, bar_um_per_px, cells_um_per_px, division_um_per_px
from parfocal.prepare import to_gray
from parfocal.quantities import between
from parfocal.reasons import SENTENCES
from parfocal.score import Request, images
from parfocal.types import Gray


def add_scale(commands: Commands) -> None:
    """Add the arguments of `parfocal scale`."""
    text = "the pixel size of images, from a scale bar, a stage micrometre or the cells"
    made = command(commands, "scale", text, run_scale)
    known = made.add_mutually_exclusive_group()
    known.add_argument("--bar-um", type=between(0.1, 1e5, "um"), metavar="X",
                       help="there is a scale bar of this many micrometres")  # fmt: skip
    known.add_argument("--division-um", type=between(0.1, 1e4, "um"), metavar="X",
                       help="it shows a stage micrometre whose lines are this far "
                       "apart")  # fmt: skip
    made.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder or a glob")
    jsonable(made)


def run_scale(options: argparse.Namespace) -> int:
    """`parfocal scale`: status 65 when an image told nothing."""
    bad = 0
    for image in images(options.images):
        try:
            row = _scale(image, options)
        except (ImageError, RefusalError, NoScaleError) as error:
            bad += 1
            told = str(error) if isinstance(error, NoScaleError) else _refused(error)
            console.say(f"{image.path}: {told}")
            continue
        if options.json:
            print_json(row)
        else:
            print(f"{image.path}: um_per_px = {row['um_per_px']:.4g}  ({row['how']})")
            if row["warning"]:
                console.say(f"warning: {row['warning']}")
    return DATA if bad else OK


def _refused(error: ImageError | RefusalError) -> str:
    return f"{SENTENCES[error.reason]} [{error.reason}: {error.detail}]"


def _scale(image: Request, options: argparse.Namespace) -> dict[str, object]:
    data, _ = read_file(image.path, Limits().max_bytes)
    gray: Gray = to_gray(decode(data).pixels)
    warning = ""
    if options.bar_um:
        value, bars = bar_um_per_px(gray, options.bar_um)
        first = bars[0]
        how = f"bar of {first.length_px} px at x {first.left_px}, y {first.top_px}"
        if len(bars) > 1:
            others = ", ".join(f"{b.length_px} px at {b.left_px}, {b.top_px}" for b in bars[1:4])
            warning = f"there are other candidates ({others}): check that the first is the bar"
    elif options.division_um:
        value, how = division_um_per_px(gray, options.division_um), "lines of a stage micrometre"
    else:
        value = cells_um_per_px(gray, started(choose("auto")))
        how = "estimated from the cells"
        warning = (
            "cells of different lines differ in size, so this may be wrong by a factor of two: "
            "measure it with a stage micrometre or a scale bar before you trust any number"
        )
    return {"image": image.path, "um_per_px": value, "how": how, "warning": warning}
