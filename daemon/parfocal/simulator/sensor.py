"""From light to numbers: motion blur, shot and read noise, gamma, levels."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.parameters import Camera
from parfocal.types import Pixels

Float = NDArray[np.float32]
SLACK_PX = 256  # two frames share their noise once in 4 * 256**2
GRAIN_SEED = 11


def smear(image: Float, motion_px: tuple[float, float]) -> Float:
    """The image averaged along a motion (x, y) during the exposure; none below half a pixel."""
    length = float(np.hypot(*motion_px))
    if length < 0.5:
        return image
    n = int(np.ceil(length / 2)) * 2 + 3
    middle = np.array([n // 2, n // 2])
    half = np.array(motion_px) / 2
    a, b = (np.round((middle + s * half) * 16).astype(int).tolist() for s in (-1, 1))
    kernel = np.zeros((n, n), np.uint8)
    cv2.line(kernel, a, b, 255, 1, cv2.LINE_AA, 4)
    weights = kernel.astype(np.float32) / np.float32(kernel.sum())
    return np.asarray(cv2.filter2D(image, -1, weights), np.float32)


def expose(light: Float, camera: Camera, rng: np.random.Generator) -> Pixels:
    """A frame (h, w, 3) of the light (h, w, 3, shares of full scale)."""
    h, w = light.shape[:2]
    sheet = _grain((h + SLACK_PX, w + SLACK_PX), camera.demosaic_px)
    y, x = (int(v) for v in rng.integers(0, SLACK_PX + 1, 2))
    turn = [1 if up else -1 for up in rng.random(2) < 0.5]
    grain = sheet[y : y + h, x : x + w][:: turn[0], :: turn[1]]
    spread = np.maximum(light, 0)
    spread *= np.float32(1 / camera.full_well_e)
    spread += noise_floor(camera)
    np.sqrt(spread, out=spread)
    spread *= grain
    spread += light
    return to_levels(spread, camera)


@lru_cache(maxsize=2)
def _grain(size: tuple[int, int], demosaic_px: float) -> Float:
    """One sheet (h, w, 3) of unit noise, blurred as a colour mosaic blurs it.

    Drawn once: each frame takes another part of it, which is as good as new noise and far faster.
    """
    grain = np.random.default_rng(GRAIN_SEED).standard_normal((*size, 3), np.float32)
    if demosaic_px > 0:
        grain = np.asarray(cv2.GaussianBlur(grain, (3, 3), demosaic_px), np.float32)
    return grain


def noise_floor(camera: Camera) -> np.float32:
    """Variance of the read noise in shares of full scale."""
    return np.float32((camera.read_noise_e / camera.full_well_e) ** 2)


def to_levels(light: Float, camera: Camera) -> Pixels:
    """Gamma and rounding: uint8, or uint16 for a 16 bit camera."""
    if camera.gamma != 1:
        light = np.asarray(cv2.pow(np.clip(light, 0, 1), 1 / camera.gamma), np.float32)
    # one pass that scales, rounds and clips; channels side by side, as cv2 reads a flat image
    flat = light.reshape(len(light), -1)
    if camera.levels_bits == 8:
        levels: Pixels = np.asarray(
            cv2.addWeighted(flat, 255, flat, 0, 0, dtype=cv2.CV_8U), np.uint8
        )
    else:
        levels = np.asarray(cv2.addWeighted(flat, 65535, flat, 0, 0, dtype=cv2.CV_16U), np.uint16)
    return levels.reshape(light.shape)
