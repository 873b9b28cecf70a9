"""Single-cell crops as training takes them: `crops.npy`, `crops.json`, and `masks.npy` if known."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.card import DetectorRules
from parfocal.prepare import PixelRules
from parfocal.types import Gray
from parfocal_training.dataset import GroupKind, Row
from parfocal_training.errors import DataError
from parfocal_training.write import write_whole

Masks = NDArray[np.bool_]


class CropRow(msgspec.Struct, frozen=True, kw_only=True):
    """Where one crop comes from; x right, y down, in pixels of the image (None: a ready crop)."""

    image: Row
    sha256: str
    x_px: float | None = None
    y_px: float | None = None


class CropRules(msgspec.Struct, frozen=True, kw_only=True):
    """How the crops of a set were made: everything of `PixelRules` but the reference.

    For ready crops `flat_field_um` states what makes live frames as even as they already are.
    """

    um_per_px: float
    crop_px: int
    margin_px: int
    flat_field_um: float
    detector: DetectorRules
    masked: bool | msgspec.UnsetType = msgspec.UNSET

    def differences(self, pixels: PixelRules) -> str:
        """What makes these crops others than a network takes, in words; empty if nothing does."""
        names = ("um_per_px", "crop_px", "flat_field_um", "masked")
        rules = [(name, getattr(self, name), getattr(pixels, name)) for name in names]
        return ", ".join(
            f"{name} {_said(mine)} instead of {_said(its)}"
            for name, mine, its in rules
            if (mine or 0) != (its or 0)
        )


def _said(value: float | bool | msgspec.UnsetType) -> str:
    """A rule's value in words; one that is unset is off."""
    if value is False or value is msgspec.UNSET:
        return "no"
    return "yes" if value is True else f"{value:g}"


class ImageTally(msgspec.Struct, frozen=True, kw_only=True):
    """What one image gave: how many crops, and how many finds each reason rejected."""

    image: Row
    n_crops: int
    rejected: dict[str, int] = {}


class CropIndex(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `crops.json`; `pixels_sha256` is that of `crops.npy`.

    `masks_sha256` is that of `masks.npy`; unset where nobody knows the cells' outlines. `images`
    tells of every image, also of those without a crop; unset in older sets and in a selection of
    crops.
    """

    schema: Literal["parfocal.crops/1"] = "parfocal.crops/1"
    data: str
    classes: tuple[str, ...]
    group_kind: GroupKind
    rules: CropRules
    rows: tuple[CropRow, ...]
    pixels_sha256: str = ""
    masks_sha256: str | msgspec.UnsetType = msgspec.UNSET
    images: tuple[ImageTally, ...] | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True, eq=False)
class CropSet:
    """n raw crops with their margin, and the class and group of each.

    `crops` is (n, s, s), uint8 or uint16, s = crop_px + 2 * margin_px, not normalized. `masks` is
    (n, s, s), bool: the pixels of each crop's own cell, not those of its neighbours.
    """

    crops: Gray
    index: CropIndex
    masks: Masks | None = None

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is a place in them."""
        return self.index.classes

    @property
    def digest(self) -> str:
        """SHA-256 over pixels, masks, classes, groups and rules: what a training is made from."""
        bare = msgspec.structs.replace(self.index, images=msgspec.UNSET)
        return hashlib.sha256(msgspec.json.encode(bare, order="sorted")).hexdigest()

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each crop: (n,)."""
        number = {name: i for i, name in enumerate(self.classes)}
        return np.array([number[row.image.cell_line] for row in self.index.rows], np.int64)

    @property
    def groups(self) -> tuple[str, ...]:
        """Group of each crop: n names."""
        return tuple(row.image.group for row in self.index.rows)

    @property
    def sha256s(self) -> tuple[str, ...]:
        """Hashes of the image files, each once, sorted."""
        return tuple(sorted({row.sha256 for row in self.index.rows}))

    def for_training(self) -> "CropSet":
        """Without the crops whose `split` is `test`: those are for a test that comes later."""
        return self.of(np.flatnonzero([row.image.split != "test" for row in self.index.rows]))

    def bare(self, chosen: NDArray[np.int64] | slice) -> Gray:
        """These crops without their margin: (m, crop_px, crop_px); a slice copies nothing."""
        return self.crops[(chosen, *self._within_margin)]

    def bare_masks(self, chosen: NDArray[np.int64]) -> Masks | None:
        """Their masks without the margin: (m, crop_px, crop_px), if they have any."""
        return None if self.masks is None else self.masks[(chosen, *self._within_margin)]

    @property
    def _within_margin(self) -> tuple[slice, slice]:
        margin, side = self.index.rules.margin_px, self.index.rules.crop_px
        return slice(margin, margin + side), slice(margin, margin + side)

    def of(self, chosen: NDArray[np.int64]) -> "CropSet":
        """The crops with these indices; classes stay."""
        rows = tuple(self.index.rows[i] for i in chosen)
        index = msgspec.structs.replace(self.index, rows=rows, images=msgspec.UNSET)
        masks = None if self.masks is None else self.masks[chosen]
        return CropSet(self.crops[chosen], index, masks)


def save(crop_set: CropSet, folder: Path) -> None:
    """Write `crops.npy` and `masks.npy`, then `crops.json`, which vouches for them.

    `masks.npy` holds eight pixels of a row a byte: `numpy.unpackbits(m, axis=2, count=s)`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index = msgspec.structs.replace(
        crop_set.index,
        pixels_sha256=_write(np.ascontiguousarray(crop_set.crops), folder / "crops.npy"),
        masks_sha256=msgspec.UNSET,
    )
    if crop_set.masks is None:
        (folder / "masks.npy").unlink(missing_ok=True)  # of the set that was here before
    else:
        digest = _write(np.packbits(crop_set.masks, axis=2), folder / "masks.npy")
        index = msgspec.structs.replace(index, masks_sha256=digest)
    write_whole(folder / "crops.json", msgspec.json.format(msgspec.json.encode(index), indent=1))


def _write(array: NDArray[Any], path: Path) -> str:
    """The SHA-256 of the file that was written."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    data = buffer.getvalue()
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def load(folder: Path) -> CropSet:
    """The crops that `parfocal-train crops` stored.

    Raises
    ------
    DataError
        Not such a folder, or its files do not belong together.
    """
    index = _index(folder)
    crops: Gray = _read(folder / "crops.npy", index.pixels_sha256)
    side = index.rules.crop_px + 2 * index.rules.margin_px
    shape = (len(index.rows), side, side)
    if crops.shape != shape or crops.dtype not in (np.uint8, np.uint16):
        raise DataError(f"'{folder}/crops.npy' holds {crops.dtype} {crops.shape}: make it again")
    if isinstance(index.masks_sha256, msgspec.UnsetType):
        return CropSet(crops, index)
    packed = _read(folder / "masks.npy", index.masks_sha256)
    if packed.shape != (*shape[:2], -(-side // 8)) or packed.dtype != np.uint8:
        raise DataError(f"'{folder}/masks.npy' holds {packed.dtype} {packed.shape}: make it again")
    return CropSet(crops, index, np.unpackbits(packed, axis=2, count=side).view(np.bool_))


def _index(folder: Path) -> CropIndex:
    try:
        return msgspec.json.decode((folder / "crops.json").read_bytes(), type=CropIndex)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _no_crops(folder, error) from error
    except msgspec.DecodeError as error:
        raise DataError(
            f"'{folder}/crops.json' does not follow parfocal.crops/1: {error}"
        ) from error


def _read(path: Path, sha256: str) -> NDArray[Any]:
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise _no_crops(path.parent, error) from error
    with file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise DataError(
                f"'{path}' is not the file that crops.json describes: make the crops again"
            )
        file.seek(0)
        array: NDArray[Any] = np.load(file, allow_pickle=False)
    return array


def _no_crops(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"'{folder}' holds no crops ({error.strerror}: {Path(error.filename).name}): "
        "make them with parfocal-train crops"
    )
