"""What a person sees of a training: a live table on a terminal, plain lines elsewhere."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Left:
    """Seconds to the end of the last part; `at_most`: a part may end before its last epoch."""

    seconds: float
    at_most: bool

    def __str__(self) -> str:
        return ("at most " if self.at_most else "") + clock_text(self.seconds)


class Pace:
    """How long the rest of a training will take, from its epochs so far.

    `may_end_early`: parts may end before their last epoch. Those to come are then expected to be as
    long as those that ended; before one did, every epoch counts.
    """

    def __init__(self, clock_s: Callable[[], float], may_end_early: bool = False) -> None:
        self.clock_s, self.begun_s, self.may_end_early = clock_s, clock_s(), may_end_early
        self.seen, self.lengths = 0, dict[int, int]()

    def left(self, part: Part, epoch: Epoch) -> Left:
        """What is left after this epoch; to be asked after each."""
        self.seen += 1
        ended = [length for number, length in self.lengths.items() if number != part.number]
        self.lengths[part.number] = epoch.number
        usual = sum(ended) / len(ended) if ended else epoch.of
        foreseen = self.may_end_early and bool(ended) and usual > epoch.number
        this = usual if foreseen else epoch.of
        epochs = this - epoch.number + usual * (part.of - part.number - 1)
        each_s = (self.clock_s() - self.begun_s) / self.seen
        return Left(each_s * epochs, at_most=self.may_end_early and not foreseen)


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
        f"held out {percent(epoch.val_accuracy)} left {pace.left(part, epoch)}"
    )


def _row(part: Part, epoch: Epoch, pace: Pace) -> tuple[str, ...]:
    return (
        part.name,
        f"{epoch.number}/{epoch.of}",
        f"{epoch.loss:.3f}",
        percent(epoch.train_accuracy),
        percent(epoch.val_accuracy),
        str(pace.left(part, epoch)),
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
