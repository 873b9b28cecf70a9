"""Abstention with a chosen error rate: conformal risk control over groups.

Angelopoulos, Bates, Fisch, Lei and Schuster, Conformal Risk Control (ICLR 2024). The exchangeable
units are groups (flasks, fields), because the cells of one group err together. The loss of a group
at a threshold t is the share of its cells that are accepted and wrong, in [0, 1] and never rising
in t. With G groups and the smallest t at which (sum of losses + 1) / (G + 1) <= rate, the expected
loss of another group that is exchangeable with them is at most `rate`.
"""

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from parfocal.card import Abstention
from parfocal_training.leftout import Bools, Floats, Ints, share

STEPS: Floats = np.round(np.arange(0, 1, 0.001), 3)
"""Thresholds to choose from, fixed beforehand as the guarantee demands."""

ACCEPTED_ACCURACY = 0.95
"""Accuracy that accepted cells should have where no rate can be guaranteed."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """n left-out cells: probability of the answer, right or not, usual (not too novel), group.

    `sure` (n,) float64; `right`, `usual` (n,) bool; `groups` (n,) int64 from 0 on; `floor`: the
    lowest threshold that may be chosen.
    """

    sure: Floats
    right: Bools
    usual: Bools
    groups: Ints
    floor: float

    def of(self, chosen: Bools) -> "Answers":
        """These cells alone; groups are numbered anew."""
        groups = np.unique(self.groups[chosen], return_inverse=True)[1].astype(np.int64)
        return Answers(
            self.sure[chosen], self.right[chosen], self.usual[chosen], groups, self.floor
        )


def losses(cells: Answers, steps: Floats = STEPS) -> Floats:
    """Share of each group's cells accepted and wrong, at each threshold: (groups, steps)."""
    n_groups, wrong = int(cells.groups.max()) + 1, cells.usual & ~cells.right
    accepted_at = np.searchsorted(steps, cells.sure[wrong], "right")  # accepted below this step
    counts = np.zeros((n_groups, len(steps) + 1))
    np.add.at(counts, (cells.groups[wrong], accepted_at), 1)
    still = counts[:, ::-1].cumsum(1)[:, ::-1][:, 1:]  # (groups, steps)
    shares: Floats = still / np.bincount(cells.groups, minlength=n_groups)[:, None]
    return shares


def controlled(losses: Floats, rate: float) -> int | None:
    """The first step at which (sum of losses + 1) / (G + 1) <= rate; None where there is none."""
    # exact sums: at the very rate, rounding must not let the order of groups decide
    totals = np.array([math.fsum(step) for step in losses.T])  # (steps,)
    enough = np.flatnonzero((totals + 1) / (len(losses) + 1) <= rate)
    return int(enough[0]) if len(enough) else None


def empirical(cells: Answers) -> float:
    """The lowest threshold at which accepted cells are right 95 times in 100: no guarantee.

    Where none is enough, the one at which they are right most often; beyond the floor never so high
    that more than 30 % would be refused.
    """
    ceiling = max(cells.floor, float(np.quantile(cells.sure, 0.3)))
    steps = np.round(np.arange(cells.floor, ceiling + 1e-9, 0.01), 2)
    accepted = [cells.sure >= step for step in steps]
    rates = [cells.right[some].mean() if some.any() else 0.0 for some in accepted]
    enough = (i for i, rate in enumerate(rates) if rate >= ACCEPTED_ACCURACY)
    return float(steps[next(enough, int(np.argmax(rates)))])


def threshold(cells: Answers, rate: float) -> tuple[float, bool]:
    """Which probability a cell needs, and whether the rate is then guaranteed."""
    step = controlled(losses(cells), rate)
    if step is None:
        return empirical(cells), False
    return max(cells.floor, float(STEPS[step])), True


def abstention(
    cells: Answers,
    folds: Ints,
    rate: float,
    max_novelty: float,
    kind: str,
    rng: np.random.Generator,
) -> Abstention:
    """The rule for new cells, what is guaranteed of it, and what left-out cells say of it."""
    least, guaranteed = threshold(cells, rate)
    n_groups = int(cells.groups.max()) + 1
    loss = (losses(cells, np.array([least])).sum() + 1) / (n_groups + 1)
    chosen = Abstention(
        min_probability=least,
        max_novelty=max_novelty,
        error_rate=rate,
        guaranteed=guaranteed,
        n_groups=n_groups,
        expected_loss=float(loss),
    )
    return _tried(
        msgspec.structs.replace(chosen, guarantee=in_words(chosen, kind)), cells, folds, rng
    )


def _tried(chosen: Abstention, cells: Answers, folds: Ints, rng: np.random.Generator) -> Abstention:
    """With the share accepted and the accuracy of those, thresholds chosen on the other folds."""
    accepted = np.zeros(len(cells.sure), bool)
    for fold in np.unique(folds):
        here = folds == fold
        others = ~here if (~here).any() else here
        least, _ = threshold(cells.of(others), chosen.error_rate or 0)
        accepted[here] = (cells.sure >= least)[here] & cells.usual[here]
    every, some, right = (
        np.bincount(cells.groups, which).astype(np.float64)
        for which in (np.ones(len(accepted)), accepted, accepted & cells.right)
    )
    how = "thresholds chosen on the other folds, bootstrap over groups"
    taken, accuracy = share(some, every, rng), share(right, some, rng)
    return msgspec.structs.replace(
        chosen,
        accepted_share=taken and msgspec.structs.replace(taken, how=how),
        selective_accuracy=accuracy and msgspec.structs.replace(accuracy, how=how),
    )


def in_words(chosen: Abstention, kind: str) -> str:
    """What is promised of new groups, and what is not."""
    rate, n = chosen.error_rate or 0, chosen.n_groups or 0
    not_promised = (
        "What share of the accepted cells is wrong is not bounded by this, only measured."
    )
    if chosen.guaranteed:
        return (
            f"On average over new {kind}s that are exchangeable with the {n} left-out ones, at "
            f"most {rate:.1%} of a {kind}'s cells are accepted and wrong (conformal risk control). "
            "It holds for the network that answered them: where these were those of a "
            "cross-validation, the final one, which has seen more, takes it over. For one given "
            f"{kind} nothing is promised. {not_promised}"
        )
    needed = int(np.ceil(1 / rate - 1e-9)) - 1
    why = (
        f"{n} {kind}s are too few to promise {rate:.1%}, which takes at least {needed}"
        if n < needed
        else f"no threshold keeps {rate:.1%} over the {n} left-out {kind}s"
    )
    return (
        f"No error rate is guaranteed: {why}. The threshold is the lowest at which accepted "
        f"left-out cells were right {ACCEPTED_ACCURACY:.0%} of the time, or most often where none "
        f"was. {not_promised}"
    )
