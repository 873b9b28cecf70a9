"""CellProfiler's MeasureObjectIntensityDistribution of one cell: four rings from centre to rim."""

import numpy as np
from skimage.graph import MCP_Geometric

from parfocal_training.morphology.patch import Bools, Floats, Ints, Patch
from parfocal_training.morphology.shape import depths

Features = dict[str, float]

RINGS, WEDGES = 4, 8


def radial(patch: Patch, channel: str) -> Features:
    """`RadialDistribution_{FracAtD,MeanFrac,RadialCV}_Brightfield_{1..4}of4`.

    The centre is the pixel farthest from the outside. A pixel's ring is its way from there within
    the cell over that plus its distance to the outside.
    """
    ring, wedge, reached = _rings_and_wedges(patch)
    levels = patch.inside[reached]
    held = np.bincount(ring, levels, RINGS) / levels.sum() if levels.any() else np.full(4, np.nan)
    share = held / (np.bincount(ring, minlength=RINGS) / len(ring) + np.finfo(float).eps)
    varies = _variation(ring * WEDGES + wedge, levels)
    columns = {"FracAtD": held, "MeanFrac": share, "RadialCV": varies}
    return {
        f"RadialDistribution_{name}_{channel}_{i + 1}of{RINGS}": float(values[i])
        for name, values in columns.items()
        for i in range(RINGS)
    }


def _rings_and_wedges(patch: Patch) -> tuple[Ints, Ints, Bools]:
    """Ring 0-3 and wedge 0-7 of each pixel that a way within the mask leads to, and which do.

    Two of (m,), and one of (n,): a mask in several parts is measured where its centre is.
    """
    depth = depths(patch.mask)[patch.y, patch.x]
    middle = int(depth.argmax())
    y, x = int(patch.y[middle]), int(patch.x[middle])
    way = MCP_Geometric(np.where(patch.mask, 1.0, -1.0)).find_costs([(y, x)])[0]
    from_centre = way[patch.y, patch.x]  # (n,)
    reached = np.isfinite(from_centre)
    from_centre, depth = from_centre[reached], depth[reached]
    ring = (from_centre / (from_centre + depth + 1e-3) * RINGS).astype(np.int64)
    down, right = patch.y[reached] - y, patch.x[reached] - x
    wedge = (down > 0) + 2 * (right > 0) + 4 * (np.abs(down) > np.abs(right))
    return ring, wedge.astype(np.int64), reached


def _variation(place: Ints, levels: Floats) -> Floats:
    """Per ring, the coefficient of variation of the wedges' mean levels: (4,); 0 without pixels."""
    count = np.bincount(place, minlength=RINGS * WEDGES).reshape(RINGS, WEDGES)
    total = np.bincount(place, levels, RINGS * WEDGES).reshape(RINGS, WEDGES)
    out = np.zeros(RINGS)
    for i in range(RINGS):
        some = count[i] > 0
        if some.any():
            means = total[i, some] / count[i, some]
            out[i] = means.std() / means.mean() if means.any() else np.nan
    return out
