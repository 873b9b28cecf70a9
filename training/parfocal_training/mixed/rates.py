"""Shares of cells that a network calls rightly, with intervals over frames and over flasks."""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.intervals import wilson
from parfocal_training.evaluate import paper_interval

Bools = NDArray[np.bool_]
Interval = tuple[float, float]

DRAWS = 2000
"""Of whole frames or flasks, in a bootstrap."""


@dataclass(frozen=True, slots=True, eq=False)
class Called:
    """n cells of known line and what one network called them.

    `truth` and `called` (n,) are True for the labelled line, `accepted` (n,) where the network
    does not abstain. `flasks` holds n empty texts where nobody said.
    """

    frames: tuple[str, ...]
    flasks: tuple[str, ...]
    truth: Bools
    called: Bools
    accepted: Bools

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def right(self) -> Bools:
        """Where the network is right: (n,)."""
        return np.asarray(self.truth == self.called, np.bool_)

    def of(self, chosen: Bools) -> "Called":
        """The cells where `chosen` (n,) is True."""
        at = np.flatnonzero(chosen)
        return Called(
            frames=tuple(self.frames[i] for i in at),
            flasks=tuple(self.flasks[i] for i in at),
            truth=self.truth[at],
            called=self.called[at],
            accepted=self.accepted[at],
        )


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """A share or a mean of shares with its 95 % intervals.

    `paper` is e +- 1.96 sqrt(e (1 - e) / n) and takes cells as independent, which they are not;
    `over_frames` and `over_flasks` draw whole frames or flasks with replacement. `over_flasks` is
    None with fewer than two flasks.
    """

    value: float
    n: int
    paper: Interval | None
    over_frames: Interval
    over_flasks: Interval | None


def share_right(cells: Called, seed: int) -> Rate | None:
    """The share called rightly; None without cells."""
    return rate(cells.right.astype(np.float64), cells, seed) if len(cells) else None


def rate(right: NDArray[np.float64], cells: Called, seed: int) -> Rate:
    """The mean of `right` (n,) with its intervals."""
    value = float(right.mean())
    return Rate(
        value=value,
        n=len(right),
        paper=paper_interval(value, len(right)),
        over_frames=drawn(right, cells.frames, seed),
        over_flasks=drawn(right, cells.flasks, seed) if len(set(cells.flasks)) > 1 else None,
    )


def drawn(values: NDArray[np.float64], groups: tuple[str, ...], seed: int) -> Interval:
    """Bootstrap interval of the mean of `values` (n,) when whole groups are drawn again.

    Where all values are 0, or all are 1, drawing shows no spread: then it is Wilson's interval of
    as many trials as there are groups.
    """
    _, number = np.unique(np.array(groups), return_inverse=True)
    totals, sums = np.bincount(number), np.bincount(number, values)  # (groups,)
    mean = float(values.mean())
    if values.min() == values.max() and mean in (0, 1):
        return wilson(mean * len(totals), len(totals))
    even = np.full(len(totals), 1 / len(totals))
    times = np.random.default_rng(seed).multinomial(len(totals), even, DRAWS)  # (draws, groups)
    low, high = np.quantile((times @ sums) / (times @ totals), [0.025, 0.975])
    return float(low), float(high)
