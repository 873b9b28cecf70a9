"""How cells lie in their crops: their long axes, and crops turned by them.

An orientation has no direction: it is an axis, known modulo 180 degrees, so every statistic works
on the doubled angle (Mardia and Jupp 2000, Directional Statistics, section 9.1).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal_training.errors import DataError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Images = NDArray[np.float32]

ASPECT = 1.3
"""Long over short axis from which a cell counts as elongated: a rounder one has no orientation."""

SMOOTH = 1 / 56
"""SD of the Gaussian that joins a cell's rim and grain, as a share of the crop's side (4 px)."""


@dataclass(frozen=True, slots=True, eq=False)
class Axes:
    """Long axes of n cells; NaN where a mask is empty, or no foreground is in the middle.

    `angle_rad` (n,) in [0, pi): 0 is along a row, pi / 4 rises to the upper right as seen on a
    screen. `aspect` (n,) is the ratio of the mask's principal standard deviations. `whole`
    (n,): the mask or foreground does not touch the edge of the crop, so it is that of a single,
    whole cell and not of a cell with its neighbours.
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


def axes_of(crops: Images, masks: Bools | None = None) -> Axes:
    """The long axis of the central cell of each crop (n, s, s), from its mask (n, s, s) if known.

    Without masks a cell is the foreground of its crop.
    """
    masks = np.array([foreground(crop) for crop in crops]) if masks is None else masks
    found = np.array([long_axis(mask) for mask in masks]).reshape(-1, 2)  # (n, 2)
    rim = [mask[0].any() | mask[-1].any() | mask[:, 0].any() | mask[:, -1].any() for mask in masks]
    return Axes(found[:, 0], found[:, 1], np.isfinite(found[:, 0]) & ~np.array(rim, bool))


def turned(crops: Images, by_rad: Floats) -> Images:
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


def disc(crops: Images) -> Images:
    """Crops (n, s, s) with everything outside the inscribed disc at the crop's median."""
    side = crops.shape[1]
    y, x = np.indices(crops.shape[1:]) - (side - 1) / 2
    level = np.median(crops, axis=(1, 2), keepdims=True)  # (n, 1, 1)
    return np.where(np.hypot(x, y) <= side / 2 - 1, crops, level).astype(np.float32)


def long_axes(crops: Images, masks: Bools | None = None) -> Axes:
    """The long axis of each normalized crop (n, s, s), from its mask (n, s, s) if known.

    Raises
    ------
    DataError
        Too few elongated cells to say what clusters follow.
    """
    axes = axes_of(crops, masks)
    if axes.elongated.sum() < 10:
        raise DataError(
            f"{int(axes.elongated.sum())} of {len(crops)} cells are elongated and whole in their "
            "crop: 10 are the least from which orientation can be told"
        )
    return axes
