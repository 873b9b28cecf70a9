"""How strange the cells of a whole group may be: novelty of left-out groups as random effects."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]

from parfocal.card import Metric, ShiftRule
from parfocal.intervals import wilson
from parfocal.shift import shift
from parfocal_training.leftout import Bools, Floats, Ints

FALSE_ALARM = 0.05
"""Share of ordinary groups that the rule may call strange, if their means are spread normally.

With means drawn from a gamma distribution of shape 2, 20 to 50 groups, Student's limit is passed by
8 % of ordinary ones. A conformal limit (the quantile of left-out scores, from 19 groups on) keeps
5 % whatever the spread, but is passed by 2 to 4 % only, and of groups 3 SD too strange it finds
0.4 to 0.6 where Student's finds 0.95: until there are about a hundred groups it costs too much.
"""

LEAST_GROUPS = 4
"""With fewer groups their spread is known too badly to call anything strange."""


@dataclass(frozen=True, slots=True, eq=False)
class Elsewhere:
    """Of each of n cells: how many cells of OTHER groups are as strange, and of how many: (n,)."""

    stranger: Ints
    of: Ints

    @property
    def novelty(self) -> Floats:
        """1 minus the conformal p-value of each cell among those of other groups: (n,)."""
        novelty: Floats = 1 - (1 + self.stranger) / (self.of + 1)
        return novelty


def elsewhere(distances: Floats, groups: Ints) -> Elsewhere:
    """Compare each cell with those of other groups; groups are numbered from 0 on."""
    stranger = _as_strange(distances, distances)
    for members in np.split(np.argsort(groups, kind="stable"), np.bincount(groups).cumsum()[:-1]):
        stranger[members] -= _as_strange(distances[members], distances[members])
    return Elsewhere(stranger, len(groups) - np.bincount(groups)[groups])


def _as_strange(known: Floats, distances: Floats) -> Ints:
    """How many known distances are at least as large as each one."""
    below = np.searchsorted(np.sort(known), distances, "left")
    return (len(known) - below).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Spread:
    """Random effects of novelty; names as in `parfocal.card.ShiftRule`."""

    mean: float
    mean_se: float
    between_sd: float
    frame_sd: float
    within_sd: float
    group_mean_sd: float


def spread(novelty: Floats, groups: Ints, frames: Ints) -> Spread:
    """Mean and variances between groups, frames and cells, by the method of moments.

    Nested analysis of variance with unequal numbers (Searle, Casella and McCulloch 1992, Variance
    Components, chapter 3); a variance that comes out below 0 is 0. Where each group is one frame it
    is the one-way analysis.

    Parameters
    ----------
    novelty : ndarray of shape (n,), float64
    groups, frames : ndarrays of shape (n,), int64
        Numbers from 0 on; a frame lies in one group.
    """
    n_of, mean_of = _means(novelty, frames)
    group_of = np.zeros(len(n_of), np.int64)
    group_of[frames] = groups
    size, centre = _means(novelty, groups)
    n, n_frames, n_groups = len(novelty), len(n_of), len(size)
    held = np.bincount(group_of, n_of**2) / size  # (groups,)
    within = _over(((novelty - mean_of[frames]) ** 2).sum(), n - n_frames)
    between_frames = (n_of * (mean_of - centre[group_of]) ** 2).sum()
    frame = max(0.0, _over(between_frames - (n_frames - n_groups) * within, n - held.sum()))
    mean_square = (size * (centre - novelty.mean()) ** 2).sum() / (n_groups - 1)
    typical = (n - (size**2).sum() / n) / (n_groups - 1)
    of_frames = (held.sum() - (n_of**2).sum() / n) / (n_groups - 1)
    least = within + of_frames * frame
    between = max(0.0, (mean_square - least) / typical)
    variance = between + frame * held / size + within / size  # of each group's mean
    known = max(mean_square, least) / typical
    weight = 1 / np.maximum(variance, 1e-12)
    return Spread(
        mean=float((weight * centre).sum() / weight.sum()),
        mean_se=float(weight.sum() ** -0.5),
        between_sd=float(between**0.5),
        frame_sd=float(frame**0.5),
        within_sd=float(within**0.5),
        group_mean_sd=float(known**0.5),
    )


def _means(values: Floats, number: Ints) -> tuple[Floats, Floats]:
    n = np.bincount(number).astype(np.float64)
    return n, np.bincount(number, values) / n


def _over(total: float, degrees: float) -> float:
    return float(total / degrees) if degrees > 1e-9 else 0.0


def shift_rule(
    distances: Floats, groups: Ints, frames: Ints, kind: str, false_alarm: float = FALSE_ALARM
) -> tuple[ShiftRule | None, Bools | None]:
    """The rule that a card carries, and which of the left-out groups the others would flag.

    Both None with fewer than `LEAST_GROUPS` groups, or where all cells are equally strange.
    """
    n_groups, seen = int(groups.max()) + 1, elsewhere(distances, groups)
    if n_groups < LEAST_GROUPS:
        return None, None
    found = spread(seen.novelty, groups, frames)
    if not found.group_mean_sd > 0:
        return None, None
    flagged = np.array(
        [_flagged(distances, groups, frames, seen, g, false_alarm) for g in range(n_groups)]
    )
    n = int(flagged.sum())
    low, high = wilson(n, n_groups)
    alarms = Metric(value=n / n_groups, low=low, high=high, n=n_groups,
                    how="each left-out group by the rule of the others, Wilson")  # fmt: skip
    return _rule(found, n_groups, kind, false_alarm, alarms), flagged


def _rule(found: Spread, n_groups: int, kind: str, false_alarm: float, alarms: Metric) -> ShiftRule:
    return ShiftRule(
        mean=found.mean,
        mean_se=found.mean_se,
        between_sd=found.between_sd,
        frame_sd=found.frame_sd,
        within_sd=found.within_sd,
        group_mean_sd=found.group_mean_sd,
        threshold=float(student.ppf(1 - false_alarm, n_groups - 1)),
        false_alarm=false_alarm,
        observed_false_alarms=alarms,
        n_groups=n_groups,
        group_kind=kind,
        how="random effects by nested analysis of variance; novelty of each group by the others'",
    )


def _flagged(
    distances: Floats, groups: Ints, frames: Ints, seen: Elsewhere, group: int, false_alarm: float
) -> bool:
    """Whether a group is strange to the others, of whose rule it knows nothing."""
    mine = groups == group
    rest, n_mine = ~mine, int(mine.sum())
    without = Elsewhere(
        seen.stranger[rest] - _as_strange(distances[mine], distances[rest]), seen.of[rest] - n_mine
    )
    found = spread(without.novelty, _renumbered(groups[rest]), _renumbered(frames[rest]))
    if not found.group_mean_sd > 0:
        return False
    n_others = len(np.unique(groups)) - 1
    rule = _rule(found, n_others, "group", false_alarm, Metric(value=0))
    n_of, mean_of = _means(seen.novelty[mine], _renumbered(frames[mine]))
    judged = shift([(int(n), n * m) for n, m in zip(n_of, mean_of, strict=True)], rule)
    return judged is not None and judged.flagged


def _renumbered(number: Ints) -> Ints:
    return np.unique(number, return_inverse=True)[1].astype(np.int64)
