"""Augmentation: grey levels stay integers, the cell stays whole, shifts stay bounded."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from parfocal_training.augment import NONE, PAPER, Augmentation, augment, centre

SIDE = 224


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def textured(n: int, side: int = SIDE, top: int = 255) -> Tensor:
    levels = np.random.default_rng(0).integers(top // 4, top, (n, side, side))
    return torch.from_numpy(levels.astype(np.uint8 if top == 255 else np.int32))


def spot(side: int = SIDE) -> Tensor:
    """One crop: a bright square of 9 px in the middle of a flat ground."""
    crop = torch.full((1, side, side), 100, dtype=torch.uint8)
    middle = side // 2
    crop[0, middle - 4 : middle + 5, middle - 4 : middle + 5] = 250
    return crop


@pytest.mark.parametrize(("top", "dtype"), [(255, torch.uint8), (65535, torch.int32)])
def test_levels_stay_integers_of_the_same_depth(top: int, dtype: torch.dtype) -> None:
    every = replace(PAPER, flips=True, zoom=0.1, blur_sigma_px=1.0, noise_levels=4.0)
    out = augment(textured(3, top=top), every, SIDE, generator())
    assert out.dtype == dtype
    assert out.shape == (3, SIDE, SIDE)
    assert 0 <= int(out.min()) <= int(out.max()) <= top


def test_nothing_asked_changes_nothing() -> None:
    crops = textured(2, SIDE + 20)
    assert torch.equal(augment(crops, NONE, SIDE, generator()), centre(crops, SIDE))


def test_the_same_seed_gives_the_same_variants() -> None:
    crops = textured(2)
    first, second = (augment(crops, PAPER, SIDE, generator(3)) for _ in range(2))
    other = augment(crops, PAPER, SIDE, generator(4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_the_centre_moves_no_further_than_the_shift(seed: int, shift_px: int) -> None:
    out = augment(spot(), replace(NONE, shift_px=shift_px), SIDE, generator(seed))[0]
    rows, columns = torch.nonzero(out == 250, as_tuple=True)
    away = torch.tensor([rows.float().mean(), columns.float().mean()]) - SIDE // 2
    assert float(away.abs().max()) <= shift_px + 1e-3


def test_a_shift_wraps_the_strip_that_it_pushes_out() -> None:
    crops = textured(4)
    out = augment(crops, replace(NONE, shift_px=30, seam_px=1), SIDE, generator(1))
    for before, after in zip(crops, out, strict=True):
        assert torch.equal(before.ravel().sort().values, after.ravel().sort().values)


def test_with_a_margin_as_wide_as_the_shift_nothing_is_wrapped() -> None:
    margin = 32
    crops = torch.zeros((8, SIDE + 2 * margin, SIDE + 2 * margin), dtype=torch.uint8)
    crops[:] = torch.arange(SIDE + 2 * margin, dtype=torch.int64).clamp(max=255).to(torch.uint8)
    out = augment(crops, replace(NONE, shift_px=30), SIDE, generator())
    steps = out[:, :, 1:].int() - out[:, :, :-1].int()
    assert int(steps.min()) >= 0  # a seam would break the ramp


def test_blobs_stay_away_from_the_middle_and_below_their_height() -> None:
    flat = spot()
    flat[0, 0, 0] = 250
    crops = flat.repeat(64, 1, 1)
    out = augment(crops, replace(NONE, blobs=3), SIDE, generator())
    reach = PAPER.blob_edge_px + 3 * int(PAPER.blob_sigma_max_px)
    middle = slice(reach + 1, SIDE - reach - 1)
    assert torch.equal(out[:, middle, middle], crops[:, middle, middle])
    changed = (out != crops).flatten(1).any(1)
    assert 0.5 < float(changed.float().mean()) < 0.95  # three quarters have at least one
    assert int((out.int() - crops.int()).max()) <= 3 * 0.3 * (250 - 100) + 1


def test_a_turned_crop_keeps_its_middle_and_is_filled_with_noise_like_itself() -> None:
    crop = textured(1).float().mul(0.2).add(90).to(torch.uint8)
    crop[0, 100:124, 100:124] = 250
    turned = replace(NONE, rotate=True)
    for seed in range(8):
        out = augment(crop, turned, SIDE, generator(seed))[0]
        assert float(out[106:118, 106:118].float().mean()) > 245
        corner = out[:12, :12].float()
        assert abs(float(corner.mean() - crop.float().mean())) < 3 * float(crop.float().std())


def test_a_wide_margin_leaves_nothing_to_fill() -> None:
    margin = 48
    side = SIDE + 2 * margin
    flat = torch.full((6, side, side), 80, dtype=torch.uint8)
    flat[:, 0, 0] = 255  # the deviation, and so any filling, is not zero
    flat[:, -1, -1] = 255
    out = augment(flat, replace(NONE, rotate=True), SIDE, generator())
    assert int((out != 80).sum()) == 0


def test_flips_mirror_about_half_of_the_crops() -> None:
    crops = textured(64, 16)
    out = augment(crops, Augmentation(False, blobs=0, shift_px=0, flips=True), 16, generator())
    mirrored = sum(torch.equal(a.flip(-1), b) for a, b in zip(crops, out, strict=True))
    kept = sum(torch.equal(a, b) for a, b in zip(crops, out, strict=True))
    assert mirrored + kept == 64
    assert 16 < mirrored < 48


def bent(most: float, seed: int) -> tuple[Tensor, Tensor]:
    """Two crops that each hold every third level, and what bending makes of them: (2, 86)."""
    levels = torch.arange(0, 256, 3, dtype=torch.float32)
    crop = levels[torch.arange(SIDE * SIDE) % len(levels)].view(1, SIDE, SIDE)
    options = replace(NONE, tone=most)
    out = augment(crop.repeat(2, 1, 1), options, SIDE, generator(seed)).view(2, -1)
    for one in range(2):  # a level becomes the same level wherever it lies
        whole = out.shape[1] // len(levels) * len(levels)
        by_level = out[one, :whole].view(-1, len(levels))
        assert torch.equal(by_level, by_level[:1].expand_as(by_level))
    return levels, out[:, : len(levels)]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_a_small_bend_keeps_the_order_of_levels(seed: int) -> None:
    levels, out = bent(0.1, seed)
    assert bool((out.diff(dim=1) > 0).all())
    assert float((out - levels).abs().max()) < 0.31 * float(levels.std(unbiased=False))
    assert not torch.equal(out[0], out[1])


def test_a_large_bend_turns_the_order_of_some_levels_round() -> None:
    turned = [bool((bent(2.0, seed)[1].diff(dim=1) < 0).any()) for seed in range(5)]
    assert any(turned)
