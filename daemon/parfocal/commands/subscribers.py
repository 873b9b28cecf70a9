"""`parfocal follow` and `parfocal notebook`: durable subscribers."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parfocal import console
from parfocal.client import Received, Subscriber, at
from parfocal.commands.arguments import Commands, command, connected, endpoints_of, jsonable
from parfocal.follow import JsonLines, OutputError, Place, Sink, json_line, sink_for
from parfocal.notebook.deliver import GRACE_S, KINDS, Notebook
from parfocal.quantities import between, count


def add_follow(commands: Commands) -> None:
    """Add the arguments of `parfocal follow`."""
    made = command(commands, "follow", "show or store every result, none lost", run_follow)
    connected(made)
    made.add_argument("--since", type=count, metavar="SEQ",
                      help="start at this message (default: where the output, or the last follow "
                      "on this terminal, stopped; else 1)")  # fmt: skip
    made.add_argument("--topic", action="append", default=[], metavar="NAME",
                      choices=("frame", "flask", "alarm"), help="only these topics")  # fmt: skip
    made.add_argument("--out", type=Path, metavar="FILE",
                      help="append to FILE.csv (a row a cell) or FILE.jsonl")  # fmt: skip
    made.add_argument("--limit", type=count, metavar="N", help="stop after N messages")
    made.add_argument("--catch-up", action="store_true", help="stop at the end of the log")
    jsonable(made)


def add_notebook(commands: Commands) -> None:
    """Add the arguments of `parfocal notebook`."""
    text = "write one notebook entry for each flask session"
    made = command(commands, "notebook", text, run_notebook)
    connected(made)
    made.add_argument("--to", required=True, choices=sorted(KINDS),
                      help="entries as .eln archives, or as folders with a page")  # fmt: skip
    made.add_argument("--out", type=Path, default=Path("notebook"), metavar="DIR",
                      help="where entries go (default: ./notebook)")  # fmt: skip
    made.add_argument("--grace-s", type=between(0, 86400, "s"), default=GRACE_S, metavar="S",
                      help="seconds that late images are waited for after a flask is "
                      f"closed (default: {GRACE_S:g})")  # fmt: skip


def run_follow(options: argparse.Namespace) -> None:
    """`parfocal follow`: for ever, unless --limit or --catch-up ends it."""
    endpoints = endpoints_of(options)
    topics = tuple(f"{name}/" for name in options.topic)
    sink: Sink = sink_for(options.out) if options.out else Place(endpoints, topics)
    try:
        cursor = sink.resume()
        if options.since is not None:
            if isinstance(sink, JsonLines) and cursor.seq >= options.since:
                raise OutputError(f"{options.out} already holds message {options.since}")
            cursor = at(cursor, options.since)
        elif cursor.seq:
            console.say(f"going on after message {cursor.seq} (--since 1 starts over)")
        with Subscriber(endpoints, cursor, topics) as subscriber:
            _follow(options, subscriber, sink)
    finally:
        sink.close()


def _follow(options: argparse.Namespace, subscriber: Subscriber, sink: Sink) -> None:
    with _display(options) as show:
        left = options.limit
        while left is None or left > 0:
            for event in subscriber.events(0.5):
                show(event)
                if isinstance(event, Received):
                    sink.write(event)
                    left = None if left is None else left - 1
                    if left == 0:
                        break
            sink.flush()
            show(None)
            if options.catch_up and subscriber.caught_up:
                return


@contextmanager
def _display(options: argparse.Namespace) -> Iterator[Callable[[Any], None]]:
    """How events are shown: JSON Lines, a live table, plain lines, or progress of a file."""
    if options.json:

        def show_json(event: Any) -> None:
            if isinstance(event, Received):
                sys.stdout.buffer.write(json_line(event))
                sys.stdout.buffer.flush()

        yield show_json
    elif sys.stdout.isatty():
        view = console.LiveView(console.out())
        with view.live:
            yield lambda event: view.refresh() if event is None else view.show(event)
    else:

        def show_line(event: Any) -> None:
            for line in console.lines([event]):
                print(line, flush=True)

        yield show_line


def run_notebook(options: argparse.Namespace) -> None:
    """`parfocal notebook`: for ever."""
    notebook = Notebook(options.to, options.out, options.grace_s)
    try:
        notebook.follow(endpoints_of(options), lambda path: print(f"wrote {path}", flush=True))
    finally:
        notebook.close()
