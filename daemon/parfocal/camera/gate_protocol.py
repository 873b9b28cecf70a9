"""Which of a camera's frames are worth classifying: what a gate is, and the plainest one."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from parfocal.config import CameraSettings
from parfocal.gate import Overlap, RestGate
from parfocal.reasons import GateReason


class Decided(Protocol):
    """What a gate says of one frame."""

    @property
    def take(self) -> bool:
        """Whether the frame is to be classified."""

    @property
    def reason(self) -> GateReason | None:
        """Why it is not; None when it is, or when time alone decided."""

    @property
    def field(self) -> int | None:
        """Number of the field that a taken frame is, for a gate that knows places."""

    @property
    def overlaps(self) -> tuple[Overlap, ...]:
        """How a taken frame lies on earlier fields."""


class Gate(Protocol):
    """Looks at every frame, in the order they were taken."""

    def __call__(self, gray: NDArray[np.uint8], at_s: float, /) -> Decided:
        """Decide on a frame of shape (h, w), taken at this time of a clock that only goes on."""

    def lost(self, field: int, /) -> None:
        """The frame that was taken as this field was not kept."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The plainest decision."""

    take: bool
    reason: GateReason | None = None
    field: int | None = None
    overlaps: tuple[Overlap, ...] = ()


class Every:
    """Takes a frame when `every_s` seconds have passed since the last one it took; 0 takes all."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self._last_s: float | None = None

    def __call__(self, gray: NDArray[np.uint8], at_s: float, /) -> Decision:
        """Decide by time alone."""
        if self._last_s is not None and at_s - self._last_s < self.every_s:
            return Decision(False)
        self._last_s = at_s
        return Decision(True)

    def lost(self, field: int, /) -> None:
        """Time goes on."""


def chosen(settings: CameraSettings) -> Gate:
    """A fresh gate of the configured kind, for one flask."""
    if settings.gate == "every":
        return Every(settings.every_s)
    return RestGate()
