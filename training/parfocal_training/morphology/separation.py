"""How well two features separate two clusters: a linear support vector machine, groups left out."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import LinearSVC

from parfocal_training.morphology.axes import second_axis, spearman
from parfocal_training.morphology.divergence import binned, distances
from parfocal_training.morphology.patch import Bools, Floats, Ints

MOST_FOLDS = 5
REPEATS = 1000


@dataclass(frozen=True, slots=True)
class Rules:
    """How pairs are scored: bins of the distances, and `top` features whose every pair is tried.

    20 features are 190 machines a fold; all of them would be 40,000.
    """

    bins: int
    top: int
    seed: int


@dataclass(frozen=True, slots=True)
class PairScore:
    """Balanced accuracy on groups left out, of two features as places in the ranking."""

    first: int
    second: int
    accuracy: float


@dataclass(frozen=True, slots=True, eq=False)
class Separation:
    """Scores of pairs of features; all balanced accuracies, 0.5 by chance.

    `scores`: every pair of the first `top` features, best first. `axes`: of the two axes that all
    cells chose. `honest`: of two axes chosen by the same rule within each training part, with its
    95 % interval over groups (bootstrap).
    """

    folds: int
    top: int
    scores: tuple[PairScore, ...]
    axes: float
    honest: float
    low: float
    high: float


def separation(
    values: Floats, label: Bools, groups: Ints, axes: tuple[int, int], rules: Rules
) -> Separation | None:
    """Scores of pairs among the first features (n, f); None where no group can be left out.

    Cells in which a feature of a pair is NaN are left out of that pair.
    """
    tested = folds_over(label, groups, rules.seed)
    if tested is None:
        return None
    top = min(rules.top, values.shape[1])
    scores = [
        PairScore(i, j, _accuracy(_answers(values[:, [i, j]], label, tested), label))
        for i, j in combinations(range(top), 2)
    ]
    rng = np.random.default_rng(rules.seed)
    answers = _chosen_anew(values[:, rng.permutation(values.shape[1])], label, tested, rules.bins)
    low, high = _interval(answers, label, groups, rng)
    return Separation(
        folds=int(tested.max()) + 1,
        top=top,
        scores=tuple(sorted(scores, key=lambda one: -one.accuracy)),
        axes=_accuracy(_answers(values[:, axes], label, tested), label),
        honest=_accuracy(answers, label),
        low=low,
        high=high,
    )


def _chosen_anew(values: Floats, label: Bools, tested: Ints, bins: int) -> Floats:
    """Answers (n,) on two axes that each fold chooses from its training part alone.

    Features come in no order: that of all cells would decide between equals.
    """
    answers = np.full(len(label), np.nan)
    for fold in range(int(tested.max()) + 1):
        train = tested != fold
        axes = _axes(values[train], label[train], bins)
        answers[~train] = _answers(values[:, axes], label, tested, fold)[~train]
    return answers


def folds_over(label: Bools, groups: Ints, seed: int) -> Ints | None:
    """Fold of each cell (n,): groups stay whole, every training part has both clusters."""
    has = [len(np.unique(groups[label == side])) for side in (False, True)]
    folds = min(MOST_FOLDS, *has)
    if folds < 2:
        return None
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    tested = np.zeros(len(label), np.int64)
    for fold, (train, test) in enumerate(splitter.split(label[:, None], label, groups)):
        if len(np.unique(label[train])) < 2:
            return None
        tested[test] = fold
    return tested


def _axes(values: Floats, label: Bools, bins: int) -> list[int]:
    """The two axes that the rule takes where only these cells are known."""
    jsd = distances(binned(values, bins), label)
    first = int(jsd.argmax())
    return [first, second_axis(jsd, spearman(values, first))]


def _answers(points: Floats, label: Bools, tested: Ints, only: int | None = None) -> Floats:
    """Whether each cell is of the second cluster, by a machine that did not see its group: (n,).

    NaN where a feature is, and in other folds than `only`.
    """
    there = np.isfinite(points).all(1)
    out = np.full(len(label), np.nan)
    for fold in range(int(tested.max()) + 1) if only is None else (only,):
        train, test = there & (tested != fold), there & (tested == fold)
        if test.any():
            out[test] = line_between(points[train], label[train]).side(points[test])
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """The border that a linear support vector machine draws: `weights @ (x, y) + offset` is 0."""

    weights: Floats
    offset: float

    def side(self, points: Floats) -> NDArray[np.bool_]:
        """Whether points (n, 2) lie on the side of the second cluster."""
        beyond: NDArray[np.bool_] = points @ self.weights + self.offset > 0
        return beyond


def line_between(points: Floats, label: Bools) -> Line:
    """The border between clusters of equal weight, from points (n, 2), standardized first."""
    mean, spread = points.mean(0), np.maximum(points.std(0), 1e-12)
    even = {side: len(label) / (2 * int((label == side).sum())) for side in (False, True)}
    with config_context(assume_finite=True, skip_parameter_validation=True):  # most of the time
        machine = LinearSVC(dual=False, class_weight=even).fit((points - mean) / spread, label)
    weights = machine.coef_[0] / spread
    return Line(weights, float(machine.intercept_[0] - weights @ mean))


def _accuracy(answers: Floats, label: Bools) -> float:
    """Balanced accuracy of the answers that there are."""
    there = np.isfinite(answers)
    shares = [(answers[there & (label == side)] == side).mean() for side in (False, True)]
    return float(np.mean(shares))


def _interval(
    answers: Floats, label: Bools, groups: Ints, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % interval of the balanced accuracy: whole groups drawn with replacement."""
    n = int(groups.max()) + 1
    drawn = rng.multinomial(n, np.full(n, 1 / n), REPEATS).astype(np.float64)  # (r, g)
    shares = []
    for side in (False, True):
        here = (label == side) & np.isfinite(answers)
        right = np.bincount(groups[here], (answers[here] == side).astype(np.float64), n)
        of = drawn @ np.bincount(groups[here], minlength=n)
        shares.append(np.divide(drawn @ right, of, out=np.full(REPEATS, np.nan), where=of > 0))
    low, high = np.nanquantile(np.mean(shares, 0), [0.025, 0.975])  # NaN: a cluster was not drawn
    return float(low), float(high)
