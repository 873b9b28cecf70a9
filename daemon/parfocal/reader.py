"""The reader child: the only process that touches untrusted bytes.

Its first request names the detector; then it opens, reads, hashes, decodes, finds, cuts and
normalizes one file a request, under limits on memory, processor time and pixels. Crops go into
shared memory; everything else is the answer.
Run as `python -m parfocal.reader SOCKET_FD ARENA...`.
"""

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from datetime import UTC, datetime

import cv2
import msgspec
import numpy as np

from parfocal.arena import Arena
from parfocal.bundle import BundleError
from parfocal.child import DOUBT_EXIT, serve
from parfocal.classify import DeviceError, InferenceError
from parfocal.confine import MEMORY_LIMIT, keep_memory, limit_cpu, limit_memory
from parfocal.detectors import choose, started
from parfocal.files import Signature
from parfocal.flaskcode import CodeError, parse
from parfocal.flaskcode import seen as seen_code
from parfocal.flaskfolder import flask_of_folders
from parfocal.images import ImageError, Limits, decode
from parfocal.intake import RefusalError, blank_end, read_file
from parfocal.pixelsize import TYPICAL_CELL_UM2
from parfocal.prepare import PixelRules, Prepare, to_gray
from parfocal.preview import THUMBNAIL_PX, masks_png, thumbnail
from parfocal.quality import quality
from parfocal.reasons import FileReason, ObjectReason
from parfocal.sidecar import Declared, SidecarError, declared
from parfocal.types import Detector, Finds, Frame, Gray, Quality, Rejected, ScaleOrigin

NO_MEMORY = -4
"""OpenCV's `Error::StsNoMem`."""
LOAD_CPU_S = 60
"""Processor time for loading a detector, which a slow machine may need."""


class LoadDetector(msgspec.Struct, frozen=True, kw_only=True, tag="load"):
    """First request: which detector, pinned to the file that the parent verified."""

    name: str
    sha256: str | None = None


class DetectorLoaded(msgspec.Struct, frozen=True, kw_only=True, tag="loaded"):
    """The detector is in, and a network has answered its golden frame."""

    name: str
    fingerprint: str


class DetectorFailed(msgspec.Struct, frozen=True, kw_only=True, tag="load_failed"):
    """The detector cannot be used; starting again will not help."""

    detail: str


class ReadRequest(msgspec.Struct, frozen=True, kw_only=True, tag="read"):
    """One file to prepare.

    `root` bounds the search for `parfocal-folder.toml`; `um_per_px` is the configured scale, used
    where nothing nearer declares one. `rules` None asks for detection only. `ready_crop`: the image
    is itself one single-cell crop. `settled_long` false: the file changed a moment ago, so a blank
    end means that its writer reserved the space and is not done. `flask_code`: a QR code in the
    image says which flask it shows, where neither sidecar nor folder does. `folder_names`: a folder
    named like F12_HT1080_P7 says it, where no sidecar or `parfocal-folder.toml` does.
    """

    path: str
    root: str
    slot: int
    max_cells: int
    max_pixels: int
    max_bytes: int
    um_per_px: float | None = None
    um_per_px_from: ScaleOrigin = "configuration"
    rules: PixelRules | None = None
    ready_crop: bool = False
    settled_long: bool = True
    want_masks: bool = False
    flask_code: bool = False
    folder_names: bool = False
    thumbnail_px: int = THUMBNAIL_PX
    cpu_limit_s: int = 10


class Prepared(msgspec.Struct, frozen=True, kw_only=True, tag="prepared"):
    """One file prepared: `n_crops` normalized crops lie in the slot, of the objects `chosen`.

    `status`: device, inode, size and mtime_ns of what was read (`files.Signature`).
    """

    sha256: str
    status: tuple[int, int, int, int]
    width_px: int
    height_px: int
    um_per_px: float
    um_per_px_from: ScaleOrigin
    acquired_at: str
    declared: Declared
    quality: Quality
    points: list[tuple[float, float]]
    boxes: list[tuple[float, float, float, float]]
    areas_um2: list[float]
    scores: list[float]
    chosen: list[int]
    rejected: list[Rejected]
    n_crops: int
    thumbnail: bytes
    timing_ms: dict[str, float]
    masks: bytes = b""


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """One file not prepared. `retry`: it may still be being written."""

    reason: FileReason
    detail: str
    retry: bool = False
    sha256: str | None = None
    status: tuple[int, int, int, int] | None = None


ReaderRequest = LoadDetector | ReadRequest
ReaderAnswer = Prepared | Refused | DetectorLoaded | DetectorFailed


class Stopwatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        start = time.perf_counter()
        yield
        self.ms[stage] = self.ms.get(stage, 0.0) + (time.perf_counter() - start) * 1e3


def scale_of(frame: Frame, near: Declared, request: ReadRequest) -> tuple[float, ScaleOrigin]:
    """Pixel size and where it comes from: sidecar, folder, the file itself, configuration."""
    candidates: tuple[tuple[float | None, ScaleOrigin], ...] = (
        (near.um_per_px, near.um_per_px_from or "folder"),
        (frame.um_per_px, "file"),
        (request.um_per_px, request.um_per_px_from),
    )
    if request.um_per_px_from in ("argument", "table"):
        candidates = candidates[::-1]
    for value, source in candidates:
        if value is not None:
            return value, source
    raise RefusalError(FileReason.NO_SCALE, "neither sidecar, folder, file nor configuration says")


def around(request: ReadRequest) -> Declared:
    """What is declared beside an image: by files, and where no file names a flask by folders.

    Raises
    ------
    SidecarError
        A declaration exists but is not understood.
    """
    near = declared(request.path, request.root)
    if not request.folder_names or near.flask:
        return near
    return msgspec.structs.replace(near, flask=flask_of_folders(request.path, request.root))


def coded(near: Declared, frame: Frame, gray: Gray) -> tuple[Declared, Frame]:
    """With the flask that a QR code in the image names; a code of something else is noted."""
    try:
        text = seen_code(gray)
        flask = parse(text) if text else None
    except CodeError:
        note = "code_of_no_flask"
    except cv2.error:  # a fault of the search is no fault of the image
        note = "code_not_read"
    else:
        code = None if not text else "flask" if flask else "close"
        return msgspec.structs.replace(near, flask=flask, code=code), frame
    return near, replace(frame, notes=(*frame.notes, note))


class Reader:
    """Answers requests; the detector stays warm."""

    def __init__(self, arena: Arena, detector: Detector | None = None) -> None:
        self.arena = arena
        self._detector = detector

    def __call__(self, request: ReaderRequest) -> ReaderAnswer:
        """Load the detector, or prepare one file or say why not.

        Raises
        ------
        InferenceError
            The detector must not be trusted with another frame.
        """
        if isinstance(request, LoadDetector):
            return self._load(request)
        return self._read(request)

    def _load(self, request: LoadDetector) -> DetectorLoaded | DetectorFailed:
        try:
            detector = started(choose(request.name, request.sha256))
        except (BundleError, DeviceError, InferenceError) as error:
            return DetectorFailed(detail=str(error))
        self._detector = detector
        return DetectorLoaded(name=detector.name, fingerprint=detector.fingerprint)

    @property
    def detector(self) -> Detector:
        """The loaded detector."""
        if self._detector is None:
            raise InferenceError("a frame came before a detector")
        return self._detector

    def _read(self, request: ReadRequest) -> Prepared | Refused:
        watch, digest, seen = Stopwatch(), None, None
        try:
            with watch.time("hash"):
                data, status = read_file(request.path, request.max_bytes)
                digest = hashlib.sha256(data).hexdigest()
                seen = astuple(Signature.of(status))
            if not request.settled_long and blank_end(data, status):
                raise RefusalError(
                    FileReason.INCOMPLETE, "its end is blank: still being written?", True
                )
            with watch.time("decode"):
                near = around(request)
                frame = decode(data, Limits(request.max_pixels, request.max_bytes))
                gray = to_gray(frame.pixels)
            if near.overlap_fault:
                frame = replace(frame, notes=(*frame.notes, "overlap_not_understood"))
            if request.flask_code and near.flask is None:
                with watch.time("code"):
                    near, frame = coded(near, frame, gray)
            answer = self._prepare(request, frame, gray, near, status, watch)
            return msgspec.structs.replace(answer, sha256=digest, status=seen)
        except RefusalError as error:
            return Refused(
                reason=error.reason,
                detail=error.detail,
                retry=error.retry,
                sha256=digest,
                status=seen,
            )
        except SidecarError as error:
            return Refused(
                reason=FileReason.NO_SCALE, detail=str(error), sha256=digest, status=seen
            )
        except ImageError as error:
            retry = error.reason in (FileReason.INCOMPLETE, FileReason.EMPTY)
            return Refused(
                reason=error.reason, detail=error.detail, retry=retry, sha256=digest, status=seen
            )
        except (MemoryError, cv2.error) as error:
            if isinstance(error, cv2.error) and error.code != NO_MEMORY:
                raise
            detail = "it needs more memory than a reader may take"
            return Refused(reason=FileReason.RESOURCE_LIMIT, detail=detail, sha256=digest)

    def _prepare(
        self,
        request: ReadRequest,
        frame: Frame,
        gray: Gray,
        near: Declared,
        status: os.stat_result,
        watch: Stopwatch,
    ) -> Prepared:
        if request.ready_crop:
            near = msgspec.structs.replace(near, overlaps=())  # one cell, whatever lies beside it
            gray, scale, source = self._ready_crop(gray, request)
            finds, chosen = whole(gray), [0]
            with watch.time("normalize"):
                n = self._store(request, gray[None])
        else:
            scale, source = scale_of(frame, near, request)
            with watch.time("detect"):
                finds = self.detector(gray, scale)
            finds, chosen, n = self._cut(request, gray, scale, finds, watch)
        with watch.time("preview"):
            preview = thumbnail(frame, request.thumbnail_px)
            graded = quality(gray)
        flags = (*graded.flags, *frame.notes)
        return Prepared(
            sha256="",
            status=(0, 0, 0, 0),
            width_px=frame.pixels.shape[1],
            height_px=frame.pixels.shape[0],
            um_per_px=scale,
            um_per_px_from=source,
            acquired_at=near.acquired_at or _utc(status.st_mtime),
            declared=near,
            quality=msgspec.structs.replace(graded, flags=flags),
            points=[(x, y) for x, y in finds.points_px.tolist()],
            boxes=[(a, b, c, d) for a, b, c, d in finds.boxes_px.tolist()],
            areas_um2=finds.area_um2.tolist(),
            scores=finds.score.tolist(),
            chosen=chosen,
            rejected=rejected(finds),
            n_crops=n,
            thumbnail=preview,
            timing_ms=watch.ms,
            masks=masks_png(finds, gray) if request.want_masks else b"",
        )

    def _cut(
        self, request: ReadRequest, gray: Gray, scale: float, finds: Finds, watch: Stopwatch
    ) -> tuple[Finds, list[int], int]:
        if request.rules is None:
            single = [i for i, reason in enumerate(finds.reasons) if reason is None]
            return finds, single, 0
        prepare = Prepare(request.rules, self.detector, request.max_cells)
        with watch.time("cut"):
            raw = prepare.cut_finds(gray, scale, finds)
        with watch.time("normalize"):
            n = self._store(request, raw.crops)
        return raw.finds, raw.chosen.tolist(), n

    def _store(self, request: ReadRequest, crops: Gray) -> int:
        if request.rules is None:
            return 0
        prepare = Prepare(request.rules, self.detector)
        self.arena.crops(request.slot, len(crops))[...] = prepare.normalize(crops)
        return len(crops)

    def _ready_crop(self, gray: Gray, request: ReadRequest) -> tuple[Gray, float, ScaleOrigin]:
        side = request.rules.crop_px if request.rules else gray.shape[0]
        wanted = request.rules.um_per_px if request.rules else request.um_per_px or 1.0
        if request.um_per_px is None or request.um_per_px_from != "argument":
            if gray.shape != (side, side):
                raise RefusalError(
                    FileReason.NO_SCALE,
                    f"a ready crop is {side}x{side} px, this one {gray.shape[1]}x{gray.shape[0]}: "
                    "say --um-per-px to rescale it",
                )
            return gray, wanted, "argument"
        return centre_crop(gray, request.um_per_px, wanted, side), request.um_per_px, "argument"


def centre_crop(gray: Gray, um_per_px: float, wanted_um_per_px: float, side_px: int) -> Gray:
    """The middle of a crop at another scale: shape (side_px, side_px)."""
    from parfocal.cut import cut, inside, rescale

    scaled = rescale(gray, um_per_px, wanted_um_per_px)
    middle = np.array([[(scaled.shape[1] - 1) / 2, (scaled.shape[0] - 1) / 2]])
    if not inside(middle, side_px, scaled.shape)[0]:
        raise RefusalError(
            FileReason.UNSUPPORTED,
            f"at {wanted_um_per_px:g} um/px this crop is {scaled.shape[1]}x{scaled.shape[0]} px, "
            f"smaller than the {side_px} px the model needs",
        )
    return cut(scaled, middle, side_px).reshape(side_px, side_px)


def whole(gray: Gray) -> Finds:
    """One object that fills the image: what a ready crop shows."""
    h, w = gray.shape
    middle = np.array([[(w - 1) / 2, (h - 1) / 2]])
    return Finds(
        labels=np.ones((h, w), np.int32),
        points_px=middle,
        centroids_px=middle,
        boxes_px=np.array([[0.0, 0.0, w, h]]),
        area_um2=np.zeros(1),
        score=np.ones(1),
        reasons=(None,),
    )


def rejected(finds: Finds) -> list[Rejected]:
    """The objects that are no single cell, with place and reason; clumps with a count of cells."""
    single = [reason is None for reason in finds.reasons]
    usual_um2 = float(np.median(finds.area_um2[single])) if any(single) else TYPICAL_CELL_UM2
    rows = zip(finds.reasons, finds.points_px.tolist(), finds.area_um2.tolist(), strict=True)
    return [
        Rejected(
            reason=reason,
            x_px=x,
            y_px=y,
            area_um2=area,
            n_cells=max(2, round(area / usual_um2)) if reason is ObjectReason.CLUMP else None,
        )
        for reason, (x, y), area in rows
        if reason is not None
    ]


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def main(arguments: list[str]) -> None:
    """Serve until the parent goes away."""
    cv2.setNumThreads(1)  # more threads are slower at this size, and a killed child leaves none
    keep_memory()
    arena = Arena.inherited(arguments[1:5])
    limit_memory(MEMORY_LIMIT + arena.shape.slots * arena.shape.slot_bytes)
    reader = Reader(arena)

    def answer(message: bytes) -> bytes:
        request = msgspec.msgpack.decode(message, type=ReaderRequest)
        limit_cpu(request.cpu_limit_s if isinstance(request, ReadRequest) else LOAD_CPU_S)
        try:
            return msgspec.msgpack.encode(reader(request))
        except InferenceError as error:
            print(f"parfocal reader child: {error}", file=sys.stderr, flush=True)
            raise SystemExit(DOUBT_EXIT) from error

    serve(int(arguments[0]), answer)


if __name__ == "__main__":
    main(sys.argv[1:])
