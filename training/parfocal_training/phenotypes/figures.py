"""Panels after the paper's Fig. 5 and S5: matrices of LCA, curves over k, spread, fractions."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes as Plot
from matplotlib.figure import Figure

from parfocal_training.phenotypes.choice import OfK
from parfocal_training.phenotypes.fractions import Share
from parfocal_training.phenotypes.results import Spread
from parfocal_training.phenotypes.silhouette import distances
from parfocal_training.phenotypes.space import Floats, Ints
from parfocal_training.phenotypes.trends import Trend
from parfocal_training.report import canvas

Colour = tuple[float, float, float, float]

MOST_ROWS = 1500
"""Cells of a matrix that are drawn, at random: more than a picture has lines."""


def colour(j: int, k: int) -> Colour:
    """The colour of phenotype j of k, the same in every figure."""
    name = "tab10" if k <= 10 else "tab20" if k <= 20 else "hsv"
    found = mpl.colormaps[name](j if k <= 20 else j / k)
    dim = 1.0 if k <= 20 else 0.8  # pure yellow and cyan are lost on white
    return (dim * float(found[0]), dim * float(found[1]), dim * float(found[2]), 1.0)


def drawn_cells(labels: Ints) -> Ints:
    """At most `MOST_ROWS` cells in the order of the set: places (m,)."""
    rng = np.random.default_rng(0)
    return np.sort(rng.permutation(len(labels))[:MOST_ROWS]).astype(np.int64)


def matrices(lca: Floats, labels: Ints) -> Figure:
    """LCA (n, d) with SD 1 for each value, as the cells come and sorted by cluster."""
    cells = drawn_cells(labels)
    sd = lca.std(0)
    values = ((lca - lca.mean(0)) / np.where(sd > 0, sd, 1))[cells]
    order = np.argsort(labels[cells], kind="stable")
    figure = canvas(11, 6)
    left, right = figure.subplots(1, 2, sharex=True)
    for plot, shown in ((left, values), (right, values[order])):
        drawn = plot.imshow(
            shown, aspect="auto", cmap="RdBu_r", vmin=-2.5, vmax=2.5, interpolation="nearest"
        )
        plot.set(xlabel="LCA value")
    left.set(ylabel="cell", title="cells as they come")
    right.set_title("sorted by phenotype")
    separators(right, labels[cells][order], across=False)
    figure.colorbar(drawn, ax=[left, right], shrink=0.6, label="activation, SD of the value")
    return figure


def distance_matrix(points: Floats, labels: Ints) -> Figure:
    """Distances between cells (n, q), sorted by cluster."""
    cells = drawn_cells(labels)
    order = cells[np.argsort(labels[cells], kind="stable")]
    apart = distances(points[order], points[order])
    figure = canvas(7.5, 6.4)
    plot = figure.subplots()
    top = float(np.quantile(apart, 0.99))
    drawn = plot.imshow(apart, cmap="viridis", vmax=top, aspect="auto")
    separators(plot, labels[order], across=True)
    plot.set(xlabel="cell, sorted by phenotype", xticks=[])
    figure.colorbar(drawn, ax=plot, shrink=0.8, label="distance")
    return figure


def separators(plot: Plot, labels: Ints, across: bool) -> None:
    """Lines between the clusters of sorted cells (n,), and their numbers."""
    ends = np.flatnonzero(np.diff(labels)) + 0.5
    for end in ends:
        plot.axhline(end, color="black", lw=0.9)
        if across:
            plot.axvline(end, color="black", lw=0.9)
    edges = np.concatenate([[-0.5], ends, [len(labels) - 0.5]])
    wide = np.diff(edges) > len(labels) / 60  # narrower ones have no room for a number
    places = ((edges[1:] + edges[:-1]) / 2)[wide]
    plot.set_yticks(places, [str(n + 1) for n in np.unique(labels)[wide]])
    plot.set_ylabel("phenotype")


def curves(found: Sequence[OfK], k: int, elbow: int) -> Figure:
    """Silhouette over k, and inertia or a mixture's BIC."""
    figure = canvas(10, 3.6)
    left, right = figure.subplots(1, 2)
    at = [one.k for one in found]
    mean = np.array([one.mean_silhouette for one in found])
    sd = np.array([one.sd_silhouette for one in found])
    left.fill_between(at, mean - sd, mean + sd, color="0.85")
    left.plot(at, mean, "-", color="0.4", label="mean over starts (grey: ± SD)")
    left.plot(at, [one.silhouette for one in found], "o-", ms=3, color="C0", label="best start")
    left.set(ylabel="mean silhouette")
    criterion = [one.bic for one in found if one.bic is not None]
    if criterion:
        right.plot(at, criterion, "o-", ms=3, color="C0")
        right.set(ylabel="BIC (low is good)")
    else:
        right.plot(at, [one.inertia for one in found], "o-", ms=3, color="C0")
        ends = (found[0], found[-1])
        right.plot([one.k for one in ends], [one.inertia for one in ends], ":", color="0.5")
        right.axvline(elbow, color="C1", ls="--", label=f"elbow, k = {elbow}")
        right.set(ylabel="inertia (sum of squares)", ylim=(0, None))
    for plot in (left, right):
        plot.axvline(k, color="C3", lw=1.2, label=f"chosen, k = {k}")
        plot.set(xlabel="clusters k")
        plot.legend(frameon=False, fontsize="small")
    return figure


def spread(copies: Floats, cells: Floats, found: Spread) -> Figure:
    """Distances of copies to their cell's mean against distances between cells."""
    figure = canvas(8, 3.4)
    plot = figure.subplots()
    edges = np.linspace(0, float(np.quantile(np.concatenate([copies, cells]), 0.999)), 60).tolist()
    for values, median, label, style in (
        (copies, found.copies, "copies of a cell to their mean", "C0"),
        (cells, found.cells, "between two cells", "C1"),
    ):
        plot.hist(values, edges, density=True, alpha=0.6, color=style, label=label)
        plot.axvline(median, color=style, ls="--", lw=1.2)
    plot.set(xlabel="distance (dashed: median)", ylabel="density", yticks=[])
    plot.legend(frameon=False)
    return figure


def group_fractions(shares: Sequence[Share]) -> Figure:
    """Fraction of each phenotype in each group, as a map."""
    groups = list(dict.fromkeys(one.value for one in shares))
    k = max(one.phenotype for one in shares)
    table = np.array([one.fraction for one in shares]).reshape(len(groups), k)
    figure = canvas(min(3.5 + 0.55 * k, 14), min(1.4 + 0.3 * len(groups), 12))
    plot = figure.subplots()
    drawn = plot.imshow(100 * table, aspect="auto", cmap="Blues", vmin=0)
    plot.set_xticks(range(k), [str(j + 1) for j in range(k)])
    plot.set(xlabel="phenotype")
    if len(groups) <= 40:
        plot.set_yticks(range(len(groups)), groups, fontsize="small")
    if k <= 20 and len(groups) <= 40:
        _percents(plot, table)
    figure.colorbar(drawn, ax=plot, label="cells of the group (%)")
    return figure


def _percents(plot: Plot, table: Floats) -> None:
    for (row, column), value in np.ndenumerate(table):
        dark = value > 0.6 * table.max()
        plot.text(
            column,
            row,
            f"{100 * value:.0f}",
            ha="center",
            va="center",
            fontsize="small",
            color="white" if dark else "0.2",
        )


def value_fractions(shares: Sequence[Share], attribute: str) -> Figure:
    """Fraction of each phenotype for each value of an attribute, with 95 % intervals."""
    mine = [one for one in shares if one.attribute == attribute]
    values = list(dict.fromkeys(one.value for one in mine))
    k = max(one.phenotype for one in mine)
    figure = canvas(min(6 + 0.7 * k, 14), 3.6)
    plot = figure.subplots()
    for place, value in enumerate(values):
        these = [one for one in mine if one.value == value]
        at = np.arange(1, k + 1) + (place - (len(values) - 1) / 2) * 0.7 / len(values)
        middle = 100 * np.array([one.fraction for one in these])
        ends = 100 * np.array([[one.low, one.high] for one in these]).T
        bars = np.abs(ends - middle)
        label = f"{value} (n = {these[0].n})"
        plot.errorbar(at, middle, bars, fmt="o", ms=4, lw=1.2, label=label)
    for edge in range(1, k):
        plot.axvline(edge + 0.5, color="0.9", lw=0.8, zorder=0)
    plot.set(xlabel="phenotype", ylabel="cells (%)", ylim=(0, None), xlim=(0.5, k + 0.5))
    plot.set_xticks(range(1, k + 1))
    plot.legend(
        fontsize="small", frameon=False, title=attribute, loc="upper left", bbox_to_anchor=(1, 1)
    )
    return figure


def trend(
    points: Mapping[str, tuple[Floats, Floats]], found: Sequence[Trend], attribute: str
) -> Figure:
    """Share of each phenotype against an attribute: flasks as points, thirds of them as bars.

    `points` are the values (f,) of a line's flasks and their shares (f, k).
    """
    k = max(one.phenotype for one in found)
    columns = min(k, 4)
    rows = -(-k // columns)
    figure = canvas(2.9 * columns, 2.4 * rows + 0.3)
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for number, (line, (values, shares)) in enumerate(points.items()):
        shade = f"C{number}"
        for j, plot in enumerate(grid.flat[:k]):
            plot.scatter(values, 100 * shares[:, j], s=8, color=shade, alpha=0.35, lw=0)
            (one,) = [one for one in found if (one.cells, one.phenotype) == (line, j + 1)]
            for third in one.thirds:
                across = [third.first, third.last]
                plot.fill_between(across, 100 * third.low, 100 * third.high, color=shade, alpha=0.2)
                plot.plot(across, [100 * third.fraction] * 2, color=shade, lw=2)
        grid[0, 0].plot([], [], color=shade, lw=2, label=line)
    for j, plot in enumerate(grid.flat):
        plot.set(title=f"phenotype {j + 1}", ylim=(0, None))
        plot.set_visible(j < k)
    figure.supxlabel(attribute)
    figure.supylabel("cells of the flask (%)")
    if len(points) > 1:
        figure.legend(loc="outside upper center", ncols=len(points), frameon=False)
    return figure
