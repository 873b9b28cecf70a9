"""The camera child: the only process that touches a camera driver.

A driver may hang, crash or fill the memory: all that costs is this process, which the daemon
replaces. Run as `python -m parfocal.camera.child SOCKET_FD`.
"""

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.camera.device import (
    SIMULATED,
    Camera,
    CameraError,
    Described,
    Shot,
    extra_installed,
    opened,
)
from parfocal.camera.gate_protocol import Decided, Gate, chosen
from parfocal.camera.protocol import (
    CameraAnswer,
    CameraFailed,
    CameraRequest,
    Device,
    Devices,
    Keep,
    ListDevices,
    Look,
    OpenCamera,
    Seen,
    Snap,
)
from parfocal.camera.spool import Spool, png, write
from parfocal.child import DOUBT_EXIT, serve
from parfocal.config import CameraSettings
from parfocal.prepare import to_gray
from parfocal.preview import thumbnail
from parfocal.quality import quality
from parfocal.types import Frame, Gray

DRAWN = Device(library=SIMULATED, name="IX50", description="Simulated microscope of parfocal")


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A frame that the gate took and nobody wrote yet."""

    shot: Shot
    decided: Decided


class Watcher:
    """Answers requests; holds the open camera, the gate, and at most one frame.

    Parameters
    ----------
    open_camera : callable
    new_gate : callable
        Makes the gate of a flask.
    """

    def __init__(
        self,
        open_camera: Callable[[CameraSettings], Camera] = opened,
        new_gate: Callable[[CameraSettings], Gate] = chosen,
    ) -> None:
        self._open_camera, self._new_gate = open_camera, new_gate
        self._camera: Camera | None = None
        self._spool: Spool | None = None
        self._gate: Gate | None = None
        self._kept: dict[int, Path] = {}
        self._session: str | None = None
        self._held: Held | None = None
        self._size: tuple[int, ...] | None = None
        self._failure: CameraError | None = None

    def __call__(self, request: CameraRequest) -> CameraAnswer:
        """Carry out one request; trouble with the camera is an answer."""
        try:
            match request:
                case OpenCamera():
                    return self._open(request)
                case Look():
                    return self._look(request)
                case Keep():
                    return self._keep()
                case Snap():
                    return self._snap(request)
                case ListDevices():
                    return listed()
        except CameraError as error:
            return CameraFailed(detail=str(error))

    @property
    def camera(self) -> Camera:
        """The open camera."""
        if self._camera is None:
            raise CameraError("no camera is open")
        return self._camera

    @property
    def gate(self) -> Gate:
        """The flask's gate."""
        assert self._gate is not None  # it comes with the camera
        return self._gate

    def _open(self, request: OpenCamera) -> Described:
        before = self._camera
        # even if it does not close
        self._camera = self._held = self._spool = self._size = self._failure = None
        if before is not None:
            before.close()
        self._camera = self._open_camera(request.camera)
        self._settings = request.camera
        self._begin()
        described = self._camera.described
        if request.camera.gate == "rest" and min(described.width_px, described.height_px) < 256:
            raise CameraError("the gate 'rest' needs 256 px a side: enlarge source.camera.roi")
        if request.folder is not None:
            self._spool = Spool(Path(request.folder), described, request.um_per_px)
        return described

    def _look(self, request: Look) -> Seen:
        if self._failure is not None:
            raise self._failure
        camera, shot, seen = self.camera, None, self._turned(request.session)
        left_s, until_s = request.wait_s, time.monotonic() + request.wait_s
        while left_s > 0 and not (self._held and request.may_keep):
            if len(seen.frame_s) == request.most_frames:
                break
            try:
                new = self._same_size(camera.next(left_s))
            except CameraError as error:
                if seen == Seen():
                    raise
                self._failure = error  # told next: what was seen before must be counted
                break
            if new is not None:
                shot, seen = new, self._decided(new, seen)
            left_s = until_s - time.monotonic()
        seen = msgspec.structs.replace(seen, held=self._held is not None)
        if shot is None or not request.preview_px:
            return seen
        return self._shown(shot, seen, request.preview_px)

    def _same_size(self, shot: Shot | None) -> Shot | None:
        """The frame, unless the camera was set to another size meanwhile: then it opens anew."""
        if shot is None:
            return None
        h, w = size = shot.pixels.shape[:2]
        before, self._size = self._size or size, size
        if before != size:
            was = f"{before[1]}x{before[0]}"
            raise CameraError(f"frames are now of {w}x{h} px, before of {was}: it is opened again")
        return shot

    def _turned(self, session: str | None) -> Seen:
        """Begin afresh with another flask; a frame that is still held shows the one before."""
        if session == self._session:
            return Seen()
        dropped = int(self._held is not None)
        self._session, self._held = session, None
        self._begin()
        return Seen(n_replaced=dropped)

    def _begin(self) -> None:
        """With a fresh gate, which numbers its fields anew."""
        self._gate, self._kept = self._new_gate(self._settings), {}

    def _decided(self, shot: Shot, seen: Seen) -> Seen:
        decided = self.gate(eight_bits(shot, self.camera.described.bits), shot.at_s)
        replaced = 0
        if decided.take and self._spool is not None:
            replaced = int(self._held is not None)
            if self._held is not None:
                self._lost(self._held)
            self._held = Held(shot, decided)
        return msgspec.structs.replace(
            seen,
            frame_s=[*seen.frame_s, shot.at_s],
            n_missed=seen.n_missed + shot.n_missed,
            n_replaced=seen.n_replaced + replaced,
            n_overflows=seen.n_overflows + shot.n_overflows,
            view=decided.reason,
        )

    def _keep(self) -> Seen:
        held, self._held = self._held, None
        if held is None or self._spool is None:
            return Seen()
        known = [one for one in held.decided.overlaps if one.field in self._kept]
        try:
            earlier = [(self._kept[one.field], one) for one in known]
            path = self._spool.keep(held.shot, earlier, self._session)
        except OSError as error:
            self._lost(held)
            why = f"frames cannot be kept in {self._spool.folder}: {error.strerror}"
            return Seen(keep_fault=why, n_replaced=1)
        if held.decided.field is not None:
            self._kept[held.decided.field] = path
        return Seen(kept=str(path))

    def _lost(self, held: Held) -> None:
        """A frame that nobody will count: its place may be taken again."""
        if held.decided.field is not None:
            self.gate.lost(held.decided.field)

    def _shown(self, shot: Shot, seen: Seen, longest_px: int) -> Seen:
        graded = quality(to_gray(shot.pixels))
        return msgspec.structs.replace(
            seen,
            mean=float(shot.pixels.mean()) / (2**self.camera.described.bits - 1),
            clipped=1 - graded.exposure,
            focus=graded.focus,
            preview=thumbnail(Frame(shot.pixels), longest_px),
        )

    def _snap(self, request: Snap) -> Seen:
        shot = self.camera.next(request.wait_s)
        if shot is None:
            external = self.camera.described.trigger == "external"
            why = "no trigger came" if external else "no frame came"
            raise CameraError(f"{why} within {request.wait_s:g} s")
        seen = Seen(frame_s=[shot.at_s], n_missed=shot.n_missed)
        try:
            write(Path(request.path), png(shot.pixels))
        except OSError as error:
            return msgspec.structs.replace(
                seen, keep_fault=f"{request.path} cannot be written: {error.strerror}"
            )
        return self._shown(shot, msgspec.structs.replace(seen, kept=request.path), 480)


def eight_bits(shot: Shot, bits: int) -> NDArray[np.uint8]:
    """The frame for the gate: shape (h, w), its `bits` scaled to 8."""
    gray: Gray = to_gray(shot.pixels)
    if gray.dtype == np.uint8:
        return np.asarray(gray, np.uint8)
    return np.asarray(cv2.convertScaleAbs(gray, alpha=255 / (2**bits - 1)), np.uint8)


def listed() -> Devices:
    """Every camera that could be named in the configuration here, the simulated one too."""
    try:
        with extra_installed():
            from parfocal.camera.mmcore import devices
    except CameraError as error:
        return Devices(devices=[DRAWN], note=str(error))
    found = devices()
    return msgspec.structs.replace(found, devices=[*found.devices, DRAWN])


def die_with_threads() -> None:
    """End the process when any thread fails: a driver in Python dies there, and nobody hears it."""

    def end(failure: threading.ExceptHookArgs, /) -> None:
        traceback.print_exception(failure.exc_type, failure.exc_value, failure.exc_traceback)
        sys.stderr.flush()
        os._exit(DOUBT_EXIT)

    threading.excepthook = end


def run(fd: int, watcher: Watcher) -> None:
    """Serve until the parent goes away."""
    cv2.setNumThreads(1)  # the detector needs the processor more
    die_with_threads()

    def answer(message: bytes) -> bytes:
        return msgspec.msgpack.encode(watcher(msgspec.msgpack.decode(message, type=CameraRequest)))

    serve(fd, answer)


if __name__ == "__main__":
    run(int(sys.argv[1]), Watcher())
