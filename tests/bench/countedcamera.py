"""A camera child that also notes how many frames its camera made, by the core's own numbers.

Run by the daemon of `camera.py` in place of `parfocal.camera.child`. PARFOCAL_BENCH_MADE names a
folder: each child writes the count of its frames there, and while it holds a file `shut`, the
camera gives no frames, so that everything can be counted to the last one. DemoCamera shows waves
in dark colours; drawn fields of few and many cells are added to them in turn, so that detector and
model have work too.
"""

import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pymmcore_plus import CMMCorePlus

from parfocal.bench import drawn_frame
from parfocal.camera import mmcore
from parfocal.camera.child import Watcher, run

SHUT = "shut"
N_CELLS = (4, 12, 24, 40)
"""In the drawn fields."""


def made(folder: Path) -> int:
    """Frames that the cameras of all children made, up to the newest that was fetched."""
    return sum(int(path.read_text() or 0) for path in folder.glob("*.made"))


class CountedCore(CMMCorePlus):
    """Micro-Manager's core, which notes the number of each frame that is fetched from it."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(os.environ["PARFOCAL_BENCH_MADE"])
        self._before, self._newest = 0, -1
        self._fields = [drawn_frame(n, n_cells=n) for n in N_CELLS]
        self._count = os.open(self._folder / f"{os.getpid()}.made", os.O_CREAT | os.O_WRONLY)

    def popNextImageAndMD(self, *arguments: Any, **more: Any) -> Any:
        pixels, tags = super().popNextImageAndMD(*arguments, **more)
        number = int(tags["ImageNumber"])
        if number <= self._newest:  # another sequence, which begins at 0
            self._before += self._newest + 1
        self._newest = number
        os.pwrite(self._count, f"{self._before + number + 1:20d}".encode(), 0)
        return cv2.add(np.ascontiguousarray(pixels), self._fields[number % len(N_CELLS)]), tags

    def getRemainingImageCount(self) -> int:
        if not (self._folder / SHUT).exists():
            return int(super().getRemainingImageCount())
        mmcore.STALL_S = 3600.0  # this silence is ours, not the camera's
        return 0


if __name__ == "__main__":
    vars(mmcore)["CMMCorePlus"] = CountedCore
    run(int(sys.argv[1]), Watcher())
