"""Which parts a survey is to have, as the option `--parts` says it."""

from parfocal_training.errors import UsageError
from parfocal_training.survey.key import KINDS, Kind

Wanted = tuple[Kind, str]
"""A kind of part, and which pair, cell line or flasks it is to be of; empty: any."""


def wanted_parts(text: str) -> tuple[tuple[Wanted, ...], bool]:
    """What to draw, from a number or a list, and whether every part of it is asked for by name.

    Raises
    ------
    UsageError
        Neither a number of kinds nor a list of them.
    """
    if not text.strip().isdecimal():
        return listed_parts(text), True
    if not 1 <= int(text) <= len(KINDS):
        raise UsageError(f"--parts takes a number from 1 to {len(KINDS)}, or kinds; got {text}")
    return tuple((kind, "") for kind in KINDS[: int(text)]), False


def listed_parts(text: str) -> tuple[Wanted, ...]:
    """Kinds and what follows their colon, from `within:1,same-type,across,frames:all`.

    Raises
    ------
    UsageError
        An unknown kind.
    """
    return tuple(_one(item) for item in text.split(","))


def _one(item: str) -> Wanted:
    name, _, value = (piece.strip() for piece in item.partition(":"))
    for kind in KINDS:
        if kind == name:
            return kind, value
    raise UsageError(
        f"--parts takes a number from 1 to {len(KINDS)}, or a list of {', '.join(KINDS)}, "
        f"each with :VALUE if you like; got '{item.strip()}'"
    )
