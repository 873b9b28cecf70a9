"""A flask is opened by who or what sees it, closed by somebody or by rule, and lost by nobody."""

import io
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs import Rig, drawn_gray, free_ports, save_frame, until
from test_notebook import write

from parfocal import client, flaskcode, reader
from parfocal.cli import main
from parfocal.config import ConfigError, FlaskRules, Settings, parse
from parfocal.files import FileTable, Signature
from parfocal.flaskcode import CodeError
from parfocal.flaskfolder import flask_of_folders
from parfocal.journal import MIGRATIONS, Journal, JournalError
from parfocal.sessions import SessionError, Sessions
from parfocal.sidecar import Declared, DeclaredFlask
from parfocal.types import Alarm, FlaskRef, Frame

# --------------------------------------------------------------------------------------- codes


def flask(name: str, line: str | None = None, passage: int | None = None) -> DeclaredFlask:
    return DeclaredFlask(id=name, cell_line=line, passage=passage)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("F12", flask("F12")),
        ("  F12\r", flask("F12")),
        ("F12|HT1080|7", flask("F12", "HT1080", 7)),
        ("F12 | HT1080 | P7", flask("F12", "HT1080", 7)),
        ("F12|HT1080", flask("F12", "HT1080")),
        ("F12||7", flask("F12", None, 7)),
        ('{"id": "F12", "cell_line": "HeLa", "passage": 0}', flask("F12", "HeLa", 0)),
        ("CLOSE", None),
        ("close", None),
    ],
)
def test_a_code_names_a_flask_or_closes(text: str, meant: DeclaredFlask | None) -> None:
    assert flaskcode.parse(text) == meant


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "no plain text", id="nothing"),
        pytest.param("F12\a\x1b[2J", r"'F12\?\?\[2J' is no plain text", id="what rings"),
        pytest.param('{"id": "F\\u0007"}', "no plain text", id="what rings, escaped"),
        pytest.param("|HT1080|7", "names no flask", id="no name"),
        pytest.param("F" * 90, "1 to 80 characters", id="a long name"),
        pytest.param("F" * 400, "has 400 characters", id="a leaflet"),
        pytest.param("F|a|seven", "has passage 'seven'", id="a passage in words"),
        pytest.param("F|a|999999999", "not understood", id="a huge passage"),
        pytest.param("F|a|7|x", "has 4 parts", id="too many parts"),
        pytest.param("https://example.org/F12", "web address", id="a web address"),
        pytest.param('{"id": "F", "line": "a"}', "unknown field `line`", id="an unknown key"),
        pytest.param('{"id": "F"', "not understood", id="half a JSON"),
        pytest.param("[1]", "not understood", id="a list"),
        pytest.param("F\udcff", "no plain text", id="no UTF-8"),
    ],
)
def test_what_is_no_code_of_a_flask_is_refused_with_its_reason(text: str, why: str) -> None:
    with pytest.raises(CodeError, match=why):
        flaskcode.parse(text)


@given(st.text() | st.text('F1|P{}":, \a\x1b[') | st.from_regex(r"\w{1,5}\|\w*\|[pP]?\d{1,7}"))
def test_any_text_is_a_flask_a_close_or_a_sentence_that_does_not_ring(text: str) -> None:
    try:
        found = flaskcode.parse(text)
    except CodeError as error:
        assert str(error).isprintable()
    else:
        assert found is None or found.id.isprintable()


@pytest.mark.parametrize(
    ("folders", "meant"),
    [
        ("F12_HT1080_P7", flask("F12", "HT1080", 7)),
        ("F 12_HEK-293A_p0", flask("F 12", "HEK-293A", 0)),
        ("F1_HeLa_P3/day 2", flask("F1", "HeLa", 3)),
        ("F1_HeLa_P3/F2_HeLa_P4", flask("F2", "HeLa", 4)),
        ("F12", None),
        ("F12_HT1080", None),
        ("F12_HT1080_7", None),
        ("F12_HT1080_P", None),
        ("F12_HT1080_P7_b", None),
        ("_HT1080_P7", None),
        ("F12__P7", None),
        ("F12_HT1080 _P7", None),
        ("F12_HT1080_P٣", None),
        ("F12_HT1080_P123456", None),
        ("F12\a_HT1080_P7", None),
        ("F" * 81 + "_HT1080_P7", None),
        (".", None),
    ],
)
def test_a_folder_of_one_form_below_the_watched_one_names_a_flask(
    folders: str, meant: DeclaredFlask | None
) -> None:
    watched = Path("/srv/F0_HeLa_P1")  # which does not name one itself
    found = flask_of_folders(str(watched / folders / "F9_HeLa_P1.tif"), str(watched))
    assert found == meant


def label(text: str, px: int = 8) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """A printed QR code, `px` pixels a module."""
    code = cv2.QRCodeEncoder.create().encode(text)
    return np.kron(code, np.ones((px, px), np.uint8)).astype(np.uint8)


@pytest.mark.parametrize("levels", [np.uint8(1), np.uint16(257)], ids=["8 bit", "16 bit"])
@pytest.mark.parametrize("px", [4, 8, 12])
def test_a_code_is_read_in_an_image_of_either_depth(levels: Any, px: int) -> None:
    gray, code = drawn_gray(700), label("F12|HT1080|7", px)
    assert flaskcode.seen(gray * levels) == ""
    for top, left in ((0, 0), (150, 200)):
        shown = gray.copy()
        shown[top : top + len(code), left : left + len(code)] = code
        blurred: Any = cv2.GaussianBlur(shown, (0, 0), px / 6)
        assert flaskcode.seen(blurred * levels) == "F12|HT1080|7"


def test_a_fault_of_the_search_costs_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> str:
        raise cv2.error("a fault of OpenCV")

    frame = Frame(drawn_gray(300), notes=("first_page_of_3",))
    monkeypatch.setattr(reader, "seen_code", fail)
    near, noted = reader.coded(Declared(), frame, drawn_gray(300))
    assert near.flask is None and noted.notes == ("first_page_of_3", "code_not_read")


# ------------------------------------------------------------------------------------ the rules


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def pass_h(self, hours: float) -> None:
        self.at += timedelta(hours=hours)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.sqlite", "rig", clock)) as made:
        yield made


def test_a_session_is_idle_only_after_hours_without_a_frame(journal: Journal, clock: Clock) -> None:
    sessions = Sessions(journal, FlaskRules(close_after_h=12))
    stage, _ = sessions.open(flask("A"))
    clock.pass_h(12)
    assert sessions.idle() is None
    sessions.had_frame(stage.session)
    clock.pass_h(11)
    declared = sessions.declared(flask("B"))
    clock.pass_h(2)
    idle = sessions.idle()
    assert idle is not None and idle.session == stage.session
    assert sessions.end(idle, "rule").closed_by == "rule"
    assert sessions.idle() is None and sessions.current() is None
    clock.pass_h(11)
    idle = sessions.idle()  # a declared one too, and its next image begins another
    assert idle is not None and idle.session == declared.session
    sessions.end(idle, "rule")
    assert sessions.declared(flask("B")).session != declared.session


def test_a_session_whose_images_wait_is_not_idle(journal: Journal, clock: Clock) -> None:
    sessions, files = Sessions(journal, FlaskRules(close_after_h=1)), FileTable(journal)
    stage, _ = sessions.open(flask("A"))
    known = files.add("/a.png", Signature(1, 2, 3, 4), stage.session)
    clock.pass_h(5)
    assert sessions.idle() is None
    files.done(known, 1, "0" * 64, stage.session)
    assert sessions.idle() is not None


def test_zero_hours_close_nothing(journal: Journal, clock: Clock) -> None:
    sessions = Sessions(journal, FlaskRules(close_after_h=0))
    sessions.open(flask("A"))
    clock.pass_h(8760)
    assert sessions.idle() is None


def test_who_closed_a_session_is_kept(journal: Journal) -> None:
    sessions = Sessions(journal)
    first, _ = sessions.open(flask("A"))
    _, made_room = sessions.open(flask("B"))
    assert made_room is not None and made_room.closed_by == "next flask"
    assert sessions.close().closed_by == "operator"
    assert first.closed_by is None


def test_a_flask_is_not_opened_without_what_the_rig_requires(journal: Journal) -> None:
    sessions = Sessions(journal, FlaskRules(required=("cell_line", "passage")))
    kept, _ = sessions.open(flask("A", "HeLa", 0))
    for incomplete, missing in (
        (flask("B"), "cell_line and passage"), (flask("B", "", 3), "cell_line"),
        (flask("B", "HeLa"), "passage"),
    ):  # fmt: skip
        with pytest.raises(SessionError, match=f"flask B .* requires {missing} too"):
            sessions.open(incomplete)
    assert sessions.current() == kept and kept.missing is None
    assert sessions.declared(flask("B", "HeLa")).missing == ("passage",)


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        ({"flask": {"required": ["line"]}}, "Invalid enum value 'line'"),
        ({"flask": {"close_after_h": -1}}, "not between 0 and 8760"),
        ({"flask": {"close_after_h": float("nan")}}, "not between 0 and 8760"),
        ({"flask": {"qr": "image"}}, "Invalid enum value 'image'"),
        ({"flask": {"close_after": 1}}, "did you mean flask.close_after_h"),
        ({"verdict": {"half_width": 0.001}}, "not between 0.005 and 0.5"),
        ({"verdict": {"half_width": 0.6}}, "not between 0.005 and 0.5"),
    ],
)
def test_a_wrong_rule_is_refused(tree: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse(tree, "here")


def test_nothing_is_required_and_half_a_day_is_allowed_unless_said() -> None:
    rules = Settings().flask
    assert (rules.required, rules.close_after_h, rules.qr) == ((), 12.0, False)
    assert not rules.folder_names


# ---------------------------------------------------------------------------------- old journals


def old_journal(path: Path) -> None:
    """As the first version left it: a session with a frame, one without, and a closed one."""
    header = json.dumps({"published_at": "2026-01-01T10:00:00.000+00:00"}).encode()
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(MIGRATIONS[0] + "; PRAGMA user_version = 1")
        add = "INSERT INTO flask_session VALUES (?, ?, NULL, NULL, NULL, ?, ?, 'operator')"
        opened = "2026-01-01T00:00:00.000+00:00"
        db.execute(add, ("s1", "A", opened, None))
        db.execute(add, ("s2", "B", opened, None))
        db.execute(add, ("s3", "C", opened, "2026-01-01T01:00:00.000+00:00"))
        db.execute("INSERT INTO message VALUES (7, 'frame/rig/', 1, ?, x'', NULL)", (header,))
        db.execute(
            "INSERT INTO file (path, dev, inode, size, mtime_ns, state, seen_at, session, seq) "
            "VALUES ('/a.png', 0, 0, 0, 0, 'done', '', 's1', 7)"
        )


def test_cells_of_an_older_journal_have_the_phenotype_that_their_frame_told(
    tmp_path: Path, clock: Clock
) -> None:
    old_journal(tmp_path / "j.sqlite")  # whose one frame has no body that can be read
    cells = [{"id": 1, "phenotype": "flat"}, {"id": 2}, {"id": 3, "phenotype": None}]
    with closing(sqlite3.connect(tmp_path / "j.sqlite")) as db, db:
        body = json.dumps({"cells": cells}).encode()
        db.execute("INSERT INTO message VALUES (8, 'frame/rig/', 2, x'', ?, NULL)", (body,))
        row = "INSERT INTO cell VALUES (?, ?, NULL, 'a', 1, 0, 1, NULL, 0, 0, 1, x'')"
        db.executemany(row, [(7, 1), (8, 1), (8, 2), (8, 3)])
    for _ in range(2):
        with closing(Journal(tmp_path / "j.sqlite", "rig", clock)) as journal:
            found = journal.db.execute("SELECT seq, id, phenotype FROM cell").fetchall()
    assert found == [(7, 1, None), (8, 1, "flat"), (8, 2, None), (8, 3, None)]


def test_an_older_journal_opens_and_its_sessions_count_from_their_last_frame(
    tmp_path: Path, clock: Clock
) -> None:
    old_journal(tmp_path / "j.sqlite")
    clock.pass_h(13)
    with closing(Journal(tmp_path / "j.sqlite", "rig", clock)) as journal:
        sessions = Sessions(journal, FlaskRules(close_after_h=12))
        idle = sessions.idle()
        assert idle is not None and idle.session == "s2"
        sessions.end(idle, "rule")
        assert sessions.idle() is None
        closed = sessions.get("s3")
        assert closed is not None and closed.closed_at and closed.closed_by is None
        clock.pass_h(10)
        last = sessions.idle()
        assert last is not None and last.session == "s1"


def test_a_journal_is_read_beside_its_daemon_and_never_written(journal: Journal) -> None:
    with journal.transaction():
        journal.append("alarm", Alarm(name="n", level="info", since_at="", text=""))
    ((_, path),) = ((row[1], row[2]) for row in journal.db.execute("PRAGMA database_list"))
    with closing(Journal.reading(Path(path), "rig")) as read:
        assert (read.head, read.log_id) == (1, journal.log_id)
        with pytest.raises(sqlite3.OperationalError, match="readonly"), read.transaction():
            read.append("alarm", Alarm(name="n", level="info", since_at="", text=""))


def test_a_journal_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journal"):
        Journal.reading(tmp_path / "none.sqlite", "rig")
    assert not (tmp_path / "none.sqlite").exists()


# ------------------------------------------------------------------------------- the whole daemon


@pytest.mark.parametrize("action", ["scan", "assign", "history"])
def test_every_action_explains_itself(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["flask", action, "--help"])
    assert end.value.code == 0 and f"usage: parfocal flask {action}" in capsys.readouterr().out


def test_a_code_that_no_daemon_hears_is_not_recorded_and_the_next_is_tried(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "command", partial(client.command, wait_s=0.1))
    monkeypatch.setattr(sys, "stdin", io.StringIO("F1\nF2\n"))
    address = f"tcp://127.0.0.1:{free_ports()[0]}"
    assert main(["flask", "scan", "--connect", address]) == 69
    assert capsys.readouterr().err.count("not recorded") == 2


Said = pytest.CaptureFixture[str]


def command(rig: Rig, capsys: Said, *arguments: str) -> tuple[int, str, str]:
    """`parfocal flask ...` against a rig: status, stdout, stderr."""
    status = main(["flask", *arguments, "--connect", rig.live])
    said = capsys.readouterr()
    return status, said.out, said.err


def started(rig: Rig, capsys: Said, *more: str) -> None:
    rig.start(*more)
    until(lambda: command(rig, capsys, "show")[0] == 0, what="daemon")


def save_labelled(path: Path, text: str, seed: int) -> None:
    """A frame with a QR code in it, and moved in one step."""
    gray, code = drawn_gray(700, 4, seed), label(text)
    gray[40 : 40 + len(code), 40 : 40 + len(code)] = code
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), gray)


def test_a_scanner_opens_and_closes_and_codes_in_images_stand_between_sidecar_and_stage(
    rig: Rig, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(rig, capsys, "--set", 'flask.required=["cell_line"]', "--set", "flask.qr=true")
    scanned = b'F1\nF2|HT1080|P7\n\nF2\nhttp://x.org\n{"id":"F3","cell_line":"HeLa"}\n\xff\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(scanned + b"CLOSE\nclose\n")))
    status, out, err = command(rig, capsys, "scan")
    assert out.splitlines() == [
        "flask F2 (HT1080, passage 7) is open",
        "flask F2 (HT1080, passage 7) is open already",
        "flask F3 (HeLa) is open; flask F2 is closed",
        "flask F3 is closed; no flask is open",
    ]
    refusals = ["F1 is not opened: this rig requires cell_line", "web address", "'?' is no plain"]
    for line, why in zip(err.splitlines(), [*refusals, "no flask is open"], strict=True):
        assert why in line
    assert status == 1
    assert command(rig, capsys, "open", "F4")[0] == 1
    status, out, _ = command(rig, capsys, "scan", "F4|HeLa", "--json")
    assert status == 0 and json.loads(out)["flask"]["id"] == "F4"
    assert command(rig, capsys, "scan", "a|b|c|d")[0] == 65

    save_labelled(rig.folder / "coded.png", "Q1|HEK|3", 1)
    (rig.folder / "both.png.toml").write_text('[flask]\nid = "S1"\n')
    save_labelled(rig.folder / "both.png", "Q1|HEK|3", 2)
    save_labelled(rig.folder / "other.png", "http://x.org", 3)
    save_frame(rig.folder / "plain.png", 4)
    rig.wait_done(4)
    frames = {Path(body["image"]["path"]).stem: body for body in rig.frames()}
    found = {name: (b["flask"]["id"], b["flask"]["passage"]) for name, b in frames.items()}
    assert found == {
        "coded": ("Q1", 3), "both": ("S1", None), "other": ("F4", None), "plain": ("F4", None),
    }  # fmt: skip
    assert frames["both"]["flask"]["missing"] == ["cell_line"]
    assert frames["coded"]["flask"]["missing"] is None
    assert "code_of_no_flask" in frames["other"]["quality"]["flags"]
    assert frames["coded"]["timing_ms"]["code"] > 0
    assert "flask S1 is declared without cell_line" in rig.log()


def seen_in_order(rig: Rig, names: dict[str, str | None]) -> dict[str, str | None]:
    """Frames that came in one burst, with these codes in them: each one's flask, by file name."""
    made = rig.home / "made"
    made.mkdir(exist_ok=True)
    for seed, (name, text) in enumerate(names.items()):
        if text:
            save_labelled(made / f"{name}.png", text, seed)
        else:
            save_frame(made / f"{name}.png", seed)
    before = len(rig.frames())
    for name in names:
        (made / f"{name}.png").rename(rig.folder / f"{name}.png")
    rig.wait_done(before + len(names))
    told = {Path(one["image"]["path"]).stem: one["flask"] for one in rig.frames()}
    return {name: flask and flask["id"] for name, flask in told.items()}


def test_a_code_that_is_seen_opens_and_closes_as_a_scanned_one_does(rig: Rig, capsys: Said) -> None:
    save_labelled(rig.folder / "old.png", "F0|HeLa|1", 9)
    started(rig, capsys, "--set", "flask.qr=stage", "--set", 'flask.required=["cell_line"]')
    rig.wait_done(1)
    assert "no flask is open" in command(rig, capsys, "show")[1]  # its label is long gone
    names = {
        "a": None, "b": "F1|HeLa|7", "c": None, "d": "F1", "e": "F2|HEK|3", "f": None,
        "g": "F3", "h": None, "i": "CLOSE", "j": None, "k": "CLOSE",
    }  # fmt: skip
    flasks = seen_in_order(rig, names)
    assert flasks == {
        "old": "F0", "a": None, "b": "F1", "c": "F1", "d": "F1", "e": "F2", "f": "F2",
        "g": "F3", "h": "F2", "i": None, "j": None, "k": None,
    }  # fmt: skip
    sessions = rig.rows("SELECT id, opened_by, closed_by FROM flask_session ORDER BY opened_at")
    assert sessions == [
        ("F0", "declared", None), ("F1", "operator", "next flask"),
        ("F2", "operator", "operator"), ("F3", "declared", None),
    ]  # fmt: skip
    alarms = [json.loads(b) for (b,) in rig.rows("SELECT body FROM message WHERE topic LIKE 'al%'")]
    (alarm,) = (one for one in alarms if one["name"] == "flask_not_opened")
    assert "the code in g.png changes nothing: flask F3 is not opened" in alarm["text"]

    assert command(rig, capsys, "open", "F5", "--cell-line", "HeLa")[0] == 0
    (rig.folder / "b.png").touch()  # with the same bytes it is not shown again
    assert seen_in_order(rig, {"l": None})["l"] == "F5"
    until(lambda: {t["flask"]["id"] for t in totals(rig) if not t["open"]} == {"F1", "F2"})

    for name in (
        "m",
        "n",
    ):  # taken by a camera while F5 was on the stage: nobody had read the label
        session = rig.rows("SELECT session FROM flask_session WHERE id = 'F5'")[0][0]
        sidecar = rig.folder / f"{name}.png.toml"
        sidecar.write_text(f'source = "camera"\nsession = "{session}"\n')
    flasks = seen_in_order(rig, {"m": "F6|HeLa|2", "n": None})
    assert (flasks["m"], flasks["n"]) == ("F6", "F6")


def test_a_label_that_was_taken_is_not_taken_again_after_a_kill(journal: Journal) -> None:
    sessions = Sessions(journal)
    first, _ = sessions.scanned(flask("A"), None)
    second, closed = sessions.scanned(flask("B"), first)
    assert closed is not None and closed.session == first
    assert sessions.scanned(flask("A"), first) == (first, None)  # read once more
    current = sessions.current()
    assert current is not None and current.session == second
    assert sessions.scanned(None, first) == (None, None)  # of a flask that is closed
    assert sessions.scanned(flask("B"), None) == (second, None)  # by command meanwhile
    assert sessions.scanned(None, second)[1] is not None and sessions.current() is None


def test_a_declared_session_is_shown_and_closed_by_its_name(rig: Rig, capsys: Said) -> None:
    started(rig, capsys)
    assert command(rig, capsys, "open", "F4")[0] == 0
    for name, line in (("a", "HeLa"), ("b", "HEK"), ("c", "HEK")):
        (rig.folder / f"{name}.png.toml").write_text(f'[flask]\nid = "S1"\ncell_line = "{line}"\n')
    save_frame(rig.folder / "a.png", 1)
    rig.wait_done(1)
    _, out, _ = command(rig, capsys, "show", "S1")
    assert out.startswith("flask S1 (HeLa), open since") and "closed" not in out
    status, out, _ = command(rig, capsys, "close", "S1", "--json")
    answer = json.loads(out)
    assert status == 0 and (answer["closed"]["id"], answer["flask"]["id"]) == ("S1", "F4")
    assert answer["closed"]["closed_by"] == "operator"
    until(lambda: [t for t in totals(rig) if not t["open"]], what="last totals")
    _, out, _ = command(rig, capsys, "show", "S1")
    assert "flask S1 (HeLa), open since" in out and "closed at" in out and "by the operator" in out
    _, out, _ = command(rig, capsys, "show")
    assert "flask F4, open since" in out

    save_frame(rig.folder / "b.png", 2)
    rig.wait_done(2)
    assert command(rig, capsys, "open", "S1")[0] == 0  # a second of that name, on the stage
    status, _, err = command(rig, capsys, "close", "S1")
    assert status == 1 and "flask 'S1' has 2 open sessions: name one of" in err
    before = rig.frames()[-1]["flask"]["session"]
    assert before in err and command(rig, capsys, "close", before)[0] == 0
    save_frame(rig.folder / "c.png", 3)
    rig.wait_done(3)
    assert rig.frames()[-1]["flask"]["session"] != before
    for action in ("close", "show"):
        status, _, err = command(rig, capsys, action, "S9")
        assert status == 1 and "'S9'" in err


@pytest.mark.parametrize("named", [True, False], ids=["asked for", "not asked for"])
def test_a_folder_names_its_flask_where_no_file_does_and_only_if_it_is_asked_to(
    named: bool, rig: Rig, capsys: Said
) -> None:
    started(rig, capsys, "--set", f"flask.folder_names={str(named).lower()}")
    assert command(rig, capsys, "open", "F4")[0] == 0
    folder = rig.folder / "F12_HT1080_P7"
    folder.mkdir()
    (folder / "own.png.toml").write_text('[flask]\nid = "S1"\n')
    for seed, name in enumerate(("own", "plain")):
        save_frame(folder / f"{name}.png", seed)
    save_frame(rig.folder / "F12" / "stage.png", 3)
    rig.wait_done(3)
    found = {Path(body["image"]["path"]).stem: body["flask"] for body in rig.frames()}
    assert (found["own"]["id"], found["stage"]["id"]) == ("S1", "F4")
    told = [found["plain"][key] for key in ("id", "cell_line", "passage")]
    assert told == (["F12", "HT1080", 7] if named else ["F4", None, None])


def totals(rig: Rig) -> list[dict[str, Any]]:
    rows = rig.rows("SELECT body FROM message WHERE topic LIKE 'flask/%' ORDER BY seq")
    return [json.loads(body) for (body,) in rows]


def test_a_session_left_open_is_closed_by_rule_and_the_backlog_is_assigned(
    rig: Rig, capsys: Said
) -> None:
    early = save_frame(rig.folder / "early.png", 1)
    started(rig, capsys)
    rig.wait_done(1)
    assert command(rig, capsys, "open", "F5", "--cell-line", "alpha", "--passage", "3")[0] == 0
    save_frame(rig.folder / "late.png", 2)
    rig.wait_done(2)
    rig.stop(9)
    started(rig, capsys, "--set", "flask.close_after_h=0.0001", "--set", "verdict.half_width=0.3")
    last = until(lambda: [t for t in totals(rig) if not t["open"]], what="closed by rule")[-1]
    assert last["flask"]["closed_by"] == "rule" and last["n_frames"] == 1
    said = rig.rows("SELECT body FROM message WHERE topic LIKE 'alarm/%'")
    assert "F5 was left open and is closed: no frame" in json.loads(said[-1][0])["text"]
    _, out, _ = command(rig, capsys, "show")
    assert "flask F5 was closed at" in out and "by rule" in out and "no flask is open" in out

    status, out, _ = command(rig, capsys, "assign", "F5", str(early))
    assert status == 0 and "belongs to flask F5" in out
    until(lambda: totals(rig)[-1]["n_frames"] == 2, what="totals with the assigned frame")
    assert totals(rig)[-1]["open"] is False
    first, _, again = rig.frames()
    assert first["flask"] is None and first["cells"] == again["cells"]
    assert (again["flask"]["id"], again["revision"]) == ("F5", 2)
    ((n_cells,),) = rig.rows("SELECT count(*) FROM cell WHERE session IS NOT NULL")
    assert n_cells == totals(rig)[-1]["n_cells"]
    for name, image, why in (
        ("F5", early, "belongs to flask F5 already"), ("F9", early, "no session or flask 'F9'"),
        ("F5", rig.folder / "x.png", "was never seen"),
    ):  # fmt: skip
        status, _, err = command(rig, capsys, "assign", name, str(image))
        assert status == 1 and why in err

    history = ["flask", "history", "--config", str(rig.config)]
    assert main([*history, "alpha"]) == 0
    out = capsys.readouterr().out
    assert "F5" in out and "rule" in out and "alpha" in out
    assert main([*history, "alpha", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["flask"]["passage"] == 3 and json.loads(line)["n_frames"] == 2
    assert main([*history, "gamma"]) == 1
    assert "no closed flask of the line 'gamma'" in capsys.readouterr().err


def test_an_image_of_the_wrong_flask_is_moved_and_both_totals_are_told_again(
    rig: Rig, capsys: Said, tmp_path: Path
) -> None:
    started(rig, capsys)
    assert command(rig, capsys, "open", "F1")[0] == 0
    moved = [save_frame(rig.folder / f"{name}.png", seed) for seed, name in enumerate("ab")]
    rig.wait_done(2)
    assert command(rig, capsys, "open", "F2")[0] == 0
    save_frame(rig.folder / "c.png", 3)
    rig.wait_done(3)
    assert command(rig, capsys, "close")[0] == 0
    assert len(write(rig, "markdown", tmp_path / "out")) == 2

    def last() -> dict[str, tuple[int, int]]:
        return {t["flask"]["id"]: (t["n_frames"], t["n_cells"]) for t in totals(rig)}

    def told_are(frames: dict[str, int]) -> bool:
        return {name: n for name, (n, _) in last().items()} == frames

    before = last()
    status, _, err = command(rig, capsys, "assign", "F2", str(moved[0]))
    assert status == 1 and "belongs to a flask already" in err and "--move" in err
    for n_left, image in zip((1, 0), moved, strict=True):
        assert command(rig, capsys, "assign", "F2", str(image), "--move")[0] == 0
        expected = {"F1": n_left, "F2": 3 - n_left}
        until(partial(told_are, expected), what="totals")
        entries = {path.name[11:13]: path for path in write(rig, "markdown", tmp_path / "out")}
        for name, n in expected.items():
            told = json.loads((entries[name] / "result.json").read_text())
            assert (told["verdict"]["n_frames"], len(told["frames"])) == (n, n)
    assert sum(n for _, n in before.values()) == last()["F2"][1] and last()["F1"] == (0, 0)
    sessions = rig.rows("SELECT session, count(*) FROM cell GROUP BY session")
    assert {n for session, n in sessions if session} == {last()["F2"][1]}
    assert all(not t["open"] for t in totals(rig)[-2:])


def test_who_closed_a_session_and_what_it_lacks_is_read_wherever_a_person_looks(
    rig: Rig, capsys: Said, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = ["--set", 'flask.required=["cell_line","passage","note"]']
    started(rig, capsys, *wanted, "--set", "flask.close_after_h=0.0001")
    (rig.folder / "a.png.toml").write_text('[flask]\nid = "S1"\ncell_line = "alpha"\n')
    save_frame(rig.folder / "a.png", 1)
    until(lambda: [t for t in totals(rig) if not t["open"]], what="closed by rule")
    lines = rig.run("follow", "--connect", rig.live, "--catch-up").stdout.splitlines()
    by_rule = "closed by rule, no frame came for long"
    assert f"flask S1 ({by_rule}; missing: passage, note)" in lines[-2]
    (folder,) = write(rig, "markdown", tmp_path / "out")
    page = (folder / "entry.md").read_text()
    assert "by rule, no frame came for long" in page
    assert "| Required, not declared | passage, note |" in page
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["flask", "history", "--config", str(rig.config), "alpha"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    span = slice(heading.index("closed by"), heading.index("frames"))
    assert row[span].split() == ["rule", "passage,", "note"]


def test_what_a_session_is_travels_in_the_old_layout_too() -> None:
    old = b'{"id":"A","session":"s"}'
    assert msgspec.json.decode(old, type=FlaskRef) == FlaskRef(id="A", session="s")
