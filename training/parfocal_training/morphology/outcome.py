"""What `parfocal-train morphology` does and writes."""

import argparse
import os
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import Progress

from parfocal.normalize import normalize
from parfocal_training import cropset
from parfocal_training.cropset import CropSet
from parfocal_training.errors import UsageError
from parfocal_training.jsonlines import emit
from parfocal_training.leftout import numbered
from parfocal_training.morphology import store
from parfocal_training.morphology.clusters import Chosen, choose, classes_by, read_clusters
from parfocal_training.morphology.comparison import Compared, compare
from parfocal_training.morphology.divergence import SHUFFLES
from parfocal_training.morphology.features import FEATURE_VERSION
from parfocal_training.morphology.figures import Picture, typical
from parfocal_training.morphology.report import report, screen_table
from parfocal_training.morphology.table import FeatureTable, measure
from parfocal_training.pixels.orientation import foreground
from parfocal_training.reference import medoid_reference
from parfocal_training.write import write_whole


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure every cell, or read what was measured before, then compare two clusters."""
    crop_set = cropset.load(options.crops)
    clusters = _clusters(options, crop_set)
    chosen = _chosen(options, crop_set, clusters) if clusters else None
    options.out.mkdir(parents=True, exist_ok=True)
    made, measured_now = _features(options, crop_set, console)
    compared = None
    if chosen is not None:
        with console.status("comparing"):
            compared = compare(made, chosen, crop_set.groups, options.seed, options.top)
    store.write(options.out, store.key_of(crop_set), store.places(crop_set, made, clusters), made)
    result = _result(crop_set, made, chosen, compared) | {"measured_now": measured_now}
    text = msgspec.json.format(msgspec.json.encode(result), indent=1)
    write_whole(options.out / "morphology.json", text)
    pictures = [] if compared is None else _pictures(crop_set, typical(compared))
    report(crop_set, made, chosen, compared, pictures).write(options.out / "report.html")
    _say(options, console, result, compared)


def _clusters(options: argparse.Namespace, crop_set: CropSet) -> tuple[str, ...]:
    """The cluster of each cell; empty where nothing is to be compared."""
    if options.clusters is not None:
        return read_clusters(options.clusters, crop_set, options.column)
    if options.by is not None:
        return classes_by(crop_set, options.by)
    if options.pair is not None:
        raise UsageError("--pair needs --clusters or --by: pairs of what?")
    return ()


def _chosen(options: argparse.Namespace, crop_set: CropSet, clusters: tuple[str, ...]) -> Chosen:
    densities = tuple(row.image.density for row in crop_set.index.rows)
    pair = options.pair and tuple(options.pair)
    return choose(clusters, pair, densities, numbered(crop_set.groups)[1])


def _features(
    options: argparse.Namespace, crop_set: CropSet, console: Console
) -> tuple[FeatureTable, bool]:
    """The features, and whether they had to be measured."""
    stored = store.read(options.out, store.key_of(crop_set))
    if stored is not None:
        return stored, False

    def watched(counts: Iterable[int], total: int) -> Iterator[int]:
        with Progress(console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("measuring", total=total)
            for n in counts:
                bar.advance(task, n)
                yield n

    return measure(crop_set, options.jobs or len(os.sched_getaffinity(0)), watched), True


def _pictures(crop_set: CropSet, at: list[list[int]]) -> list[list[Picture]]:
    reference = medoid_reference(crop_set.bare(np.arange(len(crop_set))))
    out = []
    for places in at:
        chosen = np.array(places, np.int64)
        crops, masks = normalize(crop_set.bare(chosen), reference), crop_set.bare_masks(chosen)
        own = [foreground(crop) for crop in crops] if masks is None else list(masks)
        out.append(list(zip(crops, own, strict=True)))
    return out


def _result(
    crop_set: CropSet, made: FeatureTable, chosen: Chosen | None, compared: Compared | None
) -> dict[str, object]:
    """What `morphology.json` holds."""
    lacking = np.isnan(made.values[made.found]).sum(0)
    told: dict[str, object] = {
        "schema": "parfocal.morphology/1",
        "data": crop_set.index.data,
        "crops_sha256": crop_set.digest,
        "features_sha256": store.key_of(crop_set),
        "feature_version": FEATURE_VERSION,
        "um_per_px": crop_set.index.rules.um_per_px,
        "n_cells": len(crop_set),
        "n_groups": len(set(crop_set.groups)),
        "group_kind": crop_set.index.group_kind,
        "n_features": len(made.names),
        "masks_from": made.masks_from,
        "n_without_mask": int((~made.found).sum()),
        "n_cut_off": int(made.cut_off.sum()),
        "not_measurable": {name: int(n) for name, n in zip(made.names, lacking, strict=True) if n},
    }
    if chosen is not None and compared is not None:
        told["comparison"] = _told(chosen, compared)
    return told


def _told(chosen: Chosen, made: Compared) -> dict[str, object]:
    names, done = made.names, made.separation
    told: dict[str, object] = {
        "pair": made.pair,
        "chosen": chosen.why,
        "n_cells": [int((made.label == side).sum()) for side in (False, True)],
        "distance": "Jensen-Shannon, base 2",
        "bins": made.bins,
        "shuffled": made.chance.shuffled,
        "shuffles": SHUFFLES,
        "axes": [names[made.first], names[made.second]],
        "ranking": [
            {
                "feature": name,
                "distance": float(made.jsd[i]),
                "by_chance_95": float(made.chance.high[i]),
                "p": float(made.chance.p[i]),
                "spearman_with_first": float(made.rho[i]),
                "medians": made.medians[:, i].tolist(),
            }
            for i, name in enumerate(names)
        ],
        "unranked": made.unranked,
    }
    if done is not None:
        told["separation"] = {
            "folds": done.folds,
            "top": done.top,
            "axes": done.axes,
            "axes_chosen_in_training": {"value": done.honest, "low": done.low, "high": done.high},
            "pairs": [
                {"features": [names[s.first], names[s.second]], "balanced_accuracy": s.accuracy}
                for s in done.scores
            ],
        }
    return told


def _say(
    options: argparse.Namespace,
    console: Console,
    result: dict[str, object],
    compared: Compared | None,
) -> None:
    if options.json:
        emit(result | {"out": str(options.out)})
        return
    if compared is not None:
        console.print(screen_table(compared))
    console.print(
        f"{result['n_features']} features of {result['n_cells']} cells in {options.out}; report in "
        f"{options.out / 'report.html'}"
    )
