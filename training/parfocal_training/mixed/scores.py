"""Scores of a network on flasks that hold two lines, per frame, over frames, and over repeats.

The positive line is the one with labelled nuclei. Sensitivity is the share of its cells that the
network calls by its name, specificity that of the other line's cells that it does not.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from parfocal_training.mixed.rates import Called, Interval, Rate, drawn, rate, share_right

LEAST_INFORMATION = 0.1
"""Sensitivity + specificity - 1 below which a share cannot be corrected: errors grow tenfold."""


class FrameScore(msgspec.Struct, frozen=True, kw_only=True):
    """One frame: cells, rates (None without such cells), and shares of the labelled line."""

    path: str
    flask: str
    n: int
    n_labelled: int
    accuracy: float
    sensitivity: float | None
    specificity: float | None
    true_share: float
    called_share: float
    corrected_share: float | None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One network on the cells of all frames.

    `counts` are [true][called], labelled line first. `frame_accuracy` is the mean over frames of
    the accuracy of each, `accuracy` that of all cells. `called_error` and `corrected_error` are
    mean absolute errors of a frame's share; `correction` says where the correcting rates are from.
    """

    n_cells: int
    n_left_out: int
    counts: tuple[tuple[int, int], tuple[int, int]]
    accuracy: Rate
    frame_accuracy: Rate
    sensitivity: Rate | None
    specificity: Rate | None
    correction: str
    called_error: float
    corrected_error: float | None
    flask_accuracy: dict[str, float]
    frames: tuple[FrameScore, ...]


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Mean and standard deviation (n - 1) over n repeats; None for a single one."""

    mean: float
    sd: float | None
    n: int


def score(cells: Called, n_left_out: int, known: Interval | None, seed: int = 0) -> Score:
    """Every figure of one network; `known` are its sensitivity and specificity by left-out groups.

    Without them a frame's share is corrected by the rates of the other flasks (or frames).
    """
    right = cells.right.astype(np.float64)
    frames = frame_scores(cells, known)
    corrected = [f.corrected_share - f.true_share for f in frames if f.corrected_share is not None]
    return Score(
        n_cells=len(cells),
        n_left_out=n_left_out,
        counts=(counts(cells, True), counts(cells, False)),
        accuracy=rate(right, cells, seed),
        frame_accuracy=mean_of_frames(frames, seed),
        sensitivity=share_right(cells.of(cells.truth), seed),
        specificity=share_right(cells.of(~cells.truth), seed),
        correction="left-out groups of the training" if known else f"the other {other(cells)}s",
        called_error=float(np.mean([abs(f.called_share - f.true_share) for f in frames])),
        corrected_error=float(np.mean(np.abs(corrected))) if corrected else None,
        flask_accuracy={
            flask: float(right[[f == flask for f in cells.flasks]].mean())
            for flask in sorted(set(filter(None, cells.flasks)))
        },
        frames=frames,
    )


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation of at least one value."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(mean=float(np.mean(values)), sd=sd, n=len(values))


def over_repeats(scores: Sequence[Score]) -> dict[str, Spread]:
    """Mean and standard deviation of each rate over networks; rates that some lack are left out."""
    out = {}
    for name in ("accuracy", "frame_accuracy", "sensitivity", "specificity"):
        rates: list[Rate | None] = [getattr(one, name) for one in scores]
        values = [rate.value for rate in rates if rate is not None]
        if values and len(values) == len(rates):
            out[name] = spread(values)
    return out


def counts(cells: Called, truth: bool) -> tuple[int, int]:
    """Cells of one true line called labelled, and not."""
    of = cells.called[cells.truth == truth]
    return int(of.sum()), int((~of).sum())


def mean_of_frames(frames: Sequence[FrameScore], seed: int) -> Rate:
    """The paper's figure: the accuracy of each frame, averaged over frames."""
    values = np.array([frame.accuracy for frame in frames])
    flasks = tuple(frame.flask for frame in frames)
    return Rate(
        value=float(values.mean()),
        n=len(frames),
        paper=None,
        over_frames=drawn(values, tuple(frame.path for frame in frames), seed),
        over_flasks=drawn(values, flasks, seed) if len(set(flasks)) > 1 else None,
    )


def other(cells: Called) -> Literal["flask", "frame"]:
    """What is left out when a frame's share is corrected by the rates of the rest."""
    return "flask" if len(set(cells.flasks)) > 1 else "frame"


def frame_scores(cells: Called, known: Interval | None) -> tuple[FrameScore, ...]:
    """Scores of each frame that has cells, in the order of first appearance."""
    frames, flasks = np.array(cells.frames), np.array(cells.flasks)
    groups = flasks if other(cells) == "flask" else frames
    out = []
    for path in dict.fromkeys(cells.frames):
        here = frames == path
        first = int(np.argmax(here))
        rates = known or rates_of(cells.of(groups != groups[first]))
        out.append(frame_score(path, str(flasks[first]), cells.of(here), rates))
    return tuple(out)


def frame_score(path: str, flask: str, cells: Called, rates: Interval | None) -> FrameScore:
    """Scores of one frame's cells, at least one."""
    called_share = float(cells.called.mean())
    return FrameScore(
        path=path,
        flask=flask,
        n=len(cells),
        n_labelled=int(cells.truth.sum()),
        accuracy=float(cells.right.mean()),
        sensitivity=float(cells.called[cells.truth].mean()) if cells.truth.any() else None,
        specificity=float((~cells.called)[~cells.truth].mean()) if (~cells.truth).any() else None,
        true_share=float(cells.truth.mean()),
        called_share=called_share,
        corrected_share=corrected_share(called_share, rates) if rates else None,
    )


def rates_of(cells: Called) -> Interval | None:
    """Sensitivity and specificity; None where a line has no cells."""
    if not len(cells) or cells.truth.all() or not cells.truth.any():
        return None
    return (
        float(cells.called[cells.truth].mean()),
        float((~cells.called)[~cells.truth].mean()),
    )


def corrected_share(called_share: float, rates: Interval) -> float | None:
    """The true share that would be called so by a network of these rates (Rogan, Gladen 1978)."""
    sensitivity, specificity = rates
    information = sensitivity + specificity - 1
    if information < LEAST_INFORMATION:
        return None
    return min(1.0, max(0.0, (called_share + specificity - 1) / information))
