"""`parfocal-train experiment mixed`: true lines by nuclei, scores, and the whole command."""

import contextlib
import csv
import io
import json
from collections import Counter
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parfocal.calibrate import to_base64
from parfocal.card import Abstention, DetectorRules, Novelty
from parfocal.normalize import Reference
from parfocal.prepare import PixelRules
from parfocal.simulator.designs import planned
from parfocal.simulator.save import fluorescence_path, read_truth, save
from parfocal.types import Finds
from parfocal_export.question import golden_crops
from parfocal_training import cli
from parfocal_training.checkpoint import Checkpoint, write_checkpoint
from parfocal_training.evaluate import measure
from parfocal_training.mixed.nuclei import Nuclei
from parfocal_training.mixed.rates import Called
from parfocal_training.mixed.scores import corrected_share, score
from parfocal_training.mixed.truth import cell_truths
from parfocal_training.model import ConvNetConfig, initialized
from parfocal_training.recipe import FIELD

UM = 0.44
NAME = "sim-0"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "mix"
    (one,) = planned("mixed", 1, 80.0, None, 11)
    image = save(one.flask.field(0), folder, NAME)
    write_table(folder, [(image.name, "mixed", "f1", UM, fluorescence_path(image))])
    return folder


def write_table(folder: Path, rows: list[tuple[object, ...]]) -> None:
    with (folder / "flasks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "cell_line", "flask", "um_per_px", "fluorescence"))
        writer.writerows(rows)


def write_model(folder: Path, seed: int, abstention: Abstention | None = None) -> Path:
    """An untrained network of the paper's shape with few maps: its answers are arbitrary."""
    config = ConvNetConfig(classes=2, kernels=2)
    golden = golden_crops(1, 224, np.random.default_rng(5))[0]
    measured = measure(None, "flask", 0)
    if abstention:
        measured = msgspec.structs.replace(measured, abstention=abstention)
    d = config.lca_values
    checkpoint = Checkpoint(
        created_at="2026-01-01T00:00:00Z",
        code_version="0",
        config=config,
        recipe=FIELD,
        seed=seed,
        classes=("HEK-293A", "HT1080"),
        pixels=PixelRules(
            um_per_px=UM, reference=tuple(int(n) for n in Reference.of(golden).counts)
        ),
        detector=DetectorRules(name="external"),
        data="drawn",
        data_sha256s=(),
        groups=("g",),
        novelty=Novelty(
            mean=to_base64(np.zeros((2, d), "<f4")),
            precision=to_base64(np.eye(d, dtype="<f4")),
            d=d,
            scores=(),
        ),
        measured=measured,
    )
    folder.mkdir(parents=True)
    write_checkpoint(checkpoint, initialized(config, seed), folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    base = tmp_path_factory.mktemp("models")
    half = Abstention(min_probability=0.9999, max_novelty=1.0)
    return [write_model(base / "one", 1), write_model(base / "two", 2, half)]


def ask(data: Path, models: list[Path], out: Path, *more: str) -> int:
    given = ["experiment", "mixed", str(data), "--model", *map(str, models), "-o", str(out)]
    return cli.main([*given, *(more if "--labelled" in more else ("--labelled", "HT1080", *more))])


@pytest.fixture(scope="module")
def said_and_written(
    data: Path, models: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """Standard output of the command with --json, and the folder that it wrote."""
    out, said = tmp_path_factory.mktemp("answers") / "out", io.StringIO()
    with contextlib.redirect_stdout(said):
        assert ask(data, models, out, "--json") == 0
    return said.getvalue(), out


@pytest.fixture(scope="module")
def answered(said_and_written: tuple[str, Path]) -> Path:
    return said_and_written[1]


def cells_of(out: Path) -> list[dict[str, str]]:
    with (out / "cells.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_folder_holds_report_figures_and_cells(answered: Path) -> None:
    names = {path.name for path in answered.iterdir()}
    assert names == {"plan.json", "cells.csv", "figures.json", "report.html"}
    page = (answered / "report.html").read_text()
    assert "Simulated frames" in page
    assert page.count("<img") == 4  # accuracy, confusion, composition, the one frame


def test_nearly_all_truths_are_those_of_the_simulator(data: Path, answered: Path) -> None:
    truth = read_truth(data / f"{NAME}.png")
    kinds = {0: "none"} | {cell.id: cell.type for cell in truth.cells}
    asked = [cell for cell in cells_of(answered) if cell["model"] == "one"]
    pairs = [
        (cell["truth"], kinds[truth.labels[round(float(cell["y_px"])), round(float(cell["x_px"]))]])
        for cell in asked
    ]
    sure = [pair for pair in pairs if pair[0] != "ambiguous"]
    right = [kind == ("HT1080" if said == "labelled" else "HEK-293A") for said, kind in sure]
    assert len(sure) >= 0.8 * len(pairs) >= 10
    assert np.mean(right) >= 0.93
    assert {said for said, _ in sure} == {"labelled", "unlabelled"}


def test_the_figures_are_those_of_the_cells(answered: Path) -> None:
    figures = json.loads((answered / "figures.json").read_bytes())
    for model, one in zip(figures["models"], figures["repeats"], strict=True):
        mine = [c for c in cells_of(answered) if c["model"] == model and c["truth"] != "ambiguous"]
        right = [(c["truth"] == "labelled") == (c["called"] == "HT1080") for c in mine]
        assert one["n_cells"] == len(mine) == sum(map(sum, one["counts"]))
        assert one["accuracy"]["value"] == pytest.approx(np.mean(right))
        assert one["accuracy"]["over_flasks"] is None  # a single flask shows no spread
    first, second = (one["accuracy"]["value"] for one in figures["repeats"])
    spread = figures["over_repeats"]["accuracy"]
    assert spread["mean"] == pytest.approx((first + second) / 2)
    assert spread["sd"] == pytest.approx(abs(first - second) / 2**0.5)


def test_abstained_cells_are_scored_apart(answered: Path) -> None:
    figures = json.loads((answered / "figures.json").read_bytes())
    kept = [c for c in cells_of(answered) if c["model"] == "two" and c["accepted"] == "1"]
    sure = [c for c in kept if c["truth"] != "ambiguous"]
    scored = figures["accepted"][1]
    assert (scored["n_cells"] if scored else 0) == len(sure) < figures["repeats"][1]["n_cells"]
    assert figures["accepted"][0]["n_cells"] == figures["repeats"][0]["n_cells"]


def test_the_known_displacement_is_reported(answered: Path) -> None:
    (shift,) = json.loads((answered / "figures.json").read_bytes())["shifts"].values()
    assert shift["origin"] == "own"
    assert np.hypot(*np.subtract(shift["used_px"], (1.7, -1.2))) < 3.5


def test_json_is_all_that_stands_on_stdout(said_and_written: tuple[str, Path]) -> None:
    first, second, last = (json.loads(line) for line in said_and_written[0].splitlines())
    assert (first["model"], second["model"]) == ("one", "two")
    assert first["frame"]["path"] == f"{NAME}.png"
    assert set(last) == {"out", "truths", "over_repeats"}


def small_set(folder: Path, rows: list[tuple[object, ...]]) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "glow.png"):
        noise = rng.normal(20, 2, (240, 260)).astype(np.uint8)
        assert cv2.imwrite(str(folder / name), noise)
    assert cv2.imwrite(str(folder / "long.png"), np.zeros((240, 300), np.uint8))
    write_table(folder, rows)
    return folder


FAULTS = {
    "everything missing": (
        [("a.png", "mixed", "", UM, ""), ("b.png", "mixed", "", UM, "")],
        ["'a.png' has no fluorescence", "'b.png' has no fluorescence"],
    ),
    "an absent file": ([("a.png", "mixed", "", UM, "gone.png")], ["'gone.png'", "not exist"]),
    "no mixed image": (
        [("a.png", "HT1080", "", UM, "glow.png"), ("b.png", "HEK-293A", "", UM, "glow.png")],
        ["no image has the cell_line 'mixed'"],
    ),
    "another field": ([("a.png", "mixed", "", UM, "long.png")], ["300x240", "260x240"]),
    "no scale": ([("a.png", "mixed", "", "", "glow.png")], ["how large a pixel of 'a.png'"]),
    "no nucleus": ([("a.png", "mixed", "", UM, "glow.png")], ["shows a nucleus"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_data_is_one_sentence(
    fault: str, models: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows, said = FAULTS[fault]
    folder = small_set(tmp_path / "data", rows)  # type: ignore[arg-type]
    assert ask(folder, models[:1], tmp_path / "out", "--detector", "classical") == 65
    for words in said:
        assert words in caplog.text


def test_a_line_that_no_model_knows_is_refused(
    data: Path, models: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(data, models, tmp_path / "out", "--labelled", "HeLa") == 2
    assert "the models know HEK-293A and HT1080" in caplog.text
    assert ask(data, models[:1] * 2, tmp_path / "out") == 2
    assert "twice" in caplog.text


def squares(*at: tuple[int, int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    """Labels 1.. of squares (left, top, side) in 100 x 100."""
    out = np.zeros((100, 100), np.int32)
    for number, (left, top, side) in enumerate(at, 1):
        out[top : top + side, left : left + side] = number
    return out


def test_a_cell_is_labelled_unlabelled_or_ambiguous() -> None:
    objects = squares((5, 5, 20), (50, 5, 20), (5, 50, 20), (26, 50, 20), (60, 60, 20), (80, 60, 9))
    nuclei = squares(
        (10, 10, 8),  # in 1, shifted
        (70, 12, 4),  # beside 2, in nobody
        (24, 55, 8),  # most of it in 4, the rest in 3
        (84, 90, 6),  # far from all
    )
    n = int(objects.max())
    finds = Finds(
        labels=objects, points_px=np.zeros((n, 2)), centroids_px=np.zeros((n, 2)),
        boxes_px=np.zeros((n, 4)), area_um2=np.ones(n), score=np.ones(n), reasons=(None,) * n,
    )  # fmt: skip
    doubtful = np.zeros((100, 100), np.bool_)
    doubtful[63:66, 63:66] = True  # in 5
    shining = Nuclei(
        labels=np.roll(nuclei, (-1, 2), (0, 1)),
        doubtful=np.roll(doubtful, (-1, 2), (0, 1)),
        centres_px=np.zeros((4, 2)), area_um2=np.ones(4), contrast=np.ones(4), rejected=Counter(),
    )  # fmt: skip
    assert cell_truths(shining, finds, (2.0, -1.0), (100, 100), 0.5) == (
        "labelled", "ambiguous", "ambiguous", "labelled", "ambiguous", "unlabelled",
    )  # fmt: skip


def test_frames_without_any_find_or_nucleus_have_no_truths() -> None:
    empty = np.zeros((0, 2))
    none = np.zeros((10, 10), np.int32)
    finds = Finds(none, empty, empty, np.zeros((0, 4)), np.ones(0), np.ones(0), ())
    dark = Nuclei(none, none > 0, empty, np.ones(0), np.ones(0), Counter())
    assert cell_truths(dark, finds, (0.0, 0.0), (10, 10), 0.5) == ()


@given(share=st.floats(0, 1), sensitivity=st.floats(0.6, 1), specificity=st.floats(0.6, 1))
def test_a_corrected_share_is_the_true_one(
    share: float, sensitivity: float, specificity: float
) -> None:
    said = share * sensitivity + (1 - share) * (1 - specificity)
    assert corrected_share(said, (sensitivity, specificity)) == pytest.approx(share, abs=1e-9)


def test_a_network_that_guesses_corrects_nothing() -> None:
    assert corrected_share(0.4, (0.5, 0.5)) is None


def test_a_score_counts_as_the_paper_does() -> None:
    truth = np.array([1, 1, 1, 0, 0, 1, 0, 0], np.bool_)
    calls = np.array([1, 1, 0, 0, 1, 1, 0, 0], np.bool_)
    frames = ("a",) * 5 + ("b",) * 3
    flasks = ("f",) * 5 + ("g",) * 3
    one = score(Called(frames, flasks, truth, calls, np.ones(8, np.bool_)), 0, None)
    assert one.counts == ((3, 1), (1, 3))
    assert one.accuracy.value == 0.75
    assert one.frame_accuracy.value == pytest.approx((3 / 5 + 1) / 2)
    assert one.sensitivity is not None
    assert one.sensitivity.value == 0.75
    assert one.accuracy.paper == pytest.approx((0.75 - 0.3, 1.0), abs=1e-3)
    assert one.accuracy.over_flasks == pytest.approx((0.6, 1.0))
    assert one.flask_accuracy == {"f": 0.6, "g": 1.0}
    # the first frame is corrected by the second, whose rates are 1 and 1
    assert one.frames[0].corrected_share == pytest.approx(0.6)
