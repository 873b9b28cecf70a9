"""`parfocal-train detector`: tiles, targets, loss, folds, resuming, export, and the way back."""

import json
from datetime import UTC, datetime
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from fields import QUICK, drawn_field, save_fields
from hypothesis import given, settings
from hypothesis import strategies as st

from parfocal.bundle import load_detector
from parfocal.cli import main as parfocal
from parfocal.fieldview import ViewRules
from parfocal.onnxdetector import OnnxDetector
from parfocal_export.cli import main as export
from parfocal_training.cli import main as train_cli
from parfocal_training.detector import recipe as recipes
from parfocal_training.detector.checkpoint import read_detector
from parfocal_training.detector.compose import Composition, composed
from parfocal_training.detector.cutouts import cells_of
from parfocal_training.detector.fields import UNKNOWN, TrainingField, field_of
from parfocal_training.detector.fit import DetectorFit, DetectorPlan, split
from parfocal_training.detector.geometry import Geometry, tile
from parfocal_training.detector.loss import batch_of, losses
from parfocal_training.detector.material import Material, read_material
from parfocal_training.detector.network import DetectorConfig, initialized
from parfocal_training.detector.rigs import Rigs, dirt, imaged, to_brightfield
from parfocal_training.detector.sampler import Sampler
from parfocal_training.detector.sources import Composed, Fields, Simulated, Sources
from parfocal_training.detector.targets import targets
from parfocal_training.errors import DataError, UsageError

VIEW = ViewRules()
CPU = torch.device("cpu")


def field(seed: int = 0) -> TrainingField:
    frame, labels = drawn_field(seed)
    return field_of(frame, labels.astype(np.int32), 1.0, VIEW, name=str(seed), group=f"g{seed}",
                    optics="phase")  # fmt: skip


def plan(folds: int = 2, **changes: object) -> DetectorPlan:
    made = DetectorPlan(
        code_version="0", recipe=QUICK, seed=1, folds=folds, sources="test", files_sha256="",
        started_from="", device="cpu",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = save_fields(tmp_path_factory.mktemp("data"), 4)
    sources = Sources(
        source=(Fields(images=".", um_per_px=1.0, optics="phase", weight=1), Composed(weight=1),
                Simulated(fields=1, empty=1, weight=0.5)),
        folder=str(folder),
    )  # fmt: skip
    *_, (_, made) = read_material(sources, VIEW)
    return made


def fit(material: Material, folder: Path, made: DetectorPlan) -> DetectorFit:
    return DetectorFit(material, folder, made, CPU, lambda: datetime(2026, 1, 1, tzinfo=UTC))


# ------------------------------------------------------------------------------------------ tiles


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_the_way_to_the_middle_ends_inside_the_same_cell(seed: int) -> None:
    cut = tile(field(seed % 7), 96, np.random.default_rng(seed), Geometry())
    wanted = targets(cut.labels, cut.known, cut.inner, cut.other)
    half = cut.labels[::2, ::2]
    y, x = np.nonzero(half)
    to_y = np.rint(y + wanted.dy[y, x] * 16).astype(int)
    to_x = np.rint(x + wanted.dx[y, x] * 16).astype(int)
    assert (half[to_y, to_x] == half[y, x]).all()
    assert ((wanted.cell == 1) == ((half > 0) & (cut.known[::2, ::2] > 0))).all()
    assert wanted.depth.min() >= 0 and wanted.depth.max() <= 1


def test_outside_of_a_field_nothing_is_known() -> None:
    cut = tile(field(), 400, np.random.default_rng(0), Geometry(size=(0.5, 0.5), stretch=1.0))
    assert 0 < cut.known.mean() < 0.5
    wanted = targets(cut.labels, cut.known, cut.inner, cut.other)
    assert (wanted.cell[cut.known[::2, ::2] == 0] == UNKNOWN).all()


def test_a_tile_is_the_same_whoever_draws_it(material: Material) -> None:
    samplers = [Sampler(material, VIEW, QUICK.variation, 3) for _ in range(2)]
    backwards = {k: samplers[1](k) for k in reversed(range(12))}
    for k in range(12):
        view, wanted = samplers[0](k)
        assert (view == backwards[k][0]).all() and np.isfinite(view).all()
        assert view.shape == (64, 64) and wanted.cell.shape == (32, 32)
        again = backwards[k][1]
        assert all((getattr(wanted, n) == getattr(again, n)).all() for n in wanted.__slots__)
    other = Sampler(material, VIEW, QUICK.variation, 4)
    assert any((other(k)[0] != samplers[0](k)[0]).any() for k in range(3))


def test_a_phase_image_becomes_brightfield_of_the_same_cells() -> None:
    one, rigs = field(), Rigs()
    made = to_brightfield(one.contrast, np.random.default_rng(0), rigs)
    assert made.shape == one.contrast.shape and made.dtype == np.float32
    assert np.abs(made[one.labels > 0]).mean() > 2 * np.abs(made[one.labels == 0]).mean()
    assert rigs.amplitude[0] / 2 < np.percentile(np.abs(made), 97) < rigs.amplitude[1] * 2


def test_dirt_never_hides_a_cell_and_is_marked() -> None:
    one = field()
    rng = np.random.default_rng(1)
    for _ in range(20):
        none = np.zeros(one.labels.shape, np.uint8)
        _, marked = dirt(one.contrast, none, one.labels, rng)
        assert not (marked[one.labels > 0] == 1).any()
    seen = imaged(one.contrast, one.labels, rng, Rigs())
    assert seen.shape == one.contrast.shape and np.isfinite(seen).all()


@pytest.mark.parametrize("packed", [0.0, 1.0])
def test_a_composed_field_knows_its_cells(packed: float) -> None:
    one = field()
    cells = cells_of(one, one.contrast)
    assert len(cells) == 9
    ground = np.zeros((200, 200), np.float32)
    made = composed(ground, cells, np.random.default_rng(2), Composition(packed=packed))
    assert made.labels.max() >= 1 and made.known.all()
    outside = made.labels == 0
    far = cv2.erode(outside.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    assert np.abs(made.contrast[far]).max(initial=0) < 1e-6
    assert np.abs(made.contrast[made.labels > 0]).mean() > 0.02
    share = (made.labels > 0).mean()
    assert share > 0.5 if packed else share < 0.6


# ----------------------------------------------------------------------------------------- learning


def test_what_is_not_known_costs_nothing() -> None:
    one = field()
    cut = tile(one, 64, np.random.default_rng(0), Geometry())
    wanted = targets(cut.labels, cut.known * 0, cut.inner * 0, cut.other)
    batch = batch_of([(np.zeros((64, 64), np.float32), wanted)])
    parts = losses(torch.randn(1, 6, 32, 32), batch)
    assert all(float(parts[name]) == 0 for name in ("cell", "other", "way", "border"))


def test_a_right_answer_costs_almost_nothing() -> None:
    cut = tile(field(), 64, np.random.default_rng(0), Geometry())
    wanted = targets(cut.labels, cut.known, cut.inner, cut.other)
    batch = batch_of([(np.zeros((64, 64), np.float32), wanted)])
    sign = {name: 40 * (getattr(batch, name).float() == 1) - 20 for name in ("cell", "border")}
    depth = batch.depth * batch.inner
    right = torch.cat([sign["cell"][:, None], sign["cell"][:, None], batch.way,
                       depth[:, None], sign["border"][:, None]], 1)  # fmt: skip
    parts = losses(right, batch)
    assert sum(float(part) for part in parts.values()) < 0.01
    wrong = losses(-right, batch)
    assert all(float(wrong[name]) > float(parts[name]) for name in ("cell", "dice", "way"))


def test_the_network_is_small_and_reads_any_multiple_of_16() -> None:
    net = initialized(DetectorConfig(), 0).eval()
    assert sum(p.numel() for p in net.parameters()) < 1_000_000
    with torch.no_grad():
        assert net(torch.zeros(1, 1, 48, 80)).shape == (1, 6, 24, 40)
    again = initialized(DetectorConfig(), 0)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_folds_keep_groups_together() -> None:
    groups = ["a", "a", "a", "b", "c", "c", "d"]
    parts = split(groups, 3)
    assert sorted(name for part in parts for name in part) == ["a", "b", "c", "d"]
    with pytest.raises(DataError, match="cannot make 5 folds"):
        split(groups, 5)


def test_a_fit_measures_every_field_by_a_network_that_has_not_seen_it(
    material: Material, tmp_path: Path
) -> None:
    running = fit(material, tmp_path / "fit", plan())
    seen = [(part.name, report.step) for part, report in running.run(resume=False)]
    assert seen == [("fold-1", 2), ("fold-1", 4), ("fold-2", 2), ("fold-2", 4), ("final", 2),
                    ("final", 4), ("final", 6)]  # fmt: skip
    done, net = read_detector(tmp_path / "fit")
    assert sorted(score.name for score in done.scores) == [f"field-{k}" for k in range(4)]
    assert 0 <= done.metrics["recall"].value <= 1 and done.metrics["recall"].n == 4
    assert done.config == net.config == QUICK.config
    drawn = list((tmp_path / "fit" / "overlays").glob("*.png"))
    assert len(drawn) == 4 and cv2.imread(str(drawn[0])) is not None


def test_a_resumed_fit_ends_bit_for_bit_as_an_unbroken_one(
    material: Material, tmp_path: Path
) -> None:
    whole, broken = fit(material, tmp_path / "a", plan(0)), fit(material, tmp_path / "b", plan(0))
    assert len(list(whole.run(resume=False))) == 3
    for _, report in broken.run(resume=False):
        if report.step == 4:
            break
    again = fit(material, tmp_path / "b", plan(0))
    assert [report.step for _, report in again.run(resume=True)] == [6]
    nets = [read_detector(tmp_path / name)[1] for name in ("a", "b")]
    pairs = zip(*(net.state_dict().values() for net in nets), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_another_plan_does_not_resume(material: Material, tmp_path: Path) -> None:
    list(fit(material, tmp_path / "fit", plan(0)).run(resume=False))
    with pytest.raises(UsageError, match="other data or options"):
        next(fit(material, tmp_path / "fit", plan(0, seed=2)).run(resume=True))
    with pytest.raises(UsageError, match="is not empty"):
        next(fit(material, tmp_path / "fit", plan(0)).run(resume=False))
    with pytest.raises(DataError, match="no finished training"):
        read_detector(tmp_path)


# ------------------------------------------------------------------------------ the whole way round


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("base", "fine-tune"):
        monkeypatch.setitem(recipes.RECIPES, name, msgspec.structs.replace(QUICK, name=name))


def run(*arguments: str) -> int:
    return train_cli(["detector", *arguments, "--workers", "0", "--device", "cpu"])


@pytest.mark.usefixtures("quick")
@pytest.mark.timeout(180)  # several processes that each import PyTorch
def test_images_detected_corrected_and_trained_on_become_a_detector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Find with the shipped detector, edit its masks, fine-tune it on them, and use the result."""
    data = tmp_path / "data"
    data.mkdir()
    for k in range(2):
        cv2.imwrite(str(data / f"f{k}.png"), drawn_field(k)[0])
    found = ["detect", str(data), "--um-per-px", "1", "--masks", str(data / "masks")]
    assert parfocal(found) == 0
    path = data / "masks" / "f0.png"
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert labels is not None and labels.dtype == np.uint16
    cv2.imwrite(str(path), drawn_field(0)[1])  # a person's correction
    out, bundle = tmp_path / "fit", tmp_path / "mine.onnx"
    assert run(str(data), "-o", str(out), "--init", "cells", "--um-per-px", "1") == 0
    done, net = read_detector(out)
    assert done.started_from.startswith("cells ") and net.config == DetectorConfig()
    assert export([str(out), "-o", str(bundle), "--name", "mine", "--model-version", "2",
                   "--licence", "CC0-1.0"]) == 0  # fmt: skip
    card = load_detector(str(bundle)).card
    assert (card.name, card.training.recipe["started_from"]) == ("mine", done.started_from)
    assert OnnxDetector(load_detector(str(bundle))).check_golden() < 1e-3
    capsys.readouterr()
    assert parfocal(["detect", str(data / "f0.png"), "--um-per-px", "1", "--json",
                     "--detector", str(bundle)]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["detector"] == "mine 2"
    again = tmp_path / "again"
    assert run(str(data), "-o", str(again), "--init", str(out), "--um-per-px", "1") == 0


@pytest.mark.usefixtures("quick")
def test_the_command_tells_what_it_does_and_what_came_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = save_fields(tmp_path / "data", 3)
    arguments = (str(data), "-o", str(tmp_path / "fit"), "--um-per-px", "1", "--folds", "2")
    assert run(*arguments) == 0
    text = " ".join(capsys.readouterr().out.split())  # a long path wraps the sentence anywhere
    assert "3 fields with truth" in text and "fold-1 step 2/4" in text and "left 0:" in text
    assert "foreground_f1" in text and "make it a detector with parfocal-export" in text
    assert run(*arguments, "--resume", "--json") == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(last["metrics"]) >= {"recall", "f1", "ap50"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("none",), 65, "no sources file and no folder"),
        (("data", "--folds", "1"), 2, "leaves nothing to train on"),
        (("data", "--folds", "9"), 65, "cannot make 9 folds"),
        (("data", "--init", "none"), 65, "neither an existing file nor a shipped name"),
        (("data", "--init", "demo"), 65, "is a classifier"),
    ],
)
def test_faults_are_one_sentence(
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save_fields(tmp_path / "data", 2)
    monkeypatch.chdir(tmp_path)
    assert run(*arguments, "-o", "fit", "--um-per-px", "1") == code
    assert text in caplog.text and "Traceback" not in caplog.text


def test_a_scale_that_nobody_tells_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(str(save_fields(tmp_path / "data", 1)), "-o", str(tmp_path / "fit")) == 65
    assert "nothing says how large a pixel of 'field-0.png' is" in caplog.text
