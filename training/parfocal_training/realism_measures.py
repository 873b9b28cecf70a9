"""What `parfocal_training.realism` measures of fields and crops, and distances of samples.

Knows arrays only: no files, and not which side is simulated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

COMMON_UM_PER_PX = 0.65  # the coarser side sets what both can show
CROP_UM_PER_PX = 0.44
CROP_PX = 224
WINDOW_UM = 10.0
FLAT_UM = 60.0
RIM_UM = np.arange(-6.0, 6.01, COMMON_UM_PER_PX)
Float = NDArray[np.float32]
Samples = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A field at the common scale: flat colour (h, w, 3) around 1, and masks of single cells."""

    flat: Float
    labels: NDArray[np.int32] | None  # (h, w), 0 is no cell
    singles: tuple[int, ...]
    tint: tuple[float, float, float]
    rgb: NDArray[np.uint8]

    @property
    def luma(self) -> Float:
        """Rec. 601 luma of the flat field, (h, w)."""
        weights = np.array([0.299, 0.587, 0.114], np.float32) * np.array(self.tint, np.float32)
        luma: Float = self.flat @ (weights / weights.sum())
        return luma


def flattened(image: Float, um_per_px: float) -> Float:
    """The image divided by its own wide blur."""
    light = cv2.GaussianBlur(image, (0, 0), FLAT_UM / um_per_px)
    return np.asarray(image / np.maximum(np.asarray(light, np.float32), 1), np.float32)


def make_field(
    rgb: NDArray[np.uint8],
    um_per_px: float,
    labels: NDArray[np.int32] | None,
    singles: Sequence[int],
) -> Field:
    """A field brought to the common scale and flattened."""
    ratio = um_per_px / COMMON_UM_PER_PX
    size = (round(rgb.shape[1] * ratio), round(rgb.shape[0] * ratio))
    small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    if labels is not None:
        labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT))
        labels = labels.astype(np.int32)
    tint = small.reshape(-1, 3).mean(0)
    flat = flattened(small.astype(np.float32), COMMON_UM_PER_PX)
    r, g, b = (float(v) for v in tint)
    return Field(flat, labels, tuple(singles), (r, g, b), small)


def local_contrast(luma: Float, um_per_px: float) -> Float:
    """Standard deviation in windows of 10 um: (h, w)."""
    size = (round(WINDOW_UM / um_per_px),) * 2
    mean = np.asarray(cv2.blur(luma, size), np.float32)
    square = np.asarray(cv2.blur(luma * luma, size), np.float32)
    return np.sqrt(np.maximum(square - mean * mean, 0))


def rim_profiles(field: Field) -> Iterator[NDArray[np.float64]]:
    """For each single cell, mean flat luma minus 1 by distance from its edge, (len(RIM_UM),).

    Negative distances lie inside the cell.
    """
    luma = field.luma
    for window, mask, others in _single_masks(field):
        inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
        outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
        # both maps start at 1 beside the edge, which lies between two pixels
        signed_px = np.where(mask, 0.5 - np.asarray(inside), np.asarray(outside) - 0.5)
        distance_um = signed_px * COMMON_UM_PER_PX
        step = np.round((distance_um - RIM_UM[0]) / COMMON_UM_PER_PX).astype(int)
        valid = (step >= 0) & (step < len(RIM_UM)) & ~others
        count = np.bincount(step[valid], minlength=len(RIM_UM))
        total = np.bincount(step[valid], luma[window][valid], minlength=len(RIM_UM))
        with np.errstate(invalid="ignore"):
            yield total / count - 1  # NaN where the cell is not that deep


def shapes(field: Field) -> Iterator[tuple[float, float, float]]:
    """Area in um2, aspect ratio and solidity of each single cell."""
    for _, mask, _ in _single_masks(field):
        outlines, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        outline = max(outlines, key=len)
        if len(outline) < 8:
            continue
        (_, (a, b), _), hull = cv2.minAreaRect(outline), cv2.convexHull(outline)
        solidity = cv2.contourArea(outline) / max(cv2.contourArea(hull), 1)
        area = float(mask.sum()) * COMMON_UM_PER_PX**2
        yield area, max(a, b) / max(min(a, b), 1), float(solidity)


def _single_masks(
    field: Field, margin: int = 12
) -> Iterator[tuple[tuple[slice, slice], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Window, mask, and pixels of other cells, of each single cell clear of the edge."""
    if field.labels is None:
        return
    h, w = field.labels.shape
    for label in field.singles:
        ys, xs = np.nonzero(field.labels == label)
        if len(ys) == 0:
            continue
        top, bottom, left, right = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
        if min(top, left, h - bottom, w - right) < margin:
            continue
        window = (slice(top - margin, bottom + margin), slice(left - margin, right + margin))
        part = field.labels[window]
        yield window, part == label, (part != label) & (part > 0)


def spectrum(image: Float, um_per_px: float) -> NDArray[np.float64]:
    """Power in five octaves of period, from 1.3 to 40 um, as log10 of variance: (5,)."""
    f = np.hypot(
        np.fft.fftfreq(image.shape[0], um_per_px)[:, None],
        np.fft.rfftfreq(image.shape[1], um_per_px)[None, :],
    )
    power = np.abs(np.fft.rfft2(image - image.mean())) ** 2 / image.size**2
    edges = 1 / (40 / 2.0 ** np.arange(6))
    bands = [power[(f >= a) & (f < b)].sum() for a, b in pairwise(edges)]
    return np.log10(np.array(bands, np.float64) + 1e-12)


def silhouette(crop: Float) -> tuple[float, float, float] | None:
    """Area in um2, aspect and solidity of the textured patch in the middle; None if there is none.

    Real crops have no mask: both sides are outlined by the same rule, local contrast well
    above the crop's median, with holes closed.
    """
    mean = np.asarray(cv2.blur(crop, (5, 5)), np.float32)
    spread = np.sqrt(np.maximum(np.asarray(cv2.blur(crop * crop, (5, 5))) - mean * mean, 0))
    busy = (spread > 2.2 * np.median(spread)).astype(np.uint8)
    closed = cv2.morphologyEx(busy, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    middle = (crop.shape[1] / 2, crop.shape[0] / 2)
    near = [o for o in outlines if cv2.pointPolygonTest(o, middle, True) > -12 and len(o) > 40]
    if not near:
        return None
    outline = max(near, key=cv2.contourArea)
    area = cv2.contourArea(outline)
    (_, (a, b), _) = cv2.minAreaRect(outline)
    solidity = area / max(cv2.contourArea(cv2.convexHull(outline)), 1)
    return area * CROP_UM_PER_PX**2, max(a, b) / max(min(a, b), 1), float(solidity)


def crop_samples(crops: Float) -> Samples:
    """Quantities of quantile-normalized crops: texture in the middle and in the background.

    `crops` has shape (n, 224, 224).
    """
    y, x = np.mgrid[:CROP_PX, :CROP_PX] - (CROP_PX - 1) / 2
    radius_um = np.hypot(x, y) * CROP_UM_PER_PX
    spread = [local_contrast(crop, CROP_UM_PER_PX) for crop in crops]
    bands = np.array([spectrum(crop, CROP_UM_PER_PX) for crop in crops])  # (n, 5)
    found = {
        "contrast within 8 um [levels]": [s[radius_um < 8].mean() for s in spread],
        "contrast at 8-16 um [levels]": [
            s[(radius_um > 8) & (radius_um < 16)].mean() for s in spread
        ],
        "contrast beyond 40 um [levels]": [s[radius_um > 40].mean() for s in spread],
    }
    samples = {name: np.array(values, np.float64) for name, values in found.items()}
    forms = np.array([f for c in crops if (f := silhouette(c)) is not None]).reshape(-1, 3)
    for column, name in enumerate(("area [um2]", "aspect", "solidity")):
        samples[f"silhouette {name}"] = forms[:, column]
    octaves = ("20-40", "10-20", "5-10", "2.5-5", "1.3-2.5")
    return samples | {f"power {o} um [log10]": bands[:, i] for i, o in enumerate(octaves)}


def field_samples(fields: Sequence[Field]) -> Samples:
    """Every measured quantity of some fields, pooled; percent where it is an intensity."""
    step = 7  # neighbouring pixels say the same thing
    found: Samples = {
        f"intensity {name} [%]": np.concatenate(
            [100 * (f.flat[::step, ::step, c].ravel() - 1) for f in fields]
        ).astype(np.float64)
        for c, name in enumerate(("red", "green", "blue"))
    }
    contrast = [local_contrast(f.luma, COMMON_UM_PER_PX)[::step, ::step].ravel() for f in fields]
    found["local contrast [%]"] = 100 * np.concatenate(contrast).astype(np.float64)
    table = np.array([shape for f in fields for shape in shapes(f)]).reshape(-1, 3)
    for column, name in enumerate(("area [um2]", "aspect", "solidity")):
        found[f"cell {name}"] = table[:, column]
    return found


def wasserstein(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Mean distance between the quantiles of two samples."""
    at = np.linspace(0.001, 0.999, 999)
    return float(np.abs(np.quantile(a, at) - np.quantile(b, at)).mean())


def kolmogorov(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Largest distance between the two distribution functions (0: same, 1: apart)."""
    both = np.sort(np.concatenate([a, b]))
    lower = np.searchsorted(np.sort(a), both, side="right") / len(a)
    upper = np.searchsorted(np.sort(b), both, side="right") / len(b)
    return float(np.abs(lower - upper).max())


def distances(simulated: Samples, real: Samples) -> dict[str, dict[str, float]]:
    """Wasserstein and Kolmogorov-Smirnov distance and both medians of each quantity."""
    return {
        name: {
            "wasserstein": wasserstein(simulated[name], real[name]),
            "ks": kolmogorov(simulated[name], real[name]),
            "median_simulated": float(np.median(simulated[name])),
            "median_real": float(np.median(real[name])),
        }
        for name in simulated
        if len(simulated[name]) and len(real[name])
    }
