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
from parfocal.publish import Command, Error, FlaskClose, FlaskOpen, FlaskShow
from parfocal.quantities import whole
from parfocal.sidecar import DeclaredFlask


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
    closed = command(what, "close", "take the flask off the stage", run_flask_close)
    shown = command(what, "show", "which flask is on the stage", run_flask_show)
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
    return _flask(options, FlaskClose(client.new_request_id()))


def run_flask_show(options: argparse.Namespace) -> int:
    """`parfocal flask show`."""
    return _flask(options, FlaskShow(client.new_request_id()))


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
    print(console.flask_line(answer.flask))
    return OK
