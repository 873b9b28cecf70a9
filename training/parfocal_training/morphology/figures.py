"""Panels of two clusters, after the paper's Fig. 5h: ranked features, their projection, cells."""

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.stats import gaussian_kde  # type: ignore[import-untyped]

from parfocal_training.morphology.comparison import Compared
from parfocal_training.morphology.patch import Bools, Floats
from parfocal_training.morphology.separation import line_between
from parfocal_training.report import canvas

COLOURS = ("#1f6fb4", "#c8321e")
"""Of the first and the second cluster."""

SHOWN = 8
BARS = 20
CONTOURS = (0.5, 0.8)
"""Shares of a cluster's cells within its contours."""


def ranking(made: Compared) -> Figure:
    """Distances of the first features, with what chance gives each of them."""
    n = min(BARS, len(made.names))
    figure = canvas(9, 0.3 * n + 1.2)
    plot = figure.subplots()
    at = np.arange(n)
    bars = plot.barh(at, made.jsd[:n], color="0.75")
    for place in {made.first, made.second} & set(range(n)):
        bars[place].set_color("0.35")
    plot.plot(made.chance.high[:n], at, "|", color="C1", ms=11, mew=2, label="95 % of shuffles")
    plot.set(yticks=at, yticklabels=made.names[:n], xlim=(0, 1), xlabel="Jensen-Shannon distance")
    plot.tick_params(axis="y", labelsize="small")
    plot.invert_yaxis()
    plot.legend(frameon=False, loc="lower right")
    return figure


def projection(made: Compared) -> Figure:
    """All compared cells on the two axes, contours of either cluster, and the border."""
    figure = canvas(7.5, 6)
    plot = figure.subplots()
    points = made.values[:, [made.first, made.second]]
    there = np.isfinite(points).all(1)
    points, label = points[there], made.label[there]
    shown = _spread(points)
    for side, name in enumerate(made.pair):
        mine = shown[label == bool(side)]
        x, y = mine.T
        plot.scatter(x, y, s=9, color=COLOURS[side], alpha=0.45, lw=0, label=_name(name, mine))
        _contours(plot, mine, COLOURS[side])
    _limits(plot, shown)
    _border(plot, points, label)
    names = [made.names[i] for i in (made.first, made.second)]
    plot.set(xlabel=names[0], ylabel=names[1])
    plot.legend(framealpha=0.85)
    return figure


def _name(name: str, points: Floats) -> str:
    return f"{name} (n = {len(points)})"


def _spread(points: Floats) -> Floats:
    """Points (n, 2) with counts moved a little at random, so that they do not hide each other."""
    out, rng = points.copy(), np.random.default_rng(0)
    for i in range(2):
        if np.array_equal(points[:, i], np.rint(points[:, i])) and np.ptp(points[:, i]) < 50:
            out[:, i] += rng.uniform(-0.3, 0.3, len(points))
    return out


def _contours(plot: Axes, points: Floats, colour: str) -> None:
    """Lines round the densest places that hold half and four fifths of the cells."""
    if len(points) < 10 or min(np.ptp(points, 0)) == 0:
        return
    scale = points.std(0)
    density = gaussian_kde((points / scale).T)
    own = density((points / scale).T)
    low, high = points.min(0) - scale, points.max(0) + scale
    x, y = np.meshgrid(*(np.linspace(low[i], high[i], 80) for i in range(2)))
    levels = sorted({float(np.quantile(own, 1 - share)) for share in CONTOURS})
    field = density(np.stack([x.ravel() / scale[0], y.ravel() / scale[1]])).reshape(x.shape)
    plot.contour(x, y, field, levels=levels, colors=colour, linewidths=1.4)


def _limits(plot: Axes, points: Floats) -> None:
    """All but the outermost of the cells: a single one far out would squeeze the others."""
    low, high = np.quantile(points, [0.005, 0.995], axis=0)
    reach = np.maximum(high - low, 1e-12) * 0.1
    plot.set(xlim=(low[0] - reach[0], high[0] + reach[0]))
    plot.set(ylim=(low[1] - reach[1], high[1] + reach[1]))


def _border(plot: Axes, points: Floats, label: Bools) -> None:
    line = line_between(points, label)
    (x0, x1), (y0, y1) = plot.get_xlim(), plot.get_ylim()
    x, y = np.meshgrid(np.linspace(x0, x1, 200), np.linspace(y0, y1, 200))
    side = line.weights[0] * x + line.weights[1] * y + line.offset
    plot.contour(x, y, side, levels=[0], colors="0.2", linewidths=1.2, linestyles="--")
    plot.plot([], [], "--", color="0.2", lw=1.2, label="border of the support vector machine")


def pair_scores(made: Compared) -> Figure:
    """Balanced accuracy of each pair of the first features, as a square of colours."""
    assert made.separation is not None
    n = made.separation.top
    square = np.full((n, n), np.nan)
    for one in made.separation.scores:
        square[one.first, one.second] = square[one.second, one.first] = one.accuracy
    figure = canvas(9.5, max(2.5, 0.28 * n + 0.5))
    plot = figure.subplots()
    drawn = plot.imshow(
        square, cmap="viridis", aspect="auto", vmin=0.5, vmax=max(0.55, float(np.nanmax(square)))
    )
    plot.set(xticks=range(n), xticklabels=range(1, n + 1), yticks=range(n))
    plot.set_yticklabels([f"{name}  {i + 1}" for i, name in enumerate(made.names[:n])])
    plot.tick_params(axis="both", labelsize="small")
    figure.colorbar(drawn, ax=plot, shrink=0.7, label="balanced accuracy, groups left out")
    return figure


def axes_chosen(made: Compared) -> Figure:
    """Distance of every ranked feature against its correlation with the first, both axes named."""
    figure = canvas(7.5, 4.2)
    plot = figure.subplots()
    plot.scatter(made.rho, made.jsd, s=12, color="0.6", lw=0)
    for place, name in ((made.first, "first axis"), (made.second, "second axis")):
        plot.scatter(made.rho[place], made.jsd[place], s=40, label=f"{name}: {made.names[place]}")
    plot.set(xlabel="Spearman's correlation with the first feature", xlim=(-1.05, 1.05))
    plot.set(ylabel="Jensen-Shannon distance", ylim=(0, None))
    plot.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize="small")
    return figure


def spectrum(made: Compared) -> Figure:
    """Distances of all ranked features in falling order, beside what chance gives."""
    figure = canvas(9, 3)
    plot = figure.subplots()
    at = np.arange(1, len(made.jsd) + 1)
    plot.plot(at, made.jsd, color="0.25", label="distance")
    plot.plot(at, made.chance.high, ".", color="C1", ms=3, label="95 % of shuffles")
    plot.set(xlabel="rank of the feature", ylabel="Jensen-Shannon distance", ylim=(0, 1))
    plot.set_xlim(0, len(at) + 1)
    plot.xaxis.set_major_locator(MaxNLocator(integer=True))
    plot.legend(frameon=False)
    return figure


Picture = tuple[NDArray[np.float32], Bools]
"""A normalized crop (s, s) and the mask (s, s) of its cell."""


def cells(made: Compared, pictures: list[list[Picture]]) -> Figure:
    """Cells of each cluster, a row each, with the outlines that were measured."""
    figure = canvas(1.4 * SHOWN, 3.2)
    grid = figure.subplots(2, SHOWN, squeeze=False)
    low, high = np.quantile([crop for row in pictures for crop, _ in row], [0.001, 0.999])
    for side, row in enumerate(grid):
        for plot, (crop, mask) in zip(row, pictures[side], strict=False):
            plot.imshow(crop, cmap="gray", vmin=low, vmax=high)
            _outline(plot, mask, COLOURS[side])
        for plot in row:
            plot.set(xticks=[], yticks=[])
            plot.spines[:].set_visible(False)
        row[0].set_ylabel(made.pair[side])
    return figure


def _outline(plot: Axes, mask: Bools, colour: str) -> None:
    rims, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for rim in rims:
        closed = np.concatenate([rim[:, 0], rim[:1, 0]])
        plot.plot(*closed.T, color=colour, lw=0.9)


def typical(made: Compared) -> list[list[int]]:
    """Cells nearest to their cluster's medians on the two axes, as places in the crop set."""
    points = made.values[:, [made.first, made.second]]
    spread = np.maximum(np.nanstd(points, 0), 1e-12)
    out = []
    for side in (False, True):
        mine = np.flatnonzero((made.label == side) & np.isfinite(points).all(1))
        away = (points[mine] - np.median(points[mine], 0)) / spread
        out.append(made.cells[mine[np.argsort(np.hypot(*away.T), kind="stable")]][:SHOWN].tolist())
    return out
