"""A camera child for tests whose camera misbehaves as a file says, while it says so.

Run by the daemon in place of `parfocal.camera.child`; the file is named by PARFOCAL_TEST_FAULT.
"""

import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from parfocal.camera.child import Watcher, run
from parfocal.camera.device import CameraError, Described, Shot
from parfocal.config import CameraSettings

EVERY_S = 0.02
DESCRIBED = Described(
    name="Faulty", library="tests", width_px=96, height_px=64, bits=8, pixel_type="8bit",
    trigger="continuous", exposure_ms=1.0,
)  # fmt: skip


def fault() -> str:
    """The fault in force; empty while all is well."""
    try:
        return Path(os.environ["PARFOCAL_TEST_FAULT"]).read_text()
    except FileNotFoundError:
        return ""


class Faulty:
    """Noise at 50 frames per second, or the fault."""

    def __init__(self, settings: CameraSettings) -> None:
        self.described = msgspec.structs.replace(DESCRIBED, trigger=settings.trigger)
        self._rng = np.random.default_rng()
        if fault() == "vanished":
            raise CameraError("there is no such camera")

    def next(self, wait_s: float, /) -> Shot | None:
        n_missed = n_overflows = 0
        match fault():
            case "hang":
                time.sleep(3600)
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "thread":
                threading.Thread(target=lambda: 1 / 0).start()
                time.sleep(3600)
            case "vanished":
                raise CameraError("the camera stopped by itself: is it still connected?")
            case "silent":
                time.sleep(wait_s)
                return None
            case "overflow":
                n_missed, n_overflows = 7, 1
        time.sleep(EVERY_S)
        pixels = self._rng.integers(100, 140, (64, 96)).astype(np.uint8)
        return Shot(pixels, time.monotonic(), datetime.now(UTC), n_missed, n_overflows)

    def close(self) -> None:
        """Nothing is held."""


if __name__ == "__main__":
    run(int(sys.argv[1]), Watcher(Faulty))
