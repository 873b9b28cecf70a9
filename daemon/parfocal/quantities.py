"""Numbers of a command line: each is refused with a sentence when it cannot be meant."""

import argparse
from collections.abc import Callable


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got '{text}'")
    return int(text)


def whole(text: str) -> int:
    """A whole number from 0 on."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 on, got '{text}'")
    return int(text)


def between(low: float, high: float, unit: str = "") -> Callable[[str], float]:
    """Make the parser of a number in a range, ends included; NaN is in none."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            span = f"{low:g} to {high:g}{f' {unit}' if unit else ''}"
            raise argparse.ArgumentTypeError(f"must be a number from {span}, got '{text}'")
        return value

    return parse
