"""What a detector network sees: one physical scale, neither gain nor light nor bit depth left."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs import drawn_gray

from parfocal.fieldview import ViewRules, field_contrast, seen, to_view_scale

VIEW = ViewRules()


def test_gain_and_bit_depth_do_not_show() -> None:
    gray = drawn_gray()
    bright = field_contrast(gray, 0.44, VIEW)
    assert np.abs(field_contrast((gray // 2).astype(np.uint8), 0.44, VIEW) - bright).max() < 0.05
    deep = field_contrast(gray.astype(np.uint16) * 257, 0.44, VIEW)
    assert np.abs(deep - bright).max() < 0.02


def test_a_slow_gradient_of_the_lamp_does_not_show() -> None:
    gray = drawn_gray()
    lamp = np.linspace(0.7, 1.0, gray.shape[1])
    tilted = (gray * lamp).astype(np.uint8)
    apart = field_contrast(tilted, 0.44, VIEW) - field_contrast(gray, 0.44, VIEW)
    assert np.abs(apart[20:-20, 20:-20]).max() < 0.06


def test_an_even_frame_is_nothing() -> None:
    even = np.full((300, 400), 90, np.uint8)
    assert np.abs(seen(field_contrast(even, 0.5, VIEW), VIEW)).max() < 1e-4


def test_contrast_is_bent_but_keeps_its_sign_and_order() -> None:
    levels = np.linspace(-1, 1, 101, dtype=np.float32)
    bent = seen(levels, VIEW)
    assert (np.diff(bent) > 0).all() and np.abs(bent).max() < 5
    assert bent[50] == 0 and np.allclose(bent, -bent[::-1])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.floats(0.05, 6))
def test_a_view_has_the_physical_size_of_its_frame(h: int, w: int, um_per_px: float) -> None:
    view = to_view_scale(np.zeros((h, w), np.uint8), um_per_px, VIEW)
    scale = min(um_per_px, VIEW.most_enlarged)
    for got, px in zip(view.shape, (h, w), strict=True):
        assert got == max(1, round(px * scale / VIEW.um_per_px)) or abs(got - px * scale) <= 1


@pytest.mark.parametrize("name", VIEW.__struct_fields__[:4])
def test_every_parameter_is_in_the_fingerprint(name: str) -> None:
    changed = msgspec.structs.replace(VIEW, **{name: 1.5 * getattr(VIEW, name)})
    assert changed.fingerprint != VIEW.fingerprint == ViewRules().fingerprint
