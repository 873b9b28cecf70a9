"""Flask sessions: which flask is on the stage, and which session an image belongs to."""

import sqlite3
import uuid

from parfocal.journal import Journal, iso
from parfocal.sidecar import DeclaredFlask
from parfocal.types import FlaskRef

OPERATOR, DECLARED = "operator", "declared"


class SessionError(Exception):
    """A flask command that cannot be carried out; the message says why."""


class Sessions:
    """Flask sessions in the journal; at most one opened by the operator at a time."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def current(self) -> FlaskRef | None:
        """The flask the operator has opened and not closed."""
        return self._one("opened_by = ? AND closed_at IS NULL", (OPERATOR,))

    def get(self, session: str) -> FlaskRef | None:
        """A session by its id."""
        return self._one("session = ?", (session,))

    def open(self, flask: DeclaredFlask) -> tuple[FlaskRef, FlaskRef | None]:
        """Put a flask on the stage; returns it and the one that was closed to make room.

        Call it inside a transaction.
        """
        before = self.current()
        closed = self.close() if before else None
        return self._insert(flask, OPERATOR), closed

    def close(self) -> FlaskRef:
        """Take the flask off the stage.

        Raises
        ------
        SessionError
            None is open.
        """
        current = self.current()
        if current is None:
            raise SessionError("no flask is open")
        self.journal.db.execute(
            "UPDATE flask_session SET closed_at = ? WHERE session = ?",
            (iso(self.journal.now()), current.session),
        )
        closed = self.get(current.session)
        assert closed is not None  # it was there a line ago, in this transaction
        return closed

    def declared(self, flask: DeclaredFlask) -> FlaskRef:
        """The session of a flask that a folder or sidecar declares, begun at its first image.

        The same id with another cell line or passage is another flask.
        """
        found = self._one(
            "opened_by = ? AND id = ? AND cell_line IS ? AND passage IS ? AND closed_at IS NULL",
            (DECLARED, flask.id, flask.cell_line, flask.passage),
        )
        return found or self._insert(flask, DECLARED)

    def _insert(self, flask: DeclaredFlask, opened_by: str) -> FlaskRef:
        session = str(uuid.uuid4())
        self.journal.db.execute(
            "INSERT INTO flask_session VALUES (?, ?, ?, ?, ?, ?, NULL, ?)",
            (session, flask.id, flask.cell_line, flask.passage, flask.note,
             iso(self.journal.now()), opened_by),
        )  # fmt: skip
        inserted = self.get(session)
        assert inserted is not None
        return inserted

    def _one(self, where: str, values: tuple[str | int | None, ...]) -> FlaskRef | None:
        cursor = self.journal.db.execute(
            "SELECT id, session, cell_line, passage, opened_at, closed_at, note "
            f"FROM flask_session WHERE {where} ORDER BY opened_at DESC LIMIT 1",
            values,
        )
        row: sqlite3.Row | tuple[object, ...] | None = cursor.fetchone()
        if row is None:
            return None
        names = [column[0] for column in cursor.description]
        return FlaskRef(**dict(zip(names, row, strict=True)))
