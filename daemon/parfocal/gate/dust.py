"""What stays in the frame while the flask moves: dust and scratches on the camera's side.

Left in, it makes two empty places of a sparse flask look like one. Dust so strong that it
outshines the cells hides motion too, and is never learned: clean the camera.
"""

import numpy as np

from parfocal.gate.measures import Float

LEAST_FRAMES, MOST_FRAMES = 100, 400


class Dust:
    """The running mean of the reliefs (h // 8, w // 8) of moving frames: cells average out."""

    def __init__(self) -> None:
        self.frames = 0
        self.mean: Float | None = None

    def learn(self, relief: Float) -> None:
        """Add a frame that moves."""
        self.frames += 1
        if self.mean is None:
            self.mean = np.zeros_like(relief)
        self.mean += (relief - self.mean) / min(self.frames, MOST_FRAMES)

    def off(self, relief: Float) -> Float:
        """The relief without it, once enough frames have moved to know it."""
        return relief if self.mean is None or self.frames < LEAST_FRAMES else relief - self.mean
