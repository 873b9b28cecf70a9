"""Cell outlines: corners where a cell holds on, arcs between them, some arcs ruffled lamellae.

Knows geometry in micrometres only: no pixels, heights or optics.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.parameters import Phenotype

POINTS_PER_ARC = 24
SMOOTHING = 5
TRIES = 8
LONGEST = 1.4  # reach over sqrt(area * aspect); of an ellipse it is 0.56


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A closed outline around its own centroid (x right, y down, micrometres).

    `ruffled` is 1 along a lamella and 0 elsewhere; `corners_um` are the points that reach out.
    """

    points_um: NDArray[np.float64]  # (n, 2)
    ruffled: NDArray[np.float64]  # (n,)
    corners_um: NDArray[np.float64]  # (k, 2)


def draw_outline(
    shape: Phenotype, area_um2: float, aspect: float, rng: np.random.Generator
) -> Outline:
    """An outline of the family with exactly this area, and no longer than a cell can be.

    Deep concave arcs may leave hardly any area, which scales to a monster: such are drawn again.
    """
    for _ in range(TRIES):
        drawn = _draw(shape, area_um2, aspect, rng)
        if np.abs(drawn.points_um).max() < LONGEST * (area_um2 * aspect) ** 0.5:
            return drawn
    tame = replace(shape, bulge=0.0, bulge_sd=0.0, tail_reach=1.0, lamellae=(0, 0))
    return _draw(tame, area_um2, aspect, rng)


def _draw(shape: Phenotype, area_um2: float, aspect: float, rng: np.random.Generator) -> Outline:
    corners = _corners(shape, rng)  # (k, 2)
    bulges, lamella = _arcs(shape, len(corners), rng)
    points = _joined(corners, bulges)  # (k * POINTS_PER_ARC, 2)
    ruffled = np.repeat(lamella, POINTS_PER_ARC)
    points = _smooth(points) * [aspect**0.5, aspect**-0.5]
    points = points + _jagged(points, ruffled, rng)
    turn = _rotation(rng.uniform(0, 2 * np.pi))
    area, centroid = area_and_centroid(points)
    scale = (area_um2 / abs(area)) ** 0.5
    at_corners = points[::POINTS_PER_ARC]
    return Outline(
        (points - centroid) @ turn * scale,
        _smooth(ruffled[:, None])[:, 0],
        (at_corners - centroid) @ turn * scale,
    )


def area_and_centroid(points: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Signed area of a polygon (n, 2), and its centre of mass (2,)."""
    after = np.roll(points, -1, axis=0)
    cross = points[:, 0] * after[:, 1] - after[:, 0] * points[:, 1]  # (n,)
    area = float(cross.sum() / 2)
    centroid: NDArray[np.float64] = ((points + after) * cross[:, None]).sum(0) / (6 * area)
    return area, centroid


def _corners(shape: Phenotype, rng: np.random.Generator) -> NDArray[np.float64]:
    k = int(rng.integers(shape.corners[0], shape.corners[1] + 1))
    jitter = rng.uniform(-0.25, 0.25, k) * 2 * np.pi / k if k > 2 else np.zeros(k)
    angle = np.arange(k) * 2 * np.pi / k + jitter
    reach = np.exp(shape.reach_log_sd * rng.standard_normal(k))
    reach[0] *= shape.tail_reach
    return np.stack([np.cos(angle), np.sin(angle)], 1) * reach[:, None]


def _arcs(
    shape: Phenotype, k: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    bulges = shape.bulge + shape.bulge_sd * rng.standard_normal(k)
    lamella = np.zeros(k)
    n = min(int(rng.integers(shape.lamellae[0], shape.lamellae[1] + 1)), k)
    # the two arcs beside corner 0 form the tail: a lamella sits elsewhere if it can
    chosen = (rng.permutation(max(k - 2, 1))[:n] + 1) % k
    lamella[chosen] = 1
    bulges[chosen] = rng.uniform(0.12, 0.3, len(chosen))
    return bulges, lamella


def _joined(corners: NDArray[np.float64], bulges: NDArray[np.float64]) -> NDArray[np.float64]:
    after = np.roll(corners, -1, axis=0)
    chord = after - corners
    outward = np.stack([chord[:, 1], -chord[:, 0]], 1)
    # a quadratic arc sags half as far as its control point stands off
    control = (corners + after) / 2 + 2 * bulges[:, None] * outward
    t = (np.arange(POINTS_PER_ARC) / POINTS_PER_ARC)[None, :, None]  # (1, m, 1)
    arcs = (
        (1 - t) ** 2 * corners[:, None] + 2 * t * (1 - t) * control[:, None] + t**2 * after[:, None]
    )
    joined: NDArray[np.float64] = arcs.reshape(-1, 2)
    return joined


def _jagged(
    points: NDArray[np.float64], ruffled: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    rough = rng.standard_normal((len(points), 2)) * (0.02 + 0.07 * ruffled)[:, None]
    return _smooth(rough, 3) + 1.5 * _smooth(rough, 9)


def _smooth(values: NDArray[np.float64], width: int = SMOOTHING) -> NDArray[np.float64]:
    """Circular moving average along the outline, (n, d) -> (n, d)."""
    half = width // 2
    around = np.concatenate([values[-half - 1 :], values, values[:half]]).cumsum(0)
    smooth: NDArray[np.float64] = (around[width:] - around[:-width]) / width
    return smooth


def _rotation(angle_rad: float) -> NDArray[np.float64]:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, s], [-s, c]])
