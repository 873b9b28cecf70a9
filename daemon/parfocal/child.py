"""Killable worker processes: what may crash, hang or be attacked does so outside the daemon.

A child answers one request at a time over a socket pair. Requests and answers are byte strings
behind a 4-byte length; nothing is ever unpickled, so a child that was taken over by a hostile image
can at most send a wrong message, which the parent refuses. A child dies with its parent.
"""

import ctypes
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

LENGTH = struct.Struct("<I")
MAX_MESSAGE = 64 * 1024 * 1024
PR_SET_PDEATHSIG = 1
DOUBT_EXIT = 70
"""Exit status of a child that no longer trusts its engine."""
LAST_MOMENTS_S = 0.5
"""A child that has closed its socket gets this long to end by itself, which tells its status."""


REAP_S = 1.0
"""A killed child is gone within milliseconds, unless its driver or disk holds it in the kernel."""
_unreaped: list[subprocess.Popen[bytes]] = []


class ChildError(Exception):
    """The child died, hung or broke the protocol; the parent has killed it."""


class Child:
    """Parent's handle of one worker process.

    Parameters
    ----------
    module : str
        Run as `python -m module SOCKET_FD [argument ...]`; it calls `serve`. The current folder
        is no place to import from.
    arguments : tuple of str
        Further arguments.
    fds : tuple of int
        Further descriptors the child inherits, under the same numbers.
    name : str
        For messages.
    nice : int
        How far it gives way to this process and its other children; 19 is the most.
    """

    def __init__(
        self,
        module: str,
        arguments: tuple[str, ...] = (),
        fds: tuple[int, ...] = (),
        name: str = "",
        nice: int = 0,
    ) -> None:
        self.name = name or module
        _unreaped[:] = [process for process in _unreaped if process.poll() is None]
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        command = [sys.executable, "-P", "-m", module, str(theirs.fileno()), *arguments]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            process_group=0,
            pass_fds=(theirs.fileno(), *fds),
            env=_environment(),
        )
        theirs.close()
        if nice:  # now, while it has one thread: those that it starts inherit it
            ours = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, self._process.pid, min(ours + nice, 19))
        self._received = bytearray()
        self._asked_s: float | None = None
        self._deadline_s = 0.0

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def busy(self) -> bool:
        """Whether a request is unanswered."""
        return self._asked_s is not None

    def fileno(self) -> int:
        """Becomes readable when there is (part of) an answer or the child died."""
        return self._socket.fileno()

    def send(self, request: bytes, deadline_s: float) -> None:
        """Ask; the answer must be complete within this many seconds.

        Raises
        ------
        ChildError
            The child is gone.
        """
        if self.busy:
            raise RuntimeError(f"{self.name} is still busy")
        self._asked_s, self._deadline_s = time.monotonic(), deadline_s
        try:
            self._socket.settimeout(deadline_s)  # a stopped child must not stop the parent too
            self._socket.sendall(LENGTH.pack(len(request)) + request)
            self._socket.setblocking(False)
        except TimeoutError as error:
            raise self._failed(f"took no request within {deadline_s:g} s") from error
        except OSError as error:
            raise self._failed("is gone") from error

    def receive(self) -> bytes | None:
        """The answer, or None while it is not complete; never blocks.

        Raises
        ------
        ChildError
            The child died, or sent something that is no answer.
        """
        while True:
            try:
                part = self._socket.recv(1 << 20)
            except BlockingIOError:
                return None
            except ConnectionResetError:  # it died before it had read its request
                part = b""
            except OSError as error:
                raise self._failed("broke its socket") from error
            if not part:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(LAST_MOMENTS_S)
                raise self._failed("died")
            self._received += part
            answer = self._complete()
            if answer is not None:
                return answer

    def _complete(self) -> bytes | None:
        if not self.busy:
            raise self._failed("sent something that is no answer")
        if len(self._received) < LENGTH.size:
            return None
        (size,) = LENGTH.unpack_from(self._received)
        more = len(self._received) - LENGTH.size - size
        if size > MAX_MESSAGE or more > 0:
            raise self._failed("sent something that is no answer")
        if more < 0:
            return None
        answer = bytes(self._received[LENGTH.size : LENGTH.size + size])
        self._received.clear()
        self._asked_s = None
        return answer

    @property
    def gone(self) -> bool:
        """Whether its process has ended."""
        return self._process.poll() is not None

    def seconds_left(self) -> float | None:
        """Time until the deadline of the open request; None when idle."""
        if self._asked_s is None:
            return None
        return self._asked_s + self._deadline_s - time.monotonic()

    def check_deadline(self) -> None:
        """Kill the child if its answer is overdue.

        Raises
        ------
        ChildError
            It was.
        """
        left = self.seconds_left()
        if left is not None and left <= 0:
            raise self._failed(f"gave no answer within {self._deadline_s:g} s")

    def ask(self, request: bytes, deadline_s: float) -> bytes:
        """Send and wait: for commands that have nothing else to do."""
        self.send(request, deadline_s)
        while True:
            left = self.seconds_left() or 0.0
            if select.select([self._socket], [], [], max(0.0, left))[0]:
                answer = self.receive()
                if answer is not None:
                    return answer
            self.check_deadline()

    def _failed(self, what: str) -> ChildError:
        self.close()
        code = self._process.returncode
        how = ""
        if code and code != -signal.SIGKILL:  # which is how `close` ends those that still live
            how = f" (signal {-code})" if code < 0 else f" (exit status {code})"
        return ChildError(f"{self.name} {what}{how}")

    def close(self) -> None:
        """Kill the child and free its socket; a second call does nothing.

        One that the kernel does not let go is left behind, and reaped when another is started.
        """
        self._process.kill()
        self._socket.close()
        try:
            self._process.wait(0.0 if self._process in _unreaped else REAP_S)
        except subprocess.TimeoutExpired:
            if self._process not in _unreaped:
                _unreaped.append(self._process)
        self._asked_s = None


def _environment() -> dict[str, str]:
    """The parent's environment without the service manager's socket, which is not for children."""
    return {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}


def serve(fd: int, answer: Callable[[bytes], bytes]) -> None:
    """Child's loop: answer requests until the parent goes away."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then kills us
    with socket.socket(fileno=fd) as channel:
        while (request := _read(channel)) is not None:
            reply = answer(request)
            channel.sendall(LENGTH.pack(len(reply)) + reply)


def _read(channel: socket.socket) -> bytes | None:
    head = _exactly(channel, LENGTH.size)
    return None if head is None else _exactly(channel, LENGTH.unpack(head)[0])


def _exactly(channel: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = channel.recv(size - len(data))
        if not part:
            return None
        data += part
    return bytes(data)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies (Linux).

    Where it died before this line, or elsewhere, the socket has ended and `serve` with it.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
