"""From the images of a data set to its crop set, through the daemon's own decoder and Prepare."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.bundle import BundleError
from parfocal.card import DetectorRules
from parfocal.classify import DeviceError, InferenceError
from parfocal.cut import cut, rescale
from parfocal.detectors import choose, started
from parfocal.images import ImageError, Limits, decode
from parfocal.masking import alone, nearest
from parfocal.prepare import CROP_PX, PixelRules, Prepare, to_gray
from parfocal.reasons import FileReason
from parfocal.types import Detector, Frame, Gray
from parfocal_training.cellmasks import drawn_mask, own_masks, scaled_shape
from parfocal_training.cropset import CropIndex, CropRow, CropRules, CropSet, ImageTally, Masks
from parfocal_training.dataset import NAMED, GroupKind, Row, lines_of
from parfocal_training.dataset_contradictions import copies
from parfocal_training.errors import DataError, UsageError

log = logging.getLogger(__name__)

ANY_REFERENCE = (CROP_PX * CROP_PX, *([0] * 255))
"""Raw cuts do not depend on the reference distribution, which is chosen when training starts."""

EXTERNAL = DetectorRules(name="external")


def detector_named(name: str) -> Detector:
    """The detector of a name or bundle file, ready to find cells.

    Raises
    ------
    UsageError
        It cannot be used.
    """
    try:
        return started(choose(name))
    except (BundleError, DeviceError, InferenceError) as error:
        raise UsageError(f"--detector: {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class ImageCrops:
    """What one image gave: its crops (n, s, s) and where they lay, or why there are none.

    `masks` (n, s, s) are the pixels of each crop's own cell, if they are known.
    """

    row: Row
    sha256: str
    crops: Gray | None
    at_px: NDArray[np.float64] | None
    rejected: Counter[str]
    masks: Masks | None = None


def read_frame(path: Path) -> tuple[Frame, str]:
    """The decoded image and the SHA-256 of its file.

    Raises
    ------
    ImageError
        The file is not a whole, readable image.
    """
    data = path.read_bytes()
    return decode(data, Limits()), hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class ReadyRules:
    """How ready crops become those of a set.

    `um_per_px` is the pixel size of the set. A crop's own is that of its row, else
    `crop_um_per_px`; one of which neither is known is kept as it is. `masks` is a folder with one
    mask a crop, None where nobody has drawn the cells; with `masked` a crop shows what they mark.
    """

    um_per_px: float | None = None
    crop_um_per_px: float | None = None
    masks: Path | None = None
    masked: bool = False


def ready_crops(
    folder: Path, rows: tuple[Row, ...], rules: ReadyRules | None = None
) -> Iterator[ImageCrops]:
    """Each image as one crop that somebody else has cut, with the margin it has on all sides.

    Raises
    ------
    DataError
        An image is not square or too small, or its mask does not fit.
    """
    rules = rules or ReadyRules()
    for row in rows:
        try:
            frame, digest = read_frame(folder / row.path)
        except ImageError as error:
            yield _unreadable(row, error.reason)
            continue
        gray = to_gray(frame.pixels)  # (s, s)
        own_um = row.um_per_px or rules.crop_um_per_px
        scaled = rescale(gray, own_um, rules.um_per_px) if own_um and rules.um_per_px else gray
        side = _ready_side(row, gray, scaled)
        masks = None
        if rules.masks is not None:
            mask, at = drawn_mask(rules.masks, row, gray.shape), nearest(len(scaled), len(gray))
            masks = _middle(mask[at[:, None], at].astype(np.uint8), side).astype(np.bool_)
        crops = _middle(scaled, side)
        if rules.masked and masks is not None:
            scale = rules.um_per_px or own_um or 0.0
            crops[0] = alone(crops[0], masks[0], None, scale, (side - CROP_PX) // 2)
        yield ImageCrops(row, digest, crops, None, Counter(), masks)


def _ready_side(row: Row, gray: Gray, scaled: Gray) -> int:
    """The largest side with the same margin all round; a pixel too many is lost in resampling."""
    got, as_is = int(scaled.shape[0]), scaled is gray
    spare = (got - CROP_PX) % 2
    if gray.shape != (len(gray), len(gray)) or got < CROP_PX or (as_is and spare):
        size = f"{gray.shape[1]}x{gray.shape[0]} px"
        if not as_is:
            size += f", resampled {scaled.shape[1]}x{got} px"
        raise DataError(
            f"'{row.path}' has {size}: a ready crop is square, {CROP_PX} px or {CROP_PX} px and an "
            f"even number more{'' if as_is else ' once resampled: give a smaller --um-per-px'}"
        )
    return got - spare


def _middle(image: Gray, side: int) -> Gray:
    """The middle (1, side, side) of an image, where `parfocal classify --crops` cuts it, too."""
    h, w = image.shape
    return cut(image, np.array([[(w - 1) / 2, (h - 1) / 2]]), side)


def cut_frames(
    folder: Path,
    rows: tuple[Row, ...],
    rules: CropRules,
    detector: Detector,
    frame_um_per_px: float,
) -> Iterator[ImageCrops]:
    """The single cells of each frame, cut with their margin as the daemon would cut them.

    Pixel size of a frame: its row's, else its file's own, else `frame_um_per_px` if above 0.
    """
    pixels = PixelRules(
        um_per_px=rules.um_per_px,
        reference=ANY_REFERENCE,
        crop_px=rules.crop_px,
        flat_field_um=rules.flat_field_um,
        masked=rules.masked,
    )
    prepare = Prepare(pixels, detector)
    for row in rows:
        try:
            frame, digest = read_frame(folder / row.path)
        except ImageError as error:
            yield _unreadable(row, error.reason)
            continue
        scale = row.um_per_px or frame.um_per_px or frame_um_per_px
        if not scale:
            raise DataError(
                f"nothing says how large a pixel of '{row.path}' is: add the column um_per_px to "
                "flasks.csv or give --frame-um-per-px"
            )
        gray = to_gray(frame.pixels)  # (h, w)
        cells = prepare.cut(gray, scale, rules.margin_px)
        masks = own_masks(cells, gray.shape, scaled_shape(gray, scale, rules.um_per_px))
        reasons = Counter(reason.value for reason in cells.finds.reasons if reason is not None)
        at_px = cells.finds.centroids_px[cells.chosen]  # (n, 2)
        yield ImageCrops(row, digest, cells.crops, at_px, reasons, masks)


def _unreadable(row: Row, reason: FileReason) -> ImageCrops:
    return ImageCrops(row, "", None, None, Counter({reason.value: 1}))


def gathered(
    images: list[ImageCrops], rules: CropRules, group_kind: GroupKind, data: str
) -> CropSet:
    """All crops of all images as one set; classes in alphabetical order.

    Raises
    ------
    DataError
        No crops, crops of different sizes or depths, a cell line left without any, or one file
        that comes twice and has two cell lines, groups or splits. One that comes twice and
        contradicts nobody is kept, with a warning: its cells count twice.
    """
    _check_copies(images)
    found = [image for image in images if image.crops is not None and len(image.crops)]
    if not found:
        why = Counter[str]()
        for image in images:
            why.update(image.rejected)
        listed = ", ".join(f"{n} {reason}" for reason, n in why.most_common()) or "nothing found"
        raise DataError(f"none of {len(images)} images gave a crop ({listed})")
    kinds = {
        (image.crops.shape[1], str(image.crops.dtype)) for image in found if image.crops is not None
    }
    if len(kinds) > 1:
        listed = ", ".join(f"{side} px {depth}" for side, depth in sorted(kinds))
        raise DataError(f"all crops of a set need one size and one depth, got {listed}")
    classes = tuple(sorted({image.row.cell_line for image in images}))
    left = sorted(set(classes) - {image.row.cell_line for image in found})
    if left:
        raise DataError(f"no crops of {', '.join(left)}: remove the cell line or add images of it")
    ((side, _),) = kinds
    index = CropIndex(
        data=data,
        classes=classes,
        group_kind=group_kind,
        rules=msgspec.structs.replace(rules, margin_px=(side - rules.crop_px) // 2),
        rows=tuple(row for image in found for row in _rows(image)),
        images=tuple(_tally(image) for image in images),
    )
    crops: Gray = np.concatenate([image.crops for image in found if image.crops is not None])
    masks = [image.masks for image in found if image.masks is not None]
    return CropSet(crops, index, np.concatenate(masks) if len(masks) == len(found) else None)


def _check_copies(images: list[ImageCrops]) -> None:
    lines, sha256s = lines_of(image.row for image in images), [image.sha256 for image in images]
    found = list(copies(lines, sha256s))
    worst = [one.text for one in found if one.differ]
    if worst:
        more = f"; and {len(worst) - NAMED} more" if len(worst) > NAMED else ""
        raise DataError(f"images come twice: {'; '.join(worst[:NAMED])}{more}")
    if found:
        log.warning(
            "%d image(s) come twice, their cells count twice: %s", len(found), found[0].text
        )


def _tally(image: ImageCrops) -> ImageTally:
    n = 0 if image.crops is None else len(image.crops)
    return ImageTally(image=image.row, n_crops=n, rejected=dict(sorted(image.rejected.items())))


def _rows(image: ImageCrops) -> Iterator[CropRow]:
    n = 0 if image.crops is None else len(image.crops)
    for i in range(n):
        if image.at_px is None:
            yield CropRow(image=image.row, sha256=image.sha256)
        else:
            x, y = image.at_px[i]
            yield CropRow(image=image.row, sha256=image.sha256, x_px=float(x), y_px=float(y))
