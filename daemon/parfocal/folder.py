"""FolderSource: every image file of a tree, once it is complete, once a content, in order.

The scan is the truth and events are a hint. A file is claimed when its size and time stood still
between two looks; whether it is really complete, the reader tells from its declared bytes, and an
incomplete one is tried again with growing pauses. All states live in the journal, so a restart
goes on where the last process died.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from parfocal.files import FileState, FileTable, Known, Signature
from parfocal.journal import Journal
from parfocal.reasons import SENTENCES, FileReason
from parfocal.scan import Entry, Scan, Scanner

SETTLE_S = 0.5
"""Unchanged this long, a file is offered to the reader, which checks the declared bytes."""
LONG_SETTLE_S = 5.0
"""Unchanged this long, a file that ends in zeros, or that looks like no image, is believed."""
GIVE_UP_S = 600.0
"""An incomplete file unchanged for this long is quarantined; if it changes, it starts again."""
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Between the tries of one file; the last one repeats."""
MAX_CRASHES = 4
"""A file over which this many readers died is quarantined; one death may be another's doing."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A file whose turn has come. `settled_long`: it stood still for `LONG_SETTLE_S`.

    `live` false: it was there when the service started, so nobody knows which flask was there then.
    """

    known: Known
    settled_long: bool
    live: bool = True


@dataclass(slots=True)
class _Pending:
    """A file not finished yet: since when it looks the same, and until when for certain."""

    known: Known
    since_s: float
    seen_s: float
    live: bool = True


class FolderSource:
    """Yields claims, and takes back what became of them.

    Parameters
    ----------
    root : Path
    journal : Journal
    wake : callable
        Called from another thread when `update` has something to do.
    polled : bool or None
        None: decide by the file system.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        root: Path,
        journal: Journal,
        wake: Callable[[], None],
        polled: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root, self.journal, self.clock = root.absolute(), journal, clock
        self.files = FileTable(journal)
        self.scanner = Scanner(self.root, wake, polled)
        self._known: dict[str, Known] = {}  # rows of what is in the tree; the journal has all
        self._pending: dict[str, _Pending] = {}
        self._retry_s: dict[str, float] = {}
        self._crashes: dict[str, int] = {}
        self._first_scan_done = False
        self._recover()

    def _recover(self) -> None:
        """After a restart every unfinished file settles again; none is lost, none counted twice.

        So does one that was refused for something that a person may have mended meanwhile.
        """
        with self.journal.transaction():
            for known in self.files.unfinished(MENDABLE):
                if known.state in (FileState.CLAIMED, FileState.QUARANTINED):
                    known = self.files.settle(known)
                self._keep(known)
                self._pending[known.path] = _Pending(known, self.clock(), self.clock())

    def start(self) -> None:
        """Begin scanning."""
        self.scanner.start()

    @property
    def fault(self) -> str | None:
        """Why the tree cannot be seen right now; None when it can."""
        return self.scanner.fault

    @property
    def depth(self) -> int:
        """Files waiting for their turn."""
        return len(self._pending)

    def update(self, session: str | None) -> None:
        """Take in what the scanner found; new files belong to the flask session open now."""
        scans = list(self.scanner.take())
        for scan in scans:
            with self.journal.transaction():
                self._absorb(scan, session if self._first_scan_done else None)
            self._first_scan_done |= scan.folders is None and scan.covers(str(self.root / "any"))
        if scans:
            self._tell_scanner()

    def _absorb(self, scan: Scan, session: str | None) -> None:
        for entry in sorted(scan.entries, key=lambda entry: entry.path):  # a burst, by name
            self._seen(entry, scan, session)
        present = {entry.path for entry in scan.entries}
        for path in [p for p in self._pending if p not in present and scan.covers(p)]:
            self._vanished(path)
        if scan.folders is None and len(self._known) > len(present):
            self._forget(scan, present)

    def _forget(self, scan: Scan, present: set[str]) -> None:
        """Let go of finished files that are gone: a camera's are deleted for ever, in the end."""
        for path in [p for p in self._known if p not in present and p not in self._pending]:
            if scan.covers(path):
                del self._known[path]

    def _seen(self, entry: Entry, scan: Scan, session: str | None) -> None:
        known = self._known.get(entry.path) or self._recalled(entry.path)
        back = known is not None and known.reason == FileReason.VANISHED
        if known is not None and known.signature == entry.signature and not back:
            pending = self._pending.get(entry.path)
            if pending is not None:
                pending.seen_s = max(pending.seen_s, scan.began_s)
            return
        if known is None:
            known = self.files.add(entry.path, entry.signature, session)
        elif known.state is FileState.CLAIMED:
            return  # the reader says which content it read; the next scan compares with that
        else:
            known = self.files.changed(known, entry.signature, session)
        self._keep(known)
        self.scanner.active(os.path.dirname(entry.path))
        self._retry_s.pop(entry.path, None)
        self._crashes.pop(entry.path, None)
        if not entry.regular:
            self._refuse(known, FileReason.NOT_A_FILE, SENTENCES[FileReason.NOT_A_FILE])
        elif not entry.named:
            self._refuse(known, FileReason.UNREADABLE, NOT_UTF8)
        else:
            live = self._first_scan_done
            self._pending[entry.path] = _Pending(known, scan.at_s, scan.at_s, live)

    def _recalled(self, path: str) -> Known | None:
        known = self.files.find(path)
        return known and self._keep(known)

    def _vanished(self, path: str) -> None:
        known = self._pending[path].known
        if known.state is not FileState.CLAIMED:
            self._refuse(known, FileReason.VANISHED, SENTENCES[FileReason.VANISHED])

    def _tell_scanner(self) -> None:
        enough_s = {FileState.SETTLING: SETTLE_S, FileState.WAITING: LONG_SETTLE_S}
        unsettled = {
            os.path.dirname(p.known.path)
            for p in self._pending.values()
            if p.seen_s - p.since_s < enough_s.get(p.known.state, 0.0)
        }
        self.scanner.keep_looking(frozenset(unsettled))

    def next(self) -> Claim | None:
        """The first file, in the order they were seen, whose turn has come."""
        now = self.clock()
        for pending in self._pending.values():
            known = pending.known
            if known.state is FileState.CLAIMED or now < self._retry_s.get(known.path, 0.0):
                continue
            if pending.seen_s - pending.since_s >= SETTLE_S or known.state is FileState.WAITING:
                with self.journal.transaction():
                    pending.known = self._keep(self.files.claim(known))
                self._retry_s.pop(known.path, None)
                still_s = pending.seen_s - pending.since_s
                return Claim(pending.known, still_s >= LONG_SETTLE_S, pending.live)
        return None

    def next_wake_s(self) -> float | None:
        """Seconds until a waiting file's next try; None when none waits."""
        now = self.clock()
        return min((max(0.0, at - now) for at in self._retry_s.values()), default=None)

    # ---------------------------------------------------- what became of a claim (in transactions)

    def read_as(self, claim: Claim, signature: Signature) -> None:
        """The reader read this content."""
        if signature != claim.known.signature:  # it changed after the last look
            pending = self._pending[claim.known.path]
            pending.since_s = pending.seen_s = self.clock()
        self._keep(self.files.read_as(claim.known, signature))
        self.scanner.hint(os.path.dirname(claim.known.path))

    def from_here(self, claim: Claim, session: str | None) -> Claim:
        """Give this file to a session, and those after it that were of the same flask and wait."""
        waiting, before = list(self._pending.values()), claim.known.session
        start = waiting.index(self._pending[claim.known.path])
        for pending in waiting[start:]:
            if pending.live and pending.known.session == before:
                pending.known = self._keep(self.files.give(pending.known, session))
        return replace(claim, known=self._pending[claim.known.path].known)

    def done(self, claim: Claim, seq: int, sha256: str, session: str | None) -> None:
        """It was scored by message `seq`."""
        self._finish(self.files.done(claim.known, seq, sha256, session))

    def unchanged(self, claim: Claim) -> None:
        """It has the very bytes that were scored before."""
        self._finish(self.files.unchanged(claim.known))

    def duplicate(self, claim: Claim, of: int, sha256: str) -> None:
        """It has the bytes of file `of`, already scored in the same session."""
        self._finish(self.files.duplicate(claim.known, of, sha256))

    def refused(
        self, claim: Claim, reason: FileReason, detail: str, retry: bool, sha256: str | None
    ) -> bool:
        """The reader refused it; returns whether that is final.

        Content that looks wrong is believed only once the file stood still for a while: a writer
        may fill it out of order.
        """
        pending = self._pending[claim.known.path]
        still_s = pending.seen_s - pending.since_s
        if still_s < (GIVE_UP_S if retry else LONG_SETTLE_S if reason in DOUBTFUL else 0.0):
            self._wait(pending, reason, detail)
            return False
        self._refuse(claim.known, reason, detail, sha256)
        return True

    def crashed(self, claim: Claim, detail: str) -> bool:
        """A reader died over it; returns whether it is given up."""
        path = claim.known.path
        self._crashes[path] = self._crashes.get(path, 0) + 1
        if self._crashes[path] >= MAX_CRASHES:
            self._refuse(claim.known, FileReason.RESOURCE_LIMIT, detail)
            return True
        self.again(claim, FileReason.RESOURCE_LIMIT, detail)
        return False

    def given_up(self, claim: Claim, reason: FileReason, detail: str) -> None:
        """No result can be made of it."""
        self._refuse(claim.known, reason, detail)

    def again(self, claim: Claim, reason: FileReason, detail: str) -> None:
        """Through no fault of its own it was not scored: it takes its turn again soon."""
        self._wait(self._pending[claim.known.path], reason, detail)

    def _wait(self, pending: _Pending, reason: FileReason, detail: str) -> None:
        pause_s = PAUSES_S[min(pending.known.tries, len(PAUSES_S)) - 1]
        until_s = self.journal.now().timestamp() + pause_s
        pending.known = self._keep(self.files.wait(pending.known, until_s, reason, detail))
        self._retry_s[pending.known.path] = self.clock() + pause_s
        self.scanner.hint(os.path.dirname(pending.known.path))  # whether it stands still counts

    def _refuse(
        self, known: Known, reason: FileReason, detail: str, sha256: str | None = None
    ) -> None:
        self._finish(self.files.quarantine(known, reason, detail, sha256))

    def _finish(self, known: Known) -> None:
        self._keep(known)
        self._pending.pop(known.path, None)
        self._retry_s.pop(known.path, None)
        self._crashes.pop(known.path, None)

    def _keep(self, known: Known) -> Known:
        self._known[known.path] = known
        return known

    def close(self) -> None:
        """Stop scanning."""
        self.scanner.close()


NOT_UTF8 = "its name is not UTF-8, so it cannot be recorded; rename it"

MENDABLE = frozenset({FileReason.NO_SCALE, FileReason.UNREADABLE})
"""Refusals that lie outside the file: in a configuration, a sidecar or its permissions."""

DOUBTFUL = frozenset({FileReason.NOT_AN_IMAGE, FileReason.CORRUPT, FileReason.UNSUPPORTED})
"""Refusals that a file written out of order can show for a moment."""
