"""Zernike moments of a cell's outline and of its grey levels, in its smallest enclosing circle."""

from functools import cache
from math import factorial

import numpy as np

from parfocal_training.morphology.outline import least_circle, pixel_hull
from parfocal_training.morphology.patch import Floats, Patch

Features = dict[str, float]

DEGREE = 9
ORDERS = tuple((n, m) for n in range(DEGREE + 1) for m in range(n % 2, n + 1, 2))
"""Radial and azimuthal order of the 30 moments."""


def zernikes(patch: Patch, channel: str) -> Features:
    """`AreaShape_Zernike_n_m` of the mask, `RadialDistribution_Zernike..._n_m` of the levels.

    The magnitude does not change when the cell turns; the phase (CellProfiler's: arctan of real
    over imaginary part, in radians) does.
    """
    centre, radius = least_circle(pixel_hull(patch.y, patch.x))
    flat, weighted = _sums(patch, centre, radius)
    outline = np.abs(flat) / (np.pi * radius**2) if radius else np.full(len(ORDERS), np.nan)
    magnitude, phase = np.abs(weighted) / len(patch.y), np.arctan2(weighted.real, weighted.imag)
    found: Features = {}
    for i, (n, m) in enumerate(ORDERS):
        found[f"AreaShape_Zernike_{n}_{m}"] = float(outline[i])
        name = f"{channel}_{n}_{m}"
        found[f"RadialDistribution_ZernikeMagnitude_{name}"] = float(magnitude[i])
        found[f"RadialDistribution_ZernikePhase_{name}"] = float(phase[i])
    return found


Sums = np.ndarray[tuple[int], np.dtype[np.complex128]]


def _sums(patch: Patch, centre: Floats, radius: float) -> tuple[Sums, Sums]:
    """Sums over pixels of each polynomial, without and with grey levels as weights: two of (30,).

    Every polynomial is a combination of r**2k * z**m, of which there are 50: their sums come from
    one product of matrices.
    """
    if not radius:
        nothing: Sums = np.zeros(len(ORDERS), np.complex128)
        return nothing, nothing
    z = ((patch.y - centre[0]) + 1j * (patch.x - centre[1])) / radius
    square = z.real**2 + z.imag**2
    kept = square <= 1 + 1e-9  # corners of the hull lie on the circle, whatever rounding says
    z, square, levels = z[kept], square[kept], patch.inside[kept]
    even = np.empty((DEGREE // 2 + 1, len(z)))  # r**2k
    turns = np.empty((DEGREE + 1, len(z)), np.complex128)  # z**m
    even[0], turns[0] = 1, 1
    for k in range(1, len(even)):
        even[k] = even[k - 1] * square
    for m in range(1, len(turns)):
        turns[m] = turns[m - 1] * z
    both = np.concatenate([even, even * levels]) @ turns.T  # (10, 10)
    flat, weighted = both[: len(even)], both[len(even) :]
    return _combined(flat), _combined(weighted)


def _combined(sums: Sums) -> Sums:
    """Sums (5, 10) of r**2k * z**m as those of the polynomials (30,)."""
    return np.array([sums[: len(_radial(n, m)), m] @ _radial(n, m) for n, m in ORDERS])


@cache
def _radial(n: int, m: int) -> Floats:
    """Coefficients of r**0, r**2, ... in the radial polynomial over r**m: ((n - m) / 2 + 1,)."""
    half, top = (n - m) // 2, (n + m) // 2
    falling = [
        (-1) ** k * factorial(n - k) / (factorial(k) * factorial(top - k) * factorial(half - k))
        for k in range(half + 1)
    ]
    return np.array(falling[::-1], np.float64)
