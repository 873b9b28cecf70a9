"""The figures of a phenotyping, drawn once into `figures/`; they show numbers, never names."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from parfocal_training.leftout import numbered
from parfocal_training.phenotypes import figures, maps
from parfocal_training.phenotypes.comparisons import counts
from parfocal_training.phenotypes.differences import Difference
from parfocal_training.phenotypes.space import Ints
from parfocal_training.phenotypes.study import Cells, Study
from parfocal_training.phenotypes.trends import Trend, of_flasks
from parfocal_training.report import drawn
from parfocal_training.write import write_whole

GRID = 18
"""Thumbnails along each side of the map."""


def write_pictures(made: Study, cells: Cells, folder: Path) -> None:
    """Every figure as `figures/NAME.png`, and the montage beside the report too."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for old in (folder / "figures").glob("*.png"):
        old.unlink()  # one of an earlier clustering would be shown as this one's
    if cells.profile is not None:
        write_whole(folder / "figures" / "training.png", cells.profile)
    for name, figure in _pictures(made, cells):
        png = drawn(figure)
        write_whole(folder / "figures" / f"{name}.png", png)
        if name == "montage":
            write_whole(folder / "montage.png", png)


def _pictures(made: Study, cells: Cells) -> Iterator[tuple[str, Figure]]:
    found = made.results
    yield "montage", _montage(made, cells)
    yield "curves", figures.curves(found.sweep, found.k_sought or found.k, found.elbow_k)
    yield "matrices", figures.matrices(made.lca.mean.astype(float), made.labels)
    yield "distances", figures.distance_matrix(made.points, made.labels)
    yield "spread", figures.spread(*made.spread, found.spread)
    if (split := density_cells(made, cells)) is not None:
        yield "density-cells", split
    yield "tsne", _tsne(made, cells)
    by_group = [one for one in found.shares if one.attribute == found.group_kind]
    yield "groups", figures.group_fractions(by_group)
    for attribute in dict.fromkeys(one.attribute for one in found.shares):
        if attribute != found.group_kind:
            name = f"fractions-{attribute.replace(' ', '-')}"
            yield name, figures.value_fractions(found.shares, attribute)
    for attribute in dict.fromkeys(one.attribute for one in found.trends):
        yield f"trend-{attribute}", _trend(made, cells, attribute)


def _trend(made: Study, cells: Cells, attribute: str) -> Figure:
    rows = [row.image for row in cells.crop_set.index.rows]
    mine = [one for one in made.results.trends if one.attribute == attribute]
    points = {}
    for line in dict.fromkeys(one.cells for one in mine):
        at = [i for i, row in enumerate(rows) if row.cell_line == line]
        flask = numbered(tuple(rows[i].group for i in at))[1]
        hits, n = counts(made.labels[at], flask, made.results.k)
        values = of_flasks(tuple(getattr(rows[i], attribute) for i in at), flask)
        points[line] = values, hits / n[:, None]
    return figures.trend(points, mine, attribute)


def density_cells(made: Study, cells: Cells) -> Figure | None:
    """Cells of the two phenotypes that density changes most, at low and at high density.

    After the paper's Fig. 5g; in the cell line where the evidence is strongest. None where nothing
    was tested.
    """
    every: list[Trend | Difference] = [*made.results.trends, *made.results.differences]
    tests = [one for one in every if one.attribute == "density"]
    if not tests:
        return None
    best = min(tests, key=lambda one: one.p_holm)
    same = [one for one in tests if type(one) is type(best) and one.cells == best.cells]
    if isinstance(best, Difference):
        ends = (best.first, best.second)
        same = [o for o in same if isinstance(o, Difference) and (o.first, o.second) == ends]
    there = _at_ends(best, cells)
    said, chosen = [], []
    groups = numbered(cells.crop_set.groups)[1]
    for one in dict.fromkeys((min(same, key=_change), max(same, key=_change))):
        j = one.phenotype - 1
        for name, some in there.items():
            mine = int((made.labels[some] == j).sum())
            if mine:
                picked = maps.representatives(made.points[some], made.labels[some], groups[some], j)
                said.append(f"phenotype {j + 1}\ndensity {name}\n{mine} of {len(some)} cells")
                chosen.append([int(some[i]) for i in picked])
    reference = cells.networks[0].pixels.reference_distribution()
    shown = [cell for row in chosen for cell in row]
    small = maps.thumbnails(cells.crop_set, shown, reference, maps.THUMBNAIL_PX)
    ends_at = np.cumsum([len(row) for row in chosen])[:-1]
    return maps.lines(np.split(small, ends_at), said)


def _change(one: Trend | Difference) -> float:
    return one.rho if isinstance(one, Trend) else one.difference


def _at_ends(best: Trend | Difference, cells: Cells) -> dict[str, Ints]:
    """Cells of a test's line at its two ends: their places, by the name of the end."""
    rows = [row.image for row in cells.crop_set.index.rows]
    mine = np.array([i for i, row in enumerate(rows) if row.cell_line == best.cells])
    values = tuple(rows[i].density for i in mine)
    if isinstance(best, Difference):
        texts = np.array(values)
        return {end: mine[texts == end] for end in (best.first, best.second)}
    flask = numbered(tuple(rows[i].group for i in mine))[1]
    of_cell = of_flasks(values, flask)[flask]
    return {
        f"{third.first:g} to {third.last:g}": mine[
            (of_cell >= third.first) & (of_cell <= third.last)
        ]
        for third in (best.thirds[0], best.thirds[-1])
    }


def _montage(made: Study, cells: Cells) -> Figure:
    groups = numbered(cells.crop_set.groups)[1]
    reference = cells.networks[0].pixels.reference_distribution()
    rows = [
        maps.thumbnails(
            cells.crop_set,
            maps.representatives(made.points, made.labels, groups, j),
            reference,
            maps.THUMBNAIL_PX,
        )
        for j in range(made.results.k)
    ]
    return maps.montage(rows, [one.cells for one in made.results.clusters])


def _tsne(made: Study, cells: Cells) -> Figure:
    some, places = maps.mapped(made.points, made.results.seed)
    at = maps.grid_cells(places, GRID)
    reference = cells.networks[0].pixels.reference_distribution()
    shown = [int(some[place]) for _, _, place in at]
    small = maps.thumbnails(cells.crop_set, shown, reference, maps.SMALL_PX)
    labels, k = made.labels[some], made.results.k
    return maps.tsne(places, labels, k, maps.sheet_of(small, at, labels, k, GRID))
