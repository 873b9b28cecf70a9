"""Crops in memory that the reader child, the inference child and the daemon share.

The memory has no name: it is inherited by descriptor, so nothing is left behind when a process is
killed. Pages exist only once they are written.
"""

import mmap
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parfocal.prepare import CROP_PX


@dataclass(frozen=True, slots=True)
class ArenaShape:
    """How the memory is laid out: `slots` frames of at most `max_cells` crops of `crop_px`."""

    slots: int = 2
    max_cells: int = 1024
    crop_px: int = CROP_PX

    @property
    def slot_bytes(self) -> int:
        """Size of one slot."""
        return self.max_cells * self.crop_px * self.crop_px * 4

    def as_arguments(self, fd: int) -> tuple[str, ...]:
        """Command-line form for a child."""
        return (str(fd), str(self.slots), str(self.max_cells), str(self.crop_px))


class Arena:
    """One mapping of the shared memory."""

    def __init__(self, fd: int, shape: ArenaShape) -> None:
        self.fd, self.shape = fd, shape
        self._map = mmap.mmap(fd, shape.slots * shape.slot_bytes)

    @classmethod
    def create(cls, shape: ArenaShape) -> "Arena":
        """Fresh memory of this shape."""
        fd = os.memfd_create("parfocal-crops", os.MFD_CLOEXEC)
        os.ftruncate(fd, shape.slots * shape.slot_bytes)
        return cls(fd, shape)

    @classmethod
    def inherited(cls, arguments: list[str]) -> "Arena":
        """The parent's memory, from the arguments that `ArenaShape.as_arguments` made."""
        fd, slots, max_cells, crop_px = map(int, arguments)
        return cls(fd, ArenaShape(slots, max_cells, crop_px))

    def crops(self, slot: int, n: int) -> NDArray[np.float32]:
        """View of the first n crops of a slot: shape (n, crop_px, crop_px), float32."""
        shape = self.shape
        if not (0 <= slot < shape.slots and 0 <= n <= shape.max_cells):
            raise ValueError(f"no slot {slot} with {n} crops in {shape}")
        side = shape.crop_px
        flat = np.frombuffer(self._map, "<f4", n * side * side, slot * shape.slot_bytes)
        view: NDArray[np.float32] = flat.reshape(n, side, side)
        return view

    def close(self) -> None:
        """Unmap and close; views must be gone."""
        self._map.close()
        os.close(self.fd)
