"""A child that dies, hangs, floods or lies is killed and named; none outlives its parent."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from rigs import until

from parfocal.child import MAX_MESSAGE, Child, ChildError

SCRIPT = """
import os, signal, socket, struct, sys, time
from parfocal.child import LENGTH, serve

def answer(request):
    word, _, rest = request.partition(b" ")
    if word == b"sleep":
        time.sleep(float(rest))
    elif word == b"exit":
        raise SystemExit(int(rest))
    elif word == b"kill":
        os.kill(os.getpid(), int(rest))
    elif word == b"crash":
        sys.stderr = open(os.devnull, "w")
        raise RuntimeError
    elif word == b"folder":
        return os.getcwd().encode() + b" " + repr(sys.path[0]).encode()
    elif word == b"environment":
        return b" ".join(os.fsencode(k) for k in os.environ)
    elif word == b"raw":
        os.write(int(sys.argv[1]), eval(rest))
        time.sleep(30)
    return request[::-1]

if sys.argv[2:] == ["speaks first"]:
    os.write(int(sys.argv[1]), b"\\1")
serve(int(sys.argv[1]), answer)
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Child]]:
    """Starts children that do as they are told; kills what is left of them."""
    (tmp_path / "obedient.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    children: list[Child] = []

    def started(*arguments: str) -> Child:
        children.append(Child("obedient", arguments, name="helper"))
        return children[-1]

    yield started
    for child in children:
        child.close()


@pytest.mark.parametrize("size", [0, 1, 4, 100_000, 3_000_000])
def test_requests_of_any_size_are_answered(size: int, start: Callable[..., Child]) -> None:
    child = start()
    request = os.urandom(size)
    for _ in range(3):
        assert child.ask(request, 20) == request[::-1]
    assert not child.busy and child.seconds_left() is None


def test_an_answer_comes_without_blocking(start: Callable[..., Child]) -> None:
    child = start()
    child.send(b"abc", 20)
    assert child.busy and 0 < (child.seconds_left() or 0) <= 20
    while child.receive() is None:
        assert select.select([child], [], [], 20)[0]
        if (answer := child.receive()) is not None:
            assert answer == b"cba"
            break
    assert not child.busy


def test_a_busy_child_takes_no_second_request(start: Callable[..., Child]) -> None:
    child = start()
    child.send(b"sleep 30", 20)
    with pytest.raises(RuntimeError, match="still busy"):
        child.send(b"x", 20)


@pytest.mark.parametrize(
    ("request_text", "why"),
    [
        pytest.param(b"exit 70", r"helper died \(exit status 70\)", id="exits"),
        pytest.param(b"exit 0", "helper died$", id="exits quietly"),
        pytest.param(b"kill 11", r"helper died \(signal 11\)", id="segmentation fault"),
        pytest.param(b"kill 9", "helper died", id="out of memory"),
        pytest.param(b"crash", r"exit status 1", id="raises"),
        pytest.param(b"sleep 30", "no answer within 0.8 s", id="hangs"),
        pytest.param(b"kill 19", "no answer within 0.8 s", id="is stopped"),
        pytest.param(b"raw b'ab'", "no answer within 0.8 s", id="sends half a length"),
        pytest.param(b"raw LENGTH.pack(9) + b'ab'", "no answer within", id="sends half an answer"),
        pytest.param(
            b"raw LENGTH.pack(%d)" % (MAX_MESSAGE + 1), "no answer$", id="threatens to flood"
        ),
        pytest.param(b"raw LENGTH.pack(1) + b'ab'", "no answer$", id="says more than one thing"),
    ],
)
def test_a_child_that_does_not_answer_is_killed_and_named(
    request_text: bytes, why: str, start: Callable[..., Child]
) -> None:
    child = start()
    child.ask(b"warm", 20)
    with pytest.raises(ChildError, match=why):
        child.ask(request_text, 0.8 if "within" in why else 20)
    assert not psutil.pid_exists(child.pid)
    assert not child.busy


def test_a_child_that_speaks_without_a_question_is_killed(start: Callable[..., Child]) -> None:
    child = start("speaks first")
    with pytest.raises(ChildError, match="no answer"):
        until(lambda: child.receive() and None, 20)
    assert not psutil.pid_exists(child.pid)


def test_a_child_that_dies_while_idle_is_noticed(start: Callable[..., Child]) -> None:
    child = start()
    child.ask(b"warm", 20)
    os.kill(child.pid, signal.SIGKILL)
    assert select.select([child], [], [], 20)[0]
    with pytest.raises(ChildError, match="died"):
        child.receive()


def test_a_request_to_a_dead_child_fails(start: Callable[..., Child]) -> None:
    child = start()
    child.ask(b"warm", 20)
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    with pytest.raises(ChildError, match="is gone"):
        child.send(b"x" * 1_000_000, 20)


def test_a_stopped_child_cannot_stop_its_parent_by_not_reading(start: Callable[..., Child]) -> None:
    child = start()
    child.ask(b"warm", 20)
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(ChildError, match="took no request within"):
        child.send(b"x" * 5_000_000, 0.3)


def test_a_child_that_was_stopped_for_a_while_goes_on(start: Callable[..., Child]) -> None:
    child = start()
    child.ask(b"warm", 20)
    os.kill(child.pid, signal.SIGSTOP)
    child.send(b"abc", 20)
    time.sleep(0.1)
    assert child.receive() is None
    os.kill(child.pid, signal.SIGCONT)
    assert until(child.receive) == b"cba"


def test_ctrl_c_is_for_the_parent_alone(start: Callable[..., Child]) -> None:
    child = start()
    child.ask(b"warm", 20)
    os.kill(child.pid, signal.SIGINT)
    assert child.ask(b"abc", 20) == b"cba"


def test_the_current_folder_is_no_place_to_import_from(
    start: Callable[..., Child], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "socket.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(here)
    folder, _, first = start().ask(b"folder", 20).decode().partition(" ")
    assert folder == str(here) and str(here) not in first


def test_the_service_managers_socket_is_not_for_children(
    start: Callable[..., Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/x")
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    names = start().ask(b"environment", 20).split()
    assert b"PATH" in names
    assert not {b"NOTIFY_SOCKET", b"WATCHDOG_USEC"} & set(names)


def test_closing_twice_does_nothing(start: Callable[..., Child]) -> None:
    child = start()
    child.close()
    child.close()
    assert not psutil.pid_exists(child.pid)


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_child_dies_with_its_parent(
    state: str, start: Callable[..., Child], tmp_path: Path
) -> None:
    then = "child.send(b'sleep 60', 99)" if state == "busy" else ""
    script = (
        "import time; from parfocal.child import Child\n"
        "child = Child('obedient'); child.ask(b'warm', 20)\n"
        f"{then}\n"
        "print(child.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
        parent.wait()
        until(lambda: not _runs(pid), 10, "the child's end")


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
