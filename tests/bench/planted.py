"""Are planted phenotypes found again, and do their shares differ as they were planted?

Simulated cells only: the folder that `parfocal simulate FOLDER --design phenotypes` drew, the crops
that `parfocal-train crops` cut from it, and what `parfocal-train phenotypes` made of them.

    python tests/bench/planted.py FOLDER PHENOTYPES
"""

import argparse
import csv
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
from sklearn.metrics import adjusted_rand_score

NEAR_PX = 15
"""A crop's centre and that of the true cell lie no farther apart."""


def planted(folder: Path, image: str, x_px: float, y_px: float) -> str | None:
    """The phenotype of the cell that was drawn at a place; None where none was, or two."""
    truth = folder.parent / f"{folder.name}-truth" / f"{Path(image).stem}.truth.json"
    cells = msgspec.json.decode(truth.read_bytes())["cells"]
    near = [c for c in cells if np.hypot(c["x_px"] - x_px, c["y_px"] - y_px) < NEAR_PX]
    return near[0]["phenotype"] if len(near) == 1 else None


def main() -> None:
    """Print how clusters and planted phenotypes go together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("phenotypes", type=Path)
    options = parser.parse_args()
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
        print(f"{column}: adjusted Rand index {rand:.3f}, {len(known)} of {len(rows)} cells matched")
        for one in sorted(set(found)):
            counts = Counter(names[found == one])
            print(f"  {one}: " + ", ".join(f"{n} {name}" for name, n in counts.most_common()))


if __name__ == "__main__":
    main()
