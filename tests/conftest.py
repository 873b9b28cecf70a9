"""Shared fixtures: a tiny model, a real rig in a process of its own, and a check for leftovers."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rigs import Rig, tiny_bundle_at

SETTLE_S = 3.0

# of PyTorch and scikit-learn, here and in every process that a test starts: tests run side by side
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread, a process or a socket."""
    before = _held()
    yield
    deadline = time.monotonic() + SETTLE_S
    while left := _held() - before:
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {', '.join(sorted(left))}")
        time.sleep(0.05)


def _held() -> set[str]:
    threads = {
        f"thread {t.name}" for t in threading.enumerate() if t is not threading.main_thread()
    }
    children = {f"process {c.pid}" for c in psutil.Process().children(recursive=True)}
    sockets = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            sockets.add(f"descriptor {target}")
    return threads | children | sockets


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verified bundle of a network so small that a frame takes a millisecond."""
    return tiny_bundle_at(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def rig(tmp_path: Path, tiny_bundle: Path) -> Iterator[Rig]:
    """A daemon, not yet started, with its own folder, state and ports."""
    made = Rig(tmp_path, tiny_bundle)
    yield made
    made.close()
