"""Leaves out of a frame what earlier fields of its flask have counted already.

Which earlier fields count is decided here, when the result is made, and not when the frame was
taken: one whose file was lost, or that was never scored, counted nothing.
"""

import os
from collections.abc import Callable

import msgspec
import numpy as np

from parfocal.gate.places import COARSE, Overlap, Points, already_counted, inside
from parfocal.inference import Classified
from parfocal.prepare import PixelRules
from parfocal.reader import Prepared
from parfocal.reasons import ObjectReason
from parfocal.results import lca_rows, margin_of
from parfocal.types import AlreadyCounted, Rejected

Counts = Callable[[str], bool]
"""Whether the image at this absolute path counts for the same flask."""

MOST_PER_SIDE = 256
"""Points of the grid on which area is measured, along a side."""


def counted_once(
    path: str, prepared: Prepared, classified: Classified, rules: PixelRules, counts: Counts
) -> tuple[Prepared, Classified, AlreadyCounted | None]:
    """The image at an absolute path without the cells that earlier fields counted.

    Every find that lies there is rejected as `already_counted`, whatever else it was.
    """
    earlier = _earlier(path, prepared, counts)
    if not earlier:
        return prepared, classified, None
    overlaps = list(earlier.values())
    size = (prepared.height_px, prepared.width_px)
    margin_px = margin_of(rules, prepared.um_per_px)

    def seen(points: list[tuple[float, float]]) -> list[bool]:
        there = np.array(points, np.float64).reshape(-1, 2)
        return [bool(one) for one in already_counted(there, overlaps, size, margin_px)]

    again = seen([prepared.points[i] for i in prepared.chosen])
    cells = [i for i, before in zip(prepared.chosen, again, strict=True) if before]
    others = seen([(one.x_px, one.y_px) for one in prepared.rejected])
    left = [
        _told_before(one.x_px, one.y_px, one.area_um2) if before else one
        for one, before in zip(prepared.rejected, others, strict=True)
    ]
    left += [_told_before(*prepared.points[i], prepared.areas_um2[i]) for i in cells]
    new = msgspec.structs.replace(
        prepared, chosen=[i for i in prepared.chosen if i not in set(cells)], rejected=left
    )
    share, frame_share = shares(overlaps, size, margin_px)
    names = tuple(sorted(os.path.basename(image) for image in earlier))
    told = AlreadyCounted(
        images=names, n_finds=len(cells) + sum(others), share=share, frame_share=frame_share
    )
    return new, _only(classified, [k for k, before in enumerate(again) if not before]), told


def _earlier(path: str, prepared: Prepared, counts: Counts) -> dict[str, Overlap]:
    """Path of each earlier field that counts to how the image lies on it."""
    folder, found = os.path.dirname(path), {}
    for number, one in enumerate(prepared.declared.overlaps, 1):
        image = os.path.normpath(os.path.join(folder, one.image))
        if image != path and counts(image):
            found[image] = Overlap(number, one.offset_px, one.turn_rad, one.share, one.confidence)
    return found


def _told_before(x_px: float, y_px: float, area_um2: float) -> Rejected:
    return Rejected(reason=ObjectReason.ALREADY_COUNTED, x_px=x_px, y_px=y_px, area_um2=area_um2)


def _only(classified: Classified, kept: list[int]) -> Classified:
    """The answers for some of the cells."""
    rows, names = lca_rows(classified, len(classified.reasons)), classified.phenotypes
    return msgspec.structs.replace(
        classified,
        probabilities=[classified.probabilities[k] for k in kept],
        novelty=[classified.novelty[k] for k in kept],
        reasons=[classified.reasons[k] for k in kept],
        lca=b"".join(rows[k] for k in kept),
        phenotypes=None if names is None else [names[k] for k in kept],
    )


def shares(overlaps: list[Overlap], size: tuple[int, int], margin_px: float) -> tuple[float, float]:
    """How much earlier fields have counted of a frame (h, w).

    First as a share of the area in which it counts cells itself, 0 where there is none, then of
    the whole frame.
    """
    points = _grid(size)
    seen = already_counted(points, overlaps, size, margin_px)
    own = inside(points, size, margin_px)
    return float(seen[own].mean()) if own.any() else 0.0, float(seen.mean())


def _grid(size: tuple[int, int]) -> Points:
    """Evenly spread points (n, 2) of a frame (h, w)."""
    h, w = size
    step = max(COARSE, max(size) / MOST_PER_SIDE)
    rows, columns = max(1, round(h / step)), max(1, round(w / step))
    y, x = np.mgrid[:rows, :columns] + 0.5
    return np.column_stack([x.ravel() * w / columns, y.ravel() * h / rows]) - 0.5
