"""How cells lie in their crops, and how far clusters follow it.

An orientation has no direction: it is an axis, known modulo 180 degrees, so every statistic works
on the doubled angle (Mardia and Jupp 2000, Directional Statistics, section 9.1).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ASPECT = 1.3
"""Long over short axis from which a cell counts as elongated: a rounder one has no orientation."""

SMOOTH = 1 / 56
"""SD of the Gaussian that joins a cell's rim and grain, as a share of the crop's side (4 px)."""


@dataclass(frozen=True, slots=True, eq=False)
class Axes:
    """Long axes of n cells; NaN where no foreground lies in the middle of the crop.

    `angle_rad` (n,) in [0, pi): 0 is along a row, pi / 4 rises to the upper right as seen on a
    screen. `aspect` (n,) is the ratio of the foreground's principal standard deviations. `whole`
    (n,): the foreground does not touch the edge of the crop, so it is that of a single, whole cell
    and not of a cell with its neighbours.
    """

    angle_rad: Floats
    aspect: Floats
    whole: Bools

    @property
    def elongated(self) -> Bools:
        """Cells (n,) that lie whole in their crop and are long enough to have an orientation."""
        return self.whole & (np.nan_to_num(self.aspect) >= ASPECT)


def foreground(crop: NDArray[np.float32]) -> Bools:
    """What differs from the background and lies in the middle: (s, s), all False if nothing.

    |level - median|, smoothed, split by Otsu's threshold of its logarithm (a dark rim would else
    raise the threshold above the grain within); of its components, holes filled, the one with most
    pixels in the central disc of an eighth of the side.
    """
    side = len(crop)
    smooth = np.log1p(cv2.GaussianBlur(np.abs(crop - np.median(crop)), (0, 0), side * SMOOTH))
    scaled = np.rint(smooth / max(float(smooth.max()), 1e-9) * 255).astype(np.uint8)
    _, split = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    rims, _ = cv2.findContours(split, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(split), rims, -1, 255, cv2.FILLED)
    n, labels = cv2.connectedComponents(filled)
    y, x = np.indices(crop.shape) - (side - 1) / 2
    votes = np.bincount(labels[np.hypot(x, y) <= side / 8], minlength=n)
    votes[0] = 0
    inside: Bools = labels == int(votes.argmax()) if votes.any() else np.zeros(crop.shape, bool)
    return inside


def long_axis(mask: Bools) -> tuple[float, float]:
    """Angle in radians, in [0, pi), and aspect of a mask (s, s) from its second moments."""
    y, x = np.nonzero(mask)
    if len(x) < 2:
        return float("nan"), float("nan")
    cxx, cyy = x.var() + 1 / 12, y.var() + 1 / 12  # a pixel has an extent of its own
    cxy = -float(((x - x.mean()) * (y - y.mean())).mean())  # rows run down, angles count upwards
    half, split = (cxx + cyy) / 2, np.hypot((cxx - cyy) / 2, cxy)
    angle = 0.5 * np.arctan2(2 * cxy, cxx - cyy) % np.pi
    return float(angle), float(np.sqrt((half + split) / (half - split)))


def axes_of(crops: NDArray[np.float32]) -> Axes:
    """The long axis of the central cell of each crop (n, s, s)."""
    masks = [foreground(crop) for crop in crops]
    found = np.array([long_axis(mask) for mask in masks]).reshape(-1, 2)  # (n, 2)
    rim = [mask[0].any() | mask[-1].any() | mask[:, 0].any() | mask[:, -1].any() for mask in masks]
    return Axes(found[:, 0], found[:, 1], np.isfinite(found[:, 0]) & ~np.array(rim, bool))


def turned(crops: NDArray[np.float32], by_rad: Floats) -> NDArray[np.float32]:
    """Crops (n, s, s) turned counter-clockwise about their centres; what was outside is reflected.

    Only the inscribed disc shows true pixels: see `disc`.
    """
    centre = ((crops.shape[2] - 1) / 2, (crops.shape[1] - 1) / 2)
    out = np.empty_like(crops)
    for crop, angle, target in zip(crops, by_rad, out, strict=True):
        matrix = cv2.getRotationMatrix2D(centre, float(np.rad2deg(angle)), 1.0)
        size = (crop.shape[1], crop.shape[0])
        cv2.warpAffine(crop, matrix, size, dst=target, borderMode=cv2.BORDER_REFLECT_101)
    return out


def disc(crops: NDArray[np.float32]) -> NDArray[np.float32]:
    """Crops (n, s, s) with everything outside the inscribed disc at the crop's median."""
    side = crops.shape[1]
    y, x = np.indices(crops.shape[1:]) - (side - 1) / 2
    level = np.median(crops, axis=(1, 2), keepdims=True)  # (n, 1, 1)
    return np.where(np.hypot(x, y) <= side / 2 - 1, crops, level).astype(np.float32)


def orientation_r2(clusters: Ints, angles_rad: Floats, elongated: Bools) -> float:
    """Share of the variance of orientation that clusters explain, adjusted for their number.

    One-way analysis of variance of (cos 2a, sin 2a) over the elongated cells, both coordinates
    pooled; adjusted R2 = 1 - (1 - R2) (n - 1) / (n - k). 0 is what clusters without regard to
    orientation have on average (a sample can fall below), 1 says that a cluster is an orientation.
    NaN when there are no more elongated cells than clusters.

    Parameters
    ----------
    clusters, angles_rad, elongated : ndarrays of shape (n,)
        Cells that are not elongated are left out.
    """
    of = np.unique(clusters[elongated], return_inverse=True)[1]
    return _r2(of, _doubled(angles_rad[elongated]))


def _doubled(angles_rad: Floats) -> Floats:
    return np.stack([np.cos(2 * angles_rad), np.sin(2 * angles_rad)])  # (2, n)


def _r2(of: NDArray[np.intp], axis: Floats) -> float:
    """Adjusted R2 of cluster numbers (n,) on unit vectors (2, n), whose squares sum to n."""
    sizes = np.bincount(of)
    n, k = len(of), int((sizes > 0).sum())
    sums = np.stack([np.bincount(of, coordinate, len(sizes)) for coordinate in axis])  # (2, k)
    total = n - (axis.sum(1) ** 2).sum() / max(n, 1)
    if n <= k or total <= 1e-9 * n:
        return float("nan")
    within = n - ((sums**2).sum(0) / np.maximum(sizes, 1)).sum()
    return float(1 - within / total * (n - 1) / (n - k))


@dataclass(frozen=True, slots=True)
class Following:
    """How far clusters follow orientation.

    `low` and `high` bound the 95 % interval over groups; `null_high` is what 95 % of clusterings
    without regard to orientation stay below; `p` is the one-sided permutation p-value.
    """

    r2: float
    low: float
    high: float
    null_high: float
    p: float
    n_elongated: int
    n_groups: int


def following(
    clusters: Ints,
    angles_rad: Floats,
    elongated: Bools,
    groups: Ints,
    rng: np.random.Generator,
    draws: int = 1000,
) -> Following:
    """Adjusted R2 of the clusters on orientation, with a bootstrap over groups and its null.

    The null permutes orientations within each group (cells that are alone in theirs change places
    with each other), so what a group's cells share by lying in one flask or field stays.
    """
    of = np.unique(clusters[elongated], return_inverse=True)[1]
    axis, group = _doubled(angles_rad[elongated]), groups[elongated]
    r2, n_groups = _r2(of, axis), len(np.unique(group))
    if not np.isfinite(r2):
        return Following(r2, r2, r2, r2, r2, len(of), n_groups)
    low, high = _interval(of, axis, group, r2, rng, draws)
    strata = _strata(group)
    null = np.array([_r2(of, axis[:, _shuffled(strata, rng)]) for _ in range(draws)])
    p = float((1 + (null >= r2 - 1e-12).sum()) / (1 + draws))
    return Following(r2, low, high, float(np.quantile(null, 0.95)), p, len(of), n_groups)


def _interval(
    of: NDArray[np.intp],
    axis: Floats,
    group: Ints,
    r2: float,
    rng: np.random.Generator,
    draws: int,
) -> tuple[float, float]:
    places = [np.flatnonzero(group == g) for g in np.unique(group)]
    found = []
    for _ in range(draws):
        some = np.concatenate([places[i] for i in rng.integers(len(places), size=len(places))])
        found.append(_r2(of[some], axis[:, some]))
    drawn = np.array(found)[np.isfinite(found)]
    if not len(drawn):
        return float("nan"), float("nan")
    bias = drawn.mean() - r2  # cells drawn twice make clusters look tighter than they are
    low, high = np.quantile(drawn - bias, [0.025, 0.975])
    return float(low), float(min(high, 1.0))


def _strata(group: Ints) -> Ints:
    _, of, sizes = np.unique(group, return_inverse=True, return_counts=True)
    strata: Ints = np.where(sizes[of] > 1, of, -1)
    return strata


def _shuffled(strata: Ints, rng: np.random.Generator) -> Ints:
    """A permutation (n,) that keeps every cell in its stratum."""
    places = np.argsort(strata, kind="stable")
    mixed = np.lexsort((rng.random(len(strata)), strata))
    out = np.empty_like(places)
    out[places] = mixed
    return out
