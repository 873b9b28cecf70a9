"""The table of every image file ever seen: its state, its reason, its next try.

    seen -> settling -> claimed -> done | quarantined | waiting -> settling ...

`settling`: its size or time changed lately. `claimed`: handed to the reader. `waiting`: it will be
tried again at `next_try_s`. A row never disappears; a file rewritten with other content starts
again as the next revision.
"""

import os
from dataclasses import dataclass, field
from enum import StrEnum

from parfocal.journal import Journal, iso
from parfocal.reasons import FileReason


class FileState(StrEnum):
    """Where a file is on its way."""

    SETTLING = "settling"
    CLAIMED = "claimed"
    DONE = "done"
    QUARANTINED = "quarantined"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Signature:
    """What tells one content from another without reading it."""

    dev: int = field(compare=False)  # a share gets another one at every mount
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Signature":
        """From a file's status; numbers beyond SQLite's 63 bits are folded."""
        dev, inode = status.st_dev & SIGNED, status.st_ino & SIGNED
        return cls(dev, inode, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Known:
    """A file as the journal knows it."""

    id: int
    path: str
    signature: Signature
    state: FileState
    tries: int
    revision: int
    session: str | None
    next_try_s: float | None
    sha256: str | None
    seq: int | None
    reason: str | None


SIGNED = (1 << 63) - 1

COLUMNS = (
    "id, path, dev, inode, size, mtime_ns, state, tries, revision, session, next_try_s, sha256, "
    "seq, reason"
)


class FileTable:
    """Rows of `file`; every writing method belongs inside a journal transaction."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def unfinished(self, mendable: frozenset[FileReason]) -> list[Known]:
        """Files without an end, or refused for such a reason, in the order they were first seen."""
        ends, reasons = (FileState.DONE, FileState.QUARANTINED), sorted(mendable)
        marks = ", ".join("?" * len(reasons))
        where = f"state NOT IN (?, ?) OR (state = ? AND reason IN ({marks}))"
        return self._rows(where, (*ends, FileState.QUARANTINED, *reasons))

    def find(self, path: str) -> Known | None:
        """The file with this path, if one was ever seen."""
        return next(iter(self._rows("path = ?", (path,))), None)

    def counts(self) -> dict[str, int]:
        """Number of files in each state."""
        rows = self.journal.db.execute("SELECT state, count(*) FROM file GROUP BY state")
        return {state: int(n) for state, n in rows}

    def add(self, path: str, signature: Signature, session: str | None) -> Known:
        """A file seen for the first time."""
        self.journal.db.execute(
            "INSERT INTO file (path, dev, inode, size, mtime_ns, state, seen_at, session) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (path, *_numbers(signature), FileState.SETTLING, iso(self.journal.now()), session),
        )
        return self.at(path)

    def changed(self, known: Known, signature: Signature, session: str | None) -> Known:
        """A known file whose content may be another: it settles again, with fresh tries.

        What was already scored or refused stays in the log; new content belongs to the flask that
        is open now.
        """
        finished = known.state in (FileState.DONE, FileState.QUARANTINED)
        self.journal.db.execute(
            "UPDATE file SET dev = ?, inode = ?, size = ?, mtime_ns = ?, state = ?, tries = 0, "
            "next_try_s = NULL, session = ?, reason = NULL, detail = NULL WHERE id = ?",
            (*_numbers(signature), FileState.SETTLING, session if finished else known.session,
             known.id),
        )  # fmt: skip
        return self.at(known.path)

    def claim(self, known: Known) -> Known:
        """Hand a file to the reader: one more try."""
        return self._set(known, FileState.CLAIMED, tries=known.tries + 1)

    def settle(self, known: Known) -> Known:
        """Back to settling, as after a restart."""
        return self._set(known, FileState.SETTLING)

    def wait(self, known: Known, until_s: float, reason: FileReason, detail: str) -> Known:
        """Try again later."""
        return self._set(known, FileState.WAITING, reason, detail, next_try_s=until_s)

    def quarantine(
        self, known: Known, reason: FileReason, detail: str, sha256: str | None = None
    ) -> Known:
        """Never scored, and why."""
        return self._set(known, FileState.QUARANTINED, reason, detail, sha256=sha256)

    def duplicate(self, known: Known, of: int, sha256: str) -> Known:
        """The same bytes as another file of the session: no second result."""
        self.journal.db.execute("UPDATE file SET duplicate_of = ? WHERE id = ?", (of, known.id))
        detail = f"the same bytes as {self._path(of)}"
        return self._set(known, FileState.QUARANTINED, FileReason.DUPLICATE, detail, sha256=sha256)

    def done(self, known: Known, seq: int, sha256: str, session: str | None) -> Known:
        """Scored by message `seq`: one more revision of its content."""
        self._set(known, FileState.DONE, sha256=sha256)
        self.journal.db.execute(
            "UPDATE file SET seq = ?, session = ?, revision = revision + 1 WHERE id = ?",
            (seq, session, known.id),
        )
        return self.at(known.path)

    def unchanged(self, known: Known) -> Known:
        """Touched or copied over with the very bytes that were scored before: no second result.

        It stays with the flask of that result, whichever is open now.
        """
        self.journal.db.execute(
            "UPDATE file SET session = (SELECT json_extract(CAST(body AS TEXT), '$.flask.session') "
            "FROM message WHERE message.seq = file.seq) WHERE id = ?",
            (known.id,),
        )
        return self._set(known, FileState.DONE)

    def give(self, known: Known, session: str | None) -> Known:
        """A file that waits belongs to this session."""
        self.journal.db.execute("UPDATE file SET session = ? WHERE id = ?", (session, known.id))
        return self.at(known.path)

    def read_as(self, known: Known, signature: Signature) -> Known:
        """What the file was when it was read, which may be later than when it was seen."""
        self.journal.db.execute(
            "UPDATE file SET dev = ?, inode = ?, size = ?, mtime_ns = ? WHERE id = ?",
            (*_numbers(signature), known.id),
        )
        return self.at(known.path)

    def same_bytes(self, sha256: str, session: str, but: int) -> int | None:
        """Another scored file of this session with the same bytes."""
        row = self.journal.db.execute(
            "SELECT id FROM file WHERE sha256 = ? AND session = ? AND id != ? AND state = ?",
            (sha256, session, but, FileState.DONE),
        ).fetchone()
        return None if row is None else int(row[0])

    def counts_for(self, path: str, session: str | None, before: int) -> bool:
        """Whether the image at this path counts for a session (None: without a flask).

        So does one that was seen before file `before` and still waits for its turn: it counts
        everything that it shows when its turn comes.
        """
        row = self.journal.db.execute(
            "SELECT 1 FROM file WHERE path = ? AND (state = ? AND session IS ? "
            "OR state IN (?, ?, ?) AND id < ?)",
            (path, FileState.DONE, session, FileState.SETTLING, FileState.CLAIMED,
             FileState.WAITING, before),
        ).fetchone()  # fmt: skip
        return row is not None

    def at(self, path: str) -> Known:
        """The file with this path."""
        return self._rows("path = ?", (path,))[0]

    def _path(self, file_id: int) -> str:
        row = self.journal.db.execute("SELECT path FROM file WHERE id = ?", (file_id,)).fetchone()
        return str(row[0])

    def _set(
        self,
        known: Known,
        state: FileState,
        reason: FileReason | None = None,
        detail: str | None = None,
        *,
        tries: int | None = None,
        next_try_s: float | None = None,
        sha256: str | None = None,
    ) -> Known:
        # `seq` is the message that scored `sha256`: other bytes have none yet
        self.journal.db.execute(
            "UPDATE file SET state = ?1, reason = ?2, detail = ?3, tries = ?4, next_try_s = ?5, "
            "seq = iif(coalesce(?6, sha256) IS sha256, seq, NULL), "
            "sha256 = coalesce(?6, sha256) WHERE id = ?7",
            (state, reason, detail, known.tries if tries is None else tries, next_try_s, sha256,
             known.id),
        )  # fmt: skip
        return self.at(known.path)

    def _rows(self, where: str, values: tuple[str, ...]) -> list[Known]:
        rows = self.journal.db.execute(
            f"SELECT {COLUMNS} FROM file WHERE {where} ORDER BY id", values
        )
        return [
            Known(number, path, Signature(dev, inode, size, mtime), FileState(state), *rest)
            for number, path, dev, inode, size, mtime, state, *rest in rows
        ]


def _numbers(s: Signature) -> tuple[int, int, int, int]:
    return s.dev, s.inode, s.size, s.mtime_ns
