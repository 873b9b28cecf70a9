"""Detectors side by side on fields with truth, and how each holds when the microscope changes.

    python tests/bench/detectors.py SOURCES.toml [--robustness] [--json FILE]

SOURCES.toml is what `parfocal-train detector` reads; only its `fields` are used, a table each.
The peers are what a user could reach for without downloading weights: scikit-image's Laplacian of
Gaussian and watershed (`pip install 'parfocal[peers]'`) and OpenCV's SimpleBlobDetector, each with
sizes set to cells of 15 to 60 um, one setting for all sources. One thread; times are medians.
"""

import argparse
import importlib.metadata
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.detectors import choose, started
from parfocal.prepare import to_gray
from parfocal.segment import flat_contrast
from parfocal.types import Finds, Gray
from parfocal_training.crops import read_frame
from parfocal_training.detector.material import images_of, table_of, truth_of, truths_of
from parfocal_training.detector.score import FieldScore, figures, score_field
from parfocal_training.detector.sources import Fields, Sources, read_sources

Labels = NDArray[np.int32]
Detect = Callable[[Gray, float], Finds]
SMALL_UM, LARGE_UM = 15.0, 60.0
AT_UM = 1.0


def coarse(gray: Gray, um_per_px: float) -> NDArray[np.float32]:
    """Even contrast at 1 um/px, on which every peer works."""
    factor = um_per_px / AT_UM
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = cv2.resize(gray, None, fx=factor, fy=factor, interpolation=way)
    return np.asarray(flat_contrast(small, AT_UM, 120.0), np.float32)  # type: ignore[arg-type]


def finds_of(labels: Labels, points: NDArray[np.float64], shape: tuple[int, ...]) -> Finds:
    """Finds of a peer; points (n, 2) as (x, y) in pixels of its labels."""
    ratio = np.array([shape[1] / labels.shape[1], shape[0] / labels.shape[0]])
    at = (points.reshape(-1, 2) + 0.5) * ratio - 0.5
    n = len(at)
    numbers = labels if labels.max() == n else np.zeros(labels.shape, np.int32)
    return Finds(numbers, at, at, np.zeros((n, 4)), np.zeros(n), np.ones(n), (None,) * n)


def blob_log(gray: Gray, um_per_px: float) -> Finds:
    """scikit-image: Laplacian of Gaussian."""
    from skimage.feature import blob_log as log

    image = np.abs(coarse(gray, um_per_px))
    found = log(image, SMALL_UM / 2.8, LARGE_UM / 2.8, 4, threshold=0.03)
    return finds_of(np.zeros(image.shape, np.int32), found[:, 1::-1].astype(float), gray.shape)


def watershed(gray: Gray, um_per_px: float) -> Finds:
    """scikit-image: local deviation, Otsu, distance transform, watershed."""
    from skimage.feature import peak_local_max
    from skimage.filters import threshold_otsu
    from skimage.measure import regionprops
    from skimage.morphology import closing, disk, opening
    from skimage.segmentation import watershed as flooded

    image = coarse(gray, um_per_px)
    deviation = np.sqrt(np.maximum(cv2.blur(image**2, (5, 5)) - cv2.blur(image, (5, 5)) ** 2, 0))
    mask = deviation > threshold_otsu(deviation)
    mask = opening(closing(mask, disk(3)), disk(3))
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    seeds = peak_local_max(depth, min_distance=int(SMALL_UM / 2), labels=mask.astype(int))
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(seeds.T)] = np.arange(1, len(seeds) + 1)
    labels = flooded(-depth, markers, mask=mask).astype(np.int32)
    large = [r.label for r in regionprops(labels) if r.area >= (SMALL_UM / 2) ** 2 * np.pi]
    number = np.zeros(labels.max() + 1, np.int32)
    number[large] = np.arange(1, len(large) + 1)
    return finds_of(number[labels], seeds[np.array(large, int) - 1][:, ::-1].astype(float),
                    gray.shape)  # fmt: skip


def simple_blobs(gray: Gray, um_per_px: float) -> Finds:
    """OpenCV: SimpleBlobDetector, dark and bright."""
    image = coarse(gray, um_per_px)
    levels = np.clip(128 + 300 * image, 0, 255).astype(np.uint8)
    points = []
    for colour in (0, 255):
        options = cv2.SimpleBlobDetector.Params()
        options.blobColor = colour
        options.minArea, options.maxArea = np.pi * (SMALL_UM / 2) ** 2, np.pi * (LARGE_UM / 2) ** 2
        options.filterByCircularity = options.filterByConvexity = options.filterByInertia = False
        options.minDistBetweenBlobs = SMALL_UM
        found = cv2.SimpleBlobDetector.create(options).detect(levels)
        points += [one.pt for one in found]
    return finds_of(np.zeros(image.shape, np.int32), np.array(points, float), gray.shape)


def detectors() -> dict[str, Detect]:
    """Ours, and the peers that are installed."""
    ours: dict[str, Detect] = {name: started(choose(name)) for name in ("cells", "classical")}
    peers: dict[str, Detect] = {"OpenCV SimpleBlobDetector": simple_blobs}
    try:
        name = f"scikit-image {importlib.metadata.version('scikit-image')}"
    except importlib.metadata.PackageNotFoundError:
        print("scikit-image is not installed: its two are left out", file=sys.stderr)
    else:
        peers |= {f"{name} blob_log": blob_log, f"{name} watershed": watershed}
    return ours | peers


Change = Callable[[Gray, float], tuple[Gray, float]]


def levels(change: Callable[[NDArray[np.float64], float], NDArray[Any]]) -> Change:
    """A change of grey levels, clipped to what the camera can say."""

    def changed(gray: Gray, um_per_px: float) -> tuple[Gray, float]:
        top = np.iinfo(gray.dtype).max
        made = change(gray.astype(np.float64), um_per_px)
        return np.clip(made, 0, top).astype(gray.dtype), um_per_px

    return changed


def jpeg(gray: Gray, um_per_px: float) -> tuple[Gray, float]:
    """Eight bits and a JPEG file of quality 50."""
    eight = gray if gray.dtype == np.uint8 else (gray >> 8).astype(np.uint8)
    data = cv2.imencode(".jpg", eight, [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8), um_per_px


CHANGES: dict[str, Change] = {
    "as it is": lambda gray, um: (gray, um),
    "gain 0.5": levels(lambda x, _: x * 0.5),
    "gain 1.5 (clipped)": levels(lambda x, _: x * 1.5),
    "defocus, Gaussian of 1.5 um": levels(lambda x, um: cv2.GaussianBlur(x, (0, 0), 1.5 / um)),
    "30 % gradient": levels(lambda x, _: x * np.linspace(0.7, 1, x.shape[1])),
    "JPEG quality 50": jpeg,
    "scale said 0.7 of true": lambda gray, um: (gray, 0.7 * um),
    "scale said 1.4 of true": lambda gray, um: (gray, 1.4 * um),
}


def fields(source: Fields, sources: Sources) -> Iterator[tuple[str, str, Gray, Labels, float]]:
    """Name, group, frame, labels and pixel size of each field."""
    said = table_of(sources.path(source.table)) if source.table else {}
    truths = truths_of(sources.path(source.truth)) if source.truth else {}
    for path in images_of(sources.path(source.images)):
        gray = to_gray(read_frame(path)[0].pixels)
        row = said.get(path.stem, {})
        scale = float(row.get("um_per_px") or source.um_per_px or 0)
        truth = truth_of(path, (gray.shape[0], gray.shape[1]), source, sources, truths)
        yield path.stem, row.get("group") or path.stem, gray, truth, scale


def measure(detect: Detect, change: Change, source: Fields, sources: Sources) -> dict[str, Any]:
    """The figures of a detector on a source, and its median time a megapixel."""
    scores: list[FieldScore] = []
    seconds = []
    for name, group, gray, truth, scale in fields(source, sources):
        frame, told = change(gray, scale)
        start = time.perf_counter()
        finds = detect(frame, told)
        seconds.append((time.perf_counter() - start) / gray.size * 1e6)
        single = np.bincount(truth.ravel()) * scale**2 <= source.single_um2
        says, whole = source.says, None if source.says == "instances" else single
        scores.append(score_field(name, group, finds, truth, scale, says, whole))
    got = {name: round(one.value, 3) for name, one in figures(scores).items()}
    return {"source": source.images, "n": len(scores), **got,
            "ms_per_mpx": round(1e3 * statistics.median(seconds), 1)}  # fmt: skip


COLUMNS = ("f1", "recall", "precision", "false_per_cell", "splits_per_cell", "ap50",
           "foreground_f1", "ms_per_mpx")  # fmt: skip


def main() -> None:
    """Print a table a source."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("sources", type=Path)
    made.add_argument("--robustness", action="store_true", help="change the frames, ours only")
    made.add_argument("--json", type=Path, help="write every figure there")
    options = made.parse_args()
    cv2.setNumThreads(1)
    sources = read_sources(options.sources)
    every = detectors()
    runs = [(name, detect, "as it is") for name, detect in every.items()]
    if options.robustness:
        runs = [(n, every[n], change) for n in ("cells", "classical") for change in CHANGES]
    rows = []
    for source in sources.source:
        if not isinstance(source, Fields):
            continue
        print(f"\n{source.images}\n{'':48s}" + "".join(f"{c:>16s}" for c in COLUMNS))
        for name, detect, change in runs:
            row = measure(detect, CHANGES[change], source, sources)
            rows.append({"detector": name, "change": change, **row})
            cells = "".join(f"{row.get(c, '-'):>16}" for c in COLUMNS)
            print(f"{name + ', ' + change:48s}{cells}", flush=True)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))


if __name__ == "__main__":
    main()
