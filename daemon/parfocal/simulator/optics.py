"""The contrast of phase objects out of focus: what the microscope makes of thickness.

The weak-phase transfer function of a brightfield microscope under partially coherent light:
`sin(pi wavelength z f^2)`, washed out by the cone of illumination and cut off by the aperture.
It gives the bright and dark rims that a cell shows beside its focus.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.parameters import Optics

Float = NDArray[np.float32]
STRONGEST = 0.8  # contrast to which a place tends as thickness grows
BODY_UM = 1.1
LANDING_UM = 3.0  # how far from a steep edge its bent light lands


def padded_size(h: int, w: int, margin_px: int) -> tuple[int, int]:
    """The next size (h, w) that is fast to transform and leaves the margin on every side."""
    return (
        cv2.getOptimalDFTSize(h + 2 * margin_px + (h % 2)),
        cv2.getOptimalDFTSize(w + 2 * margin_px + (w % 2)),
    )


def contrast(
    height_um: Float,
    optics: Optics,
    um_per_px: float,
    defocus_um: float,
    here: tuple[slice, slice] = (slice(None), slice(None)),
) -> tuple[Float, Float]:
    """Relative intensity change, red side and blue side, of a relief (h, w) out of focus.

    Of the part `here`; the transform repeats the relief at its borders.
    """
    spectrum = cv2.dft(height_um, flags=cv2.DFT_COMPLEX_OUTPUT)
    transfer = _transfer(height_um.shape, optics, um_per_px, defocus_um)
    # both transfer functions are even, so one complex inverse brings both real images
    both = cv2.dft(
        cv2.mulSpectrums(spectrum, transfer, 0),
        flags=cv2.DFT_INVERSE | cv2.DFT_SCALE | cv2.DFT_COMPLEX_OUTPUT,
    )
    red, blue = _bounded(np.asarray(both, np.float32)[here]).transpose(2, 0, 1)
    return red, blue


def _bounded(change: Float) -> Float:
    # a thick cell is no weak phase object: its contrast levels off
    bound = np.abs(change)
    bound *= np.float32(1 / STRONGEST)
    bound += 1
    return np.asarray(np.divide(change, bound, out=bound), np.float32)


def wash_um(optics: Optics, defocus_um: float) -> float:
    """Blur (standard deviation) that the cone of illumination makes out of focus."""
    return optics.illumination_na * abs(defocus_um)


def slope_change(height_um: Float, optics: Optics, um_per_px: float, defocus_um: float) -> Float:
    """Relative change where edges bend light: lost on a steep edge, found beside it, (h, w)."""
    # granules are too small to act as lenses: only the body's own slope counts
    sigma_um = float(np.hypot(BODY_UM, wash_um(optics, defocus_um)))
    soft = cv2.GaussianBlur(height_um, (0, 0), sigma_um / um_per_px)
    scale = 1 / (8 * um_per_px)
    dx = np.asarray(cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=scale), np.float32)
    dy = np.asarray(cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=scale), np.float32)
    steep2 = dx * dx
    steep2 += np.multiply(dy, dy, out=dy)
    lost = np.divide(steep2, steep2 + np.float32(optics.steep**2), out=dx)
    lost *= np.float32(optics.slope_loss)
    return np.asarray(_landed(lost, np.asarray(soft, np.float32), um_per_px) - lost, np.float32)


def _landed(lost: Float, soft_um: Float, um_per_px: float) -> Float:
    """Where bent light lands: within LANDING_UM, and towards the thicker side; (h, w)."""
    h, w = lost.shape
    quarter = (w // 4, h // 4)
    small = cv2.resize(lost, quarter, interpolation=cv2.INTER_AREA)
    thick = np.asarray(cv2.resize(soft_um, quarter, interpolation=cv2.INTER_AREA), np.float32)
    near = cv2.GaussianBlur(small, (0, 0), LANDING_UM / (4 * um_per_px))
    found = np.asarray(near, np.float32) * (0.4 + np.minimum(thick * 0.18, 1.1))
    return np.asarray(cv2.resize(found, (w, h), interpolation=cv2.INTER_LINEAR), np.float32)


@lru_cache(maxsize=24)
def _transfer(
    shape: tuple[int, int], optics: Optics, um_per_px: float, defocus_um: float
) -> NDArray[np.float32]:
    """Transfer functions as (h, w, 2): red side in the first, blue side in the second channel."""
    fy = np.fft.fftfreq(shape[0], um_per_px)[:, None].astype(np.float32)
    fx = np.fft.fftfreq(shape[1], um_per_px)[None, :].astype(np.float32)
    f2 = fx**2 + fy**2  # cycles^2 per um^2
    shift = optics.chromatic_shift * abs(defocus_um)
    sides = [_one(f2, optics, defocus_um + d) for d in (-shift, shift)]
    return np.ascontiguousarray(np.stack(sides, -1), np.float32)


def _one(f2: Float, optics: Optics, z_um: float) -> Float:
    wave = optics.wavelength_um
    phase_per_um = 2 * np.pi / wave * optics.refraction_contrast
    ring = np.sin(np.pi * wave * z_um * f2)
    wash = np.exp(-((np.pi * optics.illumination_na * z_um) ** 2) * f2)
    blur = np.exp(-2 * (np.pi * optics.aberration_um) ** 2 * f2)
    cut = np.clip(2 * (1 - np.sqrt(f2) * wave / (2 * optics.na)), 0, 1)
    return np.asarray(2 * phase_per_um * ring * wash * blur * cut, np.float32)
