"""The journal: one SQLite file that holds every message before anyone hears of it.

Committed with WAL and synchronous=FULL, then published. It is also the queue of replays, the table
of every file ever seen and the list of flask sessions (`parfocal.files`, `parfocal.sessions` work
on the same connection, so that a result and the file's new state are one transaction).
"""

import fcntl
import hashlib
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from parfocal.mounts import is_network, mount_of
from parfocal.types import FrameResult, Header

MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE message (
        seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, tseq INTEGER NOT NULL,
        header BLOB NOT NULL, body BLOB NOT NULL, blob BLOB, UNIQUE (topic, tseq));
    CREATE TABLE file (
        id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, dev INTEGER NOT NULL,
        inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        state TEXT NOT NULL, reason TEXT, detail TEXT, tries INTEGER NOT NULL DEFAULT 0,
        revision INTEGER NOT NULL DEFAULT 0, seen_at TEXT NOT NULL, session TEXT,
        next_try_s REAL, sha256 TEXT, seq INTEGER, duplicate_of INTEGER);
    CREATE INDEX file_state ON file (state);
    CREATE INDEX file_sha256 ON file (sha256);
    CREATE TABLE flask_session (
        session TEXT PRIMARY KEY, id TEXT NOT NULL, cell_line TEXT, passage INTEGER, note TEXT,
        opened_at TEXT NOT NULL, closed_at TEXT, opened_by TEXT NOT NULL);
    CREATE TABLE cell (
        seq INTEGER NOT NULL, id INTEGER NOT NULL, session TEXT, label TEXT NOT NULL,
        probability REAL NOT NULL, novelty REAL NOT NULL, accepted INTEGER NOT NULL, reason TEXT,
        x_px REAL NOT NULL, y_px REAL NOT NULL, area_um2 REAL NOT NULL, lca BLOB NOT NULL,
        PRIMARY KEY (seq, id)) WITHOUT ROWID;
    CREATE INDEX cell_session ON cell (session);
    CREATE TABLE request (
        id TEXT PRIMARY KEY, answer BLOB NOT NULL, at TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    ALTER TABLE flask_session ADD COLUMN closed_by TEXT;
    ALTER TABLE flask_session ADD COLUMN last_frame_at TEXT;
    UPDATE flask_session SET last_frame_at = (
        SELECT json_extract(CAST(header AS TEXT), '$.published_at') FROM message
        WHERE message.seq = newest.seq)
    FROM (SELECT session, max(seq) AS seq FROM file GROUP BY session) AS newest
    WHERE newest.session = flask_session.session;
    """,
    """
    ALTER TABLE cell ADD COLUMN phenotype TEXT;
    UPDATE cell SET phenotype = told.phenotype
    FROM (
        SELECT frame.seq, json_extract(one.value, '$.id') AS id,
            json_extract(one.value, '$.phenotype') AS phenotype
        FROM (SELECT seq, CAST(body AS TEXT) AS body FROM message WHERE topic LIKE 'frame/%')
            AS frame, json_each(iif(json_valid(frame.body), frame.body, '{}'), '$.cells') AS one
    ) AS told
    WHERE told.seq = cell.seq AND told.id = cell.id AND told.phenotype IS NOT NULL;
    """,
    """
    CREATE TABLE shadow_model (sha256 TEXT PRIMARY KEY, card BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE shadow (
        seq INTEGER PRIMARY KEY REFERENCES message ON DELETE CASCADE, asked TEXT NOT NULL,
        model TEXT REFERENCES shadow_model, body BLOB, missed TEXT,
        CHECK ((body IS NULL) = (model IS NULL) AND (body IS NULL) = (missed IS NOT NULL)));
    """,
)

Topic = Literal["frame", "flask", "alarm", "beat"]
Clock = Callable[[], datetime]


class JournalError(Exception):
    """The journal cannot be used; the message says why and what to do."""


class AlreadyRunningError(JournalError):
    """Another daemon holds this state directory."""


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One stored message: the parts that travel, and its number in the log."""

    seq: int
    topic: str
    header: bytes
    body: bytes
    blob: bytes | None = None

    def parts(self) -> list[bytes]:
        """Multipart form: topic, header, body and the blob if there is one."""
        blob = [] if self.blob is None else [self.blob]
        return [self.topic.encode(), self.header, self.body, *blob]


def utc_now() -> datetime:
    """The clock of a running daemon."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def lock(state_dir: Path) -> int:
    """Take the state directory for this process: returns the descriptor that holds the lock.

    Raises
    ------
    AlreadyRunningError
        Another daemon has it; the message names its process id.
    JournalError
        The directory cannot be made or written, or lies on a network mount.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        fd = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(
            f"the state directory {state_dir} cannot be written ({error.strerror}): "
            "set state_dir to a local folder that this user owns"
        ) from error
    mount = mount_of(state_dir)
    if is_network(mount):
        os.close(fd)
        raise JournalError(
            f"the state directory {state_dir} lies on a network mount ({mount.kind}), where SQLite "
            "is not safe: set state_dir to a local disk"
        )
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise AlreadyRunningError(
            f"another parfocal is already running on {state_dir} (process {pid})"
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


class Journal:
    """The open journal of one rig.

    Parameters
    ----------
    path : Path
        The database file; made if missing, migrated if older.
    rig : str
        Name of the rig, part of every topic.
    now : callable
        The clock that stamps messages.
    """

    def __init__(self, path: Path, rig: str, now: Clock = utc_now) -> None:
        self.rig, self.now = rig, now
        try:
            self.db = sqlite3.connect(path, isolation_level=None)
        except sqlite3.Error as error:
            raise JournalError(f"the journal {path} cannot be opened: {error}") from error
        try:
            self._open(path)
        except sqlite3.Error as error:
            self.close()
            raise JournalError(f"the journal {path} cannot be opened: {error}") from error
        except JournalError:
            self.close()
            raise

    @classmethod
    def reading(cls, path: Path, rig: str) -> "Journal":
        """The journal as another program may read it, also while the daemon writes.

        Raises
        ------
        JournalError
            There is none, or it cannot be read.
        """
        journal = cls.__new__(cls)
        journal.rig, journal.now = rig, utc_now
        try:
            journal.db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        except sqlite3.Error as error:
            raise JournalError(f"there is no journal {path} that can be read: {error}") from error
        try:
            journal.log_id = _stored_log_id(journal.db)
        except sqlite3.Error as error:
            journal.close()
            raise JournalError(f"the journal {path} cannot be read: {error}") from error
        return journal

    def _open(self, path: Path) -> None:
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.execute("PRAGMA foreign_keys=ON")
        self._migrate(path)
        self.log_id = self._log_id()

    def _migrate(self, path: Path) -> None:
        (version,) = self.db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise JournalError(
                f"the journal {path} was written by a newer parfocal (layout {version}, this one "
                f"knows {len(MIGRATIONS)}): install that version again"
            )
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            self.db.executescript(f"BEGIN; {script}; PRAGMA user_version={number}; COMMIT;")

    def _log_id(self) -> str:
        self.db.execute("INSERT OR IGNORE INTO meta VALUES ('log_id', ?)", (str(uuid.uuid4()),))
        return _stored_log_id(self.db)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: on disk when the block ends, undone when it raises."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:  # SQLite itself rolls back on a full disk
                self.db.execute("ROLLBACK")
            raise

    @property
    def head(self) -> int:
        """Number of the last message; 0 when there is none."""
        (seq,) = self.db.execute("SELECT coalesce(max(seq), 0) FROM message").fetchone()
        return int(seq)

    def topic_heads(self) -> dict[str, int]:
        """Topic to number of its last message within the topic."""
        rows = self.db.execute("SELECT topic, max(tseq) FROM message GROUP BY topic")
        return {topic: int(tseq) for topic, tseq in rows}

    def append(self, kind: Topic, body: msgspec.Struct, blob: bytes | None = None) -> Message:
        """Number and store a message; call it inside `transaction`, publish after it."""
        topic = f"{kind}/{self.rig}/"
        (tseq,) = self.db.execute(
            "SELECT coalesce(max(tseq), 0) + 1 FROM message WHERE topic = ?", (topic,)
        ).fetchone()
        seq = self.head + 1
        data = encode_finite(body)
        header = msgspec.json.encode(self.header(kind, seq, int(tseq), data))
        self.db.execute(
            "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", (seq, topic, tseq, header, data, blob)
        )
        return Message(seq, topic, header, data, blob)

    def header(self, kind: Topic, seq: int, tseq: int, body: bytes) -> Header:
        """The header of a message of this log."""
        return Header(
            schema=f"parfocal.{kind}/1",
            rig=self.rig,
            log=self.log_id,
            seq=seq,
            tseq=tseq,
            msg_id=str(uuid.uuid4()),
            published_at=iso(self.now()),
            sha256=hashlib.sha256(body).hexdigest(),
        )

    def messages(self, start: int, topics: list[str], limit: int) -> Iterator[Message]:
        """Stored messages from a number on, in order; topics are prefixes, none means all."""
        where = " OR ".join("substr(topic, 1, length(?)) = ?" for _ in topics) or "1"
        values = [value for topic in topics for value in (topic, topic)]
        rows = self.db.execute(
            "SELECT seq, topic, header, body, blob FROM message "
            f"WHERE seq >= ? AND ({where}) ORDER BY seq LIMIT ?",
            (start, *values, limit),
        )
        for seq, topic, header, body, blob in rows:
            yield Message(seq, topic, header, body, blob)

    def thumbnail(self, sha256: str) -> bytes | None:
        """The stored preview of an image, or None."""
        row = self.db.execute(
            "SELECT m.blob FROM file f JOIN message m ON m.seq = f.seq "
            "WHERE f.sha256 = ? AND m.blob IS NOT NULL LIMIT 1",
            (sha256,),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def add_cells(self, seq: int, result: FrameResult, lca: list[bytes]) -> None:
        """Queryable rows of a frame's cells; lca holds float16 bytes, one entry a cell."""
        session = result.flask.session if result.flask else None
        self.db.executemany(
            "INSERT INTO cell VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (seq, c.id, session, c.label, c.probability, c.novelty, c.accepted, c.reason,
                 c.x_px, c.y_px, c.area_um2, row, c.phenotype)
                for c, row in zip(result.cells, lca, strict=True)
            ],
        )  # fmt: skip

    def answered(self, request_id: str) -> bytes | None:
        """What a command with this id was answered, if it came before."""
        row = self.db.execute("SELECT answer FROM request WHERE id = ?", (request_id,)).fetchone()
        return None if row is None else bytes(row[0])

    def remember_answer(self, request_id: str, answer: bytes) -> None:
        """Store a command's answer, so that the command can be repeated without effect."""
        self.db.execute(
            "INSERT INTO request VALUES (?, ?, ?)", (request_id, answer, iso(self.now()))
        )

    def check(self) -> list[str]:
        """Faults that SQLite's own check finds; empty when sound."""
        rows = [str(row[0]) for row in self.db.execute("PRAGMA integrity_check")]
        return [] if rows == ["ok"] else rows

    def close(self) -> None:
        """Close the database."""
        self.db.close()


def _stored_log_id(db: sqlite3.Connection) -> str:
    row = db.execute("SELECT value FROM meta WHERE key = 'log_id'").fetchone()
    return str(row[0])


def encode_finite(body: msgspec.Struct) -> bytes:
    """JSON of a body whose numbers are all finite.

    Raises
    ------
    ValueError
        A number is NaN or infinite, which JSON cannot carry (msgspec would write null).
    """
    check_finite(msgspec.to_builtins(body))
    return msgspec.json.encode(body)


def check_finite(value: object, where: str = "body") -> None:
    """Raise ValueError, naming the place, if a nested value holds NaN or infinity."""
    if isinstance(value, float):
        if value - value != 0:
            raise ValueError(f"{where} is {value}, not a finite number")
    elif isinstance(value, dict):
        for key, item in value.items():
            check_finite(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            check_finite(item, f"{where}[{i}]")
