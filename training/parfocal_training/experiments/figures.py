"""The panels of the paper: curves of training, accuracy of every series, who tells whom apart."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from parfocal_training.experiments.running import RunResult
from parfocal_training.experiments.summary import SeriesFigures, answered
from parfocal_training.report import canvas
from parfocal_training.train import Epoch


def curves(results: Sequence[RunResult]) -> Figure:
    """Loss and accuracy by epoch: each run thin, their mean thick; the first test is dashed."""
    made = canvas(9, 3.6)
    loss, accuracy = made.subplots(1, 2)
    shown = [run.history for run in results if run.history]
    pale = max(0.03, 0.15 * min(1, 40 / max(1, len(shown))))  # hundreds must not become a blot
    for history in shown:
        at = [epoch.number for epoch in history]
        loss.plot(at, [e.loss for e in history], color="C0", alpha=pale)
        accuracy.plot(at, [e.train_accuracy for e in history], color="C0", alpha=pale)
        if history[0].val_accuracy is not None:
            loss.plot(at, [e.val_loss for e in history], color="C1", alpha=pale)
            accuracy.plot(at, [e.val_accuracy for e in history], color="C1", alpha=pale)
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


def bars(series: Sequence[SeriesFigures], chance: float) -> Figure:
    """Accuracy of each series with its interval over units; the paper's figure as a diamond."""
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
    known = {names.index(one.series): one.paper for one in series if one.paper is not None}
    if known:
        axes.plot(list(known), list(known.values()), "kD", label="the paper (a bound)", zorder=5)
    axes.axhline(chance, color="grey", linestyle=":", label="chance")
    axes.set_xticks(range(len(names)), names, rotation=25, ha="right")
    axes.set(ylabel="accuracy", ylim=(0, 1.02))
    made.legend(fontsize="small", loc="outside right upper")
    return made


def pools(results: Sequence[RunResult], series: Sequence[SeriesFigures], chance: float) -> Figure:
    """Accuracy by the number of pairs trained on (the number in a series' name), as in Fig. 3e."""
    made = canvas(7, 4)
    axes = made.subplots()
    variants = list(dict.fromkeys(one.variant for one in series))
    for v, variant in enumerate(variants):
        means = {size_of(one.series): one.accuracy for one in series if one.variant == variant}
        axes.plot(sorted(means), [means[size] for size in sorted(means)], f"C{v}", label=variant)
        if variant in results[0].tests[0].logits:  # else it is a mean of networks
            shift = 0.1 * (v - (len(variants) - 1) / 2)
            tests = answered(results, variant)
            at = [size_of(one.test.series) + shift for one in tests]
            axes.plot(at, [one.right.mean() for one in tests], f"C{v}o", alpha=0.3)
    known = {size_of(one.series): one.paper for one in series if one.paper is not None}
    if known:
        axes.plot(list(known), list(known.values()), "kD", label="the paper (a bound)")
    axes.axhline(chance, color="grey", linestyle=":", label="chance")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="pairs of flasks trained on", ylabel="accuracy", ylim=(0, 1.02))
    made.legend(fontsize="small", loc="outside right upper")
    return made


def size_of(series: str) -> int:
    """The first number in a name: `2 of 4 pairs`, `pool of 2`."""
    return next(int(word) for word in series.split() if word.isdigit())


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
