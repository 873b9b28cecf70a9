"""Figures of left-out cells: accuracy, calibration, log loss, with intervals over groups."""

import math
from collections.abc import Callable

import numpy as np

from parfocal.calibrate import softmax
from parfocal.card import Metric
from parfocal_training.leftout import REPEATS, Bools, Floats, Ints, LeftOut, numbered
from parfocal_training.reliability import equal_mass

TEMPERATURES = (0.5, 10.0)
"""Range of a fitted temperature: below 0.5 a small test set would make the answers boastful."""

PRIOR_SD = 0.2
"""Of the logarithm of a temperature, before cells are seen: answers of averaged networks trained
with smoothed labels are off by a fifth or so. On 121 crops whose worst field is left out this
takes the log loss from 0.50 to 0.37; of a thousand cells it changes nothing."""


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
    parts = equal_mass(sure, bins)
    gaps = [abs(sure[part].mean() - right[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(labels))


def temperature(logits: Floats, labels: Ints) -> float:
    """The divisor of the logits with the least log loss (Guo et al. 2017), within `TEMPERATURES`.

    The loss of n cells is that of their sum, with a normal prior on the logarithm of the
    temperature, mean 0 and SD `PRIOR_SD`: a few groups without errors are no reason to become
    certain. Golden-section search.
    """
    low, high = (math.log(t) for t in TEMPERATURES)
    ratio = (5**0.5 - 1) / 2

    def loss(log_t: float) -> float:
        fitted = log_loss(softmax(logits / math.exp(log_t)), labels)
        return len(labels) * fitted + (log_t / PRIOR_SD) ** 2 / 2

    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return math.exp((low + high) / 2)


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


Drawn = Callable[[Floats], Floats]
"""A figure of each of r samples of groups, which hold group g so many times: (r, g) to (r,)."""


def metrics(left_out: LeftOut, kind: str, rng: np.random.Generator) -> dict[str, Metric]:
    """Every figure of the card, with its interval over groups and how it was got."""
    n, n_groups = len(left_out.labels), len(set(left_out.groups))
    folds = len(np.unique(left_out.folds))
    way = left_out.tested or f"{folds}-fold cross-validation"
    how = f"{way} over {n_groups} groups ({kind})"
    notes = {
        "ece": ", equal-mass bins",
        "log_loss": ", nats",
        "brier": ", summed over classes",
    }
    once, out = np.ones((1, n_groups)), {}
    samples = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), REPEATS)
    for name, measure in _measures(left_out).items():
        value, note = float(measure(once)[0]), notes.get(name, "")
        low, high = map(float, np.quantile(measure(samples.astype(np.float64)), [0.025, 0.975]))
        if name.endswith("accuracy") and value == 1:
            low, note = 1 - 3 / n_groups, note + ", rule of three as no group had an error"
        tail = "bootstrap over groups"
        if name in notes:
            tail += ", temperature from the other folds"
        if name == "accuracy_among_others":
            note += ", each cell placed in the surroundings of another class"
        out[name] = Metric(value=value, low=low, high=high, n=n, how=f"{how}, {tail}{note}")
    low, high = paper_interval(out["accuracy"].value, n)
    formula = "interval e +- 1.96 sqrt(e (1 - e) / N) as in the paper, cells taken as independent"
    out["accuracy_paper_interval"] = Metric(
        value=out["accuracy"].value, low=low, high=high, n=n, how=f"{how}, {formula}"
    )
    return out


def _measures(left_out: LeftOut) -> dict[str, Drawn]:
    """Each figure as a function of how often each group is drawn; bins stay those of all cells."""
    p, labels, groups = calibrated(left_out), left_out.labels, numbered(left_out.groups)[1]
    right = p.argmax(1) == labels
    given = p[np.arange(len(labels)), labels]
    squared = ((p - np.eye(p.shape[1])[labels]) ** 2).sum(1)

    def total(values: Floats | Bools) -> Floats:  # (g,)
        sums: Floats = np.bincount(groups, values).astype(np.float64)
        return sums

    size = total(np.ones(len(labels)))
    of_class = [labels == c for c in np.unique(labels)]
    gaps = []
    for part in equal_mass(p.max(1)):
        inside = np.zeros(len(labels))
        inside[part] = p.max(1)[part] - right[part]
        gaps.append(total(inside))

    def mean(values: Floats) -> Drawn:
        return lambda times: (times @ total(values)) / (times @ size)

    def balanced(times: Floats) -> Floats:
        hits, of = (np.stack([times @ total(x) for x in parts])
                    for parts in ([right & c for c in of_class], of_class))  # fmt: skip
        some = of > 0  # a class that was not drawn does not count
        shares: Floats = np.where(some, hits / np.maximum(of, 1), 0).sum(0) / some.sum(0)
        return shares

    def ece(times: Floats) -> Floats:
        error: Floats = np.abs(np.stack([times @ g for g in gaps])).sum(0) / (times @ size)
        return error

    shown = {
        "accuracy": mean(right.astype(np.float64)),
        "balanced_accuracy": balanced,
        "ece": ece,
        "log_loss": mean(-np.log(np.maximum(given, 1e-12))),
        "brier": mean(squared),
    }
    if left_out.among_others is not None:
        shown["accuracy_among_others"] = mean((left_out.among_others == labels).astype(np.float64))
    return shown
