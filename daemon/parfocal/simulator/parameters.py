"""Everything that can be set about the simulated rig, as frozen values with units in their names.

Later work adds a field here, or a new value of `CellType`; it copies no code.
"""

from dataclasses import dataclass, field
from math import exp, log

import numpy as np


@dataclass(frozen=True, slots=True)
class Spread:
    """A log-normal quantity: its median, and the standard deviation of its logarithm."""

    median: float
    log_sd: float = 0.2

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        return float(self.median * exp(self.log_sd * rng.standard_normal()))


@dataclass(frozen=True, slots=True)
class Phenotype:
    """A family of outlines: corners joined by arcs, some of them ruffled lamellae.

    `bulge` is the sag of an arc over its chord (negative: concave, as between two adhesions).
    `tail_reach` multiplies the distance of one corner; 1 is no tail. `lamella_level` is the
    thickness far from the nucleus, as a share of the thickness there.
    """

    name: str
    corners: tuple[int, int]
    aspect: Spread
    bulge: float
    bulge_sd: float = 0.06
    reach_log_sd: float = 0.15
    tail_reach: float = 1.0
    lamellae: tuple[int, int] = (0, 1)
    area_gain: float = 1.0
    thickness_gain: float = 1.0
    lamella_level: float = 0.5


@dataclass(frozen=True, slots=True)
class Texture:
    """What is seen inside and along the edge of a cell, heights in micrometres of thickness."""

    mottle_um: float
    mottle_scale_um: float
    granules_per_100um2: float
    granule_um: float
    vacuoles: float
    ruffles_per_10um: float
    ruffle_um: float
    filopodia: float


@dataclass(frozen=True, slots=True)
class CellType:
    """A cell line as parameters: size, thickness, texture, and its mixture of phenotypes.

    `weights` are shares at 50 cells/mm2; a share changes with density as
    `(density / 50) ** slope`. `edge_um` is the distance over which a cell reaches its thickness,
    and `one_sided` how much that differs between its two sides (0: not at all).
    """

    name: str
    area_um2: Spread
    thickness_um: Spread
    edge_um: Spread
    one_sided: float
    aspect_gain: float
    nucleus_share: float
    nucleus_um: float
    texture: Texture
    phenotypes: tuple[Phenotype, ...]
    weights: tuple[float, ...]
    slopes: tuple[float, ...]

    def mixture(self, density_per_mm2: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Share of each phenotype at a density: shape (n_phenotypes,), sum 1."""
        crowding = log(max(density_per_mm2, 1.0) / 50)
        shares = np.array(self.weights) * np.exp(np.array(self.slopes) * crowding)
        mixed: np.ndarray[tuple[int], np.dtype[np.float64]] = shares / shares.sum()
        return mixed


@dataclass(frozen=True, slots=True)
class Optics:
    """A 10x/0.25 objective over plastic, cells as phase objects.

    `illumination_na` is how wide the condenser lights (it washes out rings), and
    `refraction_contrast` the refractive index of a cell minus that of its medium. A slope of
    `steep` micrometres of thickness per micrometre bends half of `slope_loss` out of the aperture.
    """

    na: float = 0.25
    wavelength_um: float = 0.55
    illumination_na: float = 0.09
    refraction_contrast: float = 0.031
    chromatic_shift: float = 0.35
    channel_gain: tuple[float, float, float] = (0.85, 1.15, 0.80)
    absorption: tuple[float, float, float] = (0.08, 0.03, 0.13)
    aberration_um: float = 0.35
    slope_loss: float = 0.42
    steep: float = 1.1


@dataclass(frozen=True, slots=True)
class Camera:
    """A colour camera; `levels_bits` is 8 or 16 (the sensor itself has `sensor_bits`)."""

    width_px: int = 1616
    height_px: int = 1216
    um_per_px: float = 0.44
    full_well_e: float = 3600.0
    read_noise_e: float = 12.0
    demosaic_px: float = 0.6
    gamma: float = 1.0
    levels_bits: int = 8
    exposure_ms: float = 10.0


@dataclass(frozen=True, slots=True)
class Plastic:
    """The flask's bottom and what lies on, in and above it; counts per square millimetre."""

    blobs_per_mm2: float = 10.0
    specks_per_mm2: float = 260.0
    scratches_per_mm2: float = 1.5
    ghosts_per_mm2: float = 8.0
    mottle: float = 0.004
    stripes: float = 0.0015
    grain: float = 0.014


@dataclass(frozen=True, slots=True)
class Fluorescence:
    """The paired channel: nuclei of one labelled type, blurred, noisy and a little displaced."""

    labelled: str
    expression: Spread = field(default_factory=lambda: Spread(0.35, 0.45))
    background: float = 0.04
    psf_um: float = 0.9
    shift_px: tuple[float, float] = (1.7, -1.2)
    full_well_e: float = 1500.0
    read_noise_e: float = 12.0


@dataclass(frozen=True, slots=True)
class Rig:
    """One microscope and camera."""

    optics: Optics = field(default_factory=Optics)
    camera: Camera = field(default_factory=Camera)
    dust: int = 6
    dust_seed: int = 7
