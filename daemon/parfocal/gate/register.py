"""Finds where a frame lies on earlier fields of the session, from small images kept of each.

A phase correlation at a sixteenth of the resolution, padded so that any shift is told from any
other, proposes places; how much is seen there and there (blurred, so that a few degrees do not
matter) rules most of them out; a fit of shift and turn at an eighth (ECC) confirms one and makes
it exact. Every field is compared: how the flask was pushed since does not matter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.gate.measures import SMALL, Float
from parfocal.gate.places import Overlap, shared

PEAKS = 4
"""Places that are looked at for each field."""

SMALL_SHARE = 0.25
"""Below this overlap there is less to compare, and chance does more."""

BUSY_ALIKE = (0.68, 0.8)
"""Least correlation of the busyness of two fields, in a usual and in a small overlap: one place
under a turn of 3 degrees gave 0.75 and more, different places 0.6 and less, up to 0.87 in small."""

ALIKE = (0.6, 0.75)
"""Least correlation of the fitted reliefs, likewise: one place gave 0.68 and more, in small
overlaps different places up to 0.73."""

LEAST_SHARE = 0.06
"""Least overlap that is looked for, as a share of the frame: in less, hardly a cell lies within
the borders of both fields."""

FIT_COST = 10
"""What a fit costs in comparisons."""

MOST_TURN_RAD = 0.12
BLURS_PX = (7, 11)
"""Blur of the first fit, in small pixels: a wider one pulls from farther."""

LEAST_ROUGH = 0.45
STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Small images of one place: about 0.3 MB for a frame of 2 million pixels.

    `relief` (h // 8, w // 8) and `busy` (h // 16, w // 16, what is there, blurred) are float32,
    `phases` is the whitened spectrum of the relief at a sixteenth.
    """

    relief: Float
    busy: Float
    phases: NDArray[np.complex64]


def view(relief: Float) -> View:
    """The small images that are compared."""
    h, w = relief.shape
    half = cv2.resize(relief, (w // 2, h // 2), interpolation=cv2.INTER_AREA)
    busy = np.asarray(cv2.GaussianBlur(np.abs(half), (0, 0), 2), np.float32)
    found = np.fft.rfft2(half, padded(relief.shape))
    size = np.abs(found)
    # frequencies with less than the usual strength hold noise: they count for less
    phases = found / (size + max(float(np.median(size)), 1e-12))
    return View(relief, busy, np.asarray(phases, np.complex64))


def padded(shape: tuple[int, ...]) -> tuple[int, int]:
    """Size (h, w) at which no two shifts of half-size reliefs are the same."""
    return cv2.getOptimalDFTSize(shape[0]), cv2.getOptimalDFTSize(shape[1])


class Search:
    """The comparison of one view with earlier fields, a few of them at a time."""

    def __init__(self, seen: View, fields: Sequence[View | None], size: tuple[int, int]) -> None:
        self.seen, self.fields, self.size = seen, fields, size
        self.compared = 0
        self.found: list[Overlap] = []

    @property
    def done(self) -> bool:
        """Whether all fields were compared."""
        return self.compared >= len(self.fields)

    def advance(self, n: int) -> None:
        """Do work of n comparisons, the latest field first; fields are numbered from 1."""
        while n > 0 and not self.done:
            number = len(self.fields) - self.compared
            self.compared += 1
            field = self.fields[number - 1]
            if field is None:
                continue
            n -= 1
            shift = likely(self.seen, field)
            if shift is not None:
                n -= FIT_COST
                overlap = fitted(self.seen.relief, field.relief, shift, number, self.size)
                self.found += [overlap] if overlap is not None else []


def likely(seen: View, field: View) -> tuple[int, int] | None:
    """The shift (x, y) in small pixels that a frame has most likely to a field, if to any."""
    best, shift = 0.0, None
    for x, y in peaks(seen, field):
        share = overlap_of(seen.busy.shape, (x, y))
        if share < LEAST_SHARE:
            continue
        alike = correlation_at(seen.busy, field.busy, (x, y))
        if alike > max(best, BUSY_ALIKE[share < SMALL_SHARE]):
            best, shift = alike, (2 * x, 2 * y)
    return shift


def place(seen: View, field: View, number: int, size: tuple[int, int]) -> Overlap | None:
    """Where a frame (h, w) = size lies on a field of this number, if it does."""
    search = Search(seen, [field], size)
    search.advance(1)
    return replace(search.found[0], field=number) if search.found else None


def peaks(seen: View, field: View) -> Iterator[tuple[int, int]]:
    """The most likely shifts (x, y) from the frame to the field, in pixels of a sixteenth."""
    h, w = padded(seen.relief.shape)
    surface = np.fft.irfft2(field.phases * seen.phases.conj(), (h, w))
    for _ in range(PEAKS):
        y, x = divmod(int(surface.argmax()), w)
        surface[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4] = -np.inf
        yield (x - w if x > w // 2 else x), (y - h if y > h // 2 else y)


def overlap_of(shape: tuple[int, ...], shift: tuple[int, int]) -> float:
    """Share of an image (h, w) that overlaps with another at a shift (x, y)."""
    h, w = shape
    return max(w - abs(shift[0]), 0) * max(h - abs(shift[1]), 0) / (w * h)


def correlation_at(seen: Float, field: Float, shift: tuple[int, int]) -> float:
    """Correlation of two images (h, w) where they overlap at a shift (x, y)."""
    (x, y), (h, w) = shift, seen.shape
    a = seen[max(-y, 0) : h - max(y, 0), max(-x, 0) : w - max(x, 0)]
    b = field[max(y, 0) : h + min(y, 0), max(x, 0) : w + min(x, 0)]
    a, b = a - a.mean(), b - b.mean()
    spread = float(cv2.norm(a) * cv2.norm(b))
    return float(np.vdot(a, b)) / spread if spread > 0 else 0.0


def fitted(
    seen: Float, field: Float, shift: tuple[int, int], number: int, size: tuple[int, int]
) -> Overlap | None:
    """The exact overlap near a shift in small pixels, if the two show the same there."""
    start = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    for blur_px in BLURS_PX:
        rough = aligned(seen, field, start.copy(), blur_px)
        if rough is not None and rough[0] >= LEAST_ROUGH:
            exact = aligned(seen, field, rough[1], 3)
            return None if exact is None else believed(*exact, number, size)
    return None


def aligned(seen: Float, field: Float, start: Float, blur_px: int) -> tuple[float, Float] | None:
    """Correlation, and the map (2, 3) of points of the frame to the field, in small pixels."""
    mask = np.full(field.shape, 255, np.uint8)
    try:
        alike, matrix = cv2.findTransformECC(
            seen, field, start, cv2.MOTION_EUCLIDEAN, STEPS, mask, blur_px
        )
    except cv2.error:  # how it says that the two have nothing in common
        return None
    return float(alike), np.asarray(matrix, np.float32)


def believed(alike: float, matrix: Float, number: int, size: tuple[int, int]) -> Overlap | None:
    """The overlap in camera pixels, unless chance could have made it."""
    turn = float(np.arctan2(matrix[1, 0], matrix[0, 0]))
    # the middle of a small pixel lies between camera pixels
    middle = np.full(2, (SMALL - 1) / 2)
    offset = SMALL * matrix[:, 2] + middle - matrix[:, :2] @ middle
    at = float(offset[0]), float(offset[1])
    share = shared(at, turn, size)
    if alike < ALIKE[share < SMALL_SHARE] or abs(turn) > MOST_TURN_RAD or share < LEAST_SHARE:
        return None
    return Overlap(number, at, turn, share, alike)
