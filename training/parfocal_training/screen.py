"""What a person sees of a training: a live table on a terminal, plain lines elsewhere."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.table import Table

from parfocal_training.checkpoint import Checkpoint
from parfocal_training.crops import ImageCrops
from parfocal_training.cropset import CropSet
from parfocal_training.fit import Part
from parfocal_training.train import Epoch

Say = Callable[[Part, Epoch], None]


def percent(value: float | None) -> str:
    """A share as a person reads it; `-` for None."""
    return "-" if value is None else f"{100 * value:.1f} %"


def clock_text(seconds: float) -> str:
    """Minutes and seconds, for example `3:07`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Pace:
    """How long the rest of a fit will take, from the epochs (weighted by their crops) so far."""

    def __init__(self, epochs: int, clock_s: Callable[[], float]) -> None:
        self.epochs, self.clock_s, self.begun_s = epochs, clock_s, clock_s()
        self.first: int | None = None

    def left_s(self, part: Part, epoch: Epoch) -> float:
        """Seconds to the end of the last part."""
        done = part.number * self.epochs + epoch.number
        if self.first is None:
            self.first = done - 1  # epochs that a resumed fit had behind it
        total = part.of * self.epochs
        return (self.clock_s() - self.begun_s) / (done - self.first) * (total - done)


@contextmanager
def shown_epochs(console: Console, pace: Pace) -> Iterator[Say]:
    """Something to tell each epoch to."""
    if not console.is_terminal:
        yield lambda part, epoch: console.print(_line(part, epoch, pace), soft_wrap=True)
        return
    rows: dict[str, tuple[str, ...]] = {}
    with Live(console=console, refresh_per_second=4) as live:

        def say(part: Part, epoch: Epoch) -> None:
            rows[part.name] = _row(part, epoch, pace)
            live.update(_table(rows))

        yield say


def _line(part: Part, epoch: Epoch, pace: Pace) -> str:
    return (
        f"{part.name} ({part.number + 1}/{part.of}) epoch {epoch.number}/{epoch.of} "
        f"loss {epoch.loss:.3f} training {percent(epoch.train_accuracy)} "
        f"held out {percent(epoch.val_accuracy)} left {clock_text(pace.left_s(part, epoch))}"
    )


def _row(part: Part, epoch: Epoch, pace: Pace) -> tuple[str, ...]:
    return (
        part.name,
        f"{epoch.number}/{epoch.of}",
        f"{epoch.loss:.3f}",
        percent(epoch.train_accuracy),
        percent(epoch.val_accuracy),
        clock_text(pace.left_s(part, epoch)),
    )


def _table(rows: dict[str, tuple[str, ...]]) -> Table:
    table = Table("part", "epoch", "loss", "training", "held out", "left (min:s)")
    for row in rows.values():
        table.add_row(*row)
    return table


def watched(
    images: Iterable[ImageCrops], total: int, console: Console
) -> Generator[ImageCrops, None, None]:
    """The same images, with a progress bar while they are made."""
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("cutting", total=total)
        for image in images:
            bar.advance(task)
            yield image


def crops_table(crop_set: CropSet, images: list[ImageCrops]) -> Table:
    """Images, crops and groups of each class, and what was rejected and why."""
    table = Table("class", "images", "crops", "groups", "rejected")
    for name in crop_set.classes:
        mine = [image for image in images if image.row.cell_line == name]
        n_crops = sum(len(image.crops) for image in mine if image.crops is not None)
        groups = {image.row.group for image in mine if image.crops is not None and len(image.crops)}
        table.add_row(name, str(len(mine)), str(n_crops), str(len(groups)), _reasons(mine))
    return table


def _reasons(images: list[ImageCrops]) -> str:
    total: dict[str, int] = {}
    for image in images:
        for reason, n in image.rejected.items():
            total[reason] = total.get(reason, 0) + n
    return ", ".join(f"{n} {reason}" for reason, n in sorted(total.items())) or "none"


def metrics_table(checkpoint: Checkpoint) -> Table:
    """Every figure with its interval; how each was got is in the checkpoint and the card."""
    table = Table("figure", "value", "95 % interval", title="cells of groups left out of training")
    for name, metric in checkpoint.measured.metrics.items():
        interval = "-" if metric.low is None else f"{metric.low:.3f} to {metric.high:.3f}"
        table.add_row(name, f"{metric.value:.3f}", interval)
    return table
