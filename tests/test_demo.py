"""The demonstration and the simulated camera, as a person starts and stops them."""

import csv
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import psutil
import pytest
from rigs import until

from parfocal.cli import main
from parfocal.simulator.designs import Design, planned
from parfocal.simulator.save import read_truth, truth_folder


def start(tmp_path: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "160"}
    command = [sys.executable, "-m", "parfocal", "demo", "--pace-s", "0.2", *arguments]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def descendants(pid: int) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    return found


def test_the_demonstration_scores_its_images_and_ends_with_totals_and_truth(
    tmp_path: Path,
) -> None:
    process = start(tmp_path, "--frames", "3", "--no-dashboard")
    out, err = process.communicate(timeout=50)
    assert process.returncode == 0, err
    assert sum(".bmp  cells" in line for line in out.splitlines()) == 3
    assert "95 % interval" in out and "simulated truth" in out
    assert "every cell here is simulated" in err and "web page" not in err
    assert list(tmp_path.glob("parfocal*")) == []


def test_ctrl_c_ends_everything_and_still_sums_up(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None and process.stderr is not None
    first = process.stdout.readline()
    assert "sim-0-0-000.bmp" in first
    started = descendants(process.pid)
    assert len(started) == 4  # daemon, its two children, the camera
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "flask DEMO-1" in out and "no web page in this version" in err
    assert "Traceback" not in err
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in started)
    assert list(tmp_path.glob("parfocal*")) == []


def test_a_killed_demonstration_leaves_no_process(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    started = descendants(process.pid)
    process.kill()
    process.wait()
    until(lambda: not any(p.is_running() for p in started), 10, "processes gone")
    process.stdout.close()
    process.stderr.close()


def test_simulated_images_come_with_their_truth_and_a_data_set_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set"
    code = main(["simulate", str(folder), "--flasks", "2", "--fields", "1", "--seed", "5"])
    assert code == 0 and "2 simulated images" in capsys.readouterr().err
    rows = list(csv.DictReader((folder / "flasks.csv").read_text().splitlines()))
    assert [row["cell_line"] for row in rows] == ["HEK-293A", "HT1080"]
    traits = list(csv.DictReader((truth_folder(folder) / "traits.csv").read_text().splitlines()))
    assert [one["flask"] for one in traits] == [row["flask"] for row in rows]
    for name in ("defocus_um", "light.exposure", "plastic.scratches_per_mm2", "size_gain"):
        assert len({float(one[name]) for one in traits}) == 2
    for row in rows:
        image = cv2.imread(str(folder / row["path"]))
        assert image is not None and image.shape == (1216, 1616, 3)
        truth = read_truth(folder / row["path"])
        assert {cell.type for cell in truth.cells if cell.state == "alive"} == {row["cell_line"]}


@pytest.mark.parametrize(
    ("design", "flasks", "pairs", "densities"),
    [("pairs", 8, 4, 8), ("density", 16, 1, 2), ("varied", 12, 1, 12)],
)
def test_a_design_has_its_flasks(design: Design, flasks: int, pairs: int, densities: int) -> None:
    made = list(planned(design, 12, 80.0, None, seed=3))
    assert len({one.name for one in made}) == len({one.flask.seed for one in made}) == flasks
    assert len({one.pair for one in made}) == pairs
    assert len({one.density for one in made}) >= min(densities, 6)
    for line in ("HEK-293A", "HT1080"):
        mine = [one for one in made if one.line == line]
        assert len(mine) == flasks / 2
        if design == "density":  # nothing but chance differs between the lines
            cells = Counter((one.density, one.passage) for one in mine)
            assert len(cells) == 4 and set(cells.values()) == {2}


def test_a_mixed_flask_brings_its_fluorescence_frames(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    assert (
        main(["simulate", str(folder), "--design", "mixed", "--flasks", "1", "--fields", "1"]) == 0
    )
    (row,) = csv.DictReader((folder / "flasks.csv").read_text().splitlines())
    glowing = cv2.imread(str(folder / row["fluorescence"]), cv2.IMREAD_UNCHANGED)
    assert glowing is not None and glowing.shape == (1216, 1616)
    types = {cell.type for cell in read_truth(folder / row["path"]).cells}
    assert types == {"HEK-293A", "HT1080"}
