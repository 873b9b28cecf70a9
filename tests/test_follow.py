"""Files that follow writes are complete after any kill, and no other file is harmed."""

import csv
import io
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parfocal.client import Cursor, Received
from parfocal.follow import (
    COLUMNS,
    CsvTable,
    JsonLines,
    OutputError,
    Place,
    Sink,
    json_line,
    one_line,
    sink_for,
)
from parfocal.intervals import composition, density
from parfocal.publish import Endpoints
from parfocal.types import (
    Alarm,
    Cell,
    FlaskRef,
    FlaskVerdict,
    FrameResult,
    Header,
    ImageRef,
    ModelRef,
    Quality,
)

LOG = "6f0e1e9c-0000-4000-8000-000000000001"
NAMES = ["a.tif", "a,b.tif", 'a"b.tif', "a\nb.tif", "a\r\nb.tif", f"a\n{LOG},1,x.tif", "ü😀.tif"]


def cell(number: int) -> Cell:
    return Cell(id=number, x_px=1.5, y_px=2, left_px=0, top_px=0, width_px=3, height_px=4,
                area_um2=9, label="alpha", probability=0.9,
                probabilities={"alpha": 0.9, "beta": 0.1}, novelty=0.1)  # fmt: skip


def frame(name: str, n_cells: int) -> FrameResult:
    return FrameResult(
        image=ImageRef(
            path=f"/srv/{name}", sha256="0" * 64, width_px=5, height_px=6, um_per_px=0.44,
            um_per_px_from="folder", acquired_at="2026-01-01T00:00:00Z", source="folder",
        ),
        flask=FlaskRef(id="F\n1", session="s", cell_line="HeLa"),
        model=ModelRef(name="m", version="1", sha256="0", fingerprint="0", provider="cpu",
                       detector="d", detector_matches_training=True),
        quality=Quality(focus=0.5, exposure=0.5, flags=("dim",)),
        cells=tuple(cell(number) for number in range(1, n_cells + 1)),
        rejected=(), composition=composition({"alpha": n_cells}), n_abstained=0, n_rejected=0,
        density=density(n_cells, 1.0), timing_ms={},
    )  # fmt: skip


def received(seq: int, body: FrameResult | Alarm | FlaskVerdict, log: str = LOG) -> Received:
    kind = {FrameResult: "frame", Alarm: "alarm", FlaskVerdict: "flask"}[type(body)]
    header = Header(
        schema=f"parfocal.{kind}/1",
        rig="rig", log=log, seq=seq, tseq=seq, msg_id=f"m{seq}",
        published_at="2026-01-01T00:00:00Z", sha256="0",
    )  # fmt: skip
    return Received(f"{kind}/rig/", header, msgspec.json.encode(body), None)


ALARM = Alarm(name="n", level="warning", since_at="2026-01-01T00:00:00Z", text="a\nb")

MESSAGES = [
    received(1, frame(NAMES[0], 2)), received(2, ALARM), received(3, frame(NAMES[1], 0)),
    received(4, frame(NAMES[2], 1)), received(5, frame(NAMES[3], 3)), received(6, ALARM),
    received(7, frame(NAMES[4], 2)), received(8, frame(NAMES[5], 3)), received(9, ALARM),
    received(10, frame(NAMES[6], 1)),
]  # fmt: skip


def write(path: Path, messages: list[Received]) -> Cursor:
    """Go on with a file as `follow` does: everything after the place where it stopped."""
    sink = sink_for(path)
    try:
        cursor = sink.resume()
        for message in messages:
            if message.header.seq > cursor.seq:
                sink.write(message)
        sink.flush()
    finally:
        sink.close()
    return cursor


@settings(deadline=None)
@given(st.data(), st.sampled_from(["x.csv", "x.jsonl"]))
def test_a_file_cut_anywhere_is_completed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, name: str
) -> None:
    folder = tmp_path_factory.mktemp("f")
    write(folder / f"whole-{name}", MESSAGES)
    whole = (folder / f"whole-{name}").read_bytes()
    cut = folder / name
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole)), "cut at")])
    write(cut, MESSAGES[: data.draw(st.integers(0, len(MESSAGES)), "messages there are")])
    write(cut, MESSAGES)
    assert cut.read_bytes() == whole
    assert write(cut, MESSAGES).seq == 10  # a complete end is kept


@settings(deadline=None)
@given(st.integers(0, 3000))
def test_what_is_complete_stays_when_the_log_is_another_one(
    tmp_path_factory: pytest.TempPathFactory, cut_at: int
) -> None:
    path = tmp_path_factory.mktemp("f") / "x.csv"
    write(path, MESSAGES)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut_at])
    rows = [r for r in csv.reader(io.StringIO(whole.decode())) if r[0] == LOG]
    sink = sink_for(path)
    sink.resume()
    sink.close()
    kept = [r for r in csv.reader(io.StringIO(path.read_text())) if r[0] == LOG]
    assert kept == rows[: len(kept)]
    if cut_at >= len(whole):
        assert kept == rows


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
@pytest.mark.parametrize(
    "content",
    [b"my notes", b"my notes\n", b"a,b,c\n1,2,3\n", b'{"mine":1}\n', b'{"mine":1}', b"[1]\n[2",
     b"\x00" * 100, b'{"topic":1,"header":[]}\n'],
)  # fmt: skip
def test_a_file_of_someone_else_is_refused_and_left_as_it_was(
    name: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(OutputError):
        write(path, MESSAGES)
    assert path.read_bytes() == content


def test_a_table_has_one_line_a_cell_and_one_for_a_frame_without(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path, MESSAGES)
    lines = path.read_text().split("\n")
    assert len(lines) == 1 + sum(max(1, n) for n in (2, 0, 1, 3, 2, 3, 1)) + 1
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert list(rows[0]) == list(COLUMNS)
    assert {row["image"] for row in rows} == {
        "/srv/" + name.replace("\r", "\\r").replace("\n", "\\n") for name in NAMES
    }
    assert [row["id"] for row in rows if row["seq"] == "3"] == [""]
    assert [row["label"] for row in rows if row["seq"] == "5"] == ["alpha"] * 3


def test_a_line_holds_the_message_as_it_came(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write(path, MESSAGES)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["header"]["seq"] for line in lines] == list(range(1, 11))
    assert lines[1]["topic"] == "alarm/rig/"
    assert msgspec.convert(lines[0]["body"], FrameResult) == MESSAGES[0].body()


def test_the_end_of_a_long_file_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parfocal.follow.TAIL_BYTES", len(json_line(MESSAGES[-1])) * 3 // 2)
    path = tmp_path / "x.jsonl"
    write(path, MESSAGES)
    assert write(path, MESSAGES) == Cursor(LOG, 10)


@pytest.mark.parametrize("name", ["x.txt", "x", "x.CSV2"])
def test_other_endings_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.csv or \.jsonl"):
        sink_for(tmp_path / name)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for sink in (CsvTable, JsonLines):
        with pytest.raises(OutputError, match="cannot write"):
            sink(tmp_path / "none" / "x")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


ENDS = Endpoints("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")


def test_a_terminal_remembers_its_place_by_address_and_topics(home: Path) -> None:
    place: Sink = Place(ENDS, ())
    assert place.resume() == Cursor()
    place.flush()
    assert not list(home.rglob("*.json"))
    place.write(MESSAGES[3])
    place.flush()
    place.close()
    assert Place(ENDS, ()).resume() == Cursor(LOG, 4)
    assert Place(ENDS, ("frame/",)).resume() == Cursor()
    assert Place(Endpoints("tcp://127.0.0.1:9", ""), ()).resume() == Cursor()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"log":"a","seq":"x"}', "null"])
def test_a_place_that_is_not_understood_starts_over(text: str, home: Path) -> None:
    place = Place(ENDS, ())
    place.path.parent.mkdir(parents=True)
    place.path.write_text(text)
    assert place.resume() == Cursor()


def test_every_kind_of_message_has_a_line() -> None:
    verdict = FlaskVerdict(
        flask=FlaskRef(id="F", session="s"), open=False, n_frames=2, n_cells=3, n_abstained=0,
        n_rejected=0, composition=composition({"alpha": 3}), density=None,
    )  # fmt: skip
    assert "cells 2  alpha 2 (100%, 34%-100%)" in one_line(MESSAGES[0])
    assert one_line(MESSAGES[1]).endswith("warning: a\nb")
    assert "flask F (closed)  2 frames  alpha 100%" in one_line(received(1, verdict))
    made_room = FlaskRef(id="F", session="s", closed_by="next flask", missing=("cell_line",))
    verdict = msgspec.structs.replace(verdict, flask=made_room)
    assert "flask F (closed by the next flask; missing: cell line)" in one_line(
        received(1, verdict)
    )
