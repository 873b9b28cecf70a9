"""What clusters of LCAs and clusters of pixels follow: orientation, flasks, densities."""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.normalize import Reference, normalize
from parfocal_training.cropset import CropSet
from parfocal_training.leftout import numbered
from parfocal_training.phenotypes.progress import Watched, unwatched
from parfocal_training.phenotypes.space import Ints
from parfocal_training.pixels.agreement import agreement
from parfocal_training.pixels.baseline import ATTRIBUTES
from parfocal_training.pixels.clusters import k_means
from parfocal_training.pixels.components import area_averaged, pixel_components
from parfocal_training.pixels.following import following
from parfocal_training.pixels.orientation import Axes, axes_of

LEAST_ELONGATED = 10
COMPONENTS = 10
"""Of pixels, as `parfocal-train pca` has by default."""

LCA, MEDOIDS, PIXELS = "LCA", "LCA, k-medoids", "pixels (PCA)"


class Oriented(msgspec.Struct, frozen=True, kw_only=True):
    """Adjusted R2 of clusters on orientation, as `parfocal-train pca` measures it."""

    method: str
    r2: float
    low: float
    high: float
    null_high: float
    p: float
    n_elongated: int


class Attribute(msgspec.Struct, frozen=True, kw_only=True):
    """Adjusted Rand index of clusters and an attribute, with its interval over groups."""

    method: str
    attribute: str
    values: int
    rand: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """Crops averaged to (n, h, w), and the long axes of their cells."""

    small: NDArray[np.float32]
    axes: Axes


def pixels_of(
    crop_set: CropSet, reference: Reference, shrink: int, watched: Watched = unwatched
) -> Pixels:
    """Normalized crops, a few at a time: n whole ones in float32 would need gigabytes."""
    small, axes = [], []
    for at in watched(range(0, len(crop_set), 64), "pixels"):
        some = np.arange(at, min(at + 64, len(crop_set)))
        crops = normalize(crop_set.bare(some), reference)
        small.append(area_averaged(crops, shrink))
        axes.append(axes_of(crops, crop_set.bare_masks(some)))
    joined = Axes(
        *(np.concatenate([getattr(a, f) for a in axes]) for f in ("angle_rad", "aspect", "whole"))
    )
    return Pixels(np.concatenate(small), joined)


def pixel_clusters(pixels: Pixels, k: int, seed: int) -> Ints:
    """K-means (n,) on the first principal components of pixels: the paper's Fig. S4."""
    scores = pixel_components(pixels.small, min(COMPONENTS, len(pixels.small) - 1))[0]
    return k_means(scores, k, seed)


def oriented(
    clusterings: dict[str, Ints],
    axes: Axes,
    groups: Ints,
    rng: np.random.Generator,
    watched: Watched = unwatched,
) -> tuple[Oriented, ...]:
    """How far each clustering (n,) follows orientation; nothing with too few elongated cells.

    Too few are also no more than there are clusters: then there is no adjusted R2.
    """
    if axes.elongated.sum() < LEAST_ELONGATED:
        return ()
    out = []
    for method, labels in watched(tuple(clusterings.items()), "orientation"):
        one = following(labels, np.nan_to_num(axes.angle_rad), axes.elongated, groups, rng)
        out.append(
            Oriented(
                method=method,
                r2=one.r2,
                low=one.low,
                high=one.high,
                null_high=one.null_high,
                p=one.p,
                n_elongated=one.n_elongated,
            )
        )
    return tuple(out) if all(np.isfinite([one.r2, one.low, one.high]).all() for one in out) else ()


def attributes(
    clusterings: dict[str, Ints],
    crop_set: CropSet,
    rng: np.random.Generator,
    watched: Watched = unwatched,
) -> tuple[Attribute, ...]:
    """Agreement of each clustering (n,) with whatever is recorded of every cell."""
    groups = numbered(crop_set.groups)[1]
    out = []
    for name, values in watched(tuple(_recorded(crop_set).items()), "what is known of cells"):
        for method, labels in clusterings.items():
            one = agreement(labels, name, values, groups, rng)
            out.append(
                Attribute(
                    method=method,
                    attribute=one.attribute,
                    values=one.values,
                    rand=one.rand,
                    low=one.low,
                    high=one.high,
                )
            )
    return tuple(out)


def _recorded(crop_set: CropSet) -> dict[str, tuple[str, ...]]:
    rows = [row.image for row in crop_set.index.rows]
    known = {name: tuple(str(getattr(row, name)) for row in rows) for name in ATTRIBUTES}
    known = {name.replace("_", " "): values for name, values in known.items() if all(values)}
    if not {"flask", "field"} & set(known):
        known[f"group ({crop_set.index.group_kind})"] = crop_set.groups
    return {name: values for name, values in known.items() if len(set(values)) > 1}
