"""Takes one sharp frame of each rest of a hand-pushed flask, and no place twice."""

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from parfocal.gate.atlas import Atlas
from parfocal.gate.decision import Decision
from parfocal.gate.dust import Dust
from parfocal.gate.measures import SMALL, Glance, glance
from parfocal.gate.motion import shift_px
from parfocal.gate.places import Overlap, Points, already_counted, covered, shared, turned
from parfocal.gate.reference import Reference
from parfocal.gate.register import Search, View, view
from parfocal.gate.settings import GateSettings
from parfocal.quality import BRIGHT, DARK
from parfocal.reasons import GateReason
from parfocal.types import Gray

LEAST_SIDE_PX = 256
LEAST_FRAMES = 3
"""A rest needs so many frames, whatever their times: two may show one place by chance."""

BLACK, WHITE = 0.5, 0.05
"""Shares of pixels at an end of the scale that cost a frame; the bright rims of real cells in good
frames took up to 0.016."""


@dataclass(slots=True)
class Rest:
    """A rest so far: its first frame (or the one taken), focus of late, and what came of it."""

    began_s: float
    anchor: Glance
    focuses: deque[tuple[float, float]] = field(default_factory=deque)
    best_focus: float = 0.0
    search: Search | None = None
    searched: Glance | None = None
    verdict: Decision | None = None

    def add(self, focus: float, at_s: float, kept_s: float) -> None:
        """Note a frame's focus, and forget what is older than `kept_s`."""
        self.best_focus = max(self.best_focus, focus)
        self.focuses.append((at_s, focus))
        while len(self.focuses) > LEAST_FRAMES and self.focuses[0][0] < at_s - kept_s:
            self.focuses.popleft()

    def steady(self, share: float) -> bool:
        """Whether the focus stood of late."""
        late = [focus for _, focus in self.focuses]
        return len(late) >= LEAST_FRAMES and max(late) - min(late) <= share * max(late)


@dataclass(frozen=True, slots=True)
class GateState:
    """For a status line: fields taken, how long the flask has stood, and the last decision."""

    fields: int
    still_s: float
    least_focus: float
    decision: Decision


class RestGate:
    """A gate for one flask session: open a new one with the next flask.

    Give it every frame of the camera in order; times are seconds of any clock.
    """

    def __init__(self, settings: GateSettings | None = None) -> None:
        self.settings = settings or GateSettings()
        self.fields: list[View | None] = []  # None where it is too long ago to be compared
        self.atlas = Atlas()
        self.reference = Reference()
        self.size: tuple[int, int] | None = None
        self._dust = Dust()
        self._lost: set[int] = set()
        self._last: Glance | None = None
        self._last_s = self._fresh_s = -np.inf
        self._rest: Rest | None = None
        self._decision = Decision(take=False, reason=GateReason.SETTLING)

    def __call__(self, gray: Gray, at_s: float, /) -> Decision:
        """Decide on a frame (h, w) uint8."""
        self._check(gray, at_s)
        raw = glance(gray)
        seen = replace(raw, relief=self._dust.off(raw.relief))
        self._decision = self._decide(seen, at_s)
        if self._decision.reason is GateReason.MOVING:
            self._dust.learn(raw.relief)
        self._last, self._last_s = seen, at_s
        return self._decision

    @property
    def state(self) -> GateState:
        """Where the gate stands."""
        still_s = self._last_s - self._rest.began_s if self._rest else 0.0
        least = self.reference.least_focus(self.settings)
        return GateState(len(self.fields), still_s, least, self._decision)

    def lost(self, field: int) -> None:
        """The frame taken as this field was not kept: nothing there was counted.

        The next rest at that place is taken like any other.
        """
        self._lost.add(field)

    def already_counted(self, points: Points, overlaps: tuple[Overlap, ...]) -> NDArray[np.bool_]:
        """Which points (n, 2) of a taken frame earlier fields have counted: (n,) bool."""
        if self.size is None:
            return np.zeros(len(points), bool)
        return already_counted(points, overlaps, self.size, self.settings.margin_px)

    def _check(self, gray: Gray, at_s: float) -> None:
        if gray.ndim != 2 or gray.dtype != np.uint8 or min(gray.shape) < LEAST_SIDE_PX:
            raise ValueError(
                f"got a frame of shape {gray.shape} and type {gray.dtype}; give the gate gray "
                f"uint8 frames of at least {LEAST_SIDE_PX} pixels a side"
            )
        size = (gray.shape[0], gray.shape[1])
        if self.size not in (None, size):
            raise ValueError(
                f"got a frame of {size} after frames of {self.size}; make a new gate for them"
            )
        if at_s < self._last_s:
            raise ValueError(f"got a frame of {at_s:g} s after one of {self._last_s:g} s")
        self.size = size

    def _decide(self, seen: Glance, at_s: float) -> Decision:
        fault = exposure_fault(seen)
        if fault is not None:
            return self._refuse(fault, seen)
        if self._last is not None and np.array_equal(self._last.small, seen.small):
            return self._again(seen, at_s)
        self._fresh_s = at_s
        motion_px_s = self._motion_px_s(seen, at_s)
        if not seen.structured:
            return self._refuse(GateReason.OUT_OF_FOCUS, seen, motion_px_s)
        if motion_px_s > self.settings.still_px_s:
            return self._refuse(GateReason.MOVING, seen, motion_px_s)
        found = self._resting(self._rest_with(seen, at_s), seen, at_s)
        return replace(found, motion_px_s=motion_px_s, focus=seen.focus)

    def _refuse(self, reason: GateReason, seen: Glance, motion_px_s: float = 0.0) -> Decision:
        """Not at rest, or not able to see whether: whatever rest there was is over."""
        self._rest = None
        return Decision(False, reason, motion_px_s, seen.focus)

    def _again(self, seen: Glance, at_s: float) -> Decision:
        """The same picture as before: no news, and no camera if it stays so."""
        if at_s - self._fresh_s >= self.settings.frozen_s:
            return self._refuse(GateReason.FROZEN, seen)
        reason = self._decision.reason or GateReason.ALREADY_SEEN
        return replace(self._decision, take=False, reason=reason)

    def _motion_px_s(self, seen: Glance, at_s: float) -> float:
        """Speed since the last frame; where nothing is shared, that of a whole frame."""
        if self._last is None:
            return 0.0
        shift = shift_px(self._last.relief, seen.relief)
        way_px = np.hypot(*shift) if shift else SMALL * seen.relief.shape[1]
        return float(way_px / max(at_s - self._last_s, 1e-3))

    def _rest_with(self, seen: Glance, at_s: float) -> Rest:
        """The rest that this frame belongs to: a slow slide makes a new one now and then."""
        rest = self._rest
        if rest is not None:
            shift = shift_px(rest.anchor.relief, seen.relief)
            if shift is None or np.hypot(*shift) > self.settings.wander_px:
                rest = None
        self._rest = rest or Rest(at_s, seen)
        self._rest.add(seen.focus, at_s, self.settings.rest_s)
        return self._rest

    def _resting(self, rest: Rest, seen: Glance, at_s: float) -> Decision:
        if rest.verdict is not None:
            return rest.verdict
        sharp = seen.focus >= self.reference.least_focus(self.settings)
        steady = rest.steady(self.settings.steady)
        if sharp and steady:
            self._look(rest, seen)
        still = at_s - rest.began_s >= self.settings.rest_s
        if not (still and steady):
            return Decision(False, GateReason.SETTLING)
        fault = self.reference.light_fault(seen, self.settings)
        if fault is not None or not sharp:
            return Decision(False, fault or GateReason.OUT_OF_FOCUS)
        return self._sharp(rest, seen, at_s)

    def _look(self, rest: Rest, seen: Glance) -> None:
        """Compare with a few more of the earlier fields, anew if it is much sharper now."""
        blurred = rest.searched is not None and seen.focus > 1.3 * rest.searched.focus
        if rest.search is None or blurred:
            assert self.size is not None
            rest.search = Search(view(seen.relief), tuple(self.fields), self.size)
            rest.searched = seen
        rest.search.advance(self.settings.compared_per_frame)

    def _sharp(self, rest: Rest, seen: Glance, at_s: float) -> Decision:
        fault = self.reference.scale_fault(seen, self.settings)
        if fault is not None:
            return Decision(False, fault)
        patient = at_s - rest.began_s < self.settings.patience_s
        was_sharper = seen.focus < (1 - 2 * self.settings.steady) * rest.best_focus
        if rest.search is None or not rest.search.done or (was_sharper and patient):
            return Decision(False, GateReason.SETTLING)
        return self._found(rest, seen)

    def _found(self, rest: Rest, seen: Glance) -> Decision:
        """Take the frame, unless too much of it was taken before."""
        assert rest.search is not None and rest.searched is not None and self.size is not None
        drift_px = shift_px(rest.searched.relief, seen.relief) or (0.0, 0.0)
        found = [drifted(one, drift_px, self.size) for one in rest.search.found]
        placed = self.atlas.completed(found, self.size)
        overlaps = tuple(one for one in placed if one.field not in self._lost)
        share = covered(overlaps, self.size)
        if share > self.settings.seen_share:
            rest.verdict = Decision(
                False,
                GateReason.ALREADY_SEEN,
                field=overlaps[0].field,
                overlap=share,
                overlaps=overlaps,
            )
            return rest.verdict
        self.atlas.add(placed)
        return self._take(rest, seen, share, overlaps)

    def _take(
        self, rest: Rest, seen: Glance, share: float, overlaps: tuple[Overlap, ...]
    ) -> Decision:
        self.fields.append(view(seen.relief))
        forgotten = len(self.fields) - self.settings.most_fields
        if forgotten > 0:
            self.fields[forgotten - 1] = None
        self.reference.add(seen)
        number = len(self.fields)
        rest.anchor = seen
        rest.verdict = Decision(False, GateReason.ALREADY_SEEN, field=number, overlap=1.0)
        return Decision(True, field=number, overlap=share, overlaps=overlaps)


def exposure_fault(seen: Glance) -> GateReason | None:
    """Too little or too much light."""
    if seen.mean < DARK or seen.black > BLACK:
        return GateReason.DARK
    if seen.mean > BRIGHT or seen.white > WHITE:
        return GateReason.OVEREXPOSED
    return None


def drifted(one: Overlap, drift_px: tuple[float, float], size: tuple[int, int]) -> Overlap:
    """The overlap of a frame (h, w) in which everything lies `drift_px` (x, y) farther."""
    offset = np.array(one.offset_px) - turned(one.turn_rad) @ np.array(drift_px)
    at = float(offset[0]), float(offset[1])
    return replace(one, offset_px=at, share=shared(at, one.turn_rad, size))
