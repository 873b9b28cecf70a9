"""Figures of a data set's card: counts, samples, grey levels and cells per image."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from parfocal.types import Gray
from parfocal_training.dataset_images import Levels
from parfocal_training.report import canvas

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by people who see no red or no green."""

DENSITY_COLOURS = ("#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#332288", "#999933")
"""Others than those of cell lines, which stand for something else."""

BAR = "#888888"
MOST_GROUPS = 40
"""Groups of one cell line that a figure shows; the table has all."""

WIDTH_IN, ROW_IN, PANEL_IN = 10.0, 0.22, 0.75
ACROSS, TILE_PX, GAP_PX = 8, 160, 6
STRETCH = (0.005, 0.995)
"""Quantiles of a picture that become black and white."""

BINS = 128

Count = tuple[str, str, str, int]
"""Cell line, group, density (empty: unknown) and how many."""


def _panels(rows: Mapping[str, int], x_label: str) -> tuple[Figure, dict[str, Axes]]:
    """One panel for each cell line, as high as it has rows, on a common x axis."""
    heights = [n * ROW_IN + PANEL_IN for n in rows.values()]
    figure = canvas(WIDTH_IN, sum(heights) + 0.3)
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    named = dict(zip(rows, axes, strict=True))
    for name, axis in named.items():
        axis.set_title(name, loc="left", fontsize=11)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel(x_label)
    return figure, named


def short(name: str, cell_line: str) -> str:
    """A group's name as it fits beside an axis, without the cell line that groups by name carry."""
    rest = name.removeprefix(f"{cell_line}|") or "not known"
    return rest if len(rest) <= 32 else "…" + rest[-31:]


def counts_figure(counts: Sequence[Count], what: str) -> Figure:
    """Bars of how many each group has, coloured by density where there are few densities."""
    by_line = {c[0]: [d for d in counts if d[0] == c[0]][:MOST_GROUPS] for c in counts}
    figure, panels = _panels({name: len(mine) for name, mine in by_line.items()}, what)
    densities = sorted({density for _, _, density, _ in counts if density})
    few = 0 < len(densities) <= len(DENSITY_COLOURS)
    colour = dict(zip(densities, DENSITY_COLOURS, strict=False)) if few else {}
    for name, axis in panels.items():
        at = range(len(by_line[name]))
        ns = [n for *_, n in by_line[name]]
        bars = axis.barh(at, ns, color=[colour.get(d, BAR) for _, _, d, _ in by_line[name]])
        axis.bar_label(bars, padding=3, fontsize=8)
        axis.set_yticks(at, [_bar_name(count, few) for count in by_line[name]], fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.06, y=0.02)
    if few:
        patches = [Patch(color=colour[density], label=density) for density in densities]
        figure.legend(handles=patches, title="density", loc="outside right upper", frameon=False)
    return figure


def _bar_name(count: Count, in_colour: bool) -> str:
    line, group, density, _ = count
    return short(group, line) + (f" (density {density})" if density and not in_colour else "")


def samples_figure(samples: Mapping[str, Sequence[Gray]]) -> Figure:
    """Pictures of each cell line, each stretched by the same rule between its own quantiles."""
    sheets = {name: sheet([stretched(one) for one in mine]) for name, mine in samples.items()}
    inches = [len(s) / sheet_width() * (WIDTH_IN - 0.3) + 0.35 for s in sheets.values()]
    figure = canvas(WIDTH_IN, sum(inches))
    axes = figure.subplots(len(sheets), 1, squeeze=False, height_ratios=inches)[:, 0]
    for (name, picture), axis in zip(sheets.items(), axes, strict=True):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
        axis.set_title(name, loc="left", fontsize=11)
        axis.set_axis_off()
    return figure


def stretched(gray: Gray) -> NDArray[np.uint8]:
    """A picture, (h, w), between black and white at its own `STRETCH` quantiles."""
    low, high = np.quantile(gray, STRETCH)
    scaled = (gray.astype(np.float64) - low) / max(high - low, 1.0)
    return np.asarray(np.rint(255 * scaled.clip(0, 1)), np.uint8)


def sheet_width() -> int:
    """Pixels across a sheet."""
    return ACROSS * TILE_PX + (ACROSS - 1) * GAP_PX


def sheet(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures in rows of `ACROSS`, fitted into squares, on white; a row is as high as it needs."""
    rows = [_strip(pictures[i : i + ACROSS]) for i in range(0, len(pictures), ACROSS)]
    return np.vstack(rows)[:-GAP_PX]


def _strip(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    tiles = [_fitted(picture) for picture in pictures]
    height = max(len(tile) for tile in tiles) + GAP_PX
    strip = np.full((height, sheet_width()), 255, np.uint8)
    for i, tile in enumerate(tiles):
        h, w = tile.shape
        left = i * (TILE_PX + GAP_PX)
        strip[:h, left : left + w] = tile
    return strip


def _fitted(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    h, w = picture.shape
    scale = TILE_PX / max(h, w)
    size = max(1, round(w * scale)), max(1, round(h * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)


def lines_histogram(levels: Levels) -> Figure:
    """Share of pixels at each grey level, one line for each cell line."""
    edges = _edges(levels)
    figure = canvas(WIDTH_IN, 3.4)
    axis = figure.subplots()
    for i, name in enumerate(sorted({line for line, _ in levels})):
        total = np.sum([c for (line, _), c in levels.items() if line == name], axis=0)
        colour = COLOURS[i % len(COLOURS)]
        axis.stairs(100 * binned(total, edges), edges, color=colour, label=name, linewidth=1.5)
    axis.set(xlabel="grey level as stored", ylabel="% of pixels per bin", xlim=edges[[0, -1]])
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    return figure


def groups_histogram(levels: Levels) -> Figure:
    """The same for every group as a row of a map, the darker the more pixels."""
    edges = _edges(levels)
    by_line = {name: sorted(g for line, g in levels if line == name)[:MOST_GROUPS]
               for name in sorted({line for line, _ in levels})}  # fmt: skip
    figure, panels = _panels({n: len(g) for n, g in by_line.items()}, "grey level as stored")
    maps = {
        name: np.array([binned(levels[name, group], edges) for group in groups])
        for name, groups in by_line.items()
    }
    most = max(float(values.max()) for values in maps.values()) or 1.0
    for name, axis in panels.items():
        n = len(by_line[name])
        axis.pcolormesh(edges, np.arange(n + 1), np.sqrt(maps[name] / most), cmap="Greys",
                        vmin=0, vmax=1, rasterized=True)  # fmt: skip
        axis.set_yticks(np.arange(n) + 0.5, [short(g, name) for g in by_line[name]], fontsize=8)
        axis.invert_yaxis()
    return figure


def _edges(levels: Levels) -> NDArray[np.float64]:
    """Bin edges over the levels that occur, without the last 1 in 2,000 on either side."""
    total = np.sum(list(levels.values()), axis=0)
    share = np.cumsum(total) / max(1, total.sum())
    low = int(np.searchsorted(share, 0.0005))
    high = int(np.searchsorted(share, 0.9995)) + 1
    step = max(1, -(-(high - low) // BINS))
    return np.arange(low, high + step, step, dtype=np.float64)


def binned(counts: NDArray[np.int64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of all pixels in each bin; `counts` has one entry for each grey level."""
    sums = np.concatenate([[0], np.cumsum(counts)])
    at = edges.astype(np.int64).clip(0, len(counts))
    return np.asarray(np.diff(sums[at]) / max(1, int(counts.sum())), np.float64)


def per_image_figure(n_cells: Mapping[str, Sequence[int]]) -> Figure:
    """How many images gave how many cells."""
    most = max(max(mine) for mine in n_cells.values())
    step = max(1, -(-(most + 1) // 30))
    edges = np.arange(0, most + 1 + step, step) - 0.5
    figure = canvas(WIDTH_IN, 1.9 * len(n_cells) + 0.3)
    axes = figure.subplots(len(n_cells), 1, sharex=True, squeeze=False)[:, 0]
    for i, ((name, mine), axis) in enumerate(zip(n_cells.items(), axes, strict=True)):
        axis.hist(mine, edges, color=COLOURS[i % len(COLOURS)], rwidth=0.9)
        axis.set_title(f"{name}, median {np.median(mine):g}", loc="left", fontsize=11)
        axis.set_ylabel("images")
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("cells in one image")
    return figure
