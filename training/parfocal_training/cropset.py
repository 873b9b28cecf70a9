"""Single-cell crops as training takes them, stored as `crops.npy` and `crops.json`."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.card import DetectorRules
from parfocal.types import Gray
from parfocal_training.dataset import GroupKind, Row
from parfocal_training.errors import DataError
from parfocal_training.write import write_whole


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


class ImageTally(msgspec.Struct, frozen=True, kw_only=True):
    """What one image gave: how many crops, and how many finds each reason rejected."""

    image: Row
    n_crops: int
    rejected: dict[str, int] = {}


class CropIndex(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `crops.json`; `pixels_sha256` is that of `crops.npy`.

    `images` tells of every image, also of those without a crop; unset in older sets and in a
    selection of crops.
    """

    schema: Literal["parfocal.crops/1"] = "parfocal.crops/1"
    data: str
    classes: tuple[str, ...]
    group_kind: GroupKind
    rules: CropRules
    rows: tuple[CropRow, ...]
    pixels_sha256: str = ""
    images: tuple[ImageTally, ...] | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True, eq=False)
class CropSet:
    """n raw crops with their margin, and the class and group of each.

    `crops` is (n, s, s), uint8 or uint16, s = crop_px + 2 * margin_px, not normalized.
    """

    crops: Gray
    index: CropIndex

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is a place in them."""
        return self.index.classes

    @property
    def digest(self) -> str:
        """SHA-256 over pixels, classes, groups and rules: what a training is made from."""
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

    def bare(self, chosen: NDArray[np.int64]) -> Gray:
        """These crops without their margin: (m, crop_px, crop_px)."""
        margin, side = self.index.rules.margin_px, self.index.rules.crop_px
        return self.crops[chosen, margin : margin + side, margin : margin + side]

    def of(self, chosen: NDArray[np.int64]) -> "CropSet":
        """The crops with these indices; classes stay."""
        rows = tuple(self.index.rows[i] for i in chosen)
        index = msgspec.structs.replace(self.index, rows=rows, images=msgspec.UNSET)
        return CropSet(self.crops[chosen], index)


def save(crop_set: CropSet, folder: Path) -> None:
    """Write `crops.npy`, then `crops.json`, which vouches for it."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(crop_set.crops), allow_pickle=False)
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    index = msgspec.structs.replace(crop_set.index, pixels_sha256=digest)
    write_whole(folder / "crops.npy", data)
    write_whole(folder / "crops.json", msgspec.json.format(msgspec.json.encode(index), indent=1))


def load(folder: Path) -> CropSet:
    """The crops that `parfocal-train crops` stored.

    Raises
    ------
    DataError
        Not such a folder, or its files do not belong together.
    """
    try:
        text, data = (folder / "crops.json").read_bytes(), (folder / "crops.npy").read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"'{folder}' holds no crops ({error.strerror}: {Path(error.filename).name}): "
            "make them with parfocal-train crops"
        ) from error
    try:
        index = msgspec.json.decode(text, type=CropIndex)
    except msgspec.DecodeError as error:
        raise DataError(
            f"'{folder}/crops.json' does not follow parfocal.crops/1: {error}"
        ) from error
    if hashlib.sha256(data).hexdigest() != index.pixels_sha256:
        raise DataError(
            f"'{folder}/crops.npy' is not the file that crops.json describes: make the crops again"
        )
    crops: Gray = np.load(io.BytesIO(data), allow_pickle=False)
    side = index.rules.crop_px + 2 * index.rules.margin_px
    if crops.shape != (len(index.rows), side, side) or crops.dtype not in (np.uint8, np.uint16):
        raise DataError(f"'{folder}/crops.npy' holds {crops.dtype} {crops.shape}: make it again")
    return CropSet(crops, index)
