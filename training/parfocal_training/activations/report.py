"""The page of `parfocal-train activations`, and its figures as PNG files."""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from parfocal_training.activations import figures
from parfocal_training.activations.checks import METHODS, MIDDLE, RANDOM, mean_probability
from parfocal_training.activations.looks import Look
from parfocal_training.activations.maps import ranges
from parfocal_training.activations.saliency import Window
from parfocal_training.checkpoint import Checkpoint
from parfocal_training.report import Report, drawn
from parfocal_training.write import write_whole

COLUMNS = (
    *("cell", "cell line", "answer", "probability"),
    *(f"hidden: {name}" for name in (*METHODS, RANDOM, MIDDLE)),
    *(f"random weights: {name}" for name in METHODS),
)
DELETION = (
    "Deletion: a map that names what the network uses makes the probability fall faster than "
    "random patches do, and than hiding the middle does, where the cell lies. Thick: mean of the "
    "cells."
)
WEIGHTS = (
    "Random weights: correlation with the map of a network whose last parts have learnt nothing. "
    "A map that stays the same shows the picture, not what was learnt."
)


def means(looks: list[Look]) -> dict[str, object]:
    """Both checks, averaged over the cells."""
    return {
        "deletion_mean_probability": {
            name: float(np.mean([mean_probability(one.saliency.curves[name]) for one in looks]))
            for name in (*METHODS, RANDOM, MIDDLE)
        },
        "random_weights_rank_correlation": {name: same(looks, name) for name in METHODS},
    }


def same(looks: list[Look], name: str) -> float:
    """Mean rank correlation with the maps of a wholly random network."""
    return float(np.mean([np.array(one.saliency.same[name][-1], float) for one in looks]))


def _rows(looks: list[Look]) -> list[tuple[int | str | float, ...]]:
    return [
        (
            *(one.cell, one.cell_line, one.answer, one.probability),
            *(mean_probability(one.saliency.curves[n]) for n in (*METHODS, RANDOM, MIDDLE)),
            *(same([one], name) for name in METHODS),
        )
        for one in looks
    ]


def table(looks: list[Look]) -> Table:
    """Both checks, averaged over the cells, a row a method."""
    title = "mean probability left when pixels are hidden; correlation with a random network"
    out = Table(
        "map", "hidden by map", "random patches", "the middle", "random weights", title=title
    )
    for name in METHODS:
        left = [
            np.mean([mean_probability(look.saliency.curves[one]) for look in looks])
            for one in (name, RANDOM, MIDDLE)
        ]
        out.add_row(name, *(f"{value:.2f}" for value in left), f"{same(looks, name):.2f}")
    return out


def report(
    looks: list[Look], checkpoint: Checkpoint, window: Window, options: argparse.Namespace
) -> Report:
    """The page; every figure is written beside it as PNG too."""
    page = Report("What the network makes of single cells")
    seen = sum(one.trained_on for one in looks)
    page.paragraph(
        f"{len(looks)} cells, answered by the network in '{options.checkpoint.name}' "
        f"({checkpoint.data}). {seen} of them are from groups it was trained on."
    )
    _verdict(page, looks)
    _saliency(page, looks, window, checkpoint.pixels.um_per_px, options.out)
    _checks(page, looks, options.out)
    _maps(page, looks, "before" if options.unpooled else "after", options.out)
    return page


def _saliency(page: Report, looks: list[Look], window: Window, scale: float, out: Path) -> None:
    page.heading("Which regions carry the answer")
    page.paragraph(
        f"Occlusion: a window of {window.side_px} px ({window.side_px * scale:.1f} um), moved by "
        f"{window.stride_px} px ({window.stride_px * scale:.1f} um), shows the crop's own "
        "background (its level, noise and grain) instead of the crop; the colour is the mean fall "
        "of the log odds of the answer (for two classes: of the difference of the logits) over the "
        "windows that cover a pixel. Grad-CAM: the last maps of at least 7 px, each weighed by how "
        "steeply the log odds rise with it, against the maps of background alone. The line "
        f"encloses the {100 * figures.TOP:.0f} % of the crop that support the answer most."
    )
    for one in looks:
        figure = figures.saliency_figure(one.crop, one.saliency, one.answer, one.title)
        _keep(page, figure, f"cell-{one.cell:05d}-saliency", one.title, out)


def _checks(page: Report, looks: list[Look], out: Path) -> None:
    found = [one.saliency for one in looks]
    page.heading("Are the maps to be believed?")
    _keep(page, figures.deletion_figure(found), "deletion", DELETION, out)
    _keep(page, figures.randomised_figure(found), "random-weights", WEIGHTS, out)
    page.table(
        COLUMNS,
        _rows(looks),
        "Hidden: mean probability of the answer under the deletion curve, lower is better. Random "
        "weights: rank correlation with the map of a wholly random network, near 0 is better.",
    )


def _maps(page: Report, looks: list[Look], when: str, out: Path) -> None:
    page.heading("Feature maps")
    page.paragraph(
        f"All maps of every block, {when} pooling. One colour scale a block, the same for all "
        "cells shown here."
    )
    scales = ranges([one.maps for one in looks])
    for one in looks:
        figure = figures.maps_figure(one.crop, one.maps, scales, one.title)
        _keep(page, figure, f"cell-{one.cell:05d}-maps", one.title, out)


def _verdict(page: Report, looks: list[Look]) -> None:
    for name in METHODS:
        areas = {
            one: np.mean([mean_probability(look.saliency.curves[one]) for look in looks])
            for one in (name, RANDOM, MIDDLE)
        }
        alike = same(looks, name)
        figures_say = (
            f"{name}: hiding what it marks leaves a mean probability of {areas[name]:.2f}, random "
            f"patches {areas[RANDOM]:.2f}, the middle {areas[MIDDLE]:.2f}; rank correlation with a "
            f"random network {alike:.2f}."
        )
        if areas[name] >= min(areas[RANDOM], areas[MIDDLE]):
            page.warning(f"{figures_say} Do not read these maps: other orders do as well.")
        elif not abs(alike) < 0.5:
            page.warning(f"{figures_say} Do not read these maps: they show the picture.")
        else:
            page.paragraph(f"{figures_say} Both checks passed on these {len(looks)} cells.")


def _keep(page: Report, figure: Figure, name: str, caption: str, out: Path) -> None:
    write_whole(out / f"{name}.png", drawn(figure))
    page.figure(figure, caption)
