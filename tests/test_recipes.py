"""What a recipe may ask of a training: balanced flasks, mixed statistics, equal work."""

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parfocal.normalize import Reference
from parfocal_export.graph import to_onnx
from parfocal_export.question import golden_crops
from parfocal_training.model import (
    ConvNetConfig,
    config_of,
    flops_a_crop,
    initialized,
    mixed_statistics,
    parameter_count,
    smaller,
)
from parfocal_training.recipe import FIELD, FLASK, PAPER_RECIPE, RECIPES
from parfocal_training.train import Labelled, begin, drawn, mixed_up, train

CPU = torch.device("cpu")


def crops_of(groups: list[str], labels: list[int]) -> Labelled:
    crops = golden_crops(len(groups), 224, np.random.default_rng(0))
    number = [sorted(set(groups)).index(name) for name in groups]
    return Labelled(torch.from_numpy(crops), torch.tensor(labels), torch.tensor(number))


def test_a_small_flask_is_drawn_as_often_as_a_large_one() -> None:
    crops = crops_of(["a"] * 40 + ["b"] * 4 + ["c"] * 10, [0] * 44 + [1] * 10)
    generator = torch.Generator().manual_seed(0)
    visits = torch.zeros(3)
    for _ in range(60):
        chosen = drawn(crops, "groups", generator)
        visits += torch.bincount(crops.groups[chosen], minlength=3)
    share = (visits / visits.sum()).tolist()
    assert share == pytest.approx([0.25, 0.25, 0.5], abs=0.03)  # classes alike, then flasks


def test_crop_by_crop_every_crop_is_visited_once() -> None:
    crops = crops_of(["a"] * 5 + ["b"] * 2, [0] * 7)
    order = drawn(crops, "crops", torch.Generator().manual_seed(1))
    assert sorted(order.tolist()) == list(range(7))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 6))
def test_mixed_truth_still_sums_to_one(seed: int, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, truth = torch.rand(n, 1, 4, 4), torch.eye(3)[torch.arange(n) % 3]
    mixed, told = mixed_up(x, truth, generator)
    torch.testing.assert_close(told.sum(1), torch.ones(n))
    assert float(mixed.min()) >= float(x.min()) - 1e-6
    assert float(mixed.max()) <= float(x.max()) + 1e-6


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_mixing_changes_mean_and_contrast_of_maps_but_not_what_they_show(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 3, 8, 8, generator=generator) * 2 + 1
    mixed = mixed_statistics(x, generator)
    for before, after in zip(x.flatten(0, 1), mixed.flatten(0, 1), strict=True):
        pair = torch.stack([before.flatten(), after.flatten()])
        assert float(torch.corrcoef(pair)[0, 1]) > 0.999  # the same picture, other levels
    low, high = x.mean((2, 3)).amin(0), x.mean((2, 3)).amax(0)
    assert bool((mixed.mean((2, 3)) >= low - 1e-4).all())
    assert bool((mixed.mean((2, 3)) <= high + 1e-4).all())


@pytest.mark.parametrize(("n", "epochs"), [(100, 60), (600, 10), (20000, 1)])
def test_equal_work_means_fewer_epochs_of_more_crops(n: int, epochs: int) -> None:
    settled = FLASK.for_crops(n)
    assert (settled.epochs, settled.crops_seen) == (epochs, 0)
    assert FIELD.for_crops(n) is FIELD


def test_every_recipe_names_its_network_and_says_what_it_is_for() -> None:
    for name, recipe in RECIPES.items():
        assert recipe.name == name and recipe.about
        assert set(recipe.flat()) >= {"network", "augmentation.zoom", "crops_seen"}
    assert PAPER_RECIPE.network == "paper"


def test_the_compact_network_does_less_than_a_fifth_of_the_work() -> None:
    paper = config_of("paper", None, 2, 224, 128, 32)
    small = config_of("compact", None, 2, 224, 128, 32)
    assert flops_a_crop(paper) == pytest.approx(1.244e9, rel=0.01)  # the paper's Table 1
    assert flops_a_crop(small) < flops_a_crop(paper) / 5
    assert small == smaller(paper, 2) and small.lca_values == 96
    assert parameter_count(initialized(small, 0)) < parameter_count(initialized(paper, 0))


def test_the_compact_network_is_the_same_in_onnx() -> None:
    model = initialized(smaller(ConvNetConfig(classes=3, level_zero=150), 2), seed=2).eval()
    crops = golden_crops(3, 224, np.random.default_rng(2)).astype(np.float32)[:, None]
    session = onnxruntime.InferenceSession(to_onnx(model).SerializeToString(),
                                           providers=["CPUExecutionProvider"])  # fmt: skip
    theirs = session.run(["logits", "lca"], {"crops": crops})
    with torch.no_grad():
        ours = model(torch.from_numpy(crops))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.numpy(), other, rtol=1e-4, atol=1e-4)


def test_mixing_happens_in_training_only() -> None:
    crops = crops_of(["a"] * 4 + ["b"] * 4, [0] * 4 + [1] * 4)
    recipe = msgspec.structs.replace(FLASK, epochs=1, crops_seen=0, mix_statistics=1.0, mixup=True)
    state = begin(smaller(ConvNetConfig(classes=2), 2), recipe, 1, CPU)
    reference = Reference.of(golden_crops(1, 224, np.random.default_rng(1))[0])
    (epoch,) = train(state, crops, None, recipe, reference)
    assert np.isfinite(epoch.loss)
    x = crops.crops[:2].float()[:, None]
    with torch.no_grad():
        first, second = state.averaged.eval()(x)[0], state.averaged(x)[0]
    assert torch.equal(first, second)
