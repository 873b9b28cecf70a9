"""A flask pushed by hand over the stage: rests, quick moves, and the frames seen on the way.

`frames` renders every view, at the speed of a clock that is given. `Film` is for video: it renders
the bottom once, in pieces, and cuts gray windows out of it at camera speed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.flask import Flask, Light, SimulatedFrame
from parfocal.simulator.parameters import Camera
from parfocal.simulator.sensor import noise_floor, smear
from parfocal.types import Gray

PIECE_PX = 1024
LUMA = (0.299, 0.587, 0.114)
LEVELS = 180.0
"""Grey level of the bare bottom in a stored piece: its brightest rims still fit into 8 bits."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A place of the view's corner on the bottom, and when the flask arrives there and leaves."""

    arrive_s: float
    leave_s: float
    x_px: float
    y_px: float


@dataclass(frozen=True, slots=True)
class Path:
    """Rests joined by smooth moves; before the first and after the last rest it stands still."""

    stops: tuple[Stop, ...]

    @property
    def duration_s(self) -> float:
        """Until the last rest ends."""
        return self.stops[-1].leave_s

    def position_px(self, t_s: float) -> tuple[float, float]:
        """Corner (x, y) of the view at a time."""
        before = self.stops[0]
        for stop in self.stops:
            if t_s < stop.arrive_s:
                # a hand starts and stops gently: smoothstep between two rests
                u = (t_s - before.leave_s) / (stop.arrive_s - before.leave_s)
                s = u * u * (3 - 2 * u) if u > 0 else 0.0
                x = before.x_px + s * (stop.x_px - before.x_px)
                return x, before.y_px + s * (stop.y_px - before.y_px)
            before = stop
            if t_s <= stop.leave_s:
                break
        return before.x_px, before.y_px

    def motion_px(self, t_s: float, exposure_s: float) -> tuple[float, float]:
        """How far (x, y) the view moves during an exposure centred at a time."""
        x0, y0 = self.position_px(t_s - exposure_s / 2)
        x1, y1 = self.position_px(t_s + exposure_s / 2)
        return x1 - x0, y1 - y0


def draw_path(
    rng: np.random.Generator,
    n_stops: int,
    step_px: float = 900.0,
    rest_s: float = 1.0,
    speed_px_per_s: float = 1500.0,
) -> Path:
    """A wandering path; steps shorter than a frame make neighbouring rests overlap."""
    t = 0.0
    place = np.zeros(2)
    stops = []
    for _ in range(n_stops):
        rest = rest_s * float(rng.uniform(0.6, 1.4))
        stops.append(Stop(t, t + rest, float(place[0]), float(place[1])))
        step = step_px * float(rng.uniform(0.5, 1.0))
        angle = float(rng.uniform(-np.pi / 2, np.pi / 2))
        place = place + step * np.array([np.cos(angle), np.sin(angle)])
        t += rest + step / speed_px_per_s
    return Path(tuple(stops))


@dataclass(frozen=True, slots=True, eq=False)
class TimedFrame:
    """A frame, when its exposure was centred, and where on the bottom its corner lay."""

    acquired_s: float
    corner_px: tuple[int, int]
    motion_px: tuple[float, float]
    frame: SimulatedFrame


def frames(
    flask: Flask,
    path: Path,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    rng: np.random.Generator,
    interval_s: float = 0.1,
) -> Iterator[TimedFrame]:
    """What the camera sees until the path ends, one frame per interval or as fast as it goes.

    A late frame is skipped, as a live camera would: times are those of the clock.
    """
    start_s = clock()
    exposure_s = flask.rig.camera.exposure_ms / 1000
    seen: tuple[tuple[int, int], Light] | None = None
    while (t_s := clock() - start_s) <= path.duration_s:
        x, y = path.position_px(t_s)
        corner, motion = (round(x), round(y)), path.motion_px(t_s, exposure_s)
        if seen is None or seen[0] != corner:
            seen = corner, flask.light(corner)
        yield TimedFrame(start_s + t_s, corner, motion, flask.exposed(seen[1], rng, motion))
        wait_s = interval_s - (clock() - start_s - t_s)
        sleep(max(wait_s, 0.0))


@dataclass(frozen=True, slots=True)
class Hand:
    """How a person pushes: ranges (least, most) are drawn from evenly, shares are probabilities.

    `near_share` of the moves are so small that views overlap, `back_share` return to an earlier
    place. A view is blurred by a Gaussian (standard deviation in pixels) while the person has
    not refocused; `blurred_share` of the rests stay so.
    """

    rest_s: tuple[float, float] = (1.0, 3.0)
    speed_px_per_s: tuple[float, float] = (500.0, 1800.0)
    far_px: tuple[float, float] = (1300.0, 2300.0)
    near_px: tuple[float, float] = (150.0, 1200.0)
    near_share: float = 0.2
    back_share: float = 0.1
    back_px: float = 250.0
    jerk: float = 0.25
    drift_px_per_s: float = 3.0
    tremor_px: float = 0.15
    swing_px: float = 4.0
    turn_deg: float = 0.6
    refocus_share: float = 0.3
    refocus_px: tuple[float, float] = (4.0, 8.0)
    refocus_s: tuple[float, float] = (0.2, 0.6)
    blurred_share: float = 0.05


@dataclass(frozen=True, slots=True)
class Rest:
    """What happens at one stop besides its place."""

    turn_rad: float
    drift_px_per_s: tuple[float, float]
    blur_px: float
    sharp_after_s: float  # infinite: the person does not refocus


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the view lies: its corner if it were not turned, its turn about its middle, blur."""

    x_px: float
    y_px: float
    turn_rad: float
    blur_px: float
    stop: int | None  # which rest; none on the way

    def to_bottom(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """Matrix (2, 3) that takes a pixel (x, y) of the frame (h, w) to the flask's bottom."""
        c, s = np.cos(self.turn_rad), np.sin(self.turn_rad)
        middle = np.array([size[1] - 1, size[0] - 1]) / 2
        turn = np.array([[c, -s], [s, c]])
        corner = np.array([self.x_px, self.y_px]) + middle - turn @ middle
        return np.column_stack([turn, corner])


@dataclass(frozen=True, slots=True)
class Push:
    """A path with all that a hand adds to it."""

    path: Path
    rests: tuple[Rest, ...]
    hand: Hand

    def pose(self, t_s: float) -> Pose:
        """The view at a time."""
        stops = self.path.stops
        k = max(int(np.searchsorted([s.arrive_s for s in stops], t_s, "right")) - 1, 0)
        since_s = t_s - stops[k].arrive_s
        if t_s <= stops[k].leave_s or k + 1 == len(stops):
            return self._resting(k, since_s)
        return self._moving(k, t_s)

    def _resting(self, k: int, since_s: float) -> Pose:
        stop, rest, hand = self.path.stops[k], self.rests[k], self.hand
        swing = hand.swing_px * np.exp(-since_s / 0.07) * np.sin(2 * np.pi * 9 * since_s)
        tremor = hand.tremor_px * np.sin(2 * np.pi * 8.3 * since_s + 5 * k)
        dx, dy = (v * since_s + swing + tremor for v in rest.drift_px_per_s)
        focused = np.clip(1 - since_s / rest.sharp_after_s, 0, 1) if rest.sharp_after_s else 0.0
        x, y = float(stop.x_px + dx), float(stop.y_px + dy)
        return Pose(x, y, rest.turn_rad, float(rest.blur_px * focused), k)

    def _moving(self, k: int, t_s: float) -> Pose:
        here, there = self.path.stops[k], self.path.stops[k + 1]
        start = self._resting(k, here.leave_s - here.arrive_s)
        u = (t_s - here.leave_s) / (there.arrive_s - here.leave_s)
        # sticks and slips on the way: now and then it nearly stands
        s = u * u * (3 - 2 * u) + self.hand.jerk * u * (1 - u) * np.sin(6 * np.pi * u)
        to = self.rests[k + 1]
        return Pose(
            float(start.x_px + s * (there.x_px - start.x_px)),
            float(start.y_px + s * (there.y_px - start.y_px)),
            float(start.turn_rad + u * (to.turn_rad - start.turn_rad)),
            float(start.blur_px + u * (to.blur_px - start.blur_px)),
            None,
        )


def draw_push(
    rng: np.random.Generator,
    duration_s: float,
    reach_px: tuple[float, float] = (16000.0, 12000.0),
    hand: Hand | None = None,
) -> Push:
    """Rests and moves for at least this long, over a part (width, height) of the bottom."""
    hand = hand or Hand()
    stops, rests = [_stop(rng, 0.0, np.array(reach_px) / 2, hand)], [_rest(rng, hand)]
    while stops[-1].leave_s < duration_s:
        place = _next_place(rng, stops, reach_px, hand)
        way_px = float(np.hypot(*(place - (stops[-1].x_px, stops[-1].y_px))))
        taken_s = max(1.5 * way_px / float(rng.uniform(*hand.speed_px_per_s)), 0.3)
        stops.append(_stop(rng, stops[-1].leave_s + taken_s, place, hand))
        rests.append(_rest(rng, hand))
    return Push(Path(tuple(stops)), tuple(rests), hand)


def _stop(
    rng: np.random.Generator, arrive_s: float, place: NDArray[np.float64], hand: Hand
) -> Stop:
    return Stop(
        arrive_s, arrive_s + float(rng.uniform(*hand.rest_s)), float(place[0]), float(place[1])
    )


def _rest(rng: np.random.Generator, hand: Hand) -> Rest:
    drift = rng.normal(0, hand.drift_px_per_s / 2, 2).tolist()
    turn = float(np.deg2rad(np.clip(rng.normal(0, hand.turn_deg), -4, 4)))
    fate = float(rng.random())
    blur_px, sharp_after_s = float(rng.uniform(*hand.refocus_px)), 0.0
    if fate < hand.blurred_share:
        sharp_after_s = np.inf
    elif fate < hand.blurred_share + hand.refocus_share:
        sharp_after_s = float(rng.uniform(*hand.refocus_s))
    else:
        blur_px = 0.0
    return Rest(turn, (drift[0], drift[1]), blur_px, sharp_after_s)


def _next_place(
    rng: np.random.Generator, stops: list[Stop], reach_px: tuple[float, float], hand: Hand
) -> NDArray[np.float64]:
    """A place near, far, or close to an earlier one, inside the reach."""
    fate = float(rng.random())
    if fate < hand.back_share:
        old = stops[int(rng.integers(len(stops)))]
        place = np.array([old.x_px, old.y_px]) + rng.uniform(-1, 1, 2) * hand.back_px
        return np.clip(place, 0, reach_px)
    near = fate < hand.back_share + hand.near_share
    here = np.array([stops[-1].x_px, stops[-1].y_px])
    for _ in range(100):
        angle = float(rng.uniform(0, 2 * np.pi))
        step = float(rng.uniform(*(hand.near_px if near else hand.far_px)))
        place = here + step * np.array([np.cos(angle), np.sin(angle)])
        if (place >= 0).all() and (place <= reach_px).all():
            break
    return np.clip(place, 0, reach_px)


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One gray frame (h, w) uint8 of a film, and the truth about it."""

    at_s: float
    gray: Gray
    pose: Pose
    motion_px: float  # how far the view moved during the exposure

    @property
    def resting(self) -> bool:
        """Whether the flask stood."""
        return self.pose.stop is not None


@dataclass(frozen=True, eq=False)
class Film:
    """A simulated gray video of a pushed flask: cut from a bottom that is rendered in pieces.

    The culture, plastic, light, noise and motion blur are the simulator's; a wrong focus is a
    plain Gaussian blur, and a turn or part of a pixel is linear interpolation.
    """

    flask: Flask
    push: Push
    seed: int = 0
    frames_per_s: float = 25.0

    def __iter__(self) -> Iterator[Shot]:
        """Every frame until the path ends."""
        rng = np.random.default_rng((self.seed, 5))
        for i in range(int(self.push.path.duration_s * self.frames_per_s)):
            yield self.shot(i / self.frames_per_s, rng)

    def shot(self, at_s: float, rng: np.random.Generator) -> Shot:
        """The frame at a time, with the noise of the generator."""
        half_s = self.flask.rig.camera.exposure_ms / 2000
        pose = self.push.pose(at_s)
        before, after = (self.push.pose(at_s + d) for d in (-half_s, half_s))
        way = (after.x_px - before.x_px, after.y_px - before.y_px)
        return Shot(at_s, self.seen(pose, rng, way), pose, float(np.hypot(*way)))

    def seen(
        self,
        pose: Pose,
        rng: np.random.Generator,
        motion_px: tuple[float, float] = (0.0, 0.0),
    ) -> Gray:
        """A gray frame (h, w) of a view that moves so far during its exposure."""
        view: Any = self._cut(pose)
        if np.hypot(*motion_px) >= 0.5:
            view = smear(view, motion_px)
        if pose.blur_px >= 0.3:
            view = cv2.GaussianBlur(view, (0, 0), pose.blur_px)
        lit = cv2.multiply(view, self._lamp, dtype=cv2.CV_8U)
        return np.asarray(cv2.add(lit, self._grain(rng), dtype=cv2.CV_8U), np.uint8)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a frame in pixels."""
        camera = self.flask.rig.camera
        return camera.height_px, camera.width_px

    def _cut(self, pose: Pose) -> Gray:
        """Transmission (h, w) of the view, LEVELS where nothing lies."""
        h, w = self.size
        matrix = pose.to_bottom(self.size)
        corners = np.array([[0, 0, 1], [w, 0, 1], [0, h, 1], [w, h, 1]]) @ matrix.T
        left, top = np.floor(corners.min(0)).astype(int).tolist()
        right, bottom = np.ceil(corners.max(0)).astype(int).tolist()
        sheet = self._sheet(left - 1, top - 1, right + 2, bottom + 2)
        matrix[:, 2] -= (left - 1, top - 1)
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(sheet, matrix, (w, h), flags=how), np.uint8)

    def _sheet(self, left: int, top: int, right: int, bottom: int) -> Gray:
        rows = range(top // PIECE_PX, (bottom - 1) // PIECE_PX + 1)
        columns = range(left // PIECE_PX, (right - 1) // PIECE_PX + 1)
        whole = np.vstack([np.hstack([self._piece(x, y) for x in columns]) for y in rows])
        x0, y0 = left - columns[0] * PIECE_PX, top - rows[0] * PIECE_PX
        return whole[y0 : y0 + bottom - top, x0 : x0 + right - left]

    @cached_property
    def _pieces(self) -> dict[tuple[int, int], Gray]:
        return {}

    def _piece(self, x: int, y: int) -> Gray:
        """One square of the bottom, PIECE_PX wide; rendered when it is first seen."""
        piece = self._pieces.get((x, y))
        if piece is None:
            light = self._square.light((x * PIECE_PX, y * PIECE_PX))
            tinted = np.array(LUMA) * self.flask.traits.light.tint
            gray = light.brightfield @ (LEVELS * tinted / tinted.sum()).astype(np.float32)
            piece = self._pieces[x, y] = np.clip(np.round(gray), 0, 255).astype(np.uint8)
        return piece

    @cached_property
    def _square(self) -> Flask:
        camera = replace(self.flask.rig.camera, width_px=PIECE_PX, height_px=PIECE_PX)
        return replace(
            self.flask, rig=replace(self.flask.rig, camera=camera, dust=0), fluorescence=None
        )

    @cached_property
    def _lamp(self) -> NDArray[np.float32]:
        """Grey levels of an empty frame (h, w), dust on the camera included, over LEVELS."""
        shown = self.flask.light((0, 0)).lamp @ np.array(LUMA, np.float32)
        return np.asarray(shown * (255 / LEVELS), np.float32)

    @cached_property
    def _noise(self) -> NDArray[np.int8]:
        camera: Camera = self.flask.rig.camera
        level = float(self._lamp.mean()) * LEVELS / 255
        # three channels, mixed to one and blurred by the colour mosaic, share the noise
        spread = 255 * 0.6 * float(np.sqrt(level / camera.full_well_e + noise_floor(camera)))
        h, w = self.size
        rng = np.random.default_rng((self.seed, 6))
        sheet = rng.standard_normal((h + 256, w + 256), np.float32)
        return np.round(sheet * spread).clip(-127, 127).astype(np.int8)

    def _grain(self, rng: np.random.Generator) -> NDArray[np.int8]:
        y, x = rng.integers(0, 257, 2).tolist()
        return self._noise[y : y + self.size[0], x : x + self.size[1]]
