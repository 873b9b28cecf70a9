"""The pushed flask: rests, moves, overlapping views and the clock."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parfocal.prepare import to_gray
from parfocal.simulator import HEK293A, Camera, Flask, Rig
from parfocal.simulator.push import Path, Stop, TimedFrame, draw_path, frames

SMALL = Rig(camera=Camera(width_px=640, height_px=480, exposure_ms=20))
PUSHED = Flask(((HEK293A, 1.0),), 150, 9, rig=SMALL)


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def run(path: Path, interval_s: float) -> list[TimedFrame]:
    clock = Clock()
    return list(frames(PUSHED, path, clock, clock.sleep, np.random.default_rng(0), interval_s))


PATH = Path((Stop(0, 0.5, 0, 0), Stop(0.9, 1.4, 210, 130)))


def test_frames_come_at_the_clock_s_times_until_the_path_ends() -> None:
    clock = Clock()
    seen = list(frames(PUSHED, PATH, clock, clock.sleep, np.random.default_rng(0), 0.2))
    assert [f.acquired_s for f in seen] == pytest.approx(100 + 0.2 * np.arange(len(seen)))
    assert len(seen) in (7, 8)
    assert seen[0].corner_px == (0, 0) and seen[-1].corner_px == (210, 130)


def test_two_frames_of_one_rest_are_the_same_up_to_noise() -> None:
    light = PUSHED.light((0, 0))
    rng = np.random.default_rng(4)
    a, b = (to_gray(PUSHED.exposed(light, rng).rgb).astype(float) for _ in range(2))
    gap = a - b
    assert 0.2 < gap.std() < 6
    assert abs(gap.mean()) < 0.1
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.8


def test_overlapping_views_are_registered_by_the_truth() -> None:
    rng = np.random.default_rng(1)
    a, b = (PUSHED.view(corner, rng) for corner in ((0, 0), (210, 130)))
    first = {c.key: c for c in a.truth.cells if c.whole}
    both = [(first[c.key], c) for c in b.truth.cells if c.whole and c.key in first]
    assert len(both) >= 3
    for one, other in both:
        assert (one.x_px - other.x_px, one.y_px - other.y_px) == pytest.approx((210, 130))
        assert (one.type, one.phenotype, one.area_um2) == (
            other.type,
            other.phenotype,
            other.area_um2,
        )
    # light and optics stay in the frame: compare transmission, not levels
    still = [PUSHED.light(corner).brightfield[..., 1] for corner in ((0, 0), (210, 130))]
    gap = still[0][130:, 210:] - still[1][:-130, :-210]
    assert np.abs(gap[40:-40, 40:-40]).mean() < 0.002


def test_a_move_blurs_along_its_way() -> None:
    light = PUSHED.light((0, 0))
    still, moved = (
        to_gray(PUSHED.exposed(light, np.random.default_rng(2), motion).rgb).astype(float)
        for motion in ((0.0, 0.0), (14.0, 0.0))
    )

    def edges(image: NDArray[np.float64], axis: int) -> float:
        soft = (image + np.roll(image, 1, 1 - axis) + np.roll(image, 2, 1 - axis)) / 3
        return float(np.abs(np.diff(soft, axis=axis)).std())

    assert edges(moved, 1) / edges(still, 1) < edges(moved, 0) / edges(still, 0)


def test_a_moving_frame_says_how_far_it_moved() -> None:
    seen = run(PATH, 0.1)
    motions = [float(np.hypot(*f.motion_px)) for f in seen]
    assert motions[0] == 0 and motions[-1] == 0
    assert max(motions) > 5


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.floats(-1, 40))
def test_a_path_is_continuous_rests_at_its_stops_and_ends(seed: int, n: int, t_s: float) -> None:
    path = draw_path(np.random.default_rng(seed), n)
    assert len(path.stops) == n
    for stop in path.stops:
        middle = (stop.arrive_s + stop.leave_s) / 2
        assert path.position_px(middle) == (stop.x_px, stop.y_px)
        assert path.motion_px(middle, 0.02) == (0, 0)
    assert np.hypot(*path.motion_px(t_s, 0.001)) < 1500 * 1.5 * 0.001 + 1e-6
    assert path.position_px(path.duration_s + 5) == (path.stops[-1].x_px, path.stops[-1].y_px)
