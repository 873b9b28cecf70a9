"""Instance labels of whatever stands out from the background of a transmitted-light frame.

Cells are found by texture, not by brightness: phase contrast, brightfield and either sign of
contrast look alike once only the local standard deviation counts. What touches is cut apart twice:
by outline, and in sheets without outline by the broad dark (or bright) body of each cell. This
module knows pixels and micrometres; what a label means is decided in `parfocal.detect`.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.types import Gray

Float = NDArray[np.integer[Any] | np.floating[Any]]
"""float32 images; OpenCV's own stubs say no more than this."""

Mask = NDArray[np.integer[Any] | np.floating[Any]]
"""uint8 images of 0 and 1."""


BOX = 12**0.5
"""Side of a box over the standard deviation of a blur as wide as the box."""


@dataclass(frozen=True, slots=True)
class SegmentRules:
    """Every length and level that decides the labels, in micrometres where not said otherwise.

    One set for all microscopes, tuned on four public sets of phase and brightfield, 0.45 to 1.6
    um/px. Lengths round to odd numbers of pixels, so `um_per_px` cannot be changed alone: at 1.1
    `shrink_um` falls from 5 to 3 pixels and touching cells merge.
    """

    um_per_px: float = 0.88  # half of a 0.44 um/px frame: a cell is still 15 px and more across
    light_um: float = 120.0  # wider than a cell, narrower than vignetting
    texture_um: float = 3.0  # window of the local deviation: about the width of a rim
    otsu_share: float = 0.92  # of Otsu's level; it is set by bright rims, spread cells are fainter
    noise_ratio: float = 1.8  # lowest level over the quiet ground (2.2 in the public frames)
    least_texture: float = 0.11  # lowest level at all: a deviation of 1.2 % of the light; the
    # public frames came to 5 %, shading and rounding of an empty frame reach 0.7 %
    close_um: float = 4.0  # bridges the gap between a cell's rim and its body
    hole_um2: float = 400.0  # smaller gaps in texture are smooth cytoplasm, larger are background
    shrink_um: float = 4.0  # the window smears outlines by half its width on either side
    open_um: float = 6.0  # thinner than this is a fibre, a scratch or a process, not a body
    body_um: float = 8.0  # blur that leaves one maximum in a cell body of 20 to 60 um
    apart_um: float = 15.0  # two bodies closer than half of this are one
    fill: float = 0.3  # least share of the blurred neighbourhood a body fills; tips fill less
    sheet_um: float = 500.0  # neighbourhood in which a sheet shows; a colony of spread cells is
    sheet_cover: float = 0.5  # narrower and covers less (0.3 against 0.6 and more in a sheet)
    nucleus_um: float = 4.0  # blur within a sheet: keeps cells 12 um apart apart
    packed_um: float = 18.0  # diameter of the search for a maximum within a sheet
    band_um: float = 40.0  # a few cells: within a sheet, slower changes are light, not cells
    coarse: int = 4  # seeds are sought at this fraction of the resolution; they are far wider
    slope: float = 0.02  # share of a 3 times wider blur: slopes where a cell fills the narrower


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Labels and the images they came from, all at the working scale.

    Parameters
    ----------
    labels : ndarray of shape (h, w), int32
        0 is background; labels are separated by at least one pixel.
    texture : ndarray of shape (h, w), float32
        Square root of the local deviation relative to the illumination.
    level : float
        The texture above which a pixel is foreground.
    contrast : ndarray of shape (h, w), float32
        Grey level relative to the illumination: 0 is background, -1 black, +1 twice as bright.
    um_per_px : float
        Pixel size of all three images.
    """

    labels: NDArray[np.int32]
    texture: Float
    level: float
    contrast: Float
    um_per_px: float


def segment(gray: Gray, um_per_px: float, rules: SegmentRules) -> Segments:
    """Labels of everything that stands out, at the working scale."""
    small, scale_um = to_working_scale(gray, um_per_px, rules.um_per_px)
    contrast = flat_contrast(small, scale_um, rules.light_um)
    texture = local_texture(contrast, odd_px(rules.texture_um, scale_um))
    level = foreground_level(texture, rules)
    mask = foreground(texture, level, scale_um, rules)
    cut = split_lines(mask, contrast, scale_um, rules)
    _, labels = cv2.connectedComponents(cv2.subtract(mask, cut), connectivity=4, ltype=cv2.CV_32S)
    return Segments(labels.astype(np.int32, copy=False), texture, level, contrast, scale_um)


def odd_px(length_um: float, um_per_px: float) -> int:
    """The odd number of pixels nearest to a length, at least 1."""
    return 2 * round((length_um / um_per_px - 1) / 2) + 1 if length_um > um_per_px else 1


def disc(diameter_um: float, um_per_px: float) -> Mask:
    """A disc-shaped structuring element."""
    side = odd_px(diameter_um, um_per_px)
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.uint8)


def to_working_scale(gray: Gray, um_per_px: float, target_um: float) -> tuple[Gray, float]:
    """The frame at the working scale, and its pixel size; a coarser frame stays as it is.

    Area averaging: it keeps the noise, and so the texture of empty ground, as low as it can be. A
    factor within 5 % of a whole number bins exactly, which is twenty times faster.
    """
    factor = target_um / um_per_px
    if factor < 1.05:
        return gray, um_per_px
    if abs(factor - round(factor)) < 0.05 * factor:
        factor = round(factor)
    h, w = gray.shape
    size = (max(1, int(w / factor)), max(1, int(h / factor)))
    small: Gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return small, um_per_px * factor


def flat_contrast(small: Gray, um_per_px: float, light_um: float) -> Float:
    """Grey level relative to the local illumination, minus 1: shape (h, w), float32."""
    h, w = small.shape
    image = small.astype(np.float32)
    coarse = cv2.resize(image, (max(1, w // 8), max(1, h // 8)), interpolation=cv2.INTER_AREA)
    side = odd_px(light_um, um_per_px * 8)
    even = np.maximum(cv2.blur(coarse, (side, side)), 1)
    light = cv2.resize(even, (w, h), interpolation=cv2.INTER_LINEAR)
    contrast = cv2.divide(image, light, dst=image)  # in place: a new image costs its page faults
    return cv2.subtract(contrast, 1.0, dst=contrast)  # type: ignore[call-overload, no-any-return]


def local_texture(contrast: Float, side_px: int) -> Float:
    """Square root of the standard deviation in a square window: shape (h, w), float32.

    The root lets faint spread cells and bright round ones share one level.
    """
    window = (max(side_px, 3), max(side_px, 3))
    mean = cv2.blur(contrast, window)
    square = cv2.multiply(contrast, contrast)
    variance = cv2.blur(square, window, dst=square)
    variance = cv2.subtract(variance, cv2.multiply(mean, mean, dst=mean), dst=variance)
    np.maximum(variance, 0, out=variance)  # rounding may leave a little less
    return cv2.sqrt(cv2.sqrt(variance, dst=variance), dst=variance)


def foreground_level(texture: Float, rules: SegmentRules) -> float:
    """The texture above which a pixel is foreground."""
    sample = texture[::8, ::8]  # thousands of pixels: enough for two percentiles
    quiet, top = np.percentile(sample, [10, 99.5])
    if top < rules.least_texture:
        return rules.least_texture
    levels = cv2.convertScaleAbs(texture[::2, ::2], alpha=255 / top)  # a quarter is plenty
    otsu, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)
    otsu_level = otsu * top / 255 * rules.otsu_share
    return float(max(otsu_level, quiet * rules.noise_ratio, rules.least_texture))


def foreground(texture: Float, level: float, um_per_px: float, rules: SegmentRules) -> Mask:
    """Cell bodies: shape (h, w), 0 or 1."""
    rough = (texture > level).view(np.uint8)
    closed = cv2.morphologyEx(rough, cv2.MORPH_CLOSE, disc(rules.close_um, um_per_px))
    solid = fill_holes(closed, rules.hole_um2 / um_per_px**2)
    body = cv2.erode(solid, disc(rules.shrink_um, um_per_px))
    opened = cv2.morphologyEx(body, cv2.MORPH_OPEN, disc(rules.open_um, um_per_px))
    return opened


def fill_holes(mask: Mask, area_px: float) -> Mask:
    """The mask with background islands smaller than an area filled."""
    filled = mask.copy()
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None:
        return filled
    holes = [
        contours[i]
        for i in np.flatnonzero(hierarchy[0, :, 3] >= 0).tolist()
        if cv2.contourArea(contours[i]) < area_px
    ]
    cv2.drawContours(filled, holes, -1, 1, cv2.FILLED)
    return filled


def split_lines(mask: Mask, contrast: Float, um_per_px: float, rules: SegmentRules) -> Mask:
    """Pixels of the mask on a border between two bodies: shape (h, w), 0 or 1."""
    h, w = mask.shape
    size = (max(1, w // rules.coarse), max(1, h // rules.coarse))
    share = cv2.resize(mask * np.uint8(255), size, interpolation=cv2.INTER_AREA)
    seeds = body_seeds(
        share.astype(np.float32) / np.float32(255),
        cv2.resize(contrast, size, interpolation=cv2.INTER_AREA),
        um_per_px * rules.coarse,
        rules,
    )
    lines = np.zeros(mask.shape, np.bool_)
    if not seeds.any():
        return lines.astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(
        1 - seeds, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_CCOMP
    )
    kind = np.uint16 if nearest.max() < 2**16 else np.float32  # OpenCV resizes no int32
    owner = cv2.resize(nearest.astype(kind), (w, h), interpolation=cv2.INTER_NEAREST)
    lines[:, :-1] |= owner[:, :-1] != owner[:, 1:]
    lines[:-1] |= owner[:-1] != owner[1:]
    return lines.view(np.uint8)


def body_seeds(share: Float, contrast: Float, um_per_px: float, rules: SegmentRules) -> Mask:
    """One speck in each cell body, at the coarse scale: shape (h, w), 0 or 1."""
    inside = (share >= 0.5).astype(np.uint8)
    sigma = rules.body_um / um_per_px
    bulk = cv2.GaussianBlur(share, (0, 0), sigma)
    wide = odd_px(3 * rules.body_um * BOX, um_per_px)
    bulk = cv2.addWeighted(bulk, 1 - rules.slope, cv2.blur(share, (wide, wide)), rules.slope, 0)
    seeds = maxima(bulk, odd_px(rules.apart_um, um_per_px)) & inside & (bulk > rules.fill)
    sheet = sheets(share, um_per_px, rules) & (inside > 0)
    if sheet.any():
        seeds = np.where(sheet, packed_seeds(contrast, sheet, um_per_px, rules), seeds)
    result: Mask = seeds.astype(np.uint8)
    return result


def maxima(image: Float, side_px: int) -> NDArray[np.bool_]:
    """Where a pixel is the largest of the disc around it."""
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side_px, side_px))
    largest: NDArray[np.bool_] = image >= cv2.dilate(image, element)
    return largest


def sheets(share: Float, um_per_px: float, rules: SegmentRules) -> NDArray[np.bool_]:
    """Where cells are packed: most of the wide neighbourhood is covered."""
    side = odd_px(rules.sheet_um, um_per_px)
    cover = cv2.blur(share, (side, side), borderType=cv2.BORDER_REFLECT)
    packed: NDArray[np.bool_] = cover > rules.sheet_cover
    return packed


def packed_seeds(
    contrast: Float, sheet: NDArray[np.bool_], um_per_px: float, rules: SegmentRules
) -> NDArray[np.bool_]:
    """Specks in the bodies of a sheet: borders between cells are thin and extreme, bodies broad.

    So the long tail of the grey levels is the borders, and bodies are extrema of the other sign.
    """
    wide = odd_px(rules.band_um, um_per_px)
    band = cv2.GaussianBlur(contrast, (0, 0), rules.nucleus_um / um_per_px)
    band = cv2.subtract(band, cv2.blur(contrast, (wide, wide)))
    levels = band[sheet]
    skew = ((levels - levels.mean()) ** 3).mean()
    body = -band if skew > 0 else band
    found: NDArray[np.bool_] = maxima(body, odd_px(rules.packed_um, um_per_px)) & (body > 0)
    return found
