"""A flask session before and after a replay, and whether its verdict is another one now."""

from collections import Counter
from collections.abc import Iterator

import msgspec

from parfocal.types import FlaskVerdict, Fraction
from parfocal.verdict import Totals


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One flask as one model saw it.

    `verdict` holds the last totals of the session in its journal, whatever images they count.
    Everything else is counted from the images that both journals have results of;
    `n_unlike_training` cells are strange to the model, which therefore abstained.
    """

    composition: dict[str, Fraction]
    n_cells: int
    n_abstained: int
    n_unlike_training: int
    verdict: FlaskVerdict


class FlaskChange(msgspec.Struct, frozen=True, kw_only=True):
    """One flask session before and after.

    `n_images` have a result of both. `changed` names what is another verdict now: `largest class`,
    `composition` (the intervals of a class do not overlap), `declared match`, `contamination`,
    `shift`.
    """

    id: str
    session: str
    n_images: int
    n_matched: int
    n_class_changed: int
    old: Side
    new: Side
    changed: tuple[str, ...]


class FlaskCount:
    """What is counted of one session, image after image."""

    def __init__(self) -> None:
        self.old, self.new = Totals(), Totals()
        self.unlike = Counter[str]()
        self.n_matched = self.n_changed = 0


def flask_change(flask: FlaskCount, old: FlaskVerdict | None, new: FlaskVerdict) -> FlaskChange:
    """A session before and after; totals that were never told are counted from its images."""
    counted = [totals.verdict(new.flask) for totals in (flask.old, flask.new)]
    told = [old or counted[0], new]
    alike = [
        msgspec.structs.replace(verdict, composition=one.composition)
        for verdict, one in zip(told, counted, strict=True)
    ]
    sides = [
        Side(
            composition=one.composition,
            n_cells=one.n_cells,
            n_abstained=one.n_abstained,
            n_unlike_training=flask.unlike[name],
            verdict=verdict,
        )
        for name, verdict, one in zip(("old", "new"), told, counted, strict=True)
    ]
    return FlaskChange(
        id=new.flask.id,
        session=new.flask.session,
        n_images=counted[0].n_frames,
        n_matched=flask.n_matched,
        n_class_changed=flask.n_changed,
        old=sides[0],
        new=sides[1],
        changed=tuple(differences(alike[0], alike[1])),
    )


def differences(old: FlaskVerdict, new: FlaskVerdict) -> Iterator[str]:
    """What the second verdict says otherwise than the first; silence of either is no difference."""
    if largest(old) != largest(new):
        yield "largest class"
    both = [(f, new.composition[c]) for c, f in old.composition.items() if c in new.composition]
    if any(one.high < two.low or two.high < one.low for one, two in both):
        yield "composition"
    told = {
        "declared match": (old.declared_match, new.declared_match),
        "contamination": (_found(old), _found(new)),
        "shift": (_flagged(old), _flagged(new)),
    }
    for name, (before, after) in told.items():
        if None not in (before, after) and before != after:
            yield name


def largest(verdict: FlaskVerdict) -> str | None:
    """The class of most accepted cells; None without any."""
    counts = {label: f.n for label, f in verdict.composition.items() if f.n}
    return max(counts, key=counts.__getitem__, default=None)


def _found(verdict: FlaskVerdict) -> bool | None:
    return None if verdict.contamination is None else verdict.contamination.found


def _flagged(verdict: FlaskVerdict) -> bool | None:
    return None if verdict.shift is None else verdict.shift.flagged
