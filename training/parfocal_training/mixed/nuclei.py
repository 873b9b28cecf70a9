"""Nuclei in a fluorescence frame.

A nucleus is a compact, sharply bordered patch of light of nuclear size. What shines but is none is
counted under a reason, and where it lies is kept, for a cell with such light in it has no sure
truth.
"""

from collections import Counter
from dataclasses import dataclass
from typing import cast

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.types import Gray, Pixels
from parfocal_training.mixed.parting import split

Float = NDArray[np.float32]
Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]

HORN_UM = 1.0
"""Half the width of what is shaved off an outline: far narrower than any nucleus."""


class NucleusRules(msgspec.Struct, frozen=True, kw_only=True):
    """What makes light a nucleus; every limit with its reason."""

    smooth_um: float = 0.8  # SD; as wide as the blur of a 10x objective: noise goes, edges stay
    glow_um: float = 90.0  # light wider than this is background: four nuclei in a row
    least_contrast: float = 8.0  # over the noise of the smoothed frame; noise reaches 5 or 6
    min_area_um2: float = 35.0  # 6.7 um across, a small condensed nucleus
    max_area_um2: float = 900.0  # 34 um across, a large tetraploid one
    min_solidity: float = 0.85  # area over that of the convex hull; fibres and scraps have less
    max_edge_um: float = 2.6  # SD of the blur of its border; in focus 1.2 to 1.5 after smoothing
    split_um: float = 0.6  # a neck this much narrower than both sides (radius) parts two nuclei


@dataclass(frozen=True, slots=True, eq=False)
class Nuclei:
    """n nuclei of one fluorescence frame, in its own pixels.

    `labels` (h, w) int32, 1..n; `doubtful` (h, w) where light is that may or may not be a nucleus;
    `centres_px` (n, 2), x right, y down; `area_um2`, `contrast` (n,), the latter over the noise.
    `rejected` counts what shines but is no nucleus: small, large, diffuse, irregular, faint.
    """

    labels: Labels
    doubtful: Mask
    centres_px: NDArray[np.float64]
    area_um2: NDArray[np.float64]
    contrast: NDArray[np.float64]
    rejected: Counter[str]

    def __len__(self) -> int:
        return len(self.area_um2)


DEFAULT_RULES = NucleusRules()


def one_channel(pixels: Pixels) -> Gray:
    """The brightest channel at each pixel: shape (h, w).

    A filter's light is in one channel of a colour camera, and luma would weaken it.
    """
    return pixels if pixels.ndim == 2 else cast("Gray", pixels.max(axis=2))


def find_nuclei(gray: Gray, um_per_px: float, rules: NucleusRules = DEFAULT_RULES) -> Nuclei:
    """Nuclei of a fluorescence frame (h, w); a frame without any yields none."""
    signal = above_background(gray, um_per_px, rules)
    noise = noise_level(signal)
    floor = rules.least_contrast * noise
    level = max(floor, log_otsu(signal, noise))
    pieces = split(signal > level, rules.split_um / um_per_px)
    faint = faint_mask(signal, floor, level, rules.min_area_um2 / um_per_px**2)
    return sorted_out(pieces, signal, noise, faint, um_per_px, rules)


def above_background(gray: Gray, um_per_px: float, rules: NucleusRules) -> Float:
    """Smoothed light minus its wide background, median 0: (h, w) in grey levels.

    The background is a morphological opening at about 4 um a pixel: medium, autofluorescence and
    vignetting go, patches narrower than `glow_um` stay whatever they cover.
    """
    h, w = gray.shape
    factor = max(1.0, 4.0 / um_per_px)
    size = (max(1, round(w / factor)), max(1, round(h / factor)))
    small = cv2.resize(gray.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    side = 2 * int(rules.glow_um / (um_per_px * factor) / 2) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    low = cv2.morphologyEx(small, cv2.MORPH_OPEN, disc, borderType=cv2.BORDER_REFLECT)
    wide = cv2.GaussianBlur(low, (0, 0), side / 4, borderType=cv2.BORDER_REFLECT)
    smooth = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), rules.smooth_um / um_per_px)
    signal = smooth - cv2.resize(wide, (w, h), interpolation=cv2.INTER_LINEAR)
    return np.asarray(signal - np.median(signal), np.float32)


def noise_level(signal: Float) -> float:
    """SD of the dark part, from its median deviation; never below a third of a grey level."""
    return max(1 / 3, 1.4826 * float(np.median(np.abs(signal))))


def log_otsu(signal: Float, noise: float) -> float:
    """Otsu's threshold on the logarithm, since nuclei differ in brightness by factors."""
    top = max(float(signal.max(initial=0)), 2 * noise)
    scaled = np.log(np.maximum(signal, noise) / noise) / np.log(top / noise)
    at, _ = cv2.threshold((255 * scaled).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    return float(noise * np.exp(at / 255 * np.log(top / noise)))


def faint_mask(signal: Float, floor: float, level: float, least_px: float) -> Mask:
    """Where light of nuclear size is above the noise, yet nowhere above the level: (h, w)."""
    _, patches, stats, _ = cv2.connectedComponentsWithStats((signal > floor).astype(np.uint8))
    bright = np.unique(patches[signal > level])
    kept = stats[:, cv2.CC_STAT_AREA] >= least_px
    kept[[0, *bright.tolist()]] = False
    return np.asarray(kept[patches], np.bool_)


def sorted_out(
    pieces: Labels, signal: Float, noise: float, faint: Mask, um_per_px: float, rules: NucleusRules
) -> Nuclei:
    """The pieces that are nuclei, each within half of its own light, and a count of the others."""
    labels, doubtful, centres, areas, contrasts = np.zeros_like(pieces), faint.copy(), [], [], []
    rejected = Counter({"faint": count_of(faint)})
    steepness = gradient(signal)
    for label, window in windows(pieces):
        here, light = pieces[window] == label, signal[window]
        peak = float(np.quantile(light[here], 0.8))
        core = smooth_core(here & (light > peak / 2), um_per_px)
        reason = fault(core, light, peak, steepness[window], um_per_px, rules)
        if reason is None:
            areas.append(core.sum() * um_per_px**2)
            labels[window][core] = len(areas)
            y, x = np.nonzero(core)
            centres.append((x.mean() + window[1].start, y.mean() + window[0].start))
            contrasts.append(peak / noise)
            continue
        rejected[reason] += 1
        if reason != "small":
            doubtful[window] |= here
    return Nuclei(
        labels=labels,
        doubtful=doubtful,
        centres_px=np.array(centres, np.float64).reshape(-1, 2),
        area_um2=np.array(areas, np.float64),
        contrast=np.array(contrasts, np.float64),
        rejected=+rejected,
    )


def windows(labels: Labels) -> list[tuple[int, tuple[slice, slice]]]:
    """Each label with its bounding box."""
    y, x = np.nonzero(labels)
    of = labels[y, x]
    n = int(of.max(initial=0)) + 1
    low, high = np.full((2, n), max(labels.shape)), np.full((2, n), -1)
    for axis, at in enumerate((y, x)):
        np.minimum.at(low[axis], of, at)
        np.maximum.at(high[axis], of, at)
    return [
        (i, (slice(low[0, i], high[0, i] + 1), slice(low[1, i], high[1, i] + 1)))
        for i in range(1, n)
        if high[0, i] >= 0
    ]


def fault(
    core: Mask, light: Float, peak: float, steepness: Float, um_per_px: float, rules: NucleusRules
) -> str | None:
    """Why a patch of light is no nucleus; None where it is one."""
    area_um2 = float(core.sum()) * um_per_px**2
    if area_um2 < rules.min_area_um2:
        return "small"
    if area_um2 > rules.max_area_um2:
        return "large"
    inner = cv2.erode(core.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    rim = core & (inner == 0)
    # a step of height `peak` under a Gaussian blur of SD s is peak / (s sqrt(2 pi)) steep
    slope = float(np.median(steepness[rim])) if rim.any() else 0.0
    if slope <= 0 or peak / (slope * (2 * np.pi) ** 0.5) * um_per_px > rules.max_edge_um:
        return "diffuse"
    outline = cv2.findContours(core.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    hull = np.zeros(core.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(outline)), 1)
    return "irregular" if core.sum() < rules.min_solidity * hull.sum() else None


def gradient(signal: Float) -> Float:
    """Steepness in grey levels a pixel: (h, w)."""
    dx = cv2.Scharr(signal, cv2.CV_32F, 1, 0, scale=1 / 32)
    dy = cv2.Scharr(signal, cv2.CV_32F, 0, 1, scale=1 / 32)
    return np.asarray(cv2.magnitude(dx, dy), np.float32)


def smooth_core(mask: Mask, um_per_px: float) -> Mask:
    """The largest piece of a mask without horns, as a touching, brighter nucleus leaves them."""
    side = 2 * max(1, round(HORN_UM / um_per_px)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    opened = np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc), np.bool_)
    return largest(opened if opened.any() else mask)


def largest(mask: Mask) -> Mask:
    """The largest connected piece of a mask that is not empty."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return np.asarray(pieces == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])), np.bool_)


def count_of(mask: Mask) -> int:
    """How many connected pieces a mask has."""
    return int(cv2.connectedComponents(mask.astype(np.uint8))[0]) - 1
