"""The simulated camera software: saves fields of flasks into a folder, at a person's pace.

`python -m parfocal.simulator FOLDER` is what `parfocal simulate` and `parfocal demo` run.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2

from parfocal.child import die_with_parent
from parfocal.quantities import between, count, whole
from parfocal.simulator.designs import DESIGNS, HIGH_PER_MM2, TYPES, Planned, planned
from parfocal.simulator.save import fluorescence_path, save, truth_folder
from parfocal.simulator.traits import KINDS

COLUMNS = (
    "path", "cell_line", "flask", "pair", "density", "passage", "um_per_px", "fluorescence"
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Arguments of the simulated camera software."""
    made = argparse.ArgumentParser(prog="parfocal simulate", description=__doc__)
    add_arguments(made)
    return made


def add_arguments(made: argparse.ArgumentParser) -> None:
    """Add the arguments; `parfocal simulate` has the same ones."""
    made.add_argument("folder", type=Path, metavar="FOLDER", help="where images are saved")
    made.add_argument("--design", choices=DESIGNS, default="series",
                      help="series: --flasks flasks at one density; varied: as many, with "
                      "densities and passages as they fall; pairs: four pairs of flasks in which "
                      "all but the cell line is as it falls; density: sixteen flasks, two "
                      "densities, two passages; mixed: both lines in each flask, one with "
                      "fluorescent nuclei; phenotypes: eight flasks of a line with six planted "
                      "phenotypes, two densities (default: series)")  # fmt: skip
    made.add_argument("--flasks", type=count, default=2, metavar="N",
                      help="number of flasks of series, varied or mixed (default: 2)")  # fmt: skip
    made.add_argument("--fields", type=count, default=4, metavar="N",
                      help="images of each flask; sparse flasks of varied, pairs and density "
                      "get more (default: 4)")  # fmt: skip
    made.add_argument("--mixed", type=between(0, 1), metavar="SHARE",
                      help=f"every flask holds this share of {TYPES[0].name}, the rest is "
                      f"{TYPES[1].name} (default: one type a flask, in turn)")  # fmt: skip
    made.add_argument("--density", type=between(0, 2000, "cells/mm2"), default=80.0, metavar="D",
                      help="cells per mm2 (default: 80)")  # fmt: skip
    made.add_argument("--same", nargs="+", choices=tuple(KINDS), default=(), metavar="WHAT",
                      help="what does not differ between flasks: light (lamp and medium), focus, "
                      "plastic (dirt and scratches of the bottom), cells (their size, thickness, "
                      "length and texture, also with passage), culture (clumps, dead and floating "
                      "cells) (default: all differ)")  # fmt: skip
    made.add_argument("--pace-s", type=between(0, 3600, "s"), default=0.0, metavar="S",
                      help="seconds from one image to the next (default: 0)")  # fmt: skip
    made.add_argument("--seed", type=whole, default=0, metavar="N",
                      help="another number, other flasks (default: 0)")  # fmt: skip
    made.add_argument("--kind", default="png", choices=("png", "bmp", "tif", "jpg"),
                      help="file format (default: png)")  # fmt: skip


def draw(
    options: argparse.Namespace, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Path]:
    """Save all images, each with its truth beside the folder, and last a flasks.csv.

    The traits of each flask are part of the truth: `traits.csv`, a row a flask.
    """
    cv2.setNumThreads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    rows, traits = [], []
    for one in flasks_of(options):
        traits.append({"flask": one.name} | one.flask.traits.flat())
        for i in range(fields_of(options, one)):
            start = time.monotonic()
            path = save(one.flask.field(i), options.folder, f"{one.name}-{i:03}", options.kind)
            um_per_px = one.flask.rig.camera.um_per_px
            beside = fluorescence_path(path) if one.flask.fluorescence else ""
            rows.append((path.name, one.line, one.name, one.pair, one.density, one.passage,
                         um_per_px, beside))  # fmt: skip
            yield path
            sleep(max(0.0, options.pace_s - (time.monotonic() - start)))
    _table(truth_folder(options.folder) / "traits.csv", list(traits[0]), map(dict.values, traits))
    _table(options.folder / "flasks.csv", COLUMNS, rows)


def _table(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def flasks_of(options: argparse.Namespace) -> Iterator[Planned]:
    """The flasks that are asked for, alike in what is to be the same."""
    drawn = planned(options.design, options.flasks, options.density, options.mixed, options.seed)
    for one in drawn:
        traits = one.flask.traits.alike_in(options.same)
        yield replace(one, flask=replace(one.flask, traits=traits))


def fields_of(options: argparse.Namespace, one: Planned) -> int:
    """Fields of a flask: sparse ones of a design get more, so that all have about as many cells."""
    if options.design in ("varied", "pairs", "density", "phenotypes"):
        sparse = HIGH_PER_MM2 / 1.5 / one.flask.density_per_mm2
        return round(float(options.fields * max(1.0, sparse)))
    return int(options.fields)


if __name__ == "__main__":
    die_with_parent()
    for _ in draw(parser().parse_args(sys.argv[1:])):
        pass
