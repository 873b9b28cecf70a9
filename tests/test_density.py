"""Cells per area: a frame of any size has the density of the bottom that it shows."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rigs import rules
from test_recorder import prepared

from parfocal.reader import Prepared
from parfocal.reasons import ObjectReason
from parfocal.results import counted
from parfocal.types import Rejected

UM_PER_PX = 0.5
MARGIN_PX = 112 * 0.44 / UM_PER_PX
"""Half a crop of 224 px of 0.44 um."""
CENTRE_PX = 0.5
"""A frame begins half a pixel before the centre of its first one."""


def shown(points: NDArray[np.float64], size: tuple[int, int], clumps: int, limit: int) -> Prepared:
    """A frame (h, w) in which the first finds are clumps of two; beyond the limit none is cut."""
    chosen: list[int] = []
    rejected: list[Rejected] = []
    for i, (x_px, y_px) in enumerate(points.tolist()):
        sides = ((x_px, size[1]), (y_px, size[0]))
        fits = all(MARGIN_PX <= v + CENTRE_PX < side - MARGIN_PX for v, side in sides)
        if i < clumps:
            reason, n_cells = ObjectReason.CLUMP, 2
        elif fits and len(chosen) < limit:
            chosen.append(i)
            continue
        else:
            reason, n_cells = ObjectReason.OVER_LIMIT if fits else ObjectReason.EDGE, None
        rejected.append(Rejected(reason=reason, x_px=x_px, y_px=y_px, area_um2=1, n_cells=n_cells))
    rejected.append(Rejected(reason=ObjectReason.DEBRIS, x_px=200, y_px=200, area_um2=1))
    return msgspec.structs.replace(
        prepared(), width_px=size[1], height_px=size[0], um_per_px=UM_PER_PX, chosen=chosen,
        rejected=rejected,
    )  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(400, 1200), st.integers(400, 1600), st.integers(0, 5))
def test_every_cell_of_the_countable_part_counts_once(
    seed: int, h: int, w: int, clumps: int
) -> None:
    points = np.random.default_rng(seed).uniform(0, (w, h), (40, 2))
    n, area_mm2 = counted(shown(points, (h, w), clumps, 15), rules())
    high = np.array([w, h]) - MARGIN_PX
    at = points + CENTRE_PX
    inside = np.all((at >= MARGIN_PX) & (at < high), axis=1)
    assert n == inside.sum() + inside[:clumps].sum()
    sides = (w - 2 * MARGIN_PX) * (h - 2 * MARGIN_PX)
    assert area_mm2 == pytest.approx(sides * (UM_PER_PX / 1000) ** 2)


def test_a_frame_smaller_than_a_crop_has_no_countable_part() -> None:
    assert counted(shown(np.array([[50.0, 60.0]]), (120, 400), 0, 9), rules()) == (0, 0.0)
