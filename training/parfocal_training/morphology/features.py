"""All features of one cell, under the names that CellProfiler gives them where it has them."""

import hashlib
from collections.abc import Mapping
from functools import cache

import numpy as np

from parfocal_training.morphology.granularity import granularity
from parfocal_training.morphology.intensity import intensity
from parfocal_training.morphology.patch import Bools, Floats, patch_of
from parfocal_training.morphology.radial import radial
from parfocal_training.morphology.shape import shape
from parfocal_training.morphology.skeleton import skeleton
from parfocal_training.morphology.texture import texture
from parfocal_training.morphology.zernike import zernikes

Features = dict[str, float]

FEATURE_VERSION = 2
"""Goes up whenever a definition changes: stored features of another version are made again."""

CHANNEL = "Brightfield"

IN_UM = {
    **{f"AreaShape_{name}": (f"AreaShape_{name}_um2", 2)
       for name in ("Area", "ConvexArea", "FilledArea", "BoundingBoxArea")},
    **{f"AreaShape_{name}": (f"AreaShape_{name}_um", 1)
       for name in ("Perimeter", "EquivalentDiameter", "MajorAxisLength", "MinorAxisLength",
                    "MinFeretDiameter", "MaxFeretDiameter", "MaximumRadius")},
    "Skeleton_Length": ("Skeleton_Length_um", 1),
}  # fmt: skip
"""Sizes in pixels, and what they are called in micrometres, with the power of the pixel size."""

PLACES = (
    *("Location_", "AreaShape_Center_"),
    *("AreaShape_BoundingBoxMinimum_", "AreaShape_BoundingBoxMaximum_"),
)
"""Where a cell lies in its crop."""

TURNED = (
    *("AreaShape_Orientation", "AreaShape_SpatialMoment_", "AreaShape_CentralMoment_"),
    *("AreaShape_NormalizedMoment_", "AreaShape_InertiaTensor_"),
    "RadialDistribution_ZernikePhase_",
)
"""How a cell lies in its crop: these change when it is turned or mirrored."""


def measured(levels: Floats, mask: Bools, um_per_px: float) -> Features:
    """Every feature of the cell that a mask marks in a normalized crop.

    Parameters
    ----------
    levels : ndarray of shape (s, s), float64
        Grey levels in [0, 1].
    mask : ndarray of shape (s, s), bool
        Not empty.
    um_per_px : float
        Pixel size; sizes stand in the table in pixels, as CellProfiler has them, and in um.
    """
    patch = patch_of(levels, mask)
    found = {
        **shape(patch),
        **zernikes(patch, CHANNEL),
        **intensity(patch, CHANNEL),
        **texture(patch, CHANNEL),
        **granularity(levels, mask, CHANNEL),
        **radial(patch, CHANNEL),
        **skeleton(patch),
    }
    return found | in_um(found, um_per_px)


def in_um(found: Mapping[str, float], um_per_px: float) -> Features:
    """Sizes in micrometres of features in pixels."""
    return {new: found[name] * um_per_px**power for name, (new, power) in IN_UM.items()}


@cache
def feature_names() -> tuple[str, ...]:
    """Names of all features, in the order of the table."""
    mask = np.zeros((64, 64), bool)
    mask[24:40, 20:44] = True
    return tuple(measured(np.full((64, 64), 0.5), mask, 1.0))


def ranked(names: tuple[str, ...]) -> tuple[str, ...]:
    """The features that can tell clusters apart.

    Neither where nor how a cell lies under the camera is a property of the cell; a size counts
    once, in pixels.
    """
    again = {new for new, _ in IN_UM.values()}
    return tuple(n for n in names if not n.startswith((*PLACES, *TURNED)) and n not in again)


def feature_key(pixels_sha256: str, masks_sha256: str, margin_px: int, um_per_px: float) -> str:
    """SHA-256 of what the features of a crop set depend on: nothing that is known of its flasks."""
    text = f"{FEATURE_VERSION}\n{pixels_sha256}\n{masks_sha256}\n{margin_px}\n{um_per_px}\n"
    return hashlib.sha256(text.encode()).hexdigest()
