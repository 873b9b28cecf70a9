"""Nothing that was committed is lost, nothing that failed is seen, and every range is served."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parfocal.journal import (
    MIGRATIONS,
    AlreadyRunningError,
    Journal,
    JournalError,
    Topic,
    encode_finite,
    iso,
    lock,
)
from parfocal.mounts import Mount
from parfocal.types import Alarm, Header


def alarm(text: str = "x") -> Alarm:
    return Alarm(name="n", level="info", since_at="2026-01-01T00:00:00Z", text=text)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.sqlite", "rig")) as made:
        yield made


def append(journal: Journal, kind: Topic = "alarm", text: str = "x") -> int:
    with journal.transaction():
        return journal.append(kind, alarm(text)).seq


KINDS: tuple[Topic, ...] = ("frame", "flask", "alarm")
APPENDS = st.lists(st.tuples(st.sampled_from(KINDS), st.text(max_size=5), st.booleans()))
PREFIXES = st.lists(
    st.sampled_from(["", "frame/", "frame/rig/", "fla", "alarm/rig/", "alarm/rig2/", "nö", "%"]),
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(
    APPENDS,
    st.lists(st.tuples(st.integers(-2, 30), PREFIXES, st.integers(1, 12)), min_size=1, max_size=5),
)
def test_any_range_of_any_topics_gives_exactly_its_messages(
    tmp_path_factory: pytest.TempPathFactory,
    appends: list[tuple[Topic, str, bool]],
    asked: list[tuple[int, list[str], int]],
) -> None:
    path = tmp_path_factory.mktemp("j") / "journal.sqlite"
    expected: list[tuple[int, str, bytes]] = []
    with closing(Journal(path, "rig")) as journal:
        for kind, text, committed in appends:
            try:
                with journal.transaction():
                    stored = journal.append(kind, alarm(text), text.encode() or None)
                    if not committed:
                        raise InterruptedError
            except InterruptedError:
                continue
            expected.append((stored.seq, stored.topic, stored.body))
    with closing(Journal(path, "rig")) as journal:  # as after a restart
        assert [seq for seq, _, _ in expected] == list(range(1, journal.head + 1))
        for start, topics, limit in asked:
            found = [(m.seq, m.topic, m.body) for m in journal.messages(start, topics, limit)]
            wanted = [
                row for row in expected
                if row[0] >= start and (not topics or row[1].startswith(tuple(topics)))
            ]  # fmt: skip
            assert found == wanted[:limit]
        counts = {f"{kind}/rig/": 0 for kind in KINDS}
        for message in journal.messages(0, [], 10_000):
            header = msgspec.json.decode(message.header, type=Header)
            counts[message.topic] += 1
            assert (header.seq, header.tseq) == (message.seq, counts[message.topic])
        assert journal.topic_heads() == {topic: n for topic, n in counts.items() if n}


def test_a_failed_block_leaves_nothing_and_the_next_one_works(journal: Journal) -> None:
    with pytest.raises(KeyError), journal.transaction():
        journal.append("alarm", alarm())
        raise KeyError
    assert journal.head == 0
    assert append(journal) == 1


def test_a_full_disk_raises_and_the_journal_goes_on_when_there_is_room(journal: Journal) -> None:
    append(journal)
    (pages,) = journal.db.execute("PRAGMA page_count").fetchone()
    journal.db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        append(journal, text="x" * 100_000)
    assert journal.head == 1
    journal.db.execute("PRAGMA max_page_count = 1000000")
    assert append(journal, text="x" * 100_000) == 2
    assert journal.check() == []


def test_a_commit_that_fails_is_undone(journal: Journal) -> None:
    journal.db.execute("CREATE TABLE a (id INTEGER PRIMARY KEY)")
    journal.db.execute("CREATE TABLE b (a REFERENCES a DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(sqlite3.IntegrityError), journal.transaction():
        journal.append("alarm", alarm())
        journal.db.execute("INSERT INTO b VALUES (7)")
    assert journal.head == 0
    assert append(journal) == 1


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_cannot_carry_is_refused_and_placed(
    number: float, journal: Journal
) -> None:
    class Body(msgspec.Struct):
        cells: list[dict[str, float]]

    with pytest.raises(ValueError, match=r"body\.cells\[1\]\.x is (nan|-?inf)"), \
            journal.transaction():  # fmt: skip
        journal.append("alarm", Body([{"x": 1.0}, {"x": number}]))
    assert journal.head == 0
    assert encode_finite(Body([{"x": 1e308}])) == b'{"cells":[{"x":1e308}]}'


def test_it_is_written_so_that_a_power_cut_loses_nothing(journal: Journal) -> None:
    assert journal.db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert journal.db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_the_log_keeps_its_id_and_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    ids = set()
    for n in (1, 2, 3):
        with closing(Journal(path, "rig")) as journal:
            assert append(journal) == n
            ids.add(journal.log_id)
    assert len(ids) == 1
    with closing(Journal(tmp_path / "other.sqlite", "rig")) as other:
        assert other.log_id not in ids


def test_a_newer_layout_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path, "rig")) as journal:
        append(journal)
        journal.db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(JournalError, match="newer parfocal"):
        Journal(path, "rig")
    assert [p.name for p in tmp_path.iterdir()] == ["journal.sqlite"]  # closed: no -wal, no -shm
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
        assert db.execute("SELECT count(*) FROM message").fetchone() == (1,)


@pytest.mark.parametrize("make", ["garbage", "folder"])
def test_what_is_no_database_is_refused(make: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"no database" * 100) if make == "garbage" else path.mkdir()
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(path, "rig")


def test_committed_messages_survive_kills_at_any_moment(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from test_journal import Journal, Path, append\n"
        "journal = Journal(Path(sys.argv[1]), 'rig')\n"
        "while True: print(append(journal), flush=True)\n"
    )
    path, acknowledged = tmp_path / "journal.sqlite", 0
    for n in (1, 25, 60):
        command = [sys.executable, "-c", script, str(path), os.path.dirname(__file__)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(n):
                acknowledged = int(process.stdout.readline())
            process.kill()
        with closing(Journal(path, "rig")) as journal:
            seqs = [m.seq for m in journal.messages(1, [], 100_000)]
            assert seqs == list(range(1, journal.head + 1))
            assert journal.head >= acknowledged
            assert journal.check() == []


def test_a_second_daemon_is_told_who_runs(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    fd = lock(state)
    with pytest.raises(AlreadyRunningError, match=f"process {os.getpid()}"):
        lock(state)
    os.close(fd)
    os.close(lock(state))


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from parfocal.journal import lock\n"
        "lock(Path(sys.argv[1])); print('locked', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"locked\n"
        with pytest.raises(AlreadyRunningError, match=f"process {other.pid}"):
            lock(tmp_path)
        other.kill()
    os.close(lock(tmp_path))


def test_a_state_folder_on_a_share_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parfocal.journal.mount_of", lambda _: Mount("/srv", "cifs"))
    with pytest.raises(JournalError, match=r"network mount \(cifs\)"):
        lock(tmp_path)


def test_a_state_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be written"):
        lock(tmp_path / "file" / "state")


def test_times_are_utc_with_milliseconds() -> None:
    moment = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert iso(moment) == "2026-01-01T10:00:00.000+00:00"


def test_a_header_names_its_message_for_ever(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with closing(Journal(tmp_path / "j.sqlite", "rig", lambda: now)) as journal:
        with journal.transaction():
            message = journal.append("alarm", alarm(), b"jpeg")
        header: dict[str, Any] = json.loads(message.header)
    assert header["schema"] == "parfocal.alarm/1"
    assert (header["rig"], header["log"]) == ("rig", journal.log_id)
    assert header["published_at"] == "2026-01-01T00:00:00.000+00:00"
    topic, _, body, blob = message.parts()
    assert (topic, body, blob) == (b"alarm/rig/", message.body, b"jpeg")


def test_a_command_is_remembered_by_its_id(journal: Journal) -> None:
    assert journal.answered("a") is None
    with journal.transaction():
        journal.remember_answer("a", b"done")
    assert journal.answered("a") == b"done"
