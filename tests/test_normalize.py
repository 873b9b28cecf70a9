"""Quantile normalization: exactly the textbook definition, and close to the paper's own script."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from parfocal.normalize import Crops, Reference, lookup_table, normalize

SIDE = 12
REAL = Path(__file__).parents[2] / "shared" / "data" / "classification" / "yao_crops"


def by_sorting(crop: Crops, reference: Crops) -> NDArray[np.float64]:
    """The definition: pixel of rank r gets the r-th reference level; ties get their mean."""
    ordered = np.sort(reference.ravel()).astype(np.float64)
    flat = crop.ravel()
    order = np.argsort(flat, kind="stable")
    out = np.empty(flat.size)
    out[order] = ordered
    for value in np.unique(flat):
        out[flat == value] = out[flat == value].mean()
    return out.reshape(crop.shape)


def by_percentiles(crop: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The paper's script: 1,000 percentiles, each step of the crop mapped onto the reference's."""
    steps = np.linspace(0, 100, 1001)
    source, target = np.percentile(crop, steps), np.percentile(reference, steps)
    first = np.searchsorted(source, crop.ravel(), "left")
    last = np.searchsorted(source, crop.ravel(), "right") - 1
    total = np.concatenate([[0], np.cumsum(target)])
    low, high = np.minimum(first, last), np.maximum(first, last)
    steps_mean: NDArray[np.float64] = (total[high + 1] - total[low]) / (high - low + 1)
    return steps_mean.reshape(crop.shape)


U8_CROPS = arrays(np.uint8, (SIDE, SIDE))
U16_CROPS = arrays(np.uint16, (SIDE, SIDE))


@settings(max_examples=60, deadline=None)
@given(crop=st.one_of(U8_CROPS, U16_CROPS), reference=U8_CROPS)
def test_it_equals_the_sort_based_definition(crop: Crops, reference: NDArray[np.uint8]) -> None:
    found = normalize(crop[None], Reference.of(reference))[0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_sorting(crop, reference), atol=2e-5)


@settings(max_examples=60, deadline=None)
@given(crop=U8_CROPS, reference=U8_CROPS)
def test_rank_order_and_mean_are_kept(
    crop: NDArray[np.uint8], reference: NDArray[np.uint8]
) -> None:
    found = normalize(crop[None], Reference.of(reference))[0]
    order = np.argsort(crop.ravel(), kind="stable")
    assert (np.diff(found.ravel()[order]) >= 0).all()
    assert found.mean() == pytest.approx(reference.mean(), abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    crop=U8_CROPS,
    reference=U8_CROPS,
    gain=st.integers(1, 200),
    offset=st.integers(0, 10_000),
)
def test_gain_and_offset_of_the_camera_do_not_matter(
    crop: NDArray[np.uint8], reference: NDArray[np.uint8], gain: int, offset: int
) -> None:
    deep = (crop.astype(np.uint32) * gain + offset).astype(np.uint16)
    target = Reference.of(reference)
    np.testing.assert_array_equal(normalize(deep[None], target), normalize(crop[None], target))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_crop_without_ties_gets_the_reference_itself_and_then_stays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    side = 16
    crop = rng.permutation(side * side).astype(np.uint16).reshape(1, side, side)
    reference = rng.permutation(side * side).astype(np.uint8).reshape(side, side)
    once = normalize(crop, Reference.of(reference))
    np.testing.assert_array_equal(np.sort(once, None), np.sort(reference, None))
    np.testing.assert_array_equal(normalize(once.astype(np.uint8), Reference.of(reference)), once)


def test_crops_are_normalized_one_by_one() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE)).astype(np.uint8)
    target = Reference.of(crops[0])
    together = normalize(crops, target)
    for crop, found in zip(crops, together, strict=True):
        np.testing.assert_array_equal(normalize(crop[None], target)[0], found)
    np.testing.assert_allclose(together[0], crops[0], atol=1e-5)
    assert normalize(crops[:0], target).shape == (0, SIDE, SIDE)


def test_a_view_of_a_larger_crop_is_normalized_like_its_copy() -> None:
    wide = np.random.default_rng(0).integers(0, 256, (2, SIDE + 4, SIDE + 4)).astype(np.uint8)
    view = wide[:, 2:-2, 2:-2]
    target = Reference.of(wide[0, :SIDE, :SIDE])
    np.testing.assert_array_equal(normalize(view, target), normalize(view.copy(), target))


def test_a_constant_crop_gets_the_mean_of_the_reference() -> None:
    reference = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
    found = normalize(np.full((1, SIDE, SIDE), 9, np.uint8), Reference.of(reference))
    np.testing.assert_allclose(found, reference.mean(), rtol=1e-6)


def test_a_table_has_a_value_for_levels_that_do_not_occur() -> None:
    counts = np.zeros(256, np.int64)
    counts[[3, 200]] = [100, 44]
    table = lookup_table(counts, Reference(counts))
    assert np.isfinite(table).all()
    assert table[3] == 3 and table[200] == 200


@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((SIDE, SIDE), np.uint8),
        np.zeros((1, SIDE, SIDE + 1), np.uint8),
        np.zeros((1, SIDE, SIDE), np.float32),
        np.zeros((1, SIDE, SIDE), np.int16),
    ],
)
def test_what_does_not_fit_is_refused(crops: Crops) -> None:
    with pytest.raises(ValueError, match="crops"):
        normalize(crops, Reference.of(np.zeros((SIDE, SIDE), np.uint8)))


@pytest.mark.parametrize("counts", [np.zeros(256), np.ones(255), -np.ones(256)])
def test_a_reference_has_counts(counts: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="counts"):
        Reference(counts.astype(np.int64))


def agree(crop: NDArray[np.uint8], reference: NDArray[np.uint8]) -> None:
    """Within one grey level, but for the outermost pixels: 1,000 steps do not resolve the tails."""
    exact = normalize(crop[None], Reference.of(reference))[0]
    apart = np.abs(exact - by_percentiles(crop, reference))
    assert apart.mean() < 0.1
    assert (apart > 1).mean() < 0.01


def test_the_papers_stepwise_script_agrees_on_crops_like_cells() -> None:
    rng = np.random.default_rng(2)
    crops = []
    for width in (14, 20):
        noise = cv2.GaussianBlur(rng.normal(size=(224, 224)), (0, 0), 2)
        crops.append(np.clip(128 + width * noise / noise.std(), 0, 255).astype(np.uint8))
    agree(crops[0], crops[1])


@pytest.mark.skipif(not REAL.is_dir(), reason="the paper's crops are not on this machine")
def test_the_papers_stepwise_script_agrees_on_real_crops() -> None:
    paths = sorted(REAL.rglob("*.jp*g"))[::20]
    crops = [np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8) for path in paths]
    assert len(crops) > 3
    for crop in crops[1:]:
        agree(crop, crops[0])
