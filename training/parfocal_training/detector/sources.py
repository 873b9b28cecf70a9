"""Where a detector's training material comes from: a TOML file that lists and weighs sources."""

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec

from parfocal_training.dataset import NAME_RULE
from parfocal_training.detector.fields import Optics, Truth
from parfocal_training.errors import DataError

Share = Annotated[float, msgspec.Meta(ge=0)]
Micrometres = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="fields"):
    """Images with truth.

    `truth` is a folder of label images (`NAME.png`, or `NAME_masks.png` and `NAME_cp_masks.png` as
    Cellpose calls them; PNG or TIFF), a COCO file (`.json`), or a table of centres (`.csv` with
    image, x_px, y_px). Where it is left out, masks are looked for beside each image and in
    `masks/`. `says`: `instances`, one label a cell; `foreground`, touching cells may share one, and
    components above `single_um2` are then no single cells; `points`, centres only. `table` (CSV
    with image, and any of group, um_per_px) goes before the common value. Overlapping fields
    belong in one group. `score`: whether fields of it are left out and measured.
    """

    images: str
    truth: str = ""
    says: Truth = "instances"
    um_per_px: Micrometres | None = None
    table: str = ""
    optics: Optics = "brightfield"
    single_um2: Micrometres = 4500.0
    weight: Share = 1.0
    score: bool = True


class Crops(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="crops"):
    """Levelled brightfield crops, each with one cell in its middle; they give cells to `composed`.

    `group_regex`: parenthesis round the part of a file name that tells the field.
    """

    images: str
    um_per_px: Micrometres
    group_regex: str = NAME_RULE


class Simulated(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="simulated"
):
    """Fields of the simulated rig, `fields` flasks, and `empty` ones as backgrounds."""

    fields: Count = 120
    empty: Count = 16
    seed: int = 3
    weight: Share = 0.2


class Composed(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="composed"
):
    """Cells of all `fields` and `crops` laid on simulated empty backgrounds."""

    weight: Share = 0.4


Source = Fields | Crops | Simulated | Composed


class Sources(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of a sources file; paths are relative to it."""

    source: tuple[Source, ...]
    folder: str = "."

    def path(self, text: str) -> Path:
        """A path of the file, absolute or below its folder."""
        return Path(self.folder) / text


def read_sources(path: Path) -> Sources:
    """The sources that a TOML file lists, or a folder of images with masks is.

    Raises
    ------
    DataError
        Neither, or an entry that cannot be used.
    """
    if path.is_dir():
        return Sources(source=(Fields(images="."),), folder=str(path))
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"there is no sources file and no folder '{path}'") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' is not a TOML file: {error}") from error
    for entry in said.get("source", ()) if isinstance(said.get("source"), list) else ():
        if isinstance(entry, dict):
            entry["type"] = entry.pop("kind", "fields")
    try:
        sources = msgspec.convert({**said, "folder": str(path.parent)}, Sources)
    except msgspec.ValidationError as error:
        raise DataError(f"'{path}' cannot be used: {error}") from error
    if not any(getattr(source, "weight", 0) for source in sources.source):
        raise DataError(f"'{path}' lists no source with a weight above 0")
    return sources
