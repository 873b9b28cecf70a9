"""`parfocal-train experiment`: designs never leak, runs resume, the report says what was done."""

import html
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from parfocal.card import DetectorRules
from parfocal.normalize import Reference
from parfocal.prepare import CROP_PX
from parfocal_export.question import golden_crops
from parfocal_training import adapt, cropset
from parfocal_training.adapt import answers, with_statistics_of
from parfocal_training.cli import main
from parfocal_training.cropset import CropIndex, CropRow, CropRules, CropSet
from parfocal_training.dataset import Row
from parfocal_training.errors import DataError
from parfocal_training.experiments import designs
from parfocal_training.experiments.catalogue import EXPERIMENTS, unit_name, units
from parfocal_training.experiments.designs import Run
from parfocal_training.experiments.newflask import METHODS, TOGETHER, WORK, new_flask
from parfocal_training.experiments.running import HeldOutResult, RunResult
from parfocal_training.experiments.summary import figures
from parfocal_training.model import ConvNet, ConvNetConfig, initialized, smaller
from parfocal_training.normalize import normalize_batch
from parfocal_training.pretraining import pretrain
from parfocal_training.recipe import FLASK
from parfocal_training.train import Epoch, Labelled, begin

LINES = ("A", "B")
QUICK = (
    "--recipe", "flask", "--set", "crops_seen=0", "augmentation.zoom=0", "--epochs", "1",
    "--batch", "8", "--repeats", "1", "--devices", "cpu",
)  # fmt: skip


def rows_of(pairs: int, fields: int, cells: int = 1, paired: bool = True) -> list[CropRow]:
    """Flasks of two lines: `pairs` of each, their fields, and cells in every field."""
    out = []
    for pair in range(pairs):
        for line in LINES:
            flask = f"{line}{pair}"
            for i in range(fields):
                image = Row(
                    path=f"{flask}-{i}.png", cell_line=line, flask=flask, group=flask,
                    pair=str(pair) if paired else "", density=("low", "high")[pair % 2],
                    passage=("5", "20")[pair // 2 % 2],
                )  # fmt: skip
                out += [CropRow(image=image, sha256=f"{flask}{i}", x_px=float(c), y_px=0.0)
                        for c in range(cells)]  # fmt: skip
    return out


def set_of(rows: list[CropRow], drawn: bool = False) -> CropSet:
    """A crop set of these rows; without drawing its pixels are empty."""
    crops = np.zeros((len(rows), 1, 1), np.uint8)
    if drawn:
        crops = golden_crops(len(rows), CROP_PX, np.random.default_rng(3))
        crops[[row.image.cell_line == "B" for row in rows]] ^= 255
    rules = CropRules(
        um_per_px=0.5, crop_px=CROP_PX, margin_px=0, flat_field_um=0.0,
        detector=DetectorRules(name="external"),
    )  # fmt: skip
    index = CropIndex(data="drawn", classes=LINES, group_kind="flask", rules=rules,
                      rows=tuple(rows))  # fmt: skip
    return CropSet(crops, index)


def flasks(crop_set: CropSet, cells: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> set[str]:
    return {crop_set.index.rows[i].image.flask for i in cells}


def test_cross_trains_on_every_pool_and_tests_on_pairs_outside_it() -> None:
    crop_set = set_of(rows_of(4, 2))
    runs = designs.cross(crop_set, 1, seed=0)
    counts = dict.fromkeys((1, 2, 3), 0)
    for run in runs:
        for test in run.tests:
            counts[int(test.series[0])] += 1
            assert not flasks(crop_set, run.train) & flasks(crop_set, test.cells)
    assert counts == {1: 12, 2: 12, 3: 4}  # the paper's runs
    assert len(runs) == 4 + 6 + 4 and len({run.name for run in runs}) == 14


@pytest.mark.parametrize("design", [designs.within, designs.same_type])
def test_a_split_inside_a_flask_never_divides_a_field(design: object) -> None:
    crop_set = set_of(rows_of(2, 5, cells=3))
    runs = design(crop_set, 3, 1)  # type: ignore[operator]
    rows = crop_set.index.rows
    assert len(runs) == 2 * 3
    for run in runs:
        (test,) = run.tests
        sides = [{rows[i].image.path for i in cells} for cells in (run.train, test.cells)]
        assert not sides[0] & sides[1]
        for cells in (run.train, test.cells):
            assert set(run.labels(crop_set, cells)) == {0, 1}
        assert len(test.cells) == 2 * 3  # a fifth of five fields of each class
    first, second = (set(run.tests[0].cells) for run in runs[:2])
    assert first != second  # every repeat draws anew


def test_splitting_cells_as_the_paper_did_divides_fields() -> None:
    crop_set = set_of(rows_of(1, 2, cells=10))
    (run,) = designs.within(crop_set, 1, 1, split="crop")
    rows = crop_set.index.rows
    assert {rows[i].image.path for i in run.train} & {
        rows[i].image.path for i in run.tests[0].cells
    }


def test_same_type_tells_flasks_of_one_line_apart() -> None:
    crop_set = set_of(rows_of(2, 5))
    for run in designs.same_type(crop_set, 1, 1):
        assert run.target == "flask"
        line = {crop_set.index.rows[i].image.cell_line for i in run.train}
        assert len(line) == 1 and set(run.classes) == flasks(crop_set, run.train)


def test_density_tests_only_flasks_that_were_not_trained_on() -> None:
    crop_set = set_of(rows_of(8, 2))
    runs = designs.density(crop_set, 2, 1)
    assert len(runs) == 2 * (4 + 2)  # four conditions and two mixed ones, twice
    for run in runs:
        trained = flasks(crop_set, run.train)
        for test in run.tests:
            assert not trained & flasks(crop_set, test.cells)
        assert len(run.tests) == 4
        if run.trained_on.startswith("mixed"):
            words = {crop_set.index.rows[i].image.density for i in run.train}
            assert words == {"low", "high"}


def test_pools_grow_and_never_hold_the_pair_that_is_tested() -> None:
    crop_set = set_of(rows_of(4, 2, paired=False))  # pairs are made by density and passage
    runs = designs.pooled(crop_set, 2, 1)
    for repeat in "12":
        mine = [run for run in runs if run.name.endswith(f"-{repeat}")]
        sizes = [len(flasks(crop_set, run.train)) for run in mine]
        assert sizes == [2, 4, 6]
        for fewer, more in itertools.pairwise(mine):
            assert set(fewer.train) < set(more.train)
        assert all(not set(run.train) & set(run.tests[0].cells) for run in mine)


def test_the_benchmark_of_new_flasks_trains_every_method_on_the_same_cells() -> None:
    crop_set = set_of(rows_of(4, 2))
    runs = new_flask(crop_set, 1, 1)
    by_method: dict[str, list[bytes]] = {}
    for run in runs:
        by_method.setdefault(run.tests[0].series, []).append(run.train.tobytes())
        assert run.recipe is not None and run.tests[0].series in run.trained_on
    singles = [by_method[recipe.name] for recipe in METHODS]
    assert all(set(one) == set(singles[0]) for one in singles)
    assert {len(one) for one in singles} == {4, 4 * TOGETHER}
    assert len(by_method) == len(METHODS) + 1  # and the pools of three
    assert len({run.file_name for run in runs}) == len(runs)


@pytest.mark.parametrize(
    ("rows", "design", "said"),
    [
        (rows_of(1, 3), "cross", "1 pair of flasks leaves none to test on"),
        (rows_of(2, 1), "within", "an 80/20 split needs two"),
        (rows_of(1, 3), "same_type", "needs two flasks of one cell line"),
        (
            [row for row in rows_of(2, 2) if row.image.flask != "B1"],
            "cross",
            "pair 1 has no B: mend the column pair",
        ),
        (
            [row for row in rows_of(2, 2, paired=False) if row.image.flask != "B1"],
            "within",
            "pair high-p5-1 has no B: without a column pair",
        ),
        (
            rows_of(2, 2)[:6] + rows_of(2, 2, paired=False)[6:],
            "within",
            r"column pair .* 2 have none \(first: 'B1-0.png'\)",
        ),
        (
            [row for row in rows_of(4, 2) if row.image.cell_line == "A"],
            "pooled",
            "no cell of B can be trained on",
        ),
    ],
)
def test_what_an_experiment_lacks_is_named(rows: list[CropRow], design: str, said: str) -> None:
    crop_set = set_of(rows)
    with pytest.raises(DataError, match=said):
        getattr(designs, design)(crop_set, 1, 1)


@pytest.mark.parametrize("design", ["within", "cross", "pooled", "density"])
def test_one_line_alone_cannot_be_told_apart(design: str) -> None:
    crop_set = set_of([row for row in rows_of(8, 4) if row.image.cell_line == "A"])
    alone = replace(crop_set, index=msgspec.structs.replace(crop_set.index, classes=("A",)))
    with pytest.raises(DataError, match=r"1 cell line\(s\), A: "):
        getattr(designs, design)(alone, 1, 1)


def test_flasks_without_the_column_pair_are_told_apart_pair_by_pair() -> None:
    runs = designs.within(set_of(rows_of(4, 5, paired=False)), 1, 1)
    assert [run.trained_on for run in runs] == [
        "pair low-p5-1", "pair high-p5-1", "pair low-p20-1", "pair high-p20-1",
    ]  # fmt: skip


def test_the_name_of_a_file_may_hold_what_the_name_of_a_flask_holds() -> None:
    rows = [
        msgspec.structs.replace(row, image=msgspec.structs.replace(row.image, pair="NIH/3T3 | 1"))
        for row in rows_of(1, 5)
    ]
    (run,) = designs.within(set_of(rows), 1, 1)
    assert run.name == "pair NIH/3T3 | 1 1" and run.file_name == "pair NIH%2F3T3 %7C 1 1"


def test_a_missing_column_is_named_with_its_images() -> None:
    rows = [
        msgspec.structs.replace(row, image=msgspec.structs.replace(row.image, passage=""))
        for row in rows_of(4, 2)
    ]
    with pytest.raises(DataError, match=r"column passage .* 16 have none \(first: 'A0-0.png'\)"):
        designs.density(set_of(rows), 1, 1)


def ready(fields: bool) -> CropSet:
    """Ready crops of one pair of flasks, an image each, with or without their field."""
    rows = []
    for row in rows_of(1, 10):
        number = row.image.path[3:-4]
        image = msgspec.structs.replace(row.image, field=f"f{int(number) // 2}" if fields else "")
        rows.append(msgspec.structs.replace(row, image=image, x_px=None, y_px=None))
    return set_of(rows)


def test_ready_crops_without_a_field_are_called_cells() -> None:
    within = EXPERIMENTS["within"]
    for fields, unit, n_units in ((True, "field", 2), (False, "cell", 4)):
        crop_set = ready(fields)
        (run,) = designs.within(crop_set, 1, 1)
        assert run.tests[0].on == f"left-out {unit}s" and unit_name(within, crop_set) == unit
        results = result_of(1, 1.0, tuple(map(int, run.tests[0].cells)))
        (one,) = figures(results, crop_set, 1, units(within, crop_set))
        assert one.frame_accuracy is None and one.n_units == n_units


def test_only_experiments_that_split_flasks_ask_what_to_split(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [str(crops), "-o", str(tmp_path / "x"), *QUICK, "--plan-only", "--split", "crop"]
    assert main(["experiment", "within", *more]) == 0
    with pytest.raises(SystemExit):
        main(["experiment", "cross", *more])
    assert "unrecognized arguments: --split crop" in capsys.readouterr().err


def result_of(runs: int, right: float, cells: tuple[int, ...]) -> list[RunResult]:
    """Runs that answer this share of the same cells rightly."""
    n = round(right * len(cells))
    logits = tuple((1.0, 0.0) if i < n else (0.0, 1.0) for i in range(len(cells)))
    test = HeldOutResult(series="s", on="p", cells=cells, labels=(0,) * len(cells),
                      logits={"plain": logits})  # fmt: skip
    epoch = Epoch(1, 1, 0.5, 0.5, None, None)
    return [
        RunResult(plan="", name=str(i), trained_on="t", classes=LINES, n_train=1, training="",
                  recipe="", seed=i, seconds=1, epochs_before=0, history=(epoch,), tests=(test,))
        for i in range(runs)
    ]  # fmt: skip


def test_repeats_on_the_same_flasks_do_not_pass_for_more_flasks() -> None:
    crop_set = set_of(rows_of(5, 4, cells=2))
    cells = tuple(range(0, len(crop_set), 2))
    spans = []
    for repeats in (1, 10):
        one = figures(result_of(repeats, 0.7, cells), crop_set, 1, crop_set.groups)[0]
        assert one.accuracy == pytest.approx(0.7) and one.n_units == 10
        assert one.n_tests == repeats and one.n_cells == len(cells)
        spans.append(one.high - one.low)
    assert spans[1] == pytest.approx(spans[0])
    assert spans[0] > 0.3  # ten flasks, some all right and some all wrong


def test_networks_trained_alike_are_also_asked_together() -> None:
    crop_set, cells = set_of(rows_of(2, 4)), (0, 1, 2, 3)
    sure, wrong = (3.0, 0.0), (0.0, 0.5)  # two of three are wrong, the one that is right is surer
    results = []
    for number, logits in enumerate((sure, wrong, wrong)):
        (one,) = result_of(1, 1.0, cells)
        test = msgspec.structs.replace(one.tests[0], logits={"plain": (logits,) * 4})
        results.append(msgspec.structs.replace(one, seed=number, tests=(test,)))
    alone, as_one = figures(results, crop_set, 1, crop_set.groups)
    assert alone.variant == "plain" and alone.accuracy == pytest.approx(1 / 3)
    assert as_one.variant == "plain, mean of 3 networks" and as_one.accuracy == 1
    assert as_one.n_tests == 1 and as_one.n_cells == 4
    results[0] = msgspec.structs.replace(results[0], training="of other cells")
    assert len(figures(results, crop_set, 1, crop_set.groups)) == 1


def test_an_interval_over_units_needs_no_cell_to_be_independent() -> None:
    crop_set = set_of(rows_of(1, 1, cells=50))
    (one,) = figures(result_of(1, 0.5, tuple(range(50))), crop_set, 1, crop_set.groups)
    assert (one.low, one.high) == (
        0.5,
        0.5,
    ) and one.n_units == 1  # one flask says nothing of others
    assert one.paper_high - one.paper_low > 0.2


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    cropset.save(set_of(rows_of(2, 4), drawn=True), folder)
    return folder


@pytest.fixture(scope="module")
def finished(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("experiments") / "cross"
    code = main(["experiment", "cross", str(crops), "-o", str(out), *QUICK, "--jobs", "1",
                 "--answer", "plain", "with-control"])  # fmt: skip
    assert code == 0
    return out


def test_an_experiment_writes_figures_and_one_page(finished: Path) -> None:
    figures = json.loads((finished / "figures.json").read_bytes())
    assert [(one["series"], one["variant"]) for one in figures] == [
        ("1 of 2 pairs", "plain"), ("1 of 2 pairs", "with-control"),
    ]  # fmt: skip
    for one in figures:
        assert one["n_tests"] == 2 and one["n_cells"] == 16 and one["n_units"] == 4
        assert 0 <= one["low"] <= one["accuracy"] <= one["high"] <= 1
        assert one["paper"] == 0.7 and one["paper_words"] == "about 70 % or less"
    page = (finished / "report.html").read_text()
    assert "about 70 % or less from one pair" in page and "Log of the runs" in page
    assert "Every test as a dot" in page and "recipe flask, seed 1, tested on" in page
    assert 'src="data:image/png' in page and "http" not in page.split("</style>")[1]


def test_an_interrupted_experiment_goes_on_and_gives_the_same_figures(
    finished: Path, crops: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    (again / "runs").mkdir(parents=True)
    (again / "plan.json").write_bytes((finished / "plan.json").read_bytes())
    kept = sorted((finished / "runs").iterdir())[0]
    (again / "runs" / kept.name).write_bytes(kept.read_bytes())
    command = ["experiment", "cross", str(crops), *QUICK, "--answer", "plain", "with-control"]
    assert main([*command, "-o", str(again), "--jobs", "1"]) == 2  # not without --resume
    assert main([*command, "-o", str(again), "--jobs", "1", "--resume"]) == 0
    assert (again / "figures.json").read_bytes() == (finished / "figures.json").read_bytes()


def test_repeats_of_a_training_are_reported_one_by_one_and_together(
    crops: Path, tmp_path: Path
) -> None:
    command = ["experiment", "new-flask", str(crops), "-o", str(tmp_path), "--devices", "cpu"]
    assert main([*command, "--jobs", "1", "--set", "crops_seen=8", "pretraining=0"]) == 0
    figures = json.loads((tmp_path / "figures.json").read_bytes())
    named = {(one["series"], one["variant"]): one["n_tests"] for one in figures}
    assert named["plain", "plain"] == 2 * TOGETHER
    assert named["plain", "plain, mean of 3 networks"] == 2
    assert len(named) == len(METHODS) + 1
    page = html.unescape((tmp_path / "report.html").read_text())
    assert "Every setting in which they differ" in page and "mix_statistics</th>" in page
    for recipe in METHODS:
        assert f"recipe {recipe.name}, seed 1" in page


def test_results_of_other_settings_are_refused(
    finished: Path, crops: Path, caplog: pytest.LogCaptureFixture
) -> None:
    command = ["experiment", "cross", str(crops), "-o", str(finished), *QUICK, "--resume"]
    assert main([*command, "--seed", "2", "--jobs", "1"]) == 2
    assert "was begun with other data or options" in caplog.text


@pytest.mark.timeout(180)  # several processes that each import PyTorch
def test_two_processes_give_what_one_gives(finished: Path, crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "two"
    code = "import sys; from parfocal_training.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ["experiment", "cross", str(crops), "-o", str(out), *QUICK, "--jobs", "2"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--answer", "plain", "with-control"],
        capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (out / "figures.json").read_bytes() == (finished / "figures.json").read_bytes()


def test_a_plan_is_printed_before_anything_is_trained(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "never"
    command = ["experiment", "within", str(crops), "-o", str(out), *QUICK, "--plan-only", "--json"]
    assert main(command) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["networks"] == 2 and plan["tests"] == 2
    assert plan["crop_steps"] == 2 * 6 and plan["seconds"] > 0
    assert plan["crops_answered"] == 2 * (2 + 2)  # once after the epoch, once as a test
    assert main([*command, "--answer", "turned"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["crops_answered"] == 2 * (2 + 8 * 2)
    assert not out.exists()


def test_what_is_done_already_costs_nothing(
    finished: Path, crops: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["experiment", "cross", str(crops), "-o", str(finished), *QUICK, "--json"]
    for more, networks in ([], 2), (["--resume"], 0):
        assert main([*command, "--plan-only", *more]) == 0
        assert json.loads(capsys.readouterr().out)["plan"]["networks"] == networks


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("augmentation.zom=1", "a recipe has no 'augmentation.zom'"),
        ("network=huge", "cannot be used"),
        ("surroundings=2", "<= 1.0 - at `$.surroundings`"),
        ("surroundings=nan", ">= 0.0 - at `$.surroundings`"),
        ("zoom=0.2", "a recipe has no 'zoom'"),
    ],
)
def test_a_wrong_change_of_the_recipe_is_named(
    crops: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, setting: str, said: str
) -> None:
    command = ["experiment", "within", str(crops), "-o", str(tmp_path / "x"), "--set", setting]
    assert main(command) == 2
    assert said in caplog.text


def test_recipes_of_methods_are_changed_not_chosen(
    crops: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    command = ["experiment", "new-flask", str(crops), "-o", str(tmp_path / "x"), "--devices", "cpu"]
    costs = []
    light = ["--set", "network=coarse", "vary=view"]
    for more in (light, [*light, "crops_seen=20", "pretraining=0"], [*light, "--epochs", "1"]):
        assert main([*command, "--plan-only", "--json", *more]) == 0
        costs.append(json.loads(capsys.readouterr().out)["plan"]["crop_steps"])
    networks = 2 * (len(METHODS) - 1 + TOGETHER)  # from either pair, 8 crops each
    assert costs[1] == networks * 16 and costs[2] == networks * 8 + 4 * WORK < costs[0]
    assert main([*command, "--recipe", "field"]) == 2
    assert "compares recipes of its own: leave out --recipe field" in caplog.text


def small_network() -> tuple[ConvNet, Labelled, Reference]:
    crop_set = set_of(rows_of(1, 4), drawn=True)
    model = initialized(smaller(ConvNetConfig(classes=2), 2), seed=1)
    asked = Labelled.on(torch.device("cpu"), crop_set, crop_set.labels)
    return model, asked, Reference.of(crop_set.crops[0])


def test_turned_answers_do_not_depend_on_how_a_cell_lies() -> None:
    model, asked, reference = small_network()
    upright = answers(model, asked, reference, ["turned"])["turned"]
    lying = replace(asked, crops=torch.rot90(asked.crops, 1, (1, 2)))
    turned = answers(model, lying, reference, ["turned"])["turned"]
    torch.testing.assert_close(upright, turned, rtol=1e-4, atol=1e-4)


def test_statistics_of_the_asked_flask_replace_those_of_training_in_a_copy() -> None:
    model, asked, reference = small_network()
    mine = asked.crops[asked.labels == 0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    new = with_statistics_of(model, mine, reference).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name  # the network itself stays as trained
        assert torch.equal(new[name], before[name]) == ("running" not in name), name


def test_statistics_in_parts_are_those_of_all_cells_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, asked, reference = small_network()
    monkeypatch.setattr(adapt, "CHUNK", 3)  # of eight crops
    new = with_statistics_of(model, asked.crops, reference)
    x = normalize_batch(asked.crops, reference)[:, None]
    at_once = new.eval()(x)[0]
    new.train()  # every layer by the statistics of this very batch
    torch.testing.assert_close(new(x)[0], at_once, rtol=1e-3, atol=1e-3)


def test_a_control_flask_changes_the_answer_to_a_flask_alone() -> None:
    model, asked, reference = small_network()
    ways = answers(model, asked, reference, ["plain", "flask", "with-control"])
    assert not torch.allclose(ways["flask"], ways["with-control"])
    alone = asked.of(torch.nonzero(asked.labels == 0)[:, 0])
    lonely = answers(model, alone, reference, ["plain", "with-control"])
    torch.testing.assert_close(lonely["plain"], lonely["with-control"])  # no partner, as trained


def test_a_run_without_units_in_common_counts_each_once() -> None:
    crop_set = set_of(rows_of(2, 2))
    results = result_of(1, 1.0, (0, 1)) + result_of(1, 0.0, (4, 5))
    series = figures(results, crop_set, 1, crop_set.groups)
    assert series[0].accuracy == pytest.approx(0.5) and series[0].n_units == 2


def test_labels_follow_the_target() -> None:
    crop_set = set_of(rows_of(2, 2))
    cells = np.arange(len(crop_set))
    run = Run("r", "t", cells, (), 0, "flask", ("B0", "A0", "A1", "B1"))
    names = [run.classes[label] for label in run.labels(crop_set, cells)]
    assert names == [row.image.flask for row in crop_set.index.rows]


def test_pre_training_learns_without_labels_and_leaves_the_answer_open() -> None:
    rows = rows_of(1, 3)
    crop_set = set_of(rows, drawn=True)
    other = [
        msgspec.structs.replace(row, image=msgspec.structs.replace(row.image, cell_line="A"))
        for row in rows
    ]
    recipe = msgspec.structs.replace(FLASK, pretraining=len(rows), crops_seen=0, epochs=1, batch=3)
    reference = Reference.of(crop_set.crops[0])
    learned = []
    for rows_said in (rows, other):
        state = begin(smaller(ConvNetConfig(classes=2), 2), recipe, 1, torch.device("cpu"))
        untouched = {name: value.clone() for name, value in state.model.state_dict().items()}
        pretrain(state, replace(crop_set, index=set_of(rows_said).index), recipe, reference, 1)
        learned.append(state.model.state_dict())
        for name, value in state.model.state_dict().items():
            kept = name.startswith("head")
            assert torch.equal(value, untouched[name]) == kept or "num_batches" in name, name
    for name, value in learned[0].items():
        assert torch.equal(value, learned[1][name]), name  # who is what plays no part


def test_many_held_out_crops_are_watched_evenly() -> None:
    crops = torch.zeros((1000, 4, 4), dtype=torch.uint8)
    every = Labelled(crops, torch.arange(1000), torch.zeros(1000, dtype=torch.int64))
    watched = every.at_most(100)
    assert len(watched) == 100 and watched.labels[0] == 0 and watched.labels[-1] == 999
    assert watched.labels.diff().max() <= 11
    assert every.at_most(1000) is every
