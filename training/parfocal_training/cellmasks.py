"""Masks of single cells in the geometry of their crops: from a detector's labels, or drawn."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.cut import rescale
from parfocal.masking import label_windows
from parfocal.prepare import RawCells
from parfocal.types import Gray
from parfocal_training.cropset import Masks
from parfocal_training.dataset import Row
from parfocal_training.errors import DataError


def own_masks(cells: RawCells, shape: tuple[int, ...], scaled: tuple[int, int]) -> Masks:
    """The pixels of each crop that belong to its own cell.

    Parameters
    ----------
    cells : RawCells
        Its labels cover the whole frame at the detector's scale; the nearest label counts.
    shape, scaled : (h, w) and (h', w')
        The frame as it was and at the pixel size of the crops.

    Returns
    -------
    ndarray of shape (n, s, s), bool
    """
    finds, side = cells.finds, cells.crops.shape[1]
    ratio = np.array(scaled[::-1]) / shape[1::-1]  # (x, y)
    centres = (finds.centroids_px[cells.chosen] + 0.5) * ratio - 0.5  # (n, 2), as Prepare has them
    masks = np.empty((len(centres), side, side), np.bool_)
    shown = label_windows(finds, centres, side, scaled)
    for mask, i, labels in zip(masks, cells.chosen, shown, strict=True):
        np.equal(labels, i + 1, out=mask)
    return masks


def scaled_shape(gray: Gray, um_per_px: float, target_um_per_px: float) -> tuple[int, int]:
    """Shape (h', w') of a frame at the target pixel size: as one column and one row come out."""
    column, row = (rescale(part, um_per_px, target_um_per_px) for part in (gray[:, :1], gray[:1]))
    return column.shape[0], row.shape[1]


def drawn_mask(folder: Path, row: Row, shape: tuple[int, ...]) -> Masks:
    """The pixels (h, w) of a ready crop's own cell: the object of its mask nearest to the middle.

    Raises
    ------
    DataError
        No such mask, an empty one, or one that does not fit.
    """
    path = _place(folder, row)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DataError(f"'{path}', the mask of '{row.path}', is not a readable image")
    if image.shape != shape:
        raise DataError(
            f"'{path}' is no mask of '{row.path}': its shape is {image.shape}, that of the crop "
            f"{shape}; save it as one channel of the crop's size"
        )
    labels = _instances(image)
    y, x = np.nonzero(labels)
    if not len(y):
        raise DataError(f"'{path}', the mask of '{row.path}', marks nothing: draw the cell")
    middle = (np.array(shape) - 1) / 2
    first = int(np.hypot(y - middle[0], x - middle[1]).argmin())
    own: Masks = labels == labels[y[first], x[first]]
    return own


def _place(folder: Path, row: Row) -> Path:
    """`DIR/PATH.png` with the folders of the crop's own path if it is there, else without them."""
    nested = folder / Path(row.path).with_suffix(".png")
    flat = folder / nested.name
    found = next((path for path in (nested, flat) if path.is_file()), None)
    if found is None:
        raise DataError(f"'{row.path}' has no mask: neither '{nested}' nor '{flat}' is there")
    return found


def _instances(image: NDArray[Any]) -> NDArray[np.int64]:
    """Numbered objects: the values of an instance mask, or the parts of a mask with one value."""
    if len(np.unique(image[image > 0])) > 1:
        return image.astype(np.int64)
    return cv2.connectedComponents((image > 0).astype(np.uint8))[1].astype(np.int64)
