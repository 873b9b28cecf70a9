"""The scanner finds every image file in a real tree, told by the kernel or not."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rigs import until

from parfocal import scan
from parfocal.mounts import Mount
from parfocal.scan import Entry, Look, Scanner, is_candidate, shown


@pytest.mark.parametrize(
    ("name", "candidate"),
    [
        ("a.tif", True), ("a.TIFF", True), ("a.bmp", True), ("a.png", True), ("a.JPG", True),
        ("a b ü.jpeg", True), ("a.tif.toml", False), ("a.txt", False), ("tif", False),
        (".a.tif", False), ("._a.tif", False), ("~a.tif", False), ("a.tif.part", False),
        ("a.tif.tmp", False), ("a.crdownload", False), ("Thumbs.db", False), ("", False),
        (os.fsdecode(b"\xff.tif"), True),
    ],
)  # fmt: skip
def test_names_of_images_are_candidates(name: str, candidate: bool) -> None:
    assert is_candidate(name) is candidate


def look(root: Path) -> Look:
    found = Look(str(root))
    found.at([str(root)], recursive=True)
    return found


def names(entries: list[Entry], root: Path) -> set[str]:
    return {os.path.relpath(entry.path, root) for entry in entries}


def test_a_look_finds_files_at_any_depth_but_not_behind_links(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "a", deep, tmp_path / ".hidden"):
        (folder / "x.tif").write_bytes(b"x")
    found = look(tmp_path)
    assert names(found.entries, tmp_path) == {"x.tif", "a/x.tif", "a/b/c/x.tif"}
    assert (found.fault, found.unseen) == (None, set())


def test_a_tree_deeper_than_python_recurses_is_walked(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1010):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "x.tif").write_bytes(b"x")
    try:
        assert names(look(tmp_path).entries, tmp_path) == {"e/x.tif"}
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # Python's rmtree recurses


def test_a_folder_that_fails_hides_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("bad", "gone", "good", "locked"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.tif").write_bytes(b"x")
    real = os.scandir
    errors = {"bad": OSError(5, "Input/output error"), "gone": FileNotFoundError(2, "gone"),
              "locked": PermissionError(13, "Permission denied")}  # fmt: skip

    def failing(path: str) -> object:
        if os.path.basename(path) in errors:
            raise errors[os.path.basename(path)]
        return real(path)

    monkeypatch.setattr("parfocal.scan.os.scandir", failing)
    found = look(tmp_path)
    assert names(found.entries, tmp_path) == {"good/x.tif"}
    assert found.fault == f"{tmp_path}/bad cannot be listed: Input/output error"
    assert found.unseen == {f"{tmp_path}/bad", f"{tmp_path}/locked"}
    again = Look(str(tmp_path))
    again.at([f"{tmp_path}/bad", f"{tmp_path}/gone"], recursive=False)
    assert again.fault is not None  # what is gone does not excuse what is bad


def test_a_root_that_is_not_there_is_told(tmp_path: Path) -> None:
    found = look(tmp_path / "none")
    assert found.fault == f"the watched folder {tmp_path}/none is not there"
    assert found.unseen == {f"{tmp_path}/none"}


def test_a_name_that_is_not_utf_8_is_shown_with_escapes(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.tif"))).write_bytes(b"x")
    (tmp_path / "ü.tif").write_bytes(b"x")
    named = {os.path.basename(e.path): e.named for e in look(tmp_path).entries}
    assert named == {"a\\xff.tif": False, "ü.tif": True}
    assert shown("/ü") == "/ü"


class Eyes:
    """A running scanner, and the names it has seen."""

    def __init__(self, root: Path, polled: bool | None = None) -> None:
        self.woken = threading.Event()
        self.scanner = Scanner(root, self.woken.set, polled)
        self.seen: set[str] = set()
        self.full = 0

    def sees(self, name: str) -> bool:
        for found in self.scanner.take():
            self.seen |= {os.path.basename(entry.path) for entry in found.entries}
            self.full += found.folders is None
        return name in self.seen


@pytest.fixture
def eyes(tmp_path: Path) -> Iterator[Callable[..., Eyes]]:
    """Starts scanners and stops them."""
    started: list[Eyes] = []

    def start(root: Path | None = None, polled: bool | None = None) -> Eyes:
        started.append(Eyes(root or tmp_path, polled))
        started[-1].scanner.start()
        return started[-1]

    yield start
    for one in started:
        one.scanner.close()


@pytest.fixture
def rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full scans only at the start, so that events alone must do, or looks at some folders."""
    monkeypatch.setattr(scan, "FULL_SCAN_S", 1000.0)
    monkeypatch.setattr(scan, "SCAN_SHARE", 1e-9)


def wait(eyes: Eyes, name: str) -> None:
    until(lambda: eyes.sees(name), 8, name)


def begin(eyes: Eyes, root: Path) -> None:
    (root / "first.tif").write_bytes(b"x")
    eyes.scanner.hint(None)
    wait(eyes, "first.tif")


@pytest.mark.usefixtures("rarely")
@pytest.mark.parametrize("way", ["write", "rename", "link", "new folder", "moved folder", "append"])
def test_an_event_brings_a_look(way: str, eyes: Callable[..., Eyes], tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.tif").write_bytes(b"x")
    watching = eyes(root)
    begin(watching, root)
    if way == "write":
        (root / "x.tif").write_bytes(b"x")
    elif way == "rename":
        (outside / "x.tif").rename(root / "x.tif")
    elif way == "link":
        os.link(outside / "x.tif", root / "x.tif")
    elif way == "new folder":
        (root / "sub").mkdir()
        (root / "sub" / "x.tif").write_bytes(b"x")
    elif way == "moved folder":
        outside.rename(root / "sub")
    elif way == "append":
        (root / "x.tif.part").write_bytes(b"x")
        (root / "x.tif.part").rename(root / "x.tif")
    wait(watching, "x.tif")
    assert watching.woken.is_set()


@pytest.mark.usefixtures("rarely")
def test_a_burst_is_found_whole(eyes: Callable[..., Eyes], tmp_path: Path) -> None:
    watching = eyes()
    begin(watching, tmp_path)
    for n in range(2000):
        (tmp_path / f"{n}.tif").touch()
    until(lambda: watching.sees("1999.tif") and len(watching.seen) == 2001, 8, "all of them")


@pytest.mark.usefixtures("rarely")
def test_unsettled_folders_are_looked_at_again(eyes: Callable[..., Eyes], tmp_path: Path) -> None:
    watching = eyes(polled=True)
    begin(watching, tmp_path)
    watching.scanner.keep_looking(frozenset({str(tmp_path)}))
    (tmp_path / "x.tif").write_bytes(b"x")
    wait(watching, "x.tif")


@pytest.mark.usefixtures("rarely")
def test_an_active_folder_of_a_share_is_polled(eyes: Callable[..., Eyes], tmp_path: Path) -> None:
    watching = eyes(polled=True)
    watching.scanner.active(str(tmp_path))
    begin(watching, tmp_path)
    (tmp_path / "x.tif").write_bytes(b"x")
    wait(watching, "x.tif")


@pytest.mark.parametrize("where", [".", "new", "idle"])
def test_a_share_of_few_files_is_polled_whole_also_after_a_pause(
    where: str, eyes: Callable[..., Eyes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "FULL_SCAN_S", 1000.0)
    (tmp_path / "idle").mkdir()
    watching = eyes(polled=True)
    begin(watching, tmp_path)
    (tmp_path / where).mkdir(exist_ok=True)
    (tmp_path / where / "x.tif").write_bytes(b"x")
    wait(watching, "x.tif")


def test_full_scans_of_a_slow_share_are_rare(
    eyes: Callable[..., Eyes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = scan.listed

    def slow(path: str) -> object:
        time.sleep(0.05)
        return real(path)

    monkeypatch.setattr(scan, "listed", slow)
    monkeypatch.setattr(scan, "POLLED_SCAN_S", 0.05)
    monkeypatch.setattr(scan, "SCAN_SHARE", 0.001)
    watching = eyes(polled=True)
    watching.scanner.active(str(tmp_path))
    until(lambda: watching.sees("") or watching.full, 8, "the first scan")
    time.sleep(0.6)  # looks at the folder go on, and the next at everything is due in 50 s
    (tmp_path / "x.tif").write_bytes(b"x")
    wait(watching, "x.tif")
    assert watching.full == 1  # it was found by a look at its folder


def test_the_full_scan_needs_no_events(
    eyes: Callable[..., Eyes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "FULL_SCAN_S", 0.2)
    watching = eyes(polled=True)
    begin(watching, tmp_path)
    (tmp_path / "x.tif").write_bytes(b"x")
    wait(watching, "x.tif")


def test_a_root_that_comes_later_or_comes_back_is_watched(
    eyes: Callable[..., Eyes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "FULL_SCAN_S", 0.2)
    root = tmp_path / "root"
    watching = eyes(root)
    until(lambda: watching.scanner.fault, 5, "a fault")
    for name in ("first.tif", "second.tif"):
        root.mkdir()
        (root / name).write_bytes(b"x")
        wait(watching, name)
        until(lambda: watching.scanner.fault is None, 5, "no fault")
        (root / name).unlink()
        root.rmdir()
        until(lambda: watching.scanner.fault, 5, "a fault again")
    root.mkdir()
    until(lambda: watching.scanner.fault is None, 5, "no fault")
    until(watching.scanner._hears, 5, "events")
    monkeypatch.setattr(scan, "FULL_SCAN_S", 1000.0)
    time.sleep(0.3)  # the last of the frequent looks
    watching.sees("")
    full = watching.full
    (root / "third.tif").write_bytes(b"x")
    wait(watching, "third.tif")
    assert watching.full == full  # found by its event


def test_a_share_mounted_after_the_start_is_polled(
    eyes: Callable[..., Eyes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "FULL_SCAN_S", 0.1)
    (tmp_path / "point").mkdir()
    watching = eyes(tmp_path / "point")
    begin(watching, tmp_path / "point")
    assert not watching.scanner.polled
    monkeypatch.setattr(scan, "mount_of", lambda _: Mount("/point", "cifs"))
    (tmp_path / "point").rename(tmp_path / "old")
    (tmp_path / "point").mkdir()  # another identity, as a mount gives
    until(lambda: watching.scanner.polled, 5, "polling")
    (tmp_path / "point" / "x.tif").write_bytes(b"x")
    wait(watching, "x.tif")


def test_without_event_watches_it_polls_and_says_so(
    eyes: Callable[..., Eyes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def schedule(*_: object, **__: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr("watchdog.observers.inotify.InotifyObserver.schedule", schedule)
    watching = eyes()
    until(lambda: watching.scanner.fault, 5, "a fault")
    assert "inotify watch limit reached" in str(watching.scanner.fault)
    assert watching.scanner.polled


def test_a_share_that_does_not_answer_is_told(
    eyes: Callable[..., Eyes], monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    real = scan.listed

    def hanging(path: str) -> object:
        released.wait(20)
        return real(path)

    monkeypatch.setattr(scan, "listed", hanging)
    monkeypatch.setattr(scan, "STALL_S", 0.1)
    watching = eyes()
    try:
        until(lambda: watching.scanner.fault, 5, "a fault")
        assert "has not answered for" in str(watching.scanner.fault)
    finally:
        released.set()
    until(lambda: watching.scanner.fault is None, 5, "no fault")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_scanner_that_died_is_not_taken_for_an_empty_folder(
    eyes: Callable[..., Eyes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(scan, "listed", broken)
    watching = eyes()
    watching.scanner._thread.join(5)
    with pytest.raises(RuntimeError, match="thread died"):
        list(watching.scanner.take())


def test_nobody_is_woken_after_the_end(
    eyes: Callable[..., Eyes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, released = threading.Event(), threading.Event()
    real = scan.listed

    def hanging(path: str) -> object:
        entered.set()
        released.wait(20)
        return real(path)

    monkeypatch.setattr(scan, "listed", hanging)
    watching = eyes()
    assert entered.wait(5)
    watching.scanner.close()  # waits 2 s for a thread that hangs, then leaves it
    released.set()
    watching.scanner._thread.join(5)
    assert not watching.woken.is_set()
