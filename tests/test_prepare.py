"""Prepare: every object accounted for, bits untouched at the right scale, a strict fingerprint."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parfocal.prepare import PixelRules, Prepare, flatten, to_gray
from parfocal.reasons import ObjectReason
from parfocal.types import Finds, Gray

SIDE = 24
REFERENCE = tuple(int(n) for n in np.bincount(np.arange(SIDE**2) % 256, minlength=256))
RULES = PixelRules(um_per_px=0.5, reference=REFERENCE, crop_px=SIDE)


@dataclass(frozen=True)
class Fixed:
    """A detector that finds what it is told, whatever the frame shows."""

    places: tuple[tuple[float, float, ObjectReason | None], ...]
    name: str = "fixed"
    fingerprint: str = "fixed"

    def __call__(self, gray: Gray, um_per_px: float, /) -> Finds:
        points = np.array([place[:2] for place in self.places], float).reshape(-1, 2)
        n = len(self.places)
        return Finds(
            labels=np.zeros((8, 8), np.int32),
            points_px=points,
            centroids_px=points,
            boxes_px=np.zeros((n, 4)),
            area_um2=np.full(n, 300.0),
            score=np.ones(n),
            reasons=tuple(place[2] for place in self.places),
        )


def frame(h: int = 120, w: int = 160, dtype: type[np.generic] = np.uint8) -> Gray:
    levels = np.random.default_rng(3).integers(0, 256, (h, w))
    return levels.astype(np.uint8) if dtype is np.uint8 else (levels * 16).astype(np.uint16)


NEW_REASONS = (ObjectReason.EDGE, ObjectReason.OVER_LIMIT)
PLACE = st.tuples(
    st.floats(0, 159), st.floats(0, 119), st.sampled_from([None, None, *ObjectReason][:6])
)


@settings(max_examples=80, deadline=None)
@given(
    places=st.lists(PLACE, max_size=20),
    limit=st.integers(1, 6),
    um=st.sampled_from([0.25, 0.5, 0.7]),
    margin=st.integers(0, 5),
)
def test_every_object_is_cut_or_keeps_a_reason(
    places: list[tuple[float, float, ObjectReason | None]], limit: int, um: float, margin: int
) -> None:
    prepare = Prepare(RULES, Fixed(tuple(places)), max_cells=limit)
    raw = prepare.cut(frame(), um, margin)
    assert len(raw.finds) == len(places)
    assert raw.crops.shape == (len(raw.chosen), SIDE + 2 * margin, SIDE + 2 * margin)
    kept = [i for i, reason in enumerate(raw.finds.reasons) if reason is None]
    assert kept == raw.chosen.tolist()
    assert len(kept) <= limit
    for (_, _, told), reason in zip(places, raw.finds.reasons, strict=True):
        assert reason == told if told is not None else reason in (None, *NEW_REASONS)
    if ObjectReason.OVER_LIMIT in raw.finds.reasons and not any(
        told is ObjectReason.OVER_LIMIT for *_, told in places
    ):
        assert len(kept) == limit


def test_at_the_rules_scale_a_crop_is_the_frames_own_pixels() -> None:
    gray = frame()
    raw = Prepare(RULES, Fixed(((60.2, 50.4, None),))).cut(gray, 0.5)
    np.testing.assert_array_equal(raw.crops[0], gray[38:62, 48:72])
    assert Prepare(RULES, Fixed(())).to_scale(gray, 0.5 * 1.004) is gray


@pytest.mark.parametrize("um", [0.25, 1.0])
def test_at_another_scale_the_cell_is_still_in_the_middle(um: float) -> None:
    gray = np.full((320, 320), 100, np.uint8)
    x_um, y_um = 41.0, 37.0
    x, y = x_um / um, y_um / um  # edges of pixels
    blob = np.zeros_like(gray)
    cv2.circle(blob, (int(x), int(y)), round(2 / um), 255, -1)
    raw = Prepare(RULES, Fixed(((x - 0.5, y - 0.5, None),))).cut(np.maximum(gray, blob), um)
    rows, columns = np.nonzero(raw.crops[0] > 180)
    assert columns.mean() == pytest.approx(SIDE / 2, abs=1.2)
    assert rows.mean() == pytest.approx(SIDE / 2, abs=1.2)


def test_the_fingerprint_changes_with_each_parameter() -> None:
    other = (REFERENCE[0] - 1, REFERENCE[1] + 1, *REFERENCE[2:])
    variants = [
        RULES,
        PixelRules(um_per_px=0.501, reference=REFERENCE, crop_px=SIDE),
        PixelRules(um_per_px=0.5, reference=other, crop_px=SIDE),
        PixelRules(um_per_px=0.5, reference=REFERENCE, crop_px=SIDE + 1),
        PixelRules(um_per_px=0.5, reference=REFERENCE, crop_px=SIDE, flat_field_um=100.0),
        PixelRules(um_per_px=0.5, reference=REFERENCE, crop_px=SIDE, masked=True),
    ]
    assert len({rules.fingerprint for rules in variants}) == len(variants)
    again = PixelRules(um_per_px=0.5, reference=REFERENCE, crop_px=SIDE)
    assert again.fingerprint == RULES.fingerprint


def test_prepare_normalizes_to_the_reference() -> None:
    prepare = Prepare(RULES, Fixed(((60, 50, None), (90, 60, None))))
    crops = prepare.normalize(prepare.cut(frame(dtype=np.uint16), 0.5).crops)
    assert crops.shape == (2, SIDE, SIDE)
    assert crops.dtype == np.float32
    mean = np.dot(REFERENCE, np.arange(256)) / sum(REFERENCE)
    np.testing.assert_allclose(crops.mean(axis=(1, 2)), mean, rtol=1e-5)


def test_gray_is_rec601_luma_of_the_same_depth() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    luma = rgb @ [0.299, 0.587, 0.114]
    assert np.abs(to_gray(rgb) - luma).max() <= 0.51
    deep = rgb.astype(np.uint16) * 257
    assert to_gray(deep).dtype == np.uint16
    assert np.abs(to_gray(deep) / 257 - luma).max() <= 0.01
    gray = rgb[..., 0].copy()
    assert to_gray(gray) is gray


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_flattening_removes_shading_and_keeps_the_mean_level(dtype: type[np.generic]) -> None:
    x = np.linspace(0.7, 1.3, 640)
    shaded: NDArray[np.float64] = np.tile(120 * x, (480, 1)) * (1 if dtype is np.uint8 else 100)
    gray: Gray = shaded.astype(np.uint8) if dtype is np.uint8 else shaded.astype(np.uint16)
    flat = flatten(gray, 0.5, 40.0)
    assert flat.dtype == gray.dtype
    inner = flat[60:-60, 60:-60].astype(float)
    assert inner.std() / inner.mean() < 0.02
    assert inner.mean() == pytest.approx(gray.mean(), rel=0.02)
    assert flatten(gray, 0.5, 0) is gray
