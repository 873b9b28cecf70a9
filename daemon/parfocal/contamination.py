"""Cells of another class than declared: found or not, and how few could have been found.

Detection after Currie (Analytical Chemistry 1968): a critical level that a pure flask exceeds with
a small probability, and the limit of detection, the share that exceeds it in 95 of 100 flasks. A
pure flask's rate of wrong answers varies between flasks, so its distribution is that of the
left-out groups (`parfocal.composition_rates`), not that of one fixed rate.
"""

import numpy as np

from parfocal.composition import Answers, effect, share_of
from parfocal.composition_rates import ErrorRate, Floats, Reading
from parfocal.declared import ERROR, REPEATED, class_of, look_at
from parfocal.intervals import design_effect
from parfocal.types import Contamination, FlaskRef

POWER_Z = 1.645
"""One-sided 95 % of the normal distribution: how surely the limit of detection is found."""
LEVELS = 48


def contamination(
    flask: FlaskRef, frames: Answers, reading: Reading | None, strange: bool
) -> Contamination | None:
    """Share of cells of another class than declared, at the last look; None where unknown.

    None without a declared line that the model knows, before the first look, and when the cells
    are `strange`: then no rate of wrong answers holds.
    """
    at = class_of(flask.cell_line, reading.classes) if reading else None
    seen = frames[: look_at(len(frames))]
    if reading is None or at is None or strange or not any(any(f.values()) for f in seen):
        return None
    return _judged(reading.classes[at], at, seen, reading)


def exceeds(at: int, frames: Answers, reading: Reading) -> bool:
    """Whether a pure flask shows so many other answers as at most `ERROR` of them ever do."""
    other, n = _other(at, frames, reading)
    return bool(reading.errors[at].tail(np.array([other]), n)[0] <= ERROR)


def _other(at: int, frames: Answers, reading: Reading) -> tuple[float, float]:
    """Share of other answers, and the independent cells it is worth, looked at repeatedly."""
    label, n = reading.classes[at], sum(sum(f.values()) for f in frames)
    return 1 - sum(f.get(label, 0) for f in frames) / n, n / effect(label, frames) / REPEATED


def _judged(label: str, at: int, frames: Answers, reading: Reading) -> Contamination:
    n = sum(sum(f.values()) for f in frames)
    error, (other, many) = reading.errors[at], _other(at, frames, reading)
    critical = critical_rate(error, many)
    pure, low, high = share_of(at, frames, reading)
    found = exceeds(at, frames, reading)
    limit = detectable(critical, at, reading, n / _expected_effect(error, frames))
    return Contamination(
        found=found, fraction=1 - pure, low=1 - high, high=1 - low, limit_of_detection=limit,
        n_cells=n, n_frames=len(frames), answered_other=other, expected_other=error.centre,
        expected_other_sd=error.between, sd_assumed=error.n_groups == 0,
        text=_text(label, found, 1 - pure, 1 - high, 1 - low, limit, error, reading.group_kind),
    )  # fmt: skip


def critical_rate(error: ErrorRate, n: float) -> float:
    """Share of other answers that a pure flask ever exceeds with probability `ERROR`."""
    sd = np.sqrt(error.spread**2 + error.centre * (1 - error.centre) / n)
    rates = np.linspace(error.centre, min(1.0, error.centre + 16 * sd), LEVELS)
    tail = np.maximum(error.tail(rates, n), 1e-30)
    below = np.flatnonzero(tail <= ERROR)
    if not len(below):
        return 1.0
    i = max(1, int(below[0]))
    inner = np.log(tail[i - 1 : i + 1][::-1])  # log-linear between two levels
    return float(np.interp(np.log(ERROR), inner, rates[i - 1 : i + 1][::-1]))


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


def _expected_effect(error: ErrorRate, frames: Answers) -> float:
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
