"""`parfocal camera`, `parfocal check` and the shipped examples, through the command line."""

import json
import os
import re
from pathlib import Path

import msgspec
import pytest
from rigs import free_ports

from parfocal import cli
from parfocal.camera import source as sources
from parfocal.camera.device import Described
from parfocal.commands.camera import patience_s
from parfocal.config import CameraSettings, ConfigError, load, parse
from parfocal.images import decode

SYSTEMD = Path(__file__).parents[1] / "systemd"
SIMULATED = (
    "--set", 'source.camera.device=["simulated", "IX50"]', "--set",
    "source.camera.roi=[0, 0, 160, 120]",
)  # fmt: skip
DEMO = ("--device", "DemoCamera", "DCam", "--exposure-ms", "3")
NO_FILE = ("--config", "/dev/null")


def rows(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_list_names_what_the_adapters_know(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pymmcore_plus", reason="needs the extra 'camera'")
    assert cli.main(["camera", "list", "--json"]) == 0
    said = capsys.readouterr()
    found = {(row["library"], row["name"]) for row in rows(said.out)}
    assert found >= {("DemoCamera", "DCam"), ("simulated", "IX50")}
    assert "adapters: " in said.err


def test_a_real_camera_is_tested_and_snapped(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("pymmcore_plus", reason="needs the extra 'camera'")
    assert cli.main(["camera", "test", *NO_FILE, *DEMO, "--frames", "8", "--json"]) in (0, 1)
    (row,) = rows(capsys.readouterr().out)
    assert row["name"] == "DCam" and row["exposure_ms"] == 3.0
    assert row["frames"] == 8
    assert isinstance(row["fps"], float) and row["fps"] > 0.5
    image = tmp_path / "a.png"
    assert cli.main(["camera", "snap", *NO_FILE, *DEMO, str(image)]) == 0
    assert "DCam of DemoCamera: 512x512 px, 8bit, 3 ms" in capsys.readouterr().out
    assert decode(image.read_bytes()).pixels.shape == (512, 512)


def test_an_adapter_that_crashes_is_told_and_takes_nothing_with_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("pymmcore_plus", reason="needs the extra 'camera'")
    crash = 'source.camera.properties={ SimulateCrash = "Dereference Null Pointer" }'
    image = str(tmp_path / "a.png")
    assert cli.main(["camera", "snap", *NO_FILE, *DEMO, "--set", crash, image]) == 69
    assert "camera died (signal 11): its driver hangs or crashed" in capsys.readouterr().err
    assert not os.path.exists(image)


def test_preview_refreshes_a_jpeg(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "view.jpg"
    status = cli.main(
        ["camera", "preview", *NO_FILE, *SIMULATED, "--out", str(out), "--frames", "2"]
    )
    assert status == 0 and capsys.readouterr().out.count("frames/s") == 2
    assert decode(out.read_bytes()).pixels.shape == (120, 160, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["view.jpg"]


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["snap", *SIMULATED, "a.bmp"], 78, "name it a.png"),
        (["snap", *SIMULATED, "there.png"], 78, "there.png is there already"),
        (["preview", *SIMULATED, "--out", "a.png"], 78, "a preview is a JPEG"),
        (["test"], 78, "no camera is configured: give --device"),
        (["test", "--device", "simulated", "IX51"], 69, "the only simulated camera is"),
        (["snap", *SIMULATED, "none/a.png"], 69, "cannot be written: No such file"),
    ],
)
def test_a_wrong_command_is_answered_with_its_remedy(
    arguments: list[str], status: int, why: str, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").touch()
    what, *more = arguments
    assert cli.main(["camera", what, *NO_FILE, *more]) == status
    assert why in capsys.readouterr().err


def test_a_child_that_hangs_is_no_camera(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stuck.py").write_text("import time\ntime.sleep(3600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sources, "MODULE", "stuck")
    wall = ("--set", "source.camera.open_wall_s=1")
    assert cli.main(["camera", "test", *NO_FILE, *SIMULATED, *wall]) == 69
    assert "gave no answer within 1 s: its driver hangs or crashed" in capsys.readouterr().err


def check(tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[tuple[str, bool]]:
    """Subject and soundness of what `parfocal check` says of camera, folder and scale."""
    live, replay = free_ports()
    values = {
        "source.kind": "camera", "source.path": str(tmp_path / "frames"),
        "state_dir": str(tmp_path / "state"), "detector.name": "classical",
        "publish.live": f"tcp://127.0.0.1:{live}", "publish.replay": f"tcp://127.0.0.1:{replay}",
    }  # fmt: skip
    given = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    cli.main(["check", "--json", *NO_FILE, *given, *more])
    found = [(str(row["subject"]), bool(row["ok"])) for row in rows(capsys.readouterr().out)]
    return [row for row in found if row[0] in ("camera", "folder", "scale")]


def test_check_opens_the_camera_and_asks_for_what_it_cannot_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = check(tmp_path, capsys, *SIMULATED)
    assert found == [("camera", True), ("camera", True), ("folder", True), ("scale", False)]
    wrong = "source.camera.device=['simulated', 'IX51']"
    scaled = ("--set", "source.um_per_px=0.44")
    (tmp_path / "frames").touch()
    found = check(tmp_path, capsys, *SIMULATED, "--set", wrong, *scaled)
    assert found == [("camera", False), ("folder", False)]


def test_the_service_does_not_start_with_a_camera_of_unknown_scale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ("--set", f"source.path={tmp_path}", "--set", "source.kind=camera")
    assert cli.main(["run", *NO_FILE, *SIMULATED, *there]) == 78
    assert "source.um_per_px is not set, and a camera knows no pixel" in capsys.readouterr().err


@pytest.mark.parametrize(("exposure_ms", "wait_s"), [(3.0, 10.0), (60_000.0, 190.0)])
def test_a_long_exposure_is_waited_for(exposure_ms: float, wait_s: float) -> None:
    described = Described(
        name="c", library="l", width_px=1, height_px=1, bits=8, pixel_type="8bit",
        trigger="continuous", exposure_ms=exposure_ms,
    )  # fmt: skip
    assert patience_s(described) == pytest.approx(wait_s, abs=0.1)


def test_the_lumenera_example_watches_a_folder_that_windows_fills() -> None:
    shipped = load(SYSTEMD / "lumenera.toml")
    assert shipped.source.kind == "folder" and shipped.source.um_per_px == 0.44
    assert shipped.source.camera == CameraSettings() and shipped.flask.folder_names


def test_what_the_lumenera_example_has_never_run_is_a_configuration_too(tmp_path: Path) -> None:
    text = (SYSTEMD / "lumenera.toml").read_text()
    assert "NEVER RUN" in text
    before, rest = text.split("\n[source]\n")
    shown = re.sub(r"^# ", "", rest[rest.index("# [source]\n") :], flags=re.M)
    path = tmp_path / "p.toml"
    path.write_text(f"{before}\n{shown}")
    source = load(path).source
    assert source.kind == "camera" and source.um_per_px == 0.44
    assert source.camera.device == ("Lumenera", "LumeneraCamera")
    assert source.camera.properties == {"Camera Index": 1, "Gamma": 1.0}
    assert Path(source.path).is_relative_to("/var/lib/parfocal")  # all the unit may write


def test_the_folder_road_is_the_default_configuration_and_lists_every_camera_key() -> None:
    assert load(SYSTEMD / "parfocal.toml").source.kind == "folder"
    table = (SYSTEMD / "parfocal.toml").read_text().split("\n[source.camera]\n")[1].split("\n[")[0]
    for field in msgspec.structs.fields(CameraSettings):
        assert f"{field.name} = " in table, field.name


def test_the_commented_camera_keys_are_a_configuration_too(tmp_path: Path) -> None:
    text = (SYSTEMD / "parfocal.toml").read_text()
    before, table = text.split("\n[source.camera]\n")
    table, after = table.split("\n[", 1)
    shown = re.sub(r"^# (?=\w+ = )(?!config_file)", "", table, flags=re.M)
    path = tmp_path / "p.toml"
    path.write_text(before + "\n[source.camera]\n" + shown + "\n[" + after)
    camera = load(path).source.camera
    assert camera.device == ("DemoCamera", "DCam") and camera.roi == (0, 0, 1616, 1216)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"kind": "camera"}, "set source.camera.device or source.camera.config_file"),
        ({"camera": {"exposur_ms": 1}}, "did you mean source.camera.exposure_ms?"),
        ({"camera": {"device": ["a"]}}, "source.camera.device"),
        ({"camera": {"device": ["a", "b"], "config_file": "c"}}, "give one of them"),
        ({"camera": {"exposure_ms": 0}}, "exposure_ms is 0.0, not between 0.001 and 60000"),
        ({"camera": {"every_s": -1}}, "every_s is -1.0, not between 0 and 86400"),
        ({"camera": {"buffer_mb": 1}}, "buffer_mb is 1, not between 8 and 65536"),
        ({"camera": {"roi": [0, 0, 0, 10]}}, "it takes left, top, width, height"),
        ({"camera": {"trigger": "manual"}}, "Invalid enum value 'manual'"),
        ({"camera": {"properties": {"Gamma": [1]}}}, "source.camera.properties"),
    ],
)
def test_a_wrong_camera_table_is_refused(table: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse({"source": table}, "here")
    assert why in str(raised.value)
