"""A durable subscriber: every message of a rig once, in order, whatever dies in between.

Live messages are a hint. The subscriber keeps the number of the last message it handled and asks
the replay socket for everything after it: at the start, when a number is missing, and when a beat
shows a higher one.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import msgspec
import zmq

from parfocal.publish import (
    HEARTBEAT_MS,
    HEARTBEAT_TIMEOUT_MS,
    Command,
    End,
    Endpoints,
    Error,
    FlaskAnswer,
    ReplayRequest,
    Reply,
)
from parfocal.types import Alarm, Beat, FlaskVerdict, FrameResult, Header

ANSWER_WAIT_S = 3.0
"""A replay answer later than this is asked for again over a fresh connection."""
SILENCE_S = 5.0
"""Without a beat for this long the rig counts as unreachable."""

Body = FrameResult | FlaskVerdict | Alarm
BODIES: dict[str, type[Body]] = {
    "parfocal.frame/1": FrameResult,
    "parfocal.flask/1": FlaskVerdict,
    "parfocal.alarm/1": Alarm,
}


class UnreachableError(Exception):
    """No daemon answered; the message names the address."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last message that was handled: of which log, and its number."""

    log: str = ""
    seq: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Received:
    """One message as it arrived; `raw_body` is the JSON text, `blob` a JPEG preview or None."""

    topic: str
    header: Header
    raw_body: bytes
    blob: bytes | None

    def body(self) -> Body | None:
        """The decoded body; None for a kind of message that only a later parfocal knows."""
        kind = BODIES.get(self.header.schema)
        return None if kind is None else msgspec.json.decode(self.raw_body, type=kind)

    @property
    def cursor(self) -> Cursor:
        """Where to go on after this message."""
        return Cursor(self.header.log, self.header.seq)


@dataclass(frozen=True, slots=True)
class NewLog:
    """The rig's log is another one than the cursor's: numbers start over."""

    log: str


@dataclass(frozen=True, slots=True)
class Silence:
    """No beat for a while: the daemon is down or cannot be reached."""

    seconds: float


Event = Received | Beat | NewLog | Silence


def default_replay(live: str) -> str:
    """The replay address that belongs to a live address: the next port."""
    parts = urlsplit(live)
    if parts.scheme != "tcp" or parts.port is None:
        raise ValueError(f"{live} is not tcp://HOST:PORT: name the replay address too")
    host = live.removeprefix("tcp://").rsplit(":", 1)[0]
    return f"tcp://{host}:{parts.port + 1}"


class Subscriber:
    """Iterates over the events of one rig, for ever.

    Parameters
    ----------
    endpoints : Endpoints
    cursor : Cursor
        Where to go on; the default starts at the first message of the log.
    topics : tuple of str
        Prefixes of the topics to yield; all are followed, so that no gap goes unseen.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        cursor: Cursor = Cursor(),  # frozen
        topics: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoints, self.cursor, self.topics, self.clock = endpoints, cursor, topics, clock
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.live = _connected(self.context, zmq.SUB, endpoints.live)
        self.live.subscribe(b"")
        self.replay = _connected(self.context, zmq.DEALER, endpoints.replay)
        self._asked: str | None = None
        self._head: int | None = None
        self._asked_s = 0.0
        self._heard_s = clock()
        self._silent = False
        self._ask()

    def __iter__(self) -> Iterator[Event]:
        while True:
            yield from self.events(0.5)

    def events(self, wait_s: float) -> Iterator[Event]:
        """What arrives within this time; the cursor moves as the messages are taken."""
        poller = zmq.Poller()
        poller.register(self.replay, zmq.POLLIN)
        poller.register(self.live, zmq.POLLIN)
        ready = dict(poller.poll(int(wait_s * 1e3)))
        if self.replay in ready:
            yield from self._replayed()
        if self.live in ready:
            yield from self._heard()
        yield from self._watch()

    def _replayed(self) -> Iterator[Event]:
        for frames in _waiting(self.replay):
            if len(frames) == 1:
                reply = msgspec.json.decode(frames[0], type=Reply)
                if isinstance(reply, End) and reply.request_id == self._asked:
                    yield from self._ended(reply)
            else:
                self._asked_s = self.clock()
                yield from self._message(frames)

    def _ended(self, end: End) -> Iterator[Event]:
        self._asked, self._head = None, end.head
        self._silence_ends()
        yield from self._log(end.log)
        if end.head < self.cursor.seq:  # cannot be within one log; a truncated copy was restored
            self.cursor = Cursor(end.log, end.head)
        if self.cursor.seq < end.head:
            self._ask()

    def _heard(self) -> Iterator[Event]:
        for frames in _waiting(self.live):
            topic, raw_header, body = frames[:3]
            if topic.startswith(b"beat/"):
                yield from self._beat(raw_header, body)
            elif self._of_another_log(raw_header):
                self._ask()  # a new log or the last words of an old one: the replay socket knows
            else:
                yield from self._message(frames)

    def _of_another_log(self, raw_header: bytes) -> bool:
        return self.cursor.log not in ("", msgspec.json.decode(raw_header, type=Header).log)

    def _beat(self, raw_header: bytes, raw_body: bytes) -> Iterator[Event]:
        header = msgspec.json.decode(raw_header, type=Header)
        beat = msgspec.json.decode(raw_body, type=Beat)
        self._silence_ends()
        if header.log != self.cursor.log or beat.seq > self.cursor.seq:
            self._ask()
        yield beat

    def _message(self, frames: list[bytes]) -> Iterator[Event]:
        header = msgspec.json.decode(frames[1], type=Header)
        yield from self._log(header.log)
        if header.seq <= self.cursor.seq:
            return  # already handled
        if header.seq > self.cursor.seq + 1:
            self._ask()
            return  # it will come again, in its place
        topic = frames[0].decode()
        self.cursor = Cursor(header.log, header.seq)
        if not self.topics or topic.startswith(self.topics):
            yield Received(topic, header, frames[2], frames[3] if len(frames) > 3 else None)

    def _log(self, log: str) -> Iterator[Event]:
        if self.cursor.log == log:
            return
        started_over = self.cursor.log != ""
        self.cursor = Cursor(log, 0 if started_over else self.cursor.seq)
        if started_over:
            self._asked = None
            self._ask()
            yield NewLog(log)

    def _watch(self) -> Iterator[Event]:
        now = self.clock()
        if self._asked and now - self._asked_s > ANSWER_WAIT_S:
            self.replay.close()
            self.replay = _connected(self.context, zmq.DEALER, self.endpoints.replay)
            self._asked = None
            self._ask()
        if not self._silent and now - self._heard_s > SILENCE_S:
            self._silent = True
            yield Silence(now - self._heard_s)

    def _silence_ends(self) -> None:
        self._heard_s, self._silent = self.clock(), False

    def _ask(self) -> None:
        if self._asked:
            return
        self._asked, self._asked_s = uuid.uuid4().hex, self.clock()
        request = ReplayRequest(start=self.cursor.seq + 1, request_id=self._asked)
        try:
            self.replay.send(msgspec.json.encode(request), zmq.DONTWAIT)
        except zmq.Again:
            return  # not connected yet; `_watch` asks again

    @property
    def caught_up(self) -> bool:
        """Whether everything that the rig had when last asked has been handled."""
        return self._head is not None and self._asked is None and self.cursor.seq >= self._head

    def close(self) -> None:
        """Close both connections."""
        self.context.destroy(linger=0)

    def __enter__(self) -> "Subscriber":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connected(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, address: str
) -> zmq.Socket[bytes]:
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    socket.setsockopt(zmq.IPV6, int("[" in address))
    socket.connect(address)
    return socket


def _waiting(socket: zmq.Socket[bytes], most: int = 1000) -> Iterator[list[bytes]]:
    """Messages that have already arrived."""
    for _ in range(most):
        try:
            yield socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return


def command(
    replay: str, request: Command, wait_s: float = 5.0, tries: int = 2
) -> FlaskAnswer | Error:
    """Send a command and return its answer; a repeated request id has no second effect.

    Raises
    ------
    UnreachableError
        No daemon answered in time: the command was not recorded, as far as anyone knows.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        for _ in range(tries):
            socket = _connected(context, zmq.DEALER, replay)
            socket.send(msgspec.json.encode(request))
            if socket.poll(int(wait_s / tries * 1e3)):
                reply = msgspec.json.decode(socket.recv(), type=Reply)
                if isinstance(reply, FlaskAnswer | Error):
                    return reply
            socket.close()
    finally:
        context.destroy(linger=0)
    raise UnreachableError(f"no parfocal daemon answers at {replay}: not recorded")


def new_request_id() -> str:
    """A fresh id for a command."""
    return uuid.uuid4().hex


def at(cursor: Cursor, seq: int) -> Cursor:
    """The cursor just before message `seq`."""
    return replace(cursor, seq=max(0, seq - 1))
