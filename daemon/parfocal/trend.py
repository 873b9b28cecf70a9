"""A flask beside earlier passages of its line: control limits for its figures.

A chart of individuals (Shewhart; Montgomery, Introduction to Statistical Quality Control, chapter
6) with the limits of a prediction interval instead of three SDs: Student's quantile and the factor
sqrt(1 + 1/m) keep few passages from raising false alarms, and the uncertainty of this flask's own
figure counts too.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from parfocal.intervals import Z_95, student_quantile
from parfocal.types import Control, Density, FlaskVerdict, Fraction, Trend

LEAST_PASSAGES, LEAST_FRAMES = 3, 3
LIMIT_TAIL = 0.005
"""Each limit is passed by 0.5 % of flasks that behave like the earlier ones: 99 % lie inside."""

Figures = dict[str, tuple[float, float]]
"""Name of a figure to its value and standard error."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """Passages that a flask can be compared with.

    Parameters
    ----------
    verdicts : tuple of FlaskVerdict
        Last totals of closed sessions of the same line, scored by the same model with the same
        preparation, each another flask.
    n_other_model : int
        Sessions of the line that were scored, wholly or in part, in another way.
    """

    verdicts: tuple[FlaskVerdict, ...] = ()
    n_other_model: int = 0


ALONE = Earlier()


def figures(verdict: FlaskVerdict) -> Figures:
    """The figures of a flask that are followed over passages."""
    return dict(_figures(verdict))


def _figures(verdict: FlaskVerdict) -> Iterator[tuple[str, tuple[float, float]]]:
    for label, f in (verdict.corrected or {}).items():
        yield f"share of {label}", _share(f)
    for name, f in (verdict.phenotypes or {}).items():
        yield f"phenotype {name}", _share(f)
    density: Density | None = verdict.density
    if density is not None:
        error = (density.high - density.low) / (2 * Z_95)
        yield "cells per mm2", (density.cells_per_mm2, error)
    if verdict.shift is not None:
        yield "shift", (verdict.shift.score, 0.0)


def _share(f: Fraction) -> tuple[float, float]:
    return f.fraction, (f.high - f.low) / (2 * Z_95)


def trend(verdict: FlaskVerdict, earlier: Earlier = ALONE) -> Trend | None:
    """The flask's figures with their control limits; None when no line was declared.

    Parameters
    ----------
    verdict : FlaskVerdict
        Totals of this flask.
    earlier : Earlier
        What it is compared with.
    """
    line = verdict.flask.cell_line
    if line is None:
        return None
    known = [figures(one) for one in earlier.verdicts if one.n_frames >= LEAST_FRAMES]
    controls: dict[str, Control] = {}
    if len(known) < LEAST_PASSAGES:
        text = f"{len(known)} earlier passages of {line}, {LEAST_PASSAGES} are needed for a trend"
    elif verdict.n_frames < LEAST_FRAMES:
        text = f"too few fields to compare with {len(known)} earlier passages of {line}"
    else:
        controls = dict(_controls(figures(verdict), known))
        text = _text(line, len(known), controls)
    out = earlier.n_other_model
    text += f"; {out} scored by another model or preparation left out" if out else ""
    return Trend(n_passages=len(known), n_other_model=out, text=text, figures=controls)


def _controls(now: Figures, known: Sequence[Figures]) -> Iterator[tuple[str, Control]]:
    for name, (value, error) in now.items():
        before = [one[name][0] for one in known if name in one]
        if len(before) >= LEAST_PASSAGES:
            yield name, control(value, error, before)


def control(value: float, error: float, before: Sequence[float]) -> Control:
    """A figure of standard error `error` beside at least two earlier values."""
    m = len(before)
    mean = math.fsum(before) / m
    variance = math.fsum((v - mean) ** 2 for v in before) / (m - 1)
    half = student_quantile(m - 1, LIMIT_TAIL) * math.sqrt(variance * (1 + 1 / m) + error**2)
    return Control(
        value=value, mean=mean, low=mean - half, high=mean + half, outside=abs(value - mean) > half
    )


def _text(line: str, n: int, controls: dict[str, Control]) -> str:
    out = [name for name, one in controls.items() if one.outside]
    beside = f"{n} earlier passages of {line}"
    if not out:
        return f"as in {beside}"
    named = "; ".join(
        f"{name} {controls[name].value:.3g} ({controls[name].low:.3g} to {controls[name].high:.3g})"
        for name in out
    )
    return f"unlike {beside}: {named}"
