"""`parfocal-train pca`: components, clusters, and how far they follow orientation."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from parfocal.card import DetectorRules
from parfocal_training import cli, cropset
from parfocal_training.cropset import CropIndex, CropRow, CropRules, CropSet
from parfocal_training.dataset import Row
from parfocal_training.pixels.agreement import adjusted_rand
from parfocal_training.pixels.clusters import k_medoids
from parfocal_training.pixels.components import area_averaged, of_crops, of_pixels, pixel_components
from parfocal_training.pixels.following import following, orientation_r2
from parfocal_training.pixels.orientation import axes_of, turned

N, CROP_PX = 64, 112
QUICK = ("--max-clusters", "3", "--components", "4", "--shrink", "8")


def drawn_cell(angle_rad: float, aspect: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A dark ellipse of 450 px near the middle of a noisy ground; angles are counter-clockwise."""
    long_px = np.sqrt(450 / np.pi * aspect)
    y, x = np.indices((CROP_PX, CROP_PX)) - (CROP_PX - 1) / 2
    y, x = y - rng.uniform(-3, 3), x - rng.uniform(-3, 3)
    along = np.cos(angle_rad) * x - np.sin(angle_rad) * y  # rows run down
    across = np.sin(angle_rad) * x + np.cos(angle_rad) * y
    inside = np.hypot(along / long_px, across / long_px * aspect) < 1
    noisy = np.where(inside, 70, 160) + rng.normal(0, 4, x.shape)
    crop: NDArray[np.uint8] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return crop


def drawn_set(aspect: float, n: int = N) -> CropSet:
    """Cells at random angles in 16 fields, whose cell line has nothing to do with them."""
    rng = np.random.default_rng(4)
    angles, stretches = rng.uniform(0, np.pi, n), rng.uniform(1, 1 + 0.6 * (aspect - 1), n)
    shapes = zip(angles, aspect * stretches, strict=True)
    crops = np.stack([drawn_cell(angle, one, rng) for angle, one in shapes])
    rows = tuple(
        CropRow(
            image=Row(
                path=f"{i}.png",
                cell_line="AB"[i % 2],
                field=f"f{i // 4}",
                group=f"{i // 4}",
                density=("low", "high")[i // 4 % 2],
            ),
            sha256=f"{i:064d}",
        )
        for i in range(n)
    )
    rules = CropRules(
        um_per_px=0.5,
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
    cropset.save(drawn_set(aspect=1.8), folder)
    return folder


def test_clusters_of_pixels_are_orientations_and_the_controls_show_it(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pca"
    assert cli.main(["pca", str(crops), "-o", str(out), "--clusters", "3", "--json", *QUICK]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["method"], line["k"]) for line in lines[:-1]] == [
        ("k-means", 2), ("k-means", 3), ("k-medoids", 2), ("k-medoids", 3)
    ]  # fmt: skip
    found = lines[-1]
    assert (found["n_crops"], found["n_elongated"], found["group_kind"]) == (N, N, "field")
    assert max(found["component_orientation_r2"][:2]) > 0.8
    controls = {(one["variant"], one["method"]): one for one in found["controls"]}
    for method in ("k-means", "k-medoids"):
        imaged = controls["as imaged, square", method]["camera"]
        assert imaged["r2"] > 0.6
        assert imaged["low"] > 0.4
        assert imaged["p"] < 0.01
        level = controls["long axis level, disc", method]
        assert level["camera"]["r2"] < 0.2
        assert level["crop"] is None
        random = controls["turned at random, disc", method]
        assert random["camera"]["r2"] < 0.2
        assert random["crop"]["r2"] > 0.6
    agreed = {one["attribute"]: one for one in found["agreement"]["k-means"]}
    assert abs(agreed["cell line"]["rand"]) < 0.1
    assert agreed["cell line"]["low"] <= agreed["cell line"]["rand"] <= agreed["cell line"]["high"]
    assert agreed["field"]["low"] is None
    assert set(agreed) == {"cell line", "field", "density"}
    assert {path.name for path in out.iterdir()} == {"report.html", "pca.json", "cells.csv"}
    assert (out / "report.html").read_text().count("<img") == 10
    assert "That is an artefact" in (out / "report.html").read_text()
    with (out / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == N
    assert {row["k_means"] for row in rows} == {"1", "2", "3"}


def test_round_cells_have_no_orientation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cropset.save(drawn_set(aspect=1.0, n=20), tmp_path / "crops")
    out = str(tmp_path / "pca")
    assert cli.main(["pca", str(tmp_path / "crops"), "-o", out, *QUICK]) == 65
    assert "10 are the least from which orientation can be told" in caplog.text


FAULTS = [
    (["--shrink", "5"], "--shrink 5 does not divide the 112 px of a crop"),
    (["--clusters", "1"], "one cluster says nothing"),
    (["--components", "64"], "64 crops are too few for 64 components"),
]


@pytest.mark.parametrize(("options", "sentence"), FAULTS)
def test_a_fault_is_one_sentence(
    crops: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    options: list[str],
    sentence: str,
) -> None:
    assert cli.main(["pca", str(crops), "-o", str(tmp_path / "pca"), *options]) == 2
    assert sentence in caplog.text
    assert not (tmp_path / "pca").exists()


@settings(max_examples=25, deadline=None)
@given(degrees=st.floats(0, 179.9), aspect=st.floats(1.6, 4), seed=st.integers(0, 99))
def test_the_long_axis_of_a_drawn_cell_is_found(degrees: float, aspect: float, seed: int) -> None:
    crop = drawn_cell(np.deg2rad(degrees), aspect, np.random.default_rng(seed))
    axes = axes_of(crop[None].astype(np.float32))
    apart = abs((np.rad2deg(axes.angle_rad[0]) - degrees + 90) % 180 - 90)
    assert apart < 4
    assert axes.elongated.all()
    assert 1.3 <= axes.aspect[0] < aspect + 0.3  # smoothing makes cells rounder


def test_a_crop_without_a_cell_in_the_middle_has_no_axis() -> None:
    blank = np.full((1, 64, 64), 100, np.float32)
    axes = axes_of(blank)
    assert np.isnan(axes.angle_rad[0])
    assert not axes.elongated.any()


def test_a_known_mask_says_how_a_cell_lies() -> None:
    blank = np.full((2, 64, 64), 100, np.float32)
    y, x = np.indices((64, 64)) - 31.5
    masks = np.stack([(x / 20) ** 2 + (y / 6) ** 2 < 1, np.zeros((64, 64), bool)])
    axes = axes_of(blank, masks)
    assert axes.angle_rad[0] % np.pi == pytest.approx(0, abs=0.01)
    assert axes.elongated.tolist() == [True, False]


def test_a_cell_that_leaves_its_crop_does_not_count() -> None:
    crop = np.full((96, 96), 100, np.float32)
    crop[40:56] = 30
    assert not axes_of(crop[None]).elongated.any()


def test_turning_a_crop_turns_its_axis() -> None:
    crop = drawn_cell(0.3, 2.5, np.random.default_rng(0))[None].astype(np.float32)
    after = axes_of(turned(crop, np.array([0.5])))
    assert after.angle_rad[0] == pytest.approx(0.8, abs=0.05)


def test_r2_is_1_for_orientations_0_for_chance_and_blind_to_the_frame() -> None:
    rng = np.random.default_rng(0)
    angles, every = rng.uniform(0, np.pi, 600), np.ones(600, bool)
    fine = (angles / np.pi * 12).astype(np.int64)
    assert orientation_r2(fine, angles, every) > 0.95
    chance = [orientation_r2(rng.integers(0, 5, 600), angles, every) for _ in range(50)]
    assert abs(np.mean(chance)) < 0.002
    other_ends = (angles + np.pi * rng.integers(0, 2, 600) + 0.7) % (2 * np.pi)
    assert orientation_r2(fine, other_ends, every) == pytest.approx(
        orientation_r2(fine, angles, every)
    )
    half = angles < 1
    assert orientation_r2(fine, angles, half) == pytest.approx(
        orientation_r2(fine[half], angles[half], np.ones(int(half.sum()), bool))
    )
    assert np.isnan(orientation_r2(fine[:3], angles[:3], np.zeros(3, bool)))
    assert np.isnan(orientation_r2(fine, np.zeros(600), every))


def test_chance_is_rarely_called_an_artefact() -> None:
    rng = np.random.default_rng(2)
    groups = np.arange(48) // 6
    alarms = 0
    for _ in range(30):
        angles = (rng.uniform(0, np.pi, 8)[groups] + rng.normal(0, 0.4, 48)) % np.pi  # fields align
        clusters = (rng.random(8)[groups] + rng.random(48) > 1).astype(np.int64)  # and differ
        found = following(clusters, angles, np.ones(48, bool), groups, rng, draws=100)
        alarms += found.p < 0.05
    assert alarms <= 5  # 1.5 expected; whole permutations would give about 20


@pytest.mark.parametrize("m", [20, 60])  # fewer crops than pixels, and more
def test_components_are_those_of_scikit_learn(m: int) -> None:
    images = np.random.default_rng(1).normal(0, 1, (m, 6, 7)).astype(np.float32)
    scores, components, explained = pixel_components(images, 5)
    theirs = PCA(5, svd_solver="full").fit(images.reshape(m, -1).astype(np.float64))
    np.testing.assert_allclose(explained, theirs.explained_variance_ratio_, rtol=1e-4)
    np.testing.assert_allclose(
        np.abs(scores), np.abs(theirs.transform(images.reshape(m, -1))), atol=1e-3
    )
    rebuilt = np.tensordot(scores, components, 1) + images.mean(0)
    exact = theirs.inverse_transform(theirs.transform(images.reshape(m, -1)))
    np.testing.assert_allclose(rebuilt.reshape(m, -1), exact, atol=1e-3)


@pytest.mark.parametrize("m", [30, 90])
def test_products_of_crops_and_of_pixels_give_the_same_components(m: int) -> None:
    images = np.random.default_rng(2).normal(0, 1, (m, 42)).astype(np.float32)
    centred = images - images.mean(0)
    scores, components, values = of_crops(centred, 6)
    others, theirs, squares = of_pixels(centred, 6)
    sign = np.sign((components * theirs).sum(1))
    np.testing.assert_allclose(components, theirs * sign[:, None], atol=1e-3)
    np.testing.assert_allclose(scores, others * sign, atol=1e-3)
    np.testing.assert_allclose(values, squares, rtol=1e-4)


def test_the_rand_index_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for n, k in ((40, 4), (7, 2), (200, 9)):
        one, other = rng.integers(0, k, n), rng.integers(0, 3, n)
        mixed = np.where(rng.random(n) < 0.4, one % 3, other)
        wanted = adjusted_rand_score(one, mixed)
        assert adjusted_rand(one, mixed) == pytest.approx(wanted)
    assert adjusted_rand(one, one) == 1


def test_k_medoids_finds_the_best_medoids() -> None:
    points = np.random.default_rng(3).normal(0, 1, (11, 2))
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    best = min(itertools.combinations(range(11), 3), key=lambda m: apart[:, m].min(1).sum())
    wanted = apart[:, best].argmin(1)
    found = k_medoids(points, 3)
    assert len({(int(a), int(b)) for a, b in zip(wanted, found, strict=True)}) == 3
    assert list(np.bincount(found)) == sorted(np.bincount(found), reverse=True)


def test_area_averages_are_means_of_squares() -> None:
    crops = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
    np.testing.assert_allclose(area_averaged(crops, 2)[0], [[2.5, 4.5], [10.5, 12.5]])
