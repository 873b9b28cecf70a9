"""`parfocal flask scan`: a hand scanner says which flask is on the stage."""

import argparse
import io
import sys
from collections.abc import Iterator

from parfocal import client, console, flaskcode
from parfocal.client import UnreachableError
from parfocal.commands.arguments import (
    DATA,
    FAILED,
    OK,
    UNAVAILABLE,
    Commands,
    command,
    connected,
    endpoints_of,
    jsonable,
    print_json,
)
from parfocal.publish import Error, FlaskAnswer, FlaskClose, FlaskOpen, FlaskShow
from parfocal.sessions import same
from parfocal.types import FlaskRef


def add_scan(what: Commands) -> None:
    """Add the arguments of `parfocal flask scan`."""
    made = command(what, "scan", "take codes from a hand scanner, one a line", run_flask_scan)
    made.add_argument(
        "code", metavar="CODE", nargs="?",
        help='ID, "ID|LINE|PASSAGE", {"id": ..., "cell_line": ..., "passage": ...} or CLOSE '
        "(default: every line of stdin)",
    )  # fmt: skip
    connected(made)
    jsonable(made)


def run_flask_scan(options: argparse.Namespace) -> int:
    """`parfocal flask scan`."""
    if options.code is not None:
        return _scan(options, options.code)
    status = OK
    for line in _lines():
        try:
            found = _scan(options, line)
        except UnreachableError as error:  # the next code may find the daemon running again
            console.say(f"parfocal: {error}")
            found = UNAVAILABLE
        status = found or status
    return status


def _lines() -> Iterator[str]:
    """Codes as they are scanned; bytes that are no text stay visible as such."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    return (line for line in sys.stdin if line.strip())


def _scan(options: argparse.Namespace, text: str) -> int:
    replay = endpoints_of(options).replay
    try:
        flask = flaskcode.parse(text)
    except flaskcode.CodeError as error:
        return _refused(options, str(error), DATA)
    stage = client.command(replay, FlaskShow(client.new_request_id()))
    before = stage.flask if isinstance(stage, FlaskAnswer) else None
    if flask is None:
        answer = client.command(replay, FlaskClose(client.new_request_id()))
    elif before and same(before, flask):
        answer = FlaskAnswer(before)  # a scanner reads a label twice more easily than a hand knows
    else:
        answer = client.command(replay, FlaskOpen(client.new_request_id(), flask))
    if isinstance(answer, Error):
        return _refused(options, answer.text, FAILED)
    print_json(answer) if options.json else print(_told(answer, before), flush=True)
    return OK


def _refused(options: argparse.Namespace, text: str, status: int) -> int:
    if options.json:
        print_json(Error(text))
    console.say(f"parfocal: {text}")
    return status


def _told(answer: FlaskAnswer, before: FlaskRef | None) -> str:
    """What a code did, in one sentence."""
    closed = f"flask {answer.closed.id} is closed" if answer.closed else ""
    if answer.flask is None:
        return f"{closed}; no flask is open"
    known = [answer.flask.cell_line or "", _passage(answer.flask)]
    about = ", ".join(filter(None, known))
    already = before is not None and before.session == answer.flask.session
    opened = f"flask {answer.flask.id}{f' ({about})' if about else ''} is open"
    return "; ".join(filter(None, [f"{opened} already" if already else opened, closed]))


def _passage(flask: FlaskRef) -> str:
    return "" if flask.passage is None else f"passage {flask.passage}"
