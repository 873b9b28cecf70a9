"""Whatever a writer does, every file ends in its one right state, and none is read too early."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parfocal.files import FileState, Known, Signature
from parfocal.folder import GIVE_UP_S, LONG_SETTLE_S, SETTLE_S, Claim, FolderSource
from parfocal.journal import Journal
from parfocal.reasons import FileReason
from parfocal.scan import Look, Scan
from parfocal.types import Alarm

END = b"END"
"""A file that ends so is complete."""
STEP_S = 0.25


@dataclass
class Clock:
    """Time that passes when told."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class StillScanner:
    """Looks at the real folder, but only when told."""

    root: Path
    clock: Clock
    looks: list[Scan] = field(default_factory=list)
    looking_at: frozenset[str] = frozenset()
    fault: str | None = None

    def look(self, unseen: frozenset[str] = frozenset(), folders: list[str] | None = None) -> None:
        look = Look(str(self.root))
        look.at(folders or [str(self.root)], recursive=folders is None)
        entries = [] if unseen else look.entries
        where = None if folders is None else frozenset(folders)
        now = self.clock()
        self.looks.append(Scan(entries, where, now, now, look.fault, unseen | look.unseen))

    def take(self) -> Iterator[Scan]:
        looks, self.looks = self.looks, []
        yield from looks

    def keep_looking(self, folders: frozenset[str]) -> None:
        self.looking_at = folders

    def hint(self, folder: str | None) -> None:
        """Looks come anyway."""

    def active(self, folder: str) -> None:
        """Looks come anyway."""

    def close(self) -> None:
        """Nothing is held."""


class Bench:
    """A folder source on a real folder, with a reader that checks for the end of the file."""

    def __init__(self, home: Path) -> None:
        self.home, self.root = home, home / "watched"
        self.root.mkdir()
        self.clock, self.mtime = Clock(), 0
        self.touched_s: dict[str, float] = {}
        self.results: list[tuple[str, str, str | None]] = []
        self.early: list[str] = []
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.home / "journal.sqlite", "rig")
        self.journal.db.execute("PRAGMA synchronous=OFF")  # these tests cut no power
        self.source = FolderSource(self.root, self.journal, lambda: None, False, self.clock)
        self.scanner = StillScanner(self.root, self.clock)
        self.source.scanner = self.scanner  # type: ignore[assignment]

    def close(self) -> None:
        self.source.close()
        self.journal.close()

    # ------------------------------------------------------------------------------ the writer

    def write(self, name: str, data: bytes, mode: str = "wb") -> None:
        path = self.root / name
        if path.is_dir():
            return
        path.parent.mkdir(exist_ok=True)
        with path.open(mode) as file:
            file.write(data)
        self.stamp(path)

    def stamp(self, path: Path) -> None:
        """A time of its own for each change: the kernel's may be the same for two."""
        self.mtime += 1_000_000
        os.utime(path, ns=(self.mtime, self.mtime))
        self.touched_s[str(path)] = self.clock()

    def do(self, action: str, name: str, other: str) -> None:
        path, to = self.root / name, self.root / other
        if action == "appear":
            self.write(name, name.encode() + END)
        elif action == "begin":
            self.write(name, b"half of " + name.encode())
        elif action == "grow" and path.is_file():
            self.write(name, b"more", "ab")
        elif action == "finish" and path.is_file():
            self.write(name, END, "ab")
        elif action == "rewrite" and path.is_file():
            self.write(name, str(self.mtime).encode() + END)
        elif action == "touch" and path.is_file():
            self.stamp(path)
        elif action == "delete" and path.is_file():
            path.unlink()
        elif action == "move" and path.is_file() and path != to:
            path.replace(to)
            self.touched_s[str(to)] = self.clock()
        elif action == "move in":
            outside = self.home / "outside"
            outside.write_bytes(other.encode() + END)
            self.stamp(outside)
            outside.replace(path)
            self.touched_s[str(path)] = self.clock()
        elif action == "link" and path.is_file() and not to.exists():
            os.link(path, to)
            self.touched_s[str(to)] = self.clock()
        elif action == "restart":
            self.close()
            self.open()
        elif action == "long pause":
            for _ in range(30):
                self.step()

    # ------------------------------------------------------------------------------ the daemon

    def step(self, advance_s: float = STEP_S, session: str | None = None) -> None:
        self.clock.now_s += advance_s
        self.scanner.look()
        self.source.update(session)
        while claim := self.source.next():
            still_s = self.clock() - self.touched_s.get(claim.known.path, 0)
            if still_s < SETTLE_S and claim.known.state is not FileState.WAITING:
                self.early.append(claim.known.path)
            self.read(claim)

    def read(self, claim: Claim) -> None:
        path = Path(claim.known.path)
        try:
            data, status = path.read_bytes(), path.stat()
        except FileNotFoundError:
            with self.journal.transaction():
                self.source.refused(claim, FileReason.VANISHED, "gone", False, None)
            return
        sha256 = hashlib.sha256(data).hexdigest()
        with self.journal.transaction():
            self.source.read_as(claim, Signature.of(status))
            if not data.endswith(END):
                self.source.refused(claim, FileReason.INCOMPLETE, "short", True, sha256)
            elif claim.known.seq is not None and claim.known.sha256 == sha256:
                self.source.unchanged(claim)
            else:
                message = self.journal.append("frame", Body(None))
                self.source.done(claim, message.seq, sha256, claim.known.session)
                self.results.append((claim.known.path, sha256, claim.known.session))

    def settle(self) -> None:
        """Let time pass until everything has its state."""
        for _ in range(16):
            self.step()
        for _ in range(30):
            self.step(advance_s=GIVE_UP_S / 10)
        assert self.source.depth == 0
        assert self.source.next_wake_s() is None

    def rows(self) -> list[Known]:
        paths = self.journal.db.execute("SELECT path FROM file ORDER BY id")
        return [self.source.files.at(path) for (path,) in paths]

    def states(self) -> dict[str, tuple[str, str | None]]:
        return {os.path.relpath(k.path, self.root): (k.state.value, k.reason)
                for k in self.rows()}  # fmt: skip


class Body(msgspec.Struct):
    """As much of a frame as the table looks at."""

    flask: dict[str, str] | None


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Bench(tmp_path)) as made:
        yield made


NAMES = ["a.tif", "b.png", "sub/c.tif"]
ACTIONS = ["appear", "begin", "grow", "finish", "rewrite", "touch", "delete", "move", "move in",
           "link", "pause", "pause", "long pause", "restart"]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.sampled_from(NAMES), st.sampled_from(NAMES)),
        max_size=14,
    )
)
def test_every_schedule_ends_with_each_file_in_its_one_right_state(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, str, str]]
) -> None:
    home = tmp_path_factory.mktemp("b")
    with closing(Bench(home)) as bench:
        (bench.root / "sub").mkdir()
        for action, name, other in actions:
            bench.do(action, name, other)
            bench.step()
        bench.settle()
        assert not bench.early
        rows = {known.path: known for known in bench.rows()}
        there = {str(p): p.read_bytes() for p in bench.root.rglob("*") if p.is_file()}
        assert set(there) <= set(rows)
        for path, known in rows.items():
            data = there.get(path)
            sha256 = None if data is None else hashlib.sha256(data).hexdigest()
            scored = [result[1] for result in bench.results if result[0] == path]
            if data is None:
                assert known.state is FileState.DONE or known.reason == "vanished"
            elif data.endswith(END):
                assert (known.state, known.sha256, scored[-1]) == (FileState.DONE, sha256, sha256)
            else:
                assert (known.state, known.reason) == (FileState.QUARANTINED, "incomplete")
            if not {"begin", "grow"} & {action for action, _, _ in actions}:
                assert all(a != b for a, b in pairwise(scored))  # no content twice in a row
    shutil.rmtree(home)


def test_a_growing_file_is_left_alone_until_it_stands_still(bench: Bench) -> None:
    bench.write("a.tif", b"x")
    for _ in range(20):
        bench.step()
        bench.write("a.tif", b"more", "ab")
    assert bench.states() == {"a.tif": ("settling", None)}
    bench.write("a.tif", END, "ab")
    bench.settle()
    assert len(bench.results) == 1


def test_a_scan_that_took_long_does_not_count_as_standing_still(bench: Bench) -> None:
    bench.write("a.tif", b"half" + END)
    bench.scanner.look()
    bench.source.update(None)
    look = Look(str(bench.root))
    look.at([str(bench.root)], recursive=True)  # right after: nothing had time to change
    began_s = bench.clock()
    bench.clock.now_s += 10
    bench.scanner.looks.append(Scan(look.entries, None, began_s, bench.clock()))
    bench.source.update(None)
    assert bench.source.next() is None


def test_a_touch_gives_no_second_result(bench: Bench) -> None:
    bench.do("appear", "a.tif", "")
    bench.settle()
    bench.do("touch", "a.tif", "")
    bench.settle()
    assert bench.states() == {"a.tif": ("done", None)}
    assert len(bench.results) == 1


def test_new_content_under_an_old_name_is_the_next_revision(bench: Bench) -> None:
    bench.do("appear", "a.tif", "")
    bench.settle()
    bench.do("rewrite", "a.tif", "")
    bench.settle()
    (known,) = bench.rows()
    assert (known.revision, known.seq, len(bench.results)) == (2, 2, 2)


def test_a_file_moved_away_and_back_is_scored(bench: Bench) -> None:
    bench.do("appear", "a.tif", "")
    bench.step()
    (bench.root / "a.tif").rename(bench.home / "elsewhere")
    bench.settle()
    assert bench.states() == {"a.tif": ("quarantined", "vanished")}
    (bench.home / "elsewhere").rename(bench.root / "a.tif")  # same inode, same time
    bench.settle()
    assert bench.states() == {"a.tif": ("done", None)}


@pytest.mark.parametrize("restarted", [False, True])
def test_files_that_are_gone_cost_no_memory_and_are_known_when_they_return(
    restarted: bool, bench: Bench
) -> None:
    for name in ("a.tif", "b.tif"):
        bench.do("appear", name, "")
    bench.settle()
    for name in ("a.tif", "b.tif"):
        (bench.root / name).rename(bench.home / name)
    bench.step()
    assert not bench.source._known
    if restarted:
        bench.do("restart", "", "")
    for name in ("a.tif", "b.tif"):
        (bench.home / name).rename(bench.root / name)
    bench.do("rewrite", "b.tif", "")
    bench.settle()
    assert set(bench.states().values()) == {("done", None)}
    assert [known.revision for known in bench.rows()] == [1, 2]
    assert len(bench.results) == 3


def test_what_could_not_be_seen_is_not_forgotten(bench: Bench) -> None:
    bench.do("appear", "a.tif", "")
    bench.settle()
    bench.scanner.look(unseen=frozenset({str(bench.root)}))
    bench.source.update(None)
    assert bench.source._known


def test_another_device_number_after_a_mount_reads_nothing_again(bench: Bench) -> None:
    bench.do("appear", "a.tif", "")
    bench.settle()
    bench.journal.db.execute("UPDATE file SET dev = dev + 1")
    bench.do("restart", "", "")
    bench.step()
    assert bench.source.depth == 0


def test_files_there_at_the_start_have_no_flask_and_later_ones_that_of_the_stage(
    bench: Bench,
) -> None:
    bench.do("appear", "a.tif", "")
    bench.step(session="s")
    bench.do("appear", "b.png", "")
    bench.step(session="s")
    bench.step(session="t")
    sessions = {os.path.basename(k.path): k.session for k in bench.rows()}
    assert sessions == {"a.tif": None, "b.png": "s"}


@pytest.mark.parametrize("unseen", ["", "sub"])
def test_what_could_not_be_seen_has_not_vanished(unseen: str, bench: Bench) -> None:
    bench.do("begin", "sub/c.tif", "")
    bench.step()
    hidden = frozenset({str(bench.root / unseen).rstrip("/")})
    bench.scanner.look(unseen=hidden)
    bench.source.update(None)
    assert bench.states()["sub/c.tif"][0] == "settling"
    bench.scanner.look(unseen=frozenset({str(bench.root / "su")}))
    bench.source.update(None)
    assert bench.states()["sub/c.tif"] == ("quarantined", "vanished")


def test_a_look_at_one_folder_says_nothing_about_others(bench: Bench) -> None:
    bench.do("begin", "sub/c.tif", "")
    bench.step()
    (bench.root / "sub" / "c.tif").unlink()
    bench.scanner.look(folders=[str(bench.root)])
    bench.source.update(None)
    assert bench.states()["sub/c.tif"][0] == "settling"
    bench.scanner.look(folders=[str(bench.root / "sub")])
    bench.source.update(None)
    assert bench.states()["sub/c.tif"] == ("quarantined", "vanished")


def test_what_is_no_file_is_refused_once(bench: Bench) -> None:
    (bench.root / "folder.tif").mkdir()
    (bench.root / "link.tif").symlink_to("/etc/hostname")
    os.mkfifo(bench.root / "pipe.tif")
    bench.step()
    assert set(bench.states().values()) == {("quarantined", "not_a_file")}
    (bench.root / "folder.tif" / "inside.tif").write_bytes(END)
    bench.settle()
    assert bench.states()["folder.tif"] == ("quarantined", "not_a_file")
    assert bench.states()["folder.tif/inside.tif"] == ("done", None)
    (bench.root / "pipe.tif").unlink()
    bench.do("appear", "pipe.tif", "")
    bench.settle()
    assert bench.states()["pipe.tif"] == ("done", None)


def test_a_name_that_is_not_utf_8_is_accounted_for(bench: Bench) -> None:
    (Path(os.fsdecode(os.fsencode(bench.root) + b"/\xff\xfe.tif"))).write_bytes(END)
    folder = Path(os.fsdecode(os.fsencode(bench.root) + b"/d\xe9j\xe0"))
    folder.mkdir()
    (folder / "a.tif").write_bytes(END)
    bench.do("appear", "ü😀\n.tif", "")
    bench.settle()
    states = bench.states()
    assert states["\\xff\\xfe.tif"] == ("quarantined", "unreadable")
    assert states["d\\xe9j\\xe0/a.tif"] == ("quarantined", "unreadable")
    assert states["ü😀\n.tif"] == ("done", None)


def claimed(bench: Bench) -> Claim:
    """The claim of one complete file."""
    bench.do("appear", "a.tif", "")
    for _ in range(4):
        bench.clock.now_s += STEP_S
        bench.scanner.look()
        bench.source.update(None)
    claim = bench.source.next()
    assert claim is not None and bench.source.next() is None
    return claim


def pass_time(bench: Bench, seconds: float) -> None:
    for _ in range(round(seconds / STEP_S)):
        bench.clock.now_s += STEP_S
        bench.scanner.look()
        bench.source.update(None)


def test_a_doubtful_content_is_believed_only_after_a_while(bench: Bench) -> None:
    claim: Claim | None = claimed(bench)
    began_s, tries = bench.clock(), 0
    while claim:
        tries += 1
        assert not claim.settled_long or bench.clock() - began_s >= LONG_SETTLE_S - 1
        with bench.journal.transaction():
            final = bench.source.refused(claim, FileReason.CORRUPT, "?", False, None)
        assert final == (bench.clock() - bench.touched_s[claim.known.path] > LONG_SETTLE_S)
        wait_s = bench.source.next_wake_s()
        if not final:
            assert wait_s is not None
            assert bench.scanner.looking_at or bench.source.next() is None
            pass_time(bench, wait_s + STEP_S)
        claim = bench.source.next()
    assert bench.states() == {"a.tif": ("quarantined", "corrupt")}
    assert 2 <= tries <= 5


def test_content_that_changed_since_the_look_has_not_stood_still(bench: Bench) -> None:
    claim = claimed(bench)
    pass_time(bench, GIVE_UP_S + 1)
    bench.write("a.tif", b"half")
    with bench.journal.transaction():
        bench.source.read_as(claim, Signature.of((bench.root / "a.tif").stat()))
        assert not bench.source.refused(claim, FileReason.INCOMPLETE, "short", True, None)


def test_a_file_that_kills_its_readers_is_given_up(bench: Bench) -> None:
    claim: Claim | None = claimed(bench)
    deaths = 0
    while claim:
        deaths += 1
        with bench.journal.transaction():
            bench.source.crashed(claim, "reader died")
        pass_time(bench, 20)
        claim = bench.source.next()
    assert deaths == 4
    assert bench.states() == {"a.tif": ("quarantined", "resource_limit")}


def test_a_file_waits_through_a_night_without_a_model(bench: Bench) -> None:
    claim: Claim | None = claimed(bench)
    bench.journal.db.execute("UPDATE file SET tries = 5000")
    bench.do("restart", "", "")
    pass_time(bench, 1)
    claim = bench.source.next()
    assert claim is not None and claim.known.tries == 5001
    with bench.journal.transaction():
        bench.source.again(claim, FileReason.INFERENCE_FAILED, "no model")
    assert bench.source.next_wake_s() == 60
    pass_time(bench, 61)
    assert bench.source.next() is not None


def test_a_claimed_file_wakes_nobody(bench: Bench) -> None:
    claim = claimed(bench)
    with bench.journal.transaction():
        bench.source.again(claim, FileReason.INFERENCE_FAILED, "lost")
    assert bench.source.next_wake_s() == 1
    pass_time(bench, 2)
    assert bench.source.next() is not None
    assert bench.source.next_wake_s() is None


def test_after_a_kill_claimed_and_waiting_files_go_on(bench: Bench) -> None:
    claimed(bench)
    bench.do("begin", "b.png", "")
    pass_time(bench, 1)
    claim = bench.source.next()
    assert claim is not None
    with bench.journal.transaction():
        bench.source.refused(claim, FileReason.INCOMPLETE, "short", True, None)
    assert {state for state, _ in bench.states().values()} == {"claimed", "waiting"}
    bench.do("restart", "", "")
    bench.do("finish", "b.png", "")
    bench.settle()
    assert set(bench.states().values()) == {("done", None)}
    assert len(bench.results) == 2


def test_a_rewritten_file_may_crash_readers_afresh(bench: Bench) -> None:
    claim: Claim | None = claimed(bench)
    for _ in range(3):
        assert claim is not None
        with bench.journal.transaction():
            assert not bench.source.crashed(claim, "reader died")
        pass_time(bench, 20)
        claim = bench.source.next()
    assert claim is not None
    with bench.journal.transaction():
        bench.source.again(claim, FileReason.INFERENCE_FAILED, "x")
    bench.do("rewrite", "a.tif", "")
    pass_time(bench, 2)
    claim = bench.source.next()
    assert claim is not None
    with bench.journal.transaction():
        assert not bench.source.crashed(claim, "reader died")


def test_an_alarm_in_the_same_transaction_is_undone_with_it(bench: Bench) -> None:
    claim = claimed(bench)
    alarm = Alarm(name="n", level="info", since_at="2026-01-01T00:00:00Z", text="x")
    with pytest.raises(KeyError), bench.journal.transaction():
        bench.source.given_up(claim, FileReason.CORRUPT, "x")
        bench.journal.append("alarm", alarm)
        raise KeyError
    assert bench.states() == {"a.tif": ("claimed", None)}
    assert bench.journal.head == 0
