"""The images that are asked for, kept beside the key so that a network can answer too."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from parfocal.types import Gray
from parfocal_training import cropset
from parfocal_training.checkpoint import decoded
from parfocal_training.cropset import CropSet
from parfocal_training.dataset import Row
from parfocal_training.errors import DataError
from parfocal_training.survey.candidates import crop_sha256
from parfocal_training.survey.key import Key, SheetPart, Shown
from parfocal_training.write import write_whole

FRAMES = "frames.json"
"""What is known of the frames that are asked for; their files are beside it."""


def write_unlabelled(
    key: Key, crop_set: CropSet, data: Path, rows: Sequence[Row], folder: Path
) -> None:
    """Keep the crops, and the files and rows of the frames; `data` is the frames' data set."""
    crops = [image.at for image in _asked(key, frames=False)]
    cropset.save(crop_set.of(np.array(crops, np.int64)), folder)
    frames = _asked(key, frames=True)
    for image in frames:
        write_whole(folder / frame_name(image), (data / image.path).read_bytes())
    kept = [msgspec.structs.replace(rows[i.at], path=frame_name(i)) for i in frames]
    write_whole(folder / FRAMES, msgspec.json.format(msgspec.json.encode(kept)))


def write_rest(key: Key, crop_set: CropSet, folder: Path) -> None:
    """Write the crops from image files that nobody is asked about."""
    hidden = {image.file_sha256 for part in key.parts for image in part.of("unlabelled")}
    rest = [i for i, row in enumerate(crop_set.index.rows) if row.sha256 not in hidden]
    cropset.save(crop_set.of(np.array(rest, np.int64)), folder)


def kept_crops(folder: Path, part: SheetPart) -> Gray:
    """The raw crops (n, s, s) that a part asks for, in the order of their numbers.

    Raises
    ------
    DataError
        The folder is that of another key.
    """
    crop_set = cropset.load(folder)
    place = {crop_sha256(c): i for i, c in enumerate(crop_set.crops)}
    asked = [image.sha256 for image in part.of("unlabelled")]
    if not set(asked) <= set(place):
        raise DataError(f"'{folder}' does not hold the crops of this key: keep them together")
    return crop_set.crops[[place[one] for one in asked]]


def kept_frames(folder: Path, part: SheetPart) -> tuple[Row, ...]:
    """The rows of the frames that a part asks for, in the order of their numbers.

    Raises
    ------
    DataError
        A frame, or what is known of it, is missing.
    """
    text = (folder / FRAMES).read_bytes()
    rows = {row.path: row for row in decoded(text, tuple[Row, ...], folder / FRAMES)}
    names = [frame_name(image) for image in part.of("unlabelled")]
    missing = [name for name in names if name not in rows or not (folder / name).is_file()]
    if missing:
        raise DataError(f"'{folder}' lacks {', '.join(missing)}: keep it beside key.json")
    return tuple(rows[name] for name in names)


def frame_name(image: Shown) -> str:
    """Under which name the file of a frame is kept with the key; it does not tell the truth."""
    return f"{image.sha256[:16]}{Path(image.path).suffix.lower()}"


def _asked(key: Key, frames: bool) -> list[Shown]:
    parts = [part for part in key.parts if (part.kind == "frames") == frames]
    return [image for part in parts for image in part.of("unlabelled")]
