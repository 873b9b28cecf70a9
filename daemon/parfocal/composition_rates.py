"""How often a model takes one class for another in a new flask, and how sure that is.

A flask's error rate of a class is taken to be beta-distributed between flasks (mean, SD). Which
means and SDs are credible is worked out on a grid from the left-out groups in the model's card
(beta-binomial likelihood, Gelman et al., Bayesian Data Analysis, chapter 5; half-Cauchy prior on
the SD, Gelman, Bayesian Analysis 2006, 1(3):515-534), so that few or small groups leave the rate of
a new flask less known.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from parfocal.card import ClassifierCard, Confusion, GroupFigures
from parfocal.intervals import beta_cdf, log_beta

Floats = NDArray[np.float64]

LEAST_GROUPS = 5
"""Fewer left-out groups of a class do not show how much a rate varies: `ASSUMED_SD` is taken."""
ASSUMED_SD = 0.02
MOST_SD = 0.12
PRIOR_SCALE = 0.01
"""Scale of the half-Cauchy prior on the SD. With 20 left-out flasks a smaller one lets pure flasks
seem contaminated too often, a larger one hides contamination (`tests/bench/verdicts.py`)."""
LEAST_SHAPE = 0.25
"""Least first parameter of the beta distribution: an SD of up to twice the mean. Below, nearly all
flasks would have no error at all and a few very many."""
GRID = 24
LEAST_WEIGHT = 1e-3
STEPS = np.concatenate([np.linspace(0, 0.9, 11), 1 - np.geomspace(0.07, 0.002, 9), [1.0]])
"""Of the grid's points, ordered by how high a rate they allow, so many averages are kept: more of
the extreme ones, which decide small probabilities."""


@dataclass(frozen=True, slots=True, eq=False)
class ErrorRate:
    """Share of a class's cells that get another name, in a flask not yet seen.

    Parameters
    ----------
    mean, sd, weight : ndarrays of shape (g,), float64
        Credible means and between-flask SDs, and how credible each pair is (sum 1).
    n_groups : int
        Left-out groups of this class that showed the SD; 0 where it is assumed.
    """

    mean: Floats
    sd: Floats
    weight: Floats
    n_groups: int

    @property
    def centre(self) -> float:
        """Expected rate of a new flask."""
        return float(self.weight @ self.mean)

    @property
    def spread(self) -> float:
        """SD of the rate of a new flask: between flasks, and of what is not known."""
        known = self.weight @ self.sd**2
        return math.sqrt(float(known + self.weight @ (self.mean - self.centre) ** 2))

    @property
    def between(self) -> float:
        """SD between flasks, as it is believed."""
        return math.sqrt(float(self.weight @ self.sd**2))

    def tail(self, rate: Floats, n: Floats | float) -> Floats:
        """Probability that a new flask shows at least these rates among n independent cells.

        Beta distributions of the beta-binomial's mean and variance, half a cell off for continuity.

        Parameters
        ----------
        rate : ndarray of shape (m,)
        n : ndarray of shape (m,), or float
            Cells seen, divided by the design effect.
        """
        inner, many = self.mean * (1 - self.mean), np.asarray(n)[..., None]  # (g,), (m or -, 1)
        variance = np.minimum(self.sd**2 + (inner - self.sd**2) / many, 0.95 * inner)
        size = inner / variance - 1
        a, b = self.mean * size, (1 - self.mean) * size
        below = beta_cdf(np.clip(rate - 0.5 / n, 0, 1)[:, None], a, b)  # (m, g)
        tail: Floats = (1 - below) @ self.weight
        return tail


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a model's answers say about true classes.

    Parameters
    ----------
    classes : tuple of k
    matrix, variance : ndarrays of shape (k, k), float64
        Expected share of [true class] that is [answered class] in a new flask, and its variance.
    errors : tuple of k ErrorRate
    assumed : bool
        Whether the SD between flasks is assumed for a class, not measured.
    group_kind : str
        What the left-out groups were (flask, field, image).
    """

    classes: tuple[str, ...]
    matrix: Floats
    variance: Floats
    errors: tuple[ErrorRate, ...]
    assumed: bool
    group_kind: str


def reading(card: ClassifierCard) -> Reading | None:
    """What the card's left-out cells say of its answers; None when they are not in the card."""
    return reading_of(card.classes, card.confusion, card.per_group or ())


@lru_cache(maxsize=4)
def reading_of(
    classes: tuple[str, ...], confusion: Confusion | None, groups: tuple[GroupFigures, ...]
) -> Reading | None:
    """What a confusion matrix and the figures of left-out groups say of a model's answers."""
    if confusion is None or len(classes) < 2 or min(map(sum, confusion.counts)) < 1:
        return None
    counts = np.array(confusion.counts, np.float64)
    errors = tuple(_error_rate(counts[i], i, name, groups) for i, name in enumerate(classes))
    matrix, variance = (
        np.diag([1 - e.centre for e in errors]),
        np.diag([e.spread**2 for e in errors]),
    )
    for i, error in enumerate(errors):
        others = np.arange(len(classes)) != i
        wrong = counts[i, others] + 0.5
        share, n = wrong / wrong.sum(), wrong.sum()
        matrix[i, others] = error.centre * share
        split = share * (1 - share) / (n + 1)
        variance[i, others] = share**2 * error.spread**2 + error.centre**2 * split
    assumed = any(error.n_groups == 0 for error in errors)
    return Reading(classes, matrix, variance, errors, assumed, confusion.group_kind)


def _error_rate(row: Floats, at: int, name: str, groups: tuple[GroupFigures, ...]) -> ErrorRate:
    """The error rate of one class, from the row of the confusion matrix and its own groups."""
    own = [(round(g.n * (1 - g.accuracy)), g.n) for g in groups if g.labels == (name,)]
    n_groups = len(own) if len(own) >= LEAST_GROUPS else 0
    total, wrong = int(row.sum()), int(row.sum() - row[at])
    # a card lists the worst groups only when there are many: the rest count as one more
    rest = total - sum(n for _, n in own), max(0, wrong - sum(k for k, _ in own))
    seen = [*own, (min(rest[1], rest[0]), rest[0])] if n_groups else [(wrong, total)]
    k, n = (np.array(v, np.float64) for v in zip(*(s for s in seen if s[1] > 0), strict=True))
    return _posterior(k, n, n_groups)


def _posterior(k: Floats, n: Floats, n_groups: int) -> ErrorRate:
    """Credible means and SDs, given k errors among n cells of each group.

    A coarse grid finds where they lie, a fine one then covers that.
    """
    start = (k.sum() + 0.5) / (n.sum() + 1)
    means = np.geomspace(start / 50, min(0.9, 20 * start + 0.1), 2 * GRID)
    sds = np.linspace(0.02, 1, GRID) ** 2 * MOST_SD if n_groups else np.array([ASSUMED_SD])
    mean, sd, _ = _weighed(k, n, means, sds)
    first, last = np.searchsorted(means, [mean.min(), mean.max()]).tolist()
    low, high = means[max(0, first - 1)], means[min(last + 1, len(means) - 1)]
    spreads = np.linspace(sd.min() / 2, sd.max() * 1.1, GRID) if n_groups else sds
    return _thinned(*_weighed(k, n, np.linspace(low, high, 2 * GRID), spreads), n_groups)


def _weighed(k: Floats, n: Floats, means: Floats, sds: Floats) -> tuple[Floats, Floats, Floats]:
    """Points of the grid that matter, (mean, sd, weight), each of shape (g,)."""
    mean, sd = (v.ravel() for v in np.meshgrid(means, sds, indexing="ij"))
    cells = np.outer(np.gradient(means), np.gradient(sds) if len(sds) > 1 else np.ones(1)).ravel()
    size = mean * (1 - mean) / sd**2 - 1
    possible = mean * size > (LEAST_SHAPE if len(sds) > 1 else 0.02)
    mean, sd, size = mean[possible], sd[possible], size[possible]
    a, b = mean * size, (1 - mean) * size
    fit = log_beta(a[:, None] + k, b[:, None] + n - k).sum(1) - len(k) * log_beta(a, b)
    fit += np.log(cells[possible]) - np.log1p((sd / PRIOR_SCALE) ** 2)
    weight = np.exp(fit - fit.max())
    kept = weight > LEAST_WEIGHT * weight.max()
    return mean[kept], sd[kept], weight[kept] / weight[kept].sum()


def _thinned(mean: Floats, sd: Floats, weight: Floats, n_groups: int) -> ErrorRate:
    """The same distribution by averages over neighbours, which makes a tail cheap."""
    order = np.argsort(mean + 3 * sd)
    mean, sd, weight = mean[order], sd[order], weight[order]
    part = np.searchsorted(STEPS, np.cumsum(weight) - weight / 2, "right")
    total: Floats = np.bincount(part, weight).astype(np.float64)
    used = total > 0
    means = np.bincount(part, weight * mean)[used] / total[used]
    squares = np.bincount(part, weight * sd**2)[used] / total[used]
    return ErrorRate(means, np.sqrt(squares), total[used], n_groups)
