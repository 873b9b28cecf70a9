"""The durable subscriber behind `parfocal notebook`: each closed flask session, one entry.

Frames are kept in a small database until their session is closed; the cursor moves in the same
transaction, so that a kill at any point loses nothing. Writing an entry is repeatable (its name
depends on the session alone) and comes before it is marked as written: exactly one entry results.
"""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from parfocal.client import Cursor, Event, Received, Subscriber
from parfocal.follow import OutputError
from parfocal.notebook import eln, markdown
from parfocal.notebook.entry import Attachment, Entry, ScoredFrame, cells_csv, result_json
from parfocal.notebook.montage import montage
from parfocal.publish import Endpoints
from parfocal.types import FlaskVerdict, FrameResult, Header

KINDS: dict[str, Callable[[Entry, Path], Path]] = {
    "eln-file": eln.write,
    "markdown": markdown.write,
}
GRACE_S = 10.0
"""After a flask is closed, images still on their way are waited for this long."""

LOCK_S = 1.0
"""A notebook that was just killed holds its state this long at most."""

LAYOUT = """
CREATE TABLE IF NOT EXISTS cursor (one INTEGER PRIMARY KEY CHECK (one = 1), log TEXT, seq INTEGER);
CREATE TABLE IF NOT EXISTS frame (
    session TEXT, log TEXT, seq INTEGER, topic TEXT, header BLOB, body BLOB,
    PRIMARY KEY (session, log, seq));
CREATE TABLE IF NOT EXISTS session (
    session TEXT PRIMARY KEY, verdict BLOB, n_written INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0);
"""


class Shelf:
    """What a notebook subscriber has heard and not yet written down."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, timeout=LOCK_S)
        try:
            self.db.execute("PRAGMA locking_mode=EXCLUSIVE")  # two would write each other's entries
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=FULL")
            self.db.executescript(LAYOUT)
        except sqlite3.Error as error:
            self.db.close()
            raise OutputError(
                f"the notebook's state {path} cannot be used ({error}): stop the other notebook "
                "that writes there, or name another folder with --out"
            ) from error

    def cursor(self) -> Cursor:
        """The last message that was taken in."""
        row = self.db.execute("SELECT log, seq FROM cursor").fetchone()
        return Cursor(*row) if row else Cursor()

    def take(self, message: Received) -> str | None:
        """Keep what belongs to a flask session, and move on; returns the session concerned."""
        body = message.body()
        session = None
        self.db.execute("BEGIN")
        if isinstance(body, FrameResult) and body.flask:
            session = body.flask.session
            header, cursor = msgspec.json.encode(message.header), message.cursor
            self.db.execute(
                "INSERT OR IGNORE INTO frame VALUES (?, ?, ?, ?, ?, ?)",
                (session, cursor.log, cursor.seq, message.topic, header, message.raw_body),
            )
            if body.revision > 1:
                self._forget_elsewhere(session, body)
        elif isinstance(body, FlaskVerdict):
            session = body.flask.session
            self.db.execute(
                "INSERT INTO session (session, verdict) VALUES (?, ?) "
                "ON CONFLICT (session) DO UPDATE SET verdict = excluded.verdict",
                (session, message.raw_body),
            )
        self.db.execute(
            "INSERT INTO cursor VALUES (1, ?, ?) "
            "ON CONFLICT (one) DO UPDATE SET log = excluded.log, seq = excluded.seq",
            (message.header.log, message.header.seq),
        )
        self.db.execute("COMMIT")
        return session

    def _forget_elsewhere(self, session: str, told: FrameResult) -> None:
        """Take a frame that is told again from the flask that it was moved from."""
        rows = self.db.execute(
            "DELETE FROM frame WHERE session != ? AND "
            "json_extract(CAST(body AS TEXT), '$.image.path', '$.image.sha256') = json_array(?, ?) "
            "RETURNING session",
            (session, told.image.path, told.image.sha256),
        ).fetchall()
        self.db.executemany("UPDATE session SET n_written = -1 WHERE session = ?", rows)

    def closed(self) -> list[tuple[str, FlaskVerdict, int]]:
        """Closed sessions with frames that no entry has yet: (session, verdict, revision)."""
        rows = self.db.execute(
            "SELECT s.session, s.verdict, s.revision, s.n_written FROM session s "
            "WHERE s.verdict IS NOT NULL"
        ).fetchall()
        out = []
        for session, raw, revision, n_written in rows:
            verdict = msgspec.json.decode(raw, type=FlaskVerdict)
            if not verdict.open and verdict.n_frames > n_written:
                out.append((session, verdict, revision + 1))
        return out

    def frames(self, session: str) -> tuple[ScoredFrame, ...]:
        """All frames of a session; of a rewritten image the newest."""
        rows = self.db.execute(
            "SELECT topic, header, body FROM frame WHERE session = ? ORDER BY rowid", (session,)
        )
        newest: dict[str, ScoredFrame] = {}
        for topic, header, body in rows:
            message = Received(topic, msgspec.json.decode(header, type=Header), body, None)
            result = msgspec.json.decode(body, type=FrameResult)
            newest[result.image.path] = ScoredFrame(message, result)
        return tuple(newest.values())

    def written(self, session: str, entry: Entry) -> None:
        """Note that an entry is on disk."""
        self.db.execute(
            "UPDATE session SET n_written = ?, revision = ? WHERE session = ?",
            (entry.verdict.n_frames, entry.revision, session),
        )

    def close(self) -> None:
        """Close the database."""
        self.db.close()


def complete(verdict: FlaskVerdict, frames: tuple[ScoredFrame, ...], revision: int) -> Entry:
    """An entry with its files."""
    bare = Entry(verdict, frames, revision=revision)
    attachments = [
        Attachment(
            "result.json", "application/json", result_json(bare), "everything, for programs"
        ),
        Attachment("cells.csv", "text/csv", cells_csv(bare), "one row a cell"),
    ]
    picture = montage(frames, verdict.flask.session)
    if picture:
        about = "cells of each class at random, and the most doubtful ones"
        attachments.insert(0, Attachment("montage.png", "image/png", picture, about))
    return Entry(verdict, frames, tuple(attachments), revision)


class Notebook:
    """Writes entries of one kind into one folder.

    Parameters
    ----------
    kind : str
        `eln-file` or `markdown`.
    folder : Path
        Where entries go; the subscriber's own state lies in `.parfocal-KIND.sqlite` there.
    grace_s : float
        How long images that are still on their way are waited for.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        grace_s: float = GRACE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.kind, self.folder, self.grace_s, self.clock = kind, folder, grace_s, clock
        self.shelf = Shelf(folder / f".parfocal-{kind}.sqlite")
        self._heard_s: dict[str, float] = {}

    def take(self, event: Event) -> None:
        """Take in one event of the rig."""
        if isinstance(event, Received):
            session = self.shelf.take(event)
            if session:
                self._heard_s[session] = self.clock()

    def write_due(self) -> list[Path]:
        """Write the entry of every closed session that has been quiet for the grace time."""
        out, now = [], self.clock()
        for session, verdict, revision in self.shelf.closed():
            if now - self._heard_s.setdefault(session, now) < self.grace_s:
                continue
            frames = self.shelf.frames(session)
            if len(frames) < verdict.n_frames:
                continue  # the rest is still coming
            entry = complete(verdict, frames, revision)
            out.append(KINDS[self.kind](entry, self.folder))
            self.shelf.written(session, entry)
        return out

    def follow(self, endpoints: Endpoints, wrote: Callable[[Path], None]) -> None:
        """Subscribe for ever."""
        with Subscriber(endpoints, self.shelf.cursor()) as subscriber:
            while True:
                for event in subscriber.events(0.5):
                    self.take(event)
                for path in self.write_due():
                    wrote(path)

    def close(self) -> None:
        """Close the subscriber's state."""
        self.shelf.close()
