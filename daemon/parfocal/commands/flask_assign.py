"""`parfocal flask assign`: images that were there before their flask was named."""

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
    made = command(what, "assign", "give scored images without a flask to one", run_flask_assign)
    made.add_argument("flask", metavar="SESSION|ID", help="a session, or the last one of a flask")
    made.add_argument("images", nargs="+", metavar="IMAGE", help="a file in the watched folder")
    connected(made)
    jsonable(made)


def run_flask_assign(options: argparse.Namespace) -> int:
    """`parfocal flask assign`."""
    replay, status = endpoints_of(options).replay, OK
    for image in options.images:
        request = FlaskAssign(client.new_request_id(), options.flask, os.path.abspath(image))
        answer = client.command(replay, request)
        if options.json:
            print_json(answer)
        if isinstance(answer, Error):
            console.say(f"parfocal: {answer.text}")
            status = FAILED
        elif not options.json and answer.flask:
            print(f"{image} belongs to flask {answer.flask.id} (session {answer.flask.session})")
    return status
