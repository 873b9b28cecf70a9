"""Camera speed: a few fields rendered once, then shown for ever with fresh noise and shift.

For exercising a live path at 25 frames a second and more. The noise is a stored sheet laid at a
random place, scaled to the frame's mean level; use `Flask.field` where its exact law matters.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import cv2
import numpy as np

from parfocal.simulator.flask import Flask, SimulatedFrame
from parfocal.simulator.sensor import noise_floor, to_levels
from parfocal.simulator.truth import Truth

SHIFT_PX = 16
SHEET_SPARE_PX = 256


class Loop:
    """`n_fields` fields of a flask, rendered when made, 8 bit without fluorescence."""

    def __init__(self, flask: Flask, n_fields: int, rng: np.random.Generator) -> None:
        camera = flask.rig.camera
        if camera.levels_bits != 8:
            raise ValueError(f"a loop shows 8 bit frames, got a {camera.levels_bits} bit camera")
        self.size = (camera.height_px, camera.width_px)
        self.um_per_px = camera.um_per_px
        self.rng = rng
        wide = replace(
            camera, width_px=camera.width_px + SHIFT_PX, height_px=camera.height_px + SHIFT_PX
        )
        wider = replace(flask, rig=replace(flask.rig, camera=wide), fluorescence=None)
        lit = [wider.light(((wide.width_px + 400) * i, 0)) for i in range(n_fields)]
        clean = [light.brightfield * light.lamp for light in lit]
        self.fields = [to_levels(light, camera) for light in clean]
        self.truths: list[Truth] = [light.truth for light in lit]
        level = float(np.mean([light.mean() for light in clean]))
        spread = 255 * float(np.sqrt(level / camera.full_well_e + noise_floor(camera)))
        h, w = self.size
        sheet = rng.standard_normal((h + SHEET_SPARE_PX, w + SHEET_SPARE_PX, 3), np.float32)
        self.sheet = np.round(sheet * spread).clip(-127, 127).astype(np.int8)

    def __iter__(self) -> Iterator[SimulatedFrame]:
        """Frames without end."""
        return (self.frame(i) for i in count())

    def frame(self, i: int) -> SimulatedFrame:
        """The next frame, of field i modulo their number."""
        (h, w), k = self.size, i % len(self.fields)
        left, top = self.rng.integers(0, SHIFT_PX + 1, 2).tolist()
        x, y = self.rng.integers(0, SHEET_SPARE_PX + 1, 2).tolist()
        noise = self.sheet[y : y + h, x : x + w].reshape(h, -1)
        still = self.fields[k][top : top + h, left : left + w].reshape(h, -1)
        noisy = np.asarray(cv2.add(still, noise, dtype=cv2.CV_8U), np.uint8)
        truth = self.truths[k].cropped(left, top, w, h)
        return SimulatedFrame(noisy.reshape(h, w, 3), None, truth, self.um_per_px)
