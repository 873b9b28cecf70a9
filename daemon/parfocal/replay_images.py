"""What is replayed: the images of a folder, or those that a journal has results of.

A journal is only read. Its images come in the order in which they were first seen, each with the
flask session, the pixel size and the bytes (sha256) that it had then. In a folder, the pixel sizes
of its `flasks.csv` count as they do in training.
"""

import csv
import math
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from parfocal.journal import MIGRATIONS
from parfocal.score import NoImagesError, images
from parfocal.types import FlaskVerdict, FrameResult, ScaleOrigin

JOURNAL, TABLE = "journal.sqlite", "flasks.csv"
SQLITE_BEGIN = b"SQLite format 3\0"


class ReplayError(Exception):
    """A source that cannot be replayed; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One image to replay.

    Parameters
    ----------
    path, root : str
        The file, and the folder up to which declarations beside it count.
    sha256, session, seq
        Of its result in the journal; None in a folder.
    um_per_px : float or None
        The pixel size to use, whatever is declared; None lets the declarations decide.
    um_per_px_from : ScaleOrigin
        Where that came from.
    """

    path: str
    root: str
    sha256: str | None = None
    session: str | None = None
    seq: int | None = None
    um_per_px: float | None = None
    um_per_px_from: ScaleOrigin = "argument"


@dataclass(frozen=True, slots=True)
class Source:
    """Everything that is replayed, in order.

    Parameters
    ----------
    path : Path
    images : tuple of Stored
    journal : Path or None
        The journal that the images come from.
    sessions : tuple of dict
        Rows of the flask sessions they belong to.
    n_rewritten : int
        Images in the journal whose file was rewritten later: their bytes are gone.
    n_unscored : int
        Files in the journal that had no result.
    """

    path: Path
    images: tuple[Stored, ...]
    journal: Path | None = None
    sessions: tuple[dict[str, object], ...] = field(default=())
    n_rewritten: int = 0
    n_unscored: int = 0


def source_at(path: Path, um_per_px: float | None = None) -> Source:
    """The source that a path means: a journal, a folder that holds one, or a folder of images.

    Raises
    ------
    ReplayError, NoImagesError
        There is nothing to replay.
    """
    journal = path / JOURNAL if path.is_dir() else path
    if journal.is_file():
        return _of_journal(path, journal, um_per_px)
    if not path.is_dir():
        raise ReplayError(
            f"there is no {path}: name a folder of images, a state folder or a journal.sqlite"
        )
    return Source(path, tuple(_of_folder(path, um_per_px)))


def _of_folder(path: Path, um_per_px: float | None) -> Iterator[Stored]:
    listed = table_scales(path) if um_per_px is None else {}
    for one in images([str(path)]):
        image = os.path.abspath(one.path)
        where: ScaleOrigin = "table" if image in listed else "argument"
        yield Stored(image, one.root, um_per_px=listed.get(image, um_per_px), um_per_px_from=where)


def table_scales(folder: Path) -> dict[str, float]:
    """Path to pixel size of the images that the folder's `flasks.csv` gives one for.

    Raises
    ------
    ReplayError
        The table cannot be read, or a pixel size in it is none.
    """
    table = folder / TABLE
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            return dict(_scales(folder, csv.reader(file)))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReplayError(
            f"{table} cannot be read ({error}): mend it, or give --um-per-px"
        ) from error


def _scales(folder: Path, lines: Iterator[list[str]]) -> Iterator[tuple[str, float]]:
    columns = [name.strip() for name in next(lines, [])]
    for values in lines:
        cells = dict(zip(columns, (value.strip() for value in values), strict=False))
        path, text = cells.get("path"), cells.get("um_per_px")
        if path and text:
            yield os.path.abspath(folder / path), _scale(text, path)


def _scale(text: str, path: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 0.01 <= scale <= 100:
        raise ReplayError(
            f"{TABLE} gives {path} the um_per_px '{text}', not a number between 0.01 and 100: "
            "mend it, or give --um-per-px"
        )
    return scale


def opened(journal: Path) -> sqlite3.Connection:
    """A connection that can only read; a journal that nobody has open is not touched at all.

    Raises
    ------
    ReplayError
        It is no journal, or one of a newer parfocal.
    """
    try:
        with journal.open("rb") as file:
            if file.read(len(SQLITE_BEGIN)) != SQLITE_BEGIN:
                raise ReplayError(f"{journal} is no journal: name a folder or a journal.sqlite")
    except OSError as error:
        raise ReplayError(f"{journal} cannot be read ({error.strerror}): mend that") from error
    # without this file SQLite would make it, and nobody is writing
    alone = "&immutable=1" if not Path(f"{journal}-wal").exists() else ""
    db = sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro{alone}", uri=True)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error as error:
        db.close()
        raise ReplayError(f"the journal {journal} cannot be read: {error}") from error
    if version > len(MIGRATIONS) or not {"message", "file", "flask_session"} <= tables:
        db.close()
        raise ReplayError(
            f"{journal} has layout {version}, and this parfocal knows 1 to {len(MIGRATIONS)}: "
            "name a journal of this or an earlier version"
        )
    return db


def _of_journal(path: Path, journal: Path, um_per_px: float | None) -> Source:
    with closing(opened(journal)) as db:
        try:
            found = tuple(_images(db, um_per_px))
            source = Source(path, found, journal, _sessions(db, found), *_left_out(db))
        except sqlite3.Error as error:
            raise ReplayError(f"the journal {journal} cannot be read: {error}") from error
    if not source.images:
        raise NoImagesError(f"{journal} has no result of any image: nothing can be replayed")
    return source


def _images(db: sqlite3.Connection, um_per_px: float | None) -> Iterator[Stored]:
    rows = db.execute(
        "SELECT f.path, f.sha256, f.seq, f.session, "
        "json_extract(CAST(m.body AS TEXT), '$.image.um_per_px'), "
        "json_extract(CAST(m.body AS TEXT), '$.image.um_per_px_from') "
        "FROM file f JOIN message m ON m.seq = f.seq ORDER BY f.id"
    )
    for path, sha256, seq, session, scale, scale_from in rows:
        if um_per_px is not None:
            scale, scale_from = um_per_px, "argument"
        yield Stored(path, os.path.dirname(path), sha256, session, seq, scale, scale_from)


def _sessions(db: sqlite3.Connection, found: tuple[Stored, ...]) -> tuple[dict[str, object], ...]:
    cursor = db.execute("SELECT * FROM flask_session ORDER BY opened_at")
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    used = {one.session for one in found}
    return tuple(row for row in rows if row["session"] in used)


def _left_out(db: sqlite3.Connection) -> tuple[int, int]:
    (n_rewritten,) = db.execute(
        "SELECT count(DISTINCT sha256) FROM ("
        "SELECT json_extract(CAST(body AS TEXT), '$.image.sha256') AS sha256 FROM message "
        "WHERE topic LIKE 'frame/%') AS told WHERE NOT EXISTS ("
        "SELECT 1 FROM file WHERE file.sha256 = told.sha256 AND file.seq IS NOT NULL)"
    ).fetchone()
    (n_unscored,) = db.execute("SELECT count(*) FROM file WHERE seq IS NULL").fetchone()
    return int(n_rewritten), int(n_unscored)


class Results:
    """Results and totals in a journal, one at a time; close it after use."""

    def __init__(self, journal: Path) -> None:
        self._db = opened(journal)

    def frame(self, seq: int) -> FrameResult:
        """The result that a message holds."""
        row = self._db.execute("SELECT body FROM message WHERE seq = ?", (seq,)).fetchone()
        return msgspec.json.decode(row[0], type=FrameResult)

    def seqs(self) -> dict[str, int]:
        """Path to the message of each file's result."""
        rows = self._db.execute("SELECT path, seq FROM file WHERE seq IS NOT NULL")
        return {path: int(seq) for path, seq in rows}

    def verdicts(self) -> dict[str, FlaskVerdict]:
        """Session to its last totals."""
        rows = self._db.execute(
            "SELECT body, max(seq) FROM message WHERE topic LIKE 'flask/%' "
            "GROUP BY json_extract(CAST(body AS TEXT), '$.flask.session')"
        )
        found = (msgspec.json.decode(body, type=FlaskVerdict) for body, _ in rows)
        return {verdict.flask.session: verdict for verdict in found}

    def refused(self) -> list[tuple[str, str, str]]:
        """Path, reason and detail of each file without a result, in order."""
        rows = self._db.execute(
            "SELECT path, reason, detail FROM file WHERE state = 'quarantined' ORDER BY id"
        )
        return [(path, reason, detail or "") for path, reason, detail in rows]

    def close(self) -> None:
        """Close the journal."""
        self._db.close()
