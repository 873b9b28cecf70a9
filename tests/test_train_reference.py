"""The reference distribution is that of the medoid crop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from parfocal.normalize import Crops, Reference
from parfocal_training.reference import mean_and_sd, medoid, medoid_reference

CROPS: st.SearchStrategy[Crops] = arrays(
    np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 6), st.integers(1, 6))
)


@settings(max_examples=100, deadline=None)
@given(CROPS)
def test_no_other_crop_has_sorted_levels_nearer_to_all(crops: Crops) -> None:
    ordered = np.sort(crops.reshape(len(crops), -1).astype(np.int64), 1)  # (n, pixels)
    apart = np.abs(ordered[:, None] - ordered[None]).sum((1, 2))  # (n,)
    assert medoid(crops) == int(apart.argmin())


def test_sixteen_bit_crops_are_compared_on_the_scale_of_a_reference() -> None:
    eight = np.random.default_rng(0).integers(0, 256, (5, 8, 8)).astype(np.uint8)
    sixteen = eight.astype(np.uint16) * 257
    assert medoid(sixteen) == medoid(eight)
    np.testing.assert_array_equal(
        medoid_reference(sixteen).counts, Reference.of(eight[medoid(eight)]).counts
    )


def test_mean_and_sd_are_those_of_the_crop() -> None:
    crop = np.random.default_rng(0).integers(90, 200, (9, 9)).astype(np.uint8)
    assert mean_and_sd(Reference.of(crop)) == pytest.approx((crop.mean(), crop.std()))
    assert mean_and_sd(Reference.of(np.zeros((2, 2), np.uint8))) == (0, 1)  # never divide by 0
