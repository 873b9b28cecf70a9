"""Flask sessions: which flask is on the stage, and which session an image belongs to."""

import logging
import uuid
from datetime import timedelta
from typing import Literal

import msgspec

from parfocal.config import FlaskRules
from parfocal.journal import Journal, iso
from parfocal.sidecar import DeclaredFlask
from parfocal.types import ClosedBy, FlaskRef

log = logging.getLogger(__name__)

STANDARD = FlaskRules()
OPERATOR, DECLARED = "operator", "declared"


class SessionError(Exception):
    """A flask command that cannot be carried out; the message says why."""


def same(session: FlaskRef, flask: DeclaredFlask) -> bool:
    """Whether a code is of a session's flask; what the code leaves out does not matter."""
    line, passage = flask.cell_line, flask.passage
    return (
        session.id == flask.id
        and line in (None, session.cell_line)
        and passage in (None, session.passage)
    )


class Sessions:
    """Flask sessions in the journal; at most one opened by the operator at a time.

    Parameters
    ----------
    journal : Journal
    rules : FlaskRules
        What a flask must say, and when a session without frames ends.
    """

    def __init__(self, journal: Journal, rules: FlaskRules = STANDARD) -> None:
        self.journal, self.rules = journal, rules

    def current(self) -> FlaskRef | None:
        """The flask the operator has opened and not closed."""
        return self._one("opened_by = ? AND closed_at IS NULL", (OPERATOR,))

    def get(self, session: str) -> FlaskRef | None:
        """A session by its id."""
        return self._one("session = ?", (session,))

    def named(self, name: str) -> FlaskRef:
        """A session by its id, or the last one of the flask with this name.

        Raises
        ------
        SessionError
            There is neither.
        """
        found = self.get(name) or self._one("id = ?", (name,))
        if found is None:
            raise SessionError(f"there is no session or flask '{name}': open or declare it first")
        return found

    def last_closed(self) -> FlaskRef | None:
        """Of the flasks the operator has opened, the one that was closed last."""
        return self._one("opened_by = ? AND closed_at IS NOT NULL", (OPERATOR,), "closed_at")

    def open(self, flask: DeclaredFlask) -> tuple[FlaskRef, FlaskRef | None]:
        """Put a flask on the stage; returns it and the one that was closed to make room.

        Call it inside a transaction.

        Raises
        ------
        SessionError
            The flask does not say everything that the rig requires.
        """
        missing = self._missing(flask)
        if missing:
            raise SessionError(
                f"flask {flask.id} is not opened: this rig requires {' and '.join(missing)} too "
                "(--cell-line, --passage, --note, or a code ID|LINE|PASSAGE)"
            )
        before = self.current()
        closed = self.end(before, "next flask") if before else None
        return self._insert(flask, OPERATOR), closed

    def close(self, name: str = "") -> FlaskRef:
        """Take the flask off the stage, or close the open session of this id or flask.

        Raises
        ------
        SessionError
            None is open, or the name is that of several.
        """
        if name:
            return self.end(self._open_one(name), "operator")
        current = self.current()
        if current is None:
            raise SessionError("no flask is open")
        return self.end(current, "operator")

    def _open_one(self, name: str) -> FlaskRef:
        found = self._some("(session = ?1 OR id = ?1) AND closed_at IS NULL", (name,))
        if not found:
            raise SessionError(f"flask '{name}' has no open session")
        if len(found) > 1:
            them = ", ".join(f"{one.session} since {one.opened_at}" for one in found)
            raise SessionError(f"flask '{name}' has {len(found)} open sessions: name one of {them}")
        return found[0]

    def scanned(
        self, flask: DeclaredFlask | None, session: str | None
    ) -> tuple[str | None, FlaskRef | None]:
        """What a label does that was seen while `session` was on the stage; None is CLOSE.

        Returns the session that counts from there on, and the one that was closed.

        Raises
        ------
        SessionError
            The flask does not say everything that the rig requires.
        """
        then, current = session and self.get(session), self.current()
        if flask is None:
            on_stage = current is not None and current.session == session
            return None, self.close() if on_stage else None
        for known in (then, current):
            if known and same(known, flask):  # a label is seen twice more easily than wanted
                return known.session, None
        opened, closed = self.open(flask)
        return opened.session, closed

    def end(self, flask: FlaskRef, by: ClosedBy) -> FlaskRef:
        """Close a session, whichever way it was opened."""
        self.journal.db.execute(
            "UPDATE flask_session SET closed_at = ?, closed_by = ? WHERE session = ?",
            (iso(self.journal.now()), by, flask.session),
        )
        closed = self.get(flask.session)
        assert closed is not None  # it was there a line ago, in this transaction
        return closed

    def had_frame(self, session: str) -> None:
        """Note that a session just had a frame."""
        self.journal.db.execute(
            "UPDATE flask_session SET last_frame_at = ? WHERE session = ?",
            (iso(self.journal.now()), session),
        )

    def idle(self) -> FlaskRef | None:
        """The session that has waited longest for a frame, if that is longer than the rule allows.

        One whose images wait for their turn is not idle.
        """
        if not self.rules.close_after_h:
            return None
        before = self.journal.now() - timedelta(hours=self.rules.close_after_h)
        return self._one(
            "closed_at IS NULL AND coalesce(last_frame_at, opened_at) < ? AND NOT EXISTS ("
            "SELECT 1 FROM file WHERE file.state IN ('settling', 'claimed', 'waiting') "
            "AND file.session = flask_session.session)",
            (iso(before),),
            "coalesce(last_frame_at, opened_at)",
            "ASC",
        )

    def declared(self, flask: DeclaredFlask) -> FlaskRef:
        """The session of a flask that a folder or sidecar declares, begun at its first image.

        The same id with another cell line or passage is another flask.
        """
        found = self._one(
            "opened_by = ? AND id = ? AND cell_line IS ? AND passage IS ? AND closed_at IS NULL",
            (DECLARED, flask.id, flask.cell_line, flask.passage),
        )
        if found is None:
            found = self._insert(flask, DECLARED)
            if found.missing:
                log.warning("flask %s is declared without %s", flask.id, ", ".join(found.missing))
        return found

    def _missing(self, flask: DeclaredFlask | FlaskRef) -> tuple[str, ...]:
        """What the rig requires and the flask does not say."""
        said = msgspec.structs.asdict(flask)
        return tuple(name for name in self.rules.required if said[name] in (None, ""))

    def _insert(self, flask: DeclaredFlask, opened_by: str) -> FlaskRef:
        session = str(uuid.uuid4())
        self.journal.db.execute(
            "INSERT INTO flask_session (session, id, cell_line, passage, note, opened_at, "
            "opened_by) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (session, flask.id, flask.cell_line, flask.passage, flask.note,
             iso(self.journal.now()), opened_by),
        )  # fmt: skip
        inserted = self.get(session)
        assert inserted is not None
        return inserted

    def _one(
        self,
        where: str,
        values: tuple[str | int | None, ...],
        by: str = "opened_at",
        way: Literal["ASC", "DESC"] = "DESC",
    ) -> FlaskRef | None:
        return next(iter(self._some(where, values, f"{by} {way} LIMIT 1")), None)

    def _some(
        self, where: str, values: tuple[str | int | None, ...], order: str = "opened_at"
    ) -> list[FlaskRef]:
        cursor = self.journal.db.execute(
            "SELECT id, session, cell_line, passage, opened_at, closed_at, note, "
            f"closed_by FROM flask_session WHERE {where} ORDER BY {order}",
            values,
        )
        names = [column[0] for column in cursor.description]
        found = [FlaskRef(**dict(zip(names, row, strict=True))) for row in cursor]
        return [msgspec.structs.replace(one, missing=self._missing(one) or None) for one in found]
