"""What cells from groups left out of training say about a network."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.calibrate import softmax
from parfocal.card import Abstention, Calibration, Confusion, Metric

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TEMPERATURES = (0.5, 10.0)
"""Range of a fitted temperature: below 0.5 a small test set would make the answers boastful."""

ACCEPTED_ACCURACY = 0.95
"""Accuracy that accepted cells should have, as far as abstention can give it."""

MAX_NOVELTY = 0.98


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """Answers to n cells by networks that had not seen their groups.

    `logits` (n, classes) float64, `labels` (n,), `folds` (n,), n `groups`, `distances` (n,): LCA
    distance to the nearest class of the network that answered.
    """

    logits: Floats
    labels: Ints
    folds: Ints
    groups: tuple[str, ...]
    distances: Floats


def log_loss(probabilities: Floats, labels: Ints) -> float:
    """Mean negative log of the probability given to the truth, in nats."""
    given = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(given, 1e-12)).mean())


def brier(probabilities: Floats, labels: Ints) -> float:
    """Mean squared distance of the probabilities to the truth, summed over classes: 0 to 2."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(1).mean())


def balanced_accuracy(answers: Ints, labels: Ints) -> float:
    """Mean over the classes present of the share answered rightly."""
    return float(np.mean([(answers[labels == c] == c).mean() for c in np.unique(labels)]))


def calibration_error(probabilities: Floats, labels: Ints, bins: int = 10) -> float:
    """Expected calibration error in bins of equal mass (at least 5 cells each)."""
    sure = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    parts = np.array_split(np.argsort(sure, kind="stable"), max(1, min(bins, len(labels) // 5)))
    gaps = [abs(sure[part].mean() - right[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(labels))


def temperature(logits: Floats, labels: Ints) -> float:
    """The divisor of the logits with the least log loss (Guo et al. 2017), within `TEMPERATURES`.

    Golden-section search: the loss is convex in 1 / temperature, hence has one minimum.
    """
    low, high = (1 / t for t in TEMPERATURES[::-1])
    ratio = (5**0.5 - 1) / 2

    def loss(inverse: float) -> float:
        return log_loss(softmax(logits * inverse), labels)

    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return 2 / (low + high)


def calibrated(left_out: LeftOut) -> Floats:
    """Probabilities (n, classes) with each fold's temperature fitted on the OTHER folds."""
    out = np.empty_like(left_out.logits)
    for fold in np.unique(left_out.folds):
        here = left_out.folds == fold
        others = ~here if (~here).any() else here
        t = temperature(left_out.logits[others], left_out.labels[others])
        out[here] = softmax(left_out.logits[here] / t)
    return out


def paper_interval(accuracy: float, n: int) -> tuple[float, float]:
    """The paper's 95 % interval: e +- 1.96 sqrt(e (1 - e) / N) on the error e, as accuracies."""
    error = 1 - accuracy
    half = 1.96 * (error * (1 - error) / n) ** 0.5
    return max(0.0, accuracy - half), min(1.0, accuracy + half)


def bootstrap(
    measure: Callable[[Ints], float],
    groups: tuple[str, ...],
    rng: np.random.Generator,
    repeats: int = 2000,
) -> tuple[float, float]:
    """95 % interval of `measure(indices of cells)` when whole groups are drawn with replacement."""
    names, number = np.unique(np.array(groups), return_inverse=True)
    members = [np.flatnonzero(number == g) for g in range(len(names))]
    values = [
        measure(np.concatenate([members[g] for g in rng.integers(0, len(names), len(names))]))
        for _ in range(repeats)
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def metrics(left_out: LeftOut, kind: str, rng: np.random.Generator) -> dict[str, Metric]:
    """Every figure of the card, with its interval over groups and how it was got."""
    p, labels, n = calibrated(left_out), left_out.labels, len(left_out.labels)
    answers = p.argmax(1).astype(np.int64)
    folds, n_groups = len(np.unique(left_out.folds)), len(set(left_out.groups))
    how = f"{folds}-fold cross-validation over {n_groups} groups ({kind})"
    measures: dict[str, tuple[Callable[[Ints], float], str]] = {
        "accuracy": (lambda i: float((answers[i] == labels[i]).mean()), ""),
        "balanced_accuracy": (lambda i: balanced_accuracy(answers[i], labels[i]), ""),
        "ece": (lambda i: calibration_error(p[i], labels[i]), ", equal-mass bins"),
        "log_loss": (lambda i: log_loss(p[i], labels[i]), ", nats"),
        "brier": (lambda i: brier(p[i], labels[i]), ", summed over classes"),
    }
    every, out = np.arange(n), {}
    for name, (measure, note) in measures.items():
        value, (low, high) = measure(every), bootstrap(measure, left_out.groups, rng)
        if name.endswith("accuracy") and value == 1:
            low, note = 1 - 3 / n_groups, note + ", rule of three as no group had an error"
        tail = "bootstrap over groups" + (", temperature from the other folds" if note else "")
        out[name] = Metric(value=value, low=low, high=high, n=n, how=f"{how}, {tail}{note}")
    low, high = paper_interval(out["accuracy"].value, n)
    formula = "interval e +- 1.96 sqrt(e (1 - e) / N) as in the paper, cells taken as independent"
    out["accuracy_paper_interval"] = Metric(
        value=out["accuracy"].value, low=low, high=high, n=n, how=f"{how}, {formula}"
    )
    return out


def confusion(left_out: LeftOut, kind: str) -> Confusion:
    """Counts [true class][answered class] over all left-out cells."""
    classes = left_out.logits.shape[1]
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (left_out.labels, left_out.logits.argmax(1)), 1)
    rows = tuple(tuple(int(v) for v in row) for row in counts)
    return Confusion(counts=rows, groups=tuple(sorted(set(left_out.groups))), group_kind=kind)


def abstention(left_out: LeftOut) -> Abstention:
    """The lowest probability at which accepted left-out cells are right 95 times in 100.

    Where none is enough, the one at which they are right most often. At least 0.1 above chance;
    beyond that never so high that more than 30 % would be refused. A cell is too strange when
    fewer than 2 in 100 cells of known kind are as strange.
    """
    p = calibrated(left_out)
    sure, right = p.max(1), p.argmax(1) == left_out.labels
    floor = 1 / p.shape[1] + 0.1
    ceiling = max(floor, float(np.quantile(sure, 0.3)))
    steps = np.round(np.arange(floor, ceiling + 1e-9, 0.01), 2)
    accepted = [sure >= step for step in steps]
    rates = [right[some].mean() if some.any() else 0.0 for some in accepted]
    chosen = next((i for i, r in enumerate(rates) if r >= ACCEPTED_ACCURACY), int(np.argmax(rates)))
    return Abstention(min_probability=float(steps[chosen]), max_novelty=MAX_NOVELTY)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a card that left-out groups decide."""

    calibration: Calibration
    abstention: Abstention
    confusion: Confusion | None
    metrics: dict[str, Metric]


def measure(left_out: LeftOut | None, kind: str, seed: int) -> Measured:
    """All of `Measured`; without left-out cells an honest nothing: temperature 1, no figures."""
    if left_out is None:
        return Measured(
            calibration=Calibration(temperature=1.0),
            abstention=Abstention(min_probability=0.0, max_novelty=1.0),
            confusion=None,
            metrics={},
        )
    return Measured(
        calibration=Calibration(temperature=temperature(left_out.logits, left_out.labels)),
        abstention=abstention(left_out),
        confusion=confusion(left_out, kind),
        metrics=metrics(left_out, kind, np.random.default_rng(seed)),
    )
