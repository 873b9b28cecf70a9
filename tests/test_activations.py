"""`parfocal-train activations`: feature maps, saliency, and the checks that keep it honest."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from parfocal.card import DetectorRules
from parfocal_export.question import golden_crops
from parfocal_training import cli, cropset
from parfocal_training.activations.checks import (
    centre_order,
    deletion,
    mean_probability,
    randomised,
    rank_correlation,
    smooth_order,
)
from parfocal_training.activations.looks import choose_cells
from parfocal_training.activations.maps import feature_maps, montage
from parfocal_training.activations.network import Image, fast, log_odds, on_network
from parfocal_training.activations.saliency import Window, background, grad_cam, occlusion
from parfocal_training.checkpoint import read_checkpoint, write_checkpoint
from parfocal_training.cropset import CropIndex, CropRow, CropRules, CropSet
from parfocal_training.dataset import Row
from parfocal_training.model import ConvNet, ConvNetConfig, initialized

CROP_PX = 112
CONFIG = ConvNetConfig(
    classes=2, kernels=3, blocks=4, crop_px=CROP_PX, level_zero=128.0, level_unit=32.0
)
WINDOW = Window(side_px=32, stride_px=12)
COARSE = ("--window-um", "16", "--stride-um", "12", "--threads", "1")


def brightness_network() -> ConvNet:
    """A network known by heart: map 0 is what exceeds level 128, and class 0 wants it bright."""
    model = fast(initialized(CONFIG, seed=0))
    with torch.no_grad():
        for block in model.blocks:
            conv = next(module for module in block.modules() if isinstance(module, torch.nn.Conv2d))
            conv.weight.zero_()
            middle = conv.kernel_size[0] // 2
            conv.weight[0, 0, middle, middle] = 1
        model.head.weight.zero_()
        model.head.weight[0, :49] = 1.0  # the 7 x 7 pixels of map 0
        model.head.bias.copy_(torch.tensor([-2.0, 0.0]))
    return model


def bright_cell(y: int, x: int) -> Image:
    """A bright square of 24 px centred at (y, x) on a noisy ground of 110."""
    crop = np.random.default_rng(1).normal(110, 4, (CROP_PX, CROP_PX)).astype(np.float32)
    crop[y - 12 : y + 12, x - 12 : x + 12] = 230
    return crop


def drawn_set(um_per_px: float = 0.5) -> CropSet:
    crops = golden_crops(8, CROP_PX, np.random.default_rng(5))
    rows = tuple(
        CropRow(
            image=Row(path=f"{i}.png", cell_line="AB"[i // 4], group=f"g{i // 2}"),
            sha256=f"{i:064d}",
        )
        for i in range(8)
    )
    rules = CropRules(
        um_per_px=um_per_px,
        crop_px=CROP_PX,
        margin_px=0,
        flat_field_um=0.0,
        detector=DetectorRules(name="external"),
    )
    index = CropIndex(data="drawn", classes=("A", "B"), group_kind="field", rules=rules, rows=rows)
    return CropSet(crops, index)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    cropset.save(drawn_set(), folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real training's folder, with a smaller network of other depth in the end."""
    folder = tmp_path_factory.mktemp("fits")
    quick = ("--epochs", "1", "--folds", "0", "--precision", "f32", "--device", "cpu")
    assert cli.main(["fit", str(crops), "-o", str(folder / "fit"), *quick]) == 0
    done, model = read_checkpoint(folder / "fit")
    zero, unit = model.config.level_zero, model.config.level_unit
    config = msgspec.structs.replace(CONFIG, level_zero=zero, level_unit=unit)
    small = folder / "small"
    small.mkdir()
    changed = msgspec.structs.replace(done, config=config)
    write_checkpoint(changed, initialized(config, seed=3), small)
    return small


def test_chosen_cells_get_their_figures_and_a_page(
    checkpoint: Path, crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "look"
    asked = ["activations", str(checkpoint), str(crops), "-o", str(out), *COARSE]
    assert cli.main([*asked, "--cells", "0", "5", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["cell"] for line in lines[:-1]] == [0, 5]
    assert [line["cell_line"] for line in lines[:-1]] == ["A", "B"]
    assert lines[0]["maps"] == [[3, CROP_PX >> n, CROP_PX >> n] for n in range(1, 5)]
    assert lines[0]["trained_on"]
    assert set(lines[0]["deletion_mean_probability"]) == {
        "occlusion", "Grad-CAM", "random patches", "from the middle"
    }  # fmt: skip
    assert lines[-1]["cells"] == [0, 5]
    assert {path.name for path in out.iterdir()} == {
        "cell-00000-maps.png", "cell-00000-saliency.png", "cell-00005-maps.png",
        "cell-00005-saliency.png", "deletion.png", "random-weights.png", "report.html",
    }  # fmt: skip
    page = (out / "report.html").read_text()
    assert page.count("<img") == 6
    assert "2 of them are from groups it was trained on" in page
    assert "a window of 32 px (16.0 um), moved by 24 px (12.0 um)" in page


def test_cells_of_every_class_and_maps_before_pooling(
    checkpoint: Path, crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "look")
    asked = ["activations", str(checkpoint), str(crops), "-o", out, *COARSE]
    assert cli.main([*asked, "--per-class", "1", "--unpooled", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["cell_line"] for line in lines[:-1]] == ["A", "B"]
    assert lines[0]["maps"] == [[3, CROP_PX >> n, CROP_PX >> n] for n in range(4)]


FAULTS = [
    (["--cells", "8"], "holds 8 crops, numbered from 0"),
    (["--window-um", "10", "--stride-um", "11"], "leaves gaps or stands still"),
]


@pytest.mark.parametrize(("options", "sentence"), FAULTS)
def test_a_fault_is_one_sentence(
    checkpoint: Path,
    crops: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    options: list[str],
    sentence: str,
) -> None:
    asked = ["activations", str(checkpoint), str(crops), "-o", str(tmp_path / "look")]
    assert cli.main([*asked, *options]) == 2
    assert sentence in caplog.text


def test_crops_of_another_scale_and_a_used_folder_are_refused(
    checkpoint: Path, crops: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cropset.save(drawn_set(um_per_px=0.6), tmp_path / "other")
    asked = ["activations", str(checkpoint), str(tmp_path / "other"), "-o", str(tmp_path / "look")]
    assert cli.main(asked) == 2
    assert "other crops than these (um_per_px 0.6 instead of 0.5)" in caplog.text
    assert cli.main(["activations", str(checkpoint), str(crops), "-o", str(tmp_path)]) == 2
    assert "is not empty" in caplog.text


def test_maps_are_those_that_the_answer_comes_from() -> None:
    model, crop = fast(initialized(CONFIG, seed=1)), bright_cell(56, 56)
    pooled, before = feature_maps(model, crop), feature_maps(model, crop, pooled=False)
    with torch.no_grad():
        lca = model(on_network(crop[None], model))[1][0].numpy()
    np.testing.assert_allclose(pooled[-1].ravel(), lca, rtol=1e-6)
    squares = before[0].reshape(3, CROP_PX // 2, 2, CROP_PX // 2, 2).mean((2, 4))
    np.testing.assert_allclose(squares, pooled[0], atol=1e-5)


@pytest.mark.parametrize("at", [(32, 80), (80, 32)])
def test_both_maps_point_at_what_the_network_uses(at: tuple[int, int]) -> None:
    model, crop = brightness_network(), bright_cell(*at)
    fill = background(crop, np.random.default_rng(0))
    covered, falls = occlusion(model, crop, fill, 0, WINDOW)
    cam = grad_cam(model, crop, fill, 0)
    for found in (covered, cam):
        peak = np.unravel_index(found.argmax(), found.shape)
        assert np.hypot(peak[0] - at[0], peak[1] - at[1]) < 16
        away = np.roll(found, CROP_PX // 2, (0, 1))[at]
        assert abs(away) < 0.1 * found.max()
    against, _ = occlusion(model, crop, fill, 1, WINDOW)  # the other answer
    np.testing.assert_allclose(against, -covered, atol=1e-4)
    with torch.no_grad():
        pair = on_network(np.stack([crop, fill]), model)
        whole, empty = log_odds(model(pair)[0], 0).tolist()
    assert falls.max() == pytest.approx(whole - empty, rel=0.25)  # one window hides all of it


def test_hiding_what_the_network_uses_ends_its_answer() -> None:
    model, crop = brightness_network(), bright_cell(32, 80)
    fill = background(crop, np.random.default_rng(0))
    covered, _ = occlusion(model, crop, fill, 0, WINDOW)
    rng = np.random.default_rng(1)
    by_map, by_chance, by_place = (
        mean_probability(deletion(model, crop, fill, 0, order))
        for order in (covered, smooth_order(CROP_PX, WINDOW, rng), centre_order(CROP_PX))
    )
    assert by_map < by_chance
    assert by_map < by_place
    curve = deletion(model, crop, fill, 0, covered)
    assert curve[0] > 0.9
    assert curve[-1] < 0.3


def test_the_background_of_a_crop_looks_like_it() -> None:
    crop = bright_cell(56, 56)
    fill = background(crop, np.random.default_rng(0))
    assert fill.mean() == pytest.approx(110, abs=0.5)
    assert fill.std() == pytest.approx(4, rel=0.15)
    assert fill.max() < 140


def test_weights_are_made_random_from_the_answer_down() -> None:
    model = initialized(CONFIG, seed=1)
    mine = model.state_dict()
    changed = []
    for parts in range(6):
        state = randomised(model, parts, seed=2).state_dict()
        same = {name: torch.equal(state[name], mine[name]) for name in mine if "weight" in name}
        changed.append([name for name, equal in same.items() if not equal and "bn" not in name])
    assert changed[0] == []
    assert changed[1] == ["head.weight"]
    assert [len(names) for names in changed] == list(range(6))
    assert not any(name.startswith("blocks.0.") for name in changed[4])


def test_ranks_are_compared_not_values() -> None:
    one = np.random.default_rng(0).normal(0, 1, (9, 9))
    assert rank_correlation(one, np.exp(one)) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert np.isnan(rank_correlation(one, np.zeros((9, 9))))


def test_cells_come_from_as_many_groups_as_there_are() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    groups = ("a", "a", "b", "c", "d", "d")
    for seed in range(5):
        chosen = choose_cells(labels, groups, 3, np.random.default_rng(seed))
        assert {groups[i] for i in chosen if labels[i] == 0} == {"a", "b", "c"}
        assert sorted(i for i in chosen if labels[i] == 1) == [4, 5]


def test_a_montage_shows_every_map_once() -> None:
    maps = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((1, 3, 3), np.float32)
    picture = montage(maps, columns=3)
    assert picture.shape == (7, 11)
    assert [int((picture == value).sum()) for value in range(5)] == [9] * 5
