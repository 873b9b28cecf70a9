"""What the answers of an experiment amount to: accuracy with intervals, by series and by test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.calibrate import softmax
from parfocal_training.cropset import CropSet
from parfocal_training.evaluate import balanced_accuracy, paper_interval
from parfocal_training.experiments.running import HeldOutResult, RunResult

DRAWS = 2000
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class SeriesFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One series answered in one way.

    `accuracy` is the mean over its tests, as in the paper, `sd` that of the tests; `paper_low` and
    `paper_high` the paper's interval on the error with N different cells taken as independent;
    `low`, `high` a bootstrap of whole units: flasks, or fields within a flask. `frame_accuracy`
    and `flask_accuracy` count frames and flasks whose mean probability names the right class; None
    where a frame is one ready crop. `paper` is the accuracy that the paper found, in `paper_words`.
    """

    series: str
    variant: str
    n_tests: int
    n_cells: int
    n_units: int
    accuracy: float
    sd: float
    paper_low: float
    paper_high: float
    low: float
    high: float
    balanced_accuracy: float
    frame_accuracy: float | None
    flask_accuracy: float
    paper: float | None = None
    paper_words: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """A test of a run, as arrays: logits (m, classes), labels (m,), indices of the cells (m,)."""

    run: RunResult
    test: HeldOutResult
    logits: Floats
    labels: Ints
    cells: Ints

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which cells were answered rightly: (m,)."""
        answers: NDArray[np.bool_] = self.logits.argmax(1) == self.labels
        return answers


def answered(results: Sequence[RunResult], variant: str) -> list[Answered]:
    """Every test of every run whose answers can be right, answered in one way."""
    return [
        Answered(
            run,
            test,
            np.array(test.logits[variant], np.float64),
            np.array(test.labels, np.int64),
            np.array(test.cells, np.int64),
        )
        for run in results
        for test in run.tests
        if test.known
    ]


def figures(
    results: Sequence[RunResult], crop_set: CropSet, seed: int, units: Sequence[str]
) -> list[SeriesFigures]:
    """All series, each answered in every way that was asked for.

    `units` names for each crop what an interval draws again: its flask, or its field where all
    tests lie within a flask.
    """
    out = []
    variants = list(results[0].tests[0].logits) if results and results[0].tests else []
    for variant in variants:
        every = answered(results, variant)
        for series in dict.fromkeys(one.test.series for one in every):
            mine = [one for one in every if one.test.series == series]
            rng = np.random.default_rng(seed)
            out.append(_series(series, variant, mine, crop_set, units, rng))
            networks, as_one = together(mine)
            if networks > 1:
                name = f"{variant}, mean of {networks} networks"
                rng = np.random.default_rng(seed)
                out.append(_series(series, name, as_one, crop_set, units, rng))
    return out


def together(tests: Sequence[Answered]) -> tuple[int, list[Answered]]:
    """Tests answered by the mean probability of networks trained alike, and how many they are.

    Alike: on the same cells, from another seed. The number is 1 where some have no such partner.
    """
    groups: dict[tuple[str, tuple[int, ...]], list[Answered]] = {}
    for one in tests:
        groups.setdefault((one.run.training, one.test.cells), []).append(one)
    mean = [
        replace(some[0], logits=np.log(np.mean([softmax(one.logits) for one in some], 0) + 1e-12))
        for some in groups.values()
    ]
    sizes = {len(some) for some in groups.values()}
    return sizes.pop() if len(sizes) == 1 else 1, mean


def _series(
    series: str,
    variant: str,
    tests: Sequence[Answered],
    crop_set: CropSet,
    units: Sequence[str],
    rng: np.random.Generator,
) -> SeriesFigures:
    accuracies = np.array([one.right.mean() for one in tests])
    accuracy = float(accuracies.mean())
    n_cells = len(set(np.concatenate([one.cells for one in tests]).tolist()))
    low, high, n_units = over_units(tests, units, rng)
    paper = paper_interval(accuracy, n_cells)
    ready = any(row.x_px is None for row in crop_set.index.rows)  # then an image is one cell
    return SeriesFigures(
        series=series,
        variant=variant,
        n_tests=len(tests),
        n_cells=n_cells,
        n_units=n_units,
        accuracy=accuracy,
        sd=float(accuracies.std(ddof=1)) if len(tests) > 1 else 0.0,
        paper_low=paper[0],
        paper_high=paper[1],
        low=low,
        high=high,
        balanced_accuracy=mean_of(tests, _balanced),
        frame_accuracy=None if ready else mean_of(tests, voted(crop_set, "image")),
        flask_accuracy=mean_of(tests, voted(crop_set, "group")),
    )


def _balanced(one: Answered) -> float:
    return balanced_accuracy(one.logits.argmax(1).astype(np.int64), one.labels)


def mean_of(tests: Sequence[Answered], measure: Callable[[Answered], float]) -> float:
    """Mean of a figure over tests."""
    return float(np.mean([measure(one) for one in tests]))


def voted(crop_set: CropSet, by: str) -> Callable[[Answered], float]:
    """Share of frames (`image`) or flasks (`group`) that their cells name rightly together.

    The vote is the mean probability of the cells of one class in it: multiple-instance learning
    with the simplest pooling (CLANet, arXiv 2306.16538, learns one instead).
    """
    rows = crop_set.index.rows

    def measure(one: Answered) -> float:
        key = [
            f"{rows[i].image.path if by == 'image' else crop_set.groups[i]}|{label}"
            for i, label in zip(one.cells, one.labels, strict=True)
        ]
        names, number = np.unique(np.array(key), return_inverse=True)
        probability = softmax(one.logits)
        votes = np.stack([probability[number == g].mean(0) for g in range(len(names))])
        truth = np.array([one.labels[number == g][0] for g in range(len(names))])
        return float((votes.argmax(1) == truth).mean())

    return measure


def over_units(
    tests: Sequence[Answered], units: Sequence[str], rng: np.random.Generator
) -> tuple[float, float, int]:
    """95 % interval of the mean accuracy when whole units are drawn again, and their number.

    A unit that several tests share is drawn for all of them at once, so repeats of one split do
    not pass for new flasks.
    """
    names = sorted({units[i] for one in tests for i in one.cells})
    place = {name: g for g, name in enumerate(names)}
    right, total = (np.zeros((len(tests), len(names))) for _ in range(2))
    for t, one in enumerate(tests):
        at = np.array([place[units[i]] for i in one.cells])
        np.add.at(right[t], at, one.right)
        np.add.at(total[t], at, 1)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    seen = weights @ total.T  # (draws, tests)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = np.where(seen > 0, weights @ right.T / seen, np.nan)
    filled = accuracy[~np.isnan(accuracy).all(1)]
    low, high = np.quantile(np.nanmean(filled, 1), [0.025, 0.975])
    return float(low), float(high), len(names)


def matrix(results: Sequence[RunResult], variant: str) -> tuple[list[str], list[str], Floats]:
    """What it was trained on, what it was tested on, and the mean accuracy: (rows, columns)."""
    found: dict[tuple[str, str], list[float]] = {}
    for one in answered(results, variant):
        found.setdefault((one.run.trained_on, one.test.on), []).append(float(one.right.mean()))
    rows = list(dict.fromkeys(row for row, _ in found))
    columns = list(dict.fromkeys(column for _, column in found))
    values = np.full((len(rows), len(columns)), np.nan)
    for (row, column), accuracies in found.items():
        values[rows.index(row), columns.index(column)] = np.mean(accuracies)
    return rows, columns, values
