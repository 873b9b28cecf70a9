"""The part of a report that tells of lines never seen: by left-out line, with curves."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from parfocal.card import Metric
from parfocal_training.cropset import CropSet
from parfocal_training.experiments.running import RunResult
from parfocal_training.experiments.unknown import by_group
from parfocal_training.experiments.unknown_figures import (
    NONE,
    Places,
    UnknownFigures,
    left_out_of,
)
from parfocal_training.experiments.unknown_scores import SHIPPED, scores
from parfocal_training.report import Report, canvas

NOVELTY = (
    "left out", "cells", "images", "AUROC of cells", "95 %", "AUROC of images", "95 %",
    "refused", "95 %", "by max softmax", "by energy",
)  # fmt: skip
ACCURACY = (
    "left out", "lines told apart", "chance", "held-out cells", "held-out images",
    "balanced accuracy", "95 %", "of images by vote", "95 %",
)  # fmt: skip


def add(
    report: Report, figures: Sequence[UnknownFigures], results: Sequence[RunResult], crops: CropSet
) -> None:
    """Tables and pictures of the novelty of lines never seen."""
    report.heading("Lines never seen")
    for text in said(crops):
        report.paragraph(text)
    report.table(NOVELTY, [novelty_row(one) for one in figures if one.novelty])
    report.figure(
        curves(results, Places(crops)),
        "Left: share of the cells never seen that a threshold on the LCA distance refuses, against "
        "that of the known cells, for each left-out line, and the mean. Right: each image by "
        "the mean rank of its cells' novelty among known cells of other images, those of the line "
        "never seen as crosses.",
    )
    report.heading("Known lines told apart")
    report.paragraph(
        "Balanced accuracy over the lines that a network knows, on what was held out of them, of "
        f"images by the majority of their cells. Left out '{NONE}' is the network of all lines."
    )
    report.table(ACCURACY, [accuracy_row(one) for one in figures])


def said(crop_set: CropSet) -> list[str]:
    """What is compared with what, and what that cannot show."""
    whole, kind = by_group(crop_set), crop_set.index.group_kind
    parts = [f"the last {kind} of {', '.join(sorted(whole))}"] if whole else []
    single = [line for line in crop_set.classes if line not in whole]
    if single:
        parts.append(f"the last image of {', '.join(single)}, with one {kind} each")
    out = [
        "Each network has never seen one line. Asked are all cells of that line, and cells of the "
        f"known lines that were held out: {', and '.join(parts)}. AUROC is the probability that a "
        "cell of the line never seen (or an image, by the mean rank of its cells) is more novel "
        "than one of a known line: 0.5 is guessing. Novelty is the distance of the last "
        "activations (LCA) to the nearest class, as models carry it; max softmax and energy are "
        "AUROC of cells by the logits. Refused: cells never seen that are more novel than 95 % "
        "of the known ones. Intervals draw held-out groups or images again, the lines being "
        "given; one image or group shows no spread."
    ]
    if single:
        out.append(
            f"Held-out images of lines with one {kind} come from a {kind} that was trained on, "
            f"those of a line never seen do not: a new {kind} and a new line cannot be told apart "
            "here, and both novelty and accuracy flatter."
        )
    return out


def novelty_row(one: UnknownFigures) -> tuple[object, ...]:
    """How novel a line never seen is."""
    shipped = one.novelty[SHIPPED]
    others = [score.cells.value for name, score in one.novelty.items() if name != SHIPPED]
    parts = (shipped.cells, shipped.images, shipped.refused)
    spread = [cell for part in parts for cell in (part.value, span(part))]
    return (one.left_out, shipped.cells.n, shipped.images.n, *spread, *others)


def accuracy_row(one: UnknownFigures) -> tuple[object, ...]:
    """How well the other lines are told apart."""
    spread = [cell for part in (one.cells, one.images) for cell in (part.value, span(part))]
    return (one.left_out, one.classes, 1 / one.classes, one.cells.n, one.images.n, *spread)


def span(one: Metric) -> str:
    """An interval in words."""
    return f"{one.low:.2f} to {one.high:.2f}"


def curves(results: Sequence[RunResult], places: Places) -> Figure:
    """ROC curves by cell, and the mean novelty of every image, of each left-out line."""
    made = canvas(10, 4.2)
    roc, images = made.subplots(1, 2)
    lines = list(dict.fromkeys(left_out_of(run) for run in results if left_out_of(run) != NONE))
    shares, refused = np.linspace(0, 1, 201), []
    for run in results:
        line = left_out_of(run)
        if line == NONE:
            continue
        known, strange = (
            places.scored(scores(test)[SHIPPED], test.cells) for test in run.tests[:2]
        )
        thresholds = np.quantile(known.novelty, 1 - shares)
        ordered = np.sort(strange.novelty)
        refused.append(1 - np.searchsorted(ordered, thresholds, "right") / len(ordered))
        at = lines.index(line)
        roc.plot(shares, refused[-1], color=f"C{at % 10}", alpha=0.5, linewidth=1)
        for unit in np.unique(known.units):
            mine = known.units == unit
            usual = known.of(mine).by_image(known.novelty[~mine]).novelty
            images.plot(usual, np.full(len(usual), at - 0.12), "o", color="grey", alpha=0.6)
        new = strange.by_image(known.novelty).novelty
        images.plot(new, np.full(len(new), at + 0.12), "x", color=f"C{at % 10}")
    roc.plot(shares, np.mean(refused, 0), color="black", linewidth=2, label="mean")
    roc.plot([0, 1], [0, 1], color="grey", linestyle=":", label="guessing")
    roc.set(xlabel="known cells refused", ylabel="cells never seen refused")
    roc.legend(fontsize="small", loc="lower right")
    images.set_yticks(range(len(lines)), lines)
    images.set(xlabel="mean rank of an image's cells", ylabel="left out", xlim=(0, 1))
    return made
