"""How much of the measured shape of cells their phenotypes explain, beside clusters of pixels.

The phenotypes that `parfocal-train phenotypes` found, and a CSV table with the columns crop (file
name), image, aspect, circularity and area_um2. Shares are adjusted R2 of a one-way analysis of
variance; differences have 95 % intervals from a bootstrap over images.

    python tests/bench/shapes.py PHENOTYPES CROPS TABLE
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parfocal_training import cropset
from parfocal_training.phenotypes.origins import oriented, pixel_clusters, pixels_of
from parfocal_training.reference import medoid_reference

DRAWS = 1000


def explained(clusters: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    """Adjusted R2 of clusters (n,) on values (n,)."""
    _, of, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    means = np.bincount(of, values) / sizes
    left = ((values - means[of]) ** 2).sum() / ((values - values.mean()) ** 2).sum()
    return float(1 - left * (len(values) - 1) / (len(values) - len(sizes)))


def main() -> None:
    """Print shares, differences with intervals, and how far clusters follow orientation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("phenotypes", "crops", "table"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    with (options.phenotypes / "cells.csv").open(newline="") as file:
        found = np.array([int(row["phenotype"]) for row in csv.DictReader(file)])
    with options.table.open(newline="") as file:
        told = {row["crop"]: row for row in csv.DictReader(file)}
    crop_set = cropset.load(options.crops)
    rows = [told[Path(row.image.path).name] for row in crop_set.index.rows]
    every = np.arange(len(crop_set))
    pixels = pixels_of(crop_set, medoid_reference(crop_set.bare(every)), 4)
    k = len(set(found.tolist()))
    other = pixel_clusters(pixels, k, 1)
    rng = np.random.default_rng(0)
    _, image = np.unique([row["image"] for row in rows], return_inverse=True)
    places = [np.flatnonzero(image == one) for one in range(int(image.max()) + 1)]
    print(f"{len(found)} cells, {len(places)} images, k = {k}")
    for name, change in (("aspect", np.log), ("circularity", np.asarray), ("area_um2", np.asarray)):
        values = change(np.array([float(row[name]) for row in rows]))
        drawn = []
        for _ in range(DRAWS):
            some = np.concatenate([places[i] for i in rng.integers(len(places), size=len(places))])
            drawn.append(
                explained(found[some], values[some]) - explained(other[some], values[some])
            )
        low, high = np.quantile(drawn, [0.025, 0.975])
        mine, theirs = explained(found, values), explained(other, values)
        print(f"{name}: {mine:.3f}, pixels {theirs:.3f}, difference {mine - theirs:+.3f} "
              f"({low:+.3f} to {high:+.3f})")  # fmt: skip
    for one in oriented({"LCA": found, "pixels": other}, pixels.axes, image, rng):
        print(f"orientation, {one.method}: {one.r2:.3f} ({one.low:.3f} to {one.high:.3f})")


if __name__ == "__main__":
    main()
