"""A view of the flask's bottom put together: cells and litter on one canvas, and the truth."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.cell import Patch
from parfocal.simulator.culture import Sown
from parfocal.simulator.litter import Canvas
from parfocal.simulator.optics import contrast
from parfocal.simulator.parameters import Optics
from parfocal.simulator.truth import CellTruth, Labels, Truth, measured

TOUCH_PX = 2
FLOAT_GAIN = np.float32(0.6)  # thick balls are dimmer than weak phase objects would be
FLOAT_PX = 192  # side of the window in which a floating cell is defocused
Float = NDArray[np.float32]
DrawCell = Callable[[Sown], Patch]


@dataclass(slots=True, eq=False)
class Scene:
    """A canvas while cells are put on it; label i + 1 belongs to `sown[i]`."""

    canvas: Canvas
    optics: Optics
    defocus_um: float
    labels: Labels = field(init=False)
    sown: list[Sown] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    touching: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.labels = np.zeros(self.canvas.shade.shape, np.uint16)

    def put(self, cell: Sown, patch: Patch) -> None:
        """Lay one cell on the canvas; where another already lies, that one stays in the labels."""
        here, part = self._overlap(cell, patch)
        if here is None or part is None:
            return
        self.sown.append(cell)
        self.patches.append(patch)
        self._label(here, patch.mask[part])
        if cell.spec.state == "floating":
            self._float(cell, patch)
            return
        rows = self.canvas.height_um[here]
        np.maximum(rows, patch.height_um[part], out=rows)
        self.canvas.absorption[here] += patch.absorption[part]

    def corner(self, cell: Sown, patch: Patch) -> tuple[int, int]:
        """Canvas pixel (x, y) of the patch's top left."""
        x = round(cell.x_um / self.canvas.um_per_px) + patch.offset_px[0]
        y = round(cell.y_um / self.canvas.um_per_px) + patch.offset_px[1]
        return x - self.canvas.corner_px[0], y - self.canvas.corner_px[1]

    def _overlap(self, cell: Sown, patch: Patch) -> Any:
        x, y = self.corner(cell, patch)
        return overlap(self.labels.shape, (x, y), patch.mask.shape)

    def _label(self, here: tuple[slice, slice], mask: NDArray[np.bool_]) -> None:
        number = len(self.sown)
        region = self.labels[here]
        near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=TOUCH_PX)
        neighbours = np.unique(region[near > 0]).tolist()
        self.touching += [(other, number) for other in neighbours if other]
        region[mask & (region == 0)] = number

    def _float(self, cell: Sown, patch: Patch) -> None:
        """A cell far above the focus: its own rings, added to the shade."""
        side = FLOAT_PX
        h, w = patch.mask.shape
        top, left = max((side - h) // 2, 0), max((side - w) // 2, 0)
        relief = np.zeros((side, side), np.float32)
        fits = patch.height_um[: side - top, : side - left]
        relief[top : top + fits.shape[0], left : left + fits.shape[1]] = fits
        # heights above the bottom in steps, so that few transfer functions are needed
        above_um = 15.0 * (1 + cell.spec.seed[-2] % 3)
        red, blue = contrast(relief, self.optics, self.canvas.um_per_px, above_um + self.defocus_um)
        x, y = self.corner(cell, patch)
        here, part = overlap(self.labels.shape, (x - left, y - top), (side, side))
        if here is not None:
            self.canvas.shade[here] += FLOAT_GAIN * ((red + blue) / 2)[part]

    def truth(self, margin: tuple[int, int], size: tuple[int, int]) -> Truth:
        """Truth of the frame (h, w) = size that starts at margin (y, x) of the canvas."""
        groups = _groups(len(self.sown), self.touching)
        cells = (self._cell(i, groups[i]) for i in range(len(self.sown)))
        um = self.canvas.um_per_px
        whole = Truth(self.labels, tuple(cell for cell in cells if cell is not None), um)
        part = whole.cropped(margin[1], margin[0], size[1], size[0])
        return renumbered(part)

    def _cell(self, i: int, group: int) -> CellTruth | None:
        cell, patch = self.sown[i], self.patches[i]
        here, part = self._overlap(cell, patch)
        corner = (here[1].start, here[0].start)
        seen = measured(self.labels[here] == i + 1, corner, self.canvas.um_per_px)
        if seen is None:
            return None
        x, y = self.corner(cell, patch)
        alive = cell.spec.state == "alive"
        return CellTruth(
            id=i + 1,
            key=cell.key,
            type=cell.spec.type.name,
            phenotype=cell.spec.phenotype.name if alive else None,
            state=cell.spec.state,
            group=group,
            whole=patch.mask[part].size == patch.mask.size,
            nucleus_x_px=x + patch.nucleus_px[0] - patch.offset_px[0],
            nucleus_y_px=y + patch.nucleus_px[1] - patch.offset_px[1],
            **cast("dict[str, Any]", seen),
        )


def overlap(
    shape: tuple[int, ...], corner_px: tuple[int, int], size: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | tuple[None, None]:
    """Where a window (h, w) at a corner (x, y) meets an array: slices of both, or nothing."""
    x, y = corner_px
    x0, x1 = max(x, 0), min(x + size[1], shape[1])
    y0, y1 = max(y, 0), min(y + size[0], shape[0])
    if x1 <= x0 or y1 <= y0:
        return None, None
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))


def _groups(n: int, pairs: list[tuple[int, int]]) -> list[int]:
    """For each of labels 1..n, the smallest label that it touches directly or through others."""
    root = list(range(n + 1))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for a, b in pairs:
        low, high = sorted((find(a), find(b)))
        root[high] = low
    return [find(i) for i in range(1, n + 1)]


def renumbered(truth: Truth) -> Truth:
    """The same truth with ids 1..n, and groups named by their smallest id in the frame."""
    number = np.zeros(int(truth.labels.max(initial=0)) + 1, np.uint16)
    number[[cell.id for cell in truth.cells]] = np.arange(1, len(truth.cells) + 1)
    first: dict[int, int] = {}
    cells = tuple(
        _renamed(cell, i, first.setdefault(cell.group, i)) for i, cell in enumerate(truth.cells, 1)
    )
    return Truth(number[truth.labels], cells, truth.um_per_px)


def _renamed(cell: CellTruth, number: int, group: int) -> CellTruth:
    return msgspec.structs.replace(cell, id=number, group=group)
