"""`parfocal flask`: which flask is on the stage."""

import argparse

from parfocal import client, console
from parfocal.commands.arguments import (
    FAILED,
    OK,
    Commands,
    command,
    connected,
    endpoints_of,
    jsonable,
    print_json,
)
from parfocal.commands.flask_assign import add_assign
from parfocal.commands.flask_history import add_history
from parfocal.commands.flask_scan import add_scan
from parfocal.flasktext import closed_by_text
from parfocal.publish import Command, Error, FlaskClose, FlaskOpen, FlaskShow
from parfocal.quantities import whole
from parfocal.sidecar import DeclaredFlask
from parfocal.types import FlaskRef


def add_flask(commands: Commands) -> None:
    """Add the arguments of `parfocal flask`."""
    made = commands.add_parser("flask", help="say which flask is on the stage",
                               description="say which flask is on the stage")  # fmt: skip
    what = made.add_subparsers(metavar="ACTION", required=True)
    opened = command(what, "open", "put a flask on the stage", run_flask_open)
    opened.add_argument(
        "id", metavar="ID", type=_name, help="the flask's own name, as on its label"
    )
    opened.add_argument("--cell-line", metavar="LINE", help="declared cell line")
    opened.add_argument("--passage", type=whole, metavar="N", help="passage number")
    opened.add_argument("--note", metavar="TEXT", help="anything worth keeping")
    closed = command(what, "close", "take the flask off the stage, or end another's session",
                     run_flask_close)  # fmt: skip
    closed.add_argument("flask", metavar="SESSION|ID", nargs="?", default="",
                        help="an open session, or a flask that has one, also one that a folder, "
                        "sidecar or code declared: its next image begins another "
                        "(default: the flask on the stage)")  # fmt: skip
    shown = command(what, "show", "which flask is on the stage, or how another is", run_flask_show)
    shown.add_argument("flask", metavar="SESSION|ID", nargs="?", default="",
                       help="a session, or the last one of a flask (default: that on the "
                       "stage)")  # fmt: skip
    for action in (opened, closed, shown):
        connected(action)
        jsonable(action)
    add_scan(what)
    add_assign(what)
    add_history(what)


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("a flask needs a name")
    return text


def run_flask_open(options: argparse.Namespace) -> int:
    """`parfocal flask open`."""
    flask = DeclaredFlask(
        id=options.id, cell_line=options.cell_line, passage=options.passage, note=options.note
    )
    return _flask(options, FlaskOpen(client.new_request_id(), flask))


def run_flask_close(options: argparse.Namespace) -> int:
    """`parfocal flask close`."""
    return _flask(options, FlaskClose(client.new_request_id(), options.flask))


def run_flask_show(options: argparse.Namespace) -> int:
    """`parfocal flask show`."""
    return _flask(options, FlaskShow(client.new_request_id(), options.flask))


def _flask(options: argparse.Namespace, request: Command) -> int:
    answer = client.command(endpoints_of(options).replay, request)
    if isinstance(answer, Error):
        console.say(f"parfocal: {answer.text}")
        return FAILED
    if options.json:
        print_json(answer)
        return OK
    if answer.closed and isinstance(request, FlaskShow):
        when = answer.closed.closed_at
        print(f"flask {answer.closed.id} was closed at {when} by rule: no frame came for long")
    elif answer.closed:
        print(f"closed flask {answer.closed.id}")
    print(_line(answer.flask))
    return OK


def _line(flask: FlaskRef | None) -> str:
    """A flask in one line: open since when, or closed when and by whom."""
    line = console.flask_line(flask)
    if flask is None or not flask.closed_at:
        return line
    return ", ".join(filter(None, [f"{line}, closed at {flask.closed_at}", closed_by_text(flask)]))
