"""Cells without their surroundings: what lies beside a cell changes nothing."""

from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs import card_text, save_frame, save_model, tiny_card, tiny_graph, tiny_weights
from test_masks import Rectangles, drawn_frame, ready

from parfocal.card import DetectorRules
from parfocal.cli import main as parfocal
from parfocal.masking import EDGE_UM, RIM_UM, alone
from parfocal.normalize import Reference
from parfocal.prepare import Prepare
from parfocal.types import Gray
from parfocal_training import cropset
from parfocal_training.checkpoint import read_checkpoint
from parfocal_training.cli import main
from parfocal_training.crops import cut_frames
from parfocal_training.cropset import CropRules, CropSet
from parfocal_training.dataset import Row
from parfocal_training.fit import pixel_rules
from parfocal_training.model import config_of
from parfocal_training.neighbours import among_others
from parfocal_training.recipe import RECIPES
from parfocal_training.reference import medoid_reference
from parfocal_training.train import Labelled, to_vary, varied

SIDE, UM = 96, 0.5
EXTERNAL = DetectorRules(name="external")
RULES = CropRules(
    um_per_px=UM, crop_px=SIDE, margin_px=0, flat_field_um=0.0, detector=EXTERNAL, masked=True
)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    known=st.booleans(),
    margin=st.sampled_from([0, 8]),
)
def test_a_crop_alone_is_the_cell_its_rim_and_one_level(
    seed: int, dtype: type, known: bool, margin: int
) -> None:
    rng = np.random.default_rng(seed)
    crop: Gray = rng.integers(0, np.iinfo(dtype).max, (SIDE, SIDE)).astype(dtype)
    own, beside = np.zeros((2, SIDE, SIDE), np.bool_)
    x, y, other = *rng.integers(20, 50, 2), int(rng.integers(5, 40))
    own[y : y + 20, x : x + 15] = True
    beside[y + 5 : y + 45, x + 15 : x + 15 + other] = True
    shown = alone(crop, own, beside if known else None, UM, margin)
    assert shown.dtype == dtype and shown.shape == crop.shape
    np.testing.assert_array_equal(shown[own], crop[own])
    apart = cv2.distanceTransform((~own).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * UM
    far = apart > RIM_UM + EDGE_UM + 0.5
    (level,) = np.unique(shown[far])
    if not known:
        return
    assert (shown[beside] == level).all()
    rim = (apart < RIM_UM - 0.5) & ~beside
    np.testing.assert_array_equal(shown[rim], crop[rim])
    changed = crop.copy()
    changed[beside] = rng.integers(0, np.iinfo(dtype).max, int(beside.sum()))
    np.testing.assert_array_equal(alone(changed, own, beside, UM, margin), shown)


def test_a_cell_that_fills_its_crop_or_is_not_in_it_is_no_fault() -> None:
    crop = np.full((SIDE, SIDE), 90, np.uint8)
    crop[:40] = 30
    everything, nothing = np.ones_like(crop, np.bool_), np.zeros_like(crop, np.bool_)
    np.testing.assert_array_equal(alone(crop, everything, nothing, UM, 0), crop)
    (level,) = np.unique(alone(crop, nothing, nothing, UM, 0))
    assert level == round(crop.mean())
    np.testing.assert_array_equal(  # other cells wherever this one is not
        np.unique(alone(crop, nothing, everything, UM, 0)), [level]
    )


@pytest.mark.parametrize(("um_per_px", "factor"), [(0.5, 1.0), (0.4, 0.5), (0.61, 0.73)])
def test_live_and_in_training_the_same_is_seen_whatever_lies_beside(
    um_per_px: float, factor: float, tmp_path: Path
) -> None:
    frame = np.kron(drawn_frame(60, 50, 12, 10), np.ones((2, 2), np.uint8))
    frame[frame == 0] = 40
    detector = Rectangles([200, 100], factor)
    live = Prepare(pixel_rules(RULES, medoid()), detector).cut(frame, um_per_px)
    assert len(live.chosen) == 2
    cv2.imwrite(str(tmp_path / "a.png"), frame)
    row = Row(path="a.png", cell_line="A", group="a", um_per_px=um_per_px)
    rules = msgspec.structs.replace(RULES, margin_px=6)
    (cut,) = cut_frames(tmp_path, (row,), rules, detector, 0.0)
    assert cut.crops is not None
    np.testing.assert_array_equal(cut.crops[:, 6:-6, 6:-6], live.crops)
    finds = detector(frame, um_per_px)
    other = frame.copy()
    other[frame == 100] = 160
    again = Prepare(pixel_rules(RULES, medoid()), detector).cut_finds(other, um_per_px, finds)
    near_other = 10  # resampling mixes the pixels on the border
    first, second = (crops[0].astype(int) for crops in (live.crops, again.crops))
    assert (first != second).sum() <= near_other * 40 * (factor != 1.0 or um_per_px != UM)
    assert (live.crops[0] > 150).any() and (live.crops[1] > 150).mean() < 0.005


def medoid() -> Reference:
    return medoid_reference(np.random.default_rng(0).integers(0, 255, (3, SIDE, SIDE), np.uint8))


def masked_set(folder: Path) -> CropSet:
    """Two flasks of each of two lines, ready crops with outlines, cut without surroundings."""
    masks = folder / "masks"
    data = ready(folder / "data", 272, masks)
    out = folder / "crops"
    said = ["crops", str(data), "-o", str(out), "--ready-crops", "--um-per-px", "0.5"]
    assert main([*said, "--masks", str(masks), "--masked"]) == 0
    return cropset.load(out)


def test_a_training_on_cells_alone_adds_nothing_beside_them(tmp_path: Path) -> None:
    made = masked_set(tmp_path)
    assert made.index.rules.masked is True and made.masks is not None
    for crop, own in zip(made.crops, made.masks, strict=True):
        assert len(np.unique(crop[:8])) == 1 and crop[own].std() > 1
    assert among_others(made, np.arange(len(made)), 0) is None  # there are no others
    config = config_of("compact", "conv-relu-bn", 2, 224, 100.0, 10.0)
    reference = medoid_reference(made.bare(np.arange(len(made))))
    crops = Labelled.on(torch.device("cpu"), made, made.labels)
    assert crops.masked and crops.of(torch.tensor([1])).masked
    for vary in ("crop", "view"):
        recipe = msgspec.structs.replace(RECIPES["paper"], surroundings=1.0, vary=vary)
        material = to_vary(crops, recipe, config, reference)
        cells = torch.zeros(8, dtype=torch.int64)
        seen = varied(material, cells, recipe, config, reference, torch.Generator().manual_seed(0))
        assert (seen[:, 0, 0].amax(-1) - seen[:, 0, 0].amin(-1)).max() < 1e-3  # no blob, no noise
        assert seen.std((1, 2, 3)).min() > 1


def test_a_checkpoint_remembers_and_other_crops_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = masked_set(tmp_path)
    crops, fit = str(tmp_path / "crops"), tmp_path / "fit"
    small = ["--epochs", "1", "--folds", "0", "--threads", "1", "--set", "network=coarse"]
    assert main(["fit", crops, "-o", str(fit), *small]) == 0
    pixels = read_checkpoint(fit)[0].pixels
    assert pixels.masked is True
    bare = msgspec.structs.replace(made.index.rules, masked=msgspec.UNSET)
    assert bare.differences(pixels) == "masked no instead of yes"
    assert made.index.rules.differences(pixels) == ""
    data, said = str(tmp_path / "data"), ["--ready-crops", "--um-per-px", "0.5", "--masked"]
    assert main(["crops", data, "-o", str(tmp_path / "no"), *said]) == 2
    assert "--masked needs the outlines of ready crops: add --masks DIR" in caplog.text


def masked_bundle(path: Path) -> Path:
    weights = tiny_weights()
    card = tiny_card(weights)
    pixels = msgspec.structs.replace(card.prepare.pixels, masked=True)
    prepare = msgspec.structs.replace(card.prepare, pixels=pixels, fingerprint=pixels.fingerprint)
    return save_model(
        path, tiny_graph(weights), card_text(msgspec.structs.replace(card, prepare=prepare))
    )


def test_a_ready_crop_has_no_outline_for_a_model_that_needs_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = masked_bundle(tmp_path / "m.onnx")
    image = save_frame(tmp_path / "a.png")
    asked = ["classify", str(image), "--model", str(model)]
    assert parfocal([*asked, "--crops"]) == 78
    assert "looks at cells without their surroundings" in capsys.readouterr().err
    assert parfocal([*asked, "--um-per-px", "0.5"]) == 0
    assert parfocal(["model", "show", str(model)]) == 0
    assert "without what lies beyond its outline" in " ".join(capsys.readouterr().out.split())
