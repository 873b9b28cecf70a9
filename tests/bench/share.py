"""How long after its file was closed an image's result is shown, with a folder that is polled.

    python tests/bench/share.py [--frames 60] [--pauses 3] [--model hek293a-ht1080] [--json FILE]

Runs the service as it is, with its defaults, on a folder that is looked at as a network share is:
on a timer, without events. Simulated fields (BMP, RGB, 1616x1216, about 60 cells) come every 4 to
6 s, at random. Half are `written` as camera software writes: opened, filled in pieces over 0.3 s,
closed. Half are `renamed`: the same under another name, and then given theirs. Then some come
`after a pause` of 70 to 85 s, when the folder no longer counts as active.

A result counts as shown when a subscriber has it. Its time is `look` (closed to first seen; less
than nothing for a file that was seen before it was complete), `settle` (to the reader's turn, all
messages between processes included), `read` (hash, decode, detect, cut, normalize), `infer`, and
`tell` (published to received). Processor time for one file says what `read` and `infer` would take
of one core that nobody else uses.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from rigs import Rig

from parfocal.bench import machine
from parfocal.bundle import load
from parfocal.client import Received, Subscriber
from parfocal.folder import SETTLE_S
from parfocal.publish import Endpoints
from parfocal.quantities import count, whole
from parfocal.scan import FULL_SCAN_S, POLLED_SCAN_S, UNSETTLED_SCAN_S
from parfocal.simulator import HEK293A, HT1080, draw_flask
from parfocal.types import Beat, FrameResult

DENSITY_PER_MM2 = 160.0
EVERY_S, PAUSE_S, PIECES, WRITING_S = (4.0, 6.0), (70.0, 85.0), 10, 0.3
"""The shortest and longest time between two files, and how each is written."""
PROMISED_S = 3.0
WRITTEN, RENAMED, PAUSED = "written", "renamed", "after a pause"
PARTS = ("look", "settle", "read", "infer", "tell")
WAIT_S = 120.0


@dataclass(slots=True)
class File:
    """One file: how it comes, when it was closed, and when its result was there (Unix seconds)."""

    name: str
    way: str
    closed_s: float = 0.0
    shown_s: float = 0.0
    published_s: float = 0.0
    n_cells: int = 0
    timing_ms: dict[str, float] | None = None


class Writer(threading.Thread):
    """Writes the files, one after another, as another program would."""

    def __init__(self, folder: Path, files: list[File], images: Iterator[bytes], seed: int) -> None:
        super().__init__(daemon=True)
        self.folder, self.files, self.images = folder, files, images
        self.rng = np.random.default_rng((seed, 1))

    def run(self) -> None:
        """Write all files."""
        for file, data in zip(self.files, self.images, strict=True):
            time.sleep(self.rng.uniform(*(PAUSE_S if file.way == PAUSED else EVERY_S)))
            path = self.folder / file.name
            if file.way == RENAMED:
                part = path.with_suffix(".part")
                slowly(part, data)
                part.rename(path)
            else:
                slowly(path, data)
            file.closed_s = time.time()


def slowly(path: Path, data: bytes) -> None:
    """Write a file in pieces."""
    step = -(-len(data) // PIECES)
    with path.open("wb", buffering=0) as out:
        for start in range(0, len(data), step):
            out.write(data[start : start + step])
            time.sleep(WRITING_S / PIECES)


def fields(n: int, seed: int) -> list[bytes]:
    """Simulated fields of one flask as BMP files."""
    lines = ((HEK293A, 0.5), (HT1080, 0.5))
    flask = draw_flask(np.random.default_rng(seed), lines, DENSITY_PER_MM2)
    images = (flask.field(k).rgb[..., ::-1] for k in range(n))
    return [bytes(cv2.imencode(".bmp", image)[1]) for image in images]


def run(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Measure and report."""
    ways = [WRITTEN, RENAMED] * -(-options.frames // 2)
    ways = [WRITTEN, *ways[: options.frames], *[PAUSED] * options.pauses]
    files = [File(f"field{k:04d}.bmp", way) for k, way in enumerate(ways)]
    images = fields(len(files), options.seed)
    rig = Rig(home, load(options.model).path)
    settings = {"source.polled": "true", "detector.name": "auto", "model.threads": "0"}
    before = os.getloadavg()
    rig.start(*(part for pair in settings.items() for part in ("--set", "=".join(pair))))
    try:
        with Subscriber(Endpoints(rig.live, rig.replay)) as subscriber:
            wait_ready(rig, subscriber)
            busy_s = processor_s(rig)
            Writer(rig.folder, files, iter(images), options.seed).start()
            receive(rig, subscriber, {file.name: file for file in files})
            busy_s = {name: s - busy_s[name] for name, s in processor_s(rig).items()}
        rig.stop()
        rows = rig.rows("SELECT path, seen_at FROM file")
    finally:
        rig.close()
    seen_s = {Path(path).name: datetime.fromisoformat(at).timestamp() for path, at in rows}
    timed = [row(file, seen_s[file.name]) for file in files[1:]]  # the first finds it all cold
    return {
        "machine": machine(),
        "load_average": {"before": before, "after": os.getloadavg()},
        "model": options.model,
        "poll_s": {"active": POLLED_SCAN_S, "unsettled": UNSETTLED_SCAN_S, "else": FULL_SCAN_S,
                   "settle": SETTLE_S},
        "processor_s": {name: round(s / len(files), 3) for name, s in busy_s.items()},
        "cells": float(np.median([file.n_cells for file in files])),
        "ways": {way: figures([one for one in timed if one["way"] == way])
                 for way in dict.fromkeys(ways)},
        "all": figures([one for one in timed if one["way"] != PAUSED]),
        "files": timed,
    }  # fmt: skip


def wait_ready(rig: Rig, subscriber: Subscriber) -> None:
    """Wait until the daemon says that it is ready."""
    until_s = time.monotonic() + WAIT_S
    while time.monotonic() < until_s:
        for event in subscriber.events(0.1):
            if isinstance(event, Beat) and event.state == "ready":
                return
    sys.exit(f"the daemon is not ready:\n{rig.log()[-2000:]}")


def processor_s(rig: Rig) -> dict[str, float]:
    """Processor seconds that the daemon and its children have used."""
    assert rig.daemon is not None
    used = {"daemon": psutil.Process(rig.daemon.pid).cpu_times()}
    used |= {name: psutil.Process(pid).cpu_times() for name, pid in rig.children().items()}
    return {name.rpartition(".")[2]: one.user + one.system for name, one in used.items()}


def receive(rig: Rig, subscriber: Subscriber, files: dict[str, File]) -> None:
    """Note when each result arrives."""
    left, heard_s = set(files), time.monotonic()
    while left:
        for event in subscriber.events(0.1):
            if isinstance(event, Received) and isinstance(body := event.body(), FrameResult):
                file, heard_s = files[Path(body.image.path).name], time.monotonic()
                file.shown_s = time.time()
                published_at = datetime.fromisoformat(event.header.published_at)
                file.published_s, file.timing_ms = published_at.timestamp(), body.timing_ms
                file.n_cells = len(body.cells)
                left.discard(file.name)
        if time.monotonic() - heard_s > WAIT_S + PAUSE_S[1]:
            sys.exit(f"no result for {', '.join(sorted(left))}:\n{rig.log()[-2000:]}")


def row(file: File, seen_s: float) -> dict[str, Any]:
    """Seconds from closed to shown, and where they went."""
    assert file.timing_ms is not None  # every file has its result
    infer = file.timing_ms["infer"] / 1e3
    read = sum(file.timing_ms.values()) / 1e3 - infer
    look, tell = seen_s - file.closed_s, file.shown_s - file.published_s
    total = file.shown_s - file.closed_s
    settle = total - look - read - infer - tell
    parts = zip(PARTS, (look, settle, read, infer, tell), strict=True)
    return {"name": file.name, "way": file.way, "total": total, **dict(parts)}


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, 95th percentile and largest of the whole, and of each part, in seconds."""
    if not rows:
        return {"n": 0}
    found: dict[str, Any] = {"n": len(rows)}
    for part in ("total", *PARTS):
        values = np.array([one[part] for one in rows])
        found[part] = [round(float(v), 3) for v in np.quantile(values, (0.5, 0.95, 1.0))]
    return found


def table(found: dict[str, Any]) -> str:
    """The report for people."""
    host, poll = found["machine"], found["poll_s"]
    loads = (" ".join(f"{v:.1f}" for v in one) for one in found["load_average"].values())
    lines = [
        f"{host['cpu']}, {host['cores']} cores, load average {' before, '.join(loads)} after",
        f"model {found['model']}, about {found['cells']:.0f} cells a field; active folders are "
        f"looked at every {poll['active']:g} s, unsettled ones every {poll['unsettled']:g} s, all "
        f"every {poll['else']:g} s; settled after {poll['settle']:g} s",
        "",
        "seconds from closed to shown         "
        + "".join(f"{part:>8}" for part in ("total", *PARTS)),
    ]
    for way, one in (*found["ways"].items(), ("written or renamed", found["all"])):
        for k, name in enumerate(("median", "95 %", "largest") if one["n"] else ()):
            values = "".join(f"{one[part][k]:8.2f}" for part in ("total", *PARTS))
            whose = f"{way:<20} n={one['n']:<4}" if not k else ""
            lines.append(f"{whose:<26} {name:<9}{values}")
    used = ", ".join(f"{name} {s:.2f} s" for name, s in found["processor_s"].items())
    lines += ["", f"processor time for one file: {used}"]
    kept = found["all"]["total"][1] <= PROMISED_S
    return "\n".join([*lines, "", f"95 % within {PROMISED_S:g} s: {kept}"])


def main(arguments: list[str]) -> int:
    """Run the bench; status 1 when the promise is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--frames", type=count, default=60, metavar="N",
                        help="files in a row (default: 60)")  # fmt: skip
    parser.add_argument("--pauses", type=whole, default=3, metavar="N",
                        help="files after a pause (default: 3)")  # fmt: skip
    parser.add_argument("--model", default="hek293a-ht1080", metavar="BUNDLE",
                        help="shipped name or bundle file (default: hek293a-ht1080)")  # fmt: skip
    parser.add_argument("--seed", type=whole, default=0, metavar="N",
                        help="another number, other fields and times (default: 0)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure here")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home:
        found = run(options, Path(home))
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(found["all"]["total"][1] > PROMISED_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
