"""Replays stored images through the live road: the daemon's own loop, children and journal.

The source is a list instead of a watched folder, nothing is published to anyone (the sockets lie in
a folder that only this user may enter and that ends with the replay), and the loop ends when every
image has its result or its reason.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import msgspec

from parfocal.client import Received
from parfocal.config import Publish, Settings
from parfocal.config import Source as FolderSettings
from parfocal.daemon import Daemon, Job, ModelUnusableError
from parfocal.folder import Claim
from parfocal.follow import JsonLines, OutputError
from parfocal.journal import iso
from parfocal.notify import Notifier
from parfocal.reader import Prepared, ReadRequest, Refused
from parfocal.reasons import FileReason
from parfocal.replay_images import JOURNAL, Source, Stored
from parfocal.replay_sessions import copy_sessions, restore
from parfocal.replay_source import CHANGED, StoredSource
from parfocal.types import Header, ScaleOrigin

RIG = "replay"
RESULTS = "results.jsonl"
PATIENCE_S = 60.0
"""A model or detector that cannot be loaded for so long is given up."""
MOST_LOSSES = 6
"""A model that was lost so often before it classified one image is given up."""
NO_LIMIT = -1
"""SQLite's word for all rows."""


class Replay(Daemon):
    """The daemon over a list of images. Use it as a context manager, then `run`.

    Parameters
    ----------
    source : Source
    out : Path
        A folder without a journal: the state folder of this replay.
    settings : Settings
        As `settings_for` makes them.
    pass_on : callable
        Given every message once it is in the journal.
    """

    def __init__(
        self,
        source: Source,
        out: Path,
        settings: Settings,
        pass_on: Callable[[Received], None] = lambda _: None,
    ) -> None:
        super().__init__(settings, Notifier({}))
        self.replayed, self.out, self.finished = source, out, False
        self._pass_on, self._seq = pass_on, 0
        self.on_progress: Callable[[int], None] = lambda _: None
        self._left = Counter(one.session for one in source.images)
        self._complete: list[str] = []
        self._sound_s = time.monotonic()

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    @property
    def n_left(self) -> int:
        """Images that have neither result nor reason."""
        return self.source.depth

    def _open(self, stack: ExitStack) -> None:
        for name in (JOURNAL, RESULTS):
            if (self.out / name).exists():
                raise OutputError(f"{self.out} holds a {name} already: name a new folder")
        hidden = stack.enter_context(tempfile.TemporaryDirectory(prefix="parfocal-replay-"))
        publish = Publish(live=f"ipc://{hidden}/live", replay=f"ipc://{hidden}/replay")
        self.settings = msgspec.structs.replace(self.settings, publish=publish)
        super()._open(stack)
        copy_sessions(self.journal, self.replayed.sessions)
        self.source = self.stored = StoredSource(self.replayed, self.out, self.journal, self._done)
        self._lines = JsonLines(self.out / RESULTS)
        stack.callback(self._lines.close)

    def _done(self, session: str | None) -> None:
        self._left[session] -= 1
        if session is not None and self._left[session] == 0:
            self._complete.append(session)

    # ----------------------------------------------------------------------------------- the loop

    def _step(self) -> None:
        super()._step()
        while self._complete:
            self._close(self._complete.pop(0))
        self._tell()
        self.on_progress(self.n_left)
        self._check_children()
        if not self.n_left:
            self._close_declared()
            self._tell()
            self._lines.flush()
            self.finished, self.outcome = True, "stop"

    def _check_children(self) -> None:
        fault = self.workers.load_fault or self.workers.detector_fault
        if fault is None:
            self._sound_s = time.monotonic()
        elif time.monotonic() - self._sound_s > PATIENCE_S:
            raise ModelUnusableError(fault)
        losses = self.workers.inference.restarts
        if losses > MOST_LOSSES and not self._n_classified:
            raise ModelUnusableError(
                f"the model's process was lost {losses} times and no image was classified: see the "
                "log, or name another model or device"
            )

    def _tell(self) -> None:
        """Everything new in the journal, to the file of results and to whoever wants it."""
        for message in self.journal.messages(self._seq + 1, [], NO_LIMIT):
            header = msgspec.json.decode(message.header, type=Header)
            received = Received(message.topic, header, message.body, message.blob)
            self._lines.write(received)
            self._pass_on(received)
            self._seq = message.seq

    # ------------------------------------------------------------------------------------- images

    def _request(self, claim: Claim, slot: int) -> ReadRequest:
        one, asked = self.stored.of(claim), super()._request(claim, slot)
        asked = msgspec.structs.replace(asked, path=one.path, root=one.root)
        if one.um_per_px is None:  # where the service looks too
            return asked
        whose: ScaleOrigin = "table" if one.um_per_px_from == "table" else "argument"
        return msgspec.structs.replace(asked, um_per_px=one.um_per_px, um_per_px_from=whose)

    def _take_prepared(self, job: Job, prepared: Prepared) -> None:
        one = self.stored.of(job.claim)
        if one.sha256 is None:
            super()._take_prepared(job, prepared)
        elif one.sha256 == prepared.sha256:
            super()._take_prepared(job, as_before(prepared, one))
        else:
            self._free_slots.append(job.slot)
            refused = Refused(reason=FileReason.VANISHED, detail=CHANGED, status=prepared.status)
            self.recorder.refused(self.source, job.claim, refused)

    def _is_its_fault(self, sha256: str) -> bool:
        """Nobody waits for a better time here, so an image that the model dies over is given up."""
        return True

    # ------------------------------------------------------------------------------------- flasks

    def _close(self, session: str) -> None:
        """The last totals of a flask whose images are through, before those of the next one."""
        restore(self.journal, [r for r in self.replayed.sessions if r["session"] == session])
        self._publish_last(session)

    def _close_declared(self) -> None:
        """Flasks that the folder declares have no more images."""
        if self.replayed.journal is None:
            rows = self.journal.db.execute(
                "SELECT session, closed_at FROM flask_session ORDER BY opened_at"
            )
            for session, closed_at in rows.fetchall():
                end = {"session": session, "closed_at": closed_at or iso(self.journal.now())}
                restore(self.journal, [end])
                self._publish_last(session)

    def _publish_last(self, session: str) -> None:
        totals = self.recorder.verdicts.of(session)
        totals.dirty, totals.published_s = True, float("-inf")
        self.recorder.publish_verdicts()


def as_before(prepared: Prepared, one: Stored) -> Prepared:
    """What was read, with the flask of the journal instead of the one that is declared now."""
    return msgspec.structs.replace(
        prepared,
        um_per_px_from=one.um_per_px_from,
        declared=msgspec.structs.replace(prepared.declared, flask=None, session=None, code=None),
    )


def settings_for(out: Path, rig: Settings) -> Settings:
    """A rig's settings as they are for a replay into a folder: nobody hears it, nothing is idle."""
    return msgspec.structs.replace(
        rig,
        rig=RIG,
        state_dir=str(out),
        source=FolderSettings(path=str(out), polled=True, um_per_px=rig.source.um_per_px),
        model=msgspec.structs.replace(rig.model, shadow=""),
        flask=msgspec.structs.replace(rig.flask, close_after_h=0),  # old ones had no frame for long
    )
