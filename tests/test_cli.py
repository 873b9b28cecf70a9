"""The command line: exit statuses, one-sentence errors, machine output that is only that."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from rigs import Rig, free_ports, save_frame, until

from parfocal.bundle import load
from parfocal.classify import DeviceError
from parfocal.cli import main
from parfocal.config import Limits
from parfocal.detectors import choose
from parfocal.follow import COLUMNS
from parfocal.score import Classifying


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    "command",
    ["run", "check", "detect", "classify", "model list", "model show", "model test",
     "model compare", "flask open", "flask close", "flask show", "follow", "bench"],
)  # fmt: skip
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    assert "usage: parfocal" in capsys.readouterr().out


ERRORS = {
    "an image that does not exist": (["detect", "nowhere.png"], 65, "there is no image"),
    "a model that does not exist": (
        ["classify", "x.png", "--model", "nope"], 78, "neither an existing file nor a shipped",
    ),
    "no configuration": (["run", "--config", "nope.toml"], 78, "no configuration file nope.toml"),
    "a misspelt key": (["run", "--set", "source.pth=x"], 78, "did you mean source.path?"),
    "a value that does not fit": (["run", "--set", "model.device=tpu"], 78, "model.device"),
    "an output of unknown kind": (["follow", "--out", "x.xlsx"], 74, "a .csv or .jsonl file"),
    "an address without a port": (["follow", "--connect", "tcp://x"], 78, "tcp://HOST:PORT"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_an_error_is_one_sentence_with_its_status(
    case: tuple[list[str], int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, status, sentence = case
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (status, "")
    assert sentence in err and err.count("\n") == 1 and "Traceback" not in err


def test_flask_commands_without_a_daemon_say_not_recorded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = f"tcp://127.0.0.1:{free_ports()[0]}"
    code, _, err = run(capsys, "flask", "open", "F1", "--connect", address)
    assert code == 69 and "not recorded" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("flask|open| ", "a flask needs a name"),
        ("flask|open|F1|--passage|-1", "number from 0 on"),
        ("simulate|x|--mixed|2", "number from 0 to 1"),
        ("simulate|x|--density|-5", "0 to 2000 cells/mm2"),
        ("simulate|x|--flasks|0", "whole number from 1 on"),
        ("demo|--frames|0", "whole number from 1 on"),
        ("demo|--pace-s|nan", "0 to 3600 s"),
        ("bench|--repeats|0", "whole number from 1 on"),
    ],
)
def test_a_number_that_cannot_be_is_a_matter_of_usage(
    arguments: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments.split("|"))
    assert end.value.code == 2 and says in capsys.readouterr().err


def test_detect_writes_one_object_an_image_and_masks_of_its_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    for seed in range(2):
        save_frame(folder / f"{seed}.png", seed)
    (folder / "bad.png").write_bytes(b"nothing")
    code, out, err = run(
        capsys, "detect", str(folder), "--um-per-px", "0.44", "--json", "--masks",
        str(tmp_path / "masks"),
    )  # fmt: skip
    rows = {Path(row["image"]).name: row for row in map(json.loads, out.splitlines())}
    assert code == 65 and "bad.png" in err
    assert rows["bad.png"]["refused"]["reason"] == "not_an_image"
    assert [len(rows[f"{seed}.png"]["cells"]) for seed in range(2)] == [4, 4]
    masks = cv2.imread(str(tmp_path / "masks" / "0.png"), cv2.IMREAD_UNCHANGED)
    assert masks is not None and masks.dtype == np.uint16 and masks.shape == (512, 512)
    for cell in rows["0.png"]["cells"]:
        assert masks[round(cell["y_px"]), round(cell["x_px"])] == cell["id"]


def test_detect_without_a_scale_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_frame(tmp_path / "a.png")
    code, out, err = run(capsys, "detect", str(path))
    assert (code, out) == (65, "")
    assert "um_per_px" in err and "no_scale" in err


def test_classify_gives_results_an_annotated_picture_and_a_table(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out_dir = save_frame(tmp_path / "a.png"), tmp_path / "out"
    arguments = ["classify", str(path), "--model", str(tiny_bundle), "--um-per-px", "0.44"]
    code, out, _ = run(capsys, *arguments, "--json", "--out", str(out_dir))
    (result,) = map(json.loads, out.splitlines())
    assert code == 0 and len(result["cells"]) == 4
    assert json.loads((out_dir / "a.json").read_text()) == result
    picture = cv2.imread(str(out_dir / "a.png"))
    assert picture is not None and picture.shape[:2] == (512, 512)
    code, out, _ = run(capsys, *arguments)
    assert code == 0 and "a.png" in out and "1 caveat: parfocal model show tiny" in out


def test_classify_ready_crops_gives_one_object_a_crop(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crop = np.random.default_rng(0).integers(100, 200, (224, 224), np.uint8)
    cv2.imwrite(str(tmp_path / "crop.png"), crop)
    cv2.imwrite(str(tmp_path / "large.png"), cv2.resize(crop, (448, 448)))
    arguments = ["classify", "--crops", "--model", str(tiny_bundle), "--json"]
    code, out, _ = run(capsys, *arguments, str(tmp_path / "crop.png"))
    answer = json.loads(out)
    assert code == 0
    assert set(answer) == {
        "image", "label", "probability", "probabilities", "novelty", "phenotype", "accepted",
        "reason",
    }  # fmt: skip
    assert answer["probability"] == max(answer["probabilities"].values())
    code, _, err = run(capsys, *arguments, str(tmp_path / "large.png"))
    assert code == 65 and "--um-per-px" in err
    code, out, _ = run(capsys, *arguments, str(tmp_path / "large.png"), "--um-per-px", "0.22")
    assert code == 0 and json.loads(out)["label"] in ("alpha", "beta")


def test_models_are_listed_shown_and_tested(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "model", "show", str(tiny_bundle))
    assert code == 0 and "a test model: its answers mean nothing" in out
    code, out, _ = run(capsys, "model", "test", str(tiny_bundle), "--json")
    assert code == 0 and json.loads(out)["deviation"] < 0.01
    code, out, err = run(capsys, "model", "test", str(tiny_bundle), "--device", "cuda")
    assert code == 69 and "install the extra 'gpu'" in err


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_follow_stops_at_the_end_of_the_log_when_asked(rig: Rig, kind: str) -> None:
    rig.start()
    save_frame(rig.folder / "a.png")
    rig.wait_done(1)
    out = rig.home / f"results.{kind}"
    for _ in range(2):  # the second call finds nothing new
        done = rig.run("follow", "--connect", rig.live, "--out", str(out), "--catch-up")
        assert done.returncode == 0, done.stderr
    lines = out.read_text().splitlines()
    if kind == "csv":
        rows = list(csv.DictReader(lines))
        assert len(rows) == 4 and tuple(rows[0]) == COLUMNS
        assert {row["seq"] for row in rows} == {"1"}
    else:
        assert [json.loads(line)["header"]["seq"] for line in lines] == [1]


def test_follow_on_the_terminal_goes_on_where_it_stopped(rig: Rig) -> None:
    rig.start()
    save_frame(rig.folder / "a.png", seed=1)
    rig.wait_done(1)
    first = rig.run("follow", "--connect", rig.live, "--catch-up")
    assert "a.png" in first.stdout
    save_frame(rig.folder / "b.png", seed=2)
    rig.wait_done(2)
    second = rig.run("follow", "--connect", rig.live, "--catch-up")
    assert "b.png" in second.stdout and "a.png" not in second.stdout
    again = rig.run("follow", "--connect", rig.live, "--catch-up", "--since", "1")
    assert "a.png" in again.stdout and "b.png" in again.stdout


def test_check_is_content_with_a_good_set_up(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", "--config", str(rig.config))
    assert code == 0, out
    assert "ready to run" in out


def test_check_names_every_fault_and_its_remedy(
    rig: Rig, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    state = tmp_path / "a-file"
    state.write_text("in the way")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, out, _ = run(
            capsys, "check", "--config", str(rig.config), "--json",
            "--set", f"state_dir={state}/state", "--set", "source.path=/nowhere/at/all",
            "--set", f"publish.live=tcp://127.0.0.1:{taken.getsockname()[1]}",
            "--set", "publish.replay=tcp://0.0.0.0:1", "--set", "model.device=cuda",
        )  # fmt: skip
    found = [json.loads(line) for line in out.splitlines()]
    faults = {row["subject"] for row in found if not row["ok"]}
    assert code == 1
    assert faults == {"device", "state", "folder", "ports"}
    assert all(row["remedy"] for row in found if not row["ok"])
    texts = " ".join(row["text"] for row in found)
    assert "cannot be bound" in texts and "unauthenticated" in texts and "no CUDA" in texts


@pytest.mark.parametrize(
    ("override", "says"),
    [("model.bundle=nope", "no model 'nope'"), (f"model.sha256={'0' * 64}", "pins 0000")],
    ids=["no model", "wrong sha256"],
)
def test_check_names_a_faulty_model(
    rig: Rig, override: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "check", "--config", str(rig.config), "--set", override)
    assert code == 1 and says in out and "remedy" in out


def test_images_of_one_stem_get_outputs_of_their_own(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "images", tmp_path / "out"
    for seed, name in enumerate(["f1/0.1.png", "f2/0.1.png", "0.2.png", "0.3.png", "0.3.bmp"]):
        save_frame(folder / name, seed, side_px=300, n_cells=1)
    arguments = ["--um-per-px", "0.44", "--json"]
    code, _, err = run(capsys, "classify", str(folder), "--model", str(tiny_bundle), "--out",
                       str(out), *arguments)  # fmt: skip
    assert code == 0, err
    written = {str(path.relative_to(out)) for path in out.rglob("*.json")}
    assert written == {
        "f1/0.1.json", "f2/0.1.json", "0.2.json", "0.3.png.json", "0.3.bmp.json",
    }  # fmt: skip
    for path in out.rglob("*.json"):
        image = json.loads(path.read_text())["image"]["path"]
        assert str(path.relative_to(out)).removesuffix(".json") in image
    code, _, _ = run(capsys, "detect", str(folder), "--masks", str(tmp_path / "m"), *arguments)
    assert code == 0 and len(list((tmp_path / "m").rglob("*.png"))) == 5


@pytest.mark.parametrize("command", ["detect --masks", "classify --model {bundle} --out"])
def test_an_output_never_overwrites_an_image(
    command: str, tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_frame(tmp_path / "a.png")
    before = path.read_bytes()
    words = command.format(bundle=tiny_bundle).split()
    code, out, err = run(capsys, *words, str(tmp_path), str(path), "--um-per-px", "0.44")
    assert (code, out) == (74, "") and "is one of the images: name another folder" in err
    assert path.read_bytes() == before


def test_an_output_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_frame(tmp_path / "a.png")
    code, out, err = run(capsys, "detect", str(path), "--masks", str(path / "x"))
    assert (code, out) == (74, "") and "name another folder" in err and err.count("\n") == 1


def test_an_image_named_in_two_ways_is_scored_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_frame(tmp_path / "a.png")
    code, out, _ = run(capsys, "detect", str(path), f"{tmp_path}/./a.png", "--um-per-px", "0.44",
                       "--json")  # fmt: skip
    assert code == 0 and out.count("\n") == 1


def test_a_name_that_no_result_can_hold_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.png")).write_bytes(b"")
    code, out, err = run(capsys, "detect", str(tmp_path), "--json")
    assert (code, out) == (65, "") and "is not UTF-8: rename it" in err


@pytest.mark.parametrize("scale", ["nan", "inf", "0", "wide"])
def test_a_scale_that_is_none_is_refused(scale: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["detect", "a.png", "--um-per-px", scale])
    assert end.value.code == 2
    assert f"must be a number from 0.01 to 100 um/px, got '{scale}'" in capsys.readouterr().err


def test_a_reader_of_the_output_that_goes_away_is_no_error() -> None:
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    listing = subprocess.Popen(
        [sys.executable, "-m", "parfocal", "model", "list"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered,
    )  # fmt: skip
    assert listing.stdout is not None and listing.stderr is not None
    listing.stdout.close()
    with listing:
        assert (listing.stderr.read(), listing.wait(20)) == (b"", 0)


def test_ctrl_c_in_the_middle_leaves_no_process(
    rig: Rig, tmp_path: Path, tiny_bundle: Path
) -> None:
    for seed in range(40):
        save_frame(tmp_path / "images" / f"{seed}.png", seed % 3)
    running = rig.popen(
        "classify", str(tmp_path / "images"), "--model", str(tiny_bundle), "--um-per-px", "0.44",
        "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert running.stdout is not None and running.stderr is not None
    running.stdout.readline()
    children = psutil.Process(running.pid).children()
    assert len(children) == 2
    running.send_signal(signal.SIGINT)
    assert running.wait(10) == 130
    assert b"Traceback" not in running.stderr.read()
    assert psutil.wait_procs(children, 5)[1] == []


def test_names_are_shown_as_they_are_and_never_as_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "[bold]x[", "red]:smile:.png"
    save_frame(tmp_path / name[0] / name[1])
    code, out, _ = run(capsys, "detect", str(tmp_path), "--um-per-px", "0.44")
    assert code == 0 and "[bold]x[/red]:smile:.png" in "".join(out.split())


def test_each_fault_is_told_whole_whatever_its_path_is_called(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "a: b"
    state.write_text("in the way")
    code, out, _ = run(capsys, "check", "--config", str(rig.config), "--json",
                       "--set", f"state_dir={state}")  # fmt: skip
    (fault,) = [row for row in map(json.loads, out.splitlines()) if not row["ok"]]
    assert code == 1 and f"the state directory {state} cannot be written" in fault["text"]
    assert fault["remedy"] == "set state_dir to a local folder that this user can write"


def test_check_recognises_the_running_daemon(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.start()
    until(lambda: rig.rows("SELECT 1 FROM meta"), what="journal")
    code, out, _ = run(capsys, "check", "--config", str(rig.config))
    assert code == 0 and "in use by a running parfocal" in out
    assert out.count("in use by the running parfocal") == 2


def test_a_folder_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_frame(tmp_path / "a.png")
    locked, scandir = tmp_path / "locked", os.scandir
    locked.mkdir()

    def refuse(path: str) -> object:
        if str(path) == str(locked):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    code, out, err = run(capsys, "detect", str(tmp_path), "--um-per-px", "0.44")
    assert (code, out) == (65, "") and f"{locked} cannot be read (Permission denied)" in err


def test_a_model_that_is_lost_and_cannot_be_loaded_again_is_told(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(tiny_bundle.read_bytes())
    with (
        pytest.raises(DeviceError, match="neither an existing file"),
        Classifying(load(str(copy)), "cpu", Limits(), choose("classical")) as classifying,
    ):
        copy.unlink()
        classifying._child.close()
        classifying.answer(1)


def test_a_place_that_cannot_be_used_is_named_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    code, _, err = run(capsys, "simulate", str(tmp_path / "file"), "--fields", "1")
    assert code == 74 and "file cannot be used: File exists" in err and "Errno" not in err
    (tmp_path / "kept" / "images").mkdir(parents=True)
    code, _, err = run(capsys, "demo", "--keep", str(tmp_path / "kept"))
    assert code == 69 and "holds an earlier demonstration: name a new folder" in err
