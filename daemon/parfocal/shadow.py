"""A second model that scores the frames of the active one and that no subscriber ever hears of.

It has a reader and an inference child of its own, which give way to those of the active model, and
reads every image again: so it may prepare crops in another way, and whatever becomes of it stays
here. An image that it could not answer is counted as missed, with the reason.
"""

import logging
import os
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from parfocal.config import Settings
from parfocal.detectors import ChosenDetector
from parfocal.inference import Classified, Loaded
from parfocal.journal import Journal, encode_finite
from parfocal.overlaps import counted_once
from parfocal.reader import DetectorFailed, Prepared, ReadRequest, Refused
from parfocal.results import frame_result, model_ref
from parfocal.types import FlaskRef, FrameResult, ImageRef, Quality
from parfocal.workers import WorkerFault, Workers

log = logging.getLogger(__name__)

MOST_WAITING = 64
"""Images that wait for the shadow; those that come when so many wait are missed."""
NICE = 10
"""As `nice` counts: about a tenth of a processor that the active model wants for itself."""
STORE_EVERY_S = 1.0
"""The commits of the active model must not wait for many of the shadow's."""
TELL_EVERY_S = 60.0
NO_START_S = 60.0
"""Pause after the system could not start a process at all."""


class Missed(StrEnum):
    """Why the shadow has no answer for an image."""

    BEHIND = "behind"
    ABSENT = "absent"
    LOST = "lost"
    UNREAD = "unread"
    FAILED = "failed"
    STOPPED = "stopped"


SENTENCES = {
    Missed.BEHIND: f"{MOST_WAITING} images waited for it already",
    Missed.ABSENT: "it could not be loaded",
    Missed.LOST: "its process was lost over the image",
    Missed.UNREAD: "the image could not be read again, or had changed",
    Missed.FAILED: "no result could be made of its answer",
    Missed.STOPPED: "the service stopped before its turn",
}


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A frame of the active model: the number of its message, and what it was told of.

    `counted_by` names the images that counted a part of it before.
    """

    seq: int
    image: ImageRef
    flask: FlaskRef | None
    quality: Quality
    revision: int
    counted_by: tuple[str, ...]


@dataclass(slots=True, eq=False)
class InHand:
    """The frame that the children are at; `loaded` is the model that its crops are cut for."""

    frame: Frame
    loaded: Loaded
    prepared: Prepared | None = None
    inferring: bool = False


class Shadow:
    """The shadow model of a daemon, one frame at a time.

    Parameters
    ----------
    settings : Settings
        Of the daemon; `model.shadow` names the bundle.
    detector : ChosenDetector
        That of the daemon: both models see the same cells.
    journal : Journal
        Where answers go, into the tables `shadow` and `shadow_model`.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        detector: ChosenDetector,
        journal: Journal,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self.detector, self.journal = settings, detector, journal
        self.asked, self._clock = settings.model.shadow, clock
        model = msgspec.structs.replace(settings.model, bundle=self.asked, sha256=None, shadow="")
        own = msgspec.structs.replace(settings, model=model)
        self.workers = Workers(own, detector, clock, role="shadow ", nice=NICE)
        self._waiting: deque[Frame] = deque()
        self._hand: InHand | None = None
        self._rows: list[tuple[int, str, str | None, bytes | None, str | None]] = []
        self._cards: dict[str, bytes] = {}
        self._store_s = self._tell_s = self._start_s = float("-inf")
        self._told = Counter[str]()
        self.counts = Counter[str]()

    @property
    def status(self) -> str:
        """How many images it answered and missed since the start."""
        n_missed = sum(n for name, n in self.counts.items() if name != "answered")
        return f"{self.counts['answered']} answered, {n_missed} missed"

    @property
    def fault(self) -> str | None:
        """Why it cannot be used; None while it works or is being loaded."""
        return self.workers.load_fault or self.workers.detector_fault

    def offer(self, seq: int, told: FrameResult) -> None:
        """Hand over a frame that was just journaled; never waits."""
        earlier = told.already_counted.images if told.already_counted else ()
        frame = Frame(seq, told.image, told.flask, told.quality, told.revision, earlier)
        if self.fault:
            self._miss(frame, Missed.ABSENT)
        elif len(self._waiting) >= MOST_WAITING:
            self._miss(frame, Missed.BEHIND)
        else:
            self._waiting.append(frame)

    def step(self) -> None:
        """Take what the children answered, ask them the next thing, store what is due."""
        self._ensure()
        self._take_read()
        self._take_inferred()
        self._drop()
        self._infer()
        self._read()
        if self._clock() >= self._store_s:
            self._store()
        if self._clock() >= self._tell_s:
            self._tell()

    def seconds_left(self) -> float | None:
        """Time until `step` has something to do of itself; None when there is nothing."""
        now = self._clock()
        left = self.workers.seconds_left()
        times = [] if left is None else [max(left, self._start_s - now)]
        if self._rows:
            times.append(max(0.0, self._store_s - now))
        return min(times, default=None)

    def close(self) -> None:
        """Store what there is and kill the children; who still waited has missed its turn."""
        hand = [self._hand.frame] if self._hand else []
        for frame in (*hand, *self._waiting):
            self._miss(frame, Missed.STOPPED)
        self._store()
        self._tell()
        self.workers.close()

    # ---------------------------------------------------------------------------------- children

    def _ensure(self) -> None:
        if self._clock() < self._start_s:
            return
        try:
            self.workers.ensure()
        except OSError as error:  # the system has no process or memory left: not for the shadow
            self._start_s = self._clock() + NO_START_S
            log.warning("the shadow's processes cannot be started: %s", error)

    def _drop(self) -> None:
        """Frames that nothing can be answered of."""
        hand = self._hand
        if hand and hand.prepared and self.workers.loaded is not hand.loaded:
            self._miss_hand(Missed.LOST)  # its crops may be cut for another model
        if self.fault:
            while self._waiting:
                self._miss(self._waiting.popleft(), Missed.ABSENT)

    def _read(self) -> None:
        loaded = self.workers.loaded
        if self._hand or not self._waiting or loaded is None or not self.workers.can_read:
            return
        self._hand = InHand(self._waiting.popleft(), loaded)
        if self.workers.read(self._request(self._hand.frame.image, loaded)):
            self._miss_hand(Missed.LOST)

    def _request(self, image: ImageRef, loaded: Loaded) -> ReadRequest:
        limits = self.settings.limits
        return ReadRequest(
            path=image.path,
            root=os.path.abspath(self.settings.source.path),
            slot=0,
            max_cells=limits.max_cells,
            max_pixels=limits.max_pixels,
            max_bytes=limits.max_bytes,
            um_per_px=image.um_per_px,
            um_per_px_from="argument",  # wins over what is declared now
            rules=loaded.card.prepare.pixels,
            cpu_limit_s=limits.read_cpu_s,
        )

    def _take_read(self) -> None:
        answer, hand = self.workers.read_answer(), self._hand
        if answer is None or isinstance(answer, DetectorFailed) or not hand or hand.prepared:
            return
        if isinstance(answer, WorkerFault):
            self._miss_hand(Missed.LOST)
        elif isinstance(answer, Refused) or answer.sha256 != hand.frame.image.sha256:
            self._miss_hand(Missed.UNREAD)
        else:
            hand.prepared = answer

    def _infer(self) -> None:
        hand = self._hand
        if hand and hand.prepared and not hand.inferring and self.workers.can_infer:
            hand.inferring = True
            if self.workers.infer(0, hand.prepared.n_crops):
                self._miss_hand(Missed.LOST)

    def _take_inferred(self) -> None:
        answer, hand = self.workers.infer_answer(), self._hand
        if isinstance(answer, Loaded):
            log.info("shadow model %s on %s", answer.card.name, answer.provider)
            self._cards[answer.sha256] = msgspec.json.encode(answer.card)
        elif isinstance(answer, WorkerFault) and hand and hand.inferring:
            self._miss_hand(Missed.LOST)
        elif isinstance(answer, Classified) and hand and hand.prepared:
            self._hand = None
            self._answer(hand.frame, hand.loaded, hand.prepared, answer)

    # ----------------------------------------------------------------------------------- answers

    def _answer(
        self, frame: Frame, loaded: Loaded, prepared: Prepared, classified: Classified
    ) -> None:
        """The one guard around a frame of the shadow: what it cannot make must stop nobody."""
        image, detector = frame.image, self.detector
        try:
            model = model_ref(
                loaded.card, loaded.sha256, loaded.provider, detector.name, detector.fingerprint
            )
            prepared, classified, already = counted_once(
                image.path, prepared, classified, loaded.card.prepare.pixels,
                lambda path: os.path.basename(path) in frame.counted_by,
            )  # fmt: skip
            result = frame_result(
                image.path, image.source, prepared, classified, loaded.card, model,
                frame.flask, frame.revision, already,
            )  # fmt: skip
            # of the same bytes; but what was declared and noted then is what counts
            result = msgspec.structs.replace(result, image=image, quality=frame.quality)
            body = encode_finite(result)
        except Exception:
            log.exception("%s: no result of the shadow could be made", image.path)
            self._miss(frame, Missed.FAILED)
            return
        self.counts["answered"] += 1
        self._rows.append((frame.seq, self.asked, loaded.sha256, body, None))

    def _miss_hand(self, why: Missed) -> None:
        assert self._hand is not None  # callers have one
        frame, self._hand = self._hand.frame, None
        self._miss(frame, why)

    def _miss(self, frame: Frame, why: Missed) -> None:
        self.counts[why] += 1
        self._rows.append((frame.seq, self.asked, None, None, why))

    def _store(self) -> None:
        """All rows in one commit; a journal that cannot be written is told by the active road."""
        if not self._rows:
            return
        self._store_s = self._clock() + STORE_EVERY_S
        try:
            with self.journal.transaction():
                self.journal.db.executemany(
                    "INSERT OR IGNORE INTO shadow_model VALUES (?, ?)", self._cards.items()
                )
                self.journal.db.executemany("INSERT INTO shadow VALUES (?, ?, ?, ?, ?)", self._rows)
        except sqlite3.Error as error:
            log.warning("%d answers of the shadow are not stored: %s", len(self._rows), error)
        else:
            self._cards.clear()
        self._rows.clear()

    def _tell(self) -> None:
        """Log what was missed since the last time."""
        new = self.counts - self._told
        self._tell_s, self._told = self._clock() + TELL_EVERY_S, Counter(self.counts)
        del new["answered"]
        if new:
            why = ", ".join(f"{n}: {SENTENCES[Missed(name)]}" for name, n in new.items())
            log.warning("the shadow missed %d images (%s)", sum(new.values()), why)
