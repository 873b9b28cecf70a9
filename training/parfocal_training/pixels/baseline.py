"""The whole baseline on one crop set: components, clusters, agreements and controls."""

import argparse
from dataclasses import dataclass
from functools import partial

import numpy as np

from parfocal.normalize import normalize
from parfocal_training.cropset import CropSet
from parfocal_training.pixels.agreement import Agreement, agreement
from parfocal_training.pixels.clusters import Clustering, Floats, Ints, clusterings
from parfocal_training.pixels.components import Images, area_averaged, pixel_components
from parfocal_training.pixels.controls import Control, controls
from parfocal_training.pixels.orientation import Axes, long_axes
from parfocal_training.reference import medoid_reference

ATTRIBUTES = ("cell_line", "flask", "field", "pair", "density", "passage", "day")


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """All that the report shows of n crops; `crops` (n, s, s) are normalized."""

    crop_set: CropSet
    crops: Images
    scores: Floats
    components: Images
    explained: Floats
    axes: Axes
    found: list[Clustering]
    chosen: list[Clustering]
    agreements: dict[str, list[Agreement]]
    controls: list[Control]


def baseline(crop_set: CropSet, options: argparse.Namespace) -> Baseline:
    """Components, clusters, what they agree with, and the controls."""
    rng = np.random.default_rng(options.seed)
    margin, side = crop_set.index.rules.margin_px, crop_set.index.rules.crop_px
    bare = crop_set.crops[:, margin : margin + side, margin : margin + side]
    crops = normalize(bare, medoid_reference(bare))
    axes = long_axes(crops, crop_set.bare_masks(np.arange(len(crop_set))))
    small = area_averaged(crops, options.shrink)
    scores, components, explained = pixel_components(small, options.components)
    found, chosen = _clusterings(scores, axes, options)
    groups = np.unique(crop_set.groups, return_inverse=True)[1].astype(np.int64)
    prepare = partial(_scores, options.shrink, options.components)
    return Baseline(
        crop_set=crop_set,
        crops=crops,
        scores=scores,
        components=components,
        explained=explained,
        axes=axes,
        found=found,
        chosen=chosen,
        agreements={one.method: _agreements(crop_set, one.labels, groups, rng) for one in chosen},
        controls=controls(crops, axes, groups, chosen[0].k, prepare, rng),
    )


def _clusterings(
    scores: Floats, axes: Axes, options: argparse.Namespace
) -> tuple[list[Clustering], list[Clustering]]:
    """Those at every number of clusters, and those at the number that is asked for or fits best."""
    found = clusterings(scores, axes, range(2, options.max_clusters + 1), options.seed)
    k = (
        options.clusters
        or max((one for one in found if one.method == "k-means"), key=lambda one: one.silhouette).k
    )
    chosen = [one for one in found if one.k == k]
    return found, chosen or clusterings(scores, axes, range(k, k + 1), options.seed)


def _scores(shrink: int, n: int, crops: Images) -> Floats:
    return pixel_components(area_averaged(crops, shrink), n)[0]


def _agreements(
    crop_set: CropSet, labels: Ints, groups: Ints, rng: np.random.Generator
) -> list[Agreement]:
    rows = [row.image for row in crop_set.index.rows]
    known = {name: tuple(str(getattr(row, name)) for row in rows) for name in ATTRIBUTES}
    known = {name: values for name, values in known.items() if all(values)}
    if not {"flask", "field"} & set(known):
        known[f"group ({crop_set.index.group_kind})"] = crop_set.groups
    return [
        agreement(labels, name.replace("_", " "), values, groups, rng)
        for name, values in known.items()
        if len(set(values)) > 1
    ]
