"""What a gate says of one frame."""

from dataclasses import dataclass
from typing import Protocol

from parfocal.gate.places import Overlap
from parfocal.reasons import GateReason
from parfocal.types import Gray


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to take a frame, why not, and what was seen.

    `field` is the number of the field that is taken, or of the earlier one that this place
    belongs to; `overlap` is the share of the frame that earlier fields cover, and `overlaps`
    say where (they are known for a taken frame and an already seen one). Neither looks at fields
    that were lost.
    """

    take: bool
    reason: GateReason | None = None
    motion_px_s: float = 0.0
    focus: float = 0.0
    field: int | None = None
    overlap: float = 0.0
    overlaps: tuple[Overlap, ...] = ()


class Gate(Protocol):
    """Decides for each frame of a live camera, in their order."""

    def __call__(self, gray: Gray, at_s: float, /) -> Decision:
        """Decide on a frame (h, w) uint8; seconds are of any clock that never goes back."""
        ...
