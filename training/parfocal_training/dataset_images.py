"""What the files of a data set hold: hashes, grey levels, thumbnails, and what cannot be read."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.images import ImageError
from parfocal.prepare import to_gray
from parfocal.types import Gray
from parfocal_training.crops import read_frame
from parfocal_training.dataset import Row, lines_of
from parfocal_training.dataset_contradictions import copies
from parfocal_training.dataset_faults import Fault, error, is_there

Levels = dict[tuple[str, str], NDArray[np.int64]]
"""Pixels at each grey level, 256 or 65536 of them, by cell line and group."""

SAMPLES = 16
"""Pictures of each cell line on a card."""

THUMBNAIL_PX = 256


@dataclass(slots=True, eq=False)
class Looks:
    """What was seen so far in the images of a data set; `rows` has one entry an image.

    `files` are all files that were read, fluorescence too: the row, with the file's path, and its
    SHA-256.
    """

    faults: list[Fault] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    files: list[tuple[Row, str]] = field(default_factory=list)
    levels: Levels = field(default_factory=dict)
    samples: dict[str, list[Gray]] = field(default_factory=lambda: defaultdict(list))
    sizes: Counter[tuple[int, int, str]] = field(default_factory=Counter)

    def add(self, row: Row, gray: Gray, sampled: bool) -> None:
        """An image that could be read, (h, w)."""
        self.rows.append(row)
        h, w = gray.shape
        self.sizes[w, h, str(gray.dtype)] += 1
        add_levels(self.levels, (row.cell_line, group_name(row)), gray)
        if sampled:
            self.samples[row.cell_line].append(thumbnail(gray))


def group_name(row: Row) -> str:
    """The flask of an image, else its group, else its field, else nothing."""
    return row.flask or row.group or row.field


def look(folder: Path, rows: Iterable[Row], sampled: frozenset[str], looks: Looks) -> Iterator[Row]:
    """Each row once its image is in `looks`; fluorescence is decoded too, and only that."""
    for row in rows:
        gray = _read(folder, row, looks)
        if gray is not None:
            looks.add(row, gray, row.path in sampled)
        if is_there(folder, row.fluorescence):
            _read(folder, msgspec.structs.replace(row, path=row.fluorescence), looks)
        yield row


def _read(folder: Path, row: Row, looks: Looks) -> Gray | None:
    path = row.path
    try:
        frame, sha256 = read_frame(folder / path)
    except (ImageError, OSError) as fault:
        why = str(fault) if isinstance(fault, ImageError) else fault.strerror
        text = f"{path!r} cannot be read as an image ({why})"
        looks.faults.append(Fault(code="unreadable", text=text, severity="error", path=path))
        return None
    looks.files.append((row, sha256))
    return to_gray(frame.pixels)


def content_faults(looks: Looks) -> tuple[Fault, ...]:
    """Files that cannot be read, that come twice, or that have two depths."""
    lines = lines_of(row for row, _ in looks.files)
    twice = copies(lines, (sha256 for _, sha256 in looks.files))
    return (*looks.faults, *(error("duplicate", one.text) for one in twice), *_depths(looks))


def _depths(looks: Looks) -> Iterator[Fault]:
    depths = Counter[str]()
    for (_, _, depth), n in looks.sizes.items():
        depths[depth] += n
    if len(depths) > 1:
        listed = " and ".join(f"{n} {depth}" for depth, n in sorted(depths.items()))
        yield error("two_depths", f"images have different depths, {listed}: crops need one")


def add_levels(levels: Levels, key: tuple[str, str], gray: Gray) -> None:
    """Count the pixels of an image or of many, any shape, uint8 or uint16."""
    n = 1 + int(np.iinfo(gray.dtype).max)
    counts = np.bincount(gray.ravel(), minlength=n)
    known = levels.get(key, np.zeros(n, np.int64))
    if len(known) != len(counts):  # 8 and 16 bits in one set, which is a fault of its own
        return
    levels[key] = known + counts


def sampled_of(keys: Sequence[str], n: int, seed: int = 0) -> list[int]:
    """Places of up to n items, drawn at random and the same every time, in their order."""
    return sorted(random.Random(f"{seed} {len(keys)}").sample(range(len(keys)), min(n, len(keys))))


def sampled_paths(rows: Sequence[Row]) -> frozenset[str]:
    """The images that a card shows: some of each cell line."""
    paths: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        paths[row.cell_line].append(row.path)
    return frozenset(mine[i] for mine in paths.values() for i in sampled_of(mine, SAMPLES))


def thumbnail(gray: Gray) -> Gray:
    """The image no larger than `THUMBNAIL_PX` on its longer side; depth kept."""
    h, w = gray.shape
    scale = min(1.0, THUMBNAIL_PX / max(h, w))
    size = max(1, round(w * scale)), max(1, round(h * scale))
    small: Gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return small
