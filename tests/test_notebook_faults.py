"""Notebook entries when things go wrong: kills, odd names, two writers, images that are gone."""

import json
import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from rigs import save_frame

from parfocal.client import Received
from parfocal.follow import OutputError
from parfocal.notebook import deliver, eln, markdown
from parfocal.notebook.deliver import Notebook, Shelf
from parfocal.notebook.entry import ScoredFrame
from parfocal.notebook.montage import montage
from parfocal.types import FlaskVerdict, FrameResult, Header

GOLDEN = Path(__file__).parent / "golden"


def message(kind: str, seq: int, change: Callable[[dict[str, Any]], None]) -> Received:
    """A released message with another number and a changed body."""
    stored = json.loads((GOLDEN / f"{kind}-1.message.json").read_text())
    change(stored["body"])
    header = msgspec.convert({**stored["header"], "seq": seq}, Header)
    return Received(stored["topic"], header, json.dumps(stored["body"]).encode(), None)


def session(n: int, **flask: str) -> list[Received]:
    """The messages of a closed flask session of n images."""

    def frame(i: int) -> Callable[[dict[str, Any]], None]:
        def change(body: dict[str, Any]) -> None:
            body["image"]["path"] = f"/nowhere/{i}.png"
            body["flask"] |= flask

        return change

    def closed(body: dict[str, Any]) -> None:
        body["n_frames"] = n
        body["flask"] |= flask

    return [*(message("frame", i + 1, frame(i)) for i in range(n)), message("flask", n + 1, closed)]


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


class KilledError(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


def killed_at(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill at the n-th step that can be seen from outside."""
    steps = count()

    def guard(target: Any, name: str) -> None:
        real = getattr(target, name)

        def step(*arguments: Any, **more: Any) -> Any:
            if next(steps) == n:
                raise KilledError
            return real(*arguments, **more)

        monkeypatch.setattr(target, name, step)

    for target, name in (
        (Shelf, "take"), (Shelf, "written"), (deliver, "complete"), (markdown, "sync"),
        (eln, "sync"), (Path, "rename"), (Path, "replace"), (Path, "mkdir"),
        (Path, "write_bytes"), (Path, "write_text"), (shutil, "rmtree"),
        (os, "fsync"),
    ):  # fmt: skip
        guard(target, name)


@pytest.mark.parametrize("kind", ["markdown", "eln-file"])
def test_a_kill_at_any_step_gives_exactly_one_whole_entry(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "montage", lambda *_: b"picture")
    whole: bytes | None = None
    for n in range(40):
        out, died = tmp_path / str(n), False
        for attempt in range(2):
            with monkeypatch.context() as patch:
                if attempt == 0:
                    out.mkdir()
                    killed_at(n, patch)
                try:
                    _deliver(kind, out)
                except KilledError:
                    died = True
        (name,) = visible(out)
        entry = out / name
        data = (entry / "entry.md" if kind == "markdown" else entry).read_bytes()
        assert whole in (None, data)
        whole = data
        if not died:
            assert n > 8
            return
    raise AssertionError("it never came through")


def _deliver(kind: str, out: Path) -> None:
    notebook = Notebook(kind, out, grace_s=0.0)
    try:
        seen = notebook.shelf.cursor().seq
        for received in session(2):
            if received.header.seq > seen:
                notebook.take(received)
        notebook.write_due()
    finally:
        notebook.close()  # as the kernel does


NAMES = ["../../etc/x", "..", ".hidden", "a\0b", "F" * 400, "フラスコ" * 40, "a/b\\c:d*?", "x\ny"]


@pytest.mark.parametrize("kind", ["markdown", "eln-file"])
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_no_flask_name_breaks_a_file_name_or_leaves_the_folder(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "montage", lambda *_: None)
    notebook = Notebook(kind, tmp_path / "out", grace_s=0.0)
    for received in session(1, id=name, cell_line=name):
        notebook.take(received)
    (path,) = notebook.write_due()
    notebook.close()
    assert path.parent == tmp_path / "out" and visible(tmp_path) == ["out"]
    assert visible(path.parent) == [path.name]
    assert path.name.isascii() and len(path.name) < 200


def test_a_title_cannot_become_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "montage", lambda *_: None)
    notebook = Notebook("markdown", tmp_path, grace_s=0.0)
    for received in session(1, id="<script>\n# x"):
        notebook.take(received)
    (path,) = notebook.write_due()
    notebook.close()
    assert (path / "entry.md").read_text().startswith("# HeLa \\<script\\> \\# x P7 2026-11-23\n\n")


def test_a_second_notebook_of_the_same_kind_is_refused_and_another_kind_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "montage", lambda *_: None)
    monkeypatch.setattr(deliver, "LOCK_S", 0.05)
    pages, archives = (Notebook(kind, tmp_path, 0.0) for kind in ("markdown", "eln-file"))
    with pytest.raises(OutputError, match="stop the other notebook"):
        Notebook("markdown", tmp_path)
    for notebook in (pages, archives):
        for received in session(1):
            notebook.take(received)
    written = [*pages.write_due(), *archives.write_due()]
    assert [path.suffix for path in written] == ["", ".eln"]
    pages.close()
    archives.close()
    Notebook("markdown", tmp_path).close()


def test_what_a_killed_notebook_of_one_kind_left_is_not_in_the_way_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "montage", lambda *_: None)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Path, "rename", lambda *_: _raise(KilledError()))
        _deliver("markdown", tmp_path)
    _deliver("eln-file", tmp_path)
    assert [Path(name).suffix for name in visible(tmp_path)] == [".eln"]


def _raise(error: BaseException) -> None:
    raise error


def test_of_an_image_scored_again_under_a_new_log_the_latest_stays(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "x.sqlite")
    for log, focus in (("f", 0.1), ("0", 0.9)):  # the later log sorts first

        def change(body: dict[str, Any], focus: float = focus) -> None:
            body["quality"]["focus"] = focus

        received = message("frame", 1, change)
        header = msgspec.structs.replace(received.header, log=log)
        shelf.take(Received(received.topic, header, received.raw_body, None))
    ((session_id,),) = shelf.db.execute("SELECT DISTINCT session FROM frame").fetchall()
    (frame,) = shelf.frames(session_id)
    shelf.close()
    assert frame.result.quality.focus == 0.9


def test_an_entry_of_500_images_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "montage", lambda *_: None)
    notebook = Notebook("markdown", tmp_path, grace_s=0.0)
    notebook.shelf.db.execute("PRAGMA synchronous=OFF")  # not what is tested here
    for received in session(500):
        notebook.take(received)
    (path,) = notebook.write_due()
    notebook.close()
    raw = sum(len(received.raw_body) for received in session(500))
    assert (path / "result.json").stat().st_size < 1.5 * raw


def test_an_image_that_is_gone_or_replaced_leaves_its_tile_blank(tmp_path: Path) -> None:
    save_frame(tmp_path / "other.png")

    def change(body: dict[str, Any]) -> None:
        body["image"]["path"] = str(tmp_path / "other.png")  # its bytes are not those scored

    results = []
    for received in (session(1)[0], message("frame", 2, change)):
        body = msgspec.json.decode(received.raw_body, type=FrameResult)
        results.append(ScoredFrame(received, body))
    png = montage(tuple(results), "seed")
    assert png is not None and len(png) < 2_000_000
    picture = cv2.imdecode(np.frombuffer(png, "u1"), cv2.IMREAD_COLOR)
    assert picture is not None
    assert (picture[40:90, 40:72] == 220).all()


def test_the_verdict_used_here_is_a_closed_one() -> None:
    verdict = msgspec.json.decode(session(1)[-1].raw_body, type=FlaskVerdict)
    assert not verdict.open and verdict.n_frames == 1
