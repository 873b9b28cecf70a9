"""The main job on real images, through kills of everything that can be killed.

The images are not part of the project; without them these tests are skipped.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from rigs import Rig, until

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = {"usiigaci_t98g": 0.8708, "bf_flask": 0.641}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not DATA.exists(), reason="the real development images are not here"),
]


def prepare_folders(rig: Rig) -> None:
    for name, um_per_px in SETS.items():
        (rig.folder / name).mkdir()
        (rig.folder / name / "parfocal-folder.toml").write_text(f"um_per_px = {um_per_px}\n")


def copy(rig: Rig, name: str, pause_s: float) -> list[str]:
    """Copy a set into its folder, one by one or all at once."""
    copied = []
    for image in sorted((DATA / "detection" / name / "images").iterdir()):
        shutil.copyfile(image, rig.folder / name / image.name)
        copied.append(f"{name}/{image.name}")
        time.sleep(pause_s)
    return copied


def followed(rig: Rig, out: Path) -> list[str]:
    lines = out.read_bytes().split(b"\n")[:-1] if out.exists() else []
    rows = [json.loads(line) for line in lines]
    paths = [r["body"]["image"]["path"] for r in rows if r["topic"].startswith("frame/")]
    return [os.path.relpath(path, rig.folder) for path in paths]


def start_follow(rig: Rig, out: Path) -> "subprocess.Popen[bytes]":
    return rig.popen("follow", "--connect", rig.live, "--out", str(out),
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def use_shipped_model(rig: Rig) -> None:
    text = rig.config.read_text()
    bundle = text.split('bundle = "')[1].split('"')[0]
    rig.config.write_text(text.replace(bundle, "hek293a-ht1080"))


def kill_child(rig: Rig, module: str) -> None:
    pid = until(lambda: rig.children().get(module), what=module)
    os.kill(pid, signal.SIGKILL)


def test_every_real_image_has_one_result_through_kills_of_daemon_workers_and_follower(
    rig: Rig, tmp_path: Path
) -> None:
    use_shipped_model(rig)
    prepare_folders(rig)
    out = tmp_path / "results.jsonl"
    rig.start()
    until(lambda: "model hek293a-ht1080" in rig.log(), what="model loaded")
    follower = start_follow(rig, out)
    wanted = copy(rig, "usiigaci_t98g", 0.3)  # one by one
    kill_child(rig, "parfocal.reader")
    until(lambda: len(followed(rig, out)) >= 3, 120, "first results")
    kill_child(rig, "parfocal.inference")
    follower.kill()
    follower.wait()
    follower = start_follow(rig, out)
    wanted += copy(rig, "bf_flask", 0.0)  # in a burst
    until(lambda: len(followed(rig, out)) >= 8, 120, "more results")
    rig.stop(signal.SIGKILL)
    rig.start()
    until(lambda: len(followed(rig, out)) >= len(wanted), 400, f"all of {len(wanted)} results")
    assert Counter(followed(rig, out)) == Counter(wanted)
    results = rig.frames()
    for body in results:
        folder = Path(body["image"]["path"]).parent.name
        assert body["image"]["um_per_px"] == SETS[folder]
        assert body["image"]["um_per_px_from"] == "folder"
        assert body["cells"], f"no cells in {body['image']['path']}"
