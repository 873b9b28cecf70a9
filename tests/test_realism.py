"""The comparison of simulated with real fields: its distances, its files, its complaints."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from parfocal.simulator import HEK293A, HT1080, Camera, Flask, Rig
from parfocal.simulator.save import save
from parfocal_training.errors import DataError
from parfocal_training.realism import compare, compare_crops, main
from parfocal_training.realism_measures import kolmogorov, wasserstein

SMALL = Rig(camera=Camera(width_px=800, height_px=640))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("realism") / "simulated"
    for i, kind in enumerate((HEK293A, HT1080)):
        save(Flask(((kind, 1.0),), 100, 30 + i, rig=SMALL).field(0), folder, f"f{i}")
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands in for real fields: other flasks, laid out as the real data set is."""
    folder = tmp_path_factory.mktemp("real")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    rows = []
    for i in range(2):
        frame = Flask(((HT1080, 1.0),), 100, 50 + i, rig=SMALL).field(0)
        cv2.imwrite(str(folder / "images" / f"r{i}.png"), frame.rgb[..., ::-1])
        cv2.imwrite(str(folder / "masks" / f"r{i}.png"), frame.truth.labels)
        rows += [{"image": f"r{i}", "id": c.id, "single_cell_size": 1} for c in frame.truth.cells]
    with (folder / "components.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "id", "single_cell_size"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


SCALES = {"r0.png": 0.44, "r1.png": 0.44}


def test_samples_of_one_kind_are_near_and_others_far() -> None:
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(0, 1, 4000), rng.normal(0, 1, 4000), rng.normal(2, 1, 4000)
    assert wasserstein(a, b) < 0.1 and kolmogorov(a, b) < 0.05
    assert wasserstein(a, c) == pytest.approx(2, abs=0.1)
    assert kolmogorov(a, a + 100) == 1


def test_comparing_writes_a_sheet_the_distributions_and_finite_numbers(
    simulated: Path, real: Path, tmp_path: Path
) -> None:
    found = compare(simulated, real, tmp_path, SCALES)
    assert {p.name for p in tmp_path.iterdir()} == {
        "sheet.png",
        "distributions.png",
        "distances.json",
    }
    assert json.loads((tmp_path / "distances.json").read_text()) == found
    assert all(np.isfinite(v) for numbers in found.values() for v in numbers.values())
    wanted = {"local contrast [%]", "cell area [um2]", "cell aspect", "cell solidity"}
    assert wanted | {"rim profile [%]", "spectrum [log10]"} <= set(found)


def test_crops_are_compared_after_the_same_normalization(simulated: Path, tmp_path: Path) -> None:
    crops = tmp_path / "crops"
    crops.mkdir()
    rng = np.random.default_rng(1)
    for i in range(3):
        cv2.imwrite(str(crops / f"{i}.png"), rng.integers(120, 200, (224, 224), np.uint8))
    found = compare_crops(simulated, crops, tmp_path / "out")
    assert (tmp_path / "out" / "crops.png").exists()
    assert all(np.isfinite(v) for numbers in found.values() for v in numbers.values())


def test_a_field_without_a_pixel_size_is_named(simulated: Path, real: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no um_per_px for r1\.png"):
        compare(simulated, real, tmp_path, {"r0.png": 0.44})


def test_the_command_prints_each_distance(
    simulated: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scales = tmp_path / "scales.csv"
    scales.write_text("file,um_per_px\nx/r0.png,0.44\nx/r1.png,0.44\n")
    code = main([str(simulated), str(real), str(tmp_path / "out"), "--scales", str(scales)])
    assert code == 0
    assert "cell area [um2]: wasserstein" in capsys.readouterr().out
