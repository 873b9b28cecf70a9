"""`parfocal-export BUNDLE --measure CROPS`: other flasks decide what a finished model may claim."""

import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from rigs import CLASSES

from parfocal.bundle import load
from parfocal.card import Confusion, DetectorRules, Seen
from parfocal.classify import OnnxClassifier
from parfocal.prepare import CROP_PX
from parfocal_export import cli
from parfocal_export.question import golden_crops
from parfocal_export.remeasure import with_card
from parfocal_export.sentences import completed
from parfocal_training import cropset
from parfocal_training.cropset import CropIndex, CropRow, CropRules, CropSet
from parfocal_training.dataset import Row

SAID = ("--name", "local", "--model-version", "2", "--licence", "CC0-1.0")
FLASKS, PER_FLASK = 12, 6


def flasks(um_per_px: float = 0.44, classes: tuple[str, ...] = CLASSES) -> CropSet:
    """Twelve flasks of drawn cells, each a little brighter than the one before."""
    n = FLASKS * PER_FLASK
    crops = golden_crops(n, CROP_PX, np.random.default_rng(4))
    rows = []
    for i in range(n):
        flask = i // PER_FLASK
        crops[i] = np.clip(crops[i].astype(int) + flask, 0, 255)
        image = Row(path=f"{flask}.png", cell_line=classes[flask % 2], flask=str(flask),
                    group=str(flask))  # fmt: skip
        rows.append(CropRow(image=image, sha256=f"{i:064d}", x_px=1.0, y_px=1.0))
    rules = CropRules(um_per_px=um_per_px, crop_px=CROP_PX, margin_px=0, flat_field_um=0.0,
                      detector=DetectorRules(name="external"))  # fmt: skip
    index = CropIndex(data="ours", classes=tuple(sorted(classes)), group_kind="flask",
                      rules=rules, rows=tuple(rows))  # fmt: skip
    return CropSet(crops, index)


def exported(bundle: Path, crop_set: CropSet, tmp_path: Path, *options: str) -> tuple[int, Path]:
    folder, out = tmp_path / "crops", tmp_path / "local.onnx"
    cropset.save(crop_set, folder)
    code = cli.main([str(bundle), "--measure", str(folder), "-o", str(out), *SAID, *options])
    return code, out


def test_the_weights_stay_and_the_card_is_that_of_the_other_flasks(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    before = load(str(tiny_bundle))
    code, out = exported(tiny_bundle, flasks(), tmp_path)
    assert code == 0
    after = load(str(out))
    graphs = [onnx.load_from_string(b.data).graph.SerializeToString() for b in (before, after)]
    assert graphs[0] == graphs[1]
    assert OnnxClassifier(after, "cpu").check_golden() < 1e-3
    card = after.card
    assert (card.name, card.version, card.classes) == ("local", "2", before.card.classes)
    assert card.training.data_sha256s == before.card.training.data_sha256s
    accuracy = card.training.metrics["accuracy"]
    assert accuracy.n == FLASKS * PER_FLASK
    assert "on 'ours', which it never saw, over 12 groups (flask)" in accuracy.how
    assert card.per_group is not None and len(card.per_group) == FLASKS
    assert card.shift is not None and card.shift.n_groups == FLASKS
    assert card.reliability is not None and len(card.novelty.scores) == FLASKS * PER_FLASK
    assert sum(map(sum, card.confusion.counts)) == FLASKS * PER_FLASK if card.confusion else False


def remade(bundle: Path, to: Path, **changes: object) -> Path:
    """The bundle with another card."""
    known = load(str(bundle))
    to.write_bytes(with_card(known.data, msgspec.structs.replace(known.card, **changes)))
    return to


MINE, UNFIT = "Drawn by hand.", "Anything but drawings."


def test_sentences_of_figures_are_made_anew_and_a_persons_are_kept(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = Confusion(counts=((5, 1), (0, 6)), groups=("f1", "f2"), group_kind="field")
    seen = Seen(cell_lines={"alpha": 5, "beta": 7}, groups=6, group_kind="flask", um_per_px=0.44,
                detector="external")  # fmt: skip
    old = completed(
        msgspec.structs.replace(
            load(str(tiny_bundle)).card, confusion=fields, seen=seen, caveats=(MINE,),
            not_for=(UNFIT,),
        )
    )  # fmt: skip
    assert any("left-out fields" in one for one in old.caveats)
    bundle = remade(tiny_bundle, tmp_path / "old.onnx", confusion=fields, seen=seen,
                    caveats=old.caveats, not_for=old.not_for)  # fmt: skip
    about = tmp_path / "about.toml"
    about.write_text('caveats = ["Six flasks of ours."]\nnot_for = ["Sundays."]\n')
    code, out = exported(bundle, flasks(), tmp_path, "--about", str(about))
    card = load(str(out)).card
    assert code == 0 and f"see that it still holds: {MINE}" in capsys.readouterr().out
    assert card.caveats[:2] == (MINE, "Six flasks of ours.")
    assert card.not_for is not None and card.not_for[:2] == (UNFIT, "Sundays.")
    told = " ".join((*card.caveats, *card.not_for))
    assert "field" not in told and "unmeasured" not in told
    assert "Trained on 12 crops from 6 groups (flask)." in card.caveats
    assert any(one.startswith("Diagnosis") for one in card.not_for)
    code, again = exported(out, flasks(), tmp_path)
    assert code == 0 and load(str(again)).card.caveats == card.caveats


def with_split(crop_set: CropSet, test: set[int]) -> CropSet:
    """The crops with these flasks set apart for the test."""
    rows = tuple(
        msgspec.structs.replace(
            row,
            image=msgspec.structs.replace(
                row.image, split="test" if int(row.image.group) in test else "train"
            ),
        )
        for row in crop_set.index.rows
    )
    return CropSet(crop_set.crops, msgspec.structs.replace(crop_set.index, rows=rows))


def test_images_that_are_set_apart_are_measured_alone(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crop_set = with_split(flasks(), {0, 1, 2, 3})
    training = msgspec.structs.replace(
        load(str(tiny_bundle)).card.training,
        data_sha256s=crop_set.for_training().sha256s,
    )  # fmt: skip
    bundle = remade(tiny_bundle, tmp_path / "fit.onnx", training=training)
    code, out = exported(bundle, crop_set, tmp_path)
    card = load(str(out)).card
    assert code == 0
    assert "measured on 24 crops of the test images of 'ours'" in capsys.readouterr().out
    assert card.confusion is not None and card.confusion.groups == ("0", "1", "2", "3")
    assert "the test images of 'ours', which it never saw" in card.training.metrics["accuracy"].how


def test_one_flask_of_a_line_is_no_measurement(
    tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code, out = exported(tiny_bundle, with_split(flasks(), {0, 1, 2}), tmp_path)
    assert code == 65 and not out.exists()
    assert "the crops of beta are of one flask: two of each line" in caplog.text


def test_about_can_leave_out_what_a_person_wrote_before(tiny_bundle: Path, tmp_path: Path) -> None:
    about = tmp_path / "about.toml"
    about.write_text("keep = false\n")
    before = load(str(tiny_bundle)).card.caveats
    _, out = exported(tiny_bundle, flasks(), tmp_path, "--about", str(about))
    assert before and not set(before) & set(load(str(out)).card.caveats)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("scale", "not cut as the model wants them (um_per_px 0.5 instead of 0.44)"),
        ("lines", "the crops are of A, B, the model tells apart alpha, beta"),
        ("trained", "2 of 72 images were trained on"),
    ],
)
def test_crops_that_cannot_measure_it_are_refused_in_a_sentence(
    tiny_bundle: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: str,
    said: str,
) -> None:
    crop_set = flasks(
        0.5 if change == "scale" else 0.44, ("A", "B") if change == "lines" else CLASSES
    )
    bundle = tiny_bundle
    if change == "trained":
        known = load(str(tiny_bundle))
        training = msgspec.structs.replace(known.card.training, data_sha256s=crop_set.sha256s[:2])
        bundle = remade(tiny_bundle, tmp_path / "knows.onnx", training=training)
    code, out = exported(bundle, crop_set, tmp_path)
    assert code == 65 and not out.exists()
    assert said in caplog.text


def test_what_is_no_bundle_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no model")
    code, out = exported(tmp_path / "no.onnx", flasks(), tmp_path)
    assert code == 65 and not out.exists()
    assert "is not a complete ONNX file" in caplog.text


def test_the_report_names_the_new_file(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cropset.save(flasks(), tmp_path / "crops")
    out = tmp_path / "local.onnx"
    command = [str(tiny_bundle), "--measure", str(tmp_path / "crops"), "-o", str(out), "--json"]
    assert cli.main([*command, *SAID]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["sha256"] == load(str(out)).sha256 and report["classes"] == list(CLASSES)
