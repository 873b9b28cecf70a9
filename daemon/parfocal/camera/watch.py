"""What is wrong with a camera or with what it sees, for long enough that a person is told.

A person pushes, rests and pushes on, so a single look decides nothing: a condition must have held
for some seconds, and is over when it was gone for some. What is judged only at rest is neither
there nor gone while the flask moves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from parfocal.reasons import SENTENCES, GateReason

EVERY_FRAME = (GateReason.DARK, GateReason.OVEREXPOSED, GateReason.FROZEN)
AT_REST = (
    GateReason.BUBBLE_OR_MENISCUS,
    GateReason.CHANGED_GAMMA,
    GateReason.WRONG_OBJECTIVE,
)
"""Faults of the view, by when they show. The other reasons of a gate are ordinary."""
UNTOLD = (GateReason.MOVING, GateReason.SETTLING, GateReason.OUT_OF_FOCUS)
"""With these nothing is known about what is judged at rest."""
HELD_S, GONE_S = 3.0, 3.0
LOST = "camera_lost"

Conditions = Mapping[str, str | None]
"""Name of each condition of which something is known: what to say, or None when it is gone."""


@dataclass(slots=True)
class Watch:
    """Takes in what is seen, and says what stands."""

    known: dict[str, str | None] = field(default_factory=dict)
    _since_s: dict[str, tuple[bool, float]] = field(default_factory=dict)

    def viewed(self, view: GateReason | None, at_s: float) -> None:
        """The gate's last word on new frames, at a monotonic time; None says nothing."""
        if view is None:
            return
        judged = EVERY_FRAME if view in UNTOLD else (*EVERY_FRAME, *AT_REST)
        for reason in judged:
            why = f"camera: {SENTENCES[reason]}" if reason is view else None
            self._note(f"camera_{reason}", why, at_s, HELD_S)

    def lost(self, why: str | None, at_s: float) -> None:
        """Whether the camera is lost, and why: told at once."""
        self._note(LOST, why and f"the camera is lost: {why}", at_s, 0.0)

    def _note(self, name: str, why: str | None, at_s: float, held_s: float) -> None:
        holds = why is not None
        before, since_s = self._since_s.get(name, (holds, at_s))
        if before is not holds:
            since_s = at_s
        self._since_s[name] = holds, since_s
        if at_s - since_s >= (held_s if holds else GONE_S):
            self.known[name] = why
