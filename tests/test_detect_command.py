"""`parfocal detect` and the daemon with the detector network: files, pictures, results, faults."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx
import pytest
from rigs import Rig, save_frame

from parfocal.bundle import load_detector
from parfocal.cli import main
from parfocal.reasons import ObjectReason


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated frames."""
    folder = tmp_path_factory.mktemp("sim") / "frames"
    assert main(["simulate", str(folder), "--flasks", "1", "--fields", "2", "--seed", "12"]) == 0
    return folder


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_masks_outlines_and_pictures_say_the_same(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    masks, pictures, coco = tmp_path / "masks", tmp_path / "seen", tmp_path / "cells.json"
    code = main(["detect", str(frames), "--um-per-px", "0.44", "--masks", str(masks), "--out",
                 str(pictures), "--coco", str(coco), "--json"])  # fmt: skip
    assert code == 0
    outlines = json.loads(coco.read_text())
    for number, row in enumerate(lines(capsys), start=1):
        name = Path(row["image"]).stem
        labels = cv2.imread(str(masks / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert labels is not None and labels.dtype == np.uint16
        assert labels.shape == (row["height_px"], row["width_px"])
        assert row["detector"] == f"cells {load_detector('cells').card.version}"
        assert len(row["cells"]) > 5 and labels.max() == len(row["cells"])
        for cell in row["cells"]:
            assert labels[round(cell["y_px"]), round(cell["x_px"])] == cell["id"]
            assert 0 <= cell["score"] <= 1
        assert {one["reason"] for one in row["rejected"]} <= {str(r) for r in ObjectReason}
        own = [one for one in outlines["annotations"] if one["image_id"] == number]
        assert [one["area"] for one in own] == np.bincount(labels.ravel())[1:].tolist()
        picture = cv2.imread(str(pictures / f"{name}.png"))
        assert picture is not None and picture.shape[:2] == labels.shape


def test_outlines_never_overwrite_an_image(
    frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next(frames.glob("*.png"))
    before = image.read_bytes()
    assert main(["detect", str(frames), "--um-per-px", "0.44", "--coco", str(image)]) == 74
    assert "is one of the images" in capsys.readouterr().err and image.read_bytes() == before


def test_images_of_one_name_keep_their_outlines_apart(tmp_path: Path, frames: Path) -> None:
    image = next(frames.glob("*.png"))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(image.read_bytes())
    out = tmp_path / "cells.json"
    names = [str(tmp_path / folder) for folder in ("a", "b")]
    assert main(["detect", *names, "--um-per-px", "0.44", "--coco", str(out)]) == 0
    told = [one["file_name"] for one in json.loads(out.read_text())["images"]]
    assert told == ["a/x.png", "b/x.png"]


def test_two_kinds_of_png_need_two_folders(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = str(tmp_path / "x")
    assert main(["detect", str(frames), "--masks", here, "--out", here]) == 74
    assert "cannot hold both masks and pictures" in capsys.readouterr().err


def test_the_classical_detector_is_still_there(
    frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    arguments = ["detect", str(frames), "--um-per-px", "0.44"]
    assert main([*arguments, "--detector", "classical", "--json"]) == 0
    assert {row["detector"] for row in lines(capsys)} == {"classical"}
    assert main([*arguments, "--detector", "classical"]) == 0
    assert "found by 'classical'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text"),
    [("none", "neither an existing file nor a shipped name"), ("demo", "is a classifier")],
)
def test_a_detector_that_is_none_is_named(
    frames: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", str(frames), "--detector", name]) == 78
    assert text in capsys.readouterr().err


def test_the_daemon_finds_cells_with_the_network(rig: Rig) -> None:
    rig.start("--set", "detector.name=auto")
    save_frame(rig.folder / "a.png")
    rig.wait_done(1)
    (result,) = rig.frames()
    assert result["model"]["detector"] == f"cells {load_detector('cells').card.version}"
    assert result["cells"] and result["n_rejected"] == len(result["rejected"])
    assert rig.stop() == 0


def spoilt(path: Path) -> Path:
    """The shipped detector with a golden answer that it does not give."""
    bundle = load_detector("cells")
    proto = onnx.load_from_string(bundle.data)
    golden = msgspec.structs.replace(bundle.card.golden, tolerance=1e-12)
    card = msgspec.structs.replace(bundle.card, golden=golden)
    for entry in proto.metadata_props:
        if entry.key == "parfocal":
            entry.value = msgspec.json.encode(card).decode()
    path.write_bytes(proto.SerializeToString())
    return path


def test_a_detector_in_doubt_stops_the_service_before_its_first_frame(rig: Rig) -> None:
    path = spoilt(rig.home / "spoilt.onnx")
    rig.start("--set", f"detector.name={path}")
    assert rig.daemon is not None
    assert rig.daemon.wait(30) == 78
    assert "answers its own test frame wrongly" in rig.log()
    found = rig.run("check", "--config", str(rig.config), "--set", f"detector.name={path}")
    assert found.returncode != 0 and "set detector.name to 'classical'" in found.stdout


def test_a_detector_that_is_not_there_is_bad_configuration(rig: Rig) -> None:
    rig.start("--set", "detector.name=none")
    assert rig.daemon is not None
    assert rig.daemon.wait(30) == 78
    assert "no model 'none'" in rig.log()


def test_a_killed_reader_comes_back_with_its_detector(rig: Rig) -> None:
    rig.start("--set", "detector.name=auto")
    save_frame(rig.folder / "a.png")
    rig.wait_done(1)
    os.kill(rig.children()["parfocal.reader"], signal.SIGKILL)
    save_frame(rig.folder / "b.png", seed=1)
    rig.wait_done(2)
    assert len({frame["model"]["detector"] for frame in rig.frames()}) == 1
