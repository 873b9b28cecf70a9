"""A camera that hangs, crashes, vanishes or overflows is noticed, said, and used again."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import faultycamera
import msgspec
import pytest
from rigs import until

from parfocal import child as children
from parfocal.camera import source as sources
from parfocal.camera.source import PAUSES_S, CameraSource, Counts
from parfocal.child import Child
from parfocal.config import CameraSettings, Settings, Source

BUSY = 2
"""How much slower a machine that also runs other tests may be than what is promised of a rig."""
NOTICED_S, BACK_S = BUSY * 3.0, BUSY * 5.0


class Bench:
    """A source with a camera that misbehaves on demand, stepped as the daemon steps it."""

    def __init__(self, home: Path) -> None:
        self.folder, self.switch = home / "frames", home / "fault"
        camera = CameraSettings(device=("tests", "Faulty"), every_s=0)
        settings = Settings(
            source=Source(kind="camera", path=str(self.folder), um_per_px=0.44, camera=camera)
        )
        self.source = CameraSource(settings)
        self.waiting = 0

    def until(self, condition: str, timeout_s: float) -> float:
        """Seconds until this fault text (part of it), or `well`, is there."""
        began_s = time.monotonic()

        def there() -> bool:
            self.source.step(self.waiting, None)
            fault = self.source.fault
            return fault is None if condition == "well" else condition in (fault or "")

        until(there, timeout_s, f"{condition} (it says {self.source.fault})")
        return time.monotonic() - began_s

    def step_until(self, condition: Callable[[Counts], bool]) -> Counts:
        """Counts once they are so."""

        def there() -> bool:
            self.source.step(self.waiting, None)
            return condition(self.source.counts)

        until(there, 20, "counts")
        return self.source.counts

    def fault(self, name: str) -> None:
        self.switch.write_text(name)

    def mend(self) -> None:
        self.switch.unlink()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(sources, "MODULE", "faultycamera")
    monkeypatch.setenv("PYTHONPATH", str(Path(faultycamera.__file__).parent), prepend=os.pathsep)
    made = Bench(tmp_path)
    monkeypatch.setenv("PARFOCAL_TEST_FAULT", str(made.switch))
    yield made
    made.source.close()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        pytest.param("hang", "camera gave no answer within", id="a driver that hangs"),
        pytest.param("crash", "camera died (signal 11)", id="an adapter that crashes"),
        pytest.param("thread", "camera died (exit status 70)", id="an exception in its thread"),
        pytest.param("vanished", "stopped by itself", id="a camera that was unplugged"),
    ],
)
def test_a_fault_is_noticed_in_time_and_the_camera_comes_back(
    fault: str, told: str, bench: Bench
) -> None:
    bench.until("well", 20)
    bench.fault(fault)
    assert bench.until(told, 10) <= NOTICED_S
    frames = bench.source.counts.frames
    bench.mend()
    assert bench.until("well", 20) <= BACK_S
    assert bench.source.counts.frames > frames > 0
    assert bench.source.counts.losses >= 1


def test_an_unplugged_camera_is_tried_without_a_rush_and_used_when_it_returns(
    bench: Bench,
) -> None:
    bench.fault("vanished")
    bench.until("there is no such camera", 20)
    starts = 0
    pid, end_s = None, time.monotonic() + 3
    while time.monotonic() < end_s:
        bench.source.step(0, None)
        child = bench.source._child
        starts += child is not None and child.pid != pid
        pid = child.pid if child is not None else pid
        time.sleep(0.02)
    assert starts <= 2 and bench.source.counts.frames == 0
    assert "there is no such camera" in (bench.source.fault or "")
    bench.mend()
    assert bench.until("well", 20) <= BACK_S


def test_an_overflow_is_counted_said_and_over_after_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "OVERFLOW_SHOWN_S", 0.5)
    bench.until("well", 20)
    bench.fault("overflow")
    assert bench.until("the camera's buffer was full", 10) <= NOTICED_S
    bench.mend()
    bench.until("well", 5)
    counts = bench.source.counts
    assert counts.overflows >= 1 and counts.dropped >= 7 and counts.losses == 0


def test_a_reader_that_has_enough_to_do_costs_frames_that_are_counted(bench: Bench) -> None:
    bench.waiting = sources.MAX_WAITING
    counts = bench.step_until(lambda counts: counts.frames > 20)
    assert counts.kept == 0 and counts.dropped >= counts.frames - 1
    bench.waiting = 0
    counts = bench.step_until(lambda counts: counts.kept > 0)
    assert len(list(bench.folder.rglob("*.png"))) == counts.kept
    assert counts.frames - counts.kept - counts.dropped in (0, 1)  # one may be held


def test_a_frame_that_is_lost_with_the_camera_is_counted(bench: Bench) -> None:
    bench.waiting = sources.MAX_WAITING
    bench.step_until(lambda counts: counts.frames > 5)
    bench.fault("vanished")
    bench.until("stopped by itself", 10)
    counts = bench.source.counts
    assert (counts.kept, counts.dropped, counts.losses) == (0, counts.frames, 1)


@pytest.mark.parametrize("trigger", ["external", "continuous"])
def test_only_a_camera_with_an_external_trigger_may_be_silent(
    trigger: Literal["external", "continuous"], bench: Bench
) -> None:
    bench.fault("silent")
    source = bench.source
    camera = msgspec.structs.replace(source.settings.source.camera, trigger=trigger)
    table = msgspec.structs.replace(source.settings.source, camera=camera)
    source.settings = msgspec.structs.replace(source.settings, source=table)
    bench.until("well" if trigger == "external" else "the camera is being opened", 20)
    bench.step_until(lambda _: source.described is not None)
    assert (source.fault is None) == (trigger == "external")


def test_the_waits_leave_room_for_what_is_promised() -> None:
    assert sources.LOOK_S + sources.HANG_S <= 3.0 - 0.5  # and then a beat comes at once
    mmcore = pytest.importorskip("parfocal.camera.mmcore", reason="needs the extra 'camera'")
    assert mmcore.STALL_S + sources.LOOK_S <= 3.0 - 0.5
    assert max(PAUSES_S) <= 5.0 - 2.0  # a new child needs a second or two


def test_pauses_grow_to_two_seconds(tmp_path: Path) -> None:
    now = [0.0]

    def start() -> Child:
        raise AssertionError("not before its time")

    source = CameraSource(Settings(), start, lambda: now[0])
    for pause_s in (*PAUSES_S, PAUSES_S[-1]):
        source._lost("x")
        assert source.seconds_left() == pause_s
        now[0] += pause_s / 2
        if pause_s:
            source.step(0, None)
        now[0] += pause_s / 2
    assert source.fault == "x" and source.counts.losses == len(PAUSES_S) + 1


def test_a_child_that_was_taken_over_is_replaced(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = "import sys\nfrom parfocal.child import serve\nserve(int(sys.argv[1]), lambda _: b'x')"
    (tmp_path / "liar.py").write_text(liar)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sources, "MODULE", "liar")
    bench.until("sent nonsense", 20)
    assert bench.source.counts.losses == 1


def test_a_driver_that_the_kernel_holds_stops_nothing_and_is_not_started_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "REAP_S", 0.1)
    bench.until("well", 20)
    held = bench.source._child
    assert held is not None
    with monkeypatch.context() as patched:
        patched.setattr(subprocess.Popen, "kill", lambda _: None)
        os.kill(held.pid, signal.SIGSTOP)  # nor does it end by itself, its socket being closed
        bench.until("cannot be ended: unplug the camera", 20)
        assert not held.gone and bench.source._child is None
    os.kill(held.pid, signal.SIGKILL)
    bench.until("well", 20)
    assert held.gone
