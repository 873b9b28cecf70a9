"""When a person is told that something is wrong with a flask or camera, and when it is over.

A condition is looked at after every frame. It must hold after three frames in a row to be told and
be gone after five in a row to be cleared, so that no single frame does either. It depends on the
frames alone, not on how fast they came. What cannot be judged any more, because the cells have
become strange, was not taken back. An alarm ends with its session. What is wrong with a camera has
been looked at over time already (`parfocal.camera.watch`); its alarms outlive a restart.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

import msgspec

from parfocal.advice import RECENT
from parfocal.camera.watch import LOST
from parfocal.camera.watch import Conditions as CameraConditions
from parfocal.declared import LOOKS
from parfocal.journal import Journal
from parfocal.shift import shift_text
from parfocal.types import Alarm, Contamination, Declared, FlaskRef, Shift

SET_AFTER, CLEAR_AFTER = 3, 5

Conditions = Mapping[str, str | None]
"""Name of each condition that holds, with its reason; None where nobody can say."""

LEVELS: dict[str, Literal["warning", "alarm"]] = {
    "mismatch": "alarm",
    "contamination": "alarm",
    "shift": "warning",
    "out_of_focus": "warning",
}


def conditions(
    declared: Declared | None,
    contamination: Contamination | None,
    shift: Shift | None,
    blurred: bool,
    n_fields: int,
) -> dict[str, str | None]:
    """What is wrong with a flask now; a mismatch speaks for the contamination that it also is.

    `n_fields` with cells were seen: of fewer than three nothing is said.
    """
    out: dict[str, str | None] = {}
    strange = shift is not None and shift.flagged
    if strange:
        out["mismatch"] = out["contamination"] = None
    elif declared is not None and declared.match == "mismatch":
        out["mismatch"] = f"declared {declared.cell_line}, but {declared.text}"
        out["contamination"] = None
    elif contamination is not None and contamination.found:
        out["contamination"] = contamination.text
    if strange and n_fields >= LOOKS[0]:
        out["shift"] = f"its cells are {shift_text(shift)}"
    if blurred:
        out["out_of_focus"] = f"most of the last {RECENT} fields are out of focus"
    return out


def changes(
    flask: FlaskRef, told: Mapping[str, Alarm], history: Sequence[Conditions], now_at: str
) -> list[Alarm]:
    """Alarms that are new, and those that are cleared.

    Parameters
    ----------
    flask : FlaskRef
    told : mapping
        Last alarm of each name that this session's subscribers were told.
    history : sequence of Conditions
        After each of the last frames, the newest last; the five last are enough.
    now_at : str
        Time of the message.
    """
    out = []
    for name, level in LEVELS.items():
        reasons = [one.get(name) for one in history]
        gone = [name not in one for one in history]
        before = told.get(name)
        standing = before is not None and not before.cleared
        if not standing and len(history) >= SET_AFTER and all(reasons[-SET_AFTER:]):
            out.append(_alarm(flask, name, level, reasons[-1] or "", now_at))
        elif before and standing and len(history) >= CLEAR_AFTER and all(gone[-CLEAR_AFTER:]):
            out.append(_cleared(before))
    return out


def _alarm(
    flask: FlaskRef, name: str, level: Literal["warning", "alarm"], reason: str, now_at: str
) -> Alarm:
    return Alarm(
        name=name,
        level=level,
        since_at=now_at,
        text=f"flask {flask.id}: {reason}",
        evidence={"flask": flask.id, "session": flask.session, "reason": reason},
    )


def _cleared(before: Alarm) -> Alarm:
    said = f"flask {before.evidence['flask']}: {before.name.replace('_', ' ')} is over"
    return _over(before, said)


def _over(before: Alarm, text: str) -> Alarm:
    return Alarm(
        name=before.name,
        level="info",
        since_at=before.since_at,
        text=text,
        evidence=before.evidence,
        cleared=True,
    )


def camera_changes(
    told: Mapping[str, Alarm], conditions: CameraConditions, now_at: str
) -> list[Alarm]:
    """Alarms about the camera that are new, and those that are cleared.

    Parameters
    ----------
    told : mapping
        Last alarm of each name that subscribers were told.
    conditions : mapping
        What holds, and what is gone; of others nothing is known.
    now_at : str
        Time of the message.
    """
    out = []
    for name, why in conditions.items():
        before = told.get(name)
        standing = before is not None and not before.cleared
        if why and not standing:
            out.append(
                Alarm(name=name, level="warning", since_at=now_at, text=why, evidence={"why": why})
            )
        elif before and standing and not why:
            over = f"{name.replace('_', ': ', 1).replace('_', ' ')} is over"
            out.append(_over(before, "the camera is back" if name == LOST else over))
    return out


class Told:
    """What subscribers were last told about each session, also before a restart."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._known: dict[str, dict[str, Alarm]] = {}

    def of(self, session: str) -> dict[str, Alarm]:
        """Last alarm of each name; add what is journaled."""
        if session not in self._known:
            self._known[session] = self._journaled("$.evidence.session", session)
        return self._known[session]

    @cached_property
    def camera(self) -> dict[str, Alarm]:
        """Last alarm of each name about the camera; add what is journaled."""
        return self._journaled("$.name", "camera_*")

    def _journaled(self, path: str, pattern: str) -> dict[str, Alarm]:
        rows = self.journal.db.execute(
            "SELECT body FROM message WHERE topic = ? "
            "AND json_extract(CAST(body AS TEXT), ?) GLOB ? ORDER BY tseq",
            (f"alarm/{self.journal.rig}/", path, pattern),
        )
        alarms = (msgspec.json.decode(bytes(body), type=Alarm) for (body,) in rows)
        return {alarm.name: alarm for alarm in alarms}
