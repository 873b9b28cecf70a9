"""The classical detector: cells by texture, one parameter set for every microscope.

`parfocal.segment` finds and separates; here each label becomes an object with a place, a size, a
score and, where it is not one whole cell in focus, a reason. Nothing is dropped in silence but
specks below the size of debris.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.reasons import ObjectReason
from parfocal.segment import Float, SegmentRules, Segments, segment
from parfocal.types import Finds, Gray

VERSION = 1
"""Raised by every change of the code that changes what is found."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ObjectRules:
    """What makes an object a single cell; every limit with its reason."""

    speck_um2: float = 40.0  # below 7 um across: noise of the level, not worth reporting
    debris_um2: float = 200.0  # 16 um across; nearly all annotated cells are larger
    clump_um2: float = 7000.0  # above the largest single spread T98G cell
    clump_half_width_um: float = 45.0  # no spread cell is thicker
    edge_share: float = 1.2  # border contact over root of area: cut through at full width
    ink_contrast: float = 0.75  # scale bars and glare; no cell differs that much on average
    blur: float = 0.15  # fine over coarse gradient; cells in focus have 0.2 to 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """Measures of n objects in pixels of the working scale; every array of shape (n,)."""

    area: Floats
    x: Floats
    y: Floats
    point_x: Floats
    point_y: Floats
    left: Floats
    top: Floats
    right: Floats  # one past the last column
    bottom: Floats
    half_width: Floats
    contact: Floats  # pixels on the frame border
    texture: Floats  # mean, as a multiple of the foreground level
    contrast: Floats  # mean
    sharpness: Floats  # fine over coarse gradient


class ClassicalDetector:
    """Objects by texture and outline; deterministic, without a model."""

    def __init__(
        self, segments: SegmentRules | None = None, objects: ObjectRules | None = None
    ) -> None:
        self.segments = segments or SegmentRules()
        self.objects = objects or ObjectRules()

    @property
    def name(self) -> str:
        """Short name, stated in every result."""
        return "classical"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over name, version and all parameters."""
        parts = (self.name, VERSION, asdict(self.segments), asdict(self.objects))
        return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()

    def __call__(self, gray: Gray, um_per_px: float, /) -> Finds:
        """All objects of the frame, ordered by their first pixel, row by row."""
        found = segment(gray, um_per_px, self.segments)
        labels, objects = measure(found, self.objects.speck_um2 / found.um_per_px**2)
        h, w = gray.shape
        ratio = np.array([w / labels.shape[1], h / labels.shape[0]])  # (x, y)
        return Finds(
            labels=labels,
            points_px=(np.stack([objects.point_x, objects.point_y], 1) + 0.5) * ratio - 0.5,
            centroids_px=(np.stack([objects.x, objects.y], 1) + 0.5) * ratio - 0.5,
            boxes_px=boxes(objects) * np.tile(ratio, 2),
            area_um2=objects.area * found.um_per_px**2,
            # texture is a root of the deviation: this is the share of variance above the level
            score=1 - 1 / np.maximum(objects.texture, 1) ** 4,
            reasons=tuple(reasons(objects, found.um_per_px, self.objects)),
        )


def boxes(objects: Objects) -> Floats:
    """left, top, width, height of each object: shape (n, 4)."""
    width, height = objects.right - objects.left, objects.bottom - objects.top
    return np.stack([objects.left, objects.top, width, height], 1)


def reasons(
    objects: Objects, um_per_px: float, rules: ObjectRules
) -> Iterator[ObjectReason | None]:
    """Why each object is not a single cell, None where it is; the first that applies."""
    area_um2 = objects.area * um_per_px**2
    tests = {
        ObjectReason.DEBRIS: (area_um2 < rules.debris_um2)
        | (np.abs(objects.contrast) > rules.ink_contrast),
        ObjectReason.EDGE: objects.contact > rules.edge_share * np.sqrt(objects.area),
        ObjectReason.CLUMP: (area_um2 > rules.clump_um2)
        | (objects.half_width * um_per_px > rules.clump_half_width_um),
        ObjectReason.BLUR: objects.sharpness < rules.blur,
    }
    for i in range(len(area_um2)):
        yield next((reason for reason, failed in tests.items() if failed[i]), None)


def measure(
    found: Segments, speck_px: float, alone: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int32], Objects]:
    """Labels 1..n without specks, and the measures of the objects in the same order.

    `alone`: where a pixel is an object's and not on its border with another (`apart`); needed where
    labels touch.
    """
    inside = found.labels > 0
    index = np.flatnonzero(inside)  # foreground only: a fifth of a usual frame
    raw = found.labels.ravel()[index]
    area = np.bincount(raw, minlength=1)
    kept = area > speck_px
    number = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    labels = np.zeros(found.labels.shape, np.int32)
    label = number[raw]
    labels.ravel()[index] = label
    narrow = label.astype(np.uint16) if len(area) < 2**16 else label  # 16 bits sort 5 times faster
    order = np.argsort(narrow, kind="stable")[np.count_nonzero(label == 0) :]
    return labels, measures(found, inside if alone is None else alone, index[order], area[kept])


def apart(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Where objects are, without the pixels left of and above another, so that none touch."""
    alone = labels > 0
    alone[:, :-1] &= (labels[:, 1:] == labels[:, :-1]) | (labels[:, 1:] == 0)
    alone[:-1] &= (labels[1:] == labels[:-1]) | (labels[1:] == 0)
    return alone


def measures(
    found: Segments,
    inside: NDArray[np.bool_],
    index: NDArray[np.int64],
    area: NDArray[np.int64],
) -> Objects:
    """Measures of objects whose pixels lie one object after the other in `index`.

    `inside` says of each pixel whether it is an object's and not on its border with another.
    """
    start = np.cumsum(area) - area  # (n,) first pixel of each object

    def mean(values: NDArray[Any]) -> Floats:
        if not len(area):
            return np.zeros(0)
        sums: Floats = np.add.reduceat(values, start, dtype=np.float64)
        return sums / area

    def extreme(of: np.ufunc, values: NDArray[Any]) -> Floats:
        found: Floats = of.reduceat(values, start).astype(np.float64) if len(area) else np.zeros(0)
        return found

    h, w = inside.shape
    y, x = np.divmod(index.astype(np.int32), np.int32(w))  # twice as fast as int64
    half = Halved(inside.shape, y, x)
    depth = depth_px(inside, half)
    half_width = extreme(np.maximum, depth)
    deepest = first_where(depth == np.repeat(half_width, area), start)
    on_border = (x == 0) | (y == 0) | (x == w - 1) | (y == h - 1)
    return Objects(
        area=area.astype(np.float64),
        x=mean(x),
        y=mean(y),
        point_x=x[deepest].astype(np.float64),
        point_y=y[deepest].astype(np.float64),
        left=extreme(np.minimum, x),
        top=extreme(np.minimum, y),
        right=extreme(np.maximum, x) + 1,
        bottom=extreme(np.maximum, y) + 1,
        half_width=half_width,
        contact=mean(on_border) * area,
        texture=mean(found.texture.ravel()[index]) / found.level,
        contrast=mean(found.contrast.ravel()[index]),
        sharpness=sharpness(found.contrast, index, half, mean),
    )


class Halved:
    """Pixels of a frame as places in images of half its resolution, odd sides rounded up."""

    def __init__(self, shape: tuple[int, ...], y: NDArray[np.int32], x: NDArray[np.int32]) -> None:
        self.size = ((shape[1] + 1) // 2, (shape[0] + 1) // 2)
        self.place = (y >> 1) * np.int32(self.size[0]) + (x >> 1)

    def of(self, image: Float) -> Float:
        """The image at half the resolution."""
        return cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)

    def at(self, image: Float) -> Float:
        """Values of an image of half the resolution at the pixels: shape (n,)."""
        return image.ravel().take(self.place)


def depth_px(inside: NDArray[np.bool_], half: Halved) -> Float:
    """Distance of pixels to the outline of their object, to about one pixel: shape (n,).

    Taken at half the resolution, where only blocks that lie wholly inside count: a line of one
    pixel between two objects stays.
    """
    whole = half.of(inside.view(np.uint8) * np.uint8(255)) == 255
    depth = cv2.distanceTransform(whole.view(np.uint8), cv2.DIST_L2, 3)
    return 2 * half.at(np.minimum(depth, sum(whole.shape)))  # without any outline it has no end


def first_where(hit: NDArray[np.bool_], start: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the first true element at or after each start; each run has one."""
    hits = np.flatnonzero(hit)
    first: NDArray[np.int64] = hits[np.searchsorted(hits, start)] if len(start) else start
    return first


def sharpness(
    contrast: Float, index: NDArray[np.int64], half: Halved, mean: Callable[[Float], Floats]
) -> Floats:
    """Detail of one pixel over detail of several: shape (n,); defocus takes the first.

    The wide average is taken at half the resolution, which is five times cheaper.
    """
    smooth = cv2.blur(contrast, (3, 3)).ravel().take(index)
    fine = contrast.ravel().take(index) - smooth
    coarse = smooth - half.at(cv2.blur(half.of(contrast), (5, 5)))
    ratio: Floats = np.sqrt(mean(fine * fine) / np.maximum(mean(coarse * coarse), 1e-12))
    return ratio
