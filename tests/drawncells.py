"""What cp_measure says of four drawn cells: the truth of `tests/test_morphology.py`.

    python tests/drawncells.py

writes golden/morphology.json with cp_measure 0.3.0 (pip install cp_measure==0.3.0), in an
environment of its own: its centrosome asks for a Pillow older than parfocal allows.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE_PX = 224


def cells() -> list[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Levels in [0, 1] and mask of each: an ellipse, a holed disc, a cross, a blob with arms."""
    y, x = np.indices((SIDE_PX, SIDE_PX)) - 111.5
    angle, away = np.arctan2(y, x), np.hypot(x, y)
    grain = np.sin(x / 3) * np.cos(y / 4.1) + 0.6 * np.sin(x * y / 150) + 0.3 * np.cos(away / 2)
    levels = 0.5 + 0.18 * grain + 0.0005 * x
    u, v = 0.8 * x + 0.6 * y, -0.6 * x + 0.8 * y
    masks = [
        (u / 52) ** 2 + (v / 19) ** 2 < 1,
        (away < 40) & (np.hypot(x - 8, y + 5) > 13),
        (np.abs(x) < 45) & (np.abs(y - 10) < 4) | (np.abs(y) < 50) & (np.abs(x + 6) < 5),
        away < 30 + 12 * np.cos(5 * angle) + 5 * np.sin(2 * angle),
    ]
    return [(levels, mask) for mask in masks]


def measured(levels: NDArray[np.float64], mask: NDArray[np.bool_]) -> dict[str, float]:
    """All core features under CellProfiler's names, texture at three scales."""
    from cp_measure.bulk import get_core_measurements  # type: ignore[import-not-found]

    labels, found = mask.astype(np.int32), dict[str, Any]()
    for family, measure in get_core_measurements(sanitize=False).items():
        if family == "texture":
            for scale in (3, 5, 10):
                found |= _named(family, measure(labels, levels, scale=scale))
        else:
            found |= _named(family, measure(labels, levels))
    return {name: float(f"{value:.12g}") for name, value in found.items()}


def _named(family: str, answers: dict[str, Any]) -> dict[str, float]:
    return {name_of(family, name): float(np.ravel(v)[0]) for name, v in answers.items()}


def name_of(family: str, name: str) -> str:
    """CellProfiler's name: cp_measure leaves out the module of some, and always the channel."""
    parts = name.split("_")
    if family in ("sizeshape", "zernike", "feret"):
        return f"AreaShape_{name}"
    if family == "texture":
        return "_".join(["Texture", parts[0], "Brightfield", *parts[1:]])
    if family.startswith("radial"):
        return "_".join([*parts[:2], "Brightfield", *parts[2:]])
    return f"{name}_Brightfield"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    answers = [measured(*cell) for cell in cells()]
    known = [{name: v for name, v in one.items() if np.isfinite(v)} for one in answers]
    text = json.dumps(known, indent=0, sort_keys=True)
    (Path(__file__).parent / "golden" / "morphology.json").write_text(text + "\n")
