"""Loss and accuracy over the epochs, drawn to a PNG without a display."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from parfocal_training.train import Epoch
from parfocal_training.write import write_whole


def draw(histories: Mapping[str, Sequence[Epoch]], path: Path) -> None:
    """One line for every part of a training: loss above, accuracy below; held-out cells dashed."""
    figure = Figure(figsize=(8, 7), layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    for number, (name, history) in enumerate(histories.items()):
        at, colour = [epoch.number for epoch in history], f"C{number % 10}"
        loss.plot(at, [e.loss for e in history], color=colour, label=name)
        accuracy.plot(at, [e.train_accuracy for e in history], color=colour, label=name)
        held_out = [e for e in history if e.val_accuracy is not None]
        when = [e.number for e in held_out]
        loss.plot(when, [e.val_loss for e in held_out], "--", color=colour)
        accuracy.plot(when, [e.val_accuracy for e in held_out], "--", color=colour)
    loss.set_ylabel("cross-entropy (nats)")
    accuracy.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02))
    loss.set_title("full: crops trained on, augmented; dashed: crops held out")
    accuracy.legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_whole(path, buffer.getvalue())
