"""A camera through Micro-Manager's core (pymmcore-plus): whatever has a device adapter.

The only module that imports pymmcore-plus. What the core raises is RuntimeError, whatever the
driver's trouble was; here it becomes a `CameraError` that says what was being done.
"""

import difflib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pymmcore_plus
from numpy.typing import NDArray
from pymmcore_plus import CMMCorePlus, DeviceType

from parfocal.camera.device import CameraError, Described, Shot, checked
from parfocal.camera.protocol import Device, Devices
from parfocal.config import CameraSettings

LABEL = "Camera"
STALL_S = 2.0
"""A free-running camera that gives nothing for this long, and three exposures, is lost."""
START_S = 5.0
"""So long it may take for its first frame."""
POLL_S = 0.002


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Say what was being done when the core refused or its driver failed."""
    try:
        yield
    except (RuntimeError, ValueError, OSError, MemoryError) as error:
        raise CameraError(f"cannot {what}: {' '.join(str(error).split())}") from error


class MicroManagerCamera:
    """The camera of a device adapter, or of a Micro-Manager configuration file."""

    def __init__(self, settings: CameraSettings) -> None:
        self.settings = settings
        self.core = CMMCorePlus()
        self._running = False
        self._number, self._last_s = -1, 0.0
        self._lost = self._overflows = 0
        self._set_before: set[str] = set()
        with doing("reserve memory for frames"):
            self.core.setCircularBufferMemoryFootprint(settings.buffer_mb)
        self._load()
        self._label = self.core.getCameraDevice()
        self._apply()
        self.described = self._describe()

    def _load(self) -> None:
        settings, core = self.settings, self.core
        if settings.device:
            library, name = settings.device
            with doing(f"open camera {name} of adapter {library}"):
                core.loadDevice(LABEL, library, name)
                self._apply_before_start()
                core.initializeDevice(LABEL)
                core.setCameraDevice(LABEL)
            return
        with doing(f"load {settings.config_file}"):
            core.loadSystemConfiguration(os.path.expanduser(settings.config_file))
        if not core.getCameraDevice():
            raise CameraError(
                f"{settings.config_file} names no camera: choose one in Micro-Manager's hardware "
                "wizard (Core, Camera), or set source.camera.device"
            )

    def _apply_before_start(self) -> None:
        """What a driver reads only while it starts, such as which of several cameras it opens."""
        core = self.core
        for name, value in self.settings.properties.items():
            if core.hasProperty(LABEL, name) and core.isPropertyPreInit(LABEL, name):
                core.setProperty(LABEL, name, value)
                self._set_before.add(name)

    def _apply(self) -> None:
        settings, core = self.settings, self.core
        properties = settings.properties.items()
        wanted = {
            **{name: value for name, value in properties if name not in self._set_before},
            "Binning": settings.binning,
            "PixelType": settings.pixel_type,
            "Gain": settings.gain,
        }
        for name, value in wanted.items():
            if value is not None:
                self._set(name, value)
        if settings.roi:
            self._crop(settings.roi)
        if settings.exposure_ms is not None:
            with doing(f"set {settings.exposure_ms:g} ms of exposure"):
                core.setExposure(settings.exposure_ms)

    def _crop(self, roi: tuple[int, int, int, int]) -> None:
        with doing(f"set the region {list(roi)}"):
            self.core.clearROI()
            width_px, height_px = self.core.getImageWidth(), self.core.getImageHeight()
            if roi[0] + roi[2] > width_px or roi[1] + roi[3] > height_px:  # some drivers take it
                raise CameraError(f"the sensor has {width_px}x{height_px} px: correct {list(roi)}")
            self.core.setROI(*roi)

    def _set(self, name: str, value: str | float) -> None:
        core, label = self.core, self._label
        if not core.hasProperty(label, name):
            names = core.getDevicePropertyNames(label)
            near = difflib.get_close_matches(name, names, 1, 0.5) or names
            raise CameraError(f"this camera has no property {name}; it has {', '.join(near)}")
        allowed = ", ".join(core.getAllowedPropertyValues(label, name))
        with doing(f"set {name} to {value}{f' (it takes {allowed})' if allowed else ''}"):
            core.setProperty(label, name, value)

    def _describe(self) -> Described:
        core, label = self.core, self._label
        with doing("read how the camera is set"):
            typed = core.hasProperty(label, "PixelType")
            return Described(
                name=core.getDeviceName(label),
                library=core.getDeviceLibrary(label),
                width_px=core.getImageWidth(),
                height_px=core.getImageHeight(),
                bits=core.getImageBitDepth(),
                pixel_type=core.getProperty(label, "PixelType") if typed else "as it comes",
                trigger=self.settings.trigger,
                exposure_ms=core.getExposure(),
                adapters=os.pathsep.join(core.getDeviceAdapterSearchPaths()),
            )

    def next(self, wait_s: float, /) -> Shot | None:
        """The newest frame; snapped now with the software trigger, else popped."""
        if self.settings.trigger == "software":
            with doing("snap a frame"):
                self.core.snapImage()
                pixels = self.core.getImage()
            pixel_type = self.described.pixel_type
            return Shot(checked(pixels, pixel_type), time.monotonic(), datetime.now(UTC))
        with doing("read the camera's frames"):
            return self._newest(time.monotonic() + wait_s)

    def _newest(self, until_s: float) -> Shot | None:
        if not self._running:
            self._start()
        while (popped := self._popped()) is None:
            self._check_alive()
            if time.monotonic() >= until_s:
                return None
            time.sleep(POLL_S)
        n_missed, n_overflows, self._lost, self._overflows = self._lost, self._overflows, 0, 0
        self._last_s = time.monotonic()
        pixels = checked(popped, self.described.pixel_type)
        return Shot(pixels, self._last_s, datetime.now(UTC), n_missed, n_overflows)

    def _popped(self) -> NDArray[np.generic] | None:
        """Pixels of the newest frame waiting; what came since the last one is counted as lost."""
        waiting = self._waiting()
        if not waiting:
            return None
        try:
            for _ in range(waiting - 1):
                self.core.popNextImage(fix=False)
            pixels, tags = self.core.popNextImageAndMD()
        except (RuntimeError, IndexError):
            if self.core.getRemainingImageCount():
                raise
            return None  # the adapter emptied a full buffer meanwhile
        number = int(tags.get("ImageNumber", self._number + waiting))
        self._lost += max(0, number - self._number - 1)
        # many adapters empty a full buffer themselves: a gap in the numbers tells
        self._overflows += number - self._number > waiting
        self._number = number
        return pixels

    def _waiting(self) -> int:
        """Frames in the buffer; a full one takes no more, so it is emptied and started again."""
        waiting: int = self.core.getRemainingImageCount()
        if not self.core.isBufferOverflowed():
            return waiting
        self.core.stopSequenceAcquisition()
        self.core.clearCircularBuffer()
        self._start()
        # those that came while it was full, the core does not count: one at least
        self._lost += waiting + 1
        self._overflows += 1
        return 0

    def _start(self) -> None:
        self.core.startContinuousSequenceAcquisition(0)
        self._running, self._number, self._last_s = True, -1, time.monotonic()

    def _check_alive(self) -> None:
        if not self.core.isSequenceRunning():
            raise CameraError("the camera stopped by itself: is it still connected?")
        silent_s = time.monotonic() - self._last_s
        allowed_s = START_S if self._number < 0 else STALL_S
        allowed_s += 3e-3 * self.described.exposure_ms
        if self.settings.trigger == "continuous" and silent_s > allowed_s:
            raise CameraError(f"the camera has delivered nothing for {silent_s:.1f} s")

    def close(self) -> None:
        """Stop and unload; a core that refuses is left to the end of its process."""
        with doing("close the camera"):
            if self._running:
                self.core.stopSequenceAcquisition()
            self.core.unloadAllDevices()


def devices() -> Devices:
    """All cameras that the installed adapters know, and the adapters that cannot be loaded."""
    core = CMMCorePlus()
    found: list[Device] = []
    for library in sorted(core.getDeviceAdapterNames()):
        try:
            found += _cameras(core, library)
        except RuntimeError as error:
            found.append(Device(library=library, fault=" ".join(str(error).split())))
    where = pymmcore_plus.find_micromanager()
    adapters = os.pathsep.join(core.getDeviceAdapterSearchPaths())
    test_only = where is not None and "mm_test_adapters" in Path(where).parts
    note = TEST_ADAPTERS if test_only else None
    return Devices(devices=found, adapters=adapters, note=note)


TEST_ADAPTERS = (
    "these are Micro-Manager's test adapters: for a real camera set MICROMANAGER_PATH to the "
    "folder of a Micro-Manager with device interface 75, or run `mmcore use`"
)


def _cameras(core: CMMCorePlus, library: str) -> Iterator[Device]:
    rows = zip(
        core.getAvailableDevices(library),
        core.getAvailableDeviceTypes(library),
        core.getAvailableDeviceDescriptions(library),
        strict=True,
    )
    for name, kind, description in rows:
        if int(kind) == DeviceType.Camera:
            yield Device(library=library, name=name, description=description)
