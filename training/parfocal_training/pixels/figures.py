"""Panels of the PCA baseline, after the paper's Fig. S4."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes as Plot
from matplotlib.figure import Figure
from numpy.typing import NDArray

from parfocal_training.pixels.clusters import Clustering
from parfocal_training.pixels.controls import Control
from parfocal_training.pixels.following import Following, component_r2
from parfocal_training.pixels.orientation import Axes
from parfocal_training.report import canvas

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Images = NDArray[np.float32]


def variance(explained: Floats, follows: Floats) -> Figure:
    """What each component explains, and how much of the component orientation explains."""
    figure = canvas(9, 3.2)
    left, right = figure.subplots(1, 2)
    at = np.arange(1, len(explained) + 1)
    left.bar(at, 100 * explained, color="0.6", label="each")
    left.plot(at, 100 * np.cumsum(explained), "o-", color="C0", ms=4, label="together")
    left.set(xlabel="component", ylabel="variance of pixels (%)", ylim=(0, None))
    left.legend(frameon=False)
    right.bar(at, follows, color="C1")
    right.axhline(0, color="0.3", lw=0.8)
    right.set(xlabel="component", ylabel="adjusted R² on orientation")
    return figure


def images(mean: Images, components: Images, follows: Floats) -> Figure:
    """The mean crop and the first components, on one colour scale about zero."""
    shown = components[:7]
    figure = canvas(10, 6)
    plots = figure.subplots(2, 4).ravel()
    plots[0].imshow(mean, cmap="gray")
    plots[0].set_title("mean of all crops")
    limit = float(np.quantile(np.abs(shown), 0.998))
    drawn = None
    for i, component in enumerate(shown):
        drawn = plots[i + 1].imshow(component, cmap="PuOr", vmin=-limit, vmax=limit)
        name = f"component {i + 1}\nR² on orientation {follows[i]:.2f}"
        plots[i + 1].set_title(name, fontsize="medium")
    for plot in plots:
        plot.set_axis_off()
    if drawn is not None:
        figure.colorbar(drawn, ax=plots.tolist(), shrink=0.6, label="weight of a pixel")
    return figure


def scatters(
    scores: Floats, labels: Ints, classes: tuple[str, ...], found: Clustering, axes: Axes
) -> Figure:
    """Components 1 and 2 by cell line, cluster and orientation; then the two most oriented ones."""
    figure = canvas(12, 9)
    lines, clusters, angles, oriented = figure.subplots(2, 2).ravel()
    _by_name(lines, scores, labels, classes)
    lines.set_title("cell line")
    _by_name(clusters, scores, found.labels, [f"cluster {i + 1}" for i in range(found.k)])
    clusters.set_title(f"{found.method}, k = {found.k}")
    for plot in (lines, clusters):
        plot.set(xlabel="component 1", ylabel="component 2")
    _by_angle(figure, angles, scores, axes, (0, 1))
    first, second = sorted(np.argsort(-component_r2(scores, axes), kind="stable")[:2].tolist())
    _by_angle(figure, oriented, scores, axes, (first, second))
    angles.set_title("orientation of the long axis")
    oriented.set_title("the two components that follow orientation most")
    return figure


def _by_angle(
    figure: Figure, plot: Plot, scores: Floats, axes: Axes, shown: tuple[int, int]
) -> None:
    long, (x, y) = axes.elongated, shown
    plot.scatter(scores[~long, x], scores[~long, y], s=8, color="0.8", label="no orientation")
    drawn = plot.scatter(
        scores[long, x], scores[long, y], s=14, c=np.rad2deg(axes.angle_rad[long]), cmap="hsv",
        vmin=0, vmax=180,
    )  # fmt: skip
    bar = figure.colorbar(drawn, ax=plot, ticks=[0, 45, 90, 135, 180])
    bar.ax.set_yticklabels(
        ["0° level", "45° up right", "90° upright", "135° up left", "180° level"]
    )
    plot.set(xlabel=f"component {x + 1}", ylabel=f"component {y + 1}")
    plot.legend(fontsize="small", framealpha=0.8)


def _by_name(plot: Plot, scores: Floats, of: Ints, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        plot.scatter(
            scores[of == i, 0], scores[of == i, 1], s=14, color=f"C{i % 10}", alpha=0.8, label=name
        )
    plot.legend(fontsize="small", framealpha=0.8)


def over_k(found: Sequence[Clustering]) -> Figure:
    """Silhouette and orientation R2 at each number of clusters, both methods."""
    figure = canvas(9, 3.2)
    left, right = figure.subplots(1, 2)
    for method, style in (("k-means", "o-"), ("k-medoids", "s--")):
        mine = [clustering for clustering in found if clustering.method == method]
        at = [clustering.k for clustering in mine]
        left.plot(at, [c.silhouette for c in mine], style, ms=4, label=method)
        right.plot(at, [c.orientation_r2 for c in mine], style, ms=4, label=method)
    left.set(xlabel="clusters k", ylabel="mean silhouette")
    right.set(xlabel="clusters k", ylabel="adjusted R² on orientation")
    right.axhline(0, color="0.3", lw=0.8)
    left.legend(frameon=False)
    return figure


def roses(found: Clustering, axes: Axes) -> Figure:
    """Orientations of the elongated cells of each cluster, drawn as axes: both ends count."""
    n = min(found.k, 6)
    figure = canvas(2.4 * n + 0.6, 3.0)
    plots = figure.subplots(1, n, squeeze=False, subplot_kw={"projection": "polar"})[0]
    edges = np.linspace(0, np.pi, 13)
    top = 0.0
    for i, plot in enumerate(plots):
        chosen = axes.elongated & (found.labels == i)
        share = np.histogram(axes.angle_rad[chosen], edges)[0] / max(1, chosen.sum())
        both = np.concatenate([share, share])
        at = np.concatenate([edges[:-1], edges[:-1] + np.pi])
        plot.bar(at, both, width=np.pi / 12, align="edge", color=f"C{i % 10}")
        plot.set_title(f"cluster {i + 1} ({int(chosen.sum())} cells)", fontsize="medium")
        plot.set(xticks=np.deg2rad([0, 45, 90, 135]), yticklabels=[])
        top = max(top, float(share.max()))
    for plot in plots:
        plot.set_ylim(0, top * 1.05)
    return figure


def samples(crops: Images, scores: Floats, found: Clustering, axes: Axes, shown: int = 8) -> Figure:
    """Cells nearest to the centre of each cluster, with the long axis of the elongated ones."""
    figure = canvas(1.4 * shown, 1.45 * found.k + 0.2)
    grid = figure.subplots(found.k, shown, squeeze=False)
    low, high = np.quantile(crops, [0.001, 0.999])
    for i, row in enumerate(grid):
        members = np.flatnonzero(found.labels == i)
        far = np.linalg.norm(scores[members] - scores[members].mean(0), axis=1)
        nearest = members[np.argsort(far)][:shown]
        for plot, cell in zip(row, nearest, strict=False):
            plot.imshow(crops[cell], cmap="gray", vmin=low, vmax=high)
            _axis_line(plot, crops.shape[1], axes, int(cell))
        for plot in row:
            plot.set(xticks=[], yticks=[])
            plot.spines[:].set_visible(False)
        row[0].set_ylabel(f"cluster {i + 1}\nn = {len(members)}")
    return figure


def _axis_line(plot: Plot, side: int, axes: Axes, cell: int) -> None:
    if not axes.elongated[cell]:
        return
    middle, half, angle = (side - 1) / 2, 0.45 * side, axes.angle_rad[cell]
    across, down = half * np.cos(angle), -half * np.sin(angle)
    plot.plot(
        [middle - across, middle + across], [middle - down, middle + down], color="C1", lw=0.9
    )


def following_plot(found: Sequence[Control]) -> Figure:
    """Adjusted R2 of each variant and method, in both frames, with the null as a grey band."""
    figure = canvas(10, 4.2)
    plots = figure.subplots(1, 2, sharey=True, sharex=True)
    names = [f"{control.variant}\n{control.method}" for control in found]
    frames: tuple[tuple[str, list[Following | None]], ...] = (
        ("orientation in the camera's frame", [control.camera for control in found]),
        ("orientation in the crop as clustered", [control.crop for control in found]),
    )
    for plot, (title, values) in zip(plots, frames, strict=True):
        for at, one in enumerate(values):
            _bar(plot, at, one)
        plot.axvline(0, color="0.3", lw=0.8)
        plot.set(title=title, xlabel="adjusted R²", yticks=range(len(names)), yticklabels=names)
    plots[0].invert_yaxis()
    return figure


def _bar(plot: Plot, at: int, one: Following | None) -> None:
    if one is None:
        plot.text(0.01, at, "all cells lie the same way", va="center", color="0.4")
    elif np.isfinite(one.r2):
        plot.barh(at, one.null_high, height=0.8, color="0.87")
        plot.plot([one.low, one.high], [at, at], color="C0")
        plot.plot(one.r2, at, "o", color="C0")
