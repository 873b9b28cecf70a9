"""JSON Lines on stdout, for programs that read what a command found."""

import sys

import msgspec


def emit(value: object) -> None:
    """One line, there at once."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()
