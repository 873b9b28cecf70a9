"""Frames on disk as camera software leaves them, with the truth in a sibling folder.

`FOLDER/NAME.png` is the only file in the folder that a rig watches; the truth lies beside that
folder, in `FOLDER-truth/`, and is written first, so that whoever sees the image finds it. The
fluorescence frame, which is a measurement and no truth, lies in `FOLDER/fluorescence/`.
"""

import os
from pathlib import Path
from typing import Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.flask import SimulatedFrame
from parfocal.simulator.truth import CellTruth, Truth

Kind = Literal["png", "bmp", "tif", "jpg"]
JPEG_QUALITY = 92
UM_PER_INCH = 25400


class TruthFile(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `NAME.truth.json`."""

    schema: Literal["parfocal.truth/1"] = "parfocal.truth/1"
    image: str
    um_per_px: float
    cells: tuple[CellTruth, ...]


def save(frame: SimulatedFrame, folder: Path, name: str, kind: Kind = "png") -> Path:
    """Path of the image; each file appears whole or not at all, the image last."""
    if kind in ("bmp", "jpg") and frame.rgb.dtype != np.uint8:
        raise ValueError(f"{kind} holds 8 bits a channel, got a 16 bit frame: use png or tif")
    beside = truth_folder(folder)
    for place in (folder, beside):
        place.mkdir(parents=True, exist_ok=True)
    image = f"{name}.{kind}"
    body = TruthFile(image=image, um_per_px=frame.um_per_px, cells=frame.truth.cells)
    _replace(beside / f"{name}.truth.json", msgspec.json.format(msgspec.json.encode(body)))
    _replace(beside / f"{name}.labels.png", _encoded(frame.truth.labels, "png", None))
    if frame.fluorescence is not None:
        glowing = folder / fluorescence_path(folder / image)
        glowing.parent.mkdir(exist_ok=True)
        _replace(glowing, _encoded(frame.fluorescence, "png", None))
    bgr = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR)
    _replace(folder / image, _encoded(np.asarray(bgr), kind, frame.um_per_px))
    return folder / image


def fluorescence_path(image: Path) -> str:
    """Where the fluorescence frame of an image lies, relative to the image's folder."""
    return f"fluorescence/{image.stem}.png"


def read_truth(image: Path) -> Truth:
    """The truth that was saved with an image."""
    beside = truth_folder(image.parent)
    body = msgspec.json.decode((beside / f"{image.stem}.truth.json").read_bytes(), type=TruthFile)
    labels = cv2.imread(str(beside / f"{image.stem}.labels.png"), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise FileNotFoundError(f"no labels of {image.name} in {beside}: save the frame again")
    return Truth(np.asarray(labels, np.uint16), body.cells, body.um_per_px)


def truth_folder(folder: Path) -> Path:
    """Where the truth of a folder's images lies."""
    return folder.with_name(f"{folder.name}-truth")


def _encoded(pixels: NDArray[np.generic], kind: Kind, um_per_px: float | None) -> bytes:
    options: list[int] = []
    if kind == "jpg":
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    if kind == "tif" and um_per_px is not None:
        dpi = round(UM_PER_INCH / um_per_px)
        options = [cv2.IMWRITE_TIFF_RESUNIT, 2, cv2.IMWRITE_TIFF_XDPI, dpi]
        options += [cv2.IMWRITE_TIFF_YDPI, dpi]
    done, data = cv2.imencode(f".{kind}", np.asarray(pixels), options)
    if not done:
        raise ValueError(f"cv2 could not encode {pixels.dtype} {pixels.shape} as {kind}")
    return data.tobytes()


def _replace(path: Path, data: bytes) -> None:
    """The file with exactly these bytes: written under a hidden name, then renamed."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)
