"""`parfocal flask assign`: images whose flask was named too late, or was a wrong one."""

import argparse
import os

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
from parfocal.publish import Error, FlaskAssign


def add_assign(what: Commands) -> None:
    """Add the arguments of `parfocal flask assign`."""
    made = command(what, "assign", "give scored images to a flask", run_flask_assign)
    made.add_argument("flask", metavar="SESSION|ID", help="a session, or the last one of a flask")
    made.add_argument("images", nargs="+", metavar="IMAGE", help="a file in the watched folder")
    made.add_argument("--move", action="store_true",
                      help="also images that belong to another flask; the totals of both are told "
                      "again")  # fmt: skip
    connected(made)
    jsonable(made)


def run_flask_assign(options: argparse.Namespace) -> int:
    """`parfocal flask assign`."""
    replay, status = endpoints_of(options).replay, OK
    for image in options.images:
        path, number = os.path.abspath(image), client.new_request_id()
        request = FlaskAssign(number, options.flask, path, options.move)
        answer = client.command(replay, request)
        if options.json:
            print_json(answer)
        if isinstance(answer, Error):
            console.say(f"parfocal: {answer.text}")
            status = FAILED
        elif not options.json and answer.flask:
            print(f"{image} belongs to flask {answer.flask.id} (session {answer.flask.session})")
    return status
