"""A reader and an inference child and the memory they share: asked, watched, replaced.

Knows when a child may be used and what to ask it next; does not know files, flasks or messages.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec

from parfocal.arena import Arena, ArenaShape
from parfocal.child import Child, ChildError
from parfocal.config import Settings
from parfocal.detectors import ChosenDetector
from parfocal.inference import (
    Classified,
    ClassifySlot,
    InferenceAnswer,
    Loaded,
    LoadFailed,
    LoadModel,
)
from parfocal.reader import (
    DetectorFailed,
    DetectorLoaded,
    LoadDetector,
    Prepared,
    ReaderAnswer,
    ReadRequest,
    Refused,
)

log = logging.getLogger(__name__)

LOAD_WALL_S = 120.0
"""A GPU's libraries and first plans can take most of a minute."""
GOLDEN_EVERY_S = 600.0
RESPAWN_PAUSES_S = (0.0, 0.5, 2.0, 5.0, 15.0, 60.0)
SETTLED_S = 60.0
"""A child that lived this long counts as sound again."""
NONSENSE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding the bytes of a child that was taken over can raise."""


@dataclass(frozen=True, slots=True)
class WorkerFault:
    """A child was lost; whatever it was asked has no answer."""

    text: str


def load_request(choice: ChosenDetector) -> LoadDetector:
    """The request that makes a reader load exactly the detector that was chosen."""
    if choice.bundle is None:
        return LoadDetector(name=choice.name)
    return LoadDetector(name=str(choice.bundle.path), sha256=choice.bundle.sha256)


class Worker:
    """One child that is started again, with growing pauses, whenever it is lost."""

    def __init__(self, start: Callable[[], Child], clock: Callable[[], float]) -> None:
        self._start, self._clock = start, clock
        self._losses = 0
        self.not_before_s = 0.0
        self._started_s = 0.0
        self.child: Child | None = None
        self.restarts = 0

    def ensure(self) -> bool:
        """Start the child if there is none and the pause is over; True when it was just started."""
        if self.child is not None or self._clock() < self.not_before_s:
            return False
        self.child, self._started_s = self._start(), self._clock()
        return True

    def lost(self, error: ChildError) -> WorkerFault:
        """Note a loss and plan the next start."""
        if self._clock() - self._started_s > SETTLED_S:
            self._losses = 0
        pause_s = RESPAWN_PAUSES_S[min(self._losses, len(RESPAWN_PAUSES_S) - 1)]
        self._losses += 1
        self.restarts += 1
        self.not_before_s = self._clock() + pause_s
        self.child = None
        log.warning("%s; a new one starts in %g s", error, pause_s)
        return WorkerFault(str(error))

    def close(self) -> None:
        """Kill the child."""
        if self.child is not None:
            self.child.close()
            self.child = None


class Workers:
    """The reader and the inference child of one model in a daemon.

    Parameters
    ----------
    settings : Settings
    choice : ChosenDetector
        The detector that the reader is told to load.
    clock : callable
        Monotonic seconds.
    role : str
        Stands before the children's names in messages.
    nice : int
        How far the children give way to those of other models; 19 is the most.
    """

    def __init__(
        self,
        settings: Settings,
        choice: ChosenDetector,
        clock: Callable[[], float] = time.monotonic,
        role: str = "",
        nice: int = 0,
    ) -> None:
        self.settings, self._clock = settings, clock
        self._load_detector = load_request(choice)
        self.arena = Arena.create(ArenaShape(max_cells=settings.limits.max_cells))
        arguments, fds = self.arena.shape.as_arguments(self.arena.fd), (self.arena.fd,)
        self.reader, self.inference = (
            Worker(partial(Child, f"parfocal.{name}", arguments, fds, f"{role}{name}", nice), clock)
            for name in ("reader", "inference")
        )
        self.loaded: Loaded | None = None
        self.load_fault: str | None = None
        self.detector: DetectorLoaded | None = None
        self.detector_fault: str | None = None
        self._golden_s = 0.0
        self._reading = msgspec.msgpack.Decoder(ReaderAnswer)
        self._inferring = msgspec.msgpack.Decoder(InferenceAnswer)

    def ensure(self) -> None:
        """Start whatever is missing; a fresh child is told what to load."""
        if self.reader.ensure():
            self.detector = None
            self._send(self.reader, msgspec.msgpack.encode(self._load_detector), LOAD_WALL_S)
        if self.inference.ensure():
            self.loaded = None
            model = self.settings.model
            request = LoadModel(
                bundle=model.bundle, sha256=model.sha256, device=model.device, threads=model.threads
            )
            self._send(self.inference, msgspec.msgpack.encode(request), LOAD_WALL_S)

    @property
    def can_read(self) -> bool:
        """Whether the detector is loaded and the reader free."""
        child = self.reader.child
        return self.detector is not None and child is not None and not child.busy

    @property
    def can_infer(self) -> bool:
        """Whether the model is loaded and free."""
        child = self.inference.child
        return self.loaded is not None and child is not None and not child.busy

    def read(self, request: ReadRequest) -> WorkerFault | None:
        """Ask the reader; the answer comes from `read_answer`."""
        data = msgspec.msgpack.encode(request)
        return self._send(self.reader, data, self.settings.limits.read_wall_s)

    def infer(self, slot: int, n: int) -> WorkerFault | None:
        """Ask for the classes of n crops; the answer comes from `infer_answer`.

        Now and then, and after any loss, the golden question is asked first (a fresh child has
        answered it while loading).
        """
        now = self._clock()
        golden = now - self._golden_s > GOLDEN_EVERY_S
        if golden:
            self._golden_s = now
        data = msgspec.msgpack.encode(ClassifySlot(slot=slot, n=n, golden=golden))
        return self._send(self.inference, data, self.settings.limits.infer_wall_s)

    def _send(self, worker: Worker, data: bytes, wall_s: float) -> WorkerFault | None:
        assert worker.child is not None  # callers ask can_read or can_infer
        try:
            worker.child.send(data, wall_s)
        except ChildError as error:
            return worker.lost(error)
        return None

    def read_answer(self) -> Prepared | Refused | DetectorFailed | WorkerFault | None:
        """What the reader said; None while there is nothing."""
        answer = self._receive(self.reader)
        if isinstance(answer, WorkerFault):
            if self.detector is None:
                self.detector_fault = answer.text
            self.detector = None
        if not isinstance(answer, bytes):
            return answer
        try:
            decoded: ReaderAnswer = self._reading.decode(answer)
        except NONSENSE as error:
            return self._distrust(self.reader, error)
        if isinstance(decoded, DetectorLoaded):
            self.detector, self.detector_fault = decoded, None
            return None
        if isinstance(decoded, DetectorFailed):
            self.detector_fault = decoded.detail
            assert self.reader.child is not None  # it just answered
            name = self.reader.child.name
            self.reader.child.close()
            self.reader.lost(ChildError(f"the {name} has no detector: {decoded.detail}"))
        return decoded

    def infer_answer(self) -> Classified | Loaded | LoadFailed | WorkerFault | None:
        """What the inference child said; None while there is nothing."""
        answer = self._receive(self.inference)
        if isinstance(answer, WorkerFault):
            if self.loaded is None:
                self.load_fault = answer.text
            self.loaded = None
        if not isinstance(answer, bytes):
            return answer
        try:
            decoded: InferenceAnswer = self._inferring.decode(answer)
        except NONSENSE as error:
            return self._distrust(self.inference, error)
        if isinstance(decoded, Loaded):
            self.loaded, self.load_fault, self._golden_s = decoded, None, self._clock()
        elif isinstance(decoded, LoadFailed):
            self.load_fault = decoded.detail
            assert self.inference.child is not None  # it just answered
            name = self.inference.child.name
            self.inference.child.close()
            self.inference.lost(ChildError(f"{name} could not load: {decoded.detail}"))
        return decoded

    def _receive(self, worker: Worker) -> bytes | WorkerFault | None:
        if worker.child is None:
            return None
        try:
            answer = worker.child.receive()  # first: if we overslept, the answer may be here
            if answer is None:
                worker.child.check_deadline()
            return answer
        except ChildError as error:
            return worker.lost(error)

    def _distrust(self, worker: Worker, error: Exception) -> WorkerFault:
        assert worker.child is not None  # it just answered
        worker.child.close()
        return worker.lost(ChildError(f"{worker.child.name} sent nonsense ({error})"))

    def descriptors(self) -> list[int]:
        """What to wait on for answers."""
        children = (self.reader.child, self.inference.child)
        return [child.fileno() for child in children if child is not None]

    def seconds_left(self) -> float | None:
        """Time until the next deadline or start; None when there is none."""
        times = []
        for worker in (self.reader, self.inference):
            if worker.child is None:
                times.append(max(0.0, worker.not_before_s - self._clock()))
            elif (left := worker.child.seconds_left()) is not None:
                times.append(max(0.0, left))
        return min(times, default=None)

    def close(self) -> None:
        """Kill both children and free the memory."""
        self.reader.close()
        self.inference.close()
        self.arena.close()
