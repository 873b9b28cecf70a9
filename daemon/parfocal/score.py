"""Scores stored images on the command line, through the same two children as the daemon."""

import glob
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from parfocal.arena import Arena, ArenaShape
from parfocal.bundle import Bundle, BundleError
from parfocal.child import Child, ChildError
from parfocal.classify import Device, DeviceError
from parfocal.config import Limits
from parfocal.detectors import ChosenDetector
from parfocal.follow import OutputError
from parfocal.inference import (
    Classified,
    ClassifySlot,
    InferenceAnswer,
    Loaded,
    LoadFailed,
    LoadModel,
)
from parfocal.overlaps import counted_once
from parfocal.reader import (
    DetectorFailed,
    DetectorLoaded,
    Prepared,
    ReaderAnswer,
    ReadRequest,
    Refused,
)
from parfocal.reasons import FileReason
from parfocal.results import frame_result, model_ref
from parfocal.scan import is_candidate
from parfocal.types import FrameResult
from parfocal.workers import LOAD_WALL_S, load_request


class NoImagesError(Exception):
    """The arguments name no image."""


@dataclass(frozen=True, slots=True)
class Request:
    """An image and the folder up to which declarations beside it count."""

    path: str
    root: str


def images(arguments: list[str]) -> list[Request]:
    """The images that files, folders and globs name, each once, folders in name order.

    Raises
    ------
    NoImagesError
        An argument names nothing, or a folder without images.
    """
    found: dict[str, Request] = {}
    for argument in arguments:
        matched = [argument] if os.path.lexists(argument) else sorted(glob.glob(argument))
        if not matched:
            raise NoImagesError(f"there is no image {argument}")
        for path in matched:
            requests = list(_below(path)) if os.path.isdir(path) else [_alone(path)]
            if not requests:
                raise NoImagesError(f"{path} holds no TIFF, BMP, PNG or JPEG")
            for request in requests:
                _check_name(request.path)
                found.setdefault(os.path.abspath(request.path), request)
    return list(found.values())


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise NoImagesError(f"the name {path!a} is not UTF-8: rename it") from error


def _alone(path: str) -> Request:
    return Request(path, str(Path(path).absolute().parent))


def _below(folder: str) -> Iterator[Request]:
    root = str(Path(folder).absolute())
    for here, folders, names in os.walk(folder, onerror=_unreadable):
        folders.sort()
        yield from (Request(os.path.join(here, n), root) for n in sorted(names) if is_candidate(n))


def _unreadable(error: OSError) -> None:
    raise NoImagesError(f"{error.filename} cannot be read ({error.strerror}): mend its rights")


def output_names(images: list[Request]) -> list[str]:
    """What an output of each image is called, without ending: never two the same.

    Its stem; where images share that, as much of their path as tells them apart, with folders.
    """
    paths = [Path(os.path.abspath(image.path)) for image in images]
    rivals: dict[str, list[Path]] = {}
    for path in paths:
        rivals.setdefault(path.stem, []).append(path)
    names = {path: name for group in rivals.values() for path, name in _apart(group)}
    return [names[path] for path in paths]


def _apart(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    """Names for images of one stem; two that differ in their ending alone keep it."""
    common = os.path.commonpath([path.parent for path in paths])
    short = [path.relative_to(common).with_suffix("") for path in paths]
    twice = {name for name, n in Counter(short).items() if n > 1}
    for path, name in zip(paths, short, strict=True):
        yield path, f"{name}{path.suffix}" if name in twice else str(name)


class Outputs:
    """Files that a command writes for its images, in one folder.

    Raises
    ------
    OutputError
        An output would overwrite one of the images, or cannot be written.
    """

    def __init__(self, folder: Path, images: list[Request], endings: tuple[str, ...]) -> None:
        self.folder = folder
        self._names = dict(zip((i.path for i in images), output_names(images), strict=True))
        check_outputs([self.path(i, ending) for i in images for ending in endings], images)
        with _writable(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, image: Request, ending: str) -> Path:
        """Where an image's output with this ending lies."""
        return self.folder / f"{self._names[image.path]}{ending}"

    def write(self, image: Request, ending: str, data: bytes) -> None:
        """Write an image's output."""
        write_output(self.path(image, ending), data)


def check_outputs(targets: list[Path], images: list[Request]) -> None:
    """Refuse places for outputs where an image lies.

    Raises
    ------
    OutputError
        One would overwrite an image.
    """
    originals = {os.path.realpath(image.path) for image in images}
    for target in targets:
        if os.path.realpath(target) in originals:
            raise OutputError(f"{target} is one of the images: name another folder")


def write_output(path: Path, data: bytes) -> None:
    """Write a file that was asked for, with its folder.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    with _writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}): mend that, or name another folder"
        ) from error


class Reading:
    """A reader child at the disposal of a command."""

    def __init__(self, limits: Limits, choice: ChosenDetector) -> None:
        self.limits, self.choice = limits, choice
        self.arena = Arena.create(ArenaShape(slots=1, max_cells=limits.max_cells))
        self._child: Child | None = None
        self._decoder = msgspec.msgpack.Decoder(ReaderAnswer)

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.close()
        self.arena.close()

    def child(self, module: str) -> Child:
        """A fresh child that shares this command's crops."""
        arguments = self.arena.shape.as_arguments(self.arena.fd)
        return Child(module, arguments, (self.arena.fd,), module.rpartition(".")[2])

    def read(self, image: Request, request: ReadRequest) -> Prepared | Refused:
        """Prepare one image; a reader that dies over it is replaced for the next."""
        full = msgspec.structs.replace(
            request, path=str(Path(image.path).absolute()), root=image.root
        )
        self._child = self._child or self._started()
        try:
            answer = self._decoder.decode(
                self._child.ask(msgspec.msgpack.encode(full), self.limits.read_wall_s)
            )
        except ChildError as error:
            self._child = None
            return Refused(reason=FileReason.RESOURCE_LIMIT, detail=str(error))
        assert isinstance(answer, Prepared | Refused)  # what a reader answers to a read request
        return answer

    def _started(self) -> Child:
        """A reader with its detector.

        Raises
        ------
        DeviceError
            The detector cannot be used.
        """
        child = self.child("parfocal.reader")
        try:
            request = msgspec.msgpack.encode(load_request(self.choice))
            answer = self._decoder.decode(child.ask(request, LOAD_WALL_S))
        except ChildError as error:
            raise DeviceError(f"the detector could not be loaded: {error}") from error
        if not isinstance(answer, DetectorLoaded):
            child.close()
            detail = answer.detail if isinstance(answer, DetectorFailed) else "a wrong answer"
            raise DeviceError(f"the detector cannot be used: {detail}")
        return child

    def request(self, um_per_px: float | None) -> ReadRequest:
        """A request with this command's limits; an explicit scale wins over every other."""
        limits = self.limits
        return ReadRequest(
            path="",
            root="",
            slot=0,
            max_cells=limits.max_cells,
            max_pixels=limits.max_pixels,
            max_bytes=limits.max_bytes,
            cpu_limit_s=limits.read_cpu_s,
            um_per_px=um_per_px,
            um_per_px_from="argument",
        )


class Classifying:
    """A reader and an inference child at the disposal of a command.

    Raises
    ------
    DeviceError
        The model cannot be used on this device.
    """

    def __init__(
        self, bundle: Bundle, device: Device, limits: Limits, choice: ChosenDetector
    ) -> None:
        self.bundle, self.reading = bundle, Reading(limits, choice)
        self._counted: set[str] = set()
        self._load = LoadModel(bundle=str(bundle.path), sha256=bundle.sha256, device=device)
        self._decoder = msgspec.msgpack.Decoder(InferenceAnswer)
        try:
            self._child = self._loaded()
        except DeviceError:
            self.reading.__exit__()
            raise

    def __enter__(self) -> "Classifying":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()
        self.reading.__exit__()

    def _loaded(self) -> Child:
        child = self.reading.child("parfocal.inference")
        try:
            answer = self._decoder.decode(
                child.ask(msgspec.msgpack.encode(self._load), LOAD_WALL_S)
            )
        except ChildError as error:
            raise DeviceError(f"the model could not be loaded: {error}") from error
        if not isinstance(answer, Loaded):
            child.close()
            detail = answer.detail if isinstance(answer, LoadFailed) else "it gave a wrong answer"
            raise DeviceError(detail)
        self.loaded = answer
        return child

    def answer(self, n: int) -> Classified:
        """The classes of the n crops that were just read; a lost child is replaced once."""
        request = msgspec.msgpack.encode(ClassifySlot(slot=0, n=n))
        wall_s = self.reading.limits.infer_wall_s
        try:
            answer = self._decoder.decode(self._child.ask(request, wall_s))
        except ChildError:
            self._child = self._loaded()
            answer = self._decoder.decode(self._child.ask(request, wall_s))
        if not isinstance(answer, Classified):
            raise ChildError("inference gave a wrong answer")
        return answer

    def read(
        self, image: Request, um_per_px: float | None, crops: bool, thumbnail_px: int
    ) -> Prepared | Refused:
        """Prepare one image as the bundle wants it.

        Raises
        ------
        BundleError
            The image is a ready crop, and the bundle takes no cell whose outline is not known.
        """
        if crops and self.bundle.card.prepare.pixels.masked:
            raise BundleError(
                f"'{self.bundle.card.name}' looks at cells without their surroundings, for which "
                "it needs their outlines: give whole images, without --crops"
            )
        request = msgspec.structs.replace(
            self.reading.request(um_per_px),
            rules=self.bundle.card.prepare.pixels,
            ready_crop=crops,
            thumbnail_px=thumbnail_px,
        )
        return self.reading.read(image, request)

    def result(self, image: Request, prepared: Prepared) -> FrameResult:
        """The complete result of an image that was just read.

        Of images that lie on each other, what the earlier one counted does not count again.
        """
        classified = self.answer(prepared.n_crops)
        path, card = os.path.abspath(image.path), self.bundle.card
        prepared, classified, already = counted_once(
            path, prepared, classified, card.prepare.pixels, self._counted.__contains__
        )
        self._counted.add(path)
        detector = self.reading.choice
        model = model_ref(
            self.bundle.card,
            self.bundle.sha256,
            self.loaded.provider,
            detector.name,
            detector.fingerprint,
        )
        result = frame_result(
            image.path, "file", prepared, classified, card, model, None, already_counted=already
        )
        return msgspec.structs.replace(result, timing_ms={**result.timing_ms, "record": 0.0})
