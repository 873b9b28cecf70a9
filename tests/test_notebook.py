"""Notebook entries: one a flask session whatever dies, true to the journal, readable elsewhere."""

import csv
import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from rigs import Rig, save_frame, until

from parfocal.client import Subscriber
from parfocal.notebook.deliver import Notebook
from parfocal.notebook.markdown import escape
from parfocal.publish import Endpoints


@pytest.fixture
def session(rig: Rig) -> Iterator[Rig]:
    """A rig with one closed flask session of three images."""
    rig.start()
    opened = ["flask", "open", "F 12/b", "--cell-line", "HeLa", "--passage", "7", "--note",
              "<b>| rinsed twice", "--connect", rig.live]  # fmt: skip
    until(lambda: rig.run(*opened).returncode == 0, what="flask open")
    for i in range(3):
        save_frame(rig.folder / f"{i}.png", seed=i)
    rig.wait_done(3)
    assert rig.run("flask", "close", "--connect", rig.live).returncode == 0
    yield rig


def write(rig: Rig, kind: str, out: Path) -> list[Path]:
    """Run a notebook subscriber until it is quiet."""
    notebook, written = Notebook(kind, out, grace_s=0.0), []
    try:
        endpoints = Endpoints(rig.live, rig.replay)
        with Subscriber(endpoints, notebook.shelf.cursor()) as subscriber:
            while not subscriber.caught_up:
                for event in subscriber.events(0.2):
                    notebook.take(event)
            written += notebook.write_due()
    finally:
        notebook.close()
    return written


def test_a_session_makes_one_markdown_entry_however_often_the_subscriber_starts(
    session: Rig, tmp_path: Path
) -> None:
    (folder,) = write(session, "markdown", tmp_path / "out")
    assert write(session, "markdown", tmp_path / "out") == []
    page = (folder / "entry.md").read_text()
    assert page.startswith("# HeLa F 12/b P7 20")
    assert "<b>" not in page and "rinsed twice" in page
    for words in (
        "95 % interval",
        "a test model: its answers mean nothing",
        "sha256",
        "0.44 um/px",
    ):
        assert words in page
    rows = list(csv.DictReader((folder / "cells.csv").read_text().splitlines()))
    assert len(rows) == 12
    result = json.loads((folder / "result.json").read_text())
    assert result["verdict"]["n_cells"] == 12 and len(result["frames"]) == 3
    montage = cv2.imread(str(folder / "montage.png"))
    assert montage is not None and montage.std() > 20
    assert (folder / "montage.png").stat().st_size < 2_000_000


def test_an_entry_lost_before_it_was_noted_is_made_again_under_the_same_name(
    session: Rig, tmp_path: Path
) -> None:
    notebook = Notebook("markdown", tmp_path / "out", grace_s=0.0)
    notebook.shelf.written = lambda *_: None  # type: ignore[method-assign]  # killed just before
    endpoints = Endpoints(session.live, session.replay)
    with Subscriber(endpoints) as subscriber:
        while not subscriber.caught_up:
            for event in subscriber.events(0.2):
                notebook.take(event)
    first = notebook.write_due()
    notebook.close()
    again = write(session, "markdown", tmp_path / "out")
    assert again == first
    assert len([p for p in (tmp_path / "out").iterdir() if p.is_dir()]) == 1


def test_images_that_come_after_the_entry_make_a_revision_and_touch_nothing(
    session: Rig, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (first,) = write(session, "markdown", out)
    before = (first / "entry.md").read_bytes()
    rows = session.rows("SELECT session FROM flask_session")
    notebook = Notebook("markdown", out, grace_s=0.0)
    notebook.shelf.db.execute("UPDATE session SET n_written = 2")  # as if one had come later
    (second,) = notebook.write_due()
    notebook.close()
    assert second.name.endswith("r2") and rows[0][0][:8] in second.name
    assert (first / "entry.md").read_bytes() == before
    assert "(revision 2)" in (second / "entry.md").read_text()


def test_an_open_session_has_no_entry_yet(rig: Rig, tmp_path: Path) -> None:
    rig.start()
    until(lambda: rig.run("flask", "open", "F1", "--connect", rig.live).returncode == 0)
    save_frame(rig.folder / "a.png")
    rig.wait_done(1)
    assert write(rig, "markdown", tmp_path / "out") == []


def eln_faults(path: Path) -> list[str]:
    """What breaks The ELN Consortium's offline rules for an archive, rewritten from its text."""
    faults = []
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        roots = {name.split("/")[0] for name in names}
        if len(roots) != 1:
            return [f"more than one root folder: {roots}"]
        root = roots.pop()
        graph = json.loads(archive.read(f"{root}/ro-crate-metadata.json"))["@graph"]
        nodes: dict[str, dict[str, Any]] = {node["@id"]: node for node in graph}
        if len(nodes) != len(graph):
            faults.append("an @id stands twice")
        parts = [part["@id"] for part in nodes["./"]["hasPart"]]
        faults += [f"{part} is no Dataset" for part in parts if nodes[part]["@type"] != "Dataset"]
        for node in graph:
            if node["@type"] != "File":
                continue
            member = f"{root}/{node['@id'].removeprefix('./')}"
            if member not in names:
                faults.append(f"{member} is not in the archive")
                continue
            data = archive.read(member)
            if node["contentSize"] != str(len(data)):
                faults.append(f"{member} has another size")
            if node["sha256"] != hashlib.sha256(data).hexdigest():
                faults.append(f"{member} has another sha256")
        for key in ("about", "conformsTo", "sdPublisher"):
            if key not in nodes["ro-crate-metadata.json"]:
                faults.append(f"the descriptor lacks {key}")
    return faults


def test_the_eln_archive_follows_the_rules_and_is_read_by_ro_crate(
    session: Rig, tmp_path: Path
) -> None:
    from rocrate.rocrate import ROCrate

    (path,) = write(session, "eln-file", tmp_path / "out")
    assert path.suffix == ".eln"
    assert eln_faults(path) == []
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "open")
    crate = ROCrate(str(tmp_path / "open" / path.stem))
    (dataset,) = [e for e in crate.get_entities() if e.get("genre") == "experiment"]
    assert dataset["name"].startswith("HeLa F 12/b P7")
    assert {Path(part.id).name for part in dataset["hasPart"]} == {
        "montage.png", "result.json", "cells.csv",
    }  # fmt: skip
    measured = {v["propertyID"]: v["value"] for v in dataset["variableMeasured"]}
    assert measured["cells"] == 12 and measured["passage"] == 7


def test_the_rules_notice_a_spoilt_archive(session: Rig, tmp_path: Path) -> None:
    (path,) = write(session, "eln-file", tmp_path / "out")
    spoilt = tmp_path / "spoilt.eln"
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(spoilt, "w") as bad:
        for name in good.namelist():
            extra = b"!" if name.endswith("cells.csv") else b""
            bad.writestr(name, good.read(name) + extra)
    assert len(eln_faults(spoilt)) == 2


def test_the_command_writes_an_entry_and_says_where(session: Rig, tmp_path: Path) -> None:
    import subprocess

    out = tmp_path / "out"
    process = session.popen(
        "notebook", "--to", "markdown", "--out", str(out), "--grace-s", "0", "--connect",
        session.live, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    assert line.startswith(f"wrote {out}")


@pytest.mark.parametrize("text", ["a|b", "# x", "[l](u)", "<script>", "`c`", "two\nlines"])
def test_text_cannot_break_out_of_the_page(text: str) -> None:
    escaped = escape(text)
    assert "\n" not in escaped
    bare = escaped.replace("\\\\", "")
    assert all(bare[i - 1] == "\\" for i, c in enumerate(bare) if c in "|`*_[]<>#")
