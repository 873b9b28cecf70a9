"""The plots of the report: accuracy by frame, confusion, and composition."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from parfocal_training.mixed.scores import FrameScore
from parfocal_training.mixed.summary import Figures
from parfocal_training.report import canvas

PAPER_ACCURACY = 0.9
"""Yao, Rochman and Sun (2019), Fig. 4: over 90 % on average over frames."""


def by_frame(figures: Figures) -> dict[str, list[FrameScore]]:
    """The scores of each frame by all networks."""
    out: dict[str, list[FrameScore]] = {}
    for one in figures.repeats:
        for frame in one.frames:
            out.setdefault(frame.path, []).append(frame)
    return out


def accuracy_bars(figures: Figures) -> Figure:
    """The paper's Fig. 4c with all repeats."""
    frames = by_frame(figures)
    figure = canvas(max(6.0, 0.45 * len(frames) + 2), 4.2)
    axes = figure.subplots()
    means = [float(np.mean([one.accuracy for one in scores])) for scores in frames.values()]
    axes.bar(range(len(frames)), means, color="#56b4e9")
    for at, scores in enumerate(frames.values()):
        axes.text(at, 1.02, str(scores[0].n), ha="center", fontsize=8)
        if len(scores) > 1:
            axes.plot([at] * len(scores), [s.accuracy for s in scores], "k.", markersize=4)
    axes.axhline(PAPER_ACCURACY, color="k", linestyle="--", linewidth=1)
    axes.axhline(float(np.mean(means)), color="#d55e00", linewidth=1.2)
    axes.set(ylim=(0, 1.09), ylabel="accuracy", xlim=(-0.7, len(frames) - 0.3))
    axes.set_xticks(range(len(frames)), [Path(path).stem for path in frames], rotation=60,
                    ha="right", fontsize=8)  # fmt: skip
    return figure


def confusion(figures: Figures) -> Figure:
    """Counts with the share of each row."""
    counts = np.sum([one.counts for one in figures.repeats], axis=0)  # (2, 2)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = canvas(4.6, 3.6)
    axes = figure.subplots()
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    names = (figures.labelled, figures.unlabelled)
    axes.set_xticks((0, 1), names)
    axes.set_yticks((0, 1), names)
    axes.set(xlabel="called", ylabel="by its nucleus")
    for row, column in np.ndindex(2, 2):
        text = f"{counts[row, column]}\n{100 * share[row, column]:.0f} %"
        colour = "white" if share[row, column] > 0.6 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    return figure


def composition_scatter(figures: Figures) -> Figure:
    """Shares as called, and corrected, against the truth."""
    figure = canvas(8.4, 5.0)
    titles = ("as called", "corrected for the confusion")
    for axes, title, name in zip(
        figure.subplots(1, 2, sharey=True), titles, ("called_share", "corrected_share"), strict=True
    ):
        axes.plot((0, 1), (0, 1), color="0.6", linewidth=1)
        for number, one in enumerate(figures.repeats):
            known = [frame for frame in one.frames if getattr(frame, name) is not None]
            axes.scatter(
                [frame.true_share for frame in known],
                [getattr(frame, name) for frame in known],
                s=[4 * frame.n for frame in known],
                alpha=0.6,
                color=f"C{number}",
                label=figures.models[number],
            )
        axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal", title=title)
        axes.set_xlabel(f"share of {figures.labelled} by nuclei")
    figure.axes[0].set_ylabel("estimated share")
    if len(figures.models) > 1:
        figure.axes[1].legend(fontsize="small")
    return figure
