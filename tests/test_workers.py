"""The daemon's two children are watched, replaced and never trusted twice in a row too fast."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from rigs import rules, save_frame, until

from parfocal import workers
from parfocal.child import Child, ChildError
from parfocal.config import Limits, Model, Settings
from parfocal.detectors import choose
from parfocal.inference import Classified, Loaded, LoadFailed
from parfocal.reader import Prepared, ReadRequest, Refused
from parfocal.workers import RESPAWN_PAUSES_S, Worker, WorkerFault, Workers

CHOICE = choose("classical")


def settings(bundle: Path | str, **limits: float) -> Settings:
    model = Model(bundle=str(bundle), device="cpu", threads=1)
    return Settings(model=model, limits=msgspec.convert({"max_cells": 16, **limits}, Limits))


def request(path: Path) -> ReadRequest:
    return ReadRequest(
        path=str(path),
        root=str(path.parent),
        slot=0,
        max_cells=16,
        max_pixels=10**7,
        max_bytes=10**8,
        um_per_px=0.44,
        rules=rules(),
    )


@pytest.fixture
def pair(tiny_bundle: Path) -> Iterator[Workers]:
    with closing(Workers(settings(tiny_bundle, read_wall_s=20, infer_wall_s=20), CHOICE)) as made:
        yield made


def ready(pair: Workers) -> None:
    def loaded() -> bool:
        pair.ensure()
        pair.read_answer()
        pair.infer_answer()
        return pair.can_infer and pair.can_read

    until(loaded, 30, "both children")


def test_a_frame_goes_through_both(pair: Workers, tmp_path: Path) -> None:
    ready(pair)
    assert len(pair.descriptors()) == 2 and pair.seconds_left() is None
    assert pair.read(request(save_frame(tmp_path / "a.png"))) is None
    assert not pair.can_read and 0 < (pair.seconds_left() or 0) <= 20
    prepared = until(pair.read_answer)
    assert isinstance(prepared, Prepared)
    assert pair.infer(0, prepared.n_crops) is None
    classified = until(pair.infer_answer)
    assert isinstance(classified, Classified)
    assert len(classified.probabilities) == prepared.n_crops
    assert pair.can_read and pair.can_infer


def test_a_refusal_is_an_answer(pair: Workers, tmp_path: Path) -> None:
    ready(pair)
    pair.read(request(tmp_path / "none.tif"))
    refused = until(pair.read_answer)
    assert isinstance(refused, Refused) and refused.reason == "vanished"


def test_killed_children_are_replaced(pair: Workers, tmp_path: Path) -> None:
    ready(pair)
    assert pair.reader.child and pair.inference.child
    for child in (pair.reader.child, pair.inference.child):
        os.kill(child.pid, signal.SIGKILL)
    assert isinstance(until(pair.read_answer), WorkerFault)
    assert isinstance(until(pair.infer_answer), WorkerFault)
    assert not pair.can_read and not pair.can_infer and pair.loaded is None
    assert pair.descriptors() == [] and (pair.seconds_left() or 0) <= RESPAWN_PAUSES_S[1]
    ready(pair)
    assert (pair.reader.restarts, pair.inference.restarts) == (1, 1)
    pair.read(request(save_frame(tmp_path / "a.png")))
    assert isinstance(until(pair.read_answer), Prepared)


def test_a_reader_that_hangs_is_killed_at_its_deadline(tiny_bundle: Path, tmp_path: Path) -> None:
    with closing(Workers(settings(tiny_bundle, read_wall_s=0.3), CHOICE)) as pair:
        pair.reader.ensure()
        assert pair.reader.child
        os.kill(pair.reader.child.pid, signal.SIGSTOP)
        pair.read(request(tmp_path / "a.png"))
        fault = until(pair.read_answer)
        assert isinstance(fault, WorkerFault) and "no answer within 0.3 s" in fault.text


def test_an_answer_that_came_in_time_counts_though_nobody_looked(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    with closing(Workers(settings(tiny_bundle, read_wall_s=5), CHOICE)) as pair:
        pair.reader.ensure()
        pair.read(request(tmp_path / "none.tif"))
        child = pair.reader.child
        assert child
        until(lambda: _has_answer(child))
        child._deadline_s = 0.0  # as after a suspend
        time.sleep(0.01)
        assert isinstance(pair.read_answer(), Refused)


def _has_answer(child: Child) -> bool:
    import select

    return bool(select.select([child], [], [], 0)[0])


def test_a_model_that_cannot_load_is_told(tmp_path: Path) -> None:
    with closing(Workers(settings(tmp_path / "none.onnx"), CHOICE)) as pair:
        pair.ensure()
        failed = until(pair.infer_answer)
        assert isinstance(failed, LoadFailed) and "no model" in failed.detail
        assert pair.load_fault == failed.detail and not pair.can_infer
        assert pair.inference.child is None


def test_a_fault_is_forgotten_once_the_model_is_in(pair: Workers) -> None:
    pair.load_fault = "it was not there"
    ready(pair)
    assert pair.load_fault is None and isinstance(pair.loaded, Loaded)


LIAR = """
import sys
from parfocal.child import serve
serve(int(sys.argv[1]), lambda _: bytes.fromhex({answer!r}))
"""


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xff", id="garbage"),
        pytest.param(b"\x81\xa4type\xa4evil", id="an unknown answer"),
        pytest.param(b"\x81\xa4type\xa2\xff\xff", id="no UTF-8"),
        pytest.param(b"\x81\xa1x" + b"\x91" * 50_000, id="nested beyond measure"),
    ],
)
def test_a_child_that_was_taken_over_cannot_harm_the_daemon(
    answer: bytes, pair: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "liar.py").write_text(LIAR.format(answer=answer.hex()))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for worker, take in ((pair.reader, pair.read_answer), (pair.inference, pair.infer_answer)):
        worker.child = Child("liar", name="liar")
        worker.child.send(b"x", 20)
        fault = until(take)
        assert isinstance(fault, WorkerFault) and "sent nonsense" in fault.text
        assert worker.child is None


def test_pauses_grow_with_losses_and_end_with_a_sound_child() -> None:
    now = [0.0]
    worker = Worker(lambda: Child("parfocal.nothing"), lambda: now[0])
    for pause_s in (*RESPAWN_PAUSES_S, RESPAWN_PAUSES_S[-1]):
        worker._started_s = now[0]
        worker.lost(ChildError("x"))
        assert worker.not_before_s == now[0] + pause_s
        if pause_s:
            assert not worker.ensure()
        now[0] += pause_s
    now[0] += workers.SETTLED_S + 1
    worker.lost(ChildError("x"))
    assert worker.not_before_s == now[0]


def test_the_golden_question_is_asked_again_after_a_while(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    asked: list[bool] = []
    with closing(Workers(settings(tiny_bundle), CHOICE, lambda: now[0])) as pair:
        monkeypatch.setattr(
            pair, "_send", lambda _, data, __: asked.append(msgspec.msgpack.decode(data)["golden"])
        )
        for step_s in (1.0, 1.0, workers.GOLDEN_EVERY_S + 1, 1.0):
            pair.infer(0, 1)
            now[0] += step_s
        pair.infer(0, 1)
    assert asked == [True, False, False, True, False]


def test_a_model_that_dies_while_it_is_loaded_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(Settings(), CHOICE)
    fault = WorkerFault("inference died (signal 9)")
    monkeypatch.setattr(workers, "_receive", lambda _: fault)
    assert workers.infer_answer() == fault
    assert workers.load_fault == "inference died (signal 9)"
    workers.close()
