"""`parfocal demo` and `parfocal simulate`: the instrument without a microscope."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from parfocal import console
from parfocal.client import Event, Received, Subscriber
from parfocal.commands.arguments import Commands, command
from parfocal.demo import SHARE, Stage, Tally, close_flask, last_verdict, running, truth
from parfocal.flasktext import shares_of
from parfocal.follow import one_line
from parfocal.phenotypes import phenotypes_text
from parfocal.quantities import between, count, whole
from parfocal.simulator import __main__ as camera


def add_demo(commands: Commands) -> None:
    """Add the arguments of `parfocal demo`."""
    text = "a simulated flask, the real daemon and a live table; nothing to set up"
    made = command(commands, "demo", text, run_demo)
    made.add_argument("--frames", type=count, metavar="N",
                      help="stop after N images (default: at Ctrl-C)")  # fmt: skip
    made.add_argument("--pace-s", type=between(0, 3600, "s"), default=2.0, metavar="S",
                      help="seconds from one image to the next (default: 2)")  # fmt: skip
    made.add_argument("--seed", type=whole, default=0, metavar="N",
                      help="another number, another flask (default: 0)")  # fmt: skip
    made.add_argument("--keep", type=Path, metavar="DIR",
                      help="keep images, truth and journal in this new folder")  # fmt: skip
    made.add_argument("--no-dashboard", action="store_true",
                      help="no web page (there is none in this version)")  # fmt: skip


def add_simulate(commands: Commands) -> None:
    """Add the arguments of `parfocal simulate`."""
    text = "draw images of simulated flasks, with their truth and a flasks.csv"
    camera.add_arguments(command(commands, "simulate", text, run_simulate))


def run_simulate(options: argparse.Namespace) -> None:
    """`parfocal simulate`."""
    total = sum(camera.fields_of(options, one) for one in camera.flasks_of(options))
    for _ in console.progress(camera.draw(options), "drawing", total):
        pass
    console.say(f"{total} simulated images and flasks.csv are in {options.folder}")


def run_demo(options: argparse.Namespace) -> None:
    """`parfocal demo`: until --frames or Ctrl-C."""
    console.say("parfocal demo: every cell here is simulated; the daemon is the real one.")
    if not options.no_dashboard:
        console.say("There is no web page in this version; this table is all there is to see.")
    with ExitStack() as stack:
        home = options.keep
        if home is None:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="parfocal-demo-"))
            home = Path(name)
        stage = stack.enter_context(running(home, options.frames, options.pace_s, options.seed))
        subscriber = stack.enter_context(Subscriber(stage.endpoints))
        _watch(options, stage, subscriber)


def _watch(options: argparse.Namespace, stage: Stage, subscriber: Subscriber) -> None:
    tally = Tally()
    try:
        with _shown() as show:
            while not tally.finished(options.frames):
                for event in subscriber.events(0.3):
                    if isinstance(event, Received):
                        tally.take(event)
                    show(event)
                show(None)
    except KeyboardInterrupt:
        console.say("")
    close_flask(stage)
    _summarize(stage, subscriber, tally)
    if options.keep:
        console.say(f"images, truth and journal are in {stage.home}")


@contextmanager
def _shown() -> Iterator[Callable[[Event | None], None]]:
    """A live table on a terminal, lines elsewhere."""
    if not sys.stdout.isatty():
        yield _print_line
        return
    view = console.LiveView(console.out())
    with view.live:
        yield lambda event: view.refresh() if event is None else view.show(event)


def _print_line(event: Event | None) -> None:
    if isinstance(event, Received):
        print(one_line(event), flush=True)


def _summarize(stage: Stage, subscriber: Subscriber, tally: Tally) -> None:
    verdict = last_verdict(subscriber, tally)
    if verdict is None or not tally.done:
        console.say("stopped before the first image was scored")
        return
    known = truth(stage, tally.done)
    print(f"\nflask {verdict.flask.id}, {verdict.n_frames} images, {verdict.n_cells} cells")
    for label, f in shares_of(verdict).items():
        true = known.get(label, 0.0)
        print(f"  {label:<10} {f.fraction:6.1%}  95 % interval {f.low:.1%} to {f.high:.1%}"
              f"   (simulated truth {true:.1%})")  # fmt: skip
    print(f"  abstained on {verdict.n_abstained}, found but not classified {verdict.n_rejected}; "
          f"sown {SHARE:.0%} to {1 - SHARE:.0%}")  # fmt: skip
    phenotypes = phenotypes_text(verdict.phenotypes)
    if phenotypes:
        print(f"  {phenotypes}")
