"""Our own camera interface: the newest frame, how many were missed, one named error.

Micro-Manager's core is one implementation, the simulated microscope another; nothing else of
parfocal knows which it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.config import CameraSettings
from parfocal.types import Pixels

SIMULATED = "simulated"
"""The device library of cameras that are drawn."""
EXTRA = "pip install 'parfocal[camera]'"


class CameraError(Exception):
    """The camera cannot be used (any more); the message says what happened and what to do."""


class Described(msgspec.Struct, frozen=True, kw_only=True, tag="opened"):
    """A camera as it was opened. `pixel_type` and `trigger` as in the configuration."""

    name: str
    library: str
    width_px: int
    height_px: int
    bits: int
    pixel_type: str
    trigger: str
    exposure_ms: float
    adapters: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One frame.

    Parameters
    ----------
    pixels : ndarray of shape (h, w) or (h, w, 3) RGB, uint8 or uint16, contiguous
    at_s : float
        Monotonic seconds when it was received.
    acquired_at : datetime
        The same in UTC.
    n_missed : int
        Frames that the camera made between the one before and this one, and nobody saw; at least
        so many after an overflow of a buffer that stops when it is full, and counts no more.
    n_overflows : int
        How often its buffer was full meanwhile.
    """

    pixels: Pixels
    at_s: float
    acquired_at: datetime
    n_missed: int = 0
    n_overflows: int = 0


class Camera(Protocol):
    """An open camera."""

    @property
    def described(self) -> Described:
        """What it is and how it is set."""

    def next(self, wait_s: float, /) -> Shot | None:
        """The newest frame that was not given yet; None when none came in time.

        Raises
        ------
        CameraError
            It is gone, stopped by itself or delivers nothing.
        """

    def close(self) -> None:
        """Let it go."""


def opened(settings: CameraSettings) -> Camera:
    """The configured camera, set as configured.

    Raises
    ------
    CameraError
        It is not there, or refuses a setting.
    """
    if settings.device and settings.device[0] == SIMULATED:
        from parfocal.camera.simulated import SimulatedCamera

        return SimulatedCamera(settings)
    with extra_installed():
        from parfocal.camera.mmcore import MicroManagerCamera
    return MicroManagerCamera(settings)


@contextmanager
def extra_installed() -> Iterator[None]:
    """Say what to install when Micro-Manager's core is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise CameraError(
            f"a camera needs pymmcore-plus, which is not installed ({error.name}): {EXTRA}"
        ) from error


def checked(pixels: NDArray[np.generic], pixel_type: str) -> Pixels:
    """The pixels, contiguous: shape (h, w) or (h, w, 3), uint8 or uint16.

    Raises
    ------
    CameraError
        They are something else.
    """
    known = pixels.dtype in (np.uint8, np.uint16)
    if not known or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise CameraError(
            f"pixel type '{pixel_type}' gives {pixels.dtype} of shape {pixels.shape}: set "
            "source.camera.pixel_type to a gray or RGB one of 8 or 16 bits per channel"
        )
    # RGB comes as a view with a negative stride, which neither OpenCV nor an encoder takes
    contiguous: Pixels = np.ascontiguousarray(pixels)
    return contiguous
