"""The page of `parfocal-train pca`."""

import argparse

from rich.table import Table

from parfocal_training.pixels import figures
from parfocal_training.pixels.agreement import Agreement
from parfocal_training.pixels.baseline import Baseline
from parfocal_training.pixels.components import area_averaged
from parfocal_training.pixels.following import Following, component_r2
from parfocal_training.pixels.orientation import ASPECT
from parfocal_training.report import Report

CONTROL_COLUMNS = (
    *("crops", "method"),
    *("R² in the camera's frame", "R² in the crop as clustered", "p (camera)"),
)


def table(made: Baseline) -> Table:
    """What clusters follow, for each way of turning the crops."""
    out = Table("crops", "method", "R² on orientation, camera", "as clustered", "p (camera)")
    for row in _control_rows(made):
        out.add_row(*row)
    return out


def _control_rows(made: Baseline) -> list[tuple[str, ...]]:
    return [
        (
            one.variant,
            one.method,
            _interval(one.camera),
            "all alike" if one.crop is None else _interval(one.crop),
            f"{one.camera.p:.3f}",
        )
        for one in made.controls
    ]


def _interval(one: Following) -> str:
    return f"{one.r2:.2f} ({one.low:.2f} to {one.high:.2f})"


def report(made: Baseline, options: argparse.Namespace) -> Report:
    """The page."""
    rules = made.crop_set.index.rules
    page = Report("Principal components of pixels")
    page.paragraph(
        f"{len(made.crop_set)} crops of {made.crop_set.index.data}, each with the grey levels of "
        f"the medoid crop (quantile normalization), averaged over squares of {options.shrink} px "
        f"({options.shrink * rules.um_per_px:.2f} um). {len(made.explained)} components explain "
        f"{100 * made.explained.sum():.1f} % of the variance of their pixels. Clusters are sought "
        "in the space of these components, by k-means (best of 50 starts) and by k-medoids "
        "(partitioning around medoids)."
    )
    _verdict(page, made)
    _components(page, made, options.shrink)
    _clusters(page, made)
    _orientation(page, made)
    return page


def _verdict(page: Report, made: Baseline) -> None:
    said = [one for one in made.controls if one.variant == "as imaged, square"]
    for one in said:
        sentence = (
            f"{one.method}, k = {made.chosen[0].k}: clusters explain {100 * one.camera.r2:.0f} % "
            f"({100 * one.camera.low:.0f} to {100 * one.camera.high:.0f} %) of the variance of "
            f"orientation, p = {one.camera.p:.3f}."
        )
        if one.camera.p < 0.05:
            page.warning(
                f"{sentence} That is an artefact: how a cell lies in the camera's frame says "
                "nothing about it."
            )
        else:
            page.paragraph(f"{sentence} Not more than clusters without regard to it would.")


def _components(page: Report, made: Baseline, shrink: int) -> None:
    page.heading("Components")
    follows = component_r2(made.scores, made.axes)
    page.figure(
        figures.variance(made.explained, follows),
        "Left: variance of pixels explained. Right: share of a component's variance that the "
        "orientation of elongated cells explains.",
    )
    small = area_averaged(made.crops, shrink)
    page.figure(
        figures.images(small.mean(0), made.components, follows),
        "Components as images. One that follows orientation has four lobes: cells along one "
        "diagonal or side against cells across it.",
    )


def _clusters(page: Report, made: Baseline) -> None:
    page.heading("Clusters")
    page.figure(
        figures.over_k(made.found), "Mean silhouette and adjusted R² on orientation over k."
    )
    for one in made.chosen:
        name = f"{one.method}, k = {one.k}"
        page.figure(
            figures.scatters(
                made.scores, made.crop_set.labels, made.crop_set.classes, one, made.axes
            ),
            f"{name}: first two components.",
        )
        page.figure(figures.roses(one, made.axes), f"{name}: orientations in each cluster.")
        page.figure(
            figures.samples(made.crops, made.scores, one, made.axes),
            f"{name}: cells nearest to the centre of each cluster; lines are long axes.",
        )
    rows = [
        (method, one.attribute, one.values, one.rand, _bounds(one))
        for method, found in made.agreements.items()
        for one in found
    ]
    page.table(
        ("method", "attribute", "values", "adjusted Rand index", "95 % interval"),
        rows,
        "Agreement of clusters with what is known of the cells: 0 by chance, 1 the same partition. "
        "No interval where an attribute's values are the groups that would be resampled.",
    )


def _bounds(one: Agreement) -> str:
    return "-" if one.low is None else f"{one.low:.3f} to {one.high:.3f}"


def _orientation(page: Report, made: Baseline) -> None:
    axes = made.axes
    page.heading("Do clusters follow orientation?")
    page.paragraph(
        f"Orientation is that of the second moments of what differs from the background in the "
        f"middle of the crop, modulo 180 degrees. {int(axes.elongated.sum())} of {len(axes.whole)} "
        f"cells count: {len(axes.whole) - int(axes.whole.sum())} touch the edge of their crop, "
        f"alone or with neighbours, and {int((axes.whole & ~axes.elongated).sum())} are rounder "
        f"than {ASPECT} to 1. Adjusted R² is the share of the variance of (cos 2a, sin 2a) that "
        f"clusters explain; intervals are 95 %, over {made.crop_set.index.group_kind}s; p is from "
        "1,000 permutations of orientation within them."
    )
    page.table(
        CONTROL_COLUMNS,
        _control_rows(made),
        "Clusters that follow orientation keep the second R² when crops are turned at random and "
        "lose the first; with all long axes level nothing is left to follow.",
    )
    page.figure(
        figures.following_plot(made.controls),
        "Points: adjusted R² with its 95 % interval. Grey: where 95 % of clusterings without "
        "regard to orientation stay.",
    )
