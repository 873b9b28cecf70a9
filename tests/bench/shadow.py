"""What a shadow model costs the active one, on drawn frames of 1616x1216 px with 60 cells.

`python tests/bench/shadow.py` starts the real service with and without a shadow, in turn. First all
images lie there at once: images published in a second, which is the worst case, as both want every
processor. Then one image comes every few seconds: milliseconds from the end of its writing to its
published result. The pixels are drawn, so figures show cost, not accuracy.
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
from datetime import datetime
from pathlib import Path

import cv2

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


def measure(options: argparse.Namespace, shadow: str) -> tuple[float, list[float], float]:
    """Images a second of a burst, ms of each paced image, share that the shadow answered."""
    with service(options.model, shadow) as made:
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
        rows = made.rows("SELECT count(*) FROM shadow WHERE body IS NOT NULL")
        return rate, ms, int(rows[0][0]) / (1 + 2 * options.images)


def main() -> None:
    """Print one row a round and the medians."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--model", default="hek293a-ht1080", metavar="BUNDLE")
    made.add_argument("--shadow", default="demo", metavar="BUNDLE")
    made.add_argument("--images", type=count, default=12, metavar="N")
    made.add_argument("--rounds", type=count, default=3, metavar="N")
    made.add_argument("--every-s", type=between(0.1, 60, "s"), default=3.0, metavar="S")
    options = made.parse_args()
    rates: dict[str, list[float]] = {"": [], options.shadow: []}
    waits: dict[str, list[float]] = {"": [], options.shadow: []}
    for _ in range(options.rounds):
        for shadow in rates:  # in turn, so that a drift of the machine hits both
            rate, ms, share = measure(options, shadow)
            rates[shadow].append(rate)
            waits[shadow] += ms
            told = f"shadow {shadow}, {share:.0%} answered" if shadow else "no shadow"
            print(f"{told}: burst {rate:.3f} images/s, paced {statistics.median(ms):.0f} ms")
    for shadow in rates:
        print(
            f"{shadow or 'no shadow'}: burst {statistics.median(rates[shadow]):.3f} images/s, "
            f"paced {statistics.median(waits[shadow]):.0f} ms (most {max(waits[shadow]):.0f} ms)"
        )


if __name__ == "__main__":
    main()
