"""Puts what happened into the journal, and only then tells anyone: results, totals, alarms.

Knows journal, flask sessions and publisher; does not know the children or how a file is read.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from parfocal.advice import HALF_WIDTH
from parfocal.alarms import Told, camera_changes, changes
from parfocal.assigning import assign
from parfocal.bundle import Bundle
from parfocal.camera.watch import Conditions
from parfocal.config import FlaskRules
from parfocal.files import Signature
from parfocal.folder import Claim, FolderSource
from parfocal.inference import Classified
from parfocal.journal import Journal, Message, iso
from parfocal.overlaps import counted_once
from parfocal.publish import (
    Command,
    Endpoints,
    Error,
    FlaskAnswer,
    FlaskAssign,
    FlaskClose,
    FlaskOpen,
    FlaskShow,
    Publisher,
    Reply,
)
from parfocal.reader import Prepared, Refused
from parfocal.reasons import SENTENCES, FileReason
from parfocal.results import frame_result, lca_rows
from parfocal.sessions import STANDARD, SessionError, Sessions
from parfocal.trend_passages import Passages
from parfocal.types import Alarm, FlaskRef, FrameResult, ModelRef
from parfocal.verdict import Verdicts, Yardstick

log = logging.getLogger(__name__)

IDLE_LOOK_S = 2.0
"""Between two looks for sessions that nobody closed."""


class Recorder:
    """The journal of a rig and everyone who listens to it.

    Parameters
    ----------
    journal : Journal
    endpoints : Endpoints
        Where to publish; `close` frees them.
    bundle : Bundle
        The model that results name.
    half_width : float
        Half width of the 95 % interval of a share at which advice says that it is enough.
    flasks : FlaskRules
        What sessions must say, and when they end.
    """

    def __init__(
        self,
        journal: Journal,
        endpoints: Endpoints,
        bundle: Bundle,
        half_width: float = HALF_WIDTH,
        flasks: FlaskRules = STANDARD,
    ) -> None:
        self.journal, self.bundle = journal, bundle
        self.sessions, self.verdicts = Sessions(journal, flasks), Verdicts(journal)
        self._next_look_s = float("-inf")
        self.passages, self.told = Passages(journal), Told(journal)
        self.yardstick = Yardstick.of(bundle.card, bundle.sha256, half_width)
        self.publisher = Publisher(journal, endpoints, self.command)

    def close(self) -> None:
        """Close the sockets."""
        self.publisher.close()

    @contextmanager
    def journaled(self) -> Iterator[list[Message]]:
        """Messages added in the block are on disk when it ends, and published after that."""
        messages: list[Message] = []
        with self.journal.transaction():
            yield messages
        for message in messages:
            self.publisher.publish(message)

    # ------------------------------------------------------------------------------------- images

    def result(
        self,
        source: FolderSource,
        claim: Claim,
        prepared: Prepared,
        classified: Classified,
        model: ModelRef,
    ) -> tuple[int, FrameResult]:
        """Store and publish the result of a file; returns the message's number and the result."""
        start, known = time.perf_counter(), claim.known
        with self.journaled() as messages:
            flask, card = self.flask_of(claim, prepared), self.bundle.card
            session = flask.session if flask else None
            prepared, classified, already = counted_once(
                known.path, prepared, classified, card.prepare.pixels,
                lambda path: source.files.counts_for(path, session, known.id),
            )  # fmt: skip
            result = frame_result(
                known.path, "folder", prepared, classified, card, model, flask,
                known.revision + 1, already,
            )  # fmt: skip
            rows = lca_rows(classified, len(result.cells))
            source.read_as(claim, Signature(*prepared.status))
            record_ms = (time.perf_counter() - start) * 1e3
            timing_ms = {**result.timing_ms, "record": record_ms}
            result = msgspec.structs.replace(result, timing_ms=timing_ms)
            # first the message: it refuses numbers that are not finite, and says which
            message = self.journal.append("frame", result, prepared.thumbnail)
            self.journal.add_cells(message.seq, result, rows)
            source.done(claim, message.seq, prepared.sha256, session)
            if session:
                self.sessions.had_frame(session)
            messages.append(message)
            if prepared.declared.overlap_fault:
                messages.append(self._overlap_alarm(known.path, prepared.declared.overlap_fault))
        if session:
            self.verdicts.count(session, result)
        return message.seq, result

    def no_result(self, source: FolderSource, claim: Claim, detail: str) -> None:
        """Give up a file of which no result can be made."""
        with self.journaled() as messages:
            source.given_up(claim, FileReason.INFERENCE_FAILED, detail)
            messages.append(self._file_alarm(claim, FileReason.INFERENCE_FAILED, detail))

    def refused(self, source: FolderSource, claim: Claim, answer: Refused) -> None:
        """Store that the reader refused a file, and tell if that is final."""
        with self.journaled() as messages:
            if answer.status:
                source.read_as(claim, Signature(*answer.status))
            final = source.refused(claim, answer.reason, answer.detail, answer.retry, answer.sha256)
            if final:
                messages.append(self._file_alarm(claim, answer.reason, answer.detail))

    def crashed(self, source: FolderSource, claim: Claim, detail: str) -> None:
        """Store that a reader died over a file, and tell if it is given up."""
        with self.journaled() as messages:
            if source.crashed(claim, detail):
                messages.append(self._file_alarm(claim, FileReason.RESOURCE_LIMIT, detail))

    def changed(self, source: FolderSource, claim: Claim, prepared: Prepared) -> bool:
        """Whether the file is no longer what stood still: then it settles again, not scored."""
        status = Signature(*prepared.status)
        if status == claim.known.signature:
            return False
        with self.journal.transaction():
            source.read_as(claim, status)
            source.again(claim, FileReason.INCOMPLETE, "it changed before it was read")
        return True

    def scanned(
        self, source: FolderSource, claim: Claim, prepared: Prepared
    ) -> tuple[Claim, Prepared]:
        """Let a code in an image do what a hand scanner does, if the rig asks for that.

        Returns the file as it belongs then. Files after it that wait belong with it: they were seen
        before the code was read. A file from before the start opens nothing: its label is gone.
        """
        known, seen = claim.known, prepared.declared
        scored = known.seq is not None and known.sha256 == prepared.sha256
        if self.sessions.rules.qr != "stage" or not seen.code or not claim.live or scored:
            return claim, prepared
        try:
            with self.journaled() as messages:
                session, closed = self.sessions.scanned(seen.flask, known.session)
                if closed:
                    messages += self._verdict(closed)
                claim = source.from_here(claim, session)
        except SessionError as error:
            with self.journaled() as messages:
                messages.append(self._scan_alarm(known.path, str(error)))
            return claim, prepared
        told = msgspec.structs.replace(seen, flask=None, code=None)
        return claim, msgspec.structs.replace(prepared, declared=told)

    def already_known(self, source: FolderSource, claim: Claim, prepared: Prepared) -> bool:
        """Whether these bytes have their result: the file was only touched, or is a copy."""
        known, status = claim.known, Signature(*prepared.status)
        if known.seq is not None and known.sha256 == prepared.sha256:
            with self.journaled():
                source.read_as(claim, status)
                source.unchanged(claim)
            return True
        with self.journaled() as messages:
            flask = self.flask_of(claim, prepared)
            of = flask and source.files.same_bytes(prepared.sha256, flask.session, known.id)
            if not of:
                return False
            source.read_as(claim, status)
            source.duplicate(claim, of, prepared.sha256)
            messages.append(self._file_alarm(claim, FileReason.DUPLICATE, "same bytes"))
        return True

    def flask_of(self, claim: Claim, prepared: Prepared) -> FlaskRef | None:
        """Folder or sidecar first, then the flask that was open when the image came.

        Of a camera frame that is the one in which it was taken, as its sidecar says, however late
        its file is seen; of any other the one open when its file was first seen. Where a label
        before the lens opens flasks, frames after it were taken before anybody had read it: then
        the order of the files decides of all that came while the service ran.
        """
        declared = prepared.declared
        if declared.flask:
            return self.sessions.declared(declared.flask)
        by_order = declared.session is None or (self.sessions.rules.qr == "stage" and claim.live)
        session = claim.known.session if by_order else declared.session
        return self.sessions.get(session) if session else None

    def _file_alarm(self, claim: Claim, reason: FileReason, detail: str) -> Message:
        path = claim.known.path
        alarm = Alarm(
            name="file_not_scored",
            level="info" if reason is FileReason.DUPLICATE else "warning",
            since_at=iso(self.journal.now()),
            text=f"{os.path.basename(path)} was not scored: {SENTENCES[reason]}",
            evidence={"path": path, "reason": reason, "detail": detail},
        )
        log.warning("%s: %s (%s)", path, SENTENCES[reason], detail)
        return self.journal.append("alarm", alarm)

    def _scan_alarm(self, path: str, fault: str) -> Message:
        alarm = Alarm(
            name="flask_not_opened",
            level="warning",
            since_at=iso(self.journal.now()),
            text=f"the code in {os.path.basename(path)} changes nothing: {fault}",
            evidence={"path": path, "detail": fault},
        )
        log.warning("%s", alarm.text)
        return self.journal.append("alarm", alarm)

    def _overlap_alarm(self, path: str, fault: str) -> Message:
        alarm = Alarm(
            name="overlap_not_understood",
            level="warning",
            since_at=iso(self.journal.now()),
            text=f"{os.path.basename(path)} counts whole: where it lies on earlier fields is not "
            "understood, so cells of theirs may count twice",
            evidence={"path": path, "detail": fault},
        )
        log.warning("%s (%s)", alarm.text, fault)
        return self.journal.append("alarm", alarm)

    # ------------------------------------------------------------------------------------- camera

    def camera(self, conditions: Conditions) -> None:
        """Store and tell what is newly wrong with the camera, and what is over."""
        told = self.told.camera
        news = camera_changes(told, conditions, iso(self.journal.now()))
        if not news:
            return
        with self.journaled() as messages:
            messages += [self.journal.append("alarm", alarm) for alarm in news]
        for alarm in news:
            log_alarm(alarm)
            told[alarm.name] = alarm

    # ------------------------------------------------------------------------------------- flasks

    def publish_verdicts(self) -> None:
        """Store and publish the totals of every flask that has news and was quiet for a second."""
        for session in self.verdicts.due(time.monotonic()):
            flask = self.sessions.get(session)
            if flask is not None:
                with self.journaled() as messages:
                    messages += self._verdict(flask)

    def close_idle(self) -> None:
        """Close a session that had no frame for too long, and tell: its totals, and that it is.

        At most one a look, so that many old ones do not keep images waiting.
        """
        if time.monotonic() < self._next_look_s:
            return
        self._next_look_s = time.monotonic() + IDLE_LOOK_S
        idle = self.sessions.idle()
        if idle is not None:
            with self.journaled() as messages:
                closed = self.sessions.end(idle, "rule")
                messages += self._verdict(closed)
                messages.append(self._closed_alarm(closed))

    def _closed_alarm(self, flask: FlaskRef) -> Message:
        hours = f"{self.sessions.rules.close_after_h:g} h"
        alarm = Alarm(
            name="flask_closed",
            level="info",
            since_at=flask.closed_at or iso(self.journal.now()),
            text=f"flask {flask.id} was left open and is closed: no frame for {hours}",
            evidence={"flask": flask.id, "session": flask.session, "close_after": hours},
        )
        log.warning("%s", alarm.text)
        return self.journal.append("alarm", alarm)

    def _verdict(self, flask: FlaskRef) -> list[Message]:
        """The flask's totals, and the alarms that they set or clear."""
        totals, session = self.verdicts.of(flask.session), flask.session
        verdict = totals.against(flask, self.yardstick, self.passages.alike(flask))
        messages = [self.journal.append("flask", verdict)]
        told, history = self.told.of(session), totals.history(flask, self.yardstick)
        for alarm in changes(flask, told, history, iso(self.journal.now())):
            log_alarm(alarm)
            messages.append(self.journal.append("alarm", alarm))
            told[alarm.name] = alarm
        self.verdicts.published(session, time.monotonic())
        return messages

    def command(self, request: Command) -> Reply:
        """Carry out a flask command once, however often it is sent."""
        if isinstance(request, FlaskShow):
            return self._shown(request)
        before = self.journal.answered(request.request_id)
        if before is not None:
            reply: Reply = msgspec.json.decode(before, type=Reply)
            return reply
        try:
            with self.journaled() as messages:
                done = self._carry_out(request, messages)
                if done.closed:
                    messages += self._verdict(done.closed)
                self.journal.remember_answer(request.request_id, msgspec.json.encode(done))
        except SessionError as error:
            return Error(str(error), request.request_id)
        return done

    def _shown(self, request: FlaskShow) -> Reply:
        """The flask asked for, or that on the stage; of an empty one, whom a rule took off it."""
        request_id = request.request_id
        if request.flask:
            try:
                return FlaskAnswer(self.sessions.named(request.flask), None, request_id)
            except SessionError as error:
                return Error(str(error), request_id)
        current, last = self.sessions.current(), self.sessions.last_closed()
        by_rule = current is None and last is not None and last.closed_by == "rule"
        return FlaskAnswer(current, last if by_rule else None, request_id)

    def _carry_out(
        self, request: FlaskOpen | FlaskClose | FlaskAssign, messages: list[Message]
    ) -> FlaskAnswer:
        if isinstance(request, FlaskOpen):
            opened, closed = self.sessions.open(request.flask)
            return FlaskAnswer(opened, closed, request.request_id)
        if isinstance(request, FlaskAssign):
            return self._assigned(request, messages)
        closed = self.sessions.close(request.flask)
        return FlaskAnswer(self.sessions.current(), closed, request.request_id)

    def _assigned(self, request: FlaskAssign, messages: list[Message]) -> FlaskAnswer:
        flask = self.sessions.named(request.flask)
        message, result, before = assign(self.journal, request.path, flask, request.move)
        messages.append(message)
        for session in filter(None, (before, flask.session)):
            self.verdicts.count(session, result)  # anew, because the frame is told again
        return FlaskAnswer(flask, None, request.request_id)


def log_alarm(alarm: Alarm) -> None:
    """One line for whoever runs the rig: what is over is no warning."""
    log.log(logging.INFO if alarm.cleared else logging.WARNING, "%s", alarm.text)
