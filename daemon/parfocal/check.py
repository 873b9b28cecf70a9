"""`parfocal check`: what would stop the instrument from working, each with its remedy."""

import importlib.metadata
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zmq

from parfocal.bundle import Bundle, BundleError, load
from parfocal.camera.device import EXTRA, SIMULATED, CameraError
from parfocal.camera.visit import visit
from parfocal.classify import DeviceError, InferenceError, OnnxClassifier
from parfocal.config import Settings
from parfocal.detectors import choose, started
from parfocal.journal import AlreadyRunningError, JournalError, lock
from parfocal.mounts import is_network, mount_of
from parfocal.publish import BindError, bound

LOW_DISK_BYTES = 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `remedy` is None when it is fine; `warning`: it works, but read this."""

    subject: str
    text: str
    remedy: str | None = None
    warning: bool = False

    @property
    def kind(self) -> str:
        """`fault`, `note` or `ok`."""
        return "fault" if self.remedy is not None else "note" if self.warning else "ok"


def check(settings: Settings) -> list[Finding]:
    """All findings, in the order of the start."""
    running = _running(settings)
    parts: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: _runtime(),
        lambda: _model(settings),
        lambda: _shadow(settings),
        lambda: _detector(settings),
        lambda: _state(settings, running),
        lambda: _camera(settings, running),
        lambda: _folder(settings),
        lambda: _ports(settings, running),
    )
    return [finding for part in parts for finding in part()]


def runtimes() -> list[str]:
    """Installed distributions that own the module onnxruntime."""
    names = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
    installed = []
    for name in names:
        try:
            installed.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _runtime() -> Iterator[Finding]:
    installed = runtimes()
    if len(installed) == 1:
        yield Finding("runtime", installed[0])
    elif not installed:
        remedy = "pip install 'parfocal[cpu]', or 'parfocal[gpu]' on a machine with an NVIDIA GPU"
        yield Finding("runtime", "onnxruntime is not installed", remedy)
    else:
        remedy = "pip uninstall all of them, then install 'parfocal[cpu]' or 'parfocal[gpu]'"
        text = f"{' and '.join(installed)} share one module and overwrite each other"
        yield Finding("runtime", text, remedy)


def _model(settings: Settings) -> Iterator[Finding]:
    model = settings.model
    try:
        bundle = load(model.bundle, model.sha256)
    except BundleError as error:
        remedy = "correct model.bundle or model.sha256; `parfocal model list` says what is shipped"
        yield Finding("model", str(error), remedy)
        return
    card = bundle.card
    yield Finding("model", f"{card.name} {card.version}: {', '.join(card.classes)}")
    for caveat in card.caveats:
        yield Finding("model", caveat, warning=True)
    yield from _device(settings, bundle)


def _shadow(settings: Settings) -> Iterator[Finding]:
    """Only notes: the service runs without its shadow, and tries again to load it."""
    model = settings.model
    if not model.shadow:
        return
    try:
        bundle = load(model.shadow)
        classifier = OnnxClassifier(bundle, model.device, model.threads)
        worst = classifier.check_golden()
    except (BundleError, DeviceError, InferenceError) as error:
        text = f"{error}; the service runs without it: correct model.shadow"
        yield Finding("shadow", text, warning=True)
        return
    card = bundle.card
    text = f"{card.name} {card.version}: {', '.join(card.classes)}; golden within {worst:.1e}"
    yield Finding("shadow", f"{text} on {classifier.provider}")
    with suppress(BundleError):  # the active model has its own finding
        yield from _beside(load(model.bundle, model.sha256), bundle)


def _beside(active: Bundle, shadow: Bundle) -> Iterator[Finding]:
    if shadow.sha256 == active.sha256:
        yield Finding("shadow", "it is the active model itself", warning=True)
    elif set(shadow.card.classes) != set(active.card.classes):
        text = f"it tells other classes than the active {active.card.name}: all cells will differ"
        yield Finding("shadow", text, warning=True)


def _detector(settings: Settings) -> Iterator[Finding]:
    asked = settings.detector
    try:
        choice = choose(asked.name, asked.sha256)
        detector = started(choice)
    except (BundleError, DeviceError, InferenceError) as error:
        remedy = "correct detector.name or detector.sha256, or set detector.name to 'classical'"
        yield Finding("detector", str(error), remedy)
        return
    yield Finding("detector", f"asked for '{asked.name}', cells are found by '{detector.name}'")
    for caveat in choice.bundle.card.caveats if choice.bundle else ():
        yield Finding("detector", caveat, warning=True)


def _device(settings: Settings, bundle: Bundle) -> Iterator[Finding]:
    asked = settings.model.device
    try:
        classifier = OnnxClassifier(bundle, asked, settings.model.threads)
        worst = classifier.check_golden()
    except DeviceError as error:
        yield Finding("device", str(error), "set model.device to a device that is here, or 'auto'")
        return
    except InferenceError as error:
        yield Finding("device", str(error), "export the model again, or set model.device to 'cpu'")
        return
    text = f"asked for '{asked}', runs on {classifier.provider}, golden answer within {worst:.1e}"
    yield Finding("device", text)


def _running(settings: Settings) -> bool:
    path = Path(settings.state_dir)
    if not path.is_dir():
        return False
    try:
        os.close(lock(path))
    except AlreadyRunningError:
        return True
    except JournalError:
        return False
    return False


def _state(settings: Settings, running: bool) -> Iterator[Finding]:
    path = Path(settings.state_dir)
    if running:
        yield Finding("state", f"{path} is in use by a running parfocal")
        return
    try:
        os.close(lock(path))
    except JournalError as error:
        remedy = "set state_dir to a local folder that this user can write"
        yield Finding("state", str(error), remedy)
        return
    free = shutil.disk_usage(path).free
    if free < LOW_DISK_BYTES:
        yield Finding("disk", f"{free / 1e6:.0f} MB free at {path}", "free at least 1 GB")
    else:
        yield Finding("state", f"{path}, {free / 1e9:.0f} GB free")


def _camera(settings: Settings, running: bool) -> Iterator[Finding]:
    source = settings.source
    if source.kind != "camera":
        return
    if running:
        yield Finding("camera", "in use by the running parfocal; its beat says how it is")
        return
    try:
        with visit(source.camera) as visited:
            camera = visited.described
    except CameraError as error:
        missing = EXTRA in str(error)
        remedy = (
            EXTRA if missing else "connect it, or correct source.camera; `parfocal camera list`"
        )
        yield Finding("camera", str(error), remedy)
        return
    yield Finding(
        "camera",
        f"{camera.name} of {camera.library}, {camera.width_px}x{camera.height_px} px, "
        f"{camera.pixel_type}, {camera.exposure_ms:g} ms, {camera.trigger} trigger",
    )
    if camera.library == SIMULATED:
        yield Finding("camera", "it is simulated: so are all of its cells", warning=True)


def _folder(settings: Settings) -> Iterator[Finding]:
    source = settings.source
    path = Path(source.path)
    if not source.path:
        yield Finding("folder", "no folder is set", "set source.path to the folder to watch")
        return
    if source.kind == "camera":
        yield _kept_in(path)
        yield from _scale(settings)
        return
    try:
        status = path.stat()
        readable = os.access(path, os.R_OK | os.X_OK)
    except OSError as error:
        yield Finding(
            "folder", f"{path}: {error.strerror}", "mount the share, or correct source.path"
        )
        return
    if not stat.S_ISDIR(status.st_mode):
        yield Finding("folder", f"{path} is not a folder", "set source.path to the folder itself")
    elif not readable:
        yield Finding("folder", f"{path} is not readable", "give this user read and enter rights")
    else:
        mount = mount_of(path)
        polled = is_network(mount) if source.polled is None else source.polled
        how = "polled every second" if polled else "events, and a full scan every 15 s"
        yield Finding("folder", f"{path} ({mount.kind or 'unknown file system'}), {how}")
    yield from _scale(settings)


def _scale(settings: Settings) -> Iterator[Finding]:
    source = settings.source
    if source.um_per_px is not None:
        return
    if source.kind == "camera":
        text, remedy = "no scale is configured, and a camera knows none", "set source.um_per_px"
        yield Finding("scale", text, remedy)
        return
    text = "no scale is configured: images need a file tag, a sidecar or parfocal-folder.toml"
    yield Finding("scale", text, warning=True)


def _kept_in(path: Path) -> Finding:
    """Whether frames can be kept there; the folder is made with the first one."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        remedy = "set source.path to a folder that this user can write"
        return Finding("folder", f"{there} cannot be written", remedy)
    return Finding("folder", f"frames of the camera are kept in {path}")


def _ports(settings: Settings, running: bool) -> Iterator[Finding]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    publish = settings.publish
    for name, kind, address in (
        ("live", zmq.PUB, publish.live),
        ("replay", zmq.ROUTER, publish.replay),
    ):
        try:
            bound(context, kind, address).close()
        except BindError as error:
            if running:
                yield Finding("ports", f"{name} {address}, in use by the running parfocal")
                continue
            remedy = f"set publish.{name} to a free port of this machine, as tcp://127.0.0.1:PORT"
            yield Finding("ports", str(error), remedy)
        else:
            yield Finding("ports", f"{name} {address}")
    context.destroy(linger=0)
