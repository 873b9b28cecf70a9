"""`parfocal-train experiment unknown`: lines never seen stay unseen, their novelty is scored."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from parfocal.card import DetectorRules
from parfocal.prepare import CROP_PX
from parfocal_export.question import golden_crops
from parfocal_training import cropset
from parfocal_training.cli import main
from parfocal_training.cropset import CropIndex, CropRow, CropRules, CropSet
from parfocal_training.dataset import Row
from parfocal_training.errors import DataError
from parfocal_training.experiments.running import HeldOutResult, RunResult, trained
from parfocal_training.experiments.unknown import ALL_BUT_ONE, ALL_LINES, unknown
from parfocal_training.experiments.unknown_figures import MEAN, NONE, unknown_figures
from parfocal_training.experiments.unknown_scores import (
    SHIPPED,
    Scored,
    auroc,
    balanced,
    image_auroc,
    refused,
    voted,
)
from parfocal_training.recipe import FLASK

LINES = ("A", "B", "C")
QUICK = (
    "--recipe", "flask", "--set", "crops_seen=0", "augmentation.zoom=0", "--epochs", "1",
    "--batch", "8", "--devices", "cpu", "--jobs", "1",
)  # fmt: skip


def set_of(
    images: int = 3, cells: int = 2, flasks: int = 1, lines: tuple[str, ...] = LINES,
    drawn: bool = False,
) -> CropSet:  # fmt: skip
    """Flasks of each line with their images and cells; without drawing its pixels are empty."""
    rows = []
    for line in lines:
        for number in range(flasks):
            flask = f"{line}{number}"
            for i in range(images):
                image = Row(path=f"{flask}-{i}.png", cell_line=line, flask=flask, group=flask)
                rows += [CropRow(image=image, sha256=image.path, x_px=float(c), y_px=0.0)
                         for c in range(cells)]  # fmt: skip
    crops = np.zeros((len(rows), 1, 1), np.uint8)
    if drawn:
        crops = golden_crops(len(rows), CROP_PX, np.random.default_rng(3))
        crops[[row.image.cell_line == "B" for row in rows]] ^= 255
    rules = CropRules(
        um_per_px=0.5, crop_px=CROP_PX, margin_px=0, flat_field_um=0.0,
        detector=DetectorRules(name="external"),
    )  # fmt: skip
    index = CropIndex(data="drawn", classes=lines, group_kind="flask", rules=rules,
                      rows=tuple(rows))  # fmt: skip
    return CropSet(crops, index)


@pytest.mark.parametrize(("flasks", "held"), [(1, "{}0-2.png"), (2, "{}1")])
def test_a_network_never_sees_its_line_nor_what_is_held_out(flasks: int, held: str) -> None:
    crop_set = set_of(flasks=flasks)
    rows = crop_set.index.rows
    runs = unknown(crop_set, 2, 5)
    assert [run.name for run in runs[:4]] == ["all-1", "without-A-1", "without-B-1", "without-C-1"]
    assert len(runs) == 8 and {run.seed for run in runs} == {5, 6}
    last = [held.format(line) for line in LINES]  # the last flask, or the last image of the one
    is_held = [
        name in row.image.path for row in rows for name in [held.format(row.image.cell_line)]
    ]
    assert sum(is_held) == 2 * len(last) * (1 if flasks == 1 else 3)
    for run in runs:
        left_out = set(LINES) - set(run.classes)
        assert not any(is_held[i] or rows[i].image.cell_line in left_out for i in run.train)
        known, *strange = run.tests
        assert known.series == (ALL_BUT_ONE if left_out else ALL_LINES)
        assert all(is_held[i] for i in known.cells)
        assert {rows[i].image.cell_line for i in known.cells} == set(run.classes)
        assert [test.on for test in strange] == list(left_out)
        for test in strange:
            assert len(test.cells) == sum(row.image.cell_line in left_out for row in rows)
            assert set(run.labels(crop_set, test.cells)) == {-1}


def test_a_line_with_two_flasks_beside_one_with_one() -> None:
    whole = set_of(flasks=2)
    some = np.flatnonzero([row.image.group != "A1" for row in whole.index.rows])
    crop_set = whole.of(some)
    held = {crop_set.index.rows[i].image.path for i in unknown(crop_set, 1, 1)[0].tests[0].cells}
    assert held == {"A0-2.png", *(f"{flask}-{i}.png" for flask in ("B1", "C1") for i in range(3))}


@pytest.mark.parametrize(
    ("crop_set", "said"),
    [
        (set_of(lines=("A", "B")), r"2 cell line\(s\), A, B: .* needs 3"),
        (set_of(images=1), "A has cells of 1 image only"),
    ],
)
def test_what_the_experiment_lacks_is_named(crop_set: CropSet, said: str) -> None:
    with pytest.raises(DataError, match=said):
        unknown(crop_set, 1, 1)


def two_kinds(seed: int = 1) -> tuple[Scored, Scored]:
    """Known cells of units 0 to 3 and stranger ones of units 4 and 5, with ties."""
    rng = np.random.default_rng(seed)
    units, others = rng.integers(0, 4, 300), rng.integers(4, 6, 200)
    known = Scored(np.round(rng.normal(0, 1, 300), 1), units * 2, units)
    return known, Scored(np.round(rng.normal(1, 1, 200), 1), others * 2, others)


def test_auroc_of_drawn_units_is_that_of_cells_that_come_so_often() -> None:
    known, strange = two_kinds()
    weights = np.array([[1, 1, 1, 1, 0, 0], [0, 3, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], float)
    others = np.array([[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 2, 0], [0, 0, 0, 0, 1, 1]], float)
    areas = auroc(known, strange, weights, others)
    for sample in range(2):
        truth = np.repeat([0, 1], [len(known.units), len(strange.units)])
        often = np.concatenate([weights[sample, known.units], others[sample, strange.units]])
        score = np.concatenate([known.novelty, strange.novelty])
        assert areas[sample] == pytest.approx(roc_auc_score(truth, score, sample_weight=often))
    assert np.isnan(areas[2])  # nobody to compare with


def test_refused_are_those_above_what_19_in_20_known_cells_stay_below() -> None:
    known, strange = two_kinds()
    weights = np.array([[1, 1, 1, 1, 0, 0], [0, 3, 1, 0, 0, 0]], float)
    others = np.array([[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 2]], float)
    shares = refused(known, strange, weights, others)
    for sample in range(2):
        cells = np.sort(np.repeat(known.novelty, weights[sample, known.units].astype(int)))
        limit = cells[int(np.ceil(0.95 * len(cells))) - 1]
        asked = np.repeat(strange.novelty, others[sample, strange.units].astype(int))
        assert (cells > limit).mean() <= 0.05
        assert shares[sample] == pytest.approx((asked > limit).mean())


def test_balanced_accuracy_of_drawn_units_leaves_out_lines_that_were_not_drawn() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], [50, 20, 10])
    answers = np.where(rng.random(80) < 0.6, labels, 0)
    weights = np.array([[1, 1, 1], [2, 1, 0]], float)
    values = balanced(answers == labels, labels, labels, weights)
    assert values[0] == pytest.approx(balanced_accuracy_score(labels, answers))
    assert values[1] == pytest.approx(balanced_accuracy_score(labels[:70], answers[:70]))


def test_the_majority_of_an_image_decides_and_a_tie_the_probability() -> None:
    sure, unsure, wrong = (9.0, 0.0), (0.2, 0.0), (0.0, 2.0)
    logits = np.array([sure, wrong, wrong, sure, wrong, unsure, wrong])
    right, first = voted(logits, np.zeros(7, np.int64), np.array([0, 0, 0, 1, 1, 2, 2]))
    assert right.tolist() == [False, True, False]  # two of three; the surer one twice
    assert first.tolist() == [0, 3, 5]


def test_an_image_is_ranked_among_cells_of_other_images() -> None:
    known = Scored(np.array([1.0, 9.0, 2.0, 3.0]), np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))
    strange = Scored(np.array([2.5, 2.5]), np.array([2, 2]), np.array([2, 2]))
    every = np.array([[1.0, 1, 1]])
    # 1 and 9 among 2 and 3 have the mean rank 1/2, as 2.5 has: a tie. 2 and 3 among 1 and 9 too.
    assert image_auroc(known, strange, every, every) == pytest.approx([0.5])
    stranger = replace(strange, novelty=np.array([2.5, 4.0]))
    # among 2 and 3 its mean rank is 3/4, more than that of the first; among 1 and 9 still 1/2
    assert image_auroc(known, stranger, every, every) == pytest.approx([0.75])


def test_images_of_one_kind_are_told_apart_by_chance_only() -> None:
    rng, areas = np.random.default_rng(4), []
    weights, others = np.array([[1.0] * 5 + [0] * 3]), np.array([[0.0] * 5 + [1] * 3])
    for _ in range(200):
        images = np.repeat(np.arange(8), 6)
        novelty = rng.normal(0, 1, 8)[images] + rng.normal(0, 1, 48)
        known, strange = (Scored(novelty[some], images[some], images[some])
                          for some in (images < 5, images >= 5))  # fmt: skip
        areas.append(image_auroc(known, strange, weights, others)[0])
    assert np.mean(areas) == pytest.approx(0.5, abs=4 * np.std(areas) / 200**0.5)


def result_of(crop_set: CropSet, place: int, apart: float) -> RunResult:
    """The network without a line, to whose cells it gives this much greater distances."""
    run = unknown(crop_set, 1, 1)[place]
    tests = []
    for test in run.tests:
        labels = run.labels(crop_set, test.cells)
        logits = tuple(tuple(float(c == label) for c in range(len(run.classes)))
                       for label in labels)  # fmt: skip
        far = apart * (labels == -1) + np.arange(len(labels)) % 2
        tests.append(HeldOutResult(
            series=test.series, on=test.on, cells=tuple(map(int, test.cells)),
            labels=tuple(map(int, labels)), logits={"plain": logits},
            distances=tuple(map(float, far)),
        ))  # fmt: skip
    return RunResult(plan="", name=run.name, trained_on=run.trained_on, classes=run.classes,
                     n_train=1, training="", recipe="", seed=place, seconds=1, epochs_before=0,
                     history=(), tests=tuple(tests))  # fmt: skip


def test_figures_come_by_line_and_as_their_mean() -> None:
    crop_set = set_of(cells=10)
    results = [result_of(crop_set, place, apart) for place, apart in enumerate((0, 5, 0, 0))]
    every = {one.left_out: one for one in unknown_figures(results, crop_set, 1)}
    assert list(every) == [NONE, *LINES, MEAN]
    assert not every[NONE].novelty and every[NONE].classes == 3
    for line, area, share in (("A", 1, 1), ("B", 0.5, 0), ("C", 0.5, 0)):
        score = every[line].novelty[SHIPPED]
        assert score.cells.value == score.images.value == area and score.refused.value == share
        assert (score.cells.low, score.cells.high) == (area, area)  # all images are alike
        assert score.cells.n == 30 and score.images.n == 3
        assert every[line].cells.n == 20 and every[line].images.n == 2
    mean = every[MEAN].novelty[SHIPPED]
    assert mean.cells.value == pytest.approx(2 / 3) and mean.refused.value == pytest.approx(1 / 3)
    assert mean.cells.n == 90
    assert every[MEAN].cells.value == every[MEAN].images.value == 1


def test_pre_training_does_not_show_the_line_that_is_never_seen(tmp_path: Path) -> None:
    crop_set = set_of(images=2, cells=1, drawn=True)
    recipe = msgspec.structs.replace(FLASK, pretraining=3, crops_seen=0, epochs=1, batch=2)
    run, learned = unknown(crop_set, 1, 1)[1], []
    strange = crop_set.crops.copy()
    strange[[row.image.cell_line == "A" for row in crop_set.index.rows]] //= 2
    for number, crops in enumerate((crop_set.crops, strange)):
        given = replace(crop_set, crops=crops)
        progress = tmp_path / f"{number}.progress"
        model, *_ = trained(given, run, recipe, torch.device("cpu"), progress, "tag")
        learned.append(model.state_dict())
    for name, value in learned[0].items():
        assert torch.equal(value, learned[1][name]), name


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    cropset.save(set_of(images=2, cells=2, drawn=True), folder)
    return folder


@pytest.fixture(scope="module")
def finished(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("experiments") / "unknown"
    assert main(["experiment", "unknown", str(crops), "-o", str(out), *QUICK]) == 0
    return out


def test_the_experiment_writes_novelty_and_one_page(finished: Path) -> None:
    series = json.loads((finished / "figures.json").read_bytes())
    assert [(one["series"], one["n_tests"], one["n_units"]) for one in series] == [
        (ALL_LINES, 1, 3), (ALL_BUT_ONE, 3, 3),
    ]  # fmt: skip
    novelty = json.loads((finished / "novelty.json").read_bytes())
    assert [one["left_out"] for one in novelty] == [NONE, *LINES, MEAN]
    for one in novelty[1:]:
        assert set(one["novelty"]) == {SHIPPED, "1 - max softmax", "energy"}
        for score in one["novelty"].values():
            for metric in score.values():
                assert 0 <= metric["low"] <= metric["high"] <= 1
    page = (finished / "report.html").read_text()
    assert "Lines never seen" in page and "cannot be told apart here" in page
    assert "the last image of A, B, C, with one flask each" in page
    assert "http" not in page.split("</style>")[1]


def test_an_interrupted_experiment_measures_the_same_novelty(
    finished: Path, crops: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "plan.json").write_bytes((finished / "plan.json").read_bytes())
    for name in ("all-1", "without-A-1", "without-B-1"):
        kept = f"runs/{name}.json"
        (tmp_path / kept).write_bytes((finished / kept).read_bytes())
    command = ["experiment", "unknown", str(crops), "-o", str(tmp_path), *QUICK, "--resume"]
    assert main(command) == 0
    for name in ("figures.json", "novelty.json"):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()
