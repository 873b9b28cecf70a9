"""What a shadow model costs the active one, on drawn frames of 1616x1216 px with 60 cells.

`python tests/bench/shadow.py` starts the real service with and without a shadow, in turn. First all
images lie there at once: images published in a second, which is the worst case, as both want every
processor. Then one image comes every few seconds: milliseconds from the end of its writing to its
published result. Last, processor seconds an image of the service's loop, of the children of the
active model and of those of the shadow, which other work on the machine changes less. The pixels
are drawn, so figures show cost, not accuracy.
"""

import argparse
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import psutil
from numpy.typing import NDArray

from parfocal.bench import UM_PER_PX, drawn_frame
from parfocal.quantities import between, count


class Service:
    """A daemon in a process of its own, on fresh folders."""

    def __init__(self, home: Path, model: str, shadow: str) -> None:
        self.folder, self.state = home / "watched", home / "state"
        self.folder.mkdir()
        values = {
            "state_dir": self.state, "source.path": self.folder, "source.um_per_px": UM_PER_PX,
            "publish.live": f"ipc://{home}/live", "publish.replay": f"ipc://{home}/replay",
            "model.bundle": model, "model.device": "cpu", "model.shadow": f'"{shadow}"',
        }  # fmt: skip
        sets = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
        command = [sys.executable, "-m", "parfocal", "run", "--config", os.devnull, *sets]
        self.process = subprocess.Popen(command, stderr=(home / "log").open("wb"))

    def rows(self, sql: str) -> list[tuple[bytes, ...]]:
        """Read the journal; nothing while there is none."""
        try:
            db = sqlite3.connect(f"file:{self.state / 'journal.sqlite'}?mode=ro", uri=True)
            try:
                return db.execute(sql).fetchall()
            finally:
                db.close()
        except sqlite3.OperationalError:
            return []

    def published_s(self) -> dict[str, float]:
        """Name of each image to the time of its result."""
        sql = "SELECT body, header FROM message WHERE topic LIKE 'frame/%' ORDER BY seq"
        rows = [(json.loads(body), json.loads(header)) for body, header in self.rows(sql)]
        return {
            Path(body["image"]["path"]).name: datetime.fromisoformat(
                header["published_at"]
            ).timestamp()
            for body, header in rows
        }

    def cpu_s(self) -> NDArray[np.float64]:
        """Processor seconds so far of loop, active children and the shadow's: shape (3,)."""
        loop = psutil.Process(self.process.pid)
        children = sorted(loop.children(), key=psutil.Process.create_time)
        groups = ([loop], children[:2], children[2:])
        return np.array([sum(sum(one.cpu_times()[:2]) for one in group) for group in groups])

    def wait(self, n: int) -> dict[str, float]:
        """Wait for n results."""
        while len(found := self.published_s()) < n:
            if self.process.poll() is not None:
                raise SystemExit("the service ended: see its log")
            time.sleep(0.05)
        return found


@contextmanager
def service(model: str, shadow: str) -> Iterator[Service]:
    """A running service that has warmed up on one image."""
    with tempfile.TemporaryDirectory(prefix="parfocal-bench-") as home:
        made = Service(Path(home), model, shadow)
        try:
            save(made.folder / "warm.bmp", 10_000)
            made.wait(1)
            if shadow:
                while not made.rows("SELECT 1 FROM shadow WHERE body IS NOT NULL"):
                    time.sleep(0.05)
            yield made
        finally:
            made.process.send_signal(signal.SIGTERM)
            made.process.wait()


def save(path: Path, seed: int) -> None:
    """Write a drawn frame."""
    hidden = path.with_suffix(".part")
    hidden.write_bytes(cv2.imencode(".bmp", drawn_frame(seed)[..., ::-1])[1].tobytes())
    hidden.rename(path)


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """One start of the service: images a second of a burst, ms of each paced image, processor
    seconds (3,) an image, and the share of images that the shadow answered in that time."""

    rate: float
    paced_ms: list[float]
    cpu_s: NDArray[np.float64]
    answered: float


def measure(options: argparse.Namespace, shadow: str) -> Round:
    """Start the service and give it its images."""
    with service(options.model, shadow) as made:
        before_s = made.cpu_s()
        burst = [f"{i:03}.bmp" for i in range(options.images)]
        for i, name in enumerate(burst):
            save(made.folder.parent / name, i)
        for name in burst:
            (made.folder.parent / name).rename(made.folder / name)
        times = sorted(made.wait(1 + len(burst))[name] for name in burst)
        rate = (len(times) - 1) / (times[-1] - times[0])
        done_s = {}
        for i in range(options.images):
            save(made.folder / f"paced{i}.bmp", 1000 + i)
            done_s[f"paced{i}.bmp"] = time.time()
            time.sleep(options.every_s)
        found = made.wait(1 + 2 * options.images)
        ms = [1e3 * (found[name] - at) for name, at in done_s.items()]
        cpu_s = (made.cpu_s() - before_s) / (2 * options.images)
        rows = made.rows("SELECT count(*) FROM shadow WHERE body IS NOT NULL")
        return Round(rate, ms, cpu_s, int(rows[0][0]) / (1 + 2 * options.images))


def main() -> None:
    """Print one row a round, and the medians."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--model", default="hek293a-ht1080", metavar="BUNDLE")
    made.add_argument("--shadow", default="demo", metavar="BUNDLE")
    made.add_argument("--images", type=count, default=12, metavar="N")
    made.add_argument("--rounds", type=count, default=3, metavar="N")
    made.add_argument("--every-s", type=between(0.1, 60, "s"), default=3.0, metavar="S")
    options = made.parse_args()
    rounds: dict[str, list[Round]] = {"": [], options.shadow: []}
    for _ in range(options.rounds):
        for shadow, done in rounds.items():  # in turn, so that a drift of the machine hits both
            done.append(measure(options, shadow))
            tell(shadow, done[-1:])
    print("medians:")
    for shadow, done in rounds.items():
        tell(shadow, done)


def tell(shadow: str, rounds: list[Round]) -> None:
    """One row."""
    rate = statistics.median(one.rate for one in rounds)
    ms = [wait for one in rounds for wait in one.paced_ms]
    loop_s, active_s, shadow_s = np.median([one.cpu_s for one in rounds], 0)
    answered = statistics.median(one.answered for one in rounds)
    told = f"shadow {shadow}, {answered:.0%} answered so far" if shadow else "no shadow"
    print(
        f"{told}: burst {rate:.3f} images/s; paced {statistics.median(ms):.0f} ms, most "
        f"{max(ms):.0f}; processor {1e3 * loop_s:.0f} ms the loop, {1e3 * active_s:.0f} the active "
        f"children, {1e3 * shadow_s:.0f} the shadow's, an image",
        flush=True,
    )


if __name__ == "__main__":
    main()
