"""The simulated IX50 behind our own camera interface: a live camera where none is connected.

Two fields of a simulated flask in turn, each shown for some seconds, still, with fresh noise.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.camera.device import SIMULATED, CameraError, Described, Shot, checked
from parfocal.config import CameraSettings
from parfocal.prepare import to_gray
from parfocal.simulator.flask import Flask
from parfocal.simulator.lines import HEK293A, HT1080
from parfocal.simulator.loop import SHEET_SPARE_PX, Loop
from parfocal.simulator.parameters import Rig
from parfocal.types import Pixels

NAME = "IX50"
N_FIELDS = 2
REST_S = 2.0
FRAME_S = 0.04


def unknown_to_it(settings: CameraSettings) -> str | None:
    """The first thing that is set and that a drawn camera does not have."""
    asked = {
        "source.camera.gain": settings.gain is not None,
        "source.camera.binning": settings.binning not in (None, 1),
        "source.camera.properties": bool(settings.properties),
        f"source.camera.trigger '{settings.trigger}'": settings.trigger != "continuous",
        "source.camera.roi that begins elsewhere than at 0, 0": any((settings.roi or (0, 0))[:2]),
    }
    return next((what for what, is_set in asked.items() if is_set), None)


class SimulatedCamera:
    """A free-running 8 bit camera of 25 frames per second; `roi` sets the size of its sensor."""

    def __init__(self, settings: CameraSettings) -> None:
        if settings.device != (SIMULATED, NAME):
            raise CameraError(f"the only simulated camera is ['{SIMULATED}', '{NAME}']")
        refused = unknown_to_it(settings)
        if refused:
            raise CameraError(f"the simulated {NAME} has no {refused}: leave it out")
        self.pixel_type = settings.pixel_type or "32bitRGB"
        if self.pixel_type not in ("8bit", "32bitRGB"):
            raise CameraError(f"pixel type {self.pixel_type}: it has 8bit and 32bitRGB")
        rig = Rig()
        camera = rig.camera
        if settings.roi:
            camera = replace(camera, width_px=settings.roi[2], height_px=settings.roi[3])
        flask = Flask(
            ((HEK293A, 0.6), (HT1080, 0.4)), 80.0, seed=1, rig=replace(rig, camera=camera)
        )
        self._loop = Loop(flask, N_FIELDS, np.random.default_rng(1))
        self._period_s = max(FRAME_S, 1e-3 * (settings.exposure_ms or 0.0))
        self._began_s, self._last = time.monotonic(), -1
        self.described = Described(
            name=NAME,
            library=SIMULATED,
            width_px=camera.width_px,
            height_px=camera.height_px,
            bits=8,
            pixel_type=self.pixel_type,
            trigger=settings.trigger,
            exposure_ms=settings.exposure_ms or camera.exposure_ms,
        )

    def next(self, wait_s: float, /) -> Shot | None:
        """The newest frame of its own clock."""
        now = time.monotonic()
        due_s = self._began_s + (self._last + 1) * self._period_s
        if due_s > now + wait_s:
            time.sleep(wait_s)
            return None
        time.sleep(max(0.0, due_s - now))
        at_s = time.monotonic()
        number = max(self._last + 1, int((at_s - self._began_s) / self._period_s))
        n_missed, self._last = number - self._last - 1, number
        pixels: Pixels = self._exposed(int(number * self._period_s / REST_S) % N_FIELDS)
        if self.pixel_type == "8bit":
            pixels = to_gray(pixels)
        return Shot(checked(pixels, self.pixel_type), at_s, datetime.now(UTC), n_missed)

    def _exposed(self, field: int) -> NDArray[np.uint8]:
        """A field with noise of its own: shape (h, w, 3)."""
        loop = self._loop
        h, w = loop.size
        left, top = loop.rng.integers(0, SHEET_SPARE_PX + 1, 2).tolist()
        noise = loop.sheet[top : top + h, left : left + w].reshape(h, -1)
        still = loop.fields[field][:h, :w].reshape(h, -1)
        noisy = cv2.add(still, noise, dtype=cv2.CV_8U)
        return np.asarray(noisy, np.uint8).reshape(h, w, 3)

    def close(self) -> None:
        """Nothing is held."""
