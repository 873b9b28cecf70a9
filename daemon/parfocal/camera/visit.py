"""A camera used by a command: its own child, asked and waited for, gone when the block ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from parfocal.camera.device import CameraError, Described
from parfocal.camera.protocol import (
    CameraAnswer,
    CameraFailed,
    CameraRequest,
    Devices,
    ListDevices,
    Look,
    OpenCamera,
    Seen,
    Snap,
)
from parfocal.camera.source import start_child
from parfocal.child import Child, ChildError
from parfocal.config import CameraSettings
from parfocal.workers import NONSENSE

LIST_S = 60.0
WALL_S = 5.0
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Visit:
    """An open camera."""

    child: Child
    described: Described

    def look(self, wait_s: float, preview_px: int, most_frames: int | None = None) -> Seen:
        """What it shows within this time, with a preview of the last frame."""
        request = Look(wait_s=wait_s, preview_px=preview_px, most_frames=most_frames)
        return asked(self.child, request, Seen, wait_s + self._wall_s)

    def snap(self, path: str, wait_s: float) -> Seen:
        """Save the next frame losslessly."""
        return asked(self.child, Snap(path=path, wait_s=wait_s), Seen, wait_s + self._wall_s)

    @property
    def _wall_s(self) -> float:
        return WALL_S + 2e-3 * self.described.exposure_ms


@contextmanager
def visit(settings: CameraSettings) -> Iterator[Visit]:
    """The configured camera, open.

    Raises
    ------
    CameraError
        It is not there, refuses a setting, hangs or crashes.
    """
    child = start_child()
    try:
        opening = OpenCamera(camera=settings)
        yield Visit(child, asked(child, opening, Described, settings.open_wall_s))
    finally:
        child.close()


def listed() -> Devices:
    """Which cameras there are; an adapter that crashes takes only the child with it."""
    child = start_child()
    try:
        return asked(child, ListDevices(), Devices, LIST_S)
    finally:
        child.close()


def asked(child: Child, request: CameraRequest, kind: type[Answer], wall_s: float) -> Answer:
    """The answer of this kind."""
    try:
        message = child.ask(msgspec.msgpack.encode(request), wall_s)
        answer = msgspec.msgpack.decode(message, type=CameraAnswer)
    except ChildError as error:
        raise CameraError(f"the process of the {error}: its driver hangs or crashed") from error
    except NONSENSE as error:
        raise CameraError(f"the camera child sent nonsense: {error}") from error
    if isinstance(answer, CameraFailed):
        raise CameraError(answer.detail)
    if not isinstance(answer, kind):
        raise CameraError("the camera child answered what was not asked")
    return answer
