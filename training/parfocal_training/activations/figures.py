"""Figures of `parfocal-train activations`: feature maps, saliency on the crop, and its checks."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes as Plot
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from parfocal_training.activations.checks import METHODS, MIDDLE, RANDOM, SHARES, Saliency
from parfocal_training.activations.maps import Maps, Range, montage
from parfocal_training.activations.network import Image
from parfocal_training.report import canvas

Floats = NDArray[np.float64]

TOP = 0.2
"""Share of the crop that the contour on a saliency map encloses."""

COLOURS = {"occlusion": "C0", "Grad-CAM": "C1", RANDOM: "0.55", MIDDLE: "0.1"}
STYLES = {"occlusion": "o-", "Grad-CAM": "s-", RANDOM: "--", MIDDLE: ":"}


def maps_figure(crop: Image, blocks: Sequence[Maps], scales: Sequence[Range], title: str) -> Figure:
    """The crop, then the maps of each block as one picture on that block's colour scale."""
    columns = 2
    rows = -(-(len(blocks) + 1) // columns)
    figure = canvas(13, 3.4 * rows)
    plots = figure.subplots(rows, columns, squeeze=False).ravel()
    plots[0].imshow(crop, cmap="gray", vmin=0, vmax=255)
    plots[0].set_title(f"{title}\ncrop, {len(crop)} px")
    for number, (maps, scale) in enumerate(zip(blocks, scales, strict=True), 1):
        plot = plots[number]
        drawn = plot.imshow(
            montage(maps), cmap="viridis", vmin=scale.low, vmax=scale.high, interpolation="nearest"
        )
        plot.set_title(f"block {number}: {len(maps)} maps of {maps.shape[1]} x {maps.shape[2]} px")
        figure.colorbar(drawn, ax=plot, shrink=0.8, label="activation")
    for plot in plots:
        plot.set_axis_off()
    return figure


def saliency_figure(crop: Image, found: Saliency, answer: str, title: str) -> Figure:
    """The crop, and on it what supports the answer by each method."""
    figure = canvas(13, 4.5)
    plots = figure.subplots(1, 1 + len(METHODS))
    plots[0].imshow(crop, cmap="gray", vmin=0, vmax=255)
    figure.suptitle(title)
    plots[0].set_title("crop")
    for plot, name in zip(plots[1:], METHODS, strict=True):
        drawn = overlay(plot, crop, found.maps[name])
        plot.set_title(name)
        limit = float(np.abs(found.maps[name]).max())
        bar = figure.colorbar(drawn, ax=plot, shrink=0.75, ticks=[-limit, 0, limit])
        bar.ax.set_yticklabels(
            [f"speaks against\n(-{limit:.2g})", "no effect", f"supports\n{answer}\n(+{limit:.2g})"]
        )
    for plot in plots:
        plot.set_axis_off()
    return figure


def overlay(plot: Plot, crop: Image, values: Floats) -> AxesImage:
    """A signed map on the crop, clear where it is near 0, with a line round its top 20 %."""
    limit = max(float(np.abs(values).max()), 1e-12)
    plot.imshow(crop, cmap="gray", vmin=0, vmax=255)
    strength = np.clip(np.abs(values) / limit * 1.2, 0, 0.75)
    plot.imshow(values, cmap="PuOr_r", norm=Normalize(-limit, limit), alpha=strength)
    level = max(float(np.quantile(values, 1 - TOP)), 0.0)  # what speaks against is never in it
    if values.min() < level < values.max():
        plot.contour(values, levels=[level], colors="black", linewidths=1.0)
    solid = plot.imshow(
        np.full((1, 1), np.nan), cmap="PuOr_r", norm=Normalize(-limit, limit), extent=(0, 1, 0, 1)
    )  # a colour bar of its own, which does not take over the transparency
    plot.set(xlim=(-0.5, crop.shape[1] - 0.5), ylim=(crop.shape[0] - 0.5, -0.5))
    return solid


def deletion_figure(found: Sequence[Saliency]) -> Figure:
    """Mean probability of the answer as pixels are hidden, by four orders; thin: single cells."""
    figure = canvas(9.5, 4)
    plot = figure.subplots()
    at = 100 * np.array([0.0, *SHARES])
    for name, style in STYLES.items():
        curves = np.array([one.curves[name] for one in found])  # (cells, 9)
        if name in METHODS:
            plot.plot(at, curves.T, color=COLOURS[name], lw=0.6, alpha=0.35)
        label = {RANDOM: "random patches", MIDDLE: "from the middle outwards"}.get(name, name)
        plot.plot(at, curves.mean(0), style, color=COLOURS[name], ms=4, lw=2, label=label)
    plot.set(
        xlabel="pixels hidden, most salient first (%)",
        ylabel="probability of the answered class",
        ylim=(0, 1.02),
    )
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def randomised_figure(found: Sequence[Saliency]) -> Figure:
    """Rank correlation with the map of a network whose last parts are random; dots: cells."""
    parts = len(found[0].same["Grad-CAM"])
    figure = canvas(8, 4)
    plot = figure.subplots()
    for name, shift in (("Grad-CAM", 0.0), ("occlusion", 0.12)):
        values = np.array([one.same[name] for one in found], float)  # (cells, parts)
        at = np.flatnonzero(np.isfinite(values).any(0))
        at = at if len(at) == parts else at[1:]
        for cell in values:
            plot.plot(at + shift, cell[at], ".", color=COLOURS[name], alpha=0.4)
        style = "s-" if len(at) == parts else "D"
        mean = np.nanmean(values[:, at], axis=0)
        plot.plot(at + shift, mean, style, color=COLOURS[name], ms=6, label=name)
    plot.axhline(0, color="0.3", lw=0.8)
    names = ["trained", "head", *[f"+ block {i}" for i in range(parts - 2, 0, -1)]]
    plot.set(
        xticks=range(parts),
        xticklabels=names,
        xlabel="parts with random weights, from the answer down",
        ylabel="rank correlation of the maps",
        ylim=(-1.05, 1.05),
    )
    plot.legend(frameon=False)
    return figure
