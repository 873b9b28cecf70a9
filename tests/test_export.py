"""`parfocal-export`: what it writes is what was trained, or it writes nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from parfocal.bundle import load
from parfocal.calibrate import to_base64
from parfocal.card import (
    Abstention,
    Calibration,
    DetectorRules,
    Metric,
    Novelty,
    Phenotypes,
    Seen,
    ShiftRule,
)
from parfocal.classify import OnnxClassifier
from parfocal.normalize import Reference
from parfocal.phenotypes import Phenotyper
from parfocal.prepare import PixelRules
from parfocal_export import bundle, cli, verify
from parfocal_export.about import About
from parfocal_export.graph import to_onnx
from parfocal_export.question import golden_crops
from parfocal_training.checkpoint import Checkpoint, write_checkpoint
from parfocal_training.evaluate import Measured
from parfocal_training.model import Block, ConvNet, ConvNetConfig, LayerOrder, initialized
from parfocal_training.networks import weights_sha256
from parfocal_training.phenotypes.store import PhenotypeModel, write_model
from parfocal_training.recipe import FIELD

SAID = ("--name", "drawn", "--model-version", "1.0", "--licence", "MIT")
ORDERS: tuple[LayerOrder, ...] = ("conv-relu-bn", "conv-bn-relu")


def used_network(order: LayerOrder = "conv-relu-bn") -> ConvNet:
    """Random weights, with the running statistics that a training leaves behind."""
    model = initialized(ConvNetConfig(classes=2, order=order, level_zero=150), seed=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for block in model.blocks:
            assert isinstance(block, Block)
            block.bn.weight.uniform_(0.5, 1.5, generator=generator)
            block.bn.bias.uniform_(-0.5, 0.5, generator=generator)
        for _ in range(8):
            model(torch.rand(2, 1, 224, 224, generator=generator) * 255)
    return model.eval()


def reference() -> Reference:
    return Reference.of(golden_crops(1, 224, np.random.default_rng(1))[0])


def finished() -> Checkpoint:
    return Checkpoint(
        created_at="2026-01-01T00:00:00Z",
        code_version="0",
        config=ConvNetConfig(classes=2),
        recipe=FIELD,
        seed=1,
        classes=("A", "B"),
        pixels=PixelRules(um_per_px=0.5, reference=tuple(map(int, reference().counts))),
        detector=DetectorRules(name="external"),
        data="drawn",
        data_sha256s=("0" * 64,),
        groups=("g0", "g1"),
        novelty=Novelty(
            mean=to_base64(np.zeros((2, 288), "<f4")),
            precision=to_base64(np.eye(288, dtype="<f4")),
            d=288,
            scores=(1.0, 2.0),
        ),
        measured=Measured(
            calibration=Calibration(temperature=1.5),
            abstention=Abstention(min_probability=0.6, max_novelty=0.98),
            confusion=None,
            metrics={"accuracy": Metric(value=0.9, low=0.8, high=0.95, n=9, how="drawn")},
            shift=ShiftRule(
                mean=0.5,
                mean_se=0.1,
                between_sd=0.1,
                within_sd=0.3,
                group_mean_sd=0.15,
                threshold=2.0,
                false_alarm=0.05,
                observed_false_alarms=Metric(value=0.1),
                n_groups=6,
                group_kind="flask",
            ),
            seen=Seen(
                cell_lines={"A": 5, "B": 4},
                groups=6,
                group_kind="flask",
                um_per_px=0.5,
                detector="external",
            ),
        ),
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    write_checkpoint(finished(), used_network(), folder)
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "drawn.onnx"
    assert cli.main([str(checkpoint), "-o", str(path), *SAID]) == 0
    return path


def test_the_daemon_takes_the_bundle_and_its_golden_answer(exported: Path) -> None:
    loaded = load(str(exported))
    card = loaded.card
    assert (card.name, card.version, card.licence) == ("drawn", "1.0", "MIT")
    assert (card.classes, card.um_per_px, card.calibration.temperature) == (("A", "B"), 0.5, 1.5)
    assert card.caveats[-1] == "Trained on 9 crops from 6 groups (flask)."
    assert card.training.recipe["augmentation.shift_px"] == 30
    assert OnnxClassifier(loaded, "cpu", threads=1).check_golden() < 1e-4


def test_a_bundle_names_no_path_of_this_machine(exported: Path) -> None:
    data = exported.read_bytes()
    here = Path(__file__).resolve()
    for path in (here.parents[1], Path(torch.__file__).parents[1], Path.home()):
        assert str(path).encode() not in data


def test_a_bundle_is_one_plain_onnx_graph(exported: Path) -> None:
    proto = onnx.load(exported)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 18)]
    assert [i.name for i in proto.graph.input] == ["crops"]
    assert [o.name for o in proto.graph.output] == ["logits", "lca"]
    shape = proto.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in shape] == ["n", 1, 224, 224]
    assert [p.name for p in exported.parent.iterdir()] == ["drawn.onnx"]


def test_batch_normalization_comes_after_pooling(exported: Path) -> None:
    kinds = [node.op_type for node in onnx.load(exported).graph.node]
    at = [i for i, kind in enumerate(kinds) if kind == "BatchNormalization"]
    assert [kinds[i - 1] for i in at] == ["AveragePool"] * 6


@pytest.mark.parametrize("order", ORDERS)
def test_both_layer_orders_answer_as_they_were_trained(order: LayerOrder) -> None:
    model = used_network(order)
    crops = golden_crops(2, 224, np.random.default_rng(2))
    assert verify.check_parity(model, to_onnx(model), crops, reference()) <= 1e-5


def test_the_same_training_gives_the_same_bytes() -> None:
    said = About(name="drawn", version="1", licence="MIT")
    when = datetime(2026, 1, 1, tzinfo=UTC)
    first, second = (bundle.make_bundle(finished(), used_network(), said, when) for _ in "ab")
    assert first[0] == second[0]


def bent(model: ConvNet) -> onnx.ModelProto:
    """The graph with its last bias off by a thousandth."""
    proto = to_onnx(model)
    bias = next(i for i in proto.graph.initializer if i.name.endswith("head.bias"))
    off = numpy_helper.to_array(bias) + np.float32(1e-3)
    bias.CopyFrom(numpy_helper.from_array(off, bias.name))
    return proto


def test_a_graph_that_answers_otherwise_is_never_written(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(bundle, "to_onnx", bent)
    assert cli.main([str(checkpoint), "-o", str(tmp_path / "x.onnx"), *SAID]) == 1
    assert "differs from the trained network by" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_old_bundle(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "x.onnx"
    old.write_bytes(b"old")
    monkeypatch.setattr(bundle, "to_onnx", bent)
    assert cli.main([str(checkpoint), "-o", str(old), *SAID]) == 1
    assert old.read_bytes() == b"old"


def test_about_and_options_say_who_the_model_is(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = tmp_path / "about.toml"
    about.write_text(
        'name = "a"\nversion = "2"\nlicence = "MIT"\ncaveats = ["Only drawings."]\n'
        'not_for = ["Photographs."]\n'
    )
    path = tmp_path / "x.onnx"
    options = [str(checkpoint), "-o", str(path), "--about", str(about), "--name", "b", "--json"]
    assert cli.main(options) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["name"], report["sha256"]) == ("b", load(str(path)).sha256)
    card = load(str(path)).card
    assert card.caveats[0] == "Only drawings." and "9 crops" in card.caveats[-1]
    assert card.not_for is not None
    assert card.not_for[0] == "Photographs." and "Diagnosis" in card.not_for[-1]
    assert (card.shift, card.seen) == (finished().measured.shift, finished().measured.seen)


FAULTS = [
    ('name = "a"\n', "a model needs a version, a licence: give --model-version, --licence"),
    ('name = "a\n', "is not a TOML file"),
    ('name = "a"\nversion = "1"\nlicence = "MIT"\ncolour = "red"\n', "colour"),
]


@pytest.mark.parametrize(("text", "sentence"), FAULTS)
def test_a_faulty_description_is_one_sentence(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, sentence: str
) -> None:
    about = tmp_path / "about.toml"
    about.write_text(text)
    options = [str(checkpoint), "-o", str(tmp_path / "x.onnx"), "--about", str(about)]
    assert cli.main(options) == 65
    assert sentence in caplog.text
    assert not (tmp_path / "x.onnx").exists()


def test_a_damaged_checkpoint_is_one_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_checkpoint(finished(), used_network(), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert cli.main([str(tmp_path), "-o", str(tmp_path / "x.onnx"), *SAID]) == 65
    assert "is damaged" in caplog.text
    (tmp_path / "checkpoint.json").write_text("{}")
    assert cli.main([str(tmp_path), "-o", str(tmp_path / "x.onnx"), *SAID]) == 65
    assert "checkpoint.json' is damaged" in caplog.text


def test_a_place_that_cannot_be_written_is_one_sentence(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert cli.main([str(checkpoint), "-o", str(tmp_path / "no" / "x.onnx"), *SAID]) == 74
    assert "No such file or directory" in caplog.text


def test_checkpoints_hold_all_that_a_card_needs() -> None:
    again = msgspec.json.decode(msgspec.json.encode(finished()), type=Checkpoint)
    assert again == finished()


def phenotypes_of(weights: str) -> PhenotypeModel:
    """Two phenotypes in a plane of the LCA."""
    axes = np.eye(288, 2, dtype="<f4")
    return PhenotypeModel(
        created_at="2026-01-01T00:00:00Z",
        code_version="0",
        network="fit",
        weights_sha256=weights,
        crops_sha256="0" * 64,
        data="drawn",
        seed=1,
        phenotypes=Phenotypes(
            names=("round", "spindle"),
            named_by="M. Curie",
            mean=to_base64(np.zeros(288, "<f4")),
            axes=to_base64(axes),
            centroids=to_base64(np.array([[0, 0], [9, 9]], "<f4")),
            d=288,
            limits=(3.0, 3.0),
            unlike_any=Metric(value=0.02),
            cells=(5, 4),
            stability=Metric(value=0.9),
            group_kind="flask",
        ),
    )


def test_phenotypes_of_the_same_network_ride_in_the_bundle(
    checkpoint: Path, tmp_path: Path
) -> None:
    write_model(phenotypes_of(weights_sha256(checkpoint / "model.safetensors")), tmp_path)
    path = tmp_path / "named.onnx"
    assert cli.main([str(checkpoint), "-o", str(path), *SAID, "--phenotypes", str(tmp_path)]) == 0
    card = load(str(path)).card
    assert card.phenotypes is not None and card.phenotypes.names == ("round", "spindle")
    lca = np.zeros((3, 288), np.float32)
    lca[:, :2] = [[0, 1], [8, 9], [4, 4]]
    assert Phenotyper(card.phenotypes, 288)(lca) == ["round", "spindle", "unlike any"]


def test_phenotypes_of_another_network_are_refused(
    checkpoint: Path, exported: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_model(phenotypes_of("f" * 64), tmp_path)
    out = tmp_path / "x.onnx"
    asked = ["-o", str(out), *SAID, "--phenotypes", str(tmp_path)]
    assert cli.main([str(checkpoint), *asked]) == 65
    assert "are of another network" in caplog.text and not out.exists()
    assert cli.main([str(exported), *asked, "--measure", str(tmp_path)]) == 2
    assert "belong to the checkpoint of a classifier" in caplog.text
