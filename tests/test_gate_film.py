"""The simulated video of a pushed flask, its truth, and the gate on a few seconds of it."""

from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parfocal.gate import GateReason, RestGate
from parfocal.prepare import to_gray
from parfocal.simulator import HEK293A, Camera, Flask, Rig
from parfocal.simulator.push import Film, Hand, Path, Pose, Push, Rest, Stop, draw_push

SMALL = Rig(camera=Camera(width_px=640, height_px=480))
FLASK = Flask(((HEK293A, 1.0),), 200, 9, rig=SMALL)
STEADY = Rest(0.0, (2.0, -1.0), 0.0, 0.0)


@cache
def film() -> Film:
    """Two rests half a second's push apart, all within a few pieces of the bottom."""
    cv2.setNumThreads(1)
    path = Path((Stop(0, 1.0, 40, 40), Stop(1.4, 2.4, 380, 130)))
    return Film(FLASK, Push(path, (STEADY, STEADY), Hand()), seed=3)


def test_a_film_shows_what_the_flask_shows() -> None:
    shown = film().seen(Pose(40, 40, 0.0, 0.0, 0), np.random.default_rng(0))
    view = to_gray(FLASK.view((40, 40), np.random.default_rng(1)).rgb)
    smooth = [cv2.GaussianBlur(one, (0, 0), 1.5).astype(float) for one in (shown, view)]
    assert np.corrcoef(smooth[0].ravel(), smooth[1].ravel())[0, 1] > 0.97
    assert float(shown.mean()) == pytest.approx(float(view.mean()), rel=0.02)
    assert float((shown - smooth[0]).std()) == pytest.approx(
        float((view - smooth[1]).std()), rel=0.35
    )


def test_a_pose_says_which_point_of_the_bottom_a_pixel_sees() -> None:
    rng = np.random.default_rng(2)
    turned, straight = Pose(60, 70, 0.05, 0.0, 0), Pose(60, 70, 0.0, 0.0, 0)
    one, other = (film().seen(pose, rng) for pose in (turned, straight))
    first, second = (
        np.vstack([pose.to_bottom((480, 640)), [0, 0, 1]]) for pose in (turned, straight)
    )
    to_other = (np.linalg.inv(second) @ first)[:2]
    back = cv2.warpAffine(other, to_other, (640, 480), flags=cv2.WARP_INVERSE_MAP)
    middle = (slice(60, 420), slice(60, 580))
    smooth = [cv2.GaussianBlur(image[middle], (0, 0), 2).astype(float) for image in (one, back)]
    assert np.corrcoef(smooth[0].ravel(), smooth[1].ravel())[0, 1] > 0.95


def test_the_gate_takes_one_sharp_frame_of_each_rest_and_knows_their_overlap() -> None:
    gate, taken, on_the_way = RestGate(), [], set()
    for shot in film():
        decision = gate(shot.gray, shot.at_s)
        if decision.take:
            assert shot.resting
            taken.append((shot, decision))
        if shot.motion_px > 3 and shot.at_s > 0:
            on_the_way.add(decision.reason)
    assert [shot.pose.stop for shot, _ in taken] == [0, 1]
    assert on_the_way == {GateReason.MOVING}
    (first, _), (second, decision) = taken
    (overlap,) = decision.overlaps
    way = (second.pose.x_px - first.pose.x_px, second.pose.y_px - first.pose.y_px)
    assert overlap.field == 1 and overlap.offset_px == pytest.approx(way, abs=4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 40))
def test_a_push_lasts_long_enough_stays_in_reach_and_never_jumps(seed: int, t_s: float) -> None:
    push = draw_push(np.random.default_rng(seed), 40, (5000, 4000))
    stops = push.path.stops
    assert len(stops) == len(push.rests) and push.path.duration_s >= 40
    assert all(0 <= stop.x_px <= 5000 and 0 <= stop.y_px <= 4000 for stop in stops)
    before, after = push.pose(t_s), push.pose(t_s + 1e-4)
    assert np.hypot(after.x_px - before.x_px, after.y_px - before.y_px) < 6
    assert abs(after.turn_rad) <= np.deg2rad(4) + 1e-9
    resting = [k for k, stop in enumerate(stops) if stop.arrive_s <= t_s <= stop.leave_s]
    assert ([] if before.stop is None else [before.stop]) == resting[-1:]


def test_the_hand_settles_and_the_person_refocuses() -> None:
    refocused = Rest(0.0, (0.0, 0.0), 6.0, 0.5)
    push = Push(Path((Stop(0, 3, 100, 100),)), (refocused,), Hand())
    assert push.pose(0.0).blur_px == 6 and push.pose(0.25).blur_px == pytest.approx(3)
    assert push.pose(0.5).blur_px == 0
    swings = [abs(push.pose(t).x_px - 100) for t in np.linspace(0, 0.1, 20)]
    assert max(swings) > 1 and abs(push.pose(1.0).x_px - 100) < 0.3
