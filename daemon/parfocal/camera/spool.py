"""Camera frames as files: lossless PNG, whole or not there, each with a sidecar.

The sidecar (`parfocal.sidecar`) also says where the frame lies on earlier ones of its flask.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import cv2

from parfocal.camera.device import Described, Shot
from parfocal.gate import Overlap
from parfocal.types import Pixels

LEAST_FREE_BYTES = 1024**3
"""Frames stop here, so that the journal, often on the same disk, does not."""
FAST = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
"""A microscope frame shrinks by a third to a half, which is all that its noise allows anyway."""


class Spool:
    """Writes frames into `folder/YYYY-MM-DD/`, where a FolderSource finds them."""

    def __init__(
        self,
        folder: Path,
        described: Described,
        um_per_px: float | None,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        self.folder, self.described, self.um_per_px = folder, described, um_per_px
        self._free_bytes = free_bytes

    def keep(
        self,
        shot: Shot,
        earlier: Sequence[tuple[Path, Overlap]] = (),
        session: str | None = None,
    ) -> Path:
        """Path of the frame, complete and on disk.

        `earlier` are kept frames on which it lies, `session` is the flask's on the stage.

        Raises
        ------
        OSError
            It cannot be written; nothing of it is left under an image's name.
        """
        moment = shot.acquired_at
        day = self.folder / f"{moment:%Y-%m-%d}"
        day.mkdir(parents=True, exist_ok=True)
        free_bytes = self._free_bytes(day)
        if free_bytes < LEAST_FREE_BYTES:
            raise OSError(None, f"only {free_bytes / 1e6:.0f} MB are free: free at least 1.1 GB")
        path = day / f"{moment:%Y%m%dT%H%M%S.%f}Z.png"
        # the sidecar first: once the image has its name, it may be read
        lines = [
            *self._facts(moment, session),
            *(line for one in earlier for line in table(day, *one)),
        ]
        text = "".join(f"{line}\n" for line in lines)
        write(path.with_name(f"{path.name}.toml"), text.encode())
        write(path, png(shot.pixels))
        return path

    def _facts(self, moment: datetime, session: str | None) -> list[str]:
        camera = self.described
        lines = [
            f"# {camera.library} {camera.name}, {camera.exposure_ms:g} ms, {camera.pixel_type}, "
            f"{camera.bits} bits, {camera.trigger} trigger",
            'source = "camera"',
            f"acquired_at = {moment.isoformat(timespec='milliseconds')}",
            f'session = "{session or ""}"',
        ]
        if self.um_per_px is not None:
            lines.append(f"um_per_px = {self.um_per_px!r}")
        return [line.replace("\r", " ") for line in lines]


def table(day: Path, image: Path, overlap: Overlap) -> list[str]:
    """The overlap of a frame kept in folder `day` with a frame kept before, as a TOML table."""
    x, y = overlap.offset_px
    return [
        "[[overlap]]",
        f'image = "{os.path.relpath(image, day)}"',
        f"offset_px = [{x:.2f}, {y:.2f}]",
        f"turn_rad = {overlap.turn_rad:.6f}",
        f"share = {min(1.0, overlap.share):.4f}",
        f"confidence = {min(1.0, max(0.0, overlap.confidence)):.3f}",
    ]


def png(pixels: Pixels) -> bytes:
    """Lossless PNG of pixels (h, w) or (h, w, 3) RGB."""
    stored = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".png", stored, FAST)[1])


def write(path: Path, data: bytes) -> None:
    """Put a file under its name when all of it is on disk, and not before."""
    temporary = path.with_name(f".{path.name}.part")  # a name that no scan looks at
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
