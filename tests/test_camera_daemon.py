"""The whole daemon with a camera of its own: the real demonstration camera, and a faulty one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faultycamera
import pytest
from rigs import Rig, save_frame, until

from parfocal.client import Subscriber
from parfocal.publish import Endpoints
from parfocal.types import Beat

FAULTY = """
import sys
from parfocal.camera import source
from parfocal.cli import main
source.MODULE = "faultycamera"
sys.exit(main(sys.argv[1:]))
"""
BUSY = 2
"""How much slower a machine that also runs other tests may be than what is promised of a rig."""
NOTICED_S, BACK_S = BUSY * 3.0, BUSY * 5.0
CHILD = "parfocal.camera.child"


def camera_at(device: str, every_s: float = 0.5) -> list[str]:
    """Arguments that give the daemon this camera, and its frames the watched folder."""
    values = {"kind": "camera", "camera.device": device, "camera.every_s": str(every_s)}
    return [part for key, value in values.items() for part in ("--set", f"source.{key}={value}")]


@pytest.fixture
def beats(rig: Rig) -> Iterator[Callable[[Callable[[Beat], bool]], Beat]]:
    """Waits for the first beat that is as asked."""
    with Subscriber(Endpoints(rig.live, rig.replay)) as subscriber:

        def first(wanted: Callable[[Beat], bool]) -> Beat:
            found: list[Beat] = []

            def there() -> bool:
                events = subscriber.events(0.05)
                found.extend(e for e in events if isinstance(e, Beat) and wanted(e))
                return bool(found)

            until(there, 30, f"a beat ({rig.log()[-2000:]})")
            return found[0]

        yield first


def degraded(reason: str) -> Callable[[Beat], bool]:
    """Whether a beat says degraded, and this."""
    return lambda beat: beat.state == "degraded" and any(reason in why for why in beat.reasons)


Beats = Callable[[Callable[[Beat], bool]], Beat]


def test_frames_of_a_real_camera_take_the_road_of_files(rig: Rig, beats: Beats) -> None:
    pytest.importorskip("pymmcore_plus", reason="needs the extra 'camera'")
    rig.start(*camera_at("['DemoCamera', 'DCam']"))
    rig.wait_done(2)
    first = rig.frames()[0]
    kept = Path(first["image"]["path"])
    assert kept.is_relative_to(rig.folder) and kept.suffix == ".png"
    assert first["image"]["um_per_px_from"] == "sidecar"
    assert first["image"]["source"] == "camera"
    assert first["image"]["acquired_at"][:10] == kept.parent.name

    os.kill(rig.children()[CHILD], signal.SIGSTOP)  # what a hung driver looks like from outside
    began_s = time.monotonic()
    beats(degraded("camera gave no answer within"))
    assert time.monotonic() - began_s <= NOTICED_S
    began_s = time.monotonic()
    beats(lambda beat: beat.state == "ready")
    assert time.monotonic() - began_s <= BACK_S

    os.kill(rig.children()[CHILD], signal.SIGSEGV)
    beats(degraded("camera died (signal 11)"))
    beats(lambda beat: beat.state == "ready")
    before = len(rig.frames())
    until(lambda: len(rig.frames()) > before, 10, "frames after the crash")
    assert rig.stop() == 0
    assert not any(reason for _, reason in rig.files().values())


def test_a_vanished_camera_degrades_the_rig_until_it_returns(
    rig: Rig, beats: Beats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = tmp_path / "fault"
    monkeypatch.setenv("PYTHONPATH", str(Path(faultycamera.__file__).parent), prepend=os.pathsep)
    monkeypatch.setenv("PARFOCAL_TEST_FAULT", str(switch))
    arguments = ["run", "--config", str(rig.config), *camera_at("['tests', 'Faulty']", 0.2)]
    with (rig.home / "daemon.log").open("ab") as log:
        rig.daemon = subprocess.Popen(
            [sys.executable, "-c", FAULTY, *arguments], env=rig.environment(), stderr=log
        )
    rig.processes.append(rig.daemon)
    beats(lambda beat: beat.state == "ready")
    switch.write_text("vanished")
    began_s = time.monotonic()
    beats(degraded("stopped by itself"))
    assert time.monotonic() - began_s <= NOTICED_S
    beats(degraded("there is no such camera"))
    time.sleep(3)  # by now it is tried every two seconds
    beats(degraded("there is no such camera"))
    switch.unlink()
    began_s = time.monotonic()
    beats(lambda beat: beat.state == "ready")
    assert time.monotonic() - began_s <= BACK_S
    switch.write_text("overflow")
    full = beats(degraded("the camera's buffer was full"))
    assert full.dropped >= 7 and full.camera
    counts = full.camera
    assert counts.dropped == full.dropped and counts.frames > counts.kept > 0
    assert counts.overflows and counts.losses and counts.view is None  # this gate goes by time
    rows = until(lambda: alarms(rig, 2), what="alarms")
    lost, back = rows
    assert lost["name"] == back["name"] == "camera_lost" and back["cleared"]
    assert "the camera is lost: " in lost["text"] and back["text"] == "the camera is back"
    assert rig.stop() == 0


def alarms(rig: Rig, n: int) -> list[dict[str, Any]]:
    """The alarms of a rig, once there are so many."""
    rows = rig.rows("SELECT body FROM message WHERE topic = 'alarm/test/' ORDER BY seq")
    return [json.loads(body) for (body,) in rows] if len(rows) >= n else []


def test_a_frame_belongs_to_the_flask_in_which_it_was_taken(rig: Rig) -> None:
    opening = ("flask", "open", "--config", str(rig.config))
    rig.start()
    until(lambda: rig.run(*opening, "A").returncode == 0, 30, "the service")
    ((first,),) = rig.rows("SELECT session FROM flask_session")
    assert rig.run(*opening, "B").returncode == 0
    taken(rig, "late.png", 1, first)
    taken(rig, "before.png", 2, "")
    rig.wait_done(2)
    assert rig.stop(signal.SIGKILL) < 0
    taken(rig, "unseen.png", 3, first)  # kept, and then the power failed
    rig.start()
    rig.wait_done(3)
    flasks = {Path(one["image"]["path"]).name: one["flask"] for one in rig.frames()}
    assert flasks["before.png"] is None
    assert flasks["late.png"]["session"] == flasks["unseen.png"]["session"] == first
    assert len(rig.rows("SELECT session FROM flask_session")) == 2
    assert rig.stop() == 0


def taken(rig: Rig, name: str, seed: int, session: str) -> None:
    """A frame as the camera child keeps it: first its sidecar."""
    sidecar = rig.folder / f"{name}.toml"
    sidecar.write_text(f'source = "camera"\nsession = "{session}"\n')
    save_frame(rig.folder / name, seed)
