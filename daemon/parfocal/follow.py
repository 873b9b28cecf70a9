"""`parfocal follow`: a durable subscriber that shows results or keeps them in a file.

Where to go on after a kill is read from the output itself: the last complete line of the file. The
terminal has no memory, so its place is kept in a small file under the user's state folder.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from parfocal.client import Cursor, Received
from parfocal.config import state_home
from parfocal.flasktext import amount_text, closed_by_text, missing_text, shares_text
from parfocal.phenotypes import phenotypes_text
from parfocal.publish import Endpoints
from parfocal.shift import shift_text
from parfocal.types import Alarm, FlaskVerdict, FrameResult

TAIL_BYTES = 8 * 1024 * 1024
"""More than the rows of any one frame."""


class OutputError(Exception):
    """An output file that cannot be continued; the message says why."""


class Sink(Protocol):
    """Takes messages and knows where it stopped."""

    def resume(self) -> Cursor:
        """The last message that is safely in the output."""

    def write(self, message: Received, /) -> None:
        """Add one message."""

    def flush(self) -> None:
        """Make everything written durable."""

    def close(self) -> None:
        """Free what is held."""


LINE_BEGIN = b'{"topic":'


def json_line(message: Received) -> bytes:
    """One JSONL line: {topic, header, body}."""
    topic = msgspec.json.encode(message.topic)
    header = msgspec.json.encode(message.header)
    return b'%s%s,"header":%s,"body":%s}\n' % (LINE_BEGIN, topic, header, message.raw_body)


class JsonLines:
    """A .jsonl file, one message a line."""

    def __init__(self, path: Path) -> None:
        self._file = _open(path)

    def resume(self) -> Cursor:
        """After the last complete line; a torn one behind it is cut off."""
        cursor = Cursor()
        lines, torn = _tail_lines(self._file)
        for start, line in lines:
            try:
                header = json.loads(line)["header"]
                cursor = Cursor(str(header["log"]), int(header["seq"]))
            except (ValueError, KeyError, TypeError) as error:
                raise self._foreign(start) from error
        if not lines and not (torn.startswith(LINE_BEGIN) or LINE_BEGIN.startswith(torn)):
            raise self._foreign(0)
        _cut_tail(self._file, len(torn))
        return cursor

    def _foreign(self, start: int) -> OutputError:
        return OutputError(
            f"{self._file.name} is no output of parfocal follow (at byte {start}): "
            "name another file"
        )

    def write(self, message: Received, /) -> None:
        """Add one line."""
        self._file.write(json_line(message))

    def flush(self) -> None:
        """Wait until it is on disk."""
        _sync(self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


COLUMNS = (
    "log", "seq", "published_at", "image", "sha256", "acquired_at", "um_per_px", "width_px",
    "height_px", "flask", "session", "cell_line", "passage", "model", "model_version", "provider",
    "focus", "exposure", "flags", "n_cells", "n_abstained", "n_rejected", "cells_per_mm2", "id",
    "x_px", "y_px", "left_px", "top_px", "cell_width_px", "cell_height_px", "area_um2", "label",
    "probability", "novelty", "phenotype", "accepted", "reason",
)  # fmt: skip


def csv_rows(message: Received, result: FrameResult) -> Iterator[list[object]]:
    """One row a cell with its frame's and flask's columns; a frame without cells has one row."""
    image, flask, model, header = result.image, result.flask, result.model, message.header
    frame: list[object] = [
        header.log, header.seq, header.published_at, image.path, image.sha256, image.acquired_at,
        image.um_per_px, image.width_px, image.height_px, flask.id if flask else "",
        flask.session if flask else "", flask.cell_line if flask else "",
        flask.passage if flask else "", model.name, model.version, model.provider,
        result.quality.focus, result.quality.exposure, " ".join(result.quality.flags),
        len(result.cells), result.n_abstained, result.n_rejected, result.density.cells_per_mm2,
    ]  # fmt: skip
    for c in result.cells:
        yield [*frame,
            c.id, c.x_px, c.y_px, c.left_px, c.top_px, c.width_px, c.height_px, c.area_um2, c.label,
            c.probability, c.novelty, c.phenotype or "", c.accepted, c.reason or "",
        ]  # fmt: skip
    if not result.cells:
        yield [*frame, *[""] * (len(COLUMNS) - len(frame))]


class CsvTable:
    """A .csv file, one cell a row; only frames have rows."""

    def __init__(self, path: Path) -> None:
        self._file = _open(path)

    def resume(self) -> Cursor:
        """After the last complete frame; one with rows missing is cut off and comes again."""
        heading = (",".join(COLUMNS) + "\n").encode()
        self._file.seek(0)
        first = self._file.readline(len(heading))
        if not heading.startswith(first):
            raise OutputError(f"{self._file.name} has other columns than parfocal follow writes")
        if first != heading:
            self._file.seek(0)
            self._file.write(heading)
            return Cursor()
        lines, torn = _tail_lines(self._file)
        _cut_tail(self._file, len(torn))
        rows = [(start, _frame_of(line)) for start, line in lines]
        known = [(start, frame) for start, frame in rows if frame is not None]
        if not known:
            return Cursor()
        last = known[-1][1]
        begins = [start for start, frame in known if frame == last]
        if len(begins) >= last.n_rows:
            return Cursor(last.log, last.seq)
        _cut_tail(self._file, self._file.tell() - begins[0])
        return Cursor(last.log, last.seq - 1)

    def write(self, message: Received, /) -> None:
        """Add a frame's rows."""
        body = message.body()
        if isinstance(body, FrameResult):
            text = io.StringIO()
            rows = ([_one_line(value) for value in row] for row in csv_rows(message, body))
            csv.writer(text, lineterminator="\n").writerows(rows)
            self._file.write(text.getvalue().encode())

    def flush(self) -> None:
        """Wait until it is on disk."""
        _sync(self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class _RowsOf:
    """The frame that a row belongs to, and how many rows that frame has."""

    log: str
    seq: int
    n_rows: int


def _frame_of(line: bytes) -> _RowsOf | None:
    row = next(csv.reader([line.decode(errors="replace")]), [])
    if len(row) != len(COLUMNS):
        return None
    seq, n_cells = row[COLUMNS.index("seq")], row[COLUMNS.index("n_cells")]
    if not (seq.isdigit() and n_cells.isdigit()):
        return None  # the heading
    return _RowsOf(row[0], int(seq), max(1, int(n_cells)))


def _one_line(value: object) -> object:
    """The value with line ends as escapes, so that a row of the table is a line of the file."""
    if isinstance(value, str):
        return value.replace("\r", "\\r").replace("\n", "\\n")
    return value


def _open(path: Path) -> BinaryIO:
    try:
        path.touch(exist_ok=True)
        return path.open("r+b")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _tail_lines(file: BinaryIO) -> tuple[list[tuple[int, bytes]], bytes]:
    """(offset, line) of the last complete lines, and the torn one behind them."""
    size = file.seek(0, os.SEEK_END)
    begin = max(0, size - TAIL_BYTES)
    file.seek(begin)
    *whole, torn = file.read().split(b"\n")
    lines, at = [], begin
    for line in whole:
        lines.append((at, line))
        at += len(line) + 1
    return lines[1:] if begin else lines, torn  # the first one is cut where the tail begins


def _cut_tail(file: BinaryIO, n_bytes: int) -> None:
    """Cut this many bytes off the end and stand there."""
    file.truncate(file.seek(-n_bytes, os.SEEK_END))


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


class Place:
    """Remembers how far a terminal was, by rig address and topics."""

    def __init__(self, endpoints: Endpoints, topics: tuple[str, ...]) -> None:
        key = hashlib.sha256("\n".join([endpoints.live, *topics]).encode()).hexdigest()[:16]
        self.path = state_home() / "follow" / f"{key}.json"
        self._cursor = Cursor()

    def resume(self) -> Cursor:
        """The last message that was shown, or the start of the log."""
        try:
            known = json.loads(self.path.read_text())
            return Cursor(str(known["log"]), int(known["seq"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return Cursor()

    def write(self, message: Received, /) -> None:
        """Note a message as shown."""
        self._cursor = message.cursor

    def flush(self) -> None:
        """Store the place."""
        if not self._cursor.seq:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps({"log": self._cursor.log, "seq": self._cursor.seq}))
        fresh.replace(self.path)

    def close(self) -> None:
        """Nothing is held."""


def sink_for(path: Path) -> Sink:
    """The sink that a file name asks for by its ending."""
    if path.suffix == ".jsonl":
        return JsonLines(path)
    if path.suffix == ".csv":
        return CsvTable(path)
    raise OutputError(f"--out takes a .csv or .jsonl file, got {path}")


def one_line(message: Received) -> str:
    """A message in one line of plain text."""
    body, seq = message.body(), message.header.seq
    if isinstance(body, FrameResult):
        name = os.path.basename(body.image.path)
        flask = f"  flask {body.flask.id}" if body.flask else ""
        shares = "  ".join(
            f"{label} {f.n} ({f.fraction:.0%}, {f.low:.0%}-{f.high:.0%})"
            for label, f in body.composition.items()
        )
        left = f"abstained {body.n_abstained}  rejected {body.n_rejected}"
        line = f"{seq:>6}  {name}  cells {len(body.cells)}  {shares}  {left}{flask}"
        more = phenotypes_text(body.phenotypes), shift_text(body.shift)
        return "  ".join(filter(None, (line, *more)))
    if isinstance(body, Alarm):
        return f"{seq:>6}  {body.level}: {body.text}"
    if isinstance(body, FlaskVerdict):
        return f"{seq:>6}  {verdict_line(body)}"
    return f"{seq:>6}  a message of a later parfocal ({message.header.schema})"


def verdict_line(verdict: FlaskVerdict) -> str:
    """A flask's totals in one line."""
    return "  ".join(verdict_parts(verdict))


def verdict_parts(verdict: FlaskVerdict) -> list[str]:
    """A flask's totals: what it holds, how it looks, what it means."""
    flask, missing = verdict.flask, missing_text(verdict.flask)
    state = "open" if verdict.open else f"closed {closed_by_text(flask)}".strip()
    state += f"; missing: {missing}" if missing else ""
    how = "corrected for the model's errors" if verdict.corrected else "as answered"
    frames = f"{verdict.n_frames} frame{'s' * (verdict.n_frames != 1)}"
    line = f"flask {flask.id} ({state})  {frames}  {shares_text(verdict)}, {how}"
    looks = phenotypes_text(verdict.phenotypes), shift_text(verdict.shift)
    return list(filter(None, (line, amount_text(verdict), *looks, *judgements(verdict))))


def judgements(verdict: FlaskVerdict) -> tuple[str, ...]:
    """What a flask's totals mean: the declared line, contamination, trend and what to do next."""
    line, foreign, trend = verdict.declared, verdict.contamination, verdict.trend
    changed = trend is not None and any(one.outside for one in trend.figures.values())
    said = (
        f"declared {line.cell_line}: {line.match}, {line.text}" if line else "",
        foreign.text if foreign and line and line.match != "mismatch" else "",
        trend.text if trend and changed else "",
        f"advice: {verdict.advice}" if verdict.advice else "",
    )
    return tuple(filter(None, said))
