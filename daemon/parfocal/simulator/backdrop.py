"""The light that falls on the scene: illumination and medium in the frame, plastic on the flask."""

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.parameters import Plastic
from parfocal.simulator.traits import Light

Float = NDArray[np.float32]
TEXTURE_PX = 1024


def illumination(light: Light, shape: tuple[int, int]) -> Float:
    """Level of an empty frame for red, green and blue: (h, w, 3), shares of full scale."""
    y, x = np.mgrid[-1:1:33j, -1:1:33j]
    across = x * np.cos(light.gradient_rad) + y * np.sin(light.gradient_rad)
    edge = 1 - light.vignette * (x**2 + y**2) / 2
    coarse = np.stack(
        [
            # the slope is a little steeper in blue, as a tilted tungsten filament makes it
            light.exposure * tint * (1 + light.gradient * slope * across) * edge
            for tint, slope in zip(light.tint, (0.9, 1.0, 1.15), strict=True)
        ],
        -1,
    )
    full = cv2.resize(coarse.astype(np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(full, np.float32)


def texture(plastic: Plastic, um_per_px: float, rng: np.random.Generator) -> Float:
    """The bottom's own pattern, to be repeated without seams: (TEXTURE_PX, TEXTURE_PX)."""
    n = TEXTURE_PX
    fy = np.fft.fftfreq(n, um_per_px)[:, None].astype(np.float32)
    fx = np.fft.rfftfreq(n, um_per_px)[None, :].astype(np.float32)
    f = np.hypot(fy, fx)
    angle = rng.normal(1.2, 0.4)
    along, across = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
    bands = (
        (plastic.mottle, np.exp(-((f * 90) ** 2))),
        (plastic.stripes, np.exp(-((along * 400) ** 2) - (across * 16) ** 2)),
        (plastic.grain, f * np.exp(-((f * 1.6) ** 2))),
    )
    total = np.zeros((n, n), np.float32)
    for spread, shape in bands:
        noise = np.fft.rfft2(rng.standard_normal((n, n), np.float32)) * shape
        band = np.fft.irfft2(noise, (n, n))
        total += (spread * band / band.std()).astype(np.float32)
    return total


def tiled(pattern: Float, corner_px: tuple[int, int], shape: tuple[int, int]) -> Float:
    """The part of a repeated pattern that a view (h, w) at this corner sees."""
    moved = np.roll(pattern, (-corner_px[1], -corner_px[0]), (0, 1))
    repeats = [-(-n // m) for n, m in zip(shape, pattern.shape, strict=True)]
    return np.asarray(np.tile(moved, repeats)[: shape[0], : shape[1]], np.float32)
