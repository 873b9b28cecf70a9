"""`parfocal demo`: a simulated flask, the real daemon and the live table, with nothing to set up.

The simulated camera software saves images into a folder; everything behind that folder is what
runs beside a real microscope.
"""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from parfocal.client import Received, Subscriber, UnreachableError, command, new_request_id
from parfocal.publish import Endpoints, FlaskClose, FlaskOpen
from parfocal.sidecar import DeclaredFlask
from parfocal.simulator.save import TruthFile, truth_folder
from parfocal.types import Alarm, FlaskVerdict, FrameResult

MODEL = "demo"
SHARE = 0.6
FLASK = DeclaredFlask(id="DEMO-1", cell_line="HEK-293A", passage=10, note="simulated")
START_WAIT_S = 60.0
MANY_FIELDS = 10_000
DAEMON = """
import sys
from parfocal.child import die_with_parent
from parfocal.cli import main
die_with_parent()
sys.exit(main(sys.argv[1:]))
"""


class DemoError(Exception):
    """The demonstration cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a running demonstration keeps its images and how it is reached."""

    home: Path
    endpoints: Endpoints

    @property
    def folder(self) -> Path:
        """The watched folder."""
        return self.home / "images"

    @property
    def log(self) -> Path:
        """What the daemon says."""
        return self.home / "daemon.log"


def ports() -> Endpoints:
    """Addresses on this machine that nothing uses."""
    with socket.socket() as live, socket.socket() as replay:
        live.bind(("127.0.0.1", 0))
        replay.bind(("127.0.0.1", 0))
        numbers = live.getsockname()[1], replay.getsockname()[1]
    return Endpoints(*(f"tcp://127.0.0.1:{number}" for number in numbers))


@contextmanager
def running(home: Path, fields: int | None, pace_s: float, seed: int) -> Iterator[Stage]:
    """A daemon and a simulated camera, with the flask open; both end with the block."""
    stage = Stage(home, ports())
    try:
        stage.folder.mkdir(parents=True)
    except FileExistsError as error:
        raise DemoError(f"{home} holds an earlier demonstration: name a new folder") from error
    with ExitStack() as stack:
        log = stack.enter_context(stage.log.open("ab"))
        daemon = stack.enter_context(_process(_daemon_command(stage), log))
        _open_flask(stage, daemon)
        camera = [
            sys.executable, "-m", "parfocal.simulator", str(stage.folder), "--flasks", "1",
            "--fields", str(fields or MANY_FIELDS), "--mixed", str(SHARE), "--pace-s", str(pace_s),
            "--seed", str(seed), "--kind", "bmp",
        ]  # fmt: skip
        stack.enter_context(_process(camera, log))
        yield stage


def _daemon_command(stage: Stage) -> list[str]:
    settings = {
        "rig": "demo",
        "state_dir": str(stage.home / "state"),
        "source.path": str(stage.folder),
        "source.um_per_px": "0.44",
        "model.bundle": MODEL,
        "publish.live": stage.endpoints.live,
        "publish.replay": stage.endpoints.replay,
    }
    given = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, "-c", DAEMON, "run", "--config", "/dev/null", *given]


@contextmanager
def _process(arguments: list[str], log: object) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that ends with the block; Ctrl-C is this process's business alone."""
    process = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
    )  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _open_flask(stage: Stage, daemon: "subprocess.Popen[bytes]") -> None:
    request = FlaskOpen(new_request_id(), FLASK)
    deadline = time.monotonic() + START_WAIT_S
    while True:
        try:
            command(stage.endpoints.replay, request, wait_s=1.0, tries=1)
        except UnreachableError as error:
            if daemon.poll() is not None or time.monotonic() > deadline:
                said = stage.log.read_text(errors="replace").strip().splitlines()
                why = said[-1] if said else "it said nothing"
                raise DemoError(f"the daemon did not start: {why}") from error
        else:
            return


def close_flask(stage: Stage) -> None:
    """Take the flask off the stage."""
    command(stage.endpoints.replay, FlaskClose(new_request_id()))


class Tally:
    """Counts what has come, so that the demonstration knows when it is over."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.verdict: FlaskVerdict | None = None
        self.refused = 0

    def take(self, message: Received) -> None:
        """Count one message."""
        body = message.body()
        if isinstance(body, FrameResult):
            self.done.append(Path(body.image.path).name)
        elif isinstance(body, FlaskVerdict):
            self.verdict = body
        elif isinstance(body, Alarm):
            self.refused += body.name == "file_not_scored"

    def finished(self, fields: int | None) -> bool:
        """Whether every image has its result."""
        return fields is not None and len(self.done) + self.refused >= fields


def truth(stage: Stage, names: list[str]) -> dict[str, float]:
    """True share of each type among the living whole cells of these images."""
    counts: dict[str, int] = {}
    for name in names:
        path = truth_folder(stage.folder) / f"{Path(name).stem}.truth.json"
        for cell in msgspec.json.decode(path.read_bytes(), type=TruthFile).cells:
            if cell.state == "alive" and cell.whole:
                counts[cell.type] = counts.get(cell.type, 0) + 1
    total = sum(counts.values())
    return {kind: n / total for kind, n in sorted(counts.items())}


def last_verdict(subscriber: Subscriber, tally: Tally, wait_s: float = 5.0) -> FlaskVerdict | None:
    """The totals of the closed flask."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and (tally.verdict is None or tally.verdict.open):
        for event in subscriber.events(0.2):
            if isinstance(event, Received):
                tally.take(event)
    return tally.verdict
