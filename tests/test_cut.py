"""Crop geometry: windows of a physical field, wholly inside, never shifted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parfocal.cut import SCALE_TOLERANCE, cut, inside, rescale, windows

COORDINATE = st.floats(-20, 120, allow_nan=False)


def numbered(h: int, w: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
    """A frame whose pixels tell their place."""
    return np.arange(h * w, dtype=np.uint16).reshape(h, w)


@settings(max_examples=150, deadline=None)
@given(
    x=COORDINATE, y=COORDINATE, side=st.integers(1, 40), h=st.integers(1, 99), w=st.integers(1, 99)
)
def test_a_window_is_inside_exactly_when_all_its_pixels_are(
    x: float, y: float, side: int, h: int, w: int
) -> None:
    centres = np.array([[x, y]])
    left, top = windows(centres, side)[0]
    expected = left >= 0 and top >= 0 and left + side <= w and top + side <= h
    assert inside(centres, side, (h, w))[0] == expected
    frame = numbered(h, w)
    if expected:
        np.testing.assert_array_equal(
            cut(frame, centres, side)[0], frame[top : top + side, left : left + side]
        )
    else:
        with pytest.raises(ValueError, match="leave the frame"):
            cut(frame, centres, side)


@settings(max_examples=100, deadline=None)
@given(x=COORDINATE, y=COORDINATE, side=st.integers(1, 40))
def test_the_centre_of_a_window_is_within_half_a_pixel_of_the_cell(
    x: float, y: float, side: int
) -> None:
    corner = windows(np.array([[x, y]]), side)[0]
    middle = corner + side // 2
    assert np.abs(middle - [x, y]).max() <= 0.5 + 1e-9


def test_the_pixel_under_the_cell_is_the_middle_of_an_odd_crop() -> None:
    frame = numbered(50, 60)
    crop = cut(frame, np.array([[30.0, 20.0]]), 11)[0]
    assert crop[5, 5] == frame[20, 30]


def test_a_margin_surrounds_the_same_crop() -> None:
    frame = numbered(90, 90)
    centres = np.array([[40.3, 44.8]])
    np.testing.assert_array_equal(
        cut(frame, centres, 24 + 2 * 7)[0, 7:-7, 7:-7], cut(frame, centres, 24)[0]
    )


def test_no_cells_give_no_crops() -> None:
    assert cut(numbered(30, 30), np.zeros((0, 2)), 8).shape == (0, 8, 8)


def test_within_the_tolerance_the_frame_is_returned_itself() -> None:
    frame = numbered(30, 40)
    assert rescale(frame, 0.44, 0.44) is frame
    assert rescale(frame, 0.44 * (1 + 0.9 * SCALE_TOLERANCE), 0.44) is frame
    assert rescale(frame, 0.44 * (1 + 10 * SCALE_TOLERANCE), 0.44).shape != frame.shape


@settings(max_examples=50, deadline=None)
@given(um=st.floats(0.1, 5), target=st.floats(0.1, 5), level=st.integers(0, 65535))
def test_rescaling_keeps_the_field_the_depth_and_the_level(
    um: float, target: float, level: int
) -> None:
    frame = np.full((60, 80), level, np.uint16)
    scaled = rescale(frame, um, target)
    assert scaled.dtype == frame.dtype
    assert (scaled == level).all()
    assert abs(scaled.shape[1] * target - 80 * um) <= max(target, 0.006 * 80 * um)


def test_a_finer_frame_is_averaged_not_sampled() -> None:
    stripes = np.tile(np.array([0, 200], np.uint8), (40, 20))
    assert (rescale(stripes, 0.5, 1.0) == 100).all()
