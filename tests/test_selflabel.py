"""Self-labels: copies that are never stored, views, and `parfocal-train selflabel`."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from parfocal.card import DetectorRules
from parfocal.normalize import normalize
from parfocal.prepare import CROP_PX
from parfocal_export.cli import main as export
from parfocal_export.question import golden_crops
from parfocal_training import cropset
from parfocal_training.augment import (
    PAPER,
    Augmentation,
    augment,
    beside_others,
    left_of_fill,
    own_of,
    with_surroundings,
)
from parfocal_training.cli import main
from parfocal_training.copies import Copies
from parfocal_training.cropset import CropIndex, CropRow, CropRules, CropSet
from parfocal_training.dataset import Row
from parfocal_training.fit import Part
from parfocal_training.model import config_of, initialized
from parfocal_training.networks import trained_networks, weights_sha256
from parfocal_training.normalize import normalize_with_margin
from parfocal_training.recipe import SELF_LABEL
from parfocal_training.reference import medoid_reference
from parfocal_training.screen import Pace
from parfocal_training.selflabel.cost import epochs_for
from parfocal_training.selflabel.store import read_selflabelled
from parfocal_training.selflabel.training import Plan, SelfLabel
from parfocal_training.train import (
    Epoch,
    Labelled,
    answer,
    held_out_copies,
    lca_of,
    to_vary,
    viewed,
)

CPU = torch.device("cpu")
N = 6
QUICK = ("--epochs", "3", "--batch", "4", "--threads", "1", "--device", "cpu", "--target", "1")


def cells(n: int = N, margin_px: int = 0) -> CropSet:
    side = CROP_PX + 2 * margin_px
    crops = golden_crops(n, side, np.random.default_rng(5))
    rows = tuple(
        CropRow(image=Row(path=f"{i}.png", cell_line="A", group=f"g{i // 2}"), sha256=f"{i:064d}")
        for i in range(n)
    )
    rules = CropRules(
        um_per_px=0.44,
        crop_px=CROP_PX,
        margin_px=margin_px,
        flat_field_um=0,
        detector=DetectorRules(name="external"),
    )
    index = CropIndex(data="drawn", classes=("A",), group_kind="image", rules=rules, rows=rows)
    return CropSet(crops, index)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cells") / "crops"
    cropset.save(cells(), folder)
    return folder


def copies(seed: int = 3) -> Copies:
    return Copies.on(CPU, N, 10, 2, seed)


def drawn(of: Copies, which: list[tuple[int, int]], varied: Augmentation = PAPER) -> torch.Tensor:
    """These (cell, copy) of the drawn cells, made in one batch."""
    raw = torch.from_numpy(cells().crops)
    cell, copy = (torch.tensor(part) for part in zip(*which, strict=True))
    return augment(raw[cell], varied, CROP_PX, of.draws(cell, copy))


@settings(max_examples=10, deadline=None)
@given(st.permutations([(i, j) for i in range(3) for j in (0, 7)]), st.integers(0, 5))
def test_a_copy_is_the_same_image_in_whatever_batch_it_comes(
    order: list[tuple[int, int]], alone: int
) -> None:
    every = replace(PAPER, flips=True, zoom=0.1, blur_sigma_px=1.0, noise_levels=4.0)
    together = drawn(copies(), order, every)
    by_itself = drawn(copies(), [order[alone]], every)
    # a batch of another size may round a bicubic sum the other way: at most one grey level
    assert int((together[alone].int() - by_itself[0].int()).abs().max()) <= 1


def test_cells_copies_and_seeds_all_differ() -> None:
    base = drawn(copies(), [(0, 0)])
    for other in (
        drawn(copies(), [(0, 1)]),
        drawn(copies(4), [(0, 0)]),
    ):
        assert (base.int() - other.int()).abs().float().mean() > 1
    keys = copies().draws(torch.arange(N).repeat(10), torch.arange(10).repeat_interleave(N)).keys
    assert len(set(keys.tolist())) == N * 10


def test_random_numbers_of_copies_are_uniform_and_unrelated() -> None:
    many = Copies.on(CPU, 4000, 10, 2, seed=1)
    draws = many.draws(torch.arange(4000), torch.zeros(4000, dtype=torch.int64))
    first, second = draws.uniform((4000, 2)).numpy().T
    third = draws.uniform((2, 4000), crop_axis=1).numpy()[0]
    for values in (first, second, third):
        counts = np.histogram(values, 10, (0, 1))[0]
        assert abs(counts - 400).max() < 100  # 5 SD of a binomial count
    assert abs(np.corrcoef([first, second, third]) - np.eye(3)).max() < 0.08  # 5 SD
    noise = draws.normal((4000, 8, 8), 0)
    assert abs(float(noise.mean())) < 0.05 and abs(float(noise.std()) - 1) < 0.05


def test_training_never_sees_a_held_out_copy_and_every_other_once_a_round() -> None:
    of = copies()
    seen = torch.stack([of.of_pass(number) for number in range(16)])  # (16, n)
    assert int(seen.max()) == 7 and of.trained == 8
    for run in (seen[:8], seen[8:]):
        assert all(sorted(run[:, i].tolist()) == list(range(8)) for i in range(N))
    held_out = {int(of.held_out_of_pass(number)[0]) for number in range(4)}
    assert held_out == {8, 9}


def test_a_margin_takes_the_levels_of_the_middle() -> None:
    raw = cells(margin_px=8).crops
    middle = np.array(raw[:, 8:-8, 8:-8], np.uint8)
    reference = medoid_reference(middle)
    whole = normalize_with_margin(torch.from_numpy(raw), 8, reference).numpy()
    assert np.array_equal(whole[:, 8:-8, 8:-8], normalize(middle, reference))
    for crop, levels in zip(whole, raw, strict=True):  # one level, one grey; brighter stays so
        order = np.argsort(levels, axis=None, kind="stable")
        assert (np.diff(crop.ravel()[order]) >= 0).all()
    assert whole.min() >= 0 and whole.max() <= 255


@pytest.mark.parametrize("shrink", [2, 4])
def test_the_fill_of_a_view_is_as_rough_as_an_averaged_fill(shrink: int) -> None:
    noise = torch.randn(1, 400, 400, generator=torch.Generator().manual_seed(0))
    rows = noise + noise.roll(1, 1) + noise.roll(-1, 1)
    smooth = (rows + rows.roll(1, 2) + rows.roll(-1, 2)) / 3
    averaged = torch.nn.functional.avg_pool2d(smooth[:, None], shrink)
    assert float(averaged.std()) == pytest.approx(left_of_fill(shrink), abs=0.03)


def test_only_the_surroundings_are_taken_from_the_other_cell() -> None:
    n, side, draws = 40, 64, torch.Generator().manual_seed(2)
    noise = torch.randn((2, n, side, side), generator=draws)
    mine, other = 100 + 10 * noise[0], 200 + 2 * noise[1]
    masks = np.zeros((2, n, side, side), np.bool_)
    masks[0, :, 20:44, 28:36] = masks[1, :, 28:36, 50:60] = True
    own, theirs = (own_of(one, 56) for one in masks)
    out = with_surroundings(mine, own, other, theirs, 0.5, draws)
    changed = (out != mine).any(1).any(1)
    assert 8 <= int(changed.sum()) <= 32
    for kept in (np.s_[:, 20:44, 28:36], np.s_[:, 28:36, 50:60]):  # neither cell is exchanged
        assert torch.allclose(out[kept], mine[kept], atol=1e-3)
    beside = np.s_[:, :16, :20]
    assert float((out - mine)[changed][beside].abs().mean()) > 5
    assert float(out[beside].mean() - 100) == pytest.approx(0, abs=2)  # at the crop's own levels
    assert float(out[beside].std()) == pytest.approx(10, abs=1)


def test_a_cell_is_what_its_mask_covers_and_a_rim() -> None:
    masks = np.zeros((2, 64, 64), np.bool_)
    masks[0, 24:40, 8:56] = True
    own = own_of(masks, 56)
    assert own.shape == masks.shape and own.dtype == torch.uint8
    assert not own[1].any() and (own[0][torch.from_numpy(masks[0])] == 255).all()
    assert 1.1 <= float((own[0] > 127).sum() / masks[0].sum()) <= 1.6


def test_without_outlines_only_what_is_far_from_the_middle_is_exchanged() -> None:
    mine, other = torch.full((40, 56, 56), 50.0), torch.full((40, 56, 56), 200.0)
    out = beside_others(mine, other, 0.5, torch.Generator().manual_seed(2))
    changed = out[:, 0, 0] > 190
    assert 8 <= int(changed.sum()) <= 32
    assert torch.equal(out[~changed], mine[~changed])
    assert float((out[:, 20:36, 20:36] - 50).abs().max()) < 1


def test_views_are_what_the_network_sees_of_a_crop_as_imaged() -> None:
    crop_set = cells(margin_px=8)
    reference = medoid_reference(crop_set.bare(np.arange(N)))
    config = config_of("coarse", None, N, CROP_PX, 128, 32)
    raw = torch.from_numpy(crop_set.crops)
    views = viewed(raw, config, reference)
    assert views.shape == (N, 60, 60)
    model = initialized(config, seed=1).eval()
    with torch.no_grad():
        _, lca = model.seen(views[:, None, 2:-2, 2:-2])
    assert torch.allclose(lca, answer(model, raw, reference)[1], atol=1e-3)


class Shapes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the shape of every tensor that is computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.seen |= {tuple(one.shape) for one in pytree.tree_leaves(out)
                      if isinstance(one, torch.Tensor)}  # fmt: skip
        return out


def test_memory_does_not_grow_with_the_square_of_the_cells() -> None:
    n, crop_set = 70, cells(70)
    model = initialized(config_of("coarse", None, n, CROP_PX, 128, 32), seed=1)
    crops, reference = Labelled.each_its_own(CPU, crop_set), medoid_reference(crop_set.crops)
    material = to_vary(crops, SELF_LABEL, model.config, reference)
    of = Copies.on(CPU, n, 10, 2, seed=3)
    with Shapes() as shapes:
        lca = lca_of(model, crops.crops, reference)
        loss, accuracy = held_out_copies(
            model, material, crops.labels, SELF_LABEL, reference, of, turn=0
        )
    assert lca.shape == (n, 96) and loss > 0 and 0 <= accuracy <= 1
    assert (64, n) in shapes.seen and (n, n) not in shapes.seen


def test_a_run_leaves_networks_that_others_can_use(
    crops: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "slc"
    wanted = (str(crops), "-o", str(out), *QUICK, "--repeats", "2", "--copies", "5")
    assert main(["selflabel", *wanted, "--held-out", "1", "--json"]) == 0
    first, *lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["epoch"]["number"] for line in lines[:-1]] == [1, 2, 3, 1, 2, 3]
    plan = first["plan"]
    assert (plan["networks"], plan["epochs"], plan["copies_seen"]) == (2, 3, 12)
    assert plan["seconds"] > 0
    assert [line["left"]["at_most"] for line in lines[:-1]] == [
        False
    ] * 6  # every pass is asked for
    done = read_selflabelled(out)
    assert done.n_cells == N and done.config.classes == N
    assert [one.copies_seen for one in done.repeats] == [12, 12]  # batches of 4 of 6 cells
    assert not any(one.reached for one in done.repeats)
    ends = [lines[place]["epoch"]["val_accuracy"] for place in (2, 5)]
    assert [one.last_pass for one in done.repeats] == ends
    one, two = trained_networks(out)
    assert one.weights_sha256 == weights_sha256(out / "repeat-1" / "model.safetensors")
    assert one.weights_sha256 != two.weights_sha256
    assert one.pixels.um_per_px == 0.44 and one.model.config.lca_values == 96
    assert (out / "curves.png").stat().st_size > 1000
    about = ("--name", "x", "--model-version", "1", "--licence", "MIT")
    assert export([str(out), "-o", str(tmp_path / "model.onnx"), *about]) == 65
    assert "are no classifiers" in caplog.text and "fit --set self_labels=0.5" in caplog.text


@pytest.mark.parametrize("asked", [("--set", "network=paper"), ("--recipe", "paper")])
def test_the_papers_network_learns_a_class_a_cell(
    crops: Path, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    wanted = (str(crops), "-o", str(tmp_path / "slc"), *QUICK, "--repeats", "1", *asked)
    assert main(["selflabel", *wanted, "--copies", "2", "--held-out", "1", "--epochs", "1"]) == 0
    (one,) = trained_networks(tmp_path / "slc")
    shape = one.model.config
    assert (shape.classes, shape.maps, shape.shrink) == (N, (32,) * 6, 1)
    raw = torch.from_numpy(cells().crops)
    logits, lca = answer(one.model, raw, one.pixels.reference_distribution())
    assert logits.shape == (N, N) and lca.shape == (N, 288)


def test_precision_settles_by_the_device_unless_it_is_asked_for() -> None:
    assert SELF_LABEL.on("cuda").precision == "bf16"
    assert SELF_LABEL.on("cpu").precision == "f32"
    asked = msgspec.structs.replace(SELF_LABEL, precision="f32")
    assert asked.on("cuda") is asked


def test_training_in_bf16_leaves_a_network_in_f32(crops: Path, tmp_path: Path) -> None:
    wanted = (str(crops), *QUICK, "--repeats", "1", "--copies", "2", "--held-out", "1")
    for name in ("bf16", "auto"):
        out = ("-o", str(tmp_path / name))
        assert main(["selflabel", *wanted, *out, "--precision", name, "--epochs", "1"]) == 0
    half, full = (read_selflabelled(tmp_path / name) for name in ("bf16", "auto"))
    assert (half.recipe.precision, full.recipe.precision) == ("bf16", "f32")  # auto on the CPU
    assert half.repeats[0].weights_sha256 != full.repeats[0].weights_sha256
    (network,) = trained_networks(tmp_path / "bf16")
    assert {one.dtype for one in network.model.parameters()} == {torch.float32}


def test_an_interrupted_run_ends_bit_for_bit_as_an_unbroken_one(
    crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [str(crops), *QUICK, "--repeats", "1", "--copies", "5", "--held-out", "1"]
    assert main(["selflabel", *wanted, "-o", str(tmp_path / "whole"), "--json"]) == 0
    broken = [*wanted, "-o", str(tmp_path / "broken"), "--json"]

    passes = []

    def interrupted(value: object) -> None:
        passes.append(value)
        if len(passes) == 3:  # the plan is said first
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("parfocal_training.selflabel.command.emit", interrupted)
        assert main(["selflabel", *broken]) == 130
    assert not (tmp_path / "broken" / "selflabel.json").exists()
    assert main(["selflabel", *broken, "--resume"]) == 0
    whole, resumed = (
        (tmp_path / name / "repeat-1" / "model.safetensors").read_bytes()
        for name in ("whole", "broken")
    )
    assert whole == resumed


def test_the_time_of_a_training_is_that_of_all_its_sessions(tmp_path: Path) -> None:
    crop_set, recipe = cells(), msgspec.structs.replace(SELF_LABEL, epochs=3, batch=4)
    plan = Plan(
        code_version="0",
        recipe=recipe,
        copies=3,
        held_out=1,
        target_accuracy=1.0,
        repeats=1,
        seed=1,
        crops_sha256="0",
        device="cpu",
    )

    def session(begun_s: int) -> SelfLabel:
        clock = count(begun_s)  # a second passes between two looks
        now = datetime(2026, 1, 1, tzinfo=UTC)
        return SelfLabel(
            crop_set, tmp_path / "out", plan, CPU, lambda: now, lambda: float(next(clock))
        )

    first = session(0).run(resume=False)
    assert [next(first)[1].number for _ in range(2)] == [1, 2]
    first.close()
    assert [epoch.number for _, epoch in session(5000).run(resume=True)] == [3]
    (one,) = read_selflabelled(tmp_path / "out").repeats
    assert (one.epochs, one.seconds) == (3, 3.0)


def test_time_left_is_at_most_until_a_network_is_finished() -> None:
    def after(pace: Pace, part: int, epoch: int) -> str:
        known = Epoch(epoch, 10, 1.0, 0.5, None, None)
        return str(pace.left(Part(f"repeat-{part + 1}", part, 3, 5, 5), known))

    clock = count()  # an epoch takes a second
    pace = Pace(lambda: float(next(clock)), may_end_early=True)
    assert [after(pace, 0, epoch) for epoch in (1, 2)] == ["at most 0:29", "at most 0:28"]
    assert after(pace, 0, 4) == "at most 0:26"
    assert after(pace, 1, 1) == "0:07"  # as the first: 3 epochs of this one and 4 of the next
    assert after(pace, 1, 5) == "at most 0:09"
    steady = count()
    assert after(Pace(lambda: float(next(steady))), 0, 1) == "0:29"


@pytest.mark.parametrize(
    ("n", "epochs"), [(500, 600), (986, 305), (1069, 281), (1100, 273), (2208, 1341), (4000, 1815)]
)
def test_few_cells_get_more_passes_and_so_do_many(n: int, epochs: int) -> None:
    assert epochs_for(SELF_LABEL, n) == epochs


def test_cells_are_learned_and_training_stops_at_the_target(tmp_path: Path) -> None:
    few = cells(4)
    few.crops[:] = np.stack([np.roll(few.crops[0], 9 * i, 0) // (i + 1) for i in range(4)])
    for i in range(4):  # four cells that nobody could confuse
        few.crops[i, 80 : 110 + 20 * i, 90:134] = 60 * i
    cropset.save(few, tmp_path / "crops")
    out = str(tmp_path / "out")
    options = ["--epochs", "400", "--repeats", "1", "--threads", "1", "--target", "0.9"]
    options += ["--set", "augmentation.tone=0"]  # they differ in grey levels more than in shape
    assert main(["selflabel", str(tmp_path / "crops"), "-o", out, *options, "--json"]) == 0
    (one,) = read_selflabelled(tmp_path / "out").repeats
    assert one.reached and one.epochs < 400
    assert one.last_pass is not None and one.last_pass >= 0.9
    assert one.accuracy >= 0.5  # of copies that are normalized as the daemon does; chance is 0.25


def test_a_target_of_one_asks_for_every_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unlike = cells(2)
    unlike.crops[:] = unlike.crops[:1]
    unlike.crops[1, 60:160, 60:160] = 0
    cropset.save(unlike, tmp_path / "crops")
    options = ["--epochs", "60", "--repeats", "1", "--threads", "1", "--target", "1"]
    assert main(["selflabel", str(tmp_path / "crops"), "-o", str(tmp_path / "out"), *options]) == 0
    (one,) = read_selflabelled(tmp_path / "out").repeats
    said = capsys.readouterr().out
    assert one.reached and one.epochs == 60
    assert said.count("held out 100.0 %") > 1
    assert "last pass: recognized of one held-out copy of each cell" in " ".join(said.split())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--held-out", "50"), "leaves nothing to train on"),
        (("--target", "0"), "--target takes a share"),
        (("--set", "mixup=true"), "are for cells with classes"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    crops: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    text: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert main(["selflabel", str(crops), "-o", str(tmp_path / "x"), *options]) == 2
    assert text in caplog.text and "\n" not in caplog.messages[-1]


def test_one_cell_has_nothing_to_be_told_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cropset.save(cells(1), tmp_path / "crops")
    assert main(["selflabel", str(tmp_path / "crops"), "-o", str(tmp_path / "x")]) == 65
    assert "at least two crops" in caplog.text


def test_one_cell_line_can_be_clustered_but_not_fitted(
    crops: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["fit", str(crops), "-o", str(tmp_path / "x")]) == 65
    assert "parfocal-train selflabel takes one" in caplog.text
