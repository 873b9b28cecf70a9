"""Simulated and real fields and crops, as `parfocal_training.realism` reads them."""

import csv
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.save import read_truth
from parfocal_training.errors import DataError
from parfocal_training.realism_measures import (
    COMMON_UM_PER_PX,
    CROP_PX,
    CROP_UM_PER_PX,
    Field,
    flattened,
    make_field,
)

TRIM = 0.06  # scale bars and time stamps lie in the outermost rows
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Shape (h, w, 3)."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path} is no image that can be read")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def images_of(folder: Path) -> list[Path]:
    """Image files of a folder, or of its `images`, sorted; an error if there is none."""
    place = folder / "images" if (folder / "images").is_dir() else folder
    found = sorted(path for path in place.iterdir() if path.suffix.lower() in IMAGES)
    if not found:
        raise DataError(f"no image in {place}")
    return found


def simulated_fields(folder: Path) -> Iterator[Field]:
    """Fields that `parfocal.simulator.save` wrote, with the masks of lone living cells."""
    for path in images_of(folder):
        truth = read_truth(path)
        groups = [cell.group for cell in truth.cells]
        singles = [
            cell.id
            for cell in truth.cells
            if cell.state == "alive" and cell.whole and groups.count(cell.group) == 1
        ]
        labels = truth.labels.astype(np.int32)
        yield make_field(read_rgb(path), truth.um_per_px, labels, singles)


def real_fields(folder: Path, scales: dict[str, float]) -> Iterator[Field]:
    """Real fields that are at least as fine as the common scale, with masks where they exist.

    `scales` gives um_per_px by file name. Of the components in `masks/NAME.png`, those listed
    with `single_cell_size` in `components.csv` that touch no edge count as single cells.
    """
    singles = _single_components(folder / "components.csv")
    for path in images_of(folder):
        um = scales.get(path.name)
        if um is None:
            raise DataError(f"no um_per_px for {path.name}: list it in the scales file")
        if um > 1.05 * COMMON_UM_PER_PX:
            continue
        rgb, mask = read_rgb(path), _mask(folder / "masks" / f"{path.stem}.png")
        cut = round(TRIM * len(rgb))
        rows = slice(cut, len(rgb) - cut)
        mask = mask if mask is None else mask[rows]
        yield make_field(rgb[rows], um, mask, singles.get(path.stem, []))


def _mask(path: Path) -> NDArray[np.int32] | None:
    if not path.exists():
        return None
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).astype(np.int32)


def _single_components(path: Path) -> dict[str, list[int]]:
    singles: dict[str, list[int]] = {}
    if path.exists():
        with path.open(newline="") as rows:
            for row in csv.DictReader(rows):
                if row["single_cell_size"] == "1":
                    singles.setdefault(row["image"], []).append(int(row["id"]))
    return singles


def simulated_crops(folder: Path) -> Iterator[NDArray[np.uint16]]:
    """Gray windows (224, 224) around lone living cells, flat-fielded, at 0.44 um/px."""
    for path in images_of(folder):
        truth, gray = read_truth(path), cv2.cvtColor(read_rgb(path), cv2.COLOR_RGB2GRAY)
        if abs(truth.um_per_px - CROP_UM_PER_PX) > 0.01:
            raise DataError(f"{path.name} has {truth.um_per_px} um/px, crops need {CROP_UM_PER_PX}")
        light = flattened(np.asarray(gray, np.float32), CROP_UM_PER_PX)
        level = np.clip(light * 20000, 0, 65535).astype(np.uint16)
        groups = [cell.group for cell in truth.cells]
        for cell in truth.cells:
            x, y = round(cell.x_px) - CROP_PX // 2, round(cell.y_px) - CROP_PX // 2
            crop = level[max(y, 0) : y + CROP_PX, max(x, 0) : x + CROP_PX]
            lone = cell.state == "alive" and groups.count(cell.group) == 1
            if lone and crop.shape == (CROP_PX, CROP_PX):
                yield crop


def read_scales(path: Path) -> dict[str, float]:
    """Pixel size by file name, from a CSV with the columns file and um_per_px."""
    with path.open(newline="") as rows:
        return {
            Path(row["file"]).name: float(row["um_per_px"])
            for row in csv.DictReader(rows)
            if row["um_per_px"]
        }
