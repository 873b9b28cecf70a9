"""From the maps of a detector network to finds: what the daemon and the validation both do.

Knows maps, labels and reasons; the engine that makes the maps is given.
"""

from collections.abc import Callable, Iterator

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.detect import Objects, apart, boxes, measure
from parfocal.fieldview import ViewRules, field_contrast, seen
from parfocal.instances import VoteRules, instances, probability
from parfocal.reasons import ObjectReason
from parfocal.segment import Segments
from parfocal.types import Finds, Gray

Float = NDArray[np.float32]
Labels = NDArray[np.int32]
Engine = Callable[[Float], Float]
"""A view (h, w), sides multiples of `MULTIPLE`, to maps (6, h / 2, w / 2): cell, other, dy, dx."""

STRIDE, MULTIPLE = 2, 16


class FindRules(msgspec.Struct, frozen=True, kw_only=True):
    """What makes an instance a single living cell; every limit with its reason."""

    speck_um2: float = 40.0  # below 7 um across: not worth reporting
    debris_um2: float = 150.0  # 14 um across; nearly all annotated cells are larger
    clump_um2: float = 9000.0  # above the largest single spread T98G cell
    edge_share: float = 1.2  # border contact over root of area: cut through at full width
    least_score: float = 0.93  # highest probability of its pixels
    other: float = 0.5  # mean probability of being dead, floating or a heap
    darkest: float = -0.35  # mean contrast; burnt-in text and what lies beyond the light are darker
    round_um2: float = 700.0  # a larger one that is no living cell is a heap
    round_aspect: float = 1.6  # of its box


def detect(
    gray: Gray,
    um_per_px: float,
    engine: Engine,
    view: ViewRules,
    votes: VoteRules,
    rules: FindRules,
) -> Finds:
    """All objects of a frame (h, w), in the order of their first pixel."""
    contrast = field_contrast(gray, um_per_px, view)
    maps = engine(padded(seen(contrast, view)))
    scale_um = um_per_px * gray.shape[1] / contrast.shape[1]
    return found(maps, contrast, scale_um, (gray.shape[0], gray.shape[1]), votes, rules)


def padded(view: Float) -> Float:
    """The view with sides that are multiples of `MULTIPLE`, mirrored at the far edges."""
    h, w = view.shape
    more = ((0, -h % MULTIPLE), (0, -w % MULTIPLE))
    return np.pad(view, more, mode="symmetric" if min(h, w) >= MULTIPLE else "edge")


def found(
    maps: Float,
    contrast: Float,
    um_per_px: float,
    shape: tuple[int, int],
    votes: VoteRules,
    rules: FindRules,
) -> Finds:
    """Finds of a frame of a shape (h, w), from maps of its padded view."""
    h, w = contrast.shape
    half = (slice(0, -(-h // STRIDE)), slice(0, -(-w // STRIDE)))
    cell, other = probability(maps[0][half]), probability(maps[1][half])
    labels = instances(cell, maps[2][half], maps[3][half], votes)
    labels = with_others(labels, other, rules.other)
    either = np.maximum(cell, other)
    full = at_view(labels, either, (h, w), min(votes.cell, rules.other))
    sure, strange = enlarged(cell, (h, w)), enlarged(other, (h, w))
    alone = apart(full)
    numbered, objects = measure(
        Segments(full, sure, 1.0, contrast, um_per_px), rules.speck_um2 / um_per_px**2, alone
    )
    centres = body_centres(numbered, alone)
    ratio = np.array([shape[1] / w, shape[0] / h])
    share, score = mean_of(strange, numbered), highest_of(sure, numbered)
    return Finds(
        labels=numbered,
        points_px=(inner_points(numbered, centres, objects) + 0.5) * ratio - 0.5,
        centroids_px=(centres + 0.5) * ratio - 0.5,
        boxes_px=boxes(objects) * np.tile(ratio, 2),
        area_um2=objects.area * um_per_px**2,
        score=score,
        reasons=tuple(reasons(objects, score, share, um_per_px, rules)),
    )


def body_centres(labels: Labels, alone: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Centre of each object's body, (n, 2) as (x, y): pixels weigh by their depth squared.

    Processes and tips hardly count, as they do not for a person who centres a crop by hand.
    """
    depth = cv2.distanceTransform(np.pad(alone.view(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.nonzero(labels)
    label = labels[y, x]
    weight = np.maximum(depth[y, x], 0.5).astype(np.float64) ** 2
    total = np.bincount(label, weight)[1:]
    sums = [np.bincount(label, weight * v)[1:] for v in (x, y)]
    return np.stack([one / np.maximum(total, 1e-9) for one in sums], 1)


def inner_points(
    labels: Labels, centres: NDArray[np.float64], objects: Objects
) -> NDArray[np.float64]:
    """A point inside each object, (n, 2) as (x, y): its centre, or, outside of it, its deepest."""
    x, y = np.rint(centres.T).astype(np.intp)
    own = labels[y, x] == np.arange(1, len(x) + 1)
    deepest = np.stack([objects.point_x, objects.point_y], 1)
    return np.where(own[:, None], centres, deepest)


def with_others(labels: Labels, other: Float, least: float) -> Labels:
    """The labels, and on top of them each piece that is no living cell under a new number."""
    _, pieces = cv2.connectedComponents(
        ((other > least) & (labels == 0)).astype(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    return np.where(pieces > 0, pieces + labels.max(initial=0), labels).astype(np.int32)


def at_view(labels: Labels, sure: Float, shape: tuple[int, int], least: float) -> Labels:
    """Labels of half the resolution at that of the view, with the smoother outline of `sure`."""
    size = (shape[1], shape[0])
    exact = cv2.resize(labels.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    grown = cv2.dilate(exact, np.ones((3, 3), np.uint8))
    near = np.where(exact > 0, exact, grown)
    return np.where(enlarged(sure, shape) > least, near, 0).astype(np.int32)


def enlarged(image: Float, shape: tuple[int, int]) -> Float:
    """A map at the view's size (h, w), bilinear."""
    size = (shape[1], shape[0])
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.float32)


def mean_of(values: Float, labels: Labels) -> NDArray[np.float64]:
    """Mean of an image in each of labels 1..n, all of which occur: shape (n,)."""
    inside = np.flatnonzero(labels)
    label = labels.ravel()[inside]
    sums = np.bincount(label, weights=values.ravel()[inside])
    mean: NDArray[np.float64] = (sums / np.maximum(np.bincount(label), 1))[1:]
    return mean


def highest_of(values: Float, labels: Labels) -> NDArray[np.float64]:
    """Largest value of an image in each of labels 1..n, all of which occur: shape (n,)."""
    inside = np.flatnonzero(labels)
    label = labels.ravel()[inside]
    if not len(label):
        return np.zeros(0)
    narrow = label.astype(np.uint16) if label.max() < 2**16 else label  # sorted 5 times faster
    order = np.argsort(narrow, kind="stable")
    start = np.flatnonzero(np.r_[True, np.diff(label[order]) > 0])
    return np.maximum.reduceat(values.ravel()[inside[order]], start).astype(np.float64)


def reasons(
    objects: Objects,
    score: NDArray[np.float64],
    other: NDArray[np.float64],
    um_per_px: float,
    rules: FindRules,
) -> Iterator[ObjectReason | None]:
    """Why each object is not a single living cell, None where it is; the first that applies.

    `score`, `other`: highest probability of being cell, mean of being no living cell, both (n,).
    """
    area_um2 = objects.area * um_per_px**2
    width, height = objects.right - objects.left, objects.bottom - objects.top
    long, short = np.maximum(width, height), np.maximum(1, np.minimum(width, height))
    compact = (area_um2 <= rules.round_um2) & (long <= rules.round_aspect * short)
    lifeless = other > rules.other
    tests = {
        ObjectReason.ROUNDED: lifeless & compact & (area_um2 >= rules.debris_um2 / 2),
        ObjectReason.DEBRIS: lifeless
        | (area_um2 < rules.debris_um2)
        | (objects.contrast < rules.darkest),
        ObjectReason.EDGE: objects.contact > rules.edge_share * np.sqrt(objects.area),
        ObjectReason.CLUMP: area_um2 > rules.clump_um2,
        ObjectReason.UNSURE: score < rules.least_score,
    }
    for i in range(len(area_um2)):
        yield next((reason for reason, failed in tests.items() if failed[i]), None)
