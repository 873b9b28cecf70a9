"""Are planted phenotypes found again, and do their shares differ as they were planted?

Simulated cells only: the folder that `parfocal simulate FOLDER --design phenotypes` drew, the crops
that `parfocal-train crops` cut from it, and what `parfocal-train phenotypes` made of them.

    python tests/bench/planted.py FOLDER PHENOTYPES
    python tests/bench/planted.py --intervals

The second draws counts instead: flasks with the planted shares, which vary from flask to flask, and
asks how often the interval of a difference holds the planted one, and has its sign.
"""

import argparse
import csv
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
from sklearn.metrics import adjusted_rand_score

from parfocal.simulator.designs import HIGH_PER_MM2, LOW_PER_MM2
from parfocal.simulator.planted import PLANTED
from parfocal_training.phenotypes.differences import welch

NEAR_PX = 15
"""A crop's centre and that of the true cell lie no farther apart."""


def planted(folder: Path, image: str, x_px: float, y_px: float) -> str | None:
    """The phenotype of the cell that was drawn at a place; None where none was, or two."""
    truth = folder.parent / f"{folder.name}-truth" / f"{Path(image).stem}.truth.json"
    cells = msgspec.json.decode(truth.read_bytes())["cells"]
    near = [c for c in cells if np.hypot(c["x_px"] - x_px, c["y_px"] - y_px) < NEAR_PX]
    return near[0]["phenotype"] if len(near) == 1 else None


def intervals(flasks: int, cells: int, concentration: float, runs: int) -> None:
    """Print coverage and sign of the differences that `phenotypes` gives between two densities.

    Shares of a flask are Dirichlet about the planted ones with this concentration.
    """
    rng = np.random.default_rng(0)
    shares = [PLANTED.mixture(density) for density in (LOW_PER_MM2, HIGH_PER_MM2)]
    true = shares[1] - shares[0]
    held, right, told = 0, 0, 0
    for _ in range(runs):
        counts = [
            np.stack(
                [rng.multinomial(cells, rng.dirichlet(p * concentration)) for _ in range(flasks)]
            )
            for p in shares
        ]
        n = np.full(flasks, cells)
        for j, wanted in enumerate(true):
            difference, half, _ = welch(counts[0][:, j], n, counts[1][:, j], n)
            held += abs(difference - wanted) <= half
            if abs(difference) > half:
                told += 1
                right += difference * wanted > 0
    every = runs * len(true)
    print(
        f"{flasks} flasks a side, {cells} cells each, concentration {concentration:g}: intervals "
        f"hold the truth in {held / every:.1%} of {every}; {told / every:.1%} exclude 0, of these "
        f"{right / max(told, 1):.1%} with the right sign"
    )


def main() -> None:
    """Print how clusters and planted phenotypes go together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("phenotypes", type=Path, nargs="?")
    parser.add_argument("--intervals", action="store_true", help="of drawn counts; no folders")
    options = parser.parse_args()
    if options.intervals or options.folder is None or options.phenotypes is None:
        for flasks, cells, concentration in ((4, 65, 1e6), (4, 65, 100), (4, 65, 30), (8, 65, 100)):
            intervals(flasks, cells, concentration, 2000)
        return
    with (options.phenotypes / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    truth = [
        planted(options.folder, row["path"], float(row["x_px"]), float(row["y_px"])) for row in rows
    ]
    known = [i for i, one in enumerate(truth) if one]
    names = np.array([truth[i] for i in known])
    for column in ("phenotype", "single_view"):
        found = np.array([rows[i][column] for i in known])
        rand = adjusted_rand_score(names, found)
        print(
            f"{column}: adjusted Rand index {rand:.3f}, {len(known)} of {len(rows)} cells matched"
        )
        for one in sorted(set(found)):
            counts = Counter(names[found == one])
            print(f"  {one}: " + ", ".join(f"{n} {name}" for name, n in counts.most_common()))


if __name__ == "__main__":
    main()
