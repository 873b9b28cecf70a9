"""Publisher and subscriber on real sockets: each message once and in order, whatever is lost."""

import json
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs import free_ports, until

from parfocal.client import (
    Cursor,
    Event,
    NewLog,
    Received,
    Silence,
    Subscriber,
    UnreachableError,
    at,
    command,
    default_replay,
)
from parfocal.journal import Journal, Message
from parfocal.publish import (
    MAX_REPLAY,
    MAX_REQUEST_BYTES,
    BindError,
    Command,
    Endpoints,
    Error,
    FlaskAnswer,
    FlaskOpen,
    FlaskShow,
    Publisher,
    Reply,
    check_address,
)
from parfocal.sidecar import DeclaredFlask
from parfocal.types import Alarm, Beat, FlaskRef


def nothing(request: Command) -> Reply:
    return FlaskAnswer(None, request_id=request.request_id)


class Station:
    """A journal and its publisher, which can be killed and can lose its log."""

    def __init__(self, home: Path, endpoints: Endpoints) -> None:
        self.home, self.endpoints = home, endpoints
        self.stored: dict[str, list[str]] = {}
        self.last: Message | None = None
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.home / "journal.sqlite", "rig")
        self.publisher = Publisher(self.journal, self.endpoints, nothing)
        self.stored.setdefault(self.journal.log_id, [])

    def close(self) -> None:
        self.publisher.close()
        self.journal.close()

    def append(self) -> Message:
        log = self.stored[self.journal.log_id]
        text = f"{self.journal.log_id} {len(log) + 1}"
        with self.journal.transaction():
            self.last = self.journal.append("alarm", alarm(text), b"blob")
        log.append(text)
        return self.last

    def beat(self) -> None:
        beat = Beat(seq=self.journal.head, tseq={}, replay="", state="ready", reasons=(),
                    provider="", queue_depth=0, dropped=0, uptime_s=0, files={})  # fmt: skip
        self.publisher.beat(beat)

    def lose_log(self) -> None:
        self.close()
        for path in self.home.glob("journal.sqlite*"):
            path.unlink()
        self.open()


def alarm(text: str) -> Alarm:
    return Alarm(name="n", level="info", since_at="2026-01-01T00:00:00Z", text=text)


@contextmanager
def station() -> Iterator[Station]:
    """A station on ipc sockets in a folder of a short name (a socket's path has 107 bytes)."""
    home = Path("/tmp") / f"pf-{uuid.uuid4().hex[:12]}"
    home.mkdir()
    try:
        with closing(Station(home, Endpoints(f"ipc://{home}/l", f"ipc://{home}/r"))) as made:
            yield made
    finally:
        shutil.rmtree(home)


def fast() -> float:
    """A clock that runs 20 times as fast, so that waits of seconds are short."""
    return 20 * time.monotonic()


START = Cursor()


class Follower:
    """A subscriber, and what it was given: texts by log, in order."""

    def __init__(self, station: Station, cursor: Cursor = START, **more: Any) -> None:
        self.station = station
        self.subscriber = Subscriber(station.endpoints, cursor, clock=fast, **more)
        self.got: dict[str, list[str]] = {}
        self.events: list[Event] = []

    def pump(self, wait_s: float = 0.005) -> None:
        self.station.publisher.serve(0.01)
        for event in self.subscriber.events(wait_s):
            self.events.append(event)
            if isinstance(event, Received):
                body = event.body()
                assert isinstance(body, Alarm)
                self.got.setdefault(event.header.log, []).append(body.text)

    def catch_up(self) -> None:
        log = self.station.journal.log_id

        def level() -> bool:
            self.station.beat()
            self.pump()
            return self.subscriber.cursor == Cursor(log, self.station.journal.head)

        until(level, 15, "caught up")

    def close(self) -> None:
        self.subscriber.close()


ACTIONS = ["publish"] * 4 + ["lose"] * 2 + ["again", "pump", "pump", "beat", "restart", "new log"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(ACTIONS), max_size=14), st.integers(0, 6), st.integers(0, 14))
def test_every_message_comes_once_and_in_order_whatever_happens(
    actions: list[str], before: int, joins_at: int
) -> None:
    with ExitStack() as stack:
        rig = stack.enter_context(station())
        for _ in range(before):
            rig.append()
        follower: Follower | None = None
        for number, action in enumerate([*actions, "pump"]):
            if follower is None and number >= min(joins_at, len(actions)):
                follower = stack.enter_context(closing(Follower(rig)))
            act(rig, follower, action)
        assert follower is not None
        follower.catch_up()
        for log, texts in follower.got.items():
            assert texts == rig.stored[log][: len(texts)]  # in order, none missing, none twice
        now = rig.journal.log_id
        assert follower.got.get(now, []) == rig.stored[now]


def act(rig: Station, follower: Follower | None, action: str) -> None:
    if action == "publish":
        rig.publisher.publish(rig.append())
    elif action == "lose":
        rig.append()
    elif action == "again" and rig.last:
        rig.publisher.publish(rig.last)  # a duplicate, or the last words of an older log
    elif action == "pump" and follower:
        follower.pump()
    elif action == "beat":
        rig.beat()
    elif action == "restart":
        rig.close()
        rig.open()
    elif action == "new log":
        rig.lose_log()


def test_late_messages_of_a_log_that_is_gone_do_not_bring_it_back() -> None:
    with station() as rig:
        old = [rig.append(), rig.append()]
        with closing(Follower(rig)) as follower:
            follower.catch_up()
            rig.lose_log()
            for _ in range(3):
                rig.append()
            follower.catch_up()
            for message in old * 3:  # they waited in a socket
                rig.publisher.publish(message)
                follower.pump(0.05)
            follower.catch_up()
            assert list(follower.got.values()) == list(rig.stored.values())
            news = [event for event in follower.events if isinstance(event, NewLog)]
            assert news == [NewLog(rig.journal.log_id)]


def test_more_messages_than_one_answer_holds_come_in_several() -> None:
    with station() as rig:
        with rig.journal.transaction():
            for n in range(MAX_REPLAY + 30):
                rig.journal.append("alarm", alarm(str(n)))
        with closing(Follower(rig)) as follower:
            while not follower.subscriber.caught_up:
                follower.pump()
            assert [len(texts) for texts in follower.got.values()] == [MAX_REPLAY + 30]


def test_a_subscriber_goes_on_after_its_cursor() -> None:
    with station() as rig:
        for _ in range(5):
            rig.append()
        with closing(Follower(rig, at(Cursor(rig.journal.log_id, 0), 4))) as follower:
            follower.catch_up()
            assert follower.got == {rig.journal.log_id: rig.stored[rig.journal.log_id][3:]}


def test_a_start_by_number_alone_takes_any_log() -> None:
    with station() as rig:
        for _ in range(5):
            rig.append()
        with closing(Follower(rig, at(Cursor(), 4))) as follower:
            follower.catch_up()
            assert len(follower.got[rig.journal.log_id]) == 2


def test_topics_are_filtered_after_the_gaps_are_seen() -> None:
    with station() as rig:
        for _ in range(3):
            rig.append()
        with closing(Follower(rig, topics=("frame/",))) as follower:
            follower.catch_up()
            assert follower.got == {}
            assert follower.subscriber.cursor.seq == 3


def test_silence_is_told_once_and_ends_with_a_beat() -> None:
    with station() as rig, closing(Follower(rig)) as follower:

        def silences() -> int:
            follower.pump(0.05)
            return sum(isinstance(event, Silence) for event in follower.events)

        rig.publisher.serve()
        until(lambda: silences() == 1, 5, "silence")
        silences()
        assert silences() == 1
        follower.catch_up()
        until(lambda: silences() == 2, 5, "silence again")


def test_a_message_carries_its_preview() -> None:
    with station() as rig, closing(Follower(rig)) as follower:
        rig.append()
        follower.catch_up()
        (received,) = [event for event in follower.events if isinstance(event, Received)]
        assert (received.topic, received.blob) == ("alarm/rig/", b"blob")


# ------------------------------------------------------------------------------------ requests


@pytest.fixture
def rig() -> Iterator[Station]:
    with station() as made:
        yield made


@pytest.fixture
def ask(rig: Station) -> Iterator[Callable[[list[bytes]], list[list[bytes]]]]:
    """Sends frames to the replay socket and gives everything that comes back."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(rig.endpoints.replay)

    def asked(frames: list[bytes]) -> list[list[bytes]]:
        dealer.send_multipart(frames)
        answers: list[list[bytes]] = []

        def ended() -> bool:
            rig.publisher.serve(0.01)
            while dealer.poll(5):
                answers.append(dealer.recv_multipart())
            return bool(answers) and b'"op"' in answers[-1][-1] + answers[-1][0]

        until(ended, 5, "an answer")
        return answers

    yield asked
    context.destroy(linger=0)


Ask = Callable[[list[bytes]], list[list[bytes]]]


@pytest.mark.parametrize(
    "request_text",
    [
        pytest.param(b" ", id="nothing"),
        pytest.param(b"{", id="half"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"op":"reboot"}', id="an unknown request"),
        pytest.param(b'{"op":"replay"}', id="a replay from nowhere"),
        pytest.param(b'{"op":"replay","from":1,"x":1}', id="an unknown field"),
        pytest.param(b'{"op":"replay","from":-1}', id="a negative number"),
        pytest.param(b'{"op":"replay","from":9223372036854775808}', id="64 bits"),
        pytest.param(b'{"op":"replay","from":' + b"9" * 80 + b"}", id="80 digits"),
        pytest.param(b'{"op":"replay","from":1.5}', id="a fraction"),
        pytest.param(
            b'{"op":"replay","from":1,"topics":[' + b'"a",' * 5000 + b'"a"]}', id="5001 topics"
        ),
        pytest.param(b'{"op":"image","sha256":"\xff"}', id="no UTF-8"),
        pytest.param(b'{"op":"image","sha256":"\\ud800"}', id="half a character"),
        pytest.param(b'{"op":"image","sha256":"\\udc00\\ud800"}', id="two halves"),
        pytest.param(b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}", id="nested beyond measure"),
        pytest.param(b'{"op":"flask.open","flask":{"id":"A"}}', id="a command without id"),
        pytest.param(
            b'{"op":"flask.open","request_id":"","flask":{"id":"A"}}', id="an empty request id"
        ),
        pytest.param(
            b'{"op":"flask.open","request_id":"a","flask":{"id":"A","passage":1e30}}', id="passage"
        ),
        pytest.param(
            b'{"op":"flask.open","request_id":"a","flask":{"id":"A","passage":99999999999}}',
            id="a huge passage",
        ),
    ],
)
def test_a_request_that_makes_no_sense_gets_an_error_and_no_more(
    request_text: bytes, ask: Ask
) -> None:
    ((answer,),) = ask([request_text])
    assert json.loads(answer)["op"] == "error"
    assert json.loads(ask([b'{"op":"replay","from":1}'])[-1][0])["op"] == "end"


REQUESTS = st.one_of(
    st.binary(max_size=100),
    st.fixed_dictionaries(
        {"op": st.sampled_from(["replay", "image", "flask.show", "flask.open", "flask.close"])},
        optional={
            "from": st.integers(),
            "limit": st.integers(),
            "topics": st.lists(st.text()),
            "sha256": st.text(),
            "request_id": st.text(),
            "flask": st.dictionaries(st.text(), st.text() | st.integers()),
        },
    ).map(lambda request: json.dumps(request).encode()),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(REQUESTS, min_size=1, max_size=20))
def test_no_sequence_of_requests_stops_the_service(requests: list[bytes]) -> None:
    rig, dealer = HELD.rig, HELD.dealer
    for request in requests:
        dealer.send_multipart([request])
    dealer.send(b'{"op":"flask.show","request_id":"last"}')
    last = json.dumps("last").encode()
    while not _said(dealer, last):
        rig.publisher.serve(0.02)


def _said(dealer: zmq.Socket[bytes], word: bytes) -> bool:
    while dealer.poll(0):
        if word in dealer.recv_multipart()[-1]:
            return True
    return False


class Held:
    """One station for all examples of a property."""

    rig: Station
    dealer: zmq.Socket[bytes]


HELD = Held()


@pytest.fixture(autouse=True)
def _held(request: pytest.FixtureRequest) -> Iterator[None]:
    if "no_sequence" not in request.node.name:
        yield
        return
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with station() as HELD.rig:
        HELD.dealer = context.socket(zmq.DEALER)
        HELD.dealer.connect(HELD.rig.endpoints.replay)
        yield
        context.destroy(linger=0)


@pytest.mark.parametrize(
    ("asked", "seqs", "follows"),
    [
        ({"from": 1}, [1, 2, 3], 4),
        ({"from": 0}, [1, 2, 3], 4),
        ({"from": 2}, [2, 3], 4),
        ({"from": 1, "limit": 2}, [1, 2], 3),
        ({"from": 1, "limit": 0}, [1], 2),
        ({"from": 1, "limit": -5}, [1], 2),
        ({"from": 3, "limit": 10**6}, [3], 4),
        ({"from": 4}, [], 4),
        ({"from": 2**63 - 1}, [], 4),
        ({"from": 1, "topics": ["alarm/rig/"]}, [1, 2, 3], 4),
        ({"from": 1, "topics": ["frame/"]}, [], 4),
        ({"from": 1, "topics": ["frame/", "al"]}, [1, 2, 3], 4),
    ],
    ids=str,
)
def test_a_replay_gives_the_range_and_where_to_go_on(
    asked: dict[str, object], seqs: list[int], follows: int, rig: Station, ask: Ask
) -> None:
    for _ in range(3):
        rig.append()
    *messages, (end,) = ask([json.dumps({"op": "replay", "request_id": "r", **asked}).encode()])
    assert [json.loads(m[1])["seq"] for m in messages] == seqs
    assert json.loads(end) == {
        "op": "end", "head": 3, "next": follows, "log": rig.journal.log_id, "rig": "rig",
        "request_id": "r",
    }  # fmt: skip


def test_a_req_socket_gets_its_delimiter_back(rig: Station, ask: Ask) -> None:
    ((empty, answer),) = ask([b"", b'{"op":"flask.show"}'])
    assert empty == b"" and json.loads(answer)["op"] == "flask"


def test_an_unknown_image_is_an_error(ask: Ask) -> None:
    ((answer,),) = ask([b'{"op":"image","sha256":"00","request_id":"i"}'])
    assert json.loads(answer) == {"op": "error", "text": "no such image", "request_id": "i"}


def test_a_request_beyond_the_limit_is_dropped_with_its_connection(rig: Station, ask: Ask) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        greedy = context.socket(zmq.DEALER)
        greedy.connect(rig.endpoints.replay)
        greedy.send(b" " * (MAX_REQUEST_BYTES + 1))
        assert json.loads(ask([b'{"op":"flask.show"}'])[0][0])["op"] == "flask"
        rig.publisher.serve()
        assert not greedy.poll(50)
    finally:
        context.destroy(linger=0)


# ----------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "address",
    ["tcp://127.0.0.1:5640", "tcp://127.9.9.9:*", "tcp://[::1]:5640", "tcp://localhost:1",
     "ipc:///run/parfocal/live"],
)  # fmt: skip
def test_this_machine_may_be_bound(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    "address",
    ["tcp://*:5640", "tcp://0.0.0.0:5640", "tcp://192.168.0.7:5640", "tcp://[::]:5640",
     "tcp://eth0:5640", "tcp://localhost.example.org:1", "tcp://127.0.0.1@10.0.0.1:1",
     "tcp://10.0.0.1;127.0.0.1:1", "tcp://[::1", "udp://127.0.0.1:1", "pgm://127.0.0.1:1",
     "127.0.0.1:5640", "", "tcp://", "ws://127.0.0.1:80"],
)  # fmt: skip
def test_nothing_beyond_this_machine_may_be_bound(address: str) -> None:
    with pytest.raises(BindError, match="other machines"):
        check_address(address)


def test_a_port_in_use_is_named_and_nothing_is_left_open(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "j.sqlite", "rig")) as journal, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BindError, match="another parfocal"):
            Publisher(journal, Endpoints("tcp://127.0.0.1:*", address), nothing)


def test_a_free_port_is_told(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "j.sqlite", "rig")) as journal:
        anywhere = Endpoints("tcp://127.0.0.1:*", "tcp://[::1]:*")
        with closing(Publisher(journal, anywhere, nothing)) as publisher:
            assert publisher.endpoints.live.startswith("tcp://127.0.0.1:")
            assert publisher.endpoints.replay.startswith("tcp://[::1]:")
            assert "*" not in publisher.endpoints.live + publisher.endpoints.replay


@pytest.mark.parametrize(
    ("live", "replay"),
    [
        ("tcp://127.0.0.1:5640", "tcp://127.0.0.1:5641"),
        ("tcp://[::1]:5640", "tcp://[::1]:5641"),
        ("tcp://rig.lab.org:1", "tcp://rig.lab.org:2"),
    ],
)
def test_the_replay_port_is_the_next(live: str, replay: str) -> None:
    assert default_replay(live) == replay


@pytest.mark.parametrize("live", ["ipc:///x", "tcp://host", "host:5640", "tcp://host:x"])
def test_other_addresses_have_no_next_port(live: str) -> None:
    with pytest.raises(ValueError, match=r"[Pp]ort|name the replay"):
        default_replay(live)


# ------------------------------------------------------------------------------------ commands


@contextmanager
def commanded(answer: Callable[[Command], Reply], tmp_path: Path) -> Iterator[str]:
    """A publisher that serves in a thread; yields its replay address."""
    live, replay = (f"tcp://127.0.0.1:{port}" for port in free_ports())
    stop = threading.Event()

    def serve() -> None:
        with ExitStack() as stack:
            journal = stack.enter_context(closing(Journal(tmp_path / "j.sqlite", "rig")))
            ends = Endpoints(live, replay)
            publisher = stack.enter_context(closing(Publisher(journal, ends, answer)))
            while not stop.is_set():
                publisher.serve()
                stop.wait(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield replay
    finally:
        stop.set()
        thread.join()


def test_a_command_is_answered(tmp_path: Path) -> None:
    asked: list[Command] = []

    def answer(request: Command) -> Reply:
        asked.append(request)
        return FlaskAnswer(FlaskRef(id="A", session="s"), request_id=request.request_id)

    request = FlaskOpen(request_id="r", flask=DeclaredFlask(id="A", passage=3))
    with commanded(answer, tmp_path) as replay:
        reply = command(replay, request)
    assert isinstance(reply, FlaskAnswer) and reply.flask and reply.flask.id == "A"
    assert asked == [request]


def test_a_refused_command_says_why(tmp_path: Path) -> None:
    with commanded(lambda r: Error("no flask is open", r.request_id), tmp_path) as replay:
        assert command(replay, FlaskShow()) == Error("no flask is open")


def test_without_a_daemon_nothing_is_recorded() -> None:
    port, _ = free_ports()
    with pytest.raises(UnreachableError, match="not recorded"):
        command(f"tcp://127.0.0.1:{port}", FlaskShow(), wait_s=0.2)
