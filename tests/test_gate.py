"""The gate on a drawn bottom that is pushed about: what it takes, what it refuses, and why."""

from collections.abc import Callable, Iterator
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from parfocal.gate import (
    Decision,
    GateReason,
    GateSettings,
    RestGate,
    already_counted,
)
from parfocal.reasons import SENTENCES

H, W = 480, 640
Gray = NDArray[np.uint8]
Change = Callable[[Gray], Gray]


@cache
def bottom() -> NDArray[np.float32]:
    """A drawn bottom (3000, 3600) of textured ellipses, each with a dark rim; 1 is bare."""
    rng = np.random.default_rng(3)
    drawn = np.ones((3000, 3600), np.float32)
    grain = cv2.GaussianBlur(rng.normal(0, 1, drawn.shape).astype(np.float32), (0, 0), 3)
    cells = np.zeros(drawn.shape, np.uint8)
    for _ in range(900):
        at = (int(rng.integers(drawn.shape[1])), int(rng.integers(drawn.shape[0])))
        size = (int(rng.integers(24, 50)), int(rng.integers(12, 26)))
        turn = float(rng.uniform(0, 180))
        cv2.ellipse(cells, at, size, turn, 0, 360, 255, -1)
        cv2.ellipse(drawn, at, size, turn, 0, 360, 0.75, 5)
    drawn += np.where(cells > 0, 1.5 * grain, 0.03 * grain).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(drawn, (0, 0), 1.2), np.float32)


def seen(
    x: float, y: float, k: int = 0, turn_deg: float = 0.0, blur_px: float = 0.0, level: float = 110
) -> Gray:
    """The frame at a corner of the bottom, under an uneven lamp, with the k-th noise."""
    turn = cv2.getRotationMatrix2D((W / 2, H / 2), turn_deg, 1.0)
    # getRotationMatrix2D turns the picture; the view reads the bottom from its own corner
    turn[:, 2] += np.array([x, y])
    view = cv2.warpAffine(bottom(), turn, (W, H), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    if blur_px:
        view = cv2.GaussianBlur(view, (0, 0), blur_px)
    y, x = np.random.default_rng(k).integers(0, 200, 2)
    light = cv2.multiply(view, level * lamp()) + noise()[y : y + H, x : x + W]
    return np.clip(np.round(light), 0, 255).astype(np.uint8)


@cache
def lamp() -> NDArray[np.float32]:
    v, u = np.mgrid[-1 : 1 : H * 1j, -1 : 1 : W * 1j]
    return np.asarray(1 + 0.15 * u - 0.1 * v - 0.08 * (u * u + v * v), np.float32)


@cache
def noise() -> NDArray[np.float32]:
    return np.random.default_rng(4).normal(0, 2, (H + 200, W + 200)).astype(np.float32)


class Stage:
    """A gate and the clock of its camera, at 25 frames a second."""

    def __init__(self, gate: RestGate | None = None) -> None:
        self.gate, self.k = gate or RestGate(), 0

    def show(self, gray: Gray) -> Decision:
        self.k += 1
        return self.gate(gray, self.k / 25)

    def rest(
        self, x: float, y: float, frames: int = 14, change: Change | None = None, **how: float
    ) -> list[Decision]:
        """Decisions of a rest at a place."""
        views = (seen(x, y, self.k, **how) for _ in range(frames))
        return [self.show(change(view) if change else view) for view in views]

    def travel(self, x: float, y: float, to_x: float, to_y: float) -> list[Decision]:
        """Decisions on the way: six frames."""
        steps = np.linspace(0.1, 0.9, 6)
        return [
            self.show(seen(x + s * (to_x - x), y + s * (to_y - y), self.k, blur_px=1.5))
            for s in steps
        ]


def taken(decisions: list[Decision]) -> list[Decision]:
    return [one for one in decisions if one.take]


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A stage after three good fields, as a reference."""
    cv2.setNumThreads(1)
    made = Stage()
    for x in (100, 900, 1700):
        assert len(taken(made.rest(x, 100))) == 1
    yield made


def test_each_rest_gives_one_frame_and_a_move_none() -> None:
    stage, places = Stage(), [(100, 100), (1000, 150), (1900, 300)]
    for number, (x, y) in enumerate(places, 1):
        decisions = stage.rest(x, y)
        fields = taken(decisions)
        assert [one.field for one in fields] == [number]
        assert decisions[0].reason in (GateReason.SETTLING, GateReason.MOVING)
        after = decisions[decisions.index(fields[0]) + 1 :]
        assert {(one.reason, one.field) for one in after} == {(GateReason.ALREADY_SEEN, number)}
        assert {one.reason for one in stage.travel(x, y, x + 800, y)} == {GateReason.MOVING}
    assert stage.gate.state.fields == 3


def test_speed_is_told_while_it_moves_and_at_rest() -> None:
    stage = Stage()
    stage.rest(200, 200, 3)
    for x in (206, 212, 218):
        last = stage.show(seen(x, 200, stage.k))
    assert last.reason is GateReason.MOVING
    assert last.motion_px_s == pytest.approx(150, rel=0.25)
    assert stage.rest(218, 200, 3)[-1].motion_px_s < 20


@pytest.mark.parametrize("turn_deg", [0.0, 2.0, -2.0])
def test_a_place_that_was_taken_is_known_when_it_comes_back(stage: Stage, turn_deg: float) -> None:
    decisions = stage.rest(930, 140, turn_deg=turn_deg)
    assert not taken(decisions)
    last = decisions[-1]
    assert (last.reason, last.field) == (GateReason.ALREADY_SEEN, 2)
    assert last.overlap > 0.8


def test_points_in_a_smaller_overlap_are_counted_once(stage: Stage) -> None:
    x, y = 1700 - 400, 100 + 250
    (one,) = taken(stage.rest(x, y))
    true = {2: (x - 900, y - 100), 3: (x - 1700, y - 100)}
    assert {o.field for o in one.overlaps} == {2, 3}
    for o in one.overlaps:
        assert o.offset_px == pytest.approx(true[o.field], abs=3)
        assert abs(np.rad2deg(o.turn_rad)) < 0.5
    points = np.random.default_rng(0).uniform((0, 0), (W, H), (500, 2))
    margin = 40.0
    known = already_counted(points, one.overlaps, (H, W), margin)
    again = np.zeros(len(points), bool)
    for dx, dy in true.values():
        at = points + np.array([dx, dy])
        again |= ((at >= margin) & (at < np.array([W, H]) - margin)).all(1)
    assert again.any() and not again.all()
    assert (known != again).mean() < 0.02


def test_neighbours_that_share_nothing_are_no_overlap(stage: Stage) -> None:
    (one,) = taken(stage.rest(1300, 1500))
    assert one.overlaps == () and one.overlap == 0


def test_the_place_of_a_field_that_was_lost_is_taken_again(stage: Stage) -> None:
    stage.gate.lost(2)
    (again,) = taken(stage.rest(930, 140))
    assert again.field == 4 and again.overlaps == () and again.overlap == 0
    assert stage.rest(900, 100)[-1].field == 4
    (beside,) = taken(stage.rest(1300, 350))
    assert {one.field for one in beside.overlaps} == {3, 4}


def specked(gray: Gray) -> Gray:
    """With dust on the camera, stronger than the little that is seen of the bottom."""
    rng = np.random.default_rng(6)
    dirty, flat = np.ones((H, W), np.float32), 0.4 * (gray - float(gray.mean()))
    for _ in range(25):
        at = (int(rng.integers(W)), int(rng.integers(H)))
        cv2.circle(dirty, at, int(rng.integers(6, 14)), 0.7, -1)
    grain = np.random.default_rng(int(gray[0, :40].sum())).normal(0, 1, (H, W))
    return np.clip((110 + flat) * dirty + grain, 0, 255).astype(np.uint8)


def test_dust_on_the_camera_does_not_make_two_places_one() -> None:
    stage = Stage()
    for k in range(110):
        stage.show(specked(seen(100 + 12 * k, 100 + 8 * k, k)))
    first = stage.rest(300, 300, change=specked)
    for k in range(4):
        stage.show(specked(seen(600 + 200 * k, 900, k)))
    second = stage.rest(1800, 1600, change=specked)
    assert [one.field for one in taken(first) + taken(second)] == [1, 2]


def inverse_gamma(gray: Gray) -> Gray:
    levels = np.round(255 * (np.arange(256) / 255) ** (1 / 2.2)).astype(np.uint8)
    return np.asarray(levels[gray], np.uint8)


def bubble(gray: Gray) -> Gray:
    v, u = np.mgrid[0:H, 0:W].astype(np.float32)
    r = np.hypot(u - 300, v - 200) / 150
    return np.asarray(gray * (1 - 0.8 * np.exp(-(((r - 1) / 0.2) ** 2))), np.uint8)


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        (GateReason.DARK, lambda gray: (gray * 0.05).astype(np.uint8)),
        (GateReason.DARK, lambda gray: np.zeros_like(gray)),
        (GateReason.OVEREXPOSED, lambda gray: np.clip(gray * 2.6, 0, 255).astype(np.uint8)),
        (GateReason.OUT_OF_FOCUS, lambda gray: cv2.GaussianBlur(gray, (0, 0), 6)),
        (GateReason.CHANGED_GAMMA, inverse_gamma),
        (GateReason.BUBBLE_OR_MENISCUS, bubble),
    ],
)
def test_a_fault_is_called_by_its_name_and_passes(
    stage: Stage, reason: GateReason, change: Change
) -> None:
    decisions = stage.rest(300, 900, change=change)
    assert not taken(decisions)
    assert decisions[-1].reason is reason
    assert len(taken(stage.rest(300, 900, 20))) == 1


def test_a_noisy_frame_of_nothing_is_not_taken(stage: Stage) -> None:
    def nothing(gray: Gray) -> Gray:
        noise = np.random.default_rng(stage.k).normal(110, 3, gray.shape)
        return noise.astype(np.uint8)

    decisions = stage.rest(0, 0, change=nothing)
    assert {one.reason for one in decisions} == {GateReason.OUT_OF_FOCUS}


def test_another_magnification_is_told(stage: Stage) -> None:
    def larger(gray: Gray) -> Gray:
        middle = gray[H // 4 : 3 * H // 4, W // 4 : 3 * W // 4]
        # optics of a stronger objective are as sharp in pixels
        big = cv2.resize(middle, (W, H), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        sharp = 2.5 * big - 1.5 * cv2.GaussianBlur(big, (0, 0), 3)
        noise = np.random.default_rng(stage.k).normal(0, 2, (H, W))
        return np.clip(sharp + noise, 0, 255).astype(np.uint8)

    settings = GateSettings(bent_light=0.6, gamma_ratio=5, least_focus=0.05, focus_share=0)
    stage.gate.settings = settings
    decisions = stage.rest(500, 1500, change=larger)
    assert decisions[-1].reason is GateReason.WRONG_OBJECTIVE


def test_a_dimmed_lamp_is_no_fault(stage: Stage) -> None:
    assert len(taken(stage.rest(300, 900, level=65))) == 1


def test_a_camera_that_hangs_is_told_and_one_repeat_is_not(stage: Stage) -> None:
    still = seen(300, 1500, 1)
    reasons = [stage.show(still).reason for _ in range(20)]
    assert reasons[-1] is GateReason.FROZEN
    assert GateReason.FROZEN not in reasons[:10]
    assert len(taken(stage.rest(300, 1500))) == 1
    repeated = seen(2600, 1500, 3)
    assert stage.show(repeated).take is stage.show(repeated).take is False
    assert len(taken(stage.rest(2600, 1500))) == 1


def test_it_waits_for_the_focus(stage: Stage) -> None:
    blurs = np.concatenate([np.full(12, 6.0), np.linspace(6, 0, 12), np.zeros(14)])
    decisions = [stage.show(seen(300, 900, stage.k, blur_px=float(b))) for b in blurs]
    first = next(k for k, one in enumerate(decisions) if one.take)
    assert blurs[first] == 0
    assert decisions[11].reason is GateReason.OUT_OF_FOCUS
    assert decisions[first].focus > 0.9 * max(one.focus for one in decisions)


def test_a_slow_slide_is_not_one_endless_rest() -> None:
    stage = Stage()
    decisions = [stage.show(seen(100 + 1.3 * k, 900, k)) for k in range(270)]
    fields = taken(decisions)
    assert len(fields) == 2
    assert fields[1].overlap < 0.5
    assert all(one.overlap > 0.5 for one in decisions[20:] if one.reason == "already_seen")


def test_a_gap_in_time_is_no_rest(stage: Stage) -> None:
    first = stage.gate(seen(300, 900, 1), 100.0)
    second = stage.gate(seen(300, 900, 2), 200.0)
    assert not first.take and not second.take


@pytest.mark.parametrize(
    ("gray", "says"),
    [
        (np.zeros((H, W, 3), np.uint8), "gray"),
        (np.zeros((H, W), np.uint16), "uint8"),
        (np.zeros((100, 100), np.uint8), "256"),
        (np.zeros((600, 800), np.uint8), "new gate"),
    ],
)
def test_a_frame_it_cannot_judge_is_an_error(stage: Stage, gray: Gray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        stage.show(gray)


def test_time_never_goes_back(stage: Stage) -> None:
    with pytest.raises(ValueError, match="after one of"):
        stage.gate(seen(0, 0), 0.0)


def test_codes_are_stable_and_each_has_one_sentence() -> None:
    assert set(GateReason) == {
        "moving", "settling", "out_of_focus", "frozen", "dark", "overexposed", "wrong_objective",
        "changed_gamma", "bubble_or_meniscus", "already_seen",
    }  # fmt: skip
    for sentence in (SENTENCES[reason] for reason in GateReason):
        assert sentence == sentence.strip() and "\n" not in sentence and len(sentence) < 110


def test_the_places_that_are_compared_are_bounded_and_the_newest_are_known() -> None:
    stage = Stage(RestGate(GateSettings(most_fields=2)))
    for x in (100, 900, 1700):
        assert len(taken(stage.rest(x, 100))) == 1
    assert [one is None for one in stage.gate.fields] == [True, False, False]
    assert stage.rest(930, 140)[-1].field == 2
    (again,) = taken(stage.rest(100, 100))
    assert again.field == 4
