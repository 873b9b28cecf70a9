"""Last totals of earlier passages of a line, from the journal."""

import msgspec

from parfocal.journal import Journal
from parfocal.types import FlaskRef, FlaskVerdict

MOST_PASSAGES = 50
"""Older ones say little about how a line is kept now."""


class Passages:
    """Totals of closed sessions; looked up once a session, when it first has totals itself."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._known: dict[str, tuple[FlaskVerdict, ...]] = {}

    def before(self, flask: FlaskRef) -> tuple[FlaskVerdict, ...]:
        """Last totals of each earlier session of the same line, the newest first."""
        if flask.session not in self._known:
            found: dict[str, FlaskVerdict] = {}
            for body in self._closed(flask):
                verdict = msgspec.json.decode(body, type=FlaskVerdict)
                found.setdefault(verdict.flask.session, verdict)
            past = [verdict for verdict in found.values() if _before(verdict.flask, flask)]
            self._known[flask.session] = tuple(past[:MOST_PASSAGES])
        return self._known[flask.session]

    def _closed(self, flask: FlaskRef) -> list[str]:
        if flask.cell_line is None:
            return []
        rows = self.journal.db.execute(
            "WITH told AS (SELECT tseq, CAST(body AS TEXT) AS body FROM message WHERE topic = ?) "
            "SELECT body FROM told WHERE json_extract(body, '$.open') = 0 "
            "AND json_extract(body, '$.flask.cell_line') = ? ORDER BY tseq DESC",
            (f"flask/{self.journal.rig}/", flask.cell_line),
        )
        return [str(body) for (body,) in rows]


def _before(one: FlaskRef, flask: FlaskRef) -> bool:
    """Whether a session is of an earlier passage: by number where both have one, else by time."""
    if one.session == flask.session:
        return False
    if one.passage is not None and flask.passage is not None:
        return one.passage < flask.passage
    return (one.opened_at or "") < (flask.opened_at or "")
