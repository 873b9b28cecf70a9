"""All fields and cut-outs of the sources, read once; groups tell what may not be split."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.fieldview import ViewRules, field_contrast, to_view_scale
from parfocal.images import ImageError
from parfocal.prepare import to_gray
from parfocal.simulator import HEK293A, HT1080, Flask, draw_flask
from parfocal.types import Frame
from parfocal_training.crops import read_frame
from parfocal_training.dataset import SUFFIXES
from parfocal_training.detector import masks
from parfocal_training.detector.cutouts import CutOut, outlined
from parfocal_training.detector.fields import Labels, TrainingField, field_of
from parfocal_training.detector.sources import (
    Composed,
    Crops,
    Fields,
    Simulated,
    Source,
    Sources,
)
from parfocal_training.errors import DataError

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What a detector is trained on.

    `fields`: real ones by source number. `cutouts`: (group, cell) from single-cell crops.
    `simulated` and `backgrounds` are drawn. `sha256s` name every file that was read.
    """

    sources: tuple[Source, ...]
    fields: dict[int, list[TrainingField]] = field(default_factory=dict)
    cutouts: list[tuple[str, CutOut]] = field(default_factory=list)
    simulated: list[TrainingField] = field(default_factory=list)
    backgrounds: list[Float] = field(default_factory=list)
    sha256s: list[str] = field(default_factory=list)

    def every(self) -> list[TrainingField]:
        """All real fields."""
        return [one for some in self.fields.values() for one in some]

    def scored(self) -> list[TrainingField]:
        """Real fields that may be left out and measured."""
        return [
            one
            for i, some in self.fields.items()
            if isinstance(source := self.sources[i], Fields) and source.score
            for one in some
        ]

    def without(self, groups: frozenset[str]) -> "Material":
        """The same material without these groups."""
        kept = {i: [f for f in some if f.group not in groups] for i, some in self.fields.items()}
        cutouts = [(group, cell) for group, cell in self.cutouts if group not in groups]
        return replace(self, fields=kept, cutouts=cutouts)


def read_material(sources: Sources, view: ViewRules) -> Iterator[tuple[str, Material]]:
    """What is being read, and the material so far; the last one is complete.

    Raises
    ------
    DataError
        An image, a mask or a pixel size is missing or does not fit.
    """
    material = Material(sources.source)
    backgrounds = any(isinstance(s, Composed) and s.weight for s in sources.source)
    for number, source in enumerate(sources.source):
        if isinstance(source, Fields):
            material.fields[number] = []
            for one in _fields(source, sources, view, material.sha256s):
                material.fields[number].append(one)
                yield one.name, material
        elif isinstance(source, Crops):
            material.cutouts.extend(_cutouts(source, sources, view, material.sha256s))
            yield source.images, material
        elif isinstance(source, Simulated):
            yield from _simulated(source, view, material)
    if backgrounds and not material.backgrounds:
        yield from _simulated(Simulated(fields=1, weight=0), view, material)
    yield "", material


def images_of(folder: Path) -> list[Path]:
    """The images of a folder, without mask files.

    Raises
    ------
    DataError
        No folder, or no image in it.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder '{folder}'")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    images = [p for p in found if not _is_mask(p, folder)]
    if not images:
        raise DataError(f"'{folder}' holds no TIFF, BMP, PNG or JPEG")
    return images


def _is_mask(path: Path, folder: Path) -> bool:
    inner = path.relative_to(folder).parts[:-1]
    return path.stem.endswith(masks.MASK_ENDINGS) or "masks" in inner


def _fields(
    source: Fields, sources: Sources, view: ViewRules, sha256s: list[str]
) -> Iterator[TrainingField]:
    folder = sources.path(source.images)
    said = table_of(sources.path(source.table)) if source.table else {}
    truths = truths_of(sources.path(source.truth)) if source.truth else {}
    for path in images_of(folder):
        frame, digest = _frame(path)
        sha256s.append(digest)
        gray = to_gray(frame.pixels)
        row = said.get(path.stem, {})
        scale = float(row.get("um_per_px") or source.um_per_px or frame.um_per_px or 0)
        if not scale:
            raise DataError(
                f"nothing says how large a pixel of '{path.name}' is: give um_per_px with its "
                "source, or a column um_per_px in its table"
            )
        truth = truth_of(path, (gray.shape[0], gray.shape[1]), source, sources, truths)
        yield field_of(
            gray,
            truth,
            scale,
            view,
            source.says,
            source.single_um2,
            name=path.stem,
            group=row.get("group") or path.stem,
            optics=source.optics,
        )


def _frame(path: Path) -> tuple[Frame, str]:
    try:
        return read_frame(path)
    except ImageError as error:
        raise DataError(f"'{path}' cannot be read: {error.detail} [{error.reason}]") from error


def table_of(path: Path) -> dict[str, dict[str, str]]:
    """What a table says of each image, by its stem."""
    return {Path(row["image"]).stem: dict(row) for row in masks.read_table(path, ("image",))}


def truths_of(path: Path) -> dict[str, Labels | NDArray[np.float64]]:
    """Truth of all images from one file; nothing for a folder."""
    if path.suffix == ".json":
        return dict(masks.read_coco(path))
    if path.suffix == ".csv":
        return dict(masks.read_points(path))
    if not path.is_dir():
        raise DataError(f"the truth '{path}' is no folder, .json or .csv file")
    return {}


def truth_of(
    image: Path,
    shape: tuple[int, int],
    source: Fields,
    sources: Sources,
    truths: dict[str, Labels | NDArray[np.float64]],
) -> Labels:
    """Labels of an image of this (h, w), from its source's truth or from beside it.

    Raises
    ------
    DataError
        There is none, or it does not fit.
    """
    found = truths.get(image.stem)
    if found is None:
        path = (
            masks.mask_in(sources.path(source.truth), image)
            if source.truth and not truths
            else masks.mask_beside(image)
        )
        if path is None:
            raise DataError(
                f"'{image.name}' has no truth: put NAME_masks.png beside it, or NAME.png into the "
                "folder masks, or name a folder, a COCO file or a table as its source's truth"
            )
        return masks.read_labels(path, shape)
    if found.dtype == np.int32:
        if found.shape != shape:
            raise DataError(
                f"the truth of '{image.name}' has {found.shape[1]}x{found.shape[0]} px, the image "
                f"{shape[1]}x{shape[0]}"
            )
        return found.astype(np.int32)
    labels = np.zeros(shape, np.int32)
    at = np.clip(np.rint(found).astype(int), 0, np.array(shape)[::-1] - 1)
    labels[at[:, 1], at[:, 0]] = np.arange(1, len(at) + 1)
    return labels


def _cutouts(
    source: Crops, sources: Sources, view: ViewRules, sha256s: list[str]
) -> Iterator[tuple[str, CutOut]]:
    for path in images_of(sources.path(source.images)):
        frame, digest = _frame(path)
        sha256s.append(digest)
        small = to_view_scale(to_gray(frame.pixels), source.um_per_px, view)
        contrast = small.astype(np.float32) / np.float32(max(np.median(small), 1)) - 1
        mask = outlined(contrast)
        if mask is None:
            continue
        ys, xs = np.nonzero(mask)
        window = tuple(slice(max(v.min() - 6, 0), v.max() + 7) for v in (ys, xs))
        found = re.search(source.group_regex, path.name)
        group = f"{path.parent.name}|{found.group(1) if found else path.stem}"
        yield group, CutOut(contrast[window], mask[window])


def _simulated(
    source: Simulated, view: ViewRules, material: Material
) -> Iterator[tuple[str, Material]]:
    rng = np.random.default_rng(source.seed)
    for number in range(source.fields if source.weight else 0):
        material.simulated.append(_drawn(_flask(rng), view, f"simulated-{number}"))
        yield f"simulated field {number + 1}", material
    for number in range(source.empty):
        frame = draw_flask(rng, [(HEK293A, 1.0)], 0.01).field(0)
        material.backgrounds.append(field_contrast(to_gray(frame.rgb), frame.um_per_px, view))
        yield f"empty flask {number + 1}", material


def _flask(rng: np.random.Generator) -> Flask:
    mixed = [(HEK293A, rng.random() + 0.01), (HT1080, rng.random() + 0.01)]
    density = float(np.exp(rng.uniform(np.log(20), np.log(600))))
    return draw_flask(rng, mixed, density, passage=int(rng.integers(3, 40)))


def _drawn(flask: Flask, view: ViewRules, name: str) -> TrainingField:
    frame = flask.field(0)
    dead = np.zeros(int(frame.truth.labels.max()) + 1, np.uint8)
    for cell in frame.truth.cells:
        dead[cell.id] = cell.state != "alive"
    labels = frame.truth.labels.astype(np.int32)
    other = dead[labels]
    living = np.where(other > 0, 0, labels).astype(np.int32)
    return field_of(
        to_gray(frame.rgb), living, frame.um_per_px, view, name=name, group=name, other=other
    )


def digest_of(material: Material) -> str:
    """SHA-256 over the files that were read, in order."""
    return hashlib.sha256("".join(material.sha256s).encode()).hexdigest()


cv2.setNumThreads(1)  # forked workers must not inherit OpenCV's threads
