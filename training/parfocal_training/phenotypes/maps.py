"""Cells to look at: representatives of each phenotype, and a map on which like cells lie near."""

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from parfocal.normalize import Reference, normalize
from parfocal_training.cropset import CropSet
from parfocal_training.phenotypes.figures import colour
from parfocal_training.phenotypes.silhouette import distances
from parfocal_training.phenotypes.space import Floats, Ints
from parfocal_training.report import canvas

Picture = NDArray[np.uint8]

SHOWN = 10
"""Cells of a phenotype in the montage."""

THUMBNAIL_PX, SMALL_PX, GAP_PX = 120, 52, 6
MOST_MAPPED = 3000
"""Cells on the map, at random: more hide each other, and t-SNE takes long."""


def representatives(points: Floats, labels: Ints, groups: Ints, j: int) -> list[int]:
    """Cells of cluster j near its centre, one of each group before a second of any.

    Only the nearer half of the cluster is looked at, so that a group with none but odd cells there
    sends nobody.
    """
    mine = np.flatnonzero(labels == j)
    away = distances(points[mine], points[mine].mean(0, keepdims=True))[:, 0]
    near = mine[np.argsort(away, kind="stable")][: max(SHOWN, len(mine) // 2)]
    turn = [int((groups[near[:i]] == groups[cell]).sum()) for i, cell in enumerate(near)]
    chosen = near[np.argsort(turn, kind="stable")][:SHOWN]
    return [int(cell) for cell in chosen]


def thumbnails(
    crop_set: CropSet, cells: Sequence[int], reference: Reference, side_px: int
) -> Picture:
    """Normalized crops of these cells, averaged to a side: (m, side_px, side_px)."""
    crops = normalize(crop_set.bare(np.array(cells, np.int64)), reference)
    low, high = np.quantile(crops, [0.001, 0.999])
    levels = np.clip((crops - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)
    size = (side_px, side_px)
    small = [cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in levels]
    return np.stack(small).astype(np.uint8)


def montage(rows: Sequence[Picture], sizes: Sequence[int]) -> Figure:
    """One line of thumbnails (m, s, s) for each phenotype, its number large beside it."""
    k = len(rows)
    figure, at = _lines(rows, label_px=150)
    for j, n in enumerate(sizes):
        middle = 1 - (j + 0.5) / k
        figure.text(
            at, middle + 0.1 / k, str(j + 1), fontsize=34, weight="bold", ha="center", va="center",
            color=colour(j, k),
        )  # fmt: skip
        figure.text(at, middle - 0.3 / k, f"{n} cells", fontsize=10, ha="center", va="center")
    return figure


def lines(rows: Sequence[Picture], said: Sequence[str]) -> Figure:
    """One line of thumbnails (m, s, s) for each text, which stands beside it."""
    figure, at = _lines(rows, label_px=250)
    for j, text in enumerate(said):
        middle = 1 - (j + 0.5) / len(rows)
        figure.text(at, middle, text, fontsize=11, ha="center", va="center")
    return figure


def _lines(rows: Sequence[Picture], label_px: int) -> tuple[Figure, float]:
    """Lines of thumbnails with room on the left, and the middle of that room."""
    step, k = THUMBNAIL_PX + GAP_PX, len(rows)
    sheet = np.full((k * step, SHOWN * step), 255, np.uint8)
    for j, row in enumerate(rows):
        for place, one in enumerate(row):
            top, left = j * step + GAP_PX // 2, place * step + GAP_PX // 2
            sheet[top : top + THUMBNAIL_PX, left : left + THUMBNAIL_PX] = one
    figure = canvas((SHOWN * step + label_px) / 120, k * step / 120)
    figure.set_layout_engine("none")
    width = SHOWN * step + label_px
    plot = figure.add_axes((label_px / width, 0, SHOWN * step / width, 1))
    plot.imshow(sheet, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="nearest")
    plot.set_axis_off()
    return figure, 0.42 * label_px / width


def mapped(points: Floats, seed: int) -> tuple[Ints, Floats]:
    """Some cells (m,) and where they lie on a map (m, 2), by t-SNE of their places (n, q)."""
    cells = np.sort(np.random.default_rng(seed).permutation(len(points))[:MOST_MAPPED])
    perplexity = min(30.0, (len(cells) - 1) / 3)
    made = TSNE(perplexity=perplexity, init="pca", random_state=seed, max_iter=750)
    return cells.astype(np.int64), made.fit_transform(points[cells]).astype(np.float64)


def grid_cells(places: Floats, side: int) -> list[tuple[int, int, int]]:
    """(row, column, place) of the cell nearest to each middle of a grid over a map (m, 2)."""
    low, high = places.min(0), places.max(0)
    scaled = (places - low) / np.maximum(high - low, 1e-9) * side  # columns from left, rows from up
    column = np.minimum(scaled[:, 0].astype(int), side - 1)
    row = side - 1 - np.minimum(scaled[:, 1].astype(int), side - 1)
    middle = np.stack([column + 0.5, side - row - 0.5], 1)
    away = np.linalg.norm(scaled - middle, axis=1)
    first: dict[tuple[int, int], int] = {}
    for at in np.argsort(away, kind="stable"):
        first.setdefault((int(row[at]), int(column[at])), int(at))
    return [(r, c, at) for (r, c), at in first.items()]


def tsne(places: Floats, labels: Ints, k: int, sheet: NDArray[np.uint8]) -> Figure:
    """The map as points, and as the cells that lie there; frames have the phenotype's colour."""
    figure = canvas(14, 7)
    left, right = figure.subplots(1, 2)
    for j in range(k):
        mine = places[labels == j]
        left.scatter(mine[:, 0], mine[:, 1], s=9, color=colour(j, k), alpha=0.8)
        if len(mine):
            x, y = np.median(mine, 0)
            box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": colour(j, k), "alpha": 0.85}
            left.text(x, y, str(j + 1), ha="center", va="center", weight="bold", bbox=box)
    left.set(xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[])
    low, high = places.min(0), places.max(0)
    extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    right.imshow(sheet, extent=extent, aspect="auto", interpolation="nearest")
    rim = 0.02 * (high - low)
    for plot in (left, right):
        plot.set(xlim=(low[0] - rim[0], high[0] + rim[0]), ylim=(low[1] - rim[1], high[1] + rim[1]))
    right.set(xlabel="t-SNE 1", xticks=[], yticks=[])
    return figure


def sheet_of(
    small: Picture, at: Sequence[tuple[int, int, int]], labels: Ints, k: int, side: int
) -> NDArray[np.uint8]:
    """Thumbnails (g, s, s) at their places on the grid, framed: (h, w, 3)."""
    step, rim = small.shape[1] + 4, 3
    sheet = np.full((side * step, side * step, 3), 255, np.uint8)
    for one, (row, column, cell) in zip(small, at, strict=True):
        top, left = row * step + 2, column * step + 2
        inner = sheet[top : top + len(one), left : left + len(one)]
        inner[:] = np.rint(255 * np.array(colour(int(labels[cell]), k)[:3])).astype(np.uint8)
        inner[rim:-rim, rim:-rim] = one[rim:-rim, rim:-rim, None]
    return sheet
