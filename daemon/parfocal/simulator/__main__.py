"""The simulated camera software: saves fields of flasks into a folder, at a person's pace.

`python -m parfocal.simulator FOLDER` is what `parfocal simulate` and `parfocal demo` run.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from parfocal.child import die_with_parent
from parfocal.quantities import between, count, whole
from parfocal.simulator.flask import Flask, draw_flask
from parfocal.simulator.lines import HEK293A, HT1080
from parfocal.simulator.parameters import CellType
from parfocal.simulator.save import save

TYPES: tuple[CellType, ...] = (HEK293A, HT1080)
COLUMNS = ("path", "cell_line", "flask", "passage", "density", "um_per_px")


def parser() -> argparse.ArgumentParser:
    """Arguments of the simulated camera software."""
    made = argparse.ArgumentParser(prog="parfocal simulate", description=__doc__)
    add_arguments(made)
    return made


def add_arguments(made: argparse.ArgumentParser) -> None:
    """Add the arguments; `parfocal simulate` has the same ones."""
    made.add_argument("folder", type=Path, metavar="FOLDER", help="where images are saved")
    made.add_argument("--flasks", type=count, default=2, metavar="N",
                      help="number of flasks (default: 2)")  # fmt: skip
    made.add_argument("--fields", type=count, default=4, metavar="N",
                      help="images of each flask (default: 4)")  # fmt: skip
    made.add_argument("--mixed", type=between(0, 1), metavar="SHARE",
                      help=f"every flask holds this share of {TYPES[0].name}, the rest is "
                      f"{TYPES[1].name} (default: one type a flask, in turn)")  # fmt: skip
    made.add_argument("--density", type=between(0, 2000, "cells/mm2"), default=80.0, metavar="D",
                      help="cells per mm2 (default: 80)")  # fmt: skip
    made.add_argument("--pace-s", type=between(0, 3600, "s"), default=0.0, metavar="S",
                      help="seconds from one image to the next (default: 0)")  # fmt: skip
    made.add_argument("--seed", type=whole, default=0, metavar="N",
                      help="another number, other flasks (default: 0)")  # fmt: skip
    made.add_argument("--kind", default="png", choices=("png", "bmp", "tif", "jpg"),
                      help="file format (default: png)")  # fmt: skip


def flask_of(options: argparse.Namespace, number: int) -> tuple[Flask, str]:
    """A flask of the series, and the name of what is in it."""
    rng = np.random.default_rng((options.seed, number))
    if options.mixed is None:
        kind = TYPES[number % len(TYPES)]
        return draw_flask(rng, ((kind, 1.0),), options.density), kind.name
    shares = ((TYPES[0], options.mixed), (TYPES[1], 1 - options.mixed))
    return draw_flask(rng, shares, options.density), "mixed"


def draw(
    options: argparse.Namespace, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Path]:
    """Save all images, each with its truth beside the folder, and last a flasks.csv."""
    cv2.setNumThreads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(options.flasks):
        flask, line = flask_of(options, number)
        name = f"sim-{options.seed}-{number}"
        for i in range(options.fields):
            start = time.monotonic()
            path = save(flask.field(i), options.folder, f"{name}-{i:03}", options.kind)
            um_per_px = flask.rig.camera.um_per_px
            rows.append((path.name, line, name, 10, options.density, um_per_px))
            yield path
            sleep(max(0.0, options.pace_s - (time.monotonic() - start)))
    with (options.folder / "flasks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)


if __name__ == "__main__":
    die_with_parent()
    for _ in draw(parser().parse_args(sys.argv[1:])):
        pass
