"""`parfocal-train fit`: checkpoints, resuming, left-out groups, and faults in one sentence."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from rigs import measured_card
from safetensors import safe_open

from parfocal.bundle import load
from parfocal.card import DetectorRules
from parfocal.prepare import CROP_PX
from parfocal_export.cli import main as export
from parfocal_export.question import golden_crops
from parfocal_export.sentences import not_for
from parfocal_training import cropset
from parfocal_training.checkpoint import read_checkpoint
from parfocal_training.cli import main
from parfocal_training.cropset import CropIndex, CropRow, CropRules, CropSet
from parfocal_training.dataset import Row
from parfocal_training.errors import UsageError
from parfocal_training.evaluate import measure
from parfocal_training.fit import Fit, Plan, frames_of
from parfocal_training.networks import trained_networks
from parfocal_training.recipe import FIELD, RECIPES, Recipe
from parfocal_training.seen import seen

PER_CLASS = 6
QUICK = ("--epochs", "1", "--folds", "2", "--precision", "f32", "--threads", "1", "--device", "cpu")


def drawn_set(margin_px: int = 0) -> CropSet:
    """Two classes of drawn cells, six each from three groups; the second class is brighter."""
    side = CROP_PX + 2 * margin_px
    crops = golden_crops(2 * PER_CLASS, side, np.random.default_rng(5))
    crops[PER_CLASS:] = 255 - crops[PER_CLASS:]
    rows = tuple(
        CropRow(
            image=Row(path=f"{i}.png", cell_line="AB"[i // PER_CLASS], group=f"g{i // 2}"),
            sha256=f"{i:064d}",
        )
        for i in range(2 * PER_CLASS)
    )
    rules = CropRules(
        um_per_px=0.5,
        crop_px=CROP_PX,
        margin_px=margin_px,
        flat_field_um=0.0,
        detector=DetectorRules(name="external"),
    )
    index = CropIndex(
        data="drawn",
        classes=("A", "B"),
        group_kind="field",
        rules=rules,
        rows=rows,
    )
    return CropSet(crops, index)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    cropset.save(drawn_set(), folder)
    return folder


@pytest.fixture(scope="module")
def finished(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fits") / "fit"
    assert main(["fit", str(crops), "-o", str(out), *QUICK]) == 0
    return out


def test_a_crop_set_survives_its_folder(tmp_path: Path) -> None:
    before = drawn_set(margin_px=2)
    cropset.save(before, tmp_path)
    after = cropset.load(tmp_path)
    np.testing.assert_array_equal(before.crops, after.crops)
    assert (after.groups, after.classes) == (before.groups, ("A", "B"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["crops.json", "crops.npy"]


def test_a_changed_crop_set_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cropset.save(drawn_set(), tmp_path)
    data = bytearray((tmp_path / "crops.npy").read_bytes())
    data[-1] ^= 1
    (tmp_path / "crops.npy").write_bytes(data)
    assert main(["fit", str(tmp_path), "-o", str(tmp_path / "out")]) == 65
    assert "is not the file that crops.json describes" in caplog.text


def test_a_finished_fit_holds_a_checkpoint_measured_on_left_out_groups(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "plan.json", "runs", "out-of-fold.safetensors", "curves.png", "reliability.png",
        "model.safetensors",
        "checkpoint.json",
    }  # fmt: skip
    done, model = read_checkpoint(finished)
    assert (done.classes, model.config.classes) == (("A", "B"), 2)
    assert (done.pixels.um_per_px, sum(done.pixels.reference)) == (0.5, 224 * 224)
    assert done.measured.confusion is not None
    assert sum(map(sum, done.measured.confusion.counts)) == 2 * PER_CLASS
    assert len(done.novelty.scores) == 2 * PER_CLASS
    assert (finished / "reliability.png").read_bytes()[:4] == b"\x89PNG"


def test_a_model_says_what_it_has_seen_and_what_it_is_not_for(
    finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.onnx"
    said = ["--name", "m", "--model-version", "1", "--licence", "CC0-1.0"]
    assert export([str(finished), "-o", str(out), *said]) == 0
    shown = load(str(out)).card
    assert shown.seen is not None and shown.seen.cell_lines == {"A": 6, "B": 6}
    assert (shown.seen.groups, shown.seen.densities, shown.seen.simulated) == (6, {}, None)
    assert shown.per_group is not None and len(shown.per_group) == 6
    assert shown.abstention.guaranteed is False
    assert any("not on left-out flasks" in caveat for caveat in shown.caveats)
    assert "Trained on 12 crops from 6 groups (field)." in shown.caveats
    assert shown.not_for is not None
    text = " ".join(shown.not_for)
    assert "Cell lines other than A and B" in text
    assert "densities, passages and days matter" in text
    assert "only fields were left out" in text


def test_a_fit_knows_the_crops_that_it_was_trained_on(finished: Path, crops: Path) -> None:
    (network,) = trained_networks(finished)
    mine = cropset.load(crops)
    assert network.knows(mine)
    assert not network.knows(mine.of(np.arange(3)))
    replace = msgspec.structs.replace
    kept = replace(mine.index.rows[0], image=replace(mine.index.rows[0].image, split="test"))
    index = replace(mine.index, rows=(*mine.index.rows, kept))
    with_test = CropSet(np.concatenate([mine.crops, mine.crops[:1]]), index)
    assert network.knows(with_test)


def described(number: int, density: str, passage: str) -> CropRow:
    image = Row(
        path=f"sim-{number}.png", cell_line="AB"[number % 2], group=f"F{number}", density=density,
        passage=passage, pair="1",
    )  # fmt: skip
    return CropRow(image=image, sha256="0", x_px=1.0, y_px=1.0)


def test_what_was_seen_is_counted_in_order_and_bounds_the_use() -> None:
    said = (("0.25", "9"), ("0.8", "10"), ("0.5", "9"))
    rows = tuple(described(i, d, p) for i, (d, p) in enumerate(said))
    index = msgspec.structs.replace(drawn_set().index, rows=rows, group_kind="flask")
    crops = CropSet(np.zeros((3, CROP_PX, CROP_PX), np.uint8), index)
    known = seen(crops)
    assert list(known.densities.items()) == [("0.25", 1), ("0.5", 1), ("0.8", 1)]
    assert list(known.passages.items()) == [("9", 2), ("10", 1)]
    assert (known.pairs, known.simulated, known.detector) == ({"1": 3}, True, "external")
    assert known.groups_of_lines == {"A": 2, "B": 1}
    text = " ".join(not_for(measured_card(measure(None, "flask", 0), seen=known)))
    for sentence in (
        "Cells at densities that were not seen (0.25 to 0.8 were).",
        "Cells at passages that were not seen (9, 10 were).",
        "Claims about how days matter",
        "every training cell was simulated",
        "Claims about B beyond the one flask it was trained on.",
    ):
        assert sentence in text
    assert "nothing was left out to measure it" in text
    assert frames_of(crops, np.array([2, 0])) == ("sim-2.png", "sim-0.png")
    assert frames_of(drawn_set(), np.array([0])) == ()


def test_no_group_is_in_two_folds(finished: Path) -> None:
    with safe_open(finished / "out-of-fold.safetensors", "np") as file:
        folds, groups = file.get_tensor("folds"), json.loads(file.metadata()["groups"])
    assert len(groups) == 2 * PER_CLASS
    for name in set(groups):
        assert len({int(f) for f, g in zip(folds, groups, strict=True) if g == name}) == 1


def plan_of(crops: CropSet, epochs: int, folds: int, base: Recipe = FIELD) -> Plan:
    recipe = msgspec.structs.replace(base, epochs=epochs, precision="f32", batch=4)
    return Plan(
        code_version="0",
        recipe=recipe,
        seed=1,
        fold_seed=0,
        folds=folds,
        classes=crops.classes,
        crops_sha256=crops.digest,
        device="cpu",
    )


def new_fit(folder: Path, crops: CropSet, plan: Plan) -> Fit:
    return Fit(crops, folder, plan, torch.device("cpu"), lambda: datetime(2026, 1, 1, tzinfo=UTC))


def test_a_resumed_fit_ends_bit_for_bit_as_an_unbroken_one(tmp_path: Path) -> None:
    crops = drawn_set(margin_px=4)
    small = msgspec.structs.replace(FIELD, network="compact")
    plan = plan_of(crops, epochs=2, folds=2, base=small)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for _ in new_fit(whole, crops, plan).run(resume=False):
        pass
    running = new_fit(broken, crops, plan).run(resume=False)
    for _ in range(3):  # all of fold 1, half of fold 2
        next(running)
    running.close()
    seen = [part.name for part, _ in new_fit(broken, crops, plan).run(resume=True)]
    assert seen == ["fold-2", "final", "final"]
    for name in ("model.safetensors", "out-of-fold.safetensors", "checkpoint.json"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()


BOTH_LABELS = msgspec.structs.replace(RECIPES["selflabel"], batch=4, self_labels=0.5)


@pytest.mark.parametrize("base", [RECIPES["paper"], BOTH_LABELS], ids=["paper", "self-labels too"])
def test_other_recipes_resume_as_well(tmp_path: Path, base: Recipe) -> None:
    crops = drawn_set()
    plan = plan_of(crops, epochs=2, folds=0, base=base)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for _ in new_fit(whole, crops, plan).run(resume=False):
        pass
    running = new_fit(broken, crops, plan).run(resume=False)
    next(running)
    running.close()
    assert [epoch.number for _, epoch in new_fit(broken, crops, plan).run(resume=True)] == [2]
    name = "model.safetensors"
    assert (whole / name).read_bytes() == (broken / name).read_bytes()
    # nothing was left out, yet a bundle needs to know what is usual
    scores = read_checkpoint(whole)[0].novelty.scores
    assert len(scores) == len(crops) and scores == tuple(sorted(scores))


def test_other_options_cannot_go_on_with_a_fit(tmp_path: Path) -> None:
    crops = drawn_set()
    next(new_fit(tmp_path, crops, plan_of(crops, epochs=2, folds=0)).run(resume=False))
    other = new_fit(tmp_path, crops, plan_of(crops, epochs=3, folds=0))
    with pytest.raises(UsageError, match="begun with other data or options"):
        next(other.run(resume=True))
    relabelled = CropSet(
        crops.crops, msgspec.structs.replace(crops.index, rows=crops.index.rows[::-1])
    )
    same_options = new_fit(tmp_path, relabelled, plan_of(relabelled, epochs=2, folds=0))
    with pytest.raises(UsageError, match="begun with other data or options"):
        next(same_options.run(resume=True))
    with pytest.raises(UsageError, match="is not empty"):
        next(other.run(resume=False))


def test_a_damaged_progress_file_is_one_sentence(
    crops: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded, quick = cropset.load(crops), ["--folds", "0", "--epochs", "1", "--device", "cpu"]
    assert len(loaded) == 2 * PER_CLASS
    assert main(["fit", str(crops), "-o", str(tmp_path / "fit"), *quick]) == 0
    last = tmp_path / "fit" / "runs" / "final" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:1000])
    caplog.clear()
    assert main(["fit", str(crops), "-o", str(tmp_path / "fit"), *quick, "--resume"]) == 65
    assert "is damaged" in caplog.text
    assert "delete it to train that part again" in caplog.text
    assert caplog.text.count("\n") == 1


def test_json_is_all_that_reaches_stdout(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "fit")
    assert main(["fit", str(crops), "-o", out, "--json", "--epochs", "1", "--folds", "0"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["epoch"]["number"] == 1
    assert lines[-1] == {"out": out, "classes": ["A", "B"], "metrics": {}}


def test_crops_kept_for_a_later_test_are_not_trained_on() -> None:
    crops = drawn_set()
    rows = tuple(
        msgspec.structs.replace(row, image=msgspec.structs.replace(row.image, split="test"))
        if row.image.group == "g0"
        else row
        for row in crops.index.rows
    )
    marked = CropSet(crops.crops, msgspec.structs.replace(crops.index, rows=rows))
    assert set(marked.for_training().groups) == {"g1", "g2", "g3", "g4", "g5"}


FAULTS = [
    (["--folds", "1"], 2, "--folds 1 leaves nothing to train on"),
    (["--folds", "7"], 65, "7 folds need 7 groups, there are 6: give --folds 6"),
    (["--device", "cuda"], 2, "this PyTorch finds no CUDA device"),
]


@pytest.mark.parametrize(("options", "code", "sentence"), FAULTS)
def test_a_fault_is_one_sentence_with_its_exit_code(
    crops: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    options: list[str],
    code: int,
    sentence: str,
) -> None:
    if "cuda" in options and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert main(["fit", str(crops), "-o", str(tmp_path / "fit"), *options]) == code
    assert sentence in caplog.text


def test_no_crops_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["fit", str(tmp_path), "-o", str(tmp_path / "fit")]) == 65
    assert "make them with parfocal-train crops" in caplog.text


def test_ctrl_c_keeps_the_checkpoint(crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "fit"
    code = "from parfocal_training.cli import main; raise SystemExit(main())"
    options = [
        "fit",
        str(crops),
        "-o",
        str(out),
        "--folds",
        "0",
        "--epochs",
        "500",
        "--threads",
        "1",
    ]
    with subprocess.Popen(
        [sys.executable, "-c", code, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        last = out / "runs" / "final" / "last.safetensors"
        while not last.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"--resume" in said
    with safe_open(last, "pt") as file:
        assert "parfocal.progress" in file.metadata()


@pytest.mark.parametrize(("command", "resumes"), [("fit", True), ("pca", False)])
def test_only_what_can_be_resumed_promises_it(
    crops: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    command: str,
    resumes: bool,
) -> None:
    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("parfocal_training.cropset.load", interrupted)
    assert main([command, str(crops), "-o", str(tmp_path / "out")]) == 130
    assert "interrupted" in caplog.text and ("--resume" in caplog.text) == resumes


def no_memory() -> None:
    raise MemoryError


def no_gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 1 GiB")


@pytest.mark.parametrize(
    ("grows", "said"),
    [
        (no_memory, "out of memory: free some"),
        (no_gpu_memory, "(20.00 GiB more were asked for)"),
        (lambda: torch.empty(10**15), "(4000000000000000 bytes more were asked for)"),
        (lambda: np.empty(10**15), "(7.11 PiB more were asked for)"),
    ],
)
def test_out_of_memory_is_one_sentence(
    crops: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    grows: Callable[[], object],
    said: str,
) -> None:
    monkeypatch.setattr("parfocal_training.cropset.load", lambda _: grows())
    assert main(["fit", str(crops), "-o", str(tmp_path / "out")]) == 71
    assert said in caplog.text and len(caplog.records) == 1


def test_a_fault_of_the_program_is_not_called_one_of_memory(
    crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parfocal_training.cropset.load", lambda _: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError):
        main(["fit", str(crops), "-o", str(tmp_path / "out")])


def test_the_papers_recipe_is_the_papers() -> None:
    paper = RECIPES["paper"]
    assert {paper.learning_rate_at(x / 10) for x in range(11)} == {1e-3}
    assert (paper.batch_of(1000), paper.epochs, paper.weight_decay) == (50, 100, 0.005)
    assert not paper.augmentation.flips


def test_the_one_cycle_rises_and_ends_at_nothing() -> None:
    rates = [FIELD.learning_rate_at(x / 100) for x in range(101)]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(FIELD.learning_rate)
    assert rates[100] == pytest.approx(0)
