"""The panels of the paper: curves of training, accuracy of every series, who tells whom apart."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from parfocal_training.experiments.running import RunResult
from parfocal_training.experiments.summary import SeriesFigures
from parfocal_training.report import canvas
from parfocal_training.train import Epoch

SHOWN_CURVES = 40


def curves(results: Sequence[RunResult]) -> Figure:
    """Loss and accuracy by epoch: each run thin, their mean thick; the first test is dashed."""
    made = canvas(9, 3.6)
    loss, accuracy = made.subplots(1, 2)
    shown = [run.history for run in results if run.history]
    for history in shown[:SHOWN_CURVES]:
        at = [epoch.number for epoch in history]
        loss.plot(at, [e.loss for e in history], color="C0", alpha=0.15)
        accuracy.plot(at, [e.train_accuracy for e in history], color="C0", alpha=0.15)
        if history[0].val_accuracy is not None:
            loss.plot(at, [e.val_loss for e in history], color="C1", alpha=0.15)
            accuracy.plot(at, [e.val_accuracy for e in history], color="C1", alpha=0.15)
    _mean(loss, shown, "loss", "C0", "training cells, augmented")
    _mean(loss, shown, "val_loss", "C1", "first test")
    _mean(accuracy, shown, "train_accuracy", "C0", "training cells, augmented")
    _mean(accuracy, shown, "val_accuracy", "C1", "first test")
    for axes in (loss, accuracy):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    loss.set(xlabel="epoch", ylabel="cross-entropy (nats)")
    accuracy.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02))
    accuracy.legend(fontsize="small", loc="lower right")
    return made


def _mean(
    axes: object, histories: Sequence[tuple[Epoch, ...]], name: str, colour: str, label: str
) -> None:
    length = min((len(history) for history in histories), default=0)
    values = [[getattr(epoch, name) for epoch in history[:length]] for history in histories]
    if not length or any(value is None for row in values for value in row):
        return
    at = np.arange(1, length + 1)
    axes.plot(at, np.mean(values, 0), color=colour, linewidth=2, label=label)  # type: ignore[attr-defined]


def bars(series: Sequence[SeriesFigures], chance: float, paper: dict[str, float]) -> Figure:
    """Accuracy of each series with its interval over groups; the paper's figure as a diamond."""
    names = list(dict.fromkeys(one.series for one in series))
    variants = list(dict.fromkeys(one.variant for one in series))
    made = canvas(max(6.0, 0.7 * len(names) * len(variants) + 2), 4)
    axes = made.subplots()
    width = 0.8 / len(variants)
    for v, variant in enumerate(variants):
        mine = {one.series: one for one in series if one.variant == variant}
        at = np.array([names.index(name) for name in mine]) + (v - (len(variants) - 1) / 2) * width
        height = np.array([one.accuracy for one in mine.values()])
        low = np.array([one.low for one in mine.values()])
        high = np.array([one.high for one in mine.values()])
        spread = np.abs(np.stack([height - low, high - height]))
        axes.bar(at, height, width, yerr=spread, capsize=2, label=variant, color=f"C{v}", alpha=0.8)
    known = [(names.index(name), value) for name, value in paper.items() if name in names]
    if known:
        axes.plot(*zip(*known, strict=True), "kD", label="the paper", zorder=5)
    axes.axhline(chance, color="grey", linestyle=":", label="chance")
    axes.set_xticks(range(len(names)), names, rotation=25, ha="right")
    axes.set(ylabel="accuracy", ylim=(0, 1.02))
    made.legend(fontsize="small", loc="outside right upper")
    return made


def heat(rows: Sequence[str], columns: Sequence[str], values: NDArray[np.float64]) -> Figure:
    """Accuracy by what was trained on (rows) and tested on (columns); empty: not tested."""
    made = canvas(1.1 * len(columns) + 4, 0.5 * len(rows) + 2.2)
    axes = made.subplots()
    shown = axes.imshow(values, vmin=0.4, vmax=1, cmap="viridis", aspect="auto")
    for r, row in enumerate(values):
        for c, value in enumerate(row):
            if not np.isnan(value):
                colour = "white" if value < 0.75 else "black"
                axes.text(c, r, f"{value:.2f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel="tested on", ylabel="trained on")
    made.colorbar(shown, label="accuracy")
    return made
