"""What cells from groups left out of training say about a network."""

import msgspec
import numpy as np

from parfocal.calibrate import softmax
from parfocal.card import (
    Abstention,
    Calibration,
    Confusion,
    GroupFigures,
    Metric,
    Reliability,
    Seen,
    ShiftRule,
)
from parfocal.intervals import wilson
from parfocal_training import riskcontrol
from parfocal_training.figures import (
    balanced_accuracy,
    brier,
    calibrated,
    log_loss,
    metrics,
    paper_interval,
    temperature,
)
from parfocal_training.leftout import Bools, LeftOut, numbered
from parfocal_training.reliability import reliability_bins
from parfocal_training.shiftrule import elsewhere, shift_rule

__all__ = ["LeftOut", "Measured", "balanced_accuracy", "measure", "paper_interval"]

MAX_NOVELTY = 0.98
"""A cell is too strange when fewer than 2 in 100 cells of known kind are as strange."""

ERROR_RATE = 0.05
"""Share of a group's cells that may be accepted and wrong."""

MOST_GROUPS = 64
"""Groups whose figures a card lists; the worst come first."""


def confusion(left_out: LeftOut, kind: str) -> Confusion:
    """Counts [true class][answered class] over all left-out cells."""
    classes = left_out.logits.shape[1]
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (left_out.labels, left_out.logits.argmax(1)), 1)
    rows = tuple(tuple(int(v) for v in row) for row in counts)
    return Confusion(counts=rows, groups=tuple(sorted(set(left_out.groups))), group_kind=kind)


def abstention(left_out: LeftOut, rate: float, kind: str, rng: np.random.Generator) -> Abstention:
    """When to accept a cell, with what is guaranteed; at least 0.1 above chance is needed."""
    p = calibrated(left_out)
    groups = numbered(left_out.groups)[1]
    answers = riskcontrol.Answers(
        sure=p.max(1),
        right=p.argmax(1) == left_out.labels,
        usual=elsewhere(left_out.distances, groups).novelty <= MAX_NOVELTY,
        groups=groups,
        floor=1 / p.shape[1] + 0.1,
    )
    return riskcontrol.abstention(answers, left_out.folds, rate, MAX_NOVELTY, kind, rng)


def reliability(left_out: LeftOut, ece: Metric, rng: np.random.Generator) -> Reliability:
    """Calibration of the answers, in bins, before and after the temperature."""
    raw, p, labels = softmax(left_out.logits), calibrated(left_out), left_out.labels
    groups = numbered(left_out.groups)[1]
    return Reliability(
        bins=reliability_bins(p.max(1), p.argmax(1) == labels, groups, rng),
        ece=ece.value,
        ece_low=min(ece.value, ece.value if ece.low is None else ece.low),
        ece_high=max(ece.value, ece.value if ece.high is None else ece.high),
        brier_before=brier(raw, labels),
        brier=brier(p, labels),
        log_loss_before=log_loss(raw, labels),
        log_loss=log_loss(p, labels),
        how=ece.how,
    )


def group_figures(
    left_out: LeftOut, classes: tuple[str, ...], flagged: Bools | None
) -> tuple[GroupFigures, ...]:
    """How each left-out group did, the worst first, at most `MOST_GROUPS`."""
    names, groups = numbered(left_out.groups)
    right = left_out.logits.argmax(1) == left_out.labels
    novelty = elsewhere(left_out.distances, groups).novelty
    out = []
    for number, name in enumerate(names):
        mine = groups == number
        n, hits = int(mine.sum()), int(right[mine].sum())
        low, high = wilson(hits, n)
        out.append(
            GroupFigures(
                group=name,
                labels=tuple(classes[c] for c in np.unique(left_out.labels[mine])),
                n=n,
                accuracy=hits / n,
                low=low,
                high=high,
                novelty=float(novelty[mine].mean()),
                flagged=None if flagged is None else bool(flagged[number]),
            )
        )
    return tuple(sorted(out, key=lambda one: (one.accuracy, -one.n, one.group))[:MOST_GROUPS])


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a card that the data decide: what left-out groups show, and what was seen."""

    calibration: Calibration
    abstention: Abstention
    confusion: Confusion | None
    metrics: dict[str, Metric]
    reliability: Reliability | None = None
    per_group: tuple[GroupFigures, ...] | None = None
    shift: ShiftRule | None = None
    seen: Seen | None = None


def measure(
    left_out: LeftOut | None,
    kind: str,
    seed: int,
    error_rate: float = ERROR_RATE,
    classes: tuple[str, ...] | None = None,
) -> Measured:
    """All that left-out cells show; without any an honest nothing: temperature 1, no figures."""
    if left_out is None:
        return Measured(
            calibration=Calibration(temperature=1.0),
            abstention=Abstention(min_probability=0.0, max_novelty=1.0),
            confusion=None,
            metrics={},
        )
    rng = np.random.default_rng(seed)
    groups = numbered(left_out.groups)[1]
    figures = metrics(left_out, kind, rng)
    rule, flagged = shift_rule(
        left_out.distances, groups, numbered(left_out.images or left_out.groups)[1], kind
    )
    labels = classes or tuple(str(number) for number in range(left_out.logits.shape[1]))
    return Measured(
        calibration=Calibration(temperature=temperature(left_out.logits, left_out.labels)),
        abstention=abstention(left_out, error_rate, kind, rng),
        confusion=confusion(left_out, kind),
        metrics=figures,
        reliability=reliability(left_out, figures["ece"], rng),
        per_group=group_figures(left_out, labels, flagged),
        shift=rule,
    )
