"""A flask pushed by hand over the stage: rests, quick moves, and the frames seen on the way.

Time comes from the clock that is given, so a test lives through a minute in no time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from parfocal.simulator.flask import Flask, Light, SimulatedFrame


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
