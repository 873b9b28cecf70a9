"""The command line: exit statuses, one-sentence errors, machine output that is only that."""

import csv
import json
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
from rigs import Rig, free_ports, save_frame

from parfocal.cli import main
from parfocal.follow import COLUMNS


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    "command",
    ["run", "check", "detect", "classify", "model list", "model show", "model test", "flask open",
     "flask close", "flask show", "follow", "bench"],
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
        "image", "label", "probability", "probabilities", "novelty", "accepted", "reason",
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
