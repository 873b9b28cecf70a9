"""How many images, crops and rejected finds each cell line has in each flask."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from parfocal_training.cropset import CropSet, ImageTally
from parfocal_training.dataset import Row
from parfocal_training.dataset_images import group_name

KNOWN = ("density", "passage", "pair", "day", "split")
"""What a table says of a group where it is known."""


@dataclass(frozen=True, slots=True)
class Tally:
    """One cell line in one group: its images, crops (None: not cut) and rejected finds."""

    cell_line: str
    group: str
    known: Mapping[str, str]
    n_images: int
    n_crops: int | None
    rejected: Mapping[str, int]


def image_tallies(crop_set: CropSet) -> tuple[ImageTally, ...]:
    """What each image gave; from the crops alone where the set does not say it."""
    if crop_set.index.images is not msgspec.UNSET:
        return crop_set.index.images
    n_crops = Counter(row.image for row in crop_set.index.rows)
    return tuple(ImageTally(image=row, n_crops=n) for row, n in n_crops.items())


def tallied(images: Iterable[ImageTally], cut: bool) -> list[Tally]:
    """Sums over the images of each cell line and group, sorted by line, density and group."""
    found: dict[tuple[str, str], list[ImageTally]] = defaultdict(list)
    for one in images:
        found[one.image.cell_line, group_name(one.image)].append(one)
    made = [_tally(line, group, mine, cut) for (line, group), mine in found.items()]
    return sorted(made, key=lambda t: (t.cell_line, t.known["density"], t.group))


def _tally(line: str, group: str, images: Sequence[ImageTally], cut: bool) -> Tally:
    rejected = Counter[str]()
    for image in images:
        rejected.update(image.rejected)
    known = {
        name: ", ".join(sorted({str(getattr(i.image, name)) for i in images} - {""}))
        for name in KNOWN
    }
    n_crops = sum(image.n_crops for image in images) if cut else None
    return Tally(line, group, known, len(images), n_crops, dict(sorted(rejected.items())))


def kind_of(rows: Iterable[Row]) -> str:
    """What the groups of `group_name` are."""
    rows = tuple(rows)
    if any(row.flask for row in rows):
        return "flask"
    return "field" if any(row.group or row.field for row in rows) else "group"
