"""Stored images once more: all, in order, under their flasks, and nothing old is touched."""

import csv
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from rigs import Rig, card_text, save_frame, save_model, tiny_card, tiny_graph, tiny_weights, until
from test_flask_sessions import save_labelled

from parfocal.cli import main
from parfocal.replay_images import source_at
from parfocal.simulator import HEK293A, HT1080, Camera, Flask
from parfocal.simulator import Rig as Microscope
from parfocal.simulator.save import save
from parfocal.workers import WorkerFault, Workers

SMALL = Microscope(camera=Camera(width_px=720, height_px=640))
Finished = subprocess.CompletedProcess[str]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "parfocal", "replay", *map(str, arguments)]


def replay(*arguments: object) -> Finished:
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(*arguments, "--detector", "classical", "--device", "cpu"),
        capture_output=True, text=True, timeout=50, env=environment,
    )  # fmt: skip


def last_line(done: Finished) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def rows(journal: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def frames(out: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    return [line["body"] for line in lines if line["topic"] == "frame/replay/"]


def hashes(folder: Path) -> dict[str, str]:
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.is_file()
    }


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated flasks of three small fields, declared by their folders."""
    home = tmp_path_factory.mktemp("replay")
    folder = home / "images"
    for number, line in enumerate((HEK293A, HT1080)):
        flask = Flask(((line, 1.0),), 140, 70 + number, rig=SMALL)
        for field in range(3):
            save(flask.field(field), home / f"f{number}", f"field-{field}")
        shutil.move(home / f"f{number}", folder / f"f{number}")  # without the truth beside it
        (folder / f"f{number}" / "parfocal-folder.toml").write_text(
            f'um_per_px = 0.44\n[flask]\nid = "F{number}"\ncell_line = "alpha"\npassage = 3\n'
        )
    return folder


@pytest.fixture(scope="module")
def first(
    images: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Finished]:
    """A replay of the folder."""
    out = tmp_path_factory.mktemp("first") / "out"
    return out, replay(images, "-o", out, "--model", tiny_bundle)


@pytest.fixture(scope="module")
def opposite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers the other class for every cell."""
    weights, path = -tiny_weights(), tmp_path_factory.mktemp("opposite") / "opposite.onnx"
    card = msgspec.structs.replace(tiny_card(weights), name="opposite")
    return save_model(path, tiny_graph(weights), card_text(card))


def copied(first: tuple[Path, Finished], to: Path) -> Path:
    """A copy of the journal, which a test may spoil."""
    return Path(shutil.copy(first[0] / "journal.sqlite", to / "old.sqlite"))


def test_a_folder_is_scored_in_order_under_its_flasks(
    first: tuple[Path, Finished], images: Path
) -> None:
    out, done = first
    assert done.returncode == 0, done.stderr
    got = frames(out)
    expected = [str(images / f"f{n}" / f"field-{k}.png") for n in range(2) for k in range(3)]
    assert [body["image"]["path"] for body in got] == expected
    assert [body["flask"]["id"] for body in got] == ["F0"] * 3 + ["F1"] * 3
    assert all(body["image"]["um_per_px_from"] == "folder" for body in got)
    assert "6 of 6 images scored" in done.stdout and "model tiny 1" in done.stdout
    n_cells = sum(len(body["cells"]) for body in got[:3])
    (line,) = [line for line in done.stdout.splitlines() if line.strip().startswith("F0")]
    assert n_cells >= 3 and line.split()[1:3] == ["3", str(n_cells)]


def test_each_flask_ends_with_totals_of_all_its_images(first: tuple[Path, Finished]) -> None:
    sql = "SELECT body FROM message WHERE topic = 'flask/replay/' ORDER BY seq"
    told = [json.loads(body) for (body,) in rows(first[0] / "journal.sqlite", sql)]
    last = {body["flask"]["id"]: body for body in told}
    assert {name: (v["n_frames"], v["open"]) for name, v in last.items()} == {
        "F0": (3, False), "F1": (3, False),
    }  # fmt: skip


def test_a_journal_is_replayed_alike_and_left_as_it_was(
    first: tuple[Path, Finished], tiny_bundle: Path, tmp_path: Path
) -> None:
    before, out = hashes(first[0]), tmp_path / "out"
    done = replay(first[0], "-o", out, "--model", tiny_bundle, "--json")
    assert done.returncode == 0, done.stderr
    assert hashes(first[0]) == before
    told = last_line(done)["comparison"]
    assert told["agreement"]["kappa"] == 1 and told["n_class_changed"] == 0
    assert (told["n_only_old"], told["n_only_new"], told["n_flasks_changed"]) == (0, 0, 0)
    for old, new in zip(frames(first[0]), frames(out), strict=True):
        assert (old["image"], old["cells"]) == (new["image"], new["cells"])
        assert old["flask"]["session"] == new["flask"]["session"]
    topics = {json.loads(line).get("topic") for line in done.stdout.splitlines()}
    assert topics == {"frame/replay/", "flask/replay/", None}


def test_another_model_shows_every_cell_and_flask_that_changes(
    first: tuple[Path, Finished], opposite: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = replay(first[0], "-o", out, "--model", opposite)
    assert done.returncode == 0, done.stderr
    told = json.loads((out / "compare.json").read_text())
    assert told["n_class_changed"] == told["n_matched"] > 10
    assert told["agreement"]["same"] == 0 and told["agreement"]["kappa"] <= 0
    assert told["agreement"]["unit"] == "image" and told["agreement"]["n_units"] == 6
    assert "largest class" in told["flasks"][0]["changed"]
    assert "Agreement is not accuracy" in done.stdout and "CHANGED: largest class" in done.stdout
    with (out / "compare.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert len(cells) == told["n_matched"]
    assert {row["what"] for row in cells} == {"changed"}
    assert {row["flask"] for row in cells} == {"F0", "F1"}


def test_missing_and_changed_files_are_counted_and_the_others_scored_as_they_were(
    first: tuple[Path, Finished], images: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    moved, journal = tmp_path / "images", copied(first, tmp_path)
    shutil.copytree(images, moved)
    with closing(sqlite3.connect(journal)) as db, db:
        db.execute("UPDATE file SET path = replace(path, ?, ?)", (str(images), str(moved)))
    (moved / "f0" / "field-1.png").unlink()
    shutil.copy(moved / "f1" / "field-0.png", moved / "f0" / "field-2.png")
    for number in range(2):  # what is declared now is not what was declared then
        (moved / f"f{number}" / "parfocal-folder.toml").write_text(
            'um_per_px = 0.9\n[flask]\nid = "another"\n'
        )
    done = replay(journal, "-o", tmp_path / "out", "--model", tiny_bundle)
    assert done.returncode == 65
    assert "4 of 6 images scored" in done.stdout
    refused = [line.split()[:2] for line in done.stdout.splitlines()]
    assert ["1", "changed"] in refused and ["1", "vanished"] in refused
    assert "told of 3 images" in done.stdout
    assert str(moved / "f0" / "field-2.png") in done.stderr
    got = frames(tmp_path / "out")
    assert [body["flask"]["id"] for body in got] == ["F0", "F1", "F1", "F1"]
    assert {body["image"]["um_per_px"] for body in got} == {0.44}
    assert {body["image"]["um_per_px_from"] for body in got} == {"folder"}


def test_sessions_of_a_real_daemon_keep_their_images(rig: Rig, tiny_bundle: Path) -> None:
    save_frame(rig.folder / "a.png", seed=1)  # before any flask
    rig.start()
    until(lambda: rig.run("flask", "open", "S1", "--connect", rig.live).returncode == 0)
    save_frame(rig.folder / "b.png", seed=2)
    rig.wait_done(2)
    save_frame(rig.folder / "b.png", seed=3)  # its first content is gone
    until(lambda: len(rig.frames()) == 3)
    out = rig.home / "out"
    done = replay(rig.state, "-o", out, "--model", tiny_bundle)  # the daemon still runs
    assert done.returncode == 0, done.stderr
    assert "1 of the journal's images are gone: their files were rewritten" in done.stdout
    old, new = rig.frames(), frames(out)
    assert [body["flask"] and body["flask"]["id"] for body in new] == [None, "S1"]
    assert new[1]["flask"]["session"] == old[2]["flask"]["session"]
    assert [body["image"]["sha256"] for body in new] == [old[0]["image"]["sha256"],
                                                         old[2]["image"]["sha256"]]  # fmt: skip
    sql = "SELECT * FROM flask_session"
    assert rows(out / "journal.sqlite", sql) == rows(rig.state / "journal.sqlite", sql)


def test_a_killed_child_is_replaced_and_nothing_is_lost(tiny_bundle: Path, tmp_path: Path) -> None:
    for seed in range(8):
        save_frame(tmp_path / "in" / f"{seed:02}.png", seed=seed)
    with started(tmp_path, tiny_bundle) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the first result: both children are at work
        for child in psutil.Process(process.pid).children():
            child.kill()
        out, _ = process.communicate(timeout=50)
    assert process.returncode == 0
    names = [os.path.basename(body["image"]["path"]) for body in frames(tmp_path / "out")]
    assert sorted(names) == [f"{seed:02}.png" for seed in range(8)]
    assert json.loads(out.splitlines()[-1])["replay"]["n_scored"] == 8


def started(home: Path, bundle: Path) -> "subprocess.Popen[str]":
    arguments = (home / "in", "-o", home / "out", "--model", bundle, "--detector", "classical",
                 "--um-per-px", "0.44", "--json")  # fmt: skip
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def test_ctrl_c_ends_everything_and_the_folder_is_not_taken_again(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(20):
        save_frame(tmp_path / "in" / f"{seed:02}.png", seed=seed)
    with started(tmp_path, tiny_bundle) as process:
        assert process.stdout is not None
        process.stdout.readline()
        children = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and len(children) == 2
    assert not any(child.is_running() for child in children)
    told = json.loads(out.splitlines()[-1])["replay"]
    assert told["finished"] is False and 1 <= told["n_scored"] < 20
    again = ["replay", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model",
             str(tiny_bundle)]  # fmt: skip
    assert main(again) == 74
    assert "holds a journal.sqlite already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "there is no"), (b"notes", "is no journal"), (b"SQLite format 3\0", "cannot be read")],
)
def test_a_source_that_is_none_gets_a_sentence(
    content: bytes | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source.sqlite"
    if content is not None:
        source.write_bytes(content)
    assert main(["replay", str(source), "-o", str(tmp_path / "out")]) == 65
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pixel_sizes_of_a_data_set_come_from_its_table(tiny_bundle: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for seed, name in enumerate(("a.png", "deep/b.png", "c.png")):
        image = save_frame(folder / name, seed=seed)
        (image.parent / f"{image.name}.toml").write_text("um_per_px = 0.44\n")
    (folder / "flasks.csv").write_text(
        "\ufeffpath, cell_line, um_per_px\na.png,alpha,0.5\n./deep/b.png,alpha,0.6\nc.png,alpha,\n"
    )
    replay(folder, "-o", out, "--model", tiny_bundle)
    found = {Path(f["image"]["path"]).name: f["image"] for f in frames(out)}
    assert {name: (i["um_per_px"], i["um_per_px_from"]) for name, i in found.items()} == {
        "a.png": (0.5, "table"), "b.png": (0.6, "table"), "c.png": (0.44, "sidecar"),
    }  # fmt: skip
    replay(out, "-o", tmp_path / "again", "--model", tiny_bundle)
    again = {f["image"]["path"]: f["image"] for f in frames(tmp_path / "again")}
    assert again == {one["path"]: one for one in found.values()}
    said = {(one.um_per_px, one.um_per_px_from) for one in source_at(folder, 0.55).images}
    assert said == {(0.55, "argument")}


def test_the_rig_says_how_it_is_replayed_and_the_command_what_is_other(
    opposite: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    for seed, name in enumerate(("F1_alpha_P3/a.png", "F1_alpha_P3/b.png", "large.png")):
        save_frame(tmp_path / "in" / name, seed=seed, side_px=512 + 400 * (seed == 2))
    config, sha256 = tmp_path / "rig.toml", hashlib.sha256(opposite.read_bytes()).hexdigest()
    config.write_text(
        f'rig = "ix50"\nstate_dir = "{tmp_path}/state"\n[limits]\nmax_pixels = 1000000\n'
        f'[source]\nkind = "camera"\npath = "{tmp_path}/x"\num_per_px = 0.5\n'
        '[source.camera]\ndevice = ["simulated", "IX50"]\n[flask]\nfolder_names = true\n'
        f'close_after_h = 0.001\nrequired = ["note"]\n[verdict]\nhalf_width = 0.3\n'
        f'[model]\nbundle = "{opposite}"\nsha256 = "{sha256}"\nshadow = "{tiny_bundle}"\n'
    )
    done = replay(tmp_path / "in", "-o", tmp_path / "own", "--config", config)
    assert done.returncode == 65 and "too_large" in done.stdout, done.stderr
    got = frames(tmp_path / "own")
    assert {body["model"]["name"] for body in got} == {"opposite"}
    assert {(b["image"]["um_per_px"], b["image"]["um_per_px_from"]) for b in got} == {
        (0.5, "configuration")
    }
    assert [(b["flask"]["id"], b["flask"]["missing"]) for b in got] == [("F1", ["note"])] * 2
    tables = rows(tmp_path / "own" / "journal.sqlite", "SELECT count(*) FROM shadow")
    assert tables == [(0,)] and not (tmp_path / "state").exists()
    more = ("--config", config, "--model", tiny_bundle, "--set", "limits.max_pixels=64000000")
    done = replay(tmp_path / "in", "-o", tmp_path / "other", *more)
    assert done.returncode == 0, done.stderr
    assert [body["model"]["name"] for body in frames(tmp_path / "other")] == ["tiny"] * 3


def test_seen_codes_open_flasks_in_a_replay_too(tiny_bundle: Path, tmp_path: Path) -> None:
    save_labelled(tmp_path / "in" / "a.png", "F1|alpha|3", 1)
    save_frame(tmp_path / "in" / "b.png", seed=2)
    save_labelled(tmp_path / "in" / "c.png", "F2|alpha|4", 3)
    save_frame(tmp_path / "in" / "d.png", seed=4)
    more = ("--model", tiny_bundle, "--um-per-px", "0.44", "--set", "flask.qr=stage")
    done = replay(tmp_path / "in", "-o", tmp_path / "out", *more)
    assert done.returncode == 0, done.stderr
    assert [b["flask"]["id"] for b in frames(tmp_path / "out")] == ["F1", "F1", "F2", "F2"]
    closed = rows(tmp_path / "out" / "journal.sqlite", "SELECT id, closed_by FROM flask_session "
                  "WHERE closed_at IS NOT NULL ORDER BY id")  # fmt: skip
    assert closed == [("F1", "next flask"), ("F2", None)]
    again = replay(tmp_path / "out", "-o", tmp_path / "again", *more)
    assert again.returncode == 0, again.stderr
    assert [b["flask"]["id"] for b in frames(tmp_path / "again")] == ["F1", "F1", "F2", "F2"]
    sessions = rows(tmp_path / "again" / "journal.sqlite", "SELECT count(*) FROM flask_session")
    assert sessions == [(2,)]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (b"path,um_per_px\na.png,zero\n", "gives a.png the um_per_px 'zero', not a number"),
        (b"path,um_per_px\na.png,440\n", "not a number between 0.01 and 100"),
        (b"path,um_per_px\na.png,nan\n", "'nan', not a number"),
        (b"path,um_per_px\n\xff\xfe,1\n", "flasks.csv cannot be read"),
    ],
)
def test_a_pixel_size_that_is_none_is_not_guessed_around(
    table: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_frame(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "flasks.csv").write_bytes(table)
    assert main(["replay", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 65
    said = capsys.readouterr().err
    assert says in said and "give --um-per-px" in said
    assert not (tmp_path / "out").exists()


def test_images_without_scale_or_with_a_model_that_dies_get_a_reason_and_it_ends(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def deadly(workers: Workers, slot: int, n: int) -> WorkerFault | None:
        assert workers.inference.child is not None
        os.kill(workers.inference.child.pid, signal.SIGKILL)
        return infer(workers, slot, n)

    infer = Workers.infer
    monkeypatch.setattr(Workers, "infer", deadly)
    monkeypatch.setattr("parfocal.workers.RESPAWN_PAUSES_S", (0.0,))
    save_frame(tmp_path / "in" / "a.png")
    (save_frame(tmp_path / "in" / "b.png", seed=1).parent / "b.png.toml").write_text(
        "um_per_px = 0.44\n"
    )
    arguments = [str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(tiny_bundle)]
    assert main(["replay", *arguments, "--detector", "classical", "--device", "cpu"]) == 65
    said = capsys.readouterr().out
    assert "0 of 2 images scored" in said and "inference_failed" in said
    assert "no_scale" in said and "--um-per-px" in said
