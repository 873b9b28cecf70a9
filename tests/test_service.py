"""The unit file, the default configuration, and the service protocol with real sockets."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rigs import Rig, save_frame, until

from parfocal.config import Settings, load

SYSTEMD = Path(__file__).parents[1] / "systemd"
needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def test_the_commented_default_configuration_is_the_defaults() -> None:
    shipped = load(SYSTEMD / "parfocal.toml")
    assert shipped.source.path == "/srv/parfocal"
    assert shipped == Settings(source=shipped.source)


def test_the_default_configuration_mentions_every_key() -> None:
    import msgspec

    text = (SYSTEMD / "parfocal.toml").read_text()
    for field in msgspec.structs.fields(Settings):
        keys = [field.name]
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            keys = [f"[{field.name}]", *(f.name for f in msgspec.structs.fields(field.type))]
        for key in keys:
            assert key in text, key


def runnable_unit(tmp_path: Path) -> Path:
    """The unit with an executable that exists here, which `verify` insists on."""
    unit = tmp_path / "parfocal.service"
    text = (SYSTEMD / "parfocal.service").read_text()
    unit.write_text(text.replace("/usr/local/lib/parfocal/bin/parfocal", "/bin/true"))
    return unit


@needs_analyze
def test_the_unit_is_valid(tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", str(runnable_unit(tmp_path))], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@needs_analyze
def test_the_unit_exposes_little(tmp_path: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20"]
    done = subprocess.run([*command, str(runnable_unit(tmp_path))], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-300:]


class Manager:
    """Stands in for systemd: a real datagram socket that notes what the service says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(0.05)
        self.said: list[str] = []

    def listen(self) -> list[str]:
        """Everything said so far, a line each."""
        while True:
            try:
                self.said += self.socket.recv(4096).decode().splitlines()
            except TimeoutError:
                return self.said

    def count(self, line: str) -> int:
        return self.listen().count(line)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(made.path))
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    yield made
    made.socket.close()


def test_start_reload_and_stop_are_told_to_the_service_manager(rig: Rig, manager: Manager) -> None:
    rig.start()
    until(lambda: manager.count("READY=1") == 1, what="ready")
    assert any(line.startswith("STATUS=ready, CPU") for line in manager.listen())
    assert rig.daemon is not None
    rig.daemon.send_signal(signal.SIGHUP)
    until(lambda: manager.count("READY=1") == 2, what="ready again")
    assert manager.count("RELOADING=1") == 1
    assert any(line.startswith("MONOTONIC_USEC=") for line in manager.listen())
    assert rig.stop(signal.SIGTERM) == 0
    assert manager.count("STOPPING=1") == 1


def test_the_watchdog_is_fed_by_a_loop_that_moves_and_not_by_one_that_is_stuck(
    rig: Rig, manager: Manager
) -> None:
    rig.start()
    until(lambda: manager.count("READY=1") == 1, what="ready")
    until(lambda: manager.count("WATCHDOG=1") >= 2, what="fed")
    assert rig.daemon is not None
    os.kill(rig.daemon.pid, signal.SIGSTOP)
    manager.listen()
    fed = manager.count("WATCHDOG=1")
    time.sleep(1.5)
    assert manager.count("WATCHDOG=1") == fed
    os.kill(rig.daemon.pid, signal.SIGKILL)  # what systemd does, which then starts it again
    rig.daemon.wait()
    rig.start()
    until(lambda: manager.count("READY=1") == 2, what="ready after a watchdog restart")


def test_workers_do_not_inherit_the_managers_socket(rig: Rig, manager: Manager) -> None:
    rig.start()
    until(lambda: len(rig.children()) == 2, what="children")
    for pid in rig.children().values():
        assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize(
    ("key", "value"),
    [("bundle", "nothing.onnx"), ("device", "cuda"), ("live", "tcp://0.0.0.0:1"),
     ("state_dir", "/proc/parfocal")],
)  # fmt: skip
def test_a_reload_with_which_no_daemon_can_start_keeps_the_old_one(
    rig: Rig, manager: Manager, key: str, value: str
) -> None:
    rig.start()
    until(lambda: manager.count("READY=1") == 1, what="ready")
    lines = rig.config.read_text().splitlines()
    broken = [f'{key} = "{value}"' if line.startswith(f"{key} =") else line for line in lines]
    assert broken != lines
    rig.config.write_text("\n".join(broken))
    assert rig.daemon is not None
    rig.daemon.send_signal(signal.SIGHUP)
    until(lambda: manager.count("READY=1") == 2, what="ready again")
    assert "the new configuration is not used" in rig.log()
    save_frame(rig.folder / "a.png")
    rig.wait_done(1)
    assert rig.stop() == 0


def test_reloads_in_quick_succession_never_kill_and_a_stop_stands(rig: Rig) -> None:
    rig.start()
    save_frame(rig.folder / "a.png", seed=1)
    until(lambda: "watching" in rig.log(), what="running")
    assert rig.daemon is not None
    for _ in range(30):
        rig.daemon.send_signal(signal.SIGHUP)
        time.sleep(0.02)
    save_frame(rig.folder / "b.png", seed=2)
    rig.wait_done(2)
    os.kill(rig.daemon.pid, signal.SIGSTOP)  # so that both are there when it looks
    rig.daemon.send_signal(signal.SIGTERM)
    rig.daemon.send_signal(signal.SIGHUP)
    assert rig.stop(signal.SIGCONT) == 0
    assert len(rig.frames()) == 2
