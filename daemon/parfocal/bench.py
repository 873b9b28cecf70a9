"""`parfocal bench`: stage-by-stage timings on this machine, on a drawn frame of known content.

Times one thread of the host path in this process, then the model. Setup is never timed. The frame
is drawn (60 textured ellipses in uneven light, 1616x1216 RGB), so figures show cost, not accuracy.
"""

import hashlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.bundle import Bundle
from parfocal.calibrate import to_base64
from parfocal.card import Metric, Phenotypes
from parfocal.classify import OnnxClassifier
from parfocal.confine import keep_memory
from parfocal.detectors import CLASSICAL, choose, started
from parfocal.images import Limits, decode
from parfocal.intake import read_file
from parfocal.phenotypes import Phenotyper
from parfocal.prepare import Prepare, to_gray
from parfocal.reader import Stopwatch
from parfocal.simulator import HEK293A, HT1080, draw_flask
from parfocal.simulator.loop import Loop
from parfocal.types import Pixels

WIDTH_PX, HEIGHT_PX, UM_PER_PX, N_CELLS = 1616, 1216, 0.44, 60


def drawn_frame(
    seed: int = 0, width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX, n_cells: int = N_CELLS
) -> Pixels:
    """A colour frame of textured cells in uneven light: shape (height_px, width_px, 3), uint8.

    Cells lie on a jittered grid, each with its whole crop inside the frame.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height_px, 0:width_px]
    gray = 150 + 30 * np.sin(x / 700) + 20 * np.cos(y / 500) + rng.normal(0, 2, x.shape)
    columns = max(1, round((n_cells * width_px / height_px) ** 0.5))
    rows = -(-n_cells // columns)
    for k in range(n_cells):
        cx = (k % columns + 0.5) * width_px / columns + rng.uniform(-8, 8)
        cy = (k // columns + 0.5) * height_px / rows + rng.uniform(-8, 8)
        cx, cy = np.clip(cx, 120, width_px - 121), np.clip(cy, 120, height_px - 121)
        _draw_cell(gray, cx, cy, rng)
    tint = np.array([1.0, 0.85, 0.95])
    frame: NDArray[np.uint8] = np.clip(gray[..., None] * tint, 0, 255).astype(np.uint8)
    return frame


def _draw_cell(gray: NDArray[np.float64], cx: float, cy: float, rng: np.random.Generator) -> None:
    """Add a textured ellipse with a dark rim and a halo around (cx, cy)."""
    left, top = int(cx) - 70, int(cy) - 70
    y, x = np.mgrid[top : top + 140, left : left + 140]
    long_px, short_px, angle = rng.uniform(28, 40), rng.uniform(18, 26), rng.uniform(0, np.pi)
    u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
    v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
    r = np.hypot(u / long_px, v / short_px)
    window = gray[top : top + 140, left : left + 140]
    window += np.where(r < 1, 18 * np.sin(u / 3) * np.sin(v / 2.5), 0)
    window -= 45 * np.exp(-(((r - 1) / 0.12) ** 2)) - 25 * np.exp(-(((r - 1.25) / 0.12) ** 2))


def times_ms(action: Callable[[], object], repeats: int) -> list[float]:
    """Wall time of each repeat, after one that does not count."""
    action()
    out = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        out.append((time.perf_counter() - start) * 1e3)
    return out


def bench(bundle: Bundle, repeats: int) -> dict[str, Any]:
    """Machine, sizes and one row a stage: median and range in milliseconds."""
    cv2.setNumThreads(1)
    keep_memory()  # as the reader child does
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.bmp"
        cv2.imwrite(str(path), drawn_frame()[..., ::-1])
        rows, crops = _host(bundle, str(path), repeats)
        rows += _detectors(str(path), repeats)
    rows += _model(bundle, crops, max(5, repeats // 6))
    rows.append(phenotypes_row(bundle, repeats))
    rows += _simulator(max(5, repeats // 6))
    return {"machine": machine(), "repeats": repeats, "stages": rows}


def machine() -> dict[str, str | int]:
    """What the figures were taken on."""
    model = platform.processor() or "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [s for s in cpuinfo.read_text().splitlines() if s.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {"cpu": model, "cores": os.cpu_count() or 0, "python": platform.python_version(),
            "opencv": cv2.__version__, "numpy": np.__version__}  # fmt: skip


def _row(stage: str, ms: list[float], note: str = "") -> dict[str, Any]:
    return {"stage": stage, "median_ms": statistics.median(ms), "low_ms": min(ms),
            "high_ms": max(ms), "note": note}  # fmt: skip


def _host(
    bundle: Bundle, path: str, repeats: int
) -> tuple[list[dict[str, Any]], NDArray[np.float32]]:
    limits = Limits(64_000_000, 256 * 1024 * 1024)
    prepare = Prepare(bundle.card.prepare.pixels, started(choose("auto")))
    stages: dict[str, list[float]] = {}
    totals: list[float] = []
    crops = np.empty((0, 224, 224), np.float32)
    for k in range(repeats + 1):
        watch, start = Stopwatch(), time.perf_counter()
        with watch.time("read"):
            data, _ = read_file(path, limits.max_bytes)
        with watch.time("hash"):
            hashlib.sha256(data).hexdigest()
        with watch.time("decode"):
            frame = decode(data, limits)
        with watch.time("gray"):
            gray = to_gray(frame.pixels)
        with watch.time("detect"):
            finds = prepare.detector(gray, UM_PER_PX)
        with watch.time("cut"):
            raw = prepare.cut_finds(gray, UM_PER_PX, finds)
        with watch.time("normalize"):
            crops = prepare.normalize(raw.crops)
        if k:  # the first pass warms caches
            totals.append((time.perf_counter() - start) * 1e3)
            for stage, ms in watch.ms.items():
                stages.setdefault(stage, []).append(ms)
    note = f"{WIDTH_PX}x{HEIGHT_PX} RGB BMP, one thread, detector '{prepare.detector.name}'"
    rows = [_row(stage, ms) for stage, ms in stages.items()]
    each = [ms / max(1, len(crops)) for ms in stages["normalize"]]
    rows.append(_row("normalize, each crop", each, f"{len(crops)} crops of 224x224"))
    rows.append(_row("host path, sum of the above", totals, note))
    return rows, crops


def _detectors(path: str, repeats: int) -> list[dict[str, Any]]:
    """Every installed detector on the same frame, in turn, one thread, and its memory."""
    gray = to_gray(decode(Path(path).read_bytes()).pixels)
    names = dict.fromkeys((CLASSICAL, choose("auto").name.partition(" ")[0]))
    detectors = {name: started(choose(name)) for name in names}
    ms: dict[str, list[float]] = {name: [] for name in names}
    for k in range(repeats + 1):
        for name, detector in detectors.items():
            taken = times_once(lambda detector=detector: detector(gray, UM_PER_PX))  # type: ignore[misc]
            ms[name] += taken if k else []
    idle = peak_mb(path)
    rows = []
    for name, detector in detectors.items():
        cells = sum(reason is None for reason in detector(gray, UM_PER_PX).reasons)
        more = peak_mb(path, name) - idle
        note = f"{cells} cells; {more:.0f} MB of memory more than decoding the frame"
        rows.append(_row(f"detect, {detector.name}", ms[name], note))
    return rows


def peak_mb(path: str, detector: str = "") -> float:
    """Largest resident memory of a process that decodes a frame and finds its cells."""
    command = [sys.executable, "-P", "-m", "parfocal.bench", path, detector]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main(arguments: list[str]) -> None:
    """Decode one frame, find its cells if a detector is named, and print the peak memory in MB."""
    path, detector = arguments
    cv2.setNumThreads(1)
    gray = to_gray(decode(Path(path).read_bytes()).pixels)
    if detector:
        started(choose(detector))(gray, UM_PER_PX)
    # not getrusage: what that says of a fresh process includes its parent's peak
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def _model(bundle: Bundle, crops: NDArray[np.float32], repeats: int) -> list[dict[str, Any]]:
    classifier = OnnxClassifier(bundle)
    n = max(1, len(crops))

    def bare() -> None:
        for crop in crops:
            classifier.session.run(["logits", "lca"], {"crops": crop[None, None]})

    ours: list[float] = []
    alone: list[float] = []
    classifier(crops)
    for _ in range(repeats):  # in turn, so that a drift of the machine hits both
        ours += times_once(lambda: classifier(crops))
        alone += times_once(bare)
    note = f"{n} crops on {classifier.provider}"
    ratio = statistics.median([a / b for a, b in zip(alone, ours, strict=True)])
    rate = n / statistics.median(ours) * 1e3
    return [
        _row("infer", ours, f"{note}, {rate:.0f} cells/s, {ratio:.0%} of a bare session's speed"),
        _row("infer, bare session", alone, note),
    ]


def phenotypes_row(bundle: Bundle, repeats: int) -> dict[str, Any]:
    """Time to name the phenotypes of a frame's cells: the bundle's, or drawn ones of usual size."""
    card, d = bundle.card.phenotypes, bundle.card.novelty.d
    whose = f"of '{bundle.card.name}'"
    if card is None:
        card, d, whose = drawn_phenotypes(), 288, "drawn, as this model has none"
    phenotyper = Phenotyper(card, d)
    lca = np.random.default_rng(0).normal(0, 1, (N_CELLS, d)).astype(np.float32)
    q, k = phenotyper.axes.shape[1], len(card.names)
    note = f"{N_CELLS} cells of {d} activations, {k} phenotypes in {q} dimensions, {whose}"
    return _row("phenotypes", times_ms(lambda: phenotyper(lca), repeats), note)


def drawn_phenotypes(d: int = 288, q: int = 32, k: int = 11) -> Phenotypes:
    """A card of a mixture of k phenotypes in q dimensions whose numbers mean nothing."""
    rng, unknown = np.random.default_rng(0), Metric(value=0.0)
    mean, axes, centroids = (
        to_base64(rng.normal(0, 1, shape).astype(np.float32)) for shape in ((d,), (d, q), (k, q))
    )
    precisions = np.tril(rng.uniform(0.1, 1, (k, q, q))).astype(np.float32)
    return Phenotypes(
        names=tuple(str(number) for number in range(1, k + 1)),
        mean=mean,
        axes=axes,
        centroids=centroids,
        precisions=to_base64(precisions),
        weights=(1 / k,) * k,
        d=d,
        limits=(100.0,) * k,
        unlike_any=unknown,
        cells=(1,) * k,
        stability=unknown,
        group_kind="flask",
    )


def _simulator(repeats: int) -> list[dict[str, Any]]:
    flask = draw_flask(np.random.default_rng(0), ((HEK293A, 0.5), (HT1080, 0.5)), 160)
    fields = count(1)
    cells = [len(flask.field(0).truth.cells)]

    def field() -> None:
        cells.append(len(flask.field(next(fields)).truth.cells))

    shown = iter(Loop(flask, 2, np.random.default_rng(0)))
    fresh = times_ms(field, repeats)
    looped = times_ms(lambda: next(shown), 10 * repeats)
    n = round(statistics.median(cells))
    return [
        _row("simulate, a new field", fresh, f"{WIDTH_PX}x{HEIGHT_PX} RGB, about {n} cells"),
        _row("simulate, pre-rendered loop", looped, "the same size, fresh noise and shift"),
    ]


def times_once(action: Callable[[], object]) -> list[float]:
    """Wall time of one run in milliseconds."""
    start = time.perf_counter()
    action()
    return [(time.perf_counter() - start) * 1e3]


if __name__ == "__main__":
    main(sys.argv[1:])
