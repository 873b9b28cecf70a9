"""Last totals of earlier passages of a line, from the journal."""

import json

import msgspec

from parfocal.declared import class_of
from parfocal.journal import Journal
from parfocal.trend import Earlier
from parfocal.types import FlaskRef, FlaskVerdict

MOST_PASSAGES = 50
"""Older ones say little about how a line is kept now."""


class Passages:
    """Totals of closed sessions; looked up once a session, when it first has a result itself."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._known: dict[str, Earlier] = {}

    def alike(self, flask: FlaskRef) -> Earlier:
        """Earlier sessions of the same line that were scored as this one's newest frame was.

        Same model bundle, preparation and detector in all frames: the figures of different models
        cannot be laid side by side.
        """
        if flask.session in self._known:
            return self._known[flask.session]
        past = self.before(flask)[:MOST_PASSAGES]
        ways = self._ways([flask.session, *(one.flask.session for one in past)])
        own = ways.pop(flask.session, None)
        if own is None:  # without a frame it has no figures yet
            return Earlier(past)
        same = [one for one in past if set(ways.get(one.flask.session, ())) <= {own[-1]}]
        self._known[flask.session] = Earlier(tuple(same), len(past) - len(same))
        return self._known[flask.session]

    def _ways(self, sessions: list[str]) -> dict[str, list[str]]:
        """Session to (model, preparation, detector) of its frames, the newest last."""
        rows = self.journal.db.execute(
            "SELECT f.session, json_extract(CAST(m.body AS TEXT), '$.model.sha256', "
            "'$.model.fingerprint', '$.model.detector') AS way FROM file f "
            "JOIN message m ON m.seq = f.seq WHERE f.session IN (SELECT value FROM json_each(?)) "
            "GROUP BY f.session, way ORDER BY max(m.seq)",
            (json.dumps(sessions),),
        )
        ways: dict[str, list[str]] = {}
        for session, way in rows:
            ways.setdefault(session, []).append(way)
        return ways

    def before(self, flask: FlaskRef) -> tuple[FlaskVerdict, ...]:
        """Last totals of each earlier session of the same line, the newest first.

        Letters and digits decide whether it is the same line, as for the classes of a model.
        """
        found: dict[str, FlaskVerdict] = {}
        for body in self._closed(flask):
            verdict = msgspec.json.decode(body, type=FlaskVerdict)
            found.setdefault(verdict.flask.session, verdict)
        return tuple(verdict for verdict in found.values() if _before(verdict.flask, flask))

    def _closed(self, flask: FlaskRef) -> list[str]:
        lines = self.journal.db.execute("SELECT DISTINCT cell_line FROM flask_session")
        same = [line for (line,) in lines if line and class_of(flask.cell_line, (line,)) == 0]
        rows = self.journal.db.execute(
            "WITH told AS (SELECT tseq, CAST(body AS TEXT) AS body FROM message WHERE topic = ?) "
            "SELECT body FROM told WHERE json_extract(body, '$.open') = 0 "
            "AND json_extract(body, '$.flask.cell_line') IN (SELECT value FROM json_each(?)) "
            "ORDER BY tseq DESC",
            (f"flask/{self.journal.rig}/", json.dumps(same)),
        )
        return [str(body) for (body,) in rows]


def _before(one: FlaskRef, flask: FlaskRef) -> bool:
    """Whether a session is of an earlier passage: by number where both have one, else by time."""
    if one.session == flask.session:
        return False
    if one.passage is not None and flask.passage is not None:
        return one.passage < flask.passage
    return (one.opened_at or "") < (flask.opened_at or "")
