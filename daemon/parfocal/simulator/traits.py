"""What makes one flask unlike the next: drawn once per flask, and never from its cell type."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import exp
from typing import Any

import numpy as np

from parfocal.simulator.parameters import Plastic, Spread

REFERENCE_PASSAGE = 10


@dataclass(frozen=True, slots=True)
class Light:
    """Illumination of a flask through its medium; levels are shares of full scale.

    `tint` is the medium's transmission for red, green and blue (phenol red: purple to orange),
    `gradient` the relative change across half the frame width towards `gradient_rad`,
    `vignette` the relative loss at the corners.
    """

    exposure: float = 0.66
    tint: tuple[float, float, float] = (1.0, 0.62, 0.80)
    gradient: float = 0.12
    gradient_rad: float = 0.6
    vignette: float = 0.12

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Light":
        """As varied as the real fields: green 0.5-0.75 of red, blue 0.6-0.95 of red."""
        green = rng.uniform(0.52, 0.74)
        blue = float(np.clip(green + rng.uniform(0.06, 0.30), 0.6, 0.95))
        return cls(
            exposure=float(rng.uniform(0.36, 0.84)),
            tint=(1.0, float(green), blue),
            gradient=float(rng.uniform(0.02, 0.2)),
            gradient_rad=float(rng.uniform(0, 2 * np.pi)),
            vignette=float(rng.uniform(0.02, 0.16)),
        )


@dataclass(frozen=True, slots=True)
class FlaskTraits:
    """One flask's own ways: gains on every cell's shape, its focus, light and plastic."""

    size_gain: float = 1.0
    thickness_gain: float = 1.0
    elongation_gain: float = 1.0
    texture_gain: float = 1.0
    clumping: float = 0.15
    dead_share: float = 0.03
    floating_share: float = 0.02
    defocus_um: float = 8.5
    light: Light = field(default_factory=Light)
    plastic: Plastic = field(default_factory=Plastic)

    @classmethod
    def draw(cls, rng: np.random.Generator, passage: int = REFERENCE_PASSAGE) -> "FlaskTraits":
        """Traits of a flask; a late passage has larger, thinner and more dead cells."""
        age = (passage - REFERENCE_PASSAGE) / 20
        return cls(
            size_gain=Spread(exp(0.25 * age), 0.12).draw(rng),
            thickness_gain=Spread(exp(-0.1 * age), 0.12).draw(rng),
            elongation_gain=Spread(exp(0.1 * age), 0.08).draw(rng),
            texture_gain=Spread(exp(0.15 * age), 0.15).draw(rng),
            clumping=float(rng.uniform(0.05, 0.3)),
            dead_share=float(np.clip(Spread(0.025 * exp(0.5 * age), 0.5).draw(rng), 0, 0.5)),
            floating_share=float(np.clip(Spread(0.02, 0.6).draw(rng), 0, 0.5)),
            defocus_um=float(np.clip(rng.normal(8.5, 1.5), 4.0, 13.0)),
            light=Light.draw(rng),
            plastic=draw_plastic(rng),
        )

    def alike_in(self, kinds: Iterable[str]) -> "FlaskTraits":
        """These traits, those of the named `KINDS` as every flask has them that is not drawn."""
        usual = FlaskTraits()
        names = [name for kind in kinds for name in KINDS[kind]]
        return replace(self, **{name: getattr(usual, name) for name in names})

    def flat(self) -> dict[str, float]:
        """Every value under its name, such as `defocus_um` or `light.exposure`."""
        return _flat(asdict(self))


KINDS = {
    "light": ("light",),
    "focus": ("defocus_um",),
    "plastic": ("plastic",),
    "cells": ("size_gain", "thickness_gain", "elongation_gain", "texture_gain"),
    "culture": ("clumping", "dead_share", "floating_share"),
}
"""What can be made the same for all flasks, in a microscopist's words, with the traits of each."""


def _flat(values: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, tuple):  # of the colours
            value = dict(zip(("red", "green", "blue"), value, strict=True))
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": of for inner, of in _flat(value).items()}
        else:
            found[name] = value
    return found


def draw_plastic(rng: np.random.Generator) -> Plastic:
    """A flask's bottom: from nearly clean to littered."""
    return Plastic(
        blobs_per_mm2=Spread(10, 0.6).draw(rng),
        specks_per_mm2=Spread(260, 0.7).draw(rng),
        scratches_per_mm2=Spread(1.2, 0.7).draw(rng),
        ghosts_per_mm2=Spread(8, 0.6).draw(rng),
        mottle=Spread(0.004, 0.4).draw(rng),
        stripes=Spread(0.0015, 0.7).draw(rng),
        grain=Spread(0.014, 0.2).draw(rng),
    )
