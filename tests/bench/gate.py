"""How well and how fast the gate works on a simulated video of a hand-pushed flask.

`python tests/bench/gate.py --minutes 10` pushes a simulated flask, shows every frame to one
`RestGate` on one core and compares its decisions with the truth. Only the gate is timed. All
figures are of simulated frames.
"""

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.gate import Decision, GateReason, GateSettings, Overlap, RestGate, already_counted
from parfocal.gate.places import covered, shared
from parfocal.quantities import between, whole
from parfocal.simulator import HEK293A, HT1080, Flask, Optics, draw_flask
from parfocal.simulator.push import Film, Hand, Pose, Push, Shot, draw_push
from parfocal.types import Gray

LEAST_SHARP_S = 0.8
"""A rest that is sharp for less is none to be taken: the gate asks for 0.3 s, and then looks."""

UNCLEAR = 0.02
"""Overlaps so near the limit count neither way."""


def to_earlier(earlier: Pose, now: Pose, size: tuple[int, int]) -> NDArray[np.float64]:
    """True matrix (3, 3) from a frame (h, w) to an earlier one."""
    first, second = (np.vstack([one.to_bottom(size), [0, 0, 1]]) for one in (earlier, now))
    return np.asarray(np.linalg.inv(first) @ second)


def true_overlaps(now: Pose, taken: list[Pose], size: tuple[int, int]) -> tuple[Overlap, ...]:
    """Every true overlap of a view with the fields taken before it."""
    found = []
    for number, earlier in enumerate(taken, 1):
        m = to_earlier(earlier, now, size)
        at, turn = (float(m[0, 2]), float(m[1, 2])), float(np.arctan2(m[1, 0], m[0, 0]))
        if (share := shared(at, turn, size)) > 0:
            found.append(Overlap(number, at, turn, share, 1.0))
    return tuple(sorted(found, key=lambda one: -one.share))


@dataclass(slots=True)
class Tally:
    """Decisions counted against the truth."""

    size: tuple[int, int]
    settings: GateSettings
    taken: list[Pose] = field(default_factory=list)
    moving: int = 0
    blurred: int = 0
    doubles: int = 0
    points: int = 0
    twice: int = 0
    lost: int = 0
    errors_px: list[float] = field(default_factory=list)
    missed: list[float] = field(default_factory=list)  # shares of overlaps that were not found
    got: set[int] = field(default_factory=set)
    covered_at: dict[int, float] = field(default_factory=dict)  # when each rest began
    reasons: Counter[str] = field(default_factory=Counter)
    ms: list[float] = field(default_factory=list)

    def add(self, shot: Shot, decision: Decision, ms: float) -> None:
        """Note one frame."""
        self.ms.append(ms)
        stop = shot.pose.stop
        if stop is not None:
            self.reasons[decision.reason or "taken"] += 1
            if stop not in self.covered_at:
                overlaps = true_overlaps(replace(shot.pose), self.taken, self.size)
                self.covered_at[stop] = covered(overlaps, self.size)
        if decision.take:
            self._take(shot, decision)

    def _take(self, shot: Shot, decision: Decision) -> None:
        overlaps = true_overlaps(shot.pose, self.taken, self.size)
        self.moving += shot.pose.stop is None
        self.blurred += shot.pose.blur_px > 2
        self.doubles += covered(overlaps, self.size) > self.settings.seen_share + UNCLEAR
        self._count(overlaps, decision.overlaps)
        self._compare(overlaps, decision.overlaps)
        self.taken.append(shot.pose)
        if shot.pose.stop is not None:
            self.got.add(shot.pose.stop)

    def _count(self, true: tuple[Overlap, ...], said: tuple[Overlap, ...]) -> None:
        """Points all over the part of the field in which cells are counted."""
        margin = self.settings.margin_px
        y, x = np.mgrid[margin : self.size[0] - margin : 16, margin : self.size[1] - margin : 16]
        points = np.column_stack([x.ravel(), y.ravel()])
        before = already_counted(points, true, self.size, margin)
        masked = already_counted(points, said, self.size, margin)
        self.points += len(points)
        self.twice += int((before & ~masked).sum())
        self.lost += int((masked & ~before).sum())

    def _compare(self, true: tuple[Overlap, ...], said: tuple[Overlap, ...]) -> None:
        known = {one.field: one for one in said}
        corners = np.array([[0, 0], [0, self.size[0]], [self.size[1], 0], self.size[::-1]], float)
        for one in true:
            if one.field in known:
                gap = one.to_earlier(corners) - known[one.field].to_earlier(corners)
                self.errors_px.append(float(np.hypot(*gap.T).mean()))
            elif one.share > 0.1:
                self.missed.append(round(one.share, 3))

    def report(self, push: Push, last_s: float) -> dict[str, Any]:
        """Everything that was counted; shares are of what their name says."""
        wanted, seen, seen_got = self._wanted(push, last_s)
        ms = np.array(self.ms)
        return {
            "simulated": True,
            "frames": len(ms),
            "rests": len(self.covered_at),
            "rests_wanted": len(wanted),
            "rests_taken": len(wanted & self.got),
            "rests_missed": sorted(wanted - self.got),
            "rests_seen_before": len(seen),
            "rests_seen_before_taken": len(seen_got),
            "fields": len(self.taken),
            "fields_taken_in_motion": self.moving,
            "fields_taken_blurred": self.blurred,
            "fields_counted_twice": self.doubles,
            "area_counted_twice": self.twice / max(self.points, 1),
            "area_lost": self.lost / max(self.points, 1),
            "overlaps_found": len(self.errors_px),
            "overlaps_missed": self.missed,
            "corner_error_px": [round(float(v), 2) for v in quantiles(self.errors_px)],
            "decisions_at_rest": dict(self.reasons),
            "gate_frames_per_s": round(float(1e3 / ms.mean()), 1),
            "gate_ms": [round(float(v), 2) for v in quantiles(self.ms)],
        }

    def _wanted(self, push: Push, last_s: float) -> tuple[set[int], set[int], set[int]]:
        """Rests to be taken, rests at a place that was seen, and those of them that were taken."""
        limit = self.settings.seen_share
        wanted, seen = set(), set()
        for k, share in self.covered_at.items():
            stop, rest = push.path.stops[k], push.rests[k]
            sharp_s = min(stop.leave_s, last_s) - stop.arrive_s - rest.sharp_after_s
            if sharp_s >= LEAST_SHARP_S and share < limit - UNCLEAR:
                wanted.add(k)
            elif share > limit + UNCLEAR:
                seen.add(k)
        return wanted, seen, seen & self.got


def quantiles(values: list[float]) -> NDArray[np.float64]:
    """Median, 99th percentile and largest."""
    return np.quantile(values, (0.5, 0.99, 1.0)) if values else np.zeros(3)


def pushed(flask: Flask, seed: int, minutes: float) -> Film:
    """A film of at least this length over a part of a flask that is revisited now and then."""
    push = draw_push(np.random.default_rng((seed, 1)), 60 * minutes, reach(minutes), Hand())
    return Film(flask, push, seed)


def reach(minutes: float) -> tuple[float, float]:
    """A part of the bottom that grows with the time, so that the hand meets old places too."""
    side = 6000 * max(minutes, 0.5) ** 0.5
    return 1.3 * side, side


def watch(film: Film, settings: GateSettings) -> dict[str, Any]:
    """Show every frame of a film to a gate."""
    gate, tally, at_s = RestGate(settings), Tally(film.size, settings), 0.0
    for shot in film:
        start = time.perf_counter()
        decision = gate(shot.gray, shot.at_s)
        tally.add(shot, decision, (time.perf_counter() - start) * 1e3)
        at_s = shot.at_s
        if len(tally.ms) % 750 == 0:  # half a minute
            print(json.dumps(tally.report(film.push, at_s)), file=sys.stderr, flush=True)
    return tally.report(film.push, at_s)


def bubble(gray: Gray, rng: np.random.Generator) -> Gray:
    """The frame (h, w) with the rim of a large bubble in it."""
    h, w = gray.shape
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    cx, cy = rng.uniform(0.2, 0.8) * w, rng.uniform(0.2, 0.8) * h
    r = np.hypot(x - cx, y - cy) / (0.45 * h)
    light = 1 - 0.75 * np.exp(-(((r - 1) / 0.12) ** 2)) - 0.2 * (r < 1)
    return np.asarray(np.clip(gray * light, 0, 255), np.uint8)


def meniscus(gray: Gray, rng: np.random.Generator) -> Gray:
    """The frame (h, w) at the edge of the medium: dark towards one side."""
    x = np.linspace(0, 1, gray.shape[1], dtype=np.float32)[None, :: rng.choice([-1, 1])]
    light = 1 - 0.85 / (1 + np.exp((0.35 - x) * 18))
    return np.asarray(np.clip(gray * light, 0, 255), np.uint8)


def gamma(gray: Gray, rng: np.random.Generator) -> Gray:
    """The frame (h, w) with a gamma of 1.6 to 2.2, or of its inverse, set in the camera."""
    power = float(rng.uniform(1.6, 2.2)) ** float(rng.choice([-1, 1]))
    levels = np.round(255 * (np.arange(256) / 255) ** power).astype(np.uint8)
    return np.asarray(levels[gray], np.uint8)


FAULTS = {
    GateReason.DARK: lambda gray, rng: (gray * rng.uniform(0, 0.12)).astype(np.uint8),
    GateReason.OVEREXPOSED: lambda gray, rng: cv2.multiply(gray, rng.uniform(3.6, 6)),
    GateReason.CHANGED_GAMMA: gamma,
    GateReason.BUBBLE_OR_MENISCUS: lambda gray, rng: (
        bubble(gray, rng) if rng.random() < 0.5 else meniscus(gray, rng)
    ),
}


def rest_at(film: Film, gate: RestGate, k: int, rng: np.random.Generator, fault: Any) -> Decision:
    """The last decision of a rest at the k-th place of a row, or the first that took."""
    pose = Pose(1900.0 * k, 900.0, 0.0, 0.0, k)
    state = rng.bit_generator.state
    decision = Decision(False)
    for i in range(20):
        gray = film.seen(pose, np.random.default_rng((k, i)))
        rng.bit_generator.state = state
        decision = gate(fault(gray, rng) if fault else gray, 2.0 * k + i / 25)
        if decision.take:
            break
    rng.random()
    return decision


def faults(flask: Flask, seed: int, n: int = 4) -> dict[str, Any]:
    """Of n rests with each fault after four good ones, how many are called by its name."""
    named: dict[str, Any] = {}
    film = Film(flask, draw_push(np.random.default_rng(seed), 1), seed)
    rng = np.random.default_rng((seed, 2))
    for reason, fault in FAULTS.items():
        named[reason] = _named(film, film, fault, rng, n)
    for name, um, na in (("wrong_objective_20x", 0.22, 0.4), ("wrong_objective_4x", 1.1, 0.13)):
        traits = replace(flask.traits, defocus_um=flask.traits.defocus_um * 0.25 / na)
        camera = replace(flask.rig.camera, um_per_px=um)
        rig = replace(flask.rig, camera=camera, optics=Optics(na=na))
        other = Film(replace(flask, traits=traits, rig=rig), film.push, seed)
        named[name] = _named(film, other, None, rng, n)
    named["none"] = _named(film, film, None, rng, n)
    return named


def _named(film: Film, other: Film, fault: Any, rng: np.random.Generator, n: int) -> dict[str, int]:
    gate = RestGate()
    for k in range(4):
        rest_at(film, gate, k, rng, None)
    said = (rest_at(other, gate, k, rng, fault) for k in range(4, 4 + n))
    return dict(Counter(str(one.reason) if one.reason else "taken" for one in said))


def main(arguments: list[str]) -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=between(0.05, 120, "min"), default=1.0, metavar="M",
                        help="length of the simulated video (default: 1)")  # fmt: skip
    parser.add_argument("--density", type=between(1, 2000, "cells/mm2"), default=120.0, metavar="D",
                        help="cells per mm2 (default: 120)")  # fmt: skip
    parser.add_argument("--seed", type=whole, default=0, metavar="N",
                        help="another number, another flask and hand (default: 0)")  # fmt: skip
    parser.add_argument("--faults", action="store_true",
                        help="also show rests with each fault to the gate")  # fmt: skip
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(options.seed)
    flask = draw_flask(rng, ((HEK293A, 0.5), (HT1080, 0.5)), options.density)
    report = {"minutes": options.minutes, "density_per_mm2": options.density, "seed": options.seed}
    if options.faults:
        report["faults"] = faults(flask, options.seed)
        print(json.dumps(report["faults"]), file=sys.stderr, flush=True)
    report |= watch(pushed(flask, options.seed, options.minutes), GateSettings())
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
