"""CellProfiler's MeasureObjectIntensity of one cell: `Intensity_...` and `Location_...`."""

import cv2
import numpy as np

from parfocal_training.morphology.patch import Bools, Floats, Patch

Features = dict[str, float]

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def intensity(patch: Patch, channel: str) -> Features:
    """Grey levels in [0, 1] of a cell and of its outermost pixels, and where in the crop they lie.

    Quartiles are NumPy's; MAD is the median absolute deviation from the median.
    """
    levels = patch.inside
    total = float(levels.sum())
    lower, median, upper = (float(v) for v in np.percentile(levels, [25, 50, 75]))
    centre_y, centre_x = _centre(patch, levels, total)
    brightest = int(levels.argmax())
    values = {
        "IntegratedIntensity": total,
        "MeanIntensity": float(levels.mean()),
        "StdIntensity": float(levels.std()),
        "MinIntensity": float(levels.min()),
        "MaxIntensity": float(levels.max()),
        "MassDisplacement": float(np.hypot(centre_y - patch.y.mean(), centre_x - patch.x.mean())),
        "LowerQuartileIntensity": lower,
        "MedianIntensity": median,
        "UpperQuartileIntensity": upper,
        "MADIntensity": float(np.median(np.abs(levels - median))),
        **_edge(patch.levels[rim(patch.mask)]),
    }
    places = {
        "CenterMassIntensity_X": centre_x + patch.left,
        "CenterMassIntensity_Y": centre_y + patch.top,
        "MaxIntensity_X": float(patch.x[brightest] + patch.left),
        "MaxIntensity_Y": float(patch.y[brightest] + patch.top),
    }
    return {f"Intensity_{name}_{channel}": value for name, value in values.items()} | {
        f"Location_{name}_{channel}": value for name, value in places.items()
    }


def _centre(patch: Patch, levels: Floats, total: float) -> tuple[float, float]:
    """Row and column of the centre of mass in the patch; NaN in a black cell."""
    if not total:
        return float("nan"), float("nan")
    return float(patch.y @ levels / total), float(patch.x @ levels / total)


def rim(mask: Bools) -> Bools:
    """Pixels of a mask (h, w) with a neighbour outside; beyond the crop nothing is known."""
    within: Bools = cv2.erode(mask.astype(np.uint8), CROSS).astype(bool)
    return mask & ~within


def _edge(levels: Floats) -> Features:
    """Grey levels of the rim; 0 without one, as in CellProfiler."""
    if not len(levels):
        levels = np.zeros(1)
    return {
        "IntegratedIntensityEdge": float(levels.sum()),
        "MeanIntensityEdge": float(levels.mean()),
        "StdIntensityEdge": float(levels.std()),
        "MinIntensityEdge": float(levels.min()),
        "MaxIntensityEdge": float(levels.max()),
    }
