"""`parfocal-train morphology`: CellProfiler's features, and what tells two clusters apart."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import anndata
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from drawncells import cells
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from numpy.typing import NDArray

from parfocal.card import DetectorRules
from parfocal.prepare import CROP_PX
from parfocal_training import cli, cropset
from parfocal_training.cropset import CropIndex, CropRow, CropRules, CropSet
from parfocal_training.dataset import Row
from parfocal_training.morphology import command
from parfocal_training.morphology.clusters import choose
from parfocal_training.morphology.divergence import jensen_shannon
from parfocal_training.morphology.features import feature_names, measured, ranked

KNOWN = json.loads((Path(__file__).parent / "golden" / "morphology.json").read_text())
Mask = NDArray[np.bool_]

PER_CLASS, GROUPS = 14, 7
UM_PER_PX = 0.5


# ------------------------------------------------------------------------------ features of a cell


def features(mask: Mask) -> dict[str, float]:
    return measured(np.full(mask.shape, 0.5), mask, UM_PER_PX)


def away(side: int = 160) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.indices((side, side)) - (side - 1) / 2
    return y, x


@pytest.mark.parametrize("i", range(4))
def test_features_are_those_of_cp_measure(i: int) -> None:
    levels, mask = cells()[i]
    mine, theirs = measured(levels, mask, UM_PER_PX), KNOWN[i]
    lacking = sorted(set(theirs) - set(mine))
    # a plane has no third coordinate
    assert lacking == [
        f"Location_{x}_Z_Brightfield" for x in ("CenterMassIntensity", "MaxIntensity")
    ]
    for name in sorted(set(theirs) & set(mine)):
        if "Zernike" not in name:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-6, abs=1e-5), name


@pytest.mark.parametrize("i", range(4))
def test_zernike_moments_differ_by_the_pixels_on_the_circle_only(i: int) -> None:
    levels, mask = cells()[i]
    mine, theirs = measured(levels, mask, UM_PER_PX), KNOWN[i]
    most = 4 / mask.sum()  # cp_measure loses up to so many of those pixels to rounding
    for name in (name for name in theirs if name.startswith("AreaShape_Zernike_")):
        assert mine[name] == pytest.approx(theirs[name], abs=most)
    for name in (name for name in theirs if "ZernikeMagnitude" in name):
        phase = name.replace("Magnitude", "Phase")
        one, other = (found[name] * np.exp(1j * found[phase]) for found in (mine, theirs))
        assert abs(one - other) < most, name


def test_known_shapes_have_their_known_measures() -> None:
    y, x = away()
    disc = features(np.hypot(y, x) < 40)
    assert disc["AreaShape_Area"] == pytest.approx(math.pi * 40**2, rel=0.01)
    assert disc["AreaShape_Area_um2"] == pytest.approx(disc["AreaShape_Area"] / 4)
    assert disc["AreaShape_Eccentricity"] < 0.02
    assert disc["AreaShape_Perimeter"] == pytest.approx(2 * math.pi * 40, rel=0.05)
    assert disc["AreaShape_MaxFeretDiameter"] == pytest.approx(80, abs=1.5)
    assert disc["AreaShape_Solidity"] > 0.98
    ellipse = features((x / 60) ** 2 + (y / 20) ** 2 < 1)
    assert ellipse["AreaShape_Eccentricity"] == pytest.approx(math.sqrt(1 - 1 / 9), abs=0.01)
    assert ellipse["AreaShape_MajorAxisLength_um"] == pytest.approx(120 * UM_PER_PX, rel=0.02)
    assert ellipse["AreaShape_MinFeretDiameter"] == pytest.approx(39, abs=1)
    ring = features((np.hypot(y, x) < 40) & (np.hypot(y, x) > 15))
    assert ring["AreaShape_EulerNumber"] == 0
    assert ring["AreaShape_FilledArea"] == disc["AreaShape_Area"]


def test_a_skeleton_ends_where_arms_do() -> None:
    y, x = away()
    bar = (np.abs(y) < 4) & (np.abs(x) < 50)  # an end for each corner
    cross = bar | (np.abs(x) < 4) & (np.abs(y) < 50)
    needle = (x / 50) ** 2 + (y / 8) ** 2 < 1
    assert [ends(bar), ends(cross), ends(needle)] == [4, 8, 2]
    found = features(needle)
    assert (found["Skeleton_NumberForks"], found["Skeleton_NumberBranches"]) == (0, 1)
    assert found["Skeleton_Length_um"] == pytest.approx(90 * UM_PER_PX, rel=0.1)


@pytest.mark.parametrize("shift", [(0, 0), (0.5, 0.5), (0.2, 0.4)])
def test_a_round_cell_has_two_ends_wherever_it_lies(shift: tuple[float, float]) -> None:
    y, x = away()
    assert ends(np.hypot(y - shift[0], x - shift[1]) < 12) == 2


def test_ends_are_those_of_centrosome() -> None:
    """What its skeletonize and endpoints (1.3.4) answered; a pixel alone is one end."""
    assert [measured(*cell, 1)["Skeleton_NumberEndpoints"] for cell in cells()] == [2, 0, 8, 5]
    y, x = away(161)
    assert ends(np.hypot(y, x) < 1) == 1


def ends(mask: Mask) -> float:
    return features(mask)["Skeleton_NumberEndpoints"]


ALSO_TURNED = ("AreaShape_Extent", "AreaShape_BoundingBoxArea", "Texture_", "Granularity_")
"""A box, directions, a grid: ranked, as CellProfiler's users know them."""

FIRST_OF_EQUALS = (
    *("Skeleton_", "RadialDistribution_FracAtD"),
    *("RadialDistribution_MeanFrac", "RadialDistribution_RadialCV"),
)
"""Rings have their centre in the first of pixels equally deep, skeletons lose the first of two."""


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_is_ranked_does_not_change_when_a_cell_is_turned(seed: int) -> None:
    """By 90 degrees: pixels fall on pixels. Textures have directions, granularity has a grid."""
    rng = np.random.default_rng(seed)
    levels = cv2.GaussianBlur(rng.random((97, 97)), (0, 0), 2).astype(np.float64)
    levels = (levels - levels.min()) / np.ptp(levels) * 0.9 + 0.05
    blob = cv2.GaussianBlur(rng.random((97, 97)), (0, 0), 7)
    y, x = away(97)
    mask = np.hypot(y, x) < 25 + 200 * (blob - blob.mean())
    mask = cv2.connectedComponents(mask.astype(np.uint8))[1] == 1
    here, there = (
        measured(np.rot90(levels, k).copy(), np.rot90(mask, k).copy(), 1) for k in (0, 1)
    )
    for name in ranked(tuple(here)):
        if not name.startswith((*ALSO_TURNED, *FIRST_OF_EQUALS)):
            assert there[name] == pytest.approx(here[name], rel=1e-6, abs=1e-7), name


def test_features_of_the_bounding_box_are_those_of_the_whole_crop() -> None:
    """All but granularity, whose background is the crop's, are of the cell alone."""
    levels, mask = cells()[3]
    rng = np.random.default_rng(1)
    elsewhere = np.where(
        cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))) > 0, levels, rng.random()
    )
    one, other = measured(levels, mask, 1), measured(elsewhere, mask, 1)
    moved = measured(np.roll(levels, 20, 1), np.roll(mask, 20, 1), 1)
    for name, value in one.items():
        if not name.startswith("Granularity"):
            assert other[name] == value, name
        if name in ranked(tuple(one)) and not name.startswith("Granularity"):
            assert moved[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


def test_a_single_pixel_has_nan_where_nothing_can_be_said() -> None:
    mask = np.zeros((64, 64), bool)
    mask[30, 30] = True
    found = features(mask)
    assert found["AreaShape_Area"] == 1
    assert math.isnan(found["Texture_Contrast_Brightfield_3_00_256"])
    assert math.isnan(found["AreaShape_Zernike_0_0"])
    assert tuple(found) == feature_names()


def test_there_are_more_features_than_the_paper_had() -> None:
    assert len(feature_names()) == len(set(feature_names())) >= 271
    assert len(ranked(feature_names())) > 250


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [([1, 1], [5, 5], 0.0), ([4, 0], [0, 9], 1.0), ([2, 2, 0, 0], [0, 0, 3, 3], 1.0)],
)
def test_the_distance_runs_from_0_to_1(
    first: list[int], second: list[int], distance: float
) -> None:
    found = jensen_shannon(np.array(first, np.float64), np.array(second, np.float64))
    assert float(found) == pytest.approx(distance)


# ------------------------------------------------------------------------------------ the command


def drawn(masks: bool = True) -> CropSet:
    """Two lines in seven fields; cells of B have a rougher inside, outlines are alike in both.

    Fields 0 to 3 are said to be of low density, the others of high: that makes no difference.
    """
    rng, y, x = np.random.default_rng(7), *np.indices((CROP_PX, CROP_PX)) - 111.5
    crops, own, rows = [], [], []
    for i in range(2 * PER_CLASS):
        line, group = i // PER_CLASS, i % GROUPS
        turn, long, wide = rng.uniform(0, np.pi), rng.uniform(40, 55), rng.uniform(18, 28)
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        mask = (u / long) ** 2 + (v / wide) ** 2 < 1
        grain = cv2.GaussianBlur(rng.normal(0, 1, mask.shape), (0, 0), 1.5) * 3
        crop = 128 + 4 * rng.normal(0, 1, mask.shape) + mask * (12 + (10 + 14 * line) * grain)
        crops.append(np.clip(crop, 0, 255).astype(np.uint8))
        own.append(mask)
        density = "low" if group < 4 else "high"
        image = Row(path=f"{i}.png", cell_line="AB"[line], group=f"g{group}", density=density)
        rows.append(CropRow(image=image, sha256=f"{i:064d}"))
    rules = CropRules(
        um_per_px=UM_PER_PX,
        crop_px=CROP_PX,
        margin_px=0,
        flat_field_um=0.0,
        detector=DetectorRules(name="external"),
    )
    index = CropIndex(
        data="drawn", classes=("A", "B"), group_kind="field", rules=rules, rows=tuple(rows)
    )
    return CropSet(np.stack(crops), index, np.stack(own) if masks else None)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    cropset.save(drawn(), folder)
    return folder


def run(*arguments: str | Path) -> int:
    before = cli.MORE
    cli.MORE = (command.add,)
    try:
        return cli.main(["morphology", *map(str, arguments)])
    finally:
        cli.MORE = before


@pytest.fixture(scope="module")
def done(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert run(crops, "-o", out, "--by", "cell_line", "--jobs", "1") == 0
    return out


def told(folder: Path) -> dict[str, object]:
    result = json.loads((folder / "morphology.json").read_text())
    assert isinstance(result, dict)
    return result


@pytest.fixture(scope="module")
def planted(done: Path) -> dict[str, object]:
    """What the first comparison told, before another writes over it."""
    return told(done)


def test_a_planted_difference_is_ranked_first(planted: dict[str, object]) -> None:
    comparison = planted["comparison"]
    assert isinstance(comparison, dict)
    assert comparison["pair"] == ["A", "B"]
    assert comparison["n_cells"] == [PER_CLASS, PER_CLASS]
    ranking = comparison["ranking"]
    assert ranking[0]["distance"] == pytest.approx(1, abs=0.2)
    assert ranking[0]["p"] < 0.01
    assert all(one["feature"].startswith(("Texture", "Intensity")) for one in ranking[:10])
    distances = [one["distance"] for one in ranking]
    assert distances == sorted(distances, reverse=True)
    outline = [one for one in ranking if one["feature"] == "AreaShape_Solidity"]
    assert outline[0]["p"] > 0.05
    assert comparison["axes"][0] == ranking[0]["feature"]
    assert comparison["separation"]["axes_chosen_in_training"]["value"] > 0.9
    assert len(comparison["separation"]["pairs"]) == 190


def test_files_are_read_by_others(done: Path, planted: dict[str, object]) -> None:
    table = pq.read_table(done / "features.parquet")
    names = list(feature_names())
    assert table.column_names[-len(names) :] == names
    assert table.num_rows == 2 * PER_CLASS
    data = anndata.read_h5ad(done / "features.h5ad")
    assert data.shape == (2 * PER_CLASS, len(names))
    assert list(data.var_names) == names
    assert {"path", "group", "cell_line", "density", "cluster"} <= set(data.obs.columns)
    lines = list(csv.DictReader((done / "features.csv").read_text().splitlines()))
    area = table["AreaShape_Area"].to_pylist()
    assert [float(line["AreaShape_Area"]) for line in lines] == area
    assert data[:, "AreaShape_Area"].X.ravel().tolist() == area
    masks = drawn().masks
    assert masks is not None
    assert area == masks.sum((1, 2)).tolist()
    assert planted["n_features"] == len(names)
    page = (done / "report.html").read_text()
    assert "came without masks" not in page
    assert "<script" not in page


def test_a_rerun_reads_what_was_measured_and_finds_no_difference_where_none_is(
    crops: Path, done: Path, planted: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    before = pq.read_table(done / "features.parquet")
    assert planted["measured_now"] is True
    assert run(crops, "-o", done, "--by", "density", "--top", "3", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    again = json.loads(line)
    assert again["measured_now"] is False
    assert again["comparison"]["shuffled"] == "whole groups"
    assert min(one["p"] for one in again["comparison"]["ranking"]) > 0.05
    after = pq.read_table(done / "features.parquet")
    columns = list(feature_names())
    assert after.select(columns).equals(before.select(columns))
    assert set(after["cluster"].to_pylist()) == {"low", "high"}


def test_other_masks_are_measured_anew(crops: Path, tmp_path: Path) -> None:
    few = drawn().of(np.arange(3))
    cropset.save(few, tmp_path / "crops")
    assert run(tmp_path / "crops", "-o", tmp_path / "out", "--jobs", "1") == 0
    assert told(tmp_path / "out")["measured_now"] is True
    assert few.masks is not None
    smaller = CropSet(few.crops, few.index, few.masks & (np.arange(CROP_PX) < 110))
    smaller.masks[2] = False  # type: ignore[index]
    cropset.save(smaller, tmp_path / "crops")
    assert run(tmp_path / "crops", "-o", tmp_path / "out", "--jobs", "1") == 0
    result = told(tmp_path / "out")
    assert result["measured_now"] is True
    assert result["n_without_mask"] == 1
    assert "1 of 3 cells have no mask" in (tmp_path / "out" / "report.html").read_text()


def test_a_density_put_right_measures_nothing_anew(tmp_path: Path) -> None:
    few = drawn().of(np.arange(3))
    for density, now in (("low", True), ("0.1", False)):
        rows = [replace(row, image=replace(row.image, density=density)) for row in few.index.rows]
        index = replace(few.index, rows=tuple(rows))
        cropset.save(CropSet(few.crops, index, few.masks), tmp_path / "crops")
        assert run(tmp_path / "crops", "-o", tmp_path / "out", "--jobs", "1") == 0
        assert told(tmp_path / "out")["measured_now"] is now
        stored = pq.read_table(tmp_path / "out" / "features.parquet")
        assert set(stored["density"].to_pylist()) == {density}


def test_crops_without_masks_are_segmented_and_the_report_says_so(tmp_path: Path) -> None:
    cropset.save(drawn(masks=False).of(np.arange(3)), tmp_path / "crops")
    assert run(tmp_path / "crops", "-o", tmp_path / "out", "--jobs", "1") == 0
    assert told(tmp_path / "out")["masks_from"] == "foreground of the crop"
    assert "came without masks" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_several_processes_measure_the_same(crops: Path, done: Path, tmp_path: Path) -> None:
    twice = cropset.load(crops)
    twice = twice.of(np.tile(np.arange(len(twice)), 2))  # more than a process takes at a time
    cropset.save(twice, tmp_path / "crops")
    code = (
        "import sys; from parfocal_training import cli; "
        "from parfocal_training.morphology import command; "
        "cli.MORE = (command.add,); sys.exit(cli.main(sys.argv[1:]))"
    )
    command_line = [sys.executable, "-c", code, "morphology", str(tmp_path / "crops")]
    command_line += ["-o", str(tmp_path / "out"), "--jobs", "2"]
    subprocess.run(command_line, check=True, timeout=50)
    one, other = (pq.read_table(folder / "features.parquet") for folder in (done, tmp_path / "out"))
    names = list(feature_names())
    assert other.select(names).slice(0, len(one)).equals(one.select(names))


def clusters(path: Path, crop_set: CropSet, values: list[str]) -> Path:
    rows = [f"{i},{row.image.path},{values[i]}" for i, row in enumerate(crop_set.index.rows)]
    path.write_text("\n".join(["crop,path,phenotype", *rows]) + "\n")
    return path


def test_clusters_come_from_a_table_of_cells(crops: Path, done: Path, tmp_path: Path) -> None:
    """Of three clusters the two that density changes most are compared when nobody names two."""
    some = drawn()
    low = [row.image.density == "low" for row in some.index.rows]
    values = ["1" if low[i] and i % 4 else "2" if i % 5 else "3" for i in range(len(low))]
    table = clusters(tmp_path / "cells.csv", some, values)
    assert run(crops, "-o", done, "--clusters", table, "--top", "3") == 0
    comparison = told(done)["comparison"]
    assert isinstance(comparison, dict)
    assert comparison["pair"] == ["2", "1"]
    assert "falls most from density high to low" in comparison["chosen"]


def test_the_pair_is_that_of_the_strongest_trends_with_density(tmp_path: Path) -> None:
    """The flasks at either end say the contrary of all others."""
    some = drawn()
    rows, values = [], []
    for i, row in enumerate(some.index.rows):
        group = i % GROUPS
        density = str(10 * group + 5)
        rows.append(replace(row, image=replace(row.image, density=density)))
        rises = i // GROUPS < {0: 1, 6: 0}.get(group, group - 1)
        values.append("up" if rises else "down" if i % 5 else "3")
    crop_set = CropSet(some.crops, replace(some.index, rows=tuple(rows)), some.masks)
    densities = tuple(row.image.density for row in crop_set.index.rows)
    groups = np.array([i % GROUPS for i in range(len(rows))])
    chosen = choose(tuple(values), None, densities, groups)
    assert chosen.pair == ("down", "up")


FAULTS = [
    (["--pair", "A", "B"], "--pair needs --clusters or --by", 2),
    (["--by", "cell_line", "--pair", "A", "C"], "there are A, B; name two of them", 2),
    (["--by", "passage"], "it was not recorded for 28 of 28 cells", 65),
    (["--clusters", "nowhere.csv"], "is no table of cells", 65),
    (["--clusters", "FEW"], "lists 1 cells, the crops are 28", 65),
    (["--clusters", "FEW", "--column", "k"], "has no column k, it has crop, path, phenotype", 65),
    (["--clusters", "SMALL"], "a has 2", 65),
]


@pytest.mark.parametrize(("options", "sentence", "code"), FAULTS)
def test_a_fault_is_one_sentence(
    crops: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    options: list[str],
    sentence: str,
    code: int,
) -> None:
    some = drawn()
    few = clusters(tmp_path / "few.csv", some.of(np.array([0])), ["1"])
    small = clusters(tmp_path / "small.csv", some, ["a", "a", *["b"] * 26])
    named = {"FEW": str(few), "SMALL": str(small)}
    out = tmp_path / "out"
    assert run(crops, "-o", out, *(named.get(option, option) for option in options)) == code
    assert sentence in caplog.text
    assert not out.exists()
