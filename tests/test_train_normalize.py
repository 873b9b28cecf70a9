"""The batched quantile normalization of training is that of the daemon, bit for bit."""

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from parfocal.normalize import Crops, Reference, normalize
from parfocal_training.normalize import normalize_batch


def as_tensor(crops: Crops) -> torch.Tensor:
    wide = crops if crops.dtype == np.uint8 else crops.astype(np.int32)
    return torch.from_numpy(wide)


CROPS: st.SearchStrategy[Crops] = st.one_of(
    arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 3)),
    arrays(np.uint16, st.tuples(*[st.integers(1, 9)] * 3)),
)


@settings(max_examples=150, deadline=None)
@given(CROPS, st.randoms(use_true_random=False))
def test_it_equals_the_daemons(crops: Crops, random: Random) -> None:
    levels = [random.randrange(256) for _ in range(crops[0].size)]
    reference = Reference.of(np.array(levels, np.uint8).reshape(crops.shape[1:]))
    ours = normalize_batch(as_tensor(crops), reference).numpy()
    np.testing.assert_array_equal(ours, normalize(crops, reference))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_it_equals_the_daemons_on_whole_crops(dtype: type[np.uint8] | type[np.uint16]) -> None:
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    drawn = np.clip(rng.normal(top / 2, top / 9, (4, 224, 224)), 0, top)
    crops: Crops = drawn.astype(np.uint8) if dtype is np.uint8 else drawn.astype(np.uint16)
    reference = Reference.of(crops[2])
    ours = normalize_batch(as_tensor(crops), reference).numpy()
    np.testing.assert_array_equal(ours, normalize(crops, reference))


def test_other_types_and_sizes_are_refused() -> None:
    reference = Reference.of(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="uint8, uint16 or int32"):
        normalize_batch(torch.zeros(1, 4, 4), reference)
    with pytest.raises(ValueError, match="do not match a reference of 16 pixels"):
        normalize_batch(torch.zeros(1, 4, 5, dtype=torch.uint8), reference)
