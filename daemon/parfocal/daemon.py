"""The daemon: one loop that claims files, passes them through the children and journals results.

    claim -> reader child -> inference child -> journal commit -> publish

The loop itself never opens an image, never runs a network and never waits for anything but events,
so it always has time to answer subscribers, beat, and notice that something hangs.
"""

import logging
import os
import select
import signal
import sqlite3
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from parfocal.bundle import Bundle, load
from parfocal.camera.source import CameraSource
from parfocal.config import Settings
from parfocal.detectors import choose
from parfocal.folder import Claim, FolderSource
from parfocal.inference import Classified, Loaded, LoadFailed
from parfocal.journal import Journal, lock
from parfocal.notify import Notifier
from parfocal.publish import Endpoints
from parfocal.reader import DetectorFailed, Prepared, ReadRequest, Refused
from parfocal.reasons import FileReason
from parfocal.recorder import Recorder
from parfocal.results import model_ref
from parfocal.shadow import Shadow
from parfocal.types import Beat, State
from parfocal.workers import WorkerFault, Workers

log = logging.getLogger(__name__)

BEAT_S = 1.0
MAX_PAUSE_S = 0.2
MAX_INFERENCE_TRIES = 3
"""An image over which the model was lost this often waits, so that others get their turn."""
MAX_INFERENCE_ROUNDS = 3
"""After so many waits between which the model served others, it is the image's fault."""


@dataclass(slots=True)
class Job:
    """One file between claim and result."""

    claim: Claim
    slot: int
    prepared: Prepared | None = None
    tries: int = 0


class ModelUnusableError(Exception):
    """The model or its device cannot be used at the start; the message says why."""


class Daemon:
    """The service of one rig. Use it as a context manager, then `run`.

    Parameters
    ----------
    settings : Settings
    notifier : Notifier
        Told when the service is ready, alive and stopping.
    """

    def __init__(self, settings: Settings, notifier: Notifier | None = None) -> None:
        self.settings = settings
        self.notifier = notifier or Notifier()
        self._stack = ExitStack()
        self.outcome: str | None = None

    def __enter__(self) -> "Daemon":
        with ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self, stack: ExitStack) -> None:
        settings, state_dir = self.settings, Path(self.settings.state_dir)
        self.bundle: Bundle = load(settings.model.bundle, settings.model.sha256)
        self.detector = choose(settings.detector.name, settings.detector.sha256)
        stack.callback(os.close, lock(state_dir))
        self.journal = Journal(state_dir / "journal.sqlite", settings.rig)
        stack.callback(self.journal.close)
        endpoints = Endpoints(settings.publish.live, settings.publish.replay)
        self.recorder = Recorder(
            self.journal, endpoints, self.bundle, settings.verdict.half_width, settings.flask
        )
        stack.callback(self.recorder.close)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        stack.callback(os.close, self._wake_read)
        stack.callback(os.close, self._wake_write)
        self.workers = Workers(settings, self.detector)
        stack.callback(self.workers.close)
        self.shadow: Shadow | None = None
        if settings.model.shadow:
            self.shadow = Shadow(settings, self.detector, self.journal)
            stack.callback(self.shadow.close)
        source = settings.source
        if source.kind == "camera":
            with suppress(OSError):  # where it cannot be made, the scan says so
                Path(source.path).mkdir(parents=True, exist_ok=True)
        self.source = FolderSource(Path(source.path), self.journal, self.wake, source.polled)
        stack.callback(self.source.close)
        self.camera = CameraSource(settings) if source.kind == "camera" else None
        if self.camera:
            stack.callback(self.camera.close)
        self._started_s = time.monotonic()
        self._next_beat_s = 0.0
        self._reading: Job | None = None
        self._inferring: Job | None = None
        self._prepared: deque[Job] = deque()
        self._free_slots = list(range(self.workers.arena.shape.slots))
        self._was_ready = False
        self._n_classified = 0
        self._lost_over: dict[str, tuple[int, int]] = {}

    def wake(self) -> None:
        """Interrupt the loop's wait; may be called from any thread or a signal handler."""
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            return  # it is about to wake anyway

    # ----------------------------------------------------------------------------------- the loop

    def run(self) -> str:
        """Serve until told otherwise; returns `stop` or `reload`.

        Raises
        ------
        ModelUnusableError
            The model cannot be used at all.
        """
        self.source.start()
        with self._signals():
            while self.outcome is None:
                self._wait()
                self._step()
        self.notifier.stopping() if self.outcome == "stop" else self.notifier.reloading()
        return self.outcome

    def _step(self) -> None:
        self.workers.ensure()
        self.recorder.close_idle()
        current = self.recorder.sessions.current()
        self.source.update(current.session if current else None)
        if self.camera:
            self._step_camera(self.camera, current.session if current else None)
        self._take_read()
        self._take_inferred()
        self._start_inference()
        self._start_reading()
        self.recorder.publish_verdicts()
        self.recorder.publisher.serve()
        self._beat()
        if self.shadow and self._was_ready:  # the active model loads first
            self.shadow.step()

    def _step_camera(self, camera: CameraSource, session: str | None) -> None:
        before = camera.fault
        camera.step(self.source.depth, session)
        if camera.fault != before:
            self._next_beat_s = 0.0  # a lost camera must not wait for the next beat
        self.recorder.camera(camera.conditions)

    def _wait(self) -> None:
        poller = select.poll()
        replay_fd = self.recorder.publisher.replay.fileno()
        camera = self.camera.descriptors() if self.camera else []
        shadow = self.shadow.workers.descriptors() if self.shadow else []
        for fd in (self._wake_read, replay_fd, *camera, *self.workers.descriptors(), *shadow):
            poller.register(fd, select.POLLIN)
        poller.poll(1e3 * self._pause_s())
        while select.select([self._wake_read], [], [], 0)[0]:
            os.read(self._wake_read, 4096)

    def _pause_s(self) -> float:
        """How long nothing can happen but events."""
        times = [self._next_beat_s - time.monotonic(), self.workers.seconds_left()]
        if self.camera:
            times.append(self.camera.seconds_left())
        if self.shadow and self._was_ready:
            times.append(self.shadow.seconds_left())
        if not self._reading and self._free_slots and self.workers.can_read:
            times.append(self.source.next_wake_s())
        # the replay socket's descriptor signals changes only, so look at it before long anyway
        return max(0.0, min([MAX_PAUSE_S, *(t for t in times if t is not None)]))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def handle(number: int, _: FrameType | None) -> None:
            if self.outcome != "stop":  # a reload must not undo it
                self.outcome = "reload" if number == signal.SIGHUP else "stop"
            self.wake()

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # ------------------------------------------------------------------------------------ reading

    def _start_reading(self) -> None:
        if self._reading or not self._free_slots or not self.workers.can_read:
            return
        claim = self.source.next()
        if claim is None:
            return
        self._reading = Job(claim, self._free_slots.pop())
        fault = self.workers.read(self._request(claim, self._reading.slot))
        if fault:
            self._reader_lost(fault)

    def _request(self, claim: Claim, slot: int) -> ReadRequest:
        limits, source = self.settings.limits, self.settings.source
        return ReadRequest(
            path=claim.known.path,
            root=str(self.source.root),
            slot=slot,
            max_cells=limits.max_cells,
            max_pixels=limits.max_pixels,
            max_bytes=limits.max_bytes,
            um_per_px=source.um_per_px,
            rules=self.bundle.card.prepare.pixels,
            settled_long=claim.settled_long,
            flask_code=bool(self.settings.flask.qr),
            folder_names=self.settings.flask.folder_names,
            cpu_limit_s=limits.read_cpu_s,
        )

    def _take_read(self) -> None:
        answer = self.workers.read_answer()
        if answer is None:
            return
        job = self._reading
        if isinstance(answer, WorkerFault):
            self._reader_lost(answer)
        elif isinstance(answer, DetectorFailed):
            if not self._was_ready:
                raise ModelUnusableError(answer.detail)
        elif job is None:
            log.error("the reader answered without a question")
        elif isinstance(answer, Refused):
            self._reading = None
            self._free_slots.append(job.slot)
            self.recorder.refused(self.source, job.claim, answer)
        else:
            self._reading = None
            self._take_prepared(job, answer)

    def _take_prepared(self, job: Job, prepared: Prepared) -> None:
        if self.recorder.changed(self.source, job.claim, prepared):
            self._free_slots.append(job.slot)
            return
        job.claim, job.prepared = self.recorder.scanned(self.source, job.claim, prepared)
        self._prepared.append(job)

    def _reader_lost(self, fault: WorkerFault) -> None:
        job, self._reading = self._reading, None
        if job is None:
            return
        self._free_slots.append(job.slot)
        self.recorder.crashed(self.source, job.claim, fault.text)

    # ---------------------------------------------------------------------------------- inference

    def _start_inference(self) -> None:
        while self._prepared and not self._inferring and self.workers.can_infer:
            job = self._prepared.popleft()
            prepared = job.prepared
            assert prepared is not None  # only prepared jobs are in the queue
            if self.recorder.already_known(self.source, job.claim, prepared):
                self._free_slots.append(job.slot)
                continue
            job.tries += 1
            self._inferring = job
            fault = self.workers.infer(job.slot, prepared.n_crops)
            if fault:
                self._inference_lost(fault)

    def _take_inferred(self) -> None:
        answer = self.workers.infer_answer()
        if isinstance(answer, Loaded):
            log.info("model %s on %s", self.bundle.card.name, answer.provider)
        elif isinstance(answer, LoadFailed) and not self._was_ready:
            raise ModelUnusableError(answer.detail)
        elif isinstance(answer, WorkerFault):
            self._inference_lost(answer)
        elif isinstance(answer, Classified) and self._inferring:
            job, self._inferring = self._inferring, None
            self._free_slots.append(job.slot)
            self._n_classified += 1
            assert job.prepared is not None  # it was inferred
            self._record(job, job.prepared, answer)

    def _inference_lost(self, fault: WorkerFault) -> None:
        job, self._inferring = self._inferring, None
        if job is None:
            return
        if job.tries < MAX_INFERENCE_TRIES:
            self._prepared.appendleft(job)  # its crops are still in shared memory
            return
        self._free_slots.append(job.slot)
        assert job.prepared is not None  # it was inferred
        if self._is_its_fault(job.prepared.sha256):
            self.recorder.no_result(self.source, job.claim, fault.text)
            return
        with self.journal.transaction():
            self.source.again(job.claim, FileReason.INFERENCE_FAILED, fault.text)

    def _is_its_fault(self, sha256: str) -> bool:
        """Whether the model was lost over this content in every round and served others between.

        A model that serves nobody is at fault itself, and then every image waits for it.
        """
        rounds, n_classified = self._lost_over.pop(sha256, (0, -1))
        if self._n_classified > n_classified:
            rounds += 1
        if rounds < MAX_INFERENCE_ROUNDS:
            self._lost_over[sha256] = rounds, self._n_classified
        return rounds >= MAX_INFERENCE_ROUNDS

    def _record(self, job: Job, prepared: Prepared, classified: Classified) -> None:
        """The one guard around a frame: a result that cannot be made must not stop the others."""
        assert self.workers.loaded is not None  # it just answered
        detector, provider = self.detector, self.workers.loaded.provider
        model = model_ref(
            self.bundle.card, self.bundle.sha256, provider, detector.name, detector.fingerprint
        )
        try:
            told = self.recorder.result(self.source, job.claim, prepared, classified, model)
        except Exception as error:
            refused_row = isinstance(error, sqlite3.IntegrityError)
            if isinstance(error, sqlite3.Error) and not refused_row:
                raise  # a journal that cannot be written is not the frame's fault
            log.exception("%s: no result could be made", job.claim.known.path)
            self.recorder.no_result(self.source, job.claim, f"{type(error).__name__}: {error}")
        else:
            if self.shadow:
                self.shadow.offer(*told)

    # ------------------------------------------------------------------------------------ the pulse

    def state(self) -> tuple[State, tuple[str, ...]]:
        """The state for beats, and every reason why it is not better."""
        workers = self.workers
        camera = self.camera.fault if self.camera else None
        known = (self.source.fault, camera, workers.load_fault, workers.detector_fault)
        faults = [fault for fault in known if fault]
        if not self._was_ready:
            return "starting", tuple(faults)
        if self.workers.loaded is None:
            faults.append("the model is being loaded again")
        return ("degraded" if faults else "ready"), tuple(faults)

    def _beat(self) -> None:
        now = time.monotonic()
        both = self.workers.loaded is not None and self.workers.detector is not None
        if both and not self._was_ready:
            self._was_ready, self._next_beat_s = True, now
            self.notifier.ready()
        if now < self._next_beat_s:
            return
        self._next_beat_s = now + BEAT_S
        state, reasons = self.state()
        provider = self.workers.loaded.provider if self.workers.loaded else "none"
        beat = Beat(
            seq=self.journal.head,
            tseq=self.journal.topic_heads(),
            replay=self.recorder.publisher.endpoints.replay,
            state=state,
            reasons=reasons,
            provider=provider,
            queue_depth=self.source.depth,
            dropped=self.camera.counts.dropped if self.camera else 0,
            uptime_s=now - self._started_s,
            files=self.source.files.counts(),
            camera=self.camera.beat if self.camera else None,
        )
        self.recorder.publisher.beat(beat)
        self.notifier.alive()
        status = f"{state}, {provider}, message {beat.seq}, {beat.queue_depth} waiting"
        if self.camera:
            status += f"; camera: {self.camera.status}"
        if self.shadow:
            status += f"; shadow: {self.shadow.status}"
        self.notifier.status(status)
