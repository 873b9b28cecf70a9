"""Whether a flask holds the cell line that was declared, however often one looks."""

from statistics import NormalDist

from parfocal.composition import Answers, share_of
from parfocal.composition_rates import Reading
from parfocal.types import Declared, FlaskRef, Match

LOOKS = (3, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64, 85, 113, 151, 201)
"""Fields with cells after which a flask is judged; a verdict in between repeats the last judgement.
Fields beyond the last look change the numbers shown, not the judgement."""

ERROR = 0.01
"""Most probability that a flask of the declared line is ever called something else."""
LOOKS_Z = 3.05
"""Pocock's constant boundary (Jennison and Turnbull, Group Sequential Methods, 2000): a random walk
looked at after `LOOKS` steps is ever that many SDs above 0 with probability `ERROR`. It holds for
what frames add; what they have in common, the flask, is drawn once and not looked at anew."""
LOOKS_TAIL = 1 - NormalDist().cdf(LOOKS_Z)

MOSTLY, MINOR = 0.75, 0.5
"""Match: more than three quarters are of the declared line. Mismatch: less than half are."""


def look_at(n_fields: int) -> int:
    """Fields of the last look at or before this many; 0 before the first."""
    return max((look for look in LOOKS if look <= n_fields), default=0)


def with_cells(frames: Answers) -> Answers:
    """The frames in which a cell was classified: an empty one says nothing of the line."""
    return [frame for frame in frames if any(frame.values())]


def class_of(cell_line: str | None, classes: tuple[str, ...]) -> int | None:
    """Number of the class that a declared cell line means: letters and digits decide, not case."""
    if cell_line is None or not _plain(cell_line):
        return None
    found = [i for i, name in enumerate(classes) if _plain(name) == _plain(cell_line)]
    return found[0] if len(found) == 1 else None


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def declared(
    flask: FlaskRef, frames: Answers, reading: Reading | None, strange: bool
) -> Declared | None:
    """The judgement of a flask; None when no line was declared.

    Parameters
    ----------
    flask : FlaskRef
    frames : sequence of dict
        Answers of each frame, in order.
    reading : Reading or None
        What answers say about true classes; None where the model's card does not tell.
    strange : bool
        The flask's cells are flagged as unlike the training: then nothing is claimed.
    """
    if flask.cell_line is None:
        return None
    if reading is None:
        return _undecided(flask.cell_line, "the model's card does not say how often it errs")
    at = class_of(flask.cell_line, reading.classes)
    if at is None:
        known = ", ".join(reading.classes)
        return _undecided(flask.cell_line, f"the model tells {known} apart and no other line")
    if strange:
        return _undecided(flask.cell_line, "its cells are unlike those the model was trained on")
    fields = with_cells(frames)
    n_fields = look_at(len(fields))
    if not n_fields:
        return _undecided(flask.cell_line, f"fewer than {LOOKS[0]} fields with cells were seen")
    return _judged(flask.cell_line, at, fields[:n_fields], reading)


def _judged(cell_line: str, at: int, frames: Answers, reading: Reading) -> Declared:
    share, low, high = share_of(at, frames, reading, ERROR, LOOKS_TAIL)
    match: Match = "match" if low > MOSTLY else "mismatch" if high < MINOR else "undecided"
    n = sum(sum(f.values()) for f in frames)
    words = {
        "match": f"most cells are {reading.classes[at]}",
        "mismatch": f"most cells are not {reading.classes[at]}",
        "undecided": f"neither surely more than {MOSTLY:.0%} nor surely less than {MINOR:.0%} of "
        f"cells are {reading.classes[at]}",
    }
    text = (
        f"{words[match]}: {share:.0%} ({low:.0%} to {high:.0%}, all looks counted) of {n} cells in "
        f"{len(frames)} fields, corrected for the model's errors"
    )
    return Declared(
        cell_line=cell_line, match=match, share=share, low=low, high=high, n_cells=n,
        n_frames=len(frames), text=text,
    )  # fmt: skip


def _undecided(cell_line: str, why: str) -> Declared:
    return Declared(cell_line=cell_line, match="undecided", text=why)
