"""CameraSource: the daemon's end of the camera child. Asks, counts, notices, starts again.

It never waits: `step` sends or takes one message. Which files come of it, FolderSource finds out.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from parfocal.camera.device import Described
from parfocal.camera.protocol import CameraAnswer, CameraFailed, Keep, Look, OpenCamera, Seen
from parfocal.camera.watch import Conditions, Watch
from parfocal.child import Child, ChildError
from parfocal.config import Settings
from parfocal.reasons import SENTENCES, GateReason
from parfocal.types import CameraBeat
from parfocal.workers import NONSENSE

log = logging.getLogger(__name__)

MODULE = "parfocal.camera.child"
LOOK_S = 0.25
HANG_S = 1.75
"""How much longer than asked a look may take, beside two exposures: a hang shows within 3 s."""
KEEP_S = 10.0
"""For writing one frame: a slow disk is no reason to doubt the camera."""
PAUSES_S = (0.0, 0.5, 1.0, 2.0)
"""Between tries; the last one repeats, so a camera that returns is used within seconds."""
FRESH_AFTER = 5
"""So many failures to open in one process, and the next try is in a new one."""
STUCK = "unplug the camera, or start the computer again"
OVERFLOW_SHOWN_S = 5.0
MAX_WAITING = 4
"""With more files than this waiting for the reader, newer frames replace the one held."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the start: frames seen, kept, dropped, and what was lived through."""

    frames: int = 0
    kept: int = 0
    dropped: int = 0
    overflows: int = 0
    losses: int = 0


def start_child() -> Child:
    """A fresh camera child."""
    return Child(MODULE, name="camera")


class CameraSource:
    """A camera that is opened again, with short pauses, whenever it fails.

    Parameters
    ----------
    settings : Settings
        With `source.camera`, and `source.path` for the frames that are kept.
    start : callable
        Starts a child.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        start: Callable[[], Child] = start_child,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self._start, self._clock = settings, start, clock
        self.described: Described | None = None
        self.counts = Counts()
        self._child: Child | None = None
        self._ended: Child | None = None
        self._trouble: str | None = "the camera is being opened"
        self._keep_fault: str | None = None
        self._overflow_s: float | None = None
        self._held = False
        self._view: GateReason | None = None
        self._watch = Watch()
        self._not_before_s = 0.0
        self._failures = 0
        self._answers = msgspec.msgpack.Decoder(CameraAnswer)

    @property
    def fault(self) -> str | None:
        """Why no frames, or not all, are kept right now; None when all is well."""
        if self._trouble or self._keep_fault:
            return self._trouble or self._keep_fault
        if self._view is GateReason.FROZEN:
            return SENTENCES[GateReason.FROZEN]
        if self._overflow_s is not None and self._clock() - self._overflow_s < OVERFLOW_SHOWN_S:
            return f"the camera's buffer was full: {self.counts.dropped} frames dropped so far"
        return None

    @property
    def status(self) -> str:
        """What a person reads in passing."""
        counts = self.counts
        told = f"{counts.frames} frames, {counts.kept} kept, {counts.dropped} dropped"
        return f"{told}, {self._view.replace('_', ' ')}" if self._view else told

    @property
    def beat(self) -> CameraBeat:
        """What the daemon's pulse says of it."""
        counts = self.counts
        return CameraBeat(
            view=self._view,
            frames=counts.frames,
            kept=counts.kept,
            dropped=counts.dropped,
            overflows=counts.overflows,
            losses=counts.losses,
        )

    @property
    def conditions(self) -> Conditions:
        """What is wrong for so long that it is worth an alarm, and what is so no more."""
        return self._watch.known

    def step(self, waiting: int, session: str | None) -> None:
        """Take what came and ask for more; `waiting` files are before the reader already."""
        self._take()
        self._ask(waiting < MAX_WAITING, session)
        if self._trouble is None or self._failures:  # neither: it is being opened
            self._watch.lost(self._trouble, self._clock())

    def descriptors(self) -> list[int]:
        """What becomes readable when there is something to take."""
        return [self._child.fileno()] if self._child is not None else []

    def seconds_left(self) -> float | None:
        """Until a deadline or the next try; None when only a message can change something."""
        if self._child is not None and self._child.busy:
            left_s = self._child.seconds_left()
            return None if left_s is None else max(0.0, left_s)
        return max(0.0, self._not_before_s - self._clock())

    def close(self) -> None:
        """Kill the child."""
        if self._child is not None:
            self._child.close()
            self._child, self._ended = None, self._child

    # -------------------------------------------------------------------------------------- asking

    def _ask(self, may_keep: bool, session: str | None) -> None:
        if self._clock() < self._not_before_s:
            return
        if self._ended is not None and not self._ended.gone:
            self._failed(f"process {self._ended.pid} of its driver cannot be ended: {STUCK}")
            return
        if self._child is None:
            self._child = self._start()
        if self._child.busy:
            return
        source = self.settings.source
        camera = source.camera
        if self.described is None:
            opening = OpenCamera(camera=camera, folder=source.path, um_per_px=source.um_per_px)
            self._send(self._child, opening, camera.open_wall_s)
            return
        if self._held and may_keep:
            self._send(self._child, Keep(), KEEP_S)
            return
        wall_s = LOOK_S + HANG_S + 2e-3 * self.described.exposure_ms
        look = Look(wait_s=LOOK_S, may_keep=may_keep, session=session)
        self._send(self._child, look, wall_s)

    def _send(self, child: Child, request: OpenCamera | Look | Keep, wall_s: float) -> None:
        try:
            child.send(msgspec.msgpack.encode(request), wall_s)
        except ChildError as error:
            self._lost(str(error))

    # -------------------------------------------------------------------------------------- taking

    def _take(self) -> None:
        if self._child is None:
            return
        try:
            message = self._child.receive()  # first: if we overslept, the answer may be here
            if message is None:
                self._child.check_deadline()
                return
            answer: CameraAnswer = self._answers.decode(message)
        except ChildError as error:
            self._lost(str(error))
        except NONSENSE as error:
            self._lost(f"the camera child sent nonsense: {error}")
        else:
            self._absorb(answer)

    def _absorb(self, answer: CameraAnswer) -> None:
        match answer:
            case Described():
                self.described = answer
                log.info("camera %s of %s is open", answer.name, answer.library)
                if answer.trigger == "external":  # there may be no frame for hours
                    self._recovered()
            case Seen():
                self._count(answer)
            case CameraFailed() if self.described is None and (self._failures + 1) % FRESH_AFTER:
                self._failed(answer.detail)  # a process in which nothing is open may try again
            case CameraFailed():
                self._lost(answer.detail)
            case _:
                self._lost("the camera child answered what was not asked")

    def _count(self, seen: Seen) -> None:
        self._held = seen.held
        if seen.frame_s:
            self._recovered()
            self._view = seen.view
            self._watch.viewed(seen.view, self._clock())
        if seen.kept or seen.keep_fault:
            self._keep_fault = seen.keep_fault
        if seen.n_overflows:
            self._overflow_s = self._clock()
        counts = self.counts
        self.counts = replace(
            counts,
            frames=counts.frames + len(seen.frame_s),
            kept=counts.kept + (seen.kept is not None),
            dropped=counts.dropped + seen.n_missed + seen.n_replaced,
            overflows=counts.overflows + seen.n_overflows,
        )

    def _recovered(self) -> None:
        if self._failures:
            log.info("the camera is back")
        self._trouble, self._failures = None, 0

    def _lost(self, why: str) -> None:
        """Replace the child: whatever state its driver is in goes with it."""
        self.close()
        counts = self.counts
        # a frame that it was just writing may be whole, and is counted as dropped all the same
        dropped = counts.dropped + int(self._held)
        self.counts = replace(counts, dropped=dropped, losses=counts.losses + 1)
        self.described, self._held, self._view = None, False, None
        self._failed(why)

    def _failed(self, why: str) -> None:
        pause_s = PAUSES_S[min(self._failures, len(PAUSES_S) - 1)]
        self._failures += 1
        self._not_before_s = self._clock() + pause_s
        if self._trouble != why:
            log.warning("camera: %s; it is tried again", why)
        self._trouble = why
