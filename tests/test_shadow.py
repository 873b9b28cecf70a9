"""A shadow model scores what the active one scores, and whatever becomes of it harms nobody."""

import csv
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import psutil
import pytest
from rigs import Rig, card_text, save_frame, save_model, tiny_card, tiny_graph, tiny_weights, until

from parfocal.cli import main
from parfocal.config import Model, Settings
from parfocal.detectors import choose
from parfocal.journal import MIGRATIONS, Journal
from parfocal.shadow import MOST_WAITING, NICE, Missed, Shadow
from parfocal.types import Alarm, FrameResult


def opposite_at(path: Path, um_per_px: float = 0.3) -> Path:
    """A model that answers the other class for every cell, on crops of another pixel size."""
    weights = -tiny_weights()
    card = tiny_card(weights)
    pixels = msgspec.structs.replace(card.prepare.pixels, um_per_px=um_per_px)
    prepare = msgspec.structs.replace(card.prepare, pixels=pixels, fingerprint=pixels.fingerprint)
    card = msgspec.structs.replace(card, name="opposite", prepare=prepare)
    return save_model(path, tiny_graph(weights), card_text(card))


@pytest.fixture
def opposite(tmp_path: Path) -> Path:
    return opposite_at(tmp_path / "opposite.onnx")


def start(rig: Rig, shadow: Path | None, *more: str) -> None:
    named = ["--set", f"model.shadow={shadow}"] if shadow else []
    rig.start(*named, *more)


def shadows(rig: Rig) -> dict[str, int]:
    """Module name to process id of the shadow's children, which start after the active ones."""
    first, found = dict[str, int](), dict[str, int]()
    for child in sorted(children(rig), key=psutil.Process.create_time):
        try:
            line = child.cmdline()
        except psutil.NoSuchProcess:  # gone, or dead and not yet reaped, since it was listed
            continue
        if "-m" in line:
            module = line[line.index("-m") + 1]
            (found if module in first else first)[module] = child.pid
    return found


def children(rig: Rig) -> list[psutil.Process]:
    assert rig.daemon is not None
    return list(psutil.Process(rig.daemon.pid).children())


def stored(rig: Rig) -> list[tuple[int, str | None]]:
    """Number and reason (None: answered) of each row of the shadow."""
    return rig.rows("SELECT seq, missed FROM shadow ORDER BY seq")


def wait_stored(rig: Rig, n: int, answered: bool = True) -> None:
    def enough() -> bool:
        return sum(missed is None or not answered for _, missed in stored(rig)) >= n

    until(enough, 30, f"{n} rows of the shadow ({stored(rig)}, log {rig.log()[-2000:]})")


def declare(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parfocal-folder.toml").write_text(f'[flask]\nid = "{name}"\ncell_line = "alpha"\n')


def told(rig: Rig) -> list[dict[str, Any]]:
    """Everything of the published frames that does not tell the time or the session."""
    frames = sorted(rig.frames(), key=lambda body: body["image"]["path"])
    for body in frames:
        del body["timing_ms"], body["flask"]["session"], body["flask"]["opened_at"]
    return frames


@pytest.fixture
def scored(rig: Rig, opposite: Path) -> Iterator[Rig]:
    """Four images of two flasks that both models have answered; the daemon runs."""
    for number in range(4):
        folder = rig.folder / f"f{number % 2}"
        declare(folder, folder.name)
        save_frame(folder / f"{number}.png", seed=number)
    start(rig, opposite)
    rig.wait_done(4)
    wait_stored(rig, 4)
    yield rig


def test_answers_of_the_shadow_are_stored_and_what_is_published_stays_the_same(
    scored: Rig,
) -> None:
    seqs = [seq for (seq,) in scored.rows("SELECT seq FROM file ORDER BY seq")]
    assert stored(scored) == [(seq, None) for seq in seqs]
    with_shadow = told(scored)
    for seq, body in scored.rows("SELECT seq, body FROM shadow"):
        answer = msgspec.json.decode(body, type=FrameResult)
        (published,) = scored.rows("SELECT body FROM message WHERE seq = ?", seq)
        one = msgspec.json.decode(published[0], type=FrameResult)
        assert (answer.image, answer.flask, answer.quality) == (one.image, one.flask, one.quality)
        assert answer.model.name == "opposite" and one.model.name == "tiny"
        assert answer.model.fingerprint != one.model.fingerprint
        assert len(answer.cells) == len(one.cells) == 4
        for a, b in zip(answer.cells, one.cells, strict=True):
            assert (a.x_px, a.y_px, a.area_um2) == (b.x_px, b.y_px, b.area_um2)
            assert a.label != b.label
    assert scored.rows("SELECT count(*) FROM message WHERE body LIKE '%opposite%'") == [(0,)]
    ours = [psutil.Process(pid).nice() for pid in shadows(scored).values()]
    assert ours == [min(19, psutil.Process().nice() + NICE)] * 2
    scored.stop()
    (scored.state / "journal.sqlite").rename(scored.home / "with-shadow.sqlite")
    start(scored, None)
    scored.wait_done(4)
    assert told(scored) == with_shadow
    assert not shadows(scored) and stored(scored) == []


def test_the_comparison_says_what_the_shadow_would_have_changed(
    scored: Rig, opposite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    until(lambda: len(scored.rows("SELECT 1 FROM message WHERE topic LIKE 'flask/%'")) >= 2)
    out = tmp_path / "out"
    assert main(["model", "compare", str(scored.state), "--json", "-o", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["asked"], found["model"]) == (str(opposite), "opposite 1")
    assert (found["n_images"], found["n_answered"], found["missed"]) == (4, 4, {})
    cells = found["comparison"]
    assert cells["n_matched"] == cells["n_class_changed"] == 16
    assert cells["old_models"] == ["tiny 1"] and cells["new_models"] == ["opposite 1"]
    assert [flask["id"] for flask in cells["flasks"]] == ["f0", "f1"]
    assert all(flask["new"]["verdict"]["n_frames"] == 2 for flask in cells["flasks"])
    assert json.loads((out / "compare.json").read_text()) == found
    with (out / "compare.csv").open(newline="") as file:
        assert [row["what"] for row in csv.DictReader(file)] == ["changed"] * 16
    done = scored.run("model", "compare", "--config", str(scored.config))
    assert done.returncode == 0, done.stderr
    assert "opposite 1 answered 4 of 4 images" in done.stdout and "16 (100.0%)" in done.stdout
    assert "compare.csv" not in done.stdout and "Agreement is not accuracy" in done.stdout


def test_an_image_that_is_assigned_later_counts_for_its_flask(
    rig: Rig, opposite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_frame(rig.folder / "a.png")
    start(rig, opposite)
    rig.wait_done(1)
    wait_stored(rig, 1)
    path = str(rig.folder / "a.png")
    assert rig.run("flask", "open", "F9", "--connect", rig.live).returncode == 0
    done = rig.run("flask", "assign", "F9", path, "--connect", rig.live)
    assert done.returncode == 0, done.stderr
    until(lambda: rig.rows("SELECT 1 FROM message WHERE topic LIKE 'flask/%'"), what="totals")
    assert main(["model", "compare", str(rig.state), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_answered"] == 1
    assert [flask["id"] for flask in found["comparison"]["flasks"]] == ["F9"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("victim", ["parfocal.reader", "parfocal.inference"])
def test_a_lost_shadow_costs_its_frame_alone_and_comes_back(
    rig: Rig, opposite: Path, victim: str, number: int
) -> None:
    walls = ("--set", "limits.infer_wall_s=5", "--set", "limits.read_wall_s=5")
    save_frame(rig.folder / "first.png", seed=9)
    start(rig, opposite, *walls)
    rig.wait_done(1)
    wait_stored(rig, 1)
    pid = shadows(rig)[victim]
    active = {child.pid for child in children(rig)} - set(shadows(rig).values())
    os.kill(pid, number)
    for seed in range(3):
        save_frame(rig.folder / f"{seed}.png", seed=seed)
    rig.wait_done(4)
    assert psutil.pid_exists(pid) == (number == signal.SIGSTOP)  # nobody waited for it
    wait_stored(rig, 4, answered=False)
    reasons = [missed for _, missed in stored(rig)]
    assert reasons.count(None) >= 3 and set(reasons) <= {None, Missed.LOST}
    if number == signal.SIGSTOP:
        assert reasons.count(Missed.LOST) == 1
    assert shadows(rig)[victim] != pid and active <= {child.pid for child in children(rig)}
    assert len(rig.frames()) == 4


def test_a_shadow_that_is_not_there_is_a_note_and_taken_once_it_is(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = tmp_path / "late.onnx"
    start(rig, late)
    save_frame(rig.folder / "a.png")
    rig.wait_done(1)
    wait_stored(rig, 1, answered=False)
    assert [missed for _, missed in stored(rig)] == [Missed.ABSENT]
    assert f"shadow inference could not load: no model '{late}'" in rig.log()
    done = rig.run("follow", "--connect", rig.live, "--catch-up", "--since", "1")
    assert "a.png" in done.stdout and "degraded" not in done.stdout
    code = main(["check", "--config", str(rig.config), "--set", f"model.shadow={late}", "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (note,) = [row for row in found if row["subject"] == "shadow"]
    assert code == 0 and note["ok"] and "runs without it: correct model.shadow" in note["text"]
    assert main(["model", "compare", str(rig.state)]) == 65
    assert "which missed every image (1 absent)" in capsys.readouterr().err
    opposite_at(late)
    until(lambda: "shadow model opposite" in rig.log(), 30, "the shadow")
    save_frame(rig.folder / "b.png", seed=1)
    rig.wait_done(2)
    wait_stored(rig, 1)
    assert main(["model", "compare", str(rig.state)]) == 0
    shown = capsys.readouterr().out
    assert "answered 1 of 2 images" in shown and "1 missed, absent" in shown


def test_check_shows_the_shadow(
    rig: Rig, opposite: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for shadow, says in (
        (opposite, "opposite 1: alpha, beta"),
        (tiny_bundle, "it is the active model itself"),
        ("hek293a-ht1080", "it tells other classes than the active tiny"),
    ):
        code = main(["check", "--config", str(rig.config), "--set", f"model.shadow={shadow}"])
        assert code == 0
        assert says in " ".join(capsys.readouterr().out.split())


def test_more_than_so_many_never_wait(tmp_path: Path, opposite: Path) -> None:
    settings = Settings(model=Model(bundle="demo", shadow=str(opposite)))
    alarm = Alarm(name="x", level="info", since_at="2026-01-01T00:00:00Z", text="x", evidence={})
    with closing(Journal(tmp_path / "j.sqlite", "test")) as journal:
        shadow = Shadow(settings, choose("classical"), journal)
        with journal.transaction():
            seqs = [journal.append("alarm", alarm).seq for _ in range(MOST_WAITING + 6)]
        told = SimpleNamespace(
            image=None, flask=None, quality=None, revision=1, already_counted=None
        )
        for seq in seqs:
            shadow.offer(seq, cast(FrameResult, told))
        assert shadow.counts == {Missed.BEHIND: 6}
        shadow.close()  # who still waited has missed its turn
        sql = "SELECT missed, count(*) FROM shadow GROUP BY missed"
        rows = dict(journal.db.execute(sql))
        assert rows == {Missed.BEHIND: 6, Missed.STOPPED: MOST_WAITING}
        journal.db.execute("DELETE FROM message WHERE seq = 1")  # goes with its frame
        assert journal.db.execute("SELECT min(seq) FROM shadow").fetchone() == (2,)


def test_a_journal_without_a_shadow_is_opened_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(f"{MIGRATIONS[0]}; {MIGRATIONS[1]}; PRAGMA user_version = 2")
    for _ in range(2):
        assert main(["model", "compare", str(tmp_path)]) == 65
        assert "holds nothing of a shadow model: set model.shadow" in capsys.readouterr().err
        with closing(Journal(path, "test")) as journal:  # brings it up to date
            assert journal.check() == []
            assert journal.db.execute("SELECT count(*) FROM shadow").fetchone() == (0,)
