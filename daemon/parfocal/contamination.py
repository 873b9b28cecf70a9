"""Cells of another class than declared: found or not, and how few could have been found.

Detection after Currie (Analytical Chemistry 1968): a critical level that a pure flask exceeds with
a small probability, and the limit of detection, the share that exceeds it in 95 of 100 flasks. A
pure flask's rate of wrong answers varies between flasks, so its distribution is that of the
left-out groups (`parfocal.composition_rates`), not that of one fixed rate.

A flask is looked at again and again as its cells become more. Each look has a boundary of its own,
most of the error being spent at 1,000 cells (Lan and DeMets, Biometrika 1983, 70:659-663). What is
found at one look stays found, as in any group-sequential test.
"""

from itertools import accumulate
from statistics import NormalDist

import numpy as np

from parfocal.composition import Answers, effect, share_of
from parfocal.composition_rates import ErrorRate, Floats, Reading
from parfocal.declared import class_of
from parfocal.intervals import design_effect
from parfocal.types import Contamination, FlaskRef

AIM_CELLS = 1000
LOOK_CELLS = tuple(AIM_CELLS * 2 ** (step / 2) for step in range(-10, 7))
"""Numbers of cells, 31 to 8,000, at which a flask is looked at; what comes in between and after
changes the numbers shown, not the judgement."""
LEAST_FIELDS = 3
EARLY_Z, AIM_Z, LATE_Z = 3.7, 2.45, 3.2
"""Boundaries before, at and after `AIM_CELLS`, in SDs of what a pure flask shows. A random walk
ever passes them with probability 1 %. What looks have in common, the flask, ties them together,
which makes that less (Slepian's inequality, Bell System Technical Journal 1962, 41:463-501)."""
TAILS = tuple(
    NormalDist().cdf(-(EARLY_Z if n < AIM_CELLS else AIM_Z if n == AIM_CELLS else LATE_Z))
    for n in LOOK_CELLS
)
POWER_Z = 1.645
"""One-sided 95 % of the normal distribution: how surely the limit of detection is found."""
LEVELS = 48

Look = tuple[int, float]
"""Frames that a look takes in, and the probability with which a pure flask may exceed it."""


def looks(frames: Answers) -> list[Look]:
    """The looks that were due: each after the first of at least three fields to reach its cells."""
    cells = list(accumulate(sum(f.values()) for f in frames))
    fields = list(accumulate(any(f.values()) for f in frames))
    due: dict[int, float] = {}
    for least, tail in zip(LOOK_CELLS, TAILS, strict=True):
        reached = (i for i, n in enumerate(cells) if n >= least and fields[i] >= LEAST_FIELDS)
        at = next(reached, None)
        if at is not None:
            due[at + 1] = max(tail, due.get(at + 1, 0.0))
    return list(due.items())


def contamination(
    flask: FlaskRef, frames: Answers, reading: Reading | None, strange: bool
) -> Contamination | None:
    """Share of cells of another class than declared, at the last look; None where unknown.

    None without a declared line that the model knows, before the first look, and when the cells
    are `strange`: then no rate of wrong answers holds.
    """
    at = class_of(flask.cell_line, reading.classes) if reading else None
    due = looks(frames)
    if reading is None or at is None or strange or not due:
        return None
    return _judged(reading.classes[at], at, frames, due, reading)


def exceeds(at: int, frames: Answers, due: list[Look], reading: Reading) -> bool:
    """Whether a flask showed more other answers at any look than a pure one does."""
    seen = [_other(at, frames[:n], reading) for n, _ in due]
    other, many = np.array(seen).T
    return bool((reading.errors[at].tail(other, many) <= [tail for _, tail in due]).any())


def _other(at: int, frames: Answers, reading: Reading) -> tuple[float, float]:
    """Share of other answers, and the independent cells that it is worth."""
    label, n = reading.classes[at], sum(sum(f.values()) for f in frames)
    return 1 - sum(f.get(label, 0) for f in frames) / n, n / effect(label, frames)


def _judged(
    label: str, at: int, frames: Answers, due: list[Look], reading: Reading
) -> Contamination:
    seen, error = frames[: due[-1][0]], reading.errors[at]
    pure, low, high = share_of(at, seen, reading)
    found = exceeds(at, frames, due, reading)
    most = max(due, key=lambda look: look[1])  # later looks see more cells, but allow less error
    limit = min(_limit(at, frames[:n], tail, reading) for n, tail in {most, due[-1]})
    return Contamination(
        found=found, fraction=1 - pure, low=1 - high, high=1 - low, limit_of_detection=limit,
        n_cells=sum(sum(f.values()) for f in seen), n_frames=len(seen),
        answered_other=_other(at, seen, reading)[0], expected_other=error.centre,
        expected_other_sd=error.between, sd_assumed=error.n_groups == 0,
        text=_text(label, found, 1 - pure, 1 - high, 1 - low, limit, error, reading.group_kind),
    )  # fmt: skip


def _limit(at: int, frames: Answers, tail: float, reading: Reading) -> float:
    """Limit of detection of one look."""
    n, error = sum(sum(f.values()) for f in frames), reading.errors[at]
    critical = critical_rate(error, _other(at, frames, reading)[1], tail)
    return detectable(critical, at, reading, n / _expected_effect(frames))


def critical_rate(error: ErrorRate, n: float, tail: float) -> float:
    """Share of other answers that a pure flask exceeds with this probability at one look."""
    sd = np.sqrt(error.spread**2 + error.centre * (1 - error.centre) / n)
    rates = np.linspace(error.centre, min(1.0, error.centre + 16 * sd), LEVELS)
    tails = np.maximum(error.tail(rates, n), 1e-30)
    below = np.flatnonzero(tails <= tail)
    if not len(below):
        return 1.0
    i = max(1, int(below[0]))
    inner = np.log(tails[i - 1 : i + 1][::-1])  # log-linear between two levels
    return float(np.interp(np.log(tail), inner, rates[i - 1 : i + 1][::-1]))


def detectable(critical: float, at: int, reading: Reading, n: float) -> float:
    """Smallest contamination that exceeds the critical rate in 95 of 100 flasks; 1 if none does."""
    shares = np.linspace(0, 1, 501)
    others = [j for j in range(len(reading.classes)) if j != at]
    hit = min(others, key=lambda j: 1 - reading.matrix[j, at])  # the one that hides best
    rate: Floats = (1 - shares) * reading.errors[at].centre + shares * (1 - reading.matrix[hit, at])
    variance = (1 - shares) ** 2 * reading.errors[at].spread ** 2 + rate * (1 - rate) / n
    variance = variance + shares**2 * reading.variance[hit, at]
    seen = np.flatnonzero(rate - POWER_Z * np.sqrt(variance) >= critical)
    return float(shares[seen[0]]) if len(seen) else 1.0


def _expected_effect(frames: Answers) -> float:
    """Design effect that the next flask is expected to have: this one's, at the prior alone."""
    sizes = [sum(f.values()) for f in frames if any(f.values())]
    return design_effect([(0, size) for size in sizes])


def _text(
    label: str, found: bool, share: float, low: float, high: float, limit: float,
    error: ErrorRate, kind: str,
) -> str:  # fmt: skip
    how = "assumed" if error.n_groups == 0 else f"from {error.n_groups} left-out {kind}s"
    model = f"the model errs on {error.centre:.1%} of {label} (SD {error.between:.1%}, {how})"
    what = f"{share:.1%} ({low:.1%} to {high:.1%}) of cells are not {label}"
    if found:
        return f"contamination: {what}; {model}"
    return f"no contamination found; {limit:.1%} or more would have been; {model}"
