"""The paired fluorescence channel: H2B-like nuclei of the one labelled type."""

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.parameters import Camera, Fluorescence
from parfocal.simulator.scene import Scene, overlap
from parfocal.simulator.sensor import smear

Float = NDArray[np.float32]


def nuclei(scene: Scene, channel: Fluorescence, margin: tuple[int, int], camera: Camera) -> Float:
    """Fluorescent light of the view (h, w), before noise, displaced against the brightfield."""
    layer = np.zeros(scene.labels.shape, np.float32)
    for cell, patch in zip(scene.sown, scene.patches, strict=True):
        if cell.spec.type.name != channel.labelled or cell.spec.state == "floating":
            continue
        rng = np.random.default_rng((*cell.spec.seed, 9))
        bright = channel.expression.draw(rng) * (2.0 if cell.spec.state == "dead" else 1.0)
        here, part = overlap(layer.shape, scene.corner(cell, patch), patch.mask.shape)
        if here is not None:
            rows = layer[here]
            np.maximum(rows, np.minimum(patch.nucleus[part], 1) * np.float32(bright), out=rows)
    blurred = cv2.GaussianBlur(layer, (0, 0), channel.psf_um / camera.um_per_px)
    dx, dy = channel.shift_px
    # the filter's frame starts at the margin: shifting is sampling at a displaced place
    move = np.array([[1, 0, dx - margin[1]], [0, 1, dy - margin[0]]], np.float64)
    size = (camera.width_px, camera.height_px)
    moved = cv2.warpAffine(np.asarray(blurred), move, size, flags=cv2.INTER_LINEAR)
    return np.asarray(moved, np.float32) + np.float32(channel.background)


def exposed(
    light: Float,
    channel: Fluorescence,
    camera: Camera,
    motion_px: tuple[float, float],
    rng: np.random.Generator,
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """A fluorescence frame (h, w) of the light, in the camera's levels."""
    still = smear(light, motion_px)
    variance = still / channel.full_well_e + (channel.read_noise_e / channel.full_well_e) ** 2
    noisy = still + rng.standard_normal(still.shape, np.float32) * np.sqrt(variance)
    top = 255 if camera.levels_bits == 8 else 65535
    levels = np.clip(noisy, 0, 1) * np.float32(top) + np.float32(0.5)  # the cast rounds down
    if camera.levels_bits == 8:
        return np.asarray(levels, np.uint8)
    return np.asarray(levels, np.uint16)
