"""Whether a rig that drives a camera counts every dropped frame and keeps its memory.

    python tests/bench/camera.py [--minutes 30] [--json FILE]

Runs the service as it is, with Micro-Manager's DemoCamera (RGB, 1616x1216, continuous; drawn cells
are added to its waves), the detector `cells` and the model `demo`; every frame is wanted, so most
are dropped. Frames made are counted apart, by the numbers that Micro-Manager's core gives them
(`countedcamera.py`), and frames kept by the files. At the end the camera is shut, and the three
counts must agree to the frame. Files are deleted once their result has arrived, so the disk does
not fill.

Memory is what each process holds for itself (anonymous memory: what libraries' files and the shared
crops take depends on other processes too), every ten seconds; of one that was started again, the
longest life counts. `early` and `late` are medians of minutes 3 to 5 and of the last 3 of 30, and
in proportion of another length; the slope is fitted by least squares to means of one minute each
after `early` began. RSS, the resident set size, is what is shown elsewhere.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import countedcamera
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from rigs import Rig, until

from parfocal.bench import machine
from parfocal.bundle import load
from parfocal.client import Received, Subscriber
from parfocal.publish import Endpoints
from parfocal.quantities import between
from parfocal.types import Beat, FrameResult

LAUNCH = """
import sys
from parfocal.camera import source
from parfocal.cli import main
source.MODULE = "countedcamera"
sys.exit(main(sys.argv[1:]))
"""
SETTINGS = {
    "detector.name": "cells",
    "source.kind": "camera",
    "source.camera.device": "['DemoCamera', 'DCam']",
    "source.camera.pixel_type": "32bitRGB",
    "source.camera.properties": "{OnCameraCCDXSize = 1616, OnCameraCCDYSize = 1216}",
    "source.camera.every_s": "0.0",
}
NAMES = {
    "parfocal.reader": "reader",
    "parfocal.inference": "inference",
    "countedcamera": "camera",
}
MEMORY_S, SHUT_S = 10.0, 60.0
MB = 1e6
EARLY, LATE = (1 / 10, 1 / 6), (9 / 10, 1.0)
"""Shares of the run."""
SLACK = 0.02
"""Memory that is late within this share of what it was early is flat."""


Sample = tuple[float, int, int]
"""Seconds since the start, anonymous memory and resident set size in bytes."""


@dataclass(slots=True)
class Watch:
    """Everything noted while the rig runs."""

    rig: Rig
    counts: Path
    kept: set[str] = field(default_factory=set)
    results: Counter[str] = field(default_factory=Counter)
    n_cells: int = 0
    differences: list[int] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    beat: Beat | None = None
    memory: dict[str, dict[int, list[Sample]]] = field(default_factory=dict)  # name, process id
    most_bytes: int = 0

    def hear(self, event: object) -> None:
        """Take in a beat or a result."""
        if isinstance(event, Beat):
            self.beat = event
            self.reasons.update(event.reasons)
            if event.state != "starting":
                self.differences.append(self.made - self.count_kept() - event.dropped)
        elif isinstance(event, Received) and isinstance(body := event.body(), FrameResult):
            path = Path(body.image.path)
            self.kept.add(path.name)
            self.results[path.name] += 1
            self.n_cells += len(body.cells)
            for done in (path, path.with_name(f"{path.name}.toml")):
                done.unlink(missing_ok=True)

    @property
    def made(self) -> int:
        """Frames made so far, up to the newest that the daemon fetched."""
        return countedcamera.made(self.counts)

    def count_kept(self) -> int:
        """PNG files written so far; only this program deletes any."""
        files = list(self.rig.folder.rglob("[!.]*.png"))
        self.kept.update(file.name for file in files)
        return len(self.kept)

    def settled(self) -> bool:
        """Whether, with the camera shut, nothing is on its way any more."""
        kept = self.count_kept()
        return self.beat is not None and self.beat.queue_depth == 0 and len(self.results) == kept

    def look_at_memory(self, at_s: float) -> None:
        """Note what each process of the daemon holds."""
        assert self.rig.daemon is not None
        pids = {NAMES[name]: pid for name, pid in self.rig.children().items() if name in NAMES}
        for name, pid in {"daemon": self.rig.daemon.pid, **pids}.items():
            try:
                info = psutil.Process(pid).memory_info()
            except psutil.NoSuchProcess:
                continue
            lives = self.memory.setdefault(name, {})
            lives.setdefault(pid, []).append((at_s, info.rss - info.shared, info.rss))
        used = sum(f.stat().st_size for f in self.rig.home.rglob("*") if f.is_file())
        self.most_bytes = max(self.most_bytes, used)


def run(minutes: float, home: Path) -> dict[str, Any]:
    """Run the rig for this long and report."""
    rig, counts = Rig(home, load("demo").path), home / "made"
    counts.mkdir()
    watch = Watch(rig, counts)
    start(rig, counts)
    try:
        with Subscriber(Endpoints(rig.live, rig.replay)) as subscriber:
            until(lambda: heard(watch, subscriber, 0.1) and watch.made, 120, "a frame")
            began_s = time.monotonic()
            follow(watch, subscriber, began_s, 60 * minutes)
            seconds, load_average = time.monotonic() - began_s, os.getloadavg()
            (counts / countedcamera.SHUT).touch()
            last = len(watch.differences) + 2  # of two beats, one was made after the last frame
            shut_s = time.monotonic()
            while not (watch.settled() and len(watch.differences) > last):
                heard(watch, subscriber, 0.1)
                if time.monotonic() - shut_s > SHUT_S:
                    break
        status = rig.stop()
        return report(watch, seconds, load_average, status)
    finally:
        rig.close()


def start(rig: Rig, counts: Path) -> None:
    """Start the daemon with the camera child that counts."""
    environment = {
        **rig.environment(),
        "PARFOCAL_BENCH_MADE": str(counts),
        "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    pairs = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-c", LAUNCH, "run", "--config", str(rig.config), *pairs]
    with (rig.home / "daemon.log").open("ab") as log:
        rig.daemon = subprocess.Popen(command, env=environment, stderr=log)
    rig.processes.append(rig.daemon)


def heard(watch: Watch, subscriber: Subscriber, wait_s: float) -> bool:
    """Take in what comes; ends the program when the daemon is gone."""
    for event in subscriber.events(wait_s):
        watch.hear(event)
    assert watch.rig.daemon is not None
    if watch.rig.daemon.poll() is not None:
        sys.exit(f"the daemon ended:\n{watch.rig.log()[-2000:]}")
    return True


def follow(watch: Watch, subscriber: Subscriber, began_s: float, seconds: float) -> None:
    """Watch for this long."""
    next_s = began_s
    while (now := time.monotonic()) < began_s + seconds:
        heard(watch, subscriber, 0.2)
        if now >= next_s:
            next_s += MEMORY_S
            watch.look_at_memory(now - began_s)
            if round((now - began_s) / MEMORY_S) % 30 == 0:
                counts = f"made {watch.made}  kept {watch.count_kept()}"
                print(f"{(now - began_s) / 60:5.1f} min  {counts}", file=sys.stderr, flush=True)


def report(
    watch: Watch, seconds: float, load_average: tuple[float, float, float], status: int
) -> dict[str, Any]:
    """Every figure."""
    rig, beat = watch.rig, watch.beat
    assert beat is not None  # frames came
    states = dict(rig.rows("SELECT state, count(*) FROM file GROUP BY state"))
    (frames,) = rig.rows("SELECT count(*) FROM message WHERE topic LIKE 'frame/%'")[0]
    made, kept = watch.made, watch.count_kept()
    lives = {name: list(lives.values()) for name, lives in watch.memory.items()}
    memory = {name: figures(max(one, key=len)) for name, one in lives.items()}
    counts = {
        "made": made,
        "kept": kept,
        "dropped": beat.dropped,
        "difference": made - kept - beat.dropped,
        "difference_while_running": [min(watch.differences), max(watch.differences)],
        "beats": len(watch.differences),
    }
    results = {
        "messages": frames,
        "received": len(watch.results),
        "twice": sum(n > 1 for n in watch.results.values()),
        "cells": watch.n_cells,
        "files": states,
    }
    whole = frames == kept == len(watch.results) and states == {"done": kept}
    return {
        "machine": machine(),
        "load_average": [round(v, 2) for v in load_average],
        "seconds": round(seconds, 1),
        "made_per_s": round(made / seconds, 2),
        "results_per_s": round(kept / seconds, 2),
        "counts": counts,
        "counts_agree": counts["difference"] == 0,
        "results": results,
        "each_kept_frame_has_one_result": whole and not results["twice"],
        "memory_mb": memory,
        "memory_flat": all(one["late"] <= (1 + SLACK) * one["early"] for one in memory.values()),
        "restarts": {name: len(one) - 1 for name, one in lives.items()},
        "degraded": dict(watch.reasons),
        "most_on_disk_mb": round(watch.most_bytes / MB),
        "journal_mb": round((rig.state / "journal.sqlite").stat().st_size / MB),
        "exit_status": status,
        "warnings": [line for line in rig.log().splitlines() if " WARNING " in line],
        "memory_samples_bytes": lives,
    }


def figures(samples: list[Sample]) -> dict[str, float]:
    """Memory of one process in MB: medians, maximum and slope, and the resident set size."""
    at, own, rss = np.array(samples).T
    at -= at[0]
    shares, own, rss = at / at[-1], own / MB, rss / MB
    early, late = ((shares >= low) & (shares <= high) for low, high in (EARLY, LATE))
    slope, error = trend(at[shares >= EARLY[0]], own[shares >= EARLY[0]])
    known = {
        "minutes": at[-1] / 60,
        "early": np.median(own[early]),
        "late": np.median(own[late]),
        "max": own.max(),
        "slope_mb_per_h": slope,
        "slope_standard_error": error,
        "rss_early": np.median(rss[early]),
        "rss_late": np.median(rss[late]),
        "rss_max": rss.max(),
    }
    return {name: round(float(value), 2) for name, value in known.items()}


def trend(at_s: Any, mb: Any) -> tuple[float, float]:
    """Slope in MB an hour and its standard error, from means of one minute each."""
    minute = (at_s // 60).astype(int)
    x = np.array([at_s[minute == m].mean() / 3600 for m in np.unique(minute)])
    y = np.array([mb[minute == m].mean() for m in np.unique(minute)])
    if len(x) < 3:
        return float("nan"), float("nan")
    slope, level = np.polyfit(x, y, 1)
    rest = y - slope * x - level
    variance = (rest**2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum()
    return float(slope), float(variance**0.5)


def table(found: dict[str, Any]) -> str:
    """The report for people."""
    counts, results = found["counts"], found["results"]
    low, high = counts["difference_while_running"]
    lines = [
        f"{found['machine']['cpu']}, {found['machine']['cores']} cores, load average "
        f"{found['load_average'][0]:g} {found['load_average'][1]:g} {found['load_average'][2]:g}",
        f"{found['seconds'] / 60:.1f} min of DemoCamera, RGB 1616x1216, continuous, cells "
        "drawn in, every frame wanted; detector cells, model demo",
        "",
        f"frames made       {counts['made']:>8}  {found['made_per_s']:.1f} a second",
        f"frames kept       {counts['kept']:>8}  {found['results_per_s']:.1f} a second",
        f"frames dropped    {counts['dropped']:>8}  as the last beat says",
        f"difference        {counts['difference']:>8}  "
        f"({low} to {high} on their way at {counts['beats']} beats)",
        f"results           {results['messages']:>8}  "
        f"{results['received']} received, {results['twice']} twice, {results['cells']} cells; "
        f"files {results['files']}",
        f"restarts          {sum(found['restarts'].values()):>8}  "
        f"degraded: {found['degraded'] or 'never'}",
        f"disk              {found['most_on_disk_mb']:>8}  MB at most, "
        f"of which the journal {found['journal_mb']} MB",
        "",
        "memory, MB minutes    early     late      max   slope an hour   RSS early    late     max",
    ]
    for name, one in found["memory_mb"].items():
        slope = f"{one['slope_mb_per_h']:+.2f} ± {one['slope_standard_error']:.2f}"
        lines.append(
            f"{name:<10} {one['minutes']:>7.1f} {one['early']:>8.1f} {one['late']:>8.1f} "
            f"{one['max']:>8.1f} {slope:>15} {one['rss_early']:>11.1f} {one['rss_late']:>7.1f} "
            f"{one['rss_max']:>7.1f}"
        )
    checks = ("counts_agree", "each_kept_frame_has_one_result", "memory_flat")
    return "\n".join([*lines, "", *(f"{check}: {found[check]}" for check in checks)])


def main(arguments: list[str]) -> int:
    """Run the bench; status 1 when a promise is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=between(5, 1440, "min"), default=30.0, metavar="M",
                        help="length of the run (default: 30)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure here")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home:
        found = run(options.minutes, Path(home))
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    kept = found["counts_agree"] and found["each_kept_frame_has_one_result"]
    return int(not (kept and found["memory_flat"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
