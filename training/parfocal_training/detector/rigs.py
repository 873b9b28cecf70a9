"""What differs between microscopes, done to a contrast image: optics, defocus, light, noise, dirt.

The step from phase contrast, where masks are to be had, to brightfield through plastic, where
they are not, is physics: a phase image is nearly a map of the phase itself, and slightly out of
focus, brightfield shows the phase's Laplacian (transport of intensity: Teague, J. Opt. Soc. Am. 73,
1434, 1983). So a Laplacian turns real phase cells into brightfield cells whose masks are known.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal_training.detector.geometry import log_uniform

Float = NDArray[np.float32]
Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Rigs:
    """How varied the imagined microscopes are; shares are probabilities, contrasts relative."""

    to_brightfield: float = 0.65
    bulk: float = 0.2
    coarse: float = 0.25
    amplitude: tuple[float, float] = (0.04, 0.35)  # 97th percentile in brightfield cells
    gain: tuple[float, float] = (0.5, 1.8)
    negative: float = 0.3
    defocus_px: float = 1.6
    noise: tuple[float, float] = (0.002, 0.035)
    light: float = 0.04
    dirt: float = 0.6
    jpeg: float = 0.25


def to_brightfield(phase: Float, rng: np.random.Generator, rigs: Rigs) -> Float:
    """A brightfield image of what the phase image shows: Laplacian, some slope, some absorption."""
    focus_px = log_uniform(rng, 0.7, 2.2)
    soft = cv2.GaussianBlur(phase, (0, 0), focus_px)
    out = -cv2.Laplacian(soft, cv2.CV_32F) * np.float32(focus_px**2)
    if rng.random() < 0.5:  # oblique light: slopes show
        a, share = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.8)
        slope = np.cos(a) * cv2.Sobel(soft, cv2.CV_32F, 1, 0) / 8
        slope += np.sin(a) * cv2.Sobel(soft, cv2.CV_32F, 0, 1) / 8
        out = out + np.float32(share * focus_px) * slope
    if rng.random() < 0.5:
        out = out + np.float32(rng.uniform(-0.1, 0.25)) * phase
    level = np.percentile(np.abs(out[::2, ::2]), 97) + 1e-4
    return np.asarray(out * np.float32(log_uniform(rng, *rigs.amplitude) / level), np.float32)


def bulk(contrast: Float, labels: NDArray[np.int32], rng: np.random.Generator) -> Float:
    """Cells brighter or darker than the ground as a whole, as thick ones are at low aperture."""
    n = int(labels.max(initial=0)) + 1
    level = rng.choice([-1, 1], p=[0.3, 0.7]) * log_uniform(rng, 0.08, 0.7)
    own = (level * np.exp(rng.normal(0, 0.3, n))).astype(np.float32)
    own[0] = 0
    edge = log_uniform(rng, 0.8, 2.5)
    body = cv2.GaussianBlur(own[labels], (0, 0), edge)
    if rng.random() < 0.5:  # thickest in the middle
        depth = cv2.distanceTransform((labels > 0).astype(np.uint8), cv2.DIST_L2, 3)
        body = body * np.minimum(depth / np.float32(rng.uniform(3, 10)), 1)
    return np.asarray(contrast * np.float32(rng.uniform(0, 0.7)) + body, np.float32)


def coarse(x: Float, rng: np.random.Generator) -> Float:
    """As a camera with larger pixels sees it, enlarged again."""
    factor = rng.uniform(1.2, 2.0)
    small = cv2.resize(x, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, x.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.float32)


def imaged(
    contrast: Float, labels: NDArray[np.int32], rng: np.random.Generator, rigs: Rigs
) -> Float:
    """The contrast as another microscope would have recorded it: same shape.

    Noise stays below half of the cells' own contrast: what nobody could see must not be taught.
    """
    x: NDArray[Any] = contrast * np.float32(log_uniform(rng, *rigs.gain))
    if rng.random() < rigs.negative:
        x = -x
    if rng.random() < 0.5:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, rigs.defocus_px))
    if rng.random() < rigs.coarse:
        x = coarse(np.asarray(x, np.float32), rng)
    x = x + np.float32(rng.uniform(-0.8, 0.8)) * np.clip(x * x, 0, 0.3)  # gamma
    level = float(x[labels > 0].std()) if labels.any() else 0.05
    x = x + shading(x.shape, rng, min(rigs.light, level))
    most = max(min(rigs.noise[1], 0.5 * level), rigs.noise[0])
    x = x + noise(x.shape, rng, log_uniform(rng, rigs.noise[0], most))
    if rng.random() < rigs.jpeg:
        x = jpeg(np.asarray(x, np.float32), int(rng.integers(40, 95)))
    return np.asarray(x, np.float32)


def shading(shape: tuple[int, ...], rng: np.random.Generator, most: float) -> Float:
    """Slow changes that the illumination estimate leaves."""
    coarse = rng.normal(0, rng.uniform(0, most), (3, 3)).astype(np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]


def noise(shape: tuple[int, ...], rng: np.random.Generator, sd: float) -> Float:
    """Camera noise, now and then blurred by demosaicing or enlarging."""
    white = rng.standard_normal(shape, np.float32)
    if rng.random() < 0.6:
        sigma = rng.uniform(0.4, 1.2)
        white = cv2.GaussianBlur(white, (0, 0), sigma) * np.float32(2 * np.sqrt(np.pi) * sigma)
    return white * np.float32(sd)


def jpeg(x: Float, quality: int) -> Float:
    """Through 8 bits and a JPEG file."""
    levels = np.clip(128 + x * 110, 0, 255).astype(np.uint8)
    data = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    back = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    assert back is not None  # it was just encoded
    return (back.astype(np.float32) - 128) / np.float32(110)


def dirt(
    contrast: Float, other: Mask, labels: NDArray[np.int32], rng: np.random.Generator
) -> tuple[Float, Mask]:
    """Specks, rings, soft ghosts and scratches on the image; round cells that float or died.

    Returns the image and where the round ones lie (1 in `other`; never on a living cell).
    """
    x, marked = contrast.copy(), other.copy()
    side = x.shape[0]
    area = side * side / 256**2
    for _ in range(rng.poisson(12 * area * log_uniform(rng, 0.2, 3))):
        stamp(x, rng, _speck(rng))
    for _ in range(rng.poisson(1.5 * area)):
        stamp(x, rng, _ghost(rng))
    for _ in range(rng.poisson(0.5 * area)):
        x += _scratch(x.shape, rng)
    for _ in range(rng.poisson(1.5 * area * log_uniform(rng, 0.2, 3))):
        _round_cell(x, marked, labels, rng)
    for _ in range(rng.poisson(0.25 * area)):
        _heap(x, marked, labels, rng)
    return x, marked


def _scratch(shape: tuple[int, ...], rng: np.random.Generator) -> Float:
    """A straight line of 20 to 150 micrometres."""
    start, turn = rng.uniform(0, shape[0], 2), rng.uniform(0, 2 * np.pi)
    end = start + log_uniform(rng, 20, 150) * np.array([np.cos(turn), np.sin(turn)])
    level = float(rng.choice([-1, 1]) * log_uniform(rng, 0.03, 0.2))
    line = np.zeros(shape, np.float32)
    a, b = ([int(v * 16) for v in point] for point in (start, end))
    cv2.line(line, a, b, level, 1, cv2.LINE_8, 4)
    return np.asarray(cv2.GaussianBlur(line, (0, 0), rng.uniform(0.5, 1.5)), np.float32)


def _grid(reach: float) -> Float:
    n = int(reach) + 1
    line = np.arange(-n, n + 1, dtype=np.float32)
    return np.asarray(np.hypot(line[:, None], line[None, :]), np.float32)


def _speck(rng: np.random.Generator) -> Float:
    """A grain or a ring of one to seven micrometres."""
    radius = log_uniform(rng, 0.7, 3.5)
    r = _grid(4 * radius + 2)
    level = rng.choice([-1, 1], p=[0.6, 0.4]) * log_uniform(rng, 0.03, 0.6)
    rings = np.cos(r / radius * rng.uniform(0.8, 2.2)) if rng.random() < 0.6 else 1.0
    return np.asarray(level * rings * np.exp(-0.5 * (r / radius) ** 2), np.float32)


def _ghost(rng: np.random.Generator) -> Float:
    """Something far out of focus: a soft disc."""
    radius = log_uniform(rng, 4, 25)
    r = _grid(2.2 * radius)
    level = rng.choice([-1, 1], p=[0.75, 0.25]) * log_uniform(rng, 0.03, 0.3)
    return np.asarray(level * np.exp(-0.5 * (r / radius) ** rng.choice([2, 4])), np.float32)


def _round_cell(
    x: Float, marked: Mask, labels: NDArray[np.int32], rng: np.random.Generator
) -> None:
    """A ball with a rim and a bright or dark middle: floating, rounded up or dead."""
    radius = log_uniform(rng, 4.0, 10.0)
    r = _grid(2.5 * radius)
    sign = rng.choice([-1, 1])
    rim = np.exp(-0.5 * ((r - radius) / rng.uniform(0.8, 2)) ** 2)
    halo = np.exp(-0.5 * ((r - radius * 1.3) / rng.uniform(1, 3)) ** 2)
    core = np.exp(-0.5 * (r / (radius * rng.uniform(0.2, 0.7))) ** 2)
    level = log_uniform(rng, 0.08, 0.8)
    ball = level * sign * (-rim + rng.uniform(0, 0.8) * halo + rng.uniform(0, 1.5) * core)
    if rng.random() < 0.5:  # grainy, as dead cells are
        grain = cv2.GaussianBlur(rng.standard_normal(r.shape, np.float32), (0, 0), 1.0)
        ball = ball + level * 2 * grain * (r < radius)
    place = _place(x.shape, ball.shape, rng)
    here, part = place
    if (labels[here][(r < radius * 1.5)[part]] > 0).any():
        return
    x[here] = x[here] * (r[part] > radius * 1.2) + ball[part]
    marked[here][(r < radius * 1.15)[part]] = 1


def _heap(x: Float, marked: Mask, labels: NDArray[np.int32], rng: np.random.Generator) -> None:
    """Grains on a heap: dead cells, precipitate, crystals."""
    reach = log_uniform(rng, 6, 40)
    r = _grid(2.2 * reach)
    grains = cv2.GaussianBlur(rng.standard_normal(r.shape, np.float32), (0, 0), rng.uniform(0.8, 3))
    grains *= np.float32(log_uniform(rng, 0.1, 0.8)) / (grains.std() + 1e-6)
    rough = cv2.GaussianBlur(rng.standard_normal(r.shape, np.float32), (0, 0), reach / 3)
    rough = np.asarray(rough / (rough.std() + 1e-6), np.float32)
    inside = (r / reach + np.float32(0.35) * rough < 1).astype(np.float32)
    here, part = _place(x.shape, r.shape, rng)
    if (labels[here][inside[part] > 0] > 0).any():
        return
    x[here] += (grains * cv2.GaussianBlur(inside, (0, 0), 1.0))[part]
    marked[here][inside[part] > 0] = 1


def stamp(x: Float, rng: np.random.Generator, pattern: Float) -> None:
    """Add a pattern at a random place, cut off at the edges."""
    here, part = _place(x.shape, pattern.shape, rng)
    x[here] += pattern[part]


Window = tuple[slice, slice]


def _place(
    shape: tuple[int, ...], size: tuple[int, ...], rng: np.random.Generator
) -> tuple[Window, Window]:
    """A random window of this size whose middle lies in the image: slices of both."""
    here, part = [], []
    for extent, length in zip(shape, size, strict=True):
        at = int(rng.integers(extent)) - length // 2
        low, high = max(at, 0), min(at + length, extent)
        here.append(slice(low, high))
        part.append(slice(low - at, high - at))
    return (here[0], here[1]), (part[0], part[1])
