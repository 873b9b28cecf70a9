"""The two sockets of a rig: live messages, and a service of stored messages and commands.

The live socket may lose messages (that is how PUB works); nothing depends on it, because whoever
misses one asks the replay socket. Both bind to this machine only.
"""

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import msgspec
import zmq

from parfocal.journal import Journal, Message
from parfocal.sidecar import DeclaredFlask
from parfocal.types import Beat, FlaskRef

MAX_REPLAY = 500
"""Most messages in one answer; a subscriber asks again for the next ones."""
MAX_REQUEST_BYTES = 64 * 1024
MAX_NUMBER = (1 << 63) - 1
"""SQLite knows no larger ones."""
MAX_TOPICS = 64
RequestId = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 5_000, 15_000


class BindError(Exception):
    """An address that cannot be bound; the message says why and what to do."""


class ReplayRequest(
    msgspec.Struct, frozen=True, tag_field="op", tag="replay", forbid_unknown_fields=True
):
    """Stored messages from `start` on, whose topics begin with one of `topics` (none: all)."""

    start: Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)] = msgspec.field(name="from")
    topics: Annotated[list[str], msgspec.Meta(max_length=MAX_TOPICS)] = []
    limit: int = MAX_REPLAY
    request_id: str = ""


class ImageRequest(
    msgspec.Struct, frozen=True, tag_field="op", tag="image", forbid_unknown_fields=True
):
    """The stored preview of an image."""

    sha256: str
    request_id: str = ""


class FlaskOpen(
    msgspec.Struct, frozen=True, tag_field="op", tag="flask.open", forbid_unknown_fields=True
):
    """Put a flask on the stage."""

    request_id: RequestId
    flask: DeclaredFlask


class FlaskClose(
    msgspec.Struct, frozen=True, tag_field="op", tag="flask.close", forbid_unknown_fields=True
):
    """Take the flask off the stage, or close an open session by its id or its flask's name."""

    request_id: RequestId
    flask: str = ""


class FlaskShow(
    msgspec.Struct, frozen=True, tag_field="op", tag="flask.show", forbid_unknown_fields=True
):
    """Which flask is on the stage, or a session by its id, or the last one of a flask's name."""

    request_id: str = ""
    flask: str = ""


class FlaskAssign(
    msgspec.Struct, frozen=True, tag_field="op", tag="flask.assign", forbid_unknown_fields=True
):
    """Give a scored image to a flask: a session, or the last one of a flask's name.

    Without `move` only an image that has no flask.
    """

    request_id: RequestId
    flask: str
    path: str
    move: bool = False


Request = ReplayRequest | ImageRequest | FlaskOpen | FlaskClose | FlaskShow | FlaskAssign


class End(msgspec.Struct, frozen=True, tag_field="op", tag="end"):
    """Closes a replay: the head of the log, and where the next request should start."""

    head: int
    next: int
    log: str
    rig: str
    request_id: str = ""


class FlaskAnswer(msgspec.Struct, frozen=True, tag_field="op", tag="flask"):
    """The flask now on the stage (null: none) and the one just closed, if any.

    To `flask.show` with an empty stage, the one closed last if a rule closed it; to one with a
    name, that flask, which may be closed; to `flask.assign`, the flask that the image has now.
    """

    flask: FlaskRef | None
    closed: FlaskRef | None = None
    request_id: str = ""


class Error(msgspec.Struct, frozen=True, tag_field="op", tag="error"):
    """A request that was not carried out."""

    text: str
    request_id: str = ""


Reply = End | FlaskAnswer | Error
Command = FlaskOpen | FlaskClose | FlaskShow | FlaskAssign


def check_address(address: str) -> None:
    """Accept ipc sockets and loopback addresses only.

    Raises
    ------
    BindError
        The address would be reachable from other machines, without any authentication.
    """
    if address.startswith("ipc://"):
        return
    host = address.removeprefix("tcp://").rpartition(":")[0]
    try:
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not address.startswith("tcp://") or not loopback:
        raise BindError(
            f"{address} would let other machines in unauthenticated: bind tcp://127.0.0.1:PORT "
            "or ipc://PATH"
        )


def bound(context: zmq.Context[zmq.Socket[bytes]], kind: int, address: str) -> zmq.Socket[bytes]:
    """A socket that listens at an address, never blocks on close and notices dead peers."""
    check_address(address)
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.IPV6, int("[" in address))
    if kind == zmq.ROUTER:
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST_BYTES)
        socket.setsockopt(zmq.SNDHWM, 2 * MAX_REPLAY)
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        socket.close()
        raise BindError(
            f"{address} cannot be bound ({error.strerror}): is another parfocal running, or does "
            "another program use the port? Set publish.live and publish.replay"
        ) from error
    return socket


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a rig can be reached."""

    live: str
    replay: str


class Publisher:
    """Sends what the journal holds, and answers what is asked.

    Parameters
    ----------
    journal : Journal
    endpoints : Endpoints
    command : callable
        Carries out a flask command and returns the reply; its effect must be in the journal.
    """

    def __init__(
        self, journal: Journal, endpoints: Endpoints, command: Callable[[Command], Reply]
    ) -> None:
        self.journal, self.command = journal, command
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self.live = bound(self.context, zmq.PUB, endpoints.live)
            self.replay = bound(self.context, zmq.ROUTER, endpoints.replay)
        except BindError:
            self.context.destroy(linger=0)
            raise
        self.endpoints = Endpoints(_address(self.live), _address(self.replay))
        self._decoder = msgspec.json.Decoder(Request)

    def publish(self, message: Message) -> None:
        """Tell live subscribers about a message that is already on disk."""
        self.live.send_multipart(message.parts())

    def beat(self, beat: Beat) -> None:
        """Send the pulse; it is numbered with the head of the log and never stored."""
        body = msgspec.json.encode(beat)
        header = self.journal.header("beat", beat.seq, 0, body)
        topic = f"beat/{self.journal.rig}/".encode()
        self.live.send_multipart([topic, msgspec.json.encode(header), body])

    def serve(self, budget_s: float = 0.05) -> None:
        """Answer waiting requests, for at most about this long."""
        stop = time.monotonic() + budget_s
        while time.monotonic() < stop:
            try:
                peer, *frames = self.replay.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            lead = [peer, b""] if frames[:1] == [b""] else [peer]  # a REQ socket sends a delimiter
            self._answer(lead, frames[-1] if frames else b"")

    def _answer(self, lead: list[bytes], text: bytes) -> None:
        try:
            request = self._decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._reply(lead, Error(f"request not understood: {error}"))
        if isinstance(request, ReplayRequest):
            return self._replay(lead, request)
        if isinstance(request, ImageRequest):
            return self._image(lead, request)
        return self._reply(lead, self.command(request))

    def _replay(self, lead: list[bytes], request: ReplayRequest) -> None:
        head, after = self.journal.head, request.start
        limit = max(1, min(request.limit, MAX_REPLAY))
        n = 0
        for message in self.journal.messages(request.start, request.topics, limit):
            self.replay.send_multipart([*lead, *message.parts()])
            after, n = message.seq + 1, n + 1
        if n < limit:
            after = head + 1
        journal = self.journal
        self._reply(lead, End(head, after, journal.log_id, journal.rig, request.request_id))

    def _image(self, lead: list[bytes], request: ImageRequest) -> None:
        preview = self.journal.thumbnail(request.sha256)
        if preview is None:
            return self._reply(lead, Error("no such image", request.request_id))
        head = msgspec.json.encode({"op": "image", "sha256": request.sha256, "kind": "thumbnail",
                                    "request_id": request.request_id})  # fmt: skip
        self.replay.send_multipart([*lead, head, preview])

    def _reply(self, lead: list[bytes], reply: Reply) -> None:
        self.replay.send_multipart([*lead, msgspec.json.encode(reply)])

    def close(self) -> None:
        """Close both sockets at once; what was not delivered is in the journal."""
        self.context.destroy(linger=0)


def _address(socket: zmq.Socket[bytes]) -> str:
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)
