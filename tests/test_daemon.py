"""The whole daemon: real files, real processes, real sockets, real kills."""

import json
import os
import signal
import struct
import subprocess
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from rigs import Rig, save_frame, until

from parfocal.types import FrameResult


def follow_file(rig: Rig, out: Path) -> "subprocess.Popen[bytes]":
    return rig.popen("follow", "--connect", rig.live, "--out", str(out), stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL)  # fmt: skip


def followed(out: Path) -> list[dict[str, object]]:
    if not out.exists():
        return []
    return [json.loads(line) for line in out.read_bytes().split(b"\n")[:-1]]


def followed_images(out: Path) -> list[str]:
    lines = [line for line in followed(out) if str(line["topic"]).startswith("frame/")]
    return [os.path.basename(line["body"]["image"]["path"]) for line in lines]  # type: ignore[index]


def test_a_file_that_lands_has_one_result_with_everything_the_contract_names(rig: Rig) -> None:
    rig.start()
    save_frame(rig.folder / "a.png", seed=1)
    rig.wait_done(1)
    (result,) = rig.frames()
    assert set(result) >= {
        "image", "flask", "model", "quality", "cells", "rejected", "composition", "n_abstained",
        "n_rejected", "density", "timing_ms",
    }  # fmt: skip
    assert set(result["timing_ms"]) >= {
        "hash", "decode", "detect", "cut", "normalize", "infer", "record",
    }  # fmt: skip
    assert len(result["cells"]) == 4
    assert result["image"]["um_per_px"] == 0.44
    assert result["image"]["um_per_px_from"] == "configuration"
    assert result["model"]["provider"] == "CPUExecutionProvider"
    assert result["model"]["detector_matches_training"] is False
    assert sum(f["n"] for f in result["composition"].values()) + result["n_abstained"] == 4
    rows = rig.rows("SELECT count(*), min(length(lca)) FROM cell")
    assert rows == [(4, 2 * 9)]
    assert rig.stop() == 0


def test_a_burst_gives_one_result_a_file_in_the_order_they_were_seen(rig: Rig) -> None:
    rig.start()
    names = [f"{i:02}.png" for i in range(12)]
    for i, name in enumerate(names):
        save_frame(rig.folder / "sub" / name, seed=i)
    rig.wait_done(len(names))
    paths = [os.path.basename(body["image"]["path"]) for body in rig.frames()]
    assert sorted(paths) == names


@pytest.mark.parametrize("victim", ["parfocal.reader", "parfocal.inference"])
def test_a_killed_child_is_replaced_and_its_file_goes_round_again(rig: Rig, victim: str) -> None:
    rig.start()
    until(lambda: victim in rig.children(), what="child")
    for i in range(8):
        save_frame(rig.folder / f"{i}.png", seed=i)
        if i % 3 == 1 and (pid := rig.children().get(victim)):
            os.kill(pid, signal.SIGKILL)
    rig.wait_done(8)
    assert len(rig.frames()) == 8


def test_a_stopped_reader_is_noticed_killed_and_replaced(rig: Rig) -> None:
    rig.start("--set", "limits.read_wall_s=1")
    save_frame(rig.folder / "first.png", seed=1)
    rig.wait_done(1)  # the reader has its detector: from here on it must answer within a second
    pid = rig.children()["parfocal.reader"]
    os.kill(pid, signal.SIGSTOP)
    save_frame(rig.folder / "a.png")
    rig.wait_done(2)
    assert not psutil.pid_exists(pid)


def test_nothing_is_lost_or_doubled_through_kills_of_daemon_and_follower(
    rig: Rig, tmp_path: Path
) -> None:
    out, names = tmp_path / "results.jsonl", [f"{i:02}.png" for i in range(15)]
    rig.start()
    follower = follow_file(rig, out)
    for i, name in enumerate(names):
        save_frame(rig.folder / name, seed=i)
        if i in (3, 8, 12):
            rig.stop(signal.SIGKILL)
            rig.start()
        if i in (5, 9):
            follower.kill()
            follower.wait()
            follower = follow_file(rig, out)
    rig.wait_done(len(names), 60)
    until(lambda: len(followed_images(out)) >= len(names), 30, "all results followed")
    assert sorted(followed_images(out)) == names
    seqs = [line["header"]["seq"] for line in followed(out)]  # type: ignore[index]
    assert seqs == list(range(1, len(seqs) + 1))


def test_children_die_with_a_killed_daemon(rig: Rig) -> None:
    rig.start()
    until(lambda: len(rig.children()) == 2, what="children")
    pids = list(rig.children().values())
    rig.stop(signal.SIGKILL)
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids), 5, "children gone")


def png_of_zeros(side_px: int) -> bytes:
    """A valid square gray PNG of a few kB, however large its picture is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 + side_px)) for _ in range(side_px)) + packer.flush()
    head = struct.pack(">IIBBBBB", side_px, side_px, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def write_bad_files(folder: Path, good: bytes) -> dict[str, str]:
    """Bad inputs and the reason each must end (or wait) with."""
    _, jpeg = cv2.imencode(".jpg", np.zeros((200, 200), np.uint8))
    (folder / "half.jpg").write_bytes(jpeg.tobytes()[: len(jpeg) // 2])
    _, tiff = cv2.imencode(".tif", np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8))
    (folder / "half.tif").write_bytes(tiff.tobytes()[: len(tiff) // 2])
    (folder / "half.png").write_bytes(good[: len(good) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "bomb.png").write_bytes(png_of_zeros(30_000))
    (folder / "text.tif").write_text("these are notes, not pixels\n" * 50)
    os.mkfifo(folder / "pipe.tif")
    (folder / "folder.tif").mkdir()
    (folder / "link.png").symlink_to(folder / "good.png")
    (folder / "locked.png").write_bytes(good)
    return {
        "half.jpg": "incomplete", "half.tif": "incomplete", "half.png": "incomplete",
        "empty.png": "empty", "text.tif": "not_an_image", "pipe.tif": "not_a_file",
        "folder.tif": "not_a_file", "link.png": "not_a_file", "bomb.png": "too_large",
    }  # fmt: skip


def test_bad_files_get_their_reason_and_stop_nothing(rig: Rig) -> None:
    rig.start()
    good = save_frame(rig.folder / "good.png", seed=3).read_bytes()
    expected = write_bad_files(rig.folder, good)
    save_frame(rig.folder / "later.png", seed=4)
    rig.wait_done(2)

    def reasons() -> dict[str, str | None]:
        return {name: reason for name, (_, reason) in rig.files().items() if name in expected}

    until(lambda: reasons() == expected, 20, f"reasons {reasons()}")
    reader = psutil.Process(rig.children()["parfocal.reader"])
    assert reader.memory_info().rss < 400e6
    text = until(lambda: rig.rows("SELECT body FROM message WHERE topic LIKE 'alarm/%'"))[0][0]
    assert "was not scored" in json.loads(text)["text"]


def test_a_growing_file_is_scored_once_and_only_when_it_is_whole(rig: Rig, tmp_path: Path) -> None:
    rig.start()
    whole = save_frame(tmp_path / "whole.bmp", seed=5).read_bytes()
    with (rig.folder / "slow.bmp").open("wb", buffering=0) as file:
        for at in range(0, len(whole), len(whole) // 8):
            file.write(whole[at : at + len(whole) // 8])
            time.sleep(0.35)
            assert rig.frames() == []
    rig.wait_done(1)
    assert len(rig.frames()[0]["cells"]) == 4


def test_a_reserved_but_unfilled_file_waits_for_its_writer(rig: Rig, tmp_path: Path) -> None:
    rig.start()
    whole = save_frame(tmp_path / "whole.bmp", seed=5).read_bytes()
    with (rig.folder / "reserved.bmp").open("wb", buffering=0) as file:
        file.write(whole[: len(whole) // 2])
        file.truncate(len(whole))
        until(lambda: rig.files().get("reserved.bmp") == ("waiting", "incomplete"), what="waiting")
        file.write(whole[len(whole) // 2 :])
    rig.wait_done(1)
    (result,) = rig.frames()
    assert len(result["cells"]) == 4


def test_a_rewritten_file_has_a_second_revision_and_a_touched_one_has_not(rig: Rig) -> None:
    rig.start()
    path = save_frame(rig.folder / "a.png", seed=1)
    rig.wait_done(1)
    os.utime(path)
    until(lambda: rig.rows("SELECT mtime_ns FROM file")[0][0] == path.stat().st_mtime_ns)
    until(lambda: rig.files()["a.png"][0] == "done", what="touched file done again")
    save_frame(path, seed=2)
    until(lambda: len(rig.frames()) == 2, what="second revision")
    assert [body["revision"] for body in rig.frames()] == [1, 2]


def test_the_flask_on_the_stage_is_stated_and_a_copy_is_not_counted_twice(rig: Rig) -> None:
    rig.start()
    opened = until(lambda: _open(rig, "F12"), what="flask open")
    assert "F12" in opened
    path = save_frame(rig.folder / "a.png", seed=1)
    rig.wait_done(1)
    (rig.folder / "copy.png").write_bytes(path.read_bytes())
    until(lambda: rig.files().get("copy.png") == ("quarantined", "duplicate"), what="duplicate")
    (result,) = rig.frames()
    assert result["flask"]["id"] == "F12" and result["flask"]["passage"] == 7
    shown = rig.run("flask", "show", "--connect", rig.live, "--json")
    assert json.loads(shown.stdout)["flask"]["cell_line"] == "HeLa"
    closed = rig.run("flask", "close", "--connect", rig.live)
    assert "closed flask F12" in closed.stdout
    save_frame(rig.folder / "b.png", seed=2)
    rig.wait_done(2)
    assert rig.frames()[1]["flask"] is None


def _open(rig: Rig, name: str) -> str | None:
    done = rig.run("flask", "open", name, "--cell-line", "HeLa", "--passage", "7",
                   "--connect", rig.live)  # fmt: skip
    return done.stdout if done.returncode == 0 else None


def test_folder_and_sidecar_declare_scale_and_flask(rig: Rig) -> None:
    rig.start()
    sub = rig.folder / "flask9"
    sub.mkdir()
    (sub / "parfocal-folder.toml").write_text('um_per_px = 0.5\n[flask]\nid = "F9"\n')
    (sub / "b.png.toml").write_text("um_per_px = 0.6\n")
    save_frame(sub / "a.png", seed=1)
    save_frame(sub / "b.png", seed=2)
    rig.wait_done(2)
    found = {os.path.basename(b["image"]["path"]): b for b in rig.frames()}
    assert found["a.png"]["image"]["um_per_px_from"] == "folder"
    assert found["b.png"]["image"]["um_per_px"] == 0.6
    assert found["b.png"]["image"]["um_per_px_from"] == "sidecar"
    assert found["a.png"]["flask"] == found["b.png"]["flask"]
    assert found["a.png"]["flask"]["id"] == "F9"


def test_files_present_at_the_start_are_scored_without_a_flask(rig: Rig) -> None:
    save_frame(rig.folder / "early.png", seed=1)
    rig.start()
    rig.wait_done(1)
    assert rig.frames()[0]["flask"] is None


def test_a_second_daemon_on_the_same_state_is_refused(rig: Rig) -> None:
    rig.start()
    until(lambda: rig.rows("SELECT 1 FROM meta"), what="journal")
    second = rig.run("run", "--config", str(rig.config))
    assert second.returncode == 78
    assert f"already running on {rig.state} (process {rig.daemon and rig.daemon.pid})" in (
        second.stderr
    )


def test_reload_takes_the_new_configuration_and_a_broken_one_changes_nothing(rig: Rig) -> None:
    rig.start()
    save_frame(rig.folder / "a.png", seed=1)
    rig.wait_done(1)
    text = rig.config.read_text()
    rig.config.write_text(text.replace("0.44", '"wide"'))
    assert rig.daemon is not None
    rig.daemon.send_signal(signal.SIGHUP)
    until(lambda: "is not used" in rig.log(), what="broken configuration refused")
    rig.config.write_text(text.replace("um_per_px = 0.44", "um_per_px = 0.5"))
    save_frame(rig.folder / "b.png", seed=2)
    rig.wait_done(2)
    rig.daemon.send_signal(signal.SIGHUP)
    until(lambda: rig.log().count("watching") == 3, what="reloaded")
    save_frame(rig.folder / "c.png", seed=3)
    rig.wait_done(3)
    assert [body["image"]["um_per_px"] for body in rig.frames()] == [0.44, 0.44, 0.5]
    assert rig.stop() == 0


def test_the_watched_folder_may_come_later_and_go(rig: Rig) -> None:
    rig.folder.rmdir()
    rig.start()
    beats = rig.popen("follow", "--connect", rig.live, "--json", stdout=subprocess.PIPE)
    until(lambda: rig.rows("SELECT 1 FROM meta"), what="journal")
    rig.folder.mkdir()
    save_frame(rig.folder / "a.png", seed=1)
    rig.wait_done(1, 40)
    assert beats.stdout is not None
    line = json.loads(beats.stdout.readline())
    assert line["topic"] == "frame/test/" and line["header"]["seq"] == 1


def test_a_file_refused_for_lack_of_a_scale_is_scored_once_there_is_one(rig: Rig) -> None:
    rig.config.write_text(rig.config.read_text().replace("um_per_px = 0.44\n", ""))
    rig.start()
    save_frame(rig.folder / "a.png", seed=1)
    until(lambda: rig.files().get("a.png") == ("quarantined", "no_scale"), what="no scale")
    (rig.folder / "parfocal-folder.toml").write_text("um_per_px = 0.44\n")
    assert rig.daemon is not None
    rig.daemon.send_signal(signal.SIGHUP)
    rig.wait_done(1)
    assert rig.frames()[0]["image"]["um_per_px_from"] == "folder"


def test_a_running_service_needs_a_folder(rig: Rig) -> None:
    done = rig.run("run", "--config", str(rig.config), "--set", "source.path=")
    assert done.returncode == 78 and "name the folder to watch" in done.stderr


def test_every_frame_message_decodes_as_the_published_type(rig: Rig) -> None:
    import msgspec

    rig.start()
    save_frame(rig.folder / "a.png", seed=1)
    rig.wait_done(1)
    ((body,),) = rig.rows("SELECT body FROM message WHERE topic = 'frame/test/'")
    result = msgspec.json.decode(body, type=FrameResult)
    assert all(0 <= c.probability <= 1 and 0 <= c.novelty < 1 for c in result.cells)


def test_an_unusable_model_stops_the_start_with_a_sentence(rig: Rig) -> None:
    done = rig.run("run", "--config", str(rig.config), "--set", "model.bundle=nothing.onnx")
    assert done.returncode == 78
    assert "no model 'nothing.onnx'" in done.stderr and "Traceback" not in done.stderr


def verdicts(rig: Rig) -> list[dict[str, object]]:
    rows = rig.rows("SELECT body FROM message WHERE topic LIKE 'flask/%' ORDER BY seq")
    return [json.loads(body) for (body,) in rows]


def test_a_flask_has_running_totals_and_final_ones_when_it_is_closed(rig: Rig) -> None:
    rig.start()
    until(lambda: _open(rig, "F12"), what="flask open")
    for i in range(3):
        save_frame(rig.folder / f"{i}.png", seed=i)
    rig.wait_done(3)
    rig.stop(signal.SIGKILL)
    rig.start()
    until(lambda: rig.run("flask", "close", "--connect", rig.live).returncode == 0, what="closed")
    last = verdicts(rig)[-1]
    assert last["open"] is False
    assert (last["n_frames"], last["n_cells"]) == (3, 12)
    shares = list(last["composition"].values())  # type: ignore[attr-defined]
    assert all(f["low"] <= f["fraction"] <= f["high"] for f in shares)


def test_a_full_disk_ends_the_daemon_with_a_sentence_and_a_restart_goes_on(rig: Rig) -> None:
    import resource

    rig.start()
    save_frame(rig.folder / "0.png", seed=0)
    rig.wait_done(1)
    assert rig.daemon is not None
    log = rig.state / "journal.sqlite-wal"
    limit = log.stat().st_size + 20_000
    resource.prlimit(rig.daemon.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for i in range(1, 6):
        save_frame(rig.folder / f"{i}.png", seed=i)
    assert rig.daemon.wait(20) == 74
    assert "cannot be written" in rig.log() and "Traceback" not in rig.log()
    assert "free space there" in rig.log().splitlines()[-1]
    rig.start()
    rig.wait_done(6)
    names = [os.path.basename(body["image"]["path"]) for body in rig.frames()]
    assert sorted(names) == [f"{i}.png" for i in range(6)]
    seqs = [seq for (seq,) in rig.rows("SELECT seq FROM message ORDER BY seq")]
    assert seqs == list(range(1, len(seqs) + 1))
