"""What the service manager is told, on a real datagram socket."""

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from parfocal.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket, and its name as NOTIFY_SOCKET has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.settimeout(5)
        if request.param == "path":
            name = str(tmp_path / "notify")
            own.bind(name)
        else:
            name = f"@parfocal-{uuid.uuid4()}"
            own.bind("\0" + name[1:])
        yield own, name


def test_each_stage_of_a_service_is_one_datagram(manager: tuple[socket.socket, str]) -> None:
    own, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready()
    notifier.alive()
    notifier.status("ready,  3 waiting\n")
    notifier.status("ready, 3 waiting")
    notifier.status("ready, 2 waiting")
    notifier.reloading()
    notifier.stopping()
    got = [own.recv(4096).decode() for _ in range(6)]
    assert got[:4] == [
        "READY=1",
        "WATCHDOG=1",
        "STATUS=ready, 3 waiting",
        "STATUS=ready, 2 waiting",
    ]
    first, _, usec = got[4].partition("\nMONOTONIC_USEC=")
    assert (first, usec.isdigit(), got[5]) == ("RELOADING=1", True, "STOPPING=1")


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
    ids=["none", "for all", "for us", "for another process", "nonsense"],
)
def test_the_watchdog_is_read_from_the_environment(
    environment: dict[str, str], watchdog_s: float
) -> None:
    assert Notifier(environment).watchdog_s == watchdog_s


@pytest.mark.parametrize("name", ["", "/nowhere/notify", "@nobody-is-here", "/" + "x" * 200])
def test_a_manager_that_is_not_there_stops_nothing(name: str) -> None:
    Notifier({"NOTIFY_SOCKET": name}).ready()


def test_a_manager_that_does_not_read_stops_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(1000):
            notifier.alive()
