"""Looks at the watched tree from a thread of its own, because a dead share blocks whoever asks it.

Knows files only by name and status: it never opens one. Events from watchdog tell it where to look
sooner; the full scan tells the truth.
"""

import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from parfocal.files import Signature
from parfocal.images import IMAGE_SUFFIXES
from parfocal.mounts import is_network, mount_of

IGNORED = (".*", "~*", "*.tmp", "*.part", "*.filepart", "*.crdownload", "Thumbs.db")
"""Names that camera software, browsers and copy tools use for what is not finished."""

FULL_SCAN_S = 15.0
FAULT_SCAN_S = 2.0
"""A tree that cannot be seen is looked for this often."""
UNSETTLED_SCAN_S = 0.25
POLLED_SCAN_S = 1.0
"""A polled tree is looked at this often: all of it while that is quick, else its active folders."""
SCAN_SHARE = 0.05
"""Full scans of a polled tree take at most this share of the time, and one is due in any case
after `FULL_SCAN_S`. A few thousand files on a near disk can be looked at every second."""
ACTIVE_S = 60.0
"""A polled folder counts as active this long after a file in it was new or changed."""
STALL_S = 30.0
"""A look that takes longer is reported: the share is dead, or as good as dead."""
EVENT_DELAY_S = 0.02
"""Events of one burst are looked at together; in a large tree, twice the last scan's time."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name with an image's ending; `regular` is false for folders, links, pipes, devices.

    `named` is false where the name is not UTF-8: neither SQLite nor JSON could hold it, so `path`
    shows it with escapes.
    """

    path: str
    regular: bool
    signature: Signature
    named: bool = True


@dataclass(frozen=True, slots=True)
class Scan:
    """What one look found: in these folders, or everywhere when `folders` is None.

    Every status is from between `began_s` and `at_s`. Nothing is known of what lies below `unseen`.
    """

    entries: list[Entry]
    folders: frozenset[str] | None
    began_s: float
    at_s: float
    fault: str | None = None
    unseen: frozenset[str] = frozenset()

    def covers(self, path: str) -> bool:
        """Whether a file would have been found if it were there."""
        if self.folders is not None and os.path.dirname(path) not in self.folders:
            return False
        return not any(path.startswith(f"{folder}/") for folder in self.unseen)


def is_candidate(name: str) -> bool:
    """Whether a file of this name is one to look at."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not any(
        fnmatch(name, pattern) for pattern in IGNORED
    )


def shown(path: str) -> str:
    """The path in valid Unicode: bytes that are not UTF-8 as escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")


def listed(folder: str) -> tuple[list[Entry], list[str]]:
    """Candidates in a folder, and the folders right below it.

    Raises
    ------
    OSError
        The folder cannot be listed.
    """
    entries, below = [], []
    with os.scandir(folder) as found:
        for item in found:
            try:
                status = item.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(status.st_mode) and not item.name.startswith("."):
                below.append(item.path)
            if is_candidate(item.name):
                regular, path = stat.S_ISREG(status.st_mode), shown(item.path)
                # what is not a file has one verdict for ever, whatever happens inside it
                seen = Signature.of(status) if regular else Signature(0, 0, 0, 0)
                entries.append(Entry(path, regular, seen, named=path == item.path))
    return entries, below


@dataclass
class Look:
    """What a look at some folders finds, step by step."""

    root: str
    entries: list[Entry] = field(default_factory=list)
    unseen: set[str] = field(default_factory=set)
    fault: str | None = None

    def at(self, folders: list[str], recursive: bool) -> None:
        """Look at folders, and below them; one that cannot be listed hides only itself.

        A folder that is gone has no files. One that this user may not enter is passed over.
        """
        left = folders[::-1]
        while left:
            folder = left.pop()
            try:
                entries, below = listed(folder)
            except OSError as error:
                self._missed(folder, error)
                continue
            self.entries += entries
            if recursive:
                left += below[::-1]

    def _missed(self, folder: str, error: OSError) -> None:
        top = folder == self.root
        gone = isinstance(error, FileNotFoundError | NotADirectoryError)
        if not gone or top:
            self.unseen.add(shown(folder))
        if gone and top:
            self.fault = f"the watched folder {shown(folder)} is not there"
        elif not gone and (top or not isinstance(error, PermissionError)):
            self.fault = f"{shown(folder)} cannot be listed: {error.strerror}"


class _Hints(FileSystemEventHandler):
    """Turns events into folders worth a look."""

    def __init__(self, hint: Callable[[str | None], None]) -> None:
        self._hint = hint

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Any event: look at its folder; at a folder's own event, look everywhere."""
        if event.event_type in ("opened", "closed_no_write"):
            return  # our own reading
        if event.is_directory:
            if event.event_type != "modified":
                self._hint(None)
            return
        for path in map(os.fsdecode, (event.src_path, event.dest_path)):
            if is_candidate(os.path.basename(path)):
                self._hint(os.path.dirname(path))


@dataclass
class _Wanted:
    """Folders to look at; `everywhere` overrides them."""

    folders: set[str] = field(default_factory=set)
    everywhere: bool = True


class Scanner:
    """Scans in the background and hands over what it found.

    Parameters
    ----------
    root : Path
        The tree to watch.
    wake : callable
        Called from the scanner's thread when there is something to `take`.
    polled : bool or None
        None: decide by the file system (network shares are polled, as they send no events).
    """

    def __init__(self, root: Path, wake: Callable[[], None], polled: bool | None = None) -> None:
        self.root, self._wake = str(root), wake
        self.mount = mount_of(root)
        self._told_polled = polled
        self.polled = is_network(self.mount) if polled is None else polled
        self._fault: str | None = None
        self._looking_s: float | None = None
        self._found: queue.SimpleQueue[Scan] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._wanted = _Wanted()
        self._unsettled: frozenset[str] = frozenset()
        self._active: dict[str, float] = {}
        self._scan_s = self._full_scan_s = 0.0
        self._stop = threading.Event()
        self._nudge = threading.Event()
        self._observer: BaseObserver | None = None
        self._watched: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._run, name="parfocal-scan", daemon=True)

    def start(self) -> None:
        """Begin with a full scan."""
        self._thread.start()

    @property
    def fault(self) -> str | None:
        """Why the tree cannot be seen right now; None when it can."""
        since_s = self._looking_s
        if since_s is not None and (waited_s := time.monotonic() - since_s) > STALL_S:
            return f"the watched folder {shown(self.root)} has not answered for {waited_s:.0f} s"
        return self._fault

    def take(self) -> Iterator[Scan]:
        """Scans finished since the last call.

        Raises
        ------
        RuntimeError
            The scanner's thread died, which only a fault in parfocal can cause.
        """
        if self._thread.ident and not self._thread.is_alive() and not self._stop.is_set():
            raise RuntimeError("the scanner's thread died: see the log")
        while True:
            try:
                yield self._found.get_nowait()
            except queue.Empty:
                return

    def keep_looking(self, folders: frozenset[str]) -> None:
        """Folders that hold files which have not settled; the empty set when there are none."""
        if folders != self._unsettled:
            self._unsettled = folders
            self._nudge.set()

    def active(self, folder: str) -> None:
        """A file in this folder was new or changed."""
        with self._lock:
            self._active[folder] = time.monotonic() + ACTIVE_S

    def hint(self, folder: str | None) -> None:
        """Look at a folder soon; None: everywhere."""
        with self._lock:
            if folder is None:
                self._wanted.everywhere = True
            else:
                self._wanted.folders.add(folder)
        self._nudge.set()

    def _run(self) -> None:
        next_full = 0.0
        while not self._stop.is_set():
            now = time.monotonic()
            if due := now >= next_full:
                self.hint(None)
            self._nudge.clear()
            self._look()
            if due:
                next_full = now + self._full_every_s()
            if self.fault:
                next_full = min(next_full, time.monotonic() + FAULT_SCAN_S)
            self._nudge.wait(min(self._pause_s(), max(0.0, next_full - time.monotonic())))
            self._stop.wait(max(EVENT_DELAY_S, 2 * self._scan_s))
        self._stop_observer()  # one that started only after `close` had given up waiting

    def _full_every_s(self) -> float:
        """From the begin of a full scan to the next; events are trusted to tell sooner."""
        if not self.polled:
            return FULL_SCAN_S
        return min(FULL_SCAN_S, max(POLLED_SCAN_S, self._full_scan_s / SCAN_SHARE))

    def _pause_s(self) -> float:
        if self._unsettled:
            return UNSETTLED_SCAN_S
        return POLLED_SCAN_S if self.polled and self._active else FULL_SCAN_S

    def _look(self) -> None:
        now = time.monotonic()
        with self._lock:
            wanted, self._wanted = self._wanted, _Wanted(everywhere=False)
            self._active = {f: until for f, until in self._active.items() if until > now}
            active = set(self._active)
        folders = wanted.folders | self._unsettled | (active if self.polled else set())
        if wanted.everywhere:
            self._hand_over(None)
        elif folders:
            self._hand_over(frozenset(folders))

    def _hand_over(self, folders: frozenset[str] | None) -> None:
        began_s = self._looking_s = time.monotonic()
        deaf = self._watch_root() if folders is None else None
        look = Look(self.root, fault=deaf)
        look.at([self.root] if folders is None else sorted(folders), recursive=folders is None)
        now = time.monotonic()
        self._scan_s, self._looking_s = now - began_s, None
        if folders is None:
            self._full_scan_s = self._scan_s
        if folders is None or look.fault:
            self._fault = look.fault
        if self._stop.is_set():
            return  # whoever would be woken may be gone
        unseen = frozenset(look.unseen)
        self._found.put(Scan(look.entries, folders, began_s, now, look.fault, unseen))
        self._wake()

    def _watch_root(self) -> str | None:
        """(Re)attach watchdog when the root appeared or was replaced, as by a mount."""
        try:
            status = os.stat(self.root)
        except OSError:
            self._watched = None  # the look itself says why
            return None
        identity = (status.st_dev, status.st_ino)
        if self._watched == identity and (self.polled or self._hears()):
            return None
        self._stop_observer()
        self._watched, self.mount = identity, mount_of(Path(self.root))
        self.polled = is_network(self.mount) if self._told_polled is None else self._told_polled
        return None if self.polled else self._start_observer()

    def _hears(self) -> bool:
        """Whether watchdog still follows the root; it stops when the root is deleted."""
        observer = self._observer
        return observer is not None and all(e.is_alive() for e in observer.emitters)

    def _start_observer(self) -> str | None:
        self._observer = Observer()
        try:
            self._observer.schedule(_Hints(self.hint), self.root, recursive=True)
            self._observer.start()
        except OSError as error:  # for example the limit of inotify watches
            self._stop_observer()
            self.polled = True
            return f"no file events ({error.strerror}); polling every {POLLED_SCAN_S:g} s instead"
        return None

    def close(self) -> None:
        """Stop; a thread that hangs in a dead share is left to the process's end."""
        self._stop.set()
        self._nudge.set()
        if self._thread.ident is not None:
            self._thread.join(2.0)
        self._stop_observer()

    def _stop_observer(self) -> None:
        observer, self._observer = self._observer, None
        if observer is None:
            return
        observer.stop()  # even one that never started holds a thread
        if observer.is_alive():
            observer.join(2.0)
