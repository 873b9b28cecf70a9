"""What the experiment on lines never seen amounts to: by left-out line, and their mean.

Intervals draw whole units again, held-out groups or images: those of the known lines for all
left-out lines at once, those of a left-out line by themselves.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from parfocal.card import Metric
from parfocal_training.cropset import CropSet
from parfocal_training.experiments.running import HeldOutResult, RunResult
from parfocal_training.experiments.summary import DRAWS
from parfocal_training.experiments.unknown import units_of
from parfocal_training.experiments.unknown_scores import (
    Scored,
    auroc,
    balanced,
    image_auroc,
    mean_of_drawn,
    refused,
    scores,
    voted,
)
from parfocal_training.leftout import Floats, Ints, numbered

MEAN = "mean over lines"
NONE = "none"


class ScoreFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of novelty; each `n` counts cells or images of the line never seen.

    `cells`: AUROC of cells. `images`: AUROC of images by the mean rank of
    their cells. `refused`: share of the
    cells never seen that are more novel than 95 % of the known ones.
    """

    cells: Metric
    images: Metric
    refused: Metric


class UnknownFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One left-out line, their mean, or the network that knows all lines, which has no `novelty`.

    `cells` and `images`: balanced accuracy over the known lines on what was held out of them, of
    images by the majority of their cells; `n` counts cells or images. Values are means over
    repeats, and over lines for their mean.
    """

    left_out: str
    classes: int
    novelty: dict[str, ScoreFigures]
    cells: Metric
    images: Metric


class Places:
    """Numbers of the images and units of a crop set, each (n,), and samples of its units."""

    def __init__(self, crop_set: CropSet) -> None:
        rows = crop_set.index.rows
        ready = any(row.x_px is None for row in rows)  # then an image is one cell: no vote
        names = tuple(row.image.group if ready else row.image.path for row in rows)
        self.images = numbered(names)[1]
        self.units = numbered(units_of(crop_set))[1]

    def scored(self, novelty: Floats, cells: Sequence[int]) -> Scored:
        """These cells with their novelty."""
        at = np.array(cells, np.int64)
        return Scored(novelty, self.images[at], self.units[at])

    def drawn(self, cells: Sequence[int], rng: np.random.Generator) -> Floats:
        """How often each unit comes: once for those of these cells, then `DRAWS` samples of them.

        Shape (1 + DRAWS, units).
        """
        mine = np.unique(self.units[np.array(cells, np.int64)])
        out = np.zeros((1 + DRAWS, int(self.units.max()) + 1))
        out[0, mine] = 1
        out[1:, mine] = rng.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), DRAWS)
        return out


def left_out_of(result: RunResult) -> str:
    """The line that a network has never seen, or `NONE`."""
    strange = [test.on for test in result.tests if not test.known]
    return strange[0] if strange else NONE


def unknown_figures(
    results: Sequence[RunResult], crop_set: CropSet, seed: int
) -> list[UnknownFigures]:
    """The network that knows all lines, then each left-out line, then the mean over these."""
    places, rng = Places(crop_set), np.random.default_rng(seed)
    weights = places.drawn([i for one in results for i in one.tests[0].cells], rng)
    lines: dict[str, list[RunResult]] = {}
    for result in results:
        lines.setdefault(left_out_of(result), []).append(result)
    out, every_run, every_sample = list[UnknownFigures](), list[RunResult](), list[Samples]()
    for line, runs in lines.items():
        others = weights if line == NONE else places.drawn(runs[0].tests[1].cells, rng)
        samples = [_samples(run, places, weights, others) for run in runs]
        out.append(_figures(line, runs, samples, places))
        if line != NONE:
            every_run += runs
            every_sample += samples
    return [*out, _figures(MEAN, every_run, every_sample, places)]


Samples = dict[tuple[str, str], Floats]
"""By measure (or "accuracy") and what it is of: the figure itself, then that of each sample."""


def _samples(run: RunResult, places: Places, weights: Floats, others: Floats) -> Samples:
    out = _accuracies(run.tests[0], places, weights)
    if left_out_of(run) == NONE:
        return out
    usual, never_seen = (scores(test) for test in run.tests[:2])
    for name in usual:
        known = places.scored(usual[name], run.tests[0].cells)
        strange = places.scored(never_seen[name], run.tests[1].cells)
        out[name, "cells"] = auroc(known, strange, weights, others)
        out[name, "refused"] = refused(known, strange, weights, others)
        out[name, "images"] = image_auroc(known, strange, weights, others)
    return out


def _accuracies(test: HeldOutResult, places: Places, weights: Floats) -> Samples:
    logits = np.array(next(iter(test.logits.values())), np.float64)
    cells, labels = np.array(test.cells, np.int64), np.array(test.labels, np.int64)
    units = places.units[cells]
    right, first = voted(logits, labels, places.images[cells])
    return {
        ("accuracy", "cells"): balanced(logits.argmax(1) == labels, labels, units, weights),
        ("accuracy", "images"): balanced(right, labels[first], units[first], weights),
    }


def _figures(
    line: str, runs: Sequence[RunResult], samples: Sequence[Samples], places: Places
) -> UnknownFigures:
    known, strange = (
        np.unique([i for run in runs for test in run.tests[part] for i in test.cells]).astype(int)
        for part in (slice(0, 1), slice(1, 2))
    )

    def metric(measure: str, of: str, cells: Ints) -> Metric:
        every = mean_of_drawn([one[measure, of] for one in samples])
        low, high = np.nanquantile(every[1:], [0.025, 0.975])
        n = len(np.unique(places.images[cells])) if of == "images" else len(cells)
        how = "bootstrap of held-out groups or images"
        return Metric(value=float(every[0]), low=float(low), high=float(high), n=n, how=how)

    names = [] if line == NONE else list(scores(runs[0].tests[0]))
    return UnknownFigures(
        left_out=line,
        classes=len(runs[0].classes),
        novelty={
            name: ScoreFigures(
                cells=metric(name, "cells", strange),
                images=metric(name, "images", strange),
                refused=metric(name, "refused", strange),
            )
            for name in names
        },
        cells=metric("accuracy", "cells", known),
        images=metric("accuracy", "images", known),
    )
