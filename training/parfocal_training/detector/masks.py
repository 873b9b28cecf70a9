"""Truth from files that people edit: label images, COCO outlines, tables of centres."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal_training.errors import DataError

Labels = NDArray[np.int32]
MASK_NAMES = ("{}_masks.png", "{}_masks.tif", "{}_cp_masks.png", "{}_cp_masks.tif",
              "masks/{}.png", "masks/{}.tif", "../masks/{}.png", "../masks/{}.tif")  # fmt: skip
MASK_ENDINGS = ("_masks", "_cp_masks")


def mask_beside(image: Path) -> Path | None:
    """The label image of an image, by the names that napari and Cellpose users give it."""
    for name in MASK_NAMES:
        path = image.parent / name.format(image.stem)
        if path.is_file() and path.resolve() != image.resolve():
            return path
    return None


def mask_in(folder: Path, image: Path) -> Path | None:
    """The label image of an image in a folder of masks."""
    names = (image.stem, *(image.stem + ending for ending in MASK_ENDINGS))
    places = (folder / f"{name}{kind}" for name in names for kind in (".png", ".tif", ".tiff"))
    return next((path for path in places if path.is_file()), None)


def read_labels(path: Path, shape: tuple[int, int]) -> Labels:
    """Instance labels of an image of this (h, w); each distinct value is one cell, 0 none.

    Raises
    ------
    DataError
        It cannot be read, is no label image, or has another size.
    """
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise DataError(f"'{path}' cannot be read as a label image (PNG or TIFF, 8 to 32 bit)")
    if found.ndim != 2:
        raise DataError(f"'{path}' has {found.shape[2]} channels: a label image has one")
    if found.shape != shape:
        raise DataError(
            f"'{path}' has {found.shape[1]}x{found.shape[0]} px, its image {shape[1]}x{shape[0]}: "
            "labels must lie on the same pixels"
        )
    _, dense = np.unique(found, return_inverse=True)  # ids may be anything, a float TIFF too
    labels: Labels = dense.reshape(found.shape).astype(np.int32)
    if found.min() > 0:  # a mask without background
        labels += 1
    return labels


class CocoImage(msgspec.Struct, frozen=True):
    """The part of a COCO image entry that is needed."""

    id: int
    file_name: str
    width: int
    height: int


class CocoAnnotation(msgspec.Struct, frozen=True):
    """One object: outlines as flat lists of x, y; run lengths are not read."""

    image_id: int
    segmentation: list[list[float]] | dict[str, Any] = []
    iscrowd: int = 0


class Coco(msgspec.Struct, frozen=True):
    """The part of a COCO file that is needed."""

    images: list[CocoImage]
    annotations: list[CocoAnnotation]


def read_coco(path: Path) -> dict[str, Labels]:
    """File stem to labels, from a COCO file with polygon outlines.

    Raises
    ------
    DataError
        It is no COCO file, or holds run lengths instead of outlines.
    """
    try:
        coco = msgspec.json.decode(path.read_bytes(), type=Coco)
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise DataError(f"'{path}' is no COCO file: {error}") from error
    labels = {i.id: np.zeros((i.height, i.width), np.int32) for i in coco.images}
    for one in coco.annotations:
        if isinstance(one.segmentation, dict):
            raise DataError(f"'{path}' holds run-length masks: save it with polygon outlines")
        if one.image_id not in labels:
            raise DataError(f"'{path}' has an object of image {one.image_id}, which it lacks")
        if one.iscrowd:
            continue
        canvas = labels[one.image_id]
        outlines = [np.rint(np.array(p).reshape(-1, 2)).astype(np.int32) for p in one.segmentation]
        cv2.fillPoly(canvas, outlines, int(canvas.max()) + 1)
    return {Path(i.file_name).stem: labels[i.id] for i in coco.images}


def read_points(path: Path) -> dict[str, NDArray[np.float64]]:
    """File stem to centres (n, 2) as (x, y), from a table with image, x_px and y_px.

    Raises
    ------
    DataError
        A column is missing or a place is no number.
    """
    rows = read_table(path, ("image", "x_px", "y_px"))
    out: dict[str, list[tuple[float, float]]] = {}
    for number, row in enumerate(rows, start=2):
        try:
            at = (float(row["x_px"]), float(row["y_px"]))
        except ValueError as error:
            raise DataError(f"'{path}' line {number}: {error}") from error
        out.setdefault(Path(row["image"]).stem, []).append(at)
    return {name: np.array(places) for name, places in out.items()}


def read_table(path: Path, needed: tuple[str, ...]) -> list[Mapping[str, str]]:
    """The rows of a CSV file with at least these columns.

    Raises
    ------
    DataError
        It cannot be read or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"'{path}' lacks the column(s) {', '.join(missing)}")
            return [{k: v or "" for k, v in row.items() if k} for row in reader]
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"'{path}' is not a UTF-8 comma-separated table: {error}") from error
