"""What daemon and camera child say to each other, in msgpack: one answer to each request."""

import msgspec

from parfocal.camera.device import Described
from parfocal.config import CameraSettings
from parfocal.reasons import GateReason


class OpenCamera(msgspec.Struct, frozen=True, kw_only=True, tag="open"):
    """Open the camera and, with a folder, keep the frames that the gate takes there."""

    camera: CameraSettings
    folder: str | None = None
    um_per_px: float | None = None


class Look(msgspec.Struct, frozen=True, kw_only=True, tag="look"):
    """Look at frames for at most `wait_s`, and at no more than `most_frames`.

    The newest frame that the gate took is held; the one it replaces is dropped. `may_keep`: answer
    as soon as one is held, so that it can be kept. Another `session` is another flask: the gate
    starts afresh.
    """

    wait_s: float
    most_frames: int | None = None
    may_keep: bool = False
    session: str | None = None
    preview_px: int = 0


class Keep(msgspec.Struct, frozen=True, kw_only=True, tag="keep"):
    """Write the held frame: apart from looking, for a disk may take longer than a driver may.

    It says in which session it was seen, which is that of the look before.
    """


class Snap(msgspec.Struct, frozen=True, kw_only=True, tag="snap"):
    """Save the next frame under this name, losslessly."""

    path: str
    wait_s: float


class ListDevices(msgspec.Struct, frozen=True, kw_only=True, tag="list"):
    """Which cameras the installed adapters know."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an adapter, or, with a `fault`, an adapter that cannot be loaded."""

    library: str
    name: str = ""
    description: str = ""
    fault: str | None = None


class Devices(msgspec.Struct, frozen=True, kw_only=True, tag="devices"):
    """Answer to `ListDevices`. `note` says what is missing for more."""

    devices: list[Device]
    adapters: str = ""
    note: str | None = None


class Seen(msgspec.Struct, frozen=True, kw_only=True, tag="seen"):
    """What one look saw, or what became of a frame.

    `held`: a frame waits for `Keep`. `frame_s`: monotonic times of the frames looked at;
    `n_missed`: frames that nobody saw; `n_replaced`: frames that the gate took and a newer one
    replaced; `n_overflows`: times the camera's buffer was full. `mean`, `clipped` and `focus`
    (shares of 1) speak of the last frame and are set with a preview; `view` is the gate's last
    word.
    """

    frame_s: list[float] = []
    n_missed: int = 0
    n_replaced: int = 0
    n_overflows: int = 0
    held: bool = False
    kept: str | None = None
    keep_fault: str | None = None
    view: GateReason | None = None
    mean: float = 0.0
    clipped: float = 0.0
    focus: float = 0.0
    preview: bytes = b""


class CameraFailed(msgspec.Struct, frozen=True, kw_only=True, tag="camera_failed"):
    """The camera cannot be used (any more)."""

    detail: str


CameraRequest = OpenCamera | Look | Keep | Snap | ListDevices
CameraAnswer = Described | Seen | Devices | CameraFailed
