"""`parfocal-train pca`: the paper's PCA baseline, and whether its clusters are orientations."""

import argparse
import csv
import io
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from parfocal_training import cropset
from parfocal_training.cropset import CropSet
from parfocal_training.errors import UsageError
from parfocal_training.jsonlines import emit
from parfocal_training.options import (
    Commands,
    not_below_zero,
    shared_options,
    whole_above_zero,
)
from parfocal_training.pixels.baseline import Baseline, baseline
from parfocal_training.pixels.following import component_r2
from parfocal_training.pixels.report import report, table
from parfocal_training.write import write_whole


def add(commands: Commands) -> None:
    """The command and its options."""
    command = commands.add_parser(
        "pca", help="principal components of pixels, clustered: do clusters follow orientation?"
    )
    shared_options(command)
    command.add_argument("crops", type=Path, help="folder made by parfocal-train crops")
    command.add_argument(
        "--components", type=whole_above_zero, default=10, help="of pixels, in which to cluster"
    )
    command.add_argument(
        "--clusters",
        type=whole_above_zero,
        help="number of clusters; None: where the mean silhouette of k-means is highest",
    )
    command.add_argument(
        "--max-clusters", type=whole_above_zero, default=10, help="silhouettes are from 2 to this"
    )
    command.add_argument(
        "--shrink",
        type=whole_above_zero,
        default=4,
        metavar="PX",
        help="side in pixels of the squares that are averaged before; 1: every pixel counts",
    )
    command.add_argument(
        "--seed", type=not_below_zero, default=1, help="of k-means, resampling and random turns"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """The command `pca`."""
    crop_set = cropset.load(options.crops)
    _check(options, crop_set)
    with console.status("components, clusters and controls"):
        made = baseline(crop_set, options)
    options.out.mkdir(parents=True, exist_ok=True)
    write_whole(options.out / "cells.csv", _cells(made).encode())
    text = msgspec.json.format(msgspec.json.encode(_result(made)), indent=1)
    write_whole(options.out / "pca.json", text)
    report(made, options).write(options.out / "report.html")
    if options.json:
        for line in [*_clusterings(made), _result(made) | {"out": str(options.out)}]:
            emit(line)
        return
    console.print(table(made))
    console.print(f"report in {options.out / 'report.html'}")


def _check(options: argparse.Namespace, crop_set: CropSet) -> None:
    side, n = crop_set.index.rules.crop_px, len(crop_set)
    if side % options.shrink:
        raise UsageError(f"--shrink {options.shrink} does not divide the {side} px of a crop")
    most = max(options.clusters or 2, options.max_clusters)
    if options.clusters == 1 or options.max_clusters < 2:
        raise UsageError("one cluster says nothing: give --clusters and --max-clusters from 2 on")
    if n <= max(most, options.components):
        raise UsageError(
            f"{n} crops are too few for {options.components} components and {most} clusters: give "
            "smaller --components and --max-clusters, or more crops"
        )


def _clusterings(made: Baseline) -> list[dict[str, object]]:
    return [
        {
            "method": one.method,
            "k": one.k,
            "silhouette": one.silhouette,
            "orientation_r2": one.orientation_r2,
        }
        for one in made.found
    ]


def _result(made: Baseline) -> dict[str, object]:
    return {
        "n_crops": len(made.crop_set),
        "n_elongated": int(made.axes.elongated.sum()),
        "n_whole": int(made.axes.whole.sum()),
        "group_kind": made.crop_set.index.group_kind,
        "explained": made.explained.tolist(),
        "component_orientation_r2": component_r2(made.scores, made.axes).tolist(),
        "k": made.chosen[0].k,
        "agreement": {
            method: [_plain(one) for one in found] for method, found in made.agreements.items()
        },
        "controls": [_plain(one) for one in made.controls],
    }


def _plain(value: object) -> object:
    """As JSON takes it; NaN becomes null."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _cells(made: Baseline) -> str:
    """One CSV line a cell: where it comes from, its clusters, scores and long axis."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    scores = [f"pc{i + 1}" for i in range(made.scores.shape[1])]
    clusters = [one.method.replace("-", "_") for one in made.chosen]
    places = ("crop", "path", "cell_line", "group")
    writer.writerow([*places, *clusters, "angle_deg", "aspect", "elongated", *scores])
    for i, row in enumerate(made.crop_set.index.rows):
        writer.writerow(
            [
                *(i, row.image.path, row.image.cell_line, row.image.group),
                *(int(one.labels[i]) + 1 for one in made.chosen),
                f"{np.rad2deg(made.axes.angle_rad[i]):.1f}",
                f"{made.axes.aspect[i]:.3f}",
                int(made.axes.elongated[i]),
                *(f"{score:.3f}" for score in made.scores[i]),
            ]
        )
    return text.getvalue()
