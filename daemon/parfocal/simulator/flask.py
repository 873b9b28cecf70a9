"""A flask on the stage: any view of its bottom as the camera sees it, with its truth."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.simulator import glow
from parfocal.simulator.backdrop import illumination, texture, tiled
from parfocal.simulator.cell import Patch, render_cell
from parfocal.simulator.culture import Culture, Sown
from parfocal.simulator.litter import Canvas, dust, strew
from parfocal.simulator.optics import contrast, padded_size, slope_change, wash_um
from parfocal.simulator.parameters import CellType, Fluorescence, Rig
from parfocal.simulator.scene import Scene
from parfocal.simulator.sensor import expose, smear
from parfocal.simulator.traits import FlaskTraits
from parfocal.simulator.truth import Truth
from parfocal.types import Gray, Pixels

MARGIN_PX = 36
INK_UM = 0.4  # blur of absorbing detail in focus
PATCHES_KEPT = 256
FIELDS_PER_ROW = 24
Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedFrame:
    """One frame, the fluorescence frame beside it if there is one, and what is true of both."""

    rgb: Pixels  # (h, w, 3)
    fluorescence: Gray | None  # (h, w)
    truth: Truth
    um_per_px: float


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """A view before it is exposed: light on the sensor, and the truth."""

    brightfield: Float  # (h, w, 3) shares of full scale, without the lamp
    lamp: Float  # (h, w, 3)
    fluorescence: Float | None  # (h, w)
    truth: Truth


@dataclass(frozen=True, eq=False)
class Flask:
    """A culture of one or more types (with their shares) under a rig.

    Everything that is still follows from `seed`; the noise of a frame from the generator given
    with the view. `density_per_mm2` is that of settled cells, and also changes their shape.
    """

    types: tuple[tuple[CellType, float], ...]
    density_per_mm2: float
    seed: int
    traits: FlaskTraits = field(default_factory=FlaskTraits)
    rig: Rig = field(default_factory=Rig)
    fluorescence: Fluorescence | None = None

    @cached_property
    def culture(self) -> Culture:
        """Its cells."""
        return Culture(self.types, self.density_per_mm2, self.traits, self.seed)

    def field(self, i: int) -> SimulatedFrame:
        """The i-th of many fields that share no cell."""
        camera = self.rig.camera
        row, column = divmod(i, FIELDS_PER_ROW)
        left, top = column * (camera.width_px + 400), row * (camera.height_px + 400)
        return self.view((left, top), np.random.default_rng((self.seed, 3, i)))

    def view(
        self,
        corner_px: tuple[int, int],
        rng: np.random.Generator,
        motion_px: tuple[float, float] = (0.0, 0.0),
    ) -> SimulatedFrame:
        """What the camera sees at a corner (x, y) of the bottom, moving so far while exposing."""
        return self.exposed(self.light(corner_px), rng, motion_px)

    def exposed(
        self, light: Light, rng: np.random.Generator, motion_px: tuple[float, float] = (0.0, 0.0)
    ) -> SimulatedFrame:
        """A frame of a view that was lit before."""
        camera = self.rig.camera
        rgb = expose(smear(light.brightfield, motion_px) * light.lamp, camera, rng)
        glowing = None
        if light.fluorescence is not None and self.fluorescence is not None:
            glowing = glow.exposed(light.fluorescence, self.fluorescence, camera, motion_px, rng)
        return SimulatedFrame(rgb, glowing, light.truth, camera.um_per_px)

    def light(self, corner_px: tuple[int, int]) -> Light:
        """The view without noise."""
        camera = self.rig.camera
        size = (camera.height_px, camera.width_px)
        padded = padded_size(*size, MARGIN_PX)
        margin = ((padded[0] - size[0]) // 2, (padded[1] - size[1]) // 2)
        corner = (corner_px[0] - margin[1], corner_px[1] - margin[0])
        canvas = Canvas.empty(padded, corner, camera.um_per_px)
        scene = Scene(canvas, self.rig.optics, self.traits.defocus_um)
        self._populate(scene)
        strew(canvas, self.traits.plastic, self.seed)
        glowing = None
        if self.fluorescence is not None:
            glowing = glow.nuclei(scene, self.fluorescence, margin, camera)
        bright = self._brightfield(canvas, margin, corner_px)
        return Light(bright, self._lamp, glowing, scene.truth(margin, size))

    def _populate(self, scene: Scene) -> None:
        left, top, right, bottom = scene.canvas.box_um
        reach = 60.0  # half the length of the longest cells
        box = (left - reach, top - reach, right + reach, bottom + reach)
        for cell in self.culture.near(box):
            scene.put(cell, self._patch(cell))

    @cached_property
    def _patches(self) -> dict[str, Patch]:
        return {}

    def _patch(self, cell: Sown) -> Patch:
        patch = self._patches.pop(cell.key, None)
        if patch is None:
            um = self.rig.camera.um_per_px
            patch = render_cell(cell.spec, self.traits, self.culture.crowding, um)
        self._patches[cell.key] = patch  # last in, so that the oldest is first out
        if len(self._patches) > PATCHES_KEPT:
            self._patches.pop(next(iter(self._patches)))
        return patch

    def _brightfield(
        self, canvas: Canvas, margin: tuple[int, int], corner_px: tuple[int, int]
    ) -> Float:
        """Transmission of the view for red, green and blue: (h, w, 3), 1 where nothing lies."""
        optics, camera, defocus_um = self.rig.optics, self.rig.camera, self.traits.defocus_um
        h, w = camera.height_px, camera.width_px
        here = (slice(margin[0], margin[0] + h), slice(margin[1], margin[1] + w))
        red, blue = contrast(canvas.height_um, optics, camera.um_per_px, defocus_um, here)
        sides: list[Float] = [red, 0.5 * (red + blue), blue]
        sigma_um = float(np.hypot(INK_UM, wash_um(optics, defocus_um) / 2))
        blurred = cv2.GaussianBlur(canvas.absorption, (0, 0), sigma_um / camera.um_per_px)
        soft = np.asarray(blurred, np.float32)[here]
        base = 1 + canvas.shade[here] + tiled(self._texture, corner_px, (h, w))
        base += slope_change(canvas.height_um, optics, camera.um_per_px, defocus_um)[here]
        channels = [
            (base + np.float32(gain) * side) * np.maximum(1 - np.float32(ink) * soft, 0.05)
            for side, gain, ink in zip(sides, optics.channel_gain, optics.absorption, strict=True)
        ]
        return np.asarray(cv2.merge(channels), np.float32)

    @cached_property
    def _texture(self) -> Float:
        rng = np.random.default_rng((self.seed, 4))
        return texture(self.traits.plastic, self.rig.camera.um_per_px, rng)

    @cached_property
    def _lamp(self) -> Float:
        camera = self.rig.camera
        shape = (camera.height_px, camera.width_px)
        rng = np.random.default_rng(self.rig.dust_seed)
        spots = dust(shape, self.rig.dust, camera.um_per_px, rng)
        return illumination(self.traits.light, shape) * (1 + spots)[..., None]


def draw_flask(
    rng: np.random.Generator,
    types: Sequence[tuple[CellType, float]],
    density_per_mm2: float,
    passage: int = 10,
    rig: Rig | None = None,
    fluorescence: Fluorescence | None = None,
) -> Flask:
    """A flask with traits of its own; the same generator state gives the same flask."""
    seed = int(rng.integers(1 << 31))
    return Flask(
        types=tuple(types),
        density_per_mm2=density_per_mm2,
        seed=seed,
        traits=FlaskTraits.draw(rng, passage),
        rig=rig or Rig(),
        fluorescence=fluorescence,
    )
