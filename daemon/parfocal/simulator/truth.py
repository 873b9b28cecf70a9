"""What is really in a simulated frame: instance labels, and one record per cell."""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.cell import State

Labels = NDArray[np.uint16]


class CellTruth(msgspec.Struct, frozen=True, kw_only=True):
    """One cell of a frame; positions in frame pixels, x right, y down.

    `id` is its label in the mask of this frame, `key` its name in every view of the flask.
    `x_px`, `y_px` are the centre of mass of its visible mask, whose box follows. `group` is shared
    by cells that touch; `whole` is false where the frame's edge cuts the cell. The nucleus may lie
    outside the frame. `phenotype` is None for cells that are not alive.
    """

    id: int
    key: str
    type: str
    phenotype: str | None
    state: State
    group: int
    whole: bool
    x_px: float
    y_px: float
    nucleus_x_px: float
    nucleus_y_px: float
    area_um2: float
    left_px: int
    top_px: int
    width_px: int
    height_px: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of its box."""
        return (
            slice(self.top_px, self.top_px + self.height_px),
            slice(self.left_px, self.left_px + self.width_px),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Instance labels at frame size and the cells they number; 0 is background."""

    labels: Labels  # (h, w)
    cells: tuple[CellTruth, ...]
    um_per_px: float

    @property
    def density_per_mm2(self) -> float:
        """Living cells of the frame per square millimetre."""
        alive = sum(cell.state == "alive" for cell in self.cells)
        return alive / (self.labels.size * self.um_per_px**2 * 1e-6)

    def cropped(self, left_px: int, top_px: int, width_px: int, height_px: int) -> "Truth":
        """What is true of a part of the frame; ids stay."""
        labels = self.labels[top_px : top_px + height_px, left_px : left_px + width_px]
        frame = (left_px, top_px, width_px, height_px)
        kept = [_within(cell, labels, frame, self.um_per_px) for cell in self.cells]
        return Truth(labels, tuple(cell for cell in kept if cell is not None), self.um_per_px)


def _within(
    cell: CellTruth, labels: Labels, frame: tuple[int, int, int, int], um_per_px: float
) -> CellTruth | None:
    """The cell as the part shows it, or None where nothing of it is seen."""
    left, top, width, height = frame
    x0, y0 = max(cell.left_px - left, 0), max(cell.top_px - top, 0)
    x1 = min(cell.left_px + cell.width_px - left, width)
    y1 = min(cell.top_px + cell.height_px - top, height)
    moved = {
        "nucleus_x_px": cell.nucleus_x_px - left,
        "nucleus_y_px": cell.nucleus_y_px - top,
    }
    if x1 <= x0 or y1 <= y0:
        return None
    if (x1 - x0, y1 - y0) == (cell.width_px, cell.height_px):
        moved |= {"x_px": cell.x_px - left, "y_px": cell.y_px - top}
        return msgspec.structs.replace(cell, left_px=x0, top_px=y0, **moved)
    seen = measured(labels[y0:y1, x0:x1] == cell.id, (x0, y0), um_per_px)
    if seen is None:
        return None
    return msgspec.structs.replace(cell, whole=False, **moved, **seen)


def measured(
    mask: NDArray[np.bool_], corner_px: tuple[int, int], um_per_px: float
) -> dict[str, float] | None:
    """Centre, area and box of a mask whose window starts at a corner (x, y); None if empty."""
    ys, xs = np.nonzero(mask)
    if len(xs) == 0:
        return None
    left, top = corner_px
    return {
        "x_px": float(xs.mean()) + left,
        "y_px": float(ys.mean()) + top,
        "area_um2": len(xs) * um_per_px**2,
        "left_px": int(xs.min()) + left,
        "top_px": int(ys.min()) + top,
        "width_px": int(np.ptp(xs)) + 1,
        "height_px": int(np.ptp(ys)) + 1,
    }
