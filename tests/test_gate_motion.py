"""Speed from two small reliefs: small shifts from slopes, large ones by search."""

from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parfocal.gate.measures import SMALL
from parfocal.gate.motion import shift_px


@cache
def pattern() -> NDArray[np.float32]:
    rough = np.random.default_rng(0).normal(0, 1, (240, 320)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(rough, (0, 0), 1.5), np.float32)


def relief(x: float, y: float, size: tuple[int, int]) -> NDArray[np.float32]:
    """The pattern moved by (x, y) small pixels."""
    move = np.array([[1, 0, x - 80], [0, 1, y - 60]], np.float32)
    return np.asarray(cv2.warpAffine(pattern(), move, size[::-1], flags=cv2.INTER_CUBIC))


@settings(deadline=None, max_examples=50)
@given(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6))
def test_a_small_shift_is_exact(x: float, y: float) -> None:
    found = shift_px(relief(0, 0, (120, 160)), relief(x, y, (120, 160)))
    assert found is not None
    way = max(abs(x), abs(y), 0.2)
    assert found == pytest.approx((SMALL * x, SMALL * y), abs=0.3 * SMALL * way)


@settings(deadline=None, max_examples=50)
@given(st.integers(-40, 40), st.integers(-30, 30))
def test_a_large_shift_is_found(x: int, y: int) -> None:
    if np.hypot(x, y) < 6:
        return
    found = shift_px(relief(0, 0, (120, 160)), relief(x, y, (120, 160)))
    assert found == pytest.approx((SMALL * x, SMALL * y), abs=SMALL)


@pytest.mark.parametrize("size", [(60, 80), (120, 160), (152, 202)])
def test_the_reliefs_are_left_as_they_were(size: tuple[int, int]) -> None:
    before, after = relief(0, 0, size), relief(20, 9, size)
    copies = before.copy(), after.copy()
    shift_px(before, after)
    assert (before == copies[0]).all() and (after == copies[1]).all()


def test_two_places_that_share_nothing_have_no_shift() -> None:
    rng = np.random.default_rng(1)
    one, other = (rng.normal(0, 1, (120, 160)).astype(np.float32) for _ in range(2))
    assert shift_px(one, other) is None
