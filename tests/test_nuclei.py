"""Nuclei in fluorescence frames, and the displacement of the two channels."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parfocal.detectors import choose, started
from parfocal.prepare import to_gray
from parfocal.simulator.designs import planned
from parfocal.simulator.parameters import Fluorescence
from parfocal.types import Finds
from parfocal_training.mixed.nuclei import Nuclei, find_nuclei, one_channel
from parfocal_training.mixed.registration import agreed_shifts, laid_over, own_shift

UM = 0.44
TRUE_SHIFT_PX = Fluorescence("HT1080").shift_px
Gray = NDArray[np.uint8]
Float = NDArray[np.float32]


class Pair(SimpleNamespace):
    """One simulated pair of frames with nuclei (n, 2) where they truly are, and what is found."""

    bright: Gray
    glow: Gray
    true_px: NDArray[np.float64]
    nuclei: Nuclei
    finds: Finds


@pytest.fixture(scope="module")
def pair() -> Pair:
    (one,) = planned("mixed", 1, 80.0, None, 11)
    drawn = one.flask.field(0)
    assert drawn.fluorescence is not None
    shining = [c for c in drawn.truth.cells if c.type == "HT1080" and c.state != "floating"]
    at = np.array([(c.nucleus_x_px, c.nucleus_y_px) for c in shining]) + TRUE_SHIFT_PX
    h, w = drawn.fluorescence.shape
    inside = ((at >= 0) & (at < (w, h))).all(1)
    bright = to_gray(drawn.rgb)
    return Pair(
        bright=bright,
        glow=drawn.fluorescence,
        true_px=at[inside],
        nuclei=find_nuclei(drawn.fluorescence, UM),
        finds=started(choose("auto"))(bright, UM),
    )


def test_simulated_nuclei_are_found_where_they_are(pair: Pair) -> None:
    apart = np.hypot(*(pair.true_px[:, None] - pair.nuclei.centres_px[None]).transpose(2, 0, 1))
    assert len(pair.true_px) >= 8
    assert (apart.min(1) < 4 / UM).mean() >= 0.9  # recall
    assert (apart.min(0) < 4 / UM).mean() >= 0.9  # precision
    assert np.median(apart.min(1)) < 0.5


def test_the_shift_of_the_simulated_channel_is_found_to_a_micrometre(pair: Pair) -> None:
    own = own_shift(pair.nuclei, pair.finds, pair.bright.shape, UM, 30)
    assert own is not None
    assert np.hypot(*np.subtract(own, TRUE_SHIFT_PX)) * UM < 1.5


@pytest.mark.parametrize("moved_px", [(18, -13), (-21, 6)])
def test_a_displaced_frame_moves_its_shift(pair: Pair, moved_px: tuple[int, int]) -> None:
    before = own_shift(pair.nuclei, pair.finds, pair.bright.shape, UM, 30)
    rolled = find_nuclei(np.roll(pair.glow, moved_px[::-1], (0, 1)), UM)
    after = own_shift(rolled, pair.finds, pair.bright.shape, UM, 30)
    assert before is not None
    assert after is not None
    assert np.abs(np.subtract(after, before) - moved_px).max() < 1.5


def test_a_shift_beyond_the_search_is_not_made_up(pair: Pair) -> None:
    far = find_nuclei(np.roll(pair.glow, 24, 1), UM)
    assert own_shift(far, pair.finds, pair.bright.shape, UM, 10) is None


def test_a_binned_frame_shows_the_same_nuclei(pair: Pair) -> None:
    h, w = pair.glow.shape
    binned = cv2.resize(pair.glow, (w // 2, h // 2), interpolation=cv2.INTER_AREA)
    found = find_nuclei(np.asarray(binned, np.uint8), 2 * UM)
    assert abs(len(found) - len(pair.nuclei)) <= 1
    assert np.median(found.area_um2) == pytest.approx(np.median(pair.nuclei.area_um2), rel=0.15)
    own = own_shift(found, pair.finds, pair.bright.shape, UM, 30)
    full = own_shift(pair.nuclei, pair.finds, pair.bright.shape, UM, 30)
    assert own == pytest.approx(full, abs=1.0)


def field(bits: int = 8, seed: int = 3) -> Float:
    """A vignetted frame of noise, 300 x 400."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:300j, -1:1:400j]
    top = 2**bits / 256
    lamp = 12 * top * (1 - 0.3 * (x**2 + y**2) / 2)
    return np.asarray(lamp + rng.normal(0, 1.5 * top, x.shape), np.float32)


def ellipse(
    at: tuple[float, float], half_um: tuple[float, float], light: float = 90, blur_um: float = 0.9
) -> Float:
    """Light of one blurred patch."""
    patch = np.zeros((300, 400), np.float32)
    axes = [round(16 * h / UM) for h in half_um]
    centre = [round(16 * c) for c in at]
    cv2.ellipse(patch, centre, axes, 25, 0, 360, light, -1, cv2.LINE_8, 4)
    return np.asarray(cv2.GaussianBlur(patch, (0, 0), blur_um / UM), np.float32)


def exposed(frame: NDArray[np.float32]) -> Gray:
    return np.asarray(np.clip(frame, 0, 255), np.uint8)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bits", [8, 16])
def test_a_frame_without_nuclei_yields_none(bits: int, seed: int) -> None:
    frame = field(bits, seed).clip(0)
    found = find_nuclei(frame.astype(np.uint8) if bits == 8 else frame.astype(np.uint16), UM)
    assert len(found) == sum(found.rejected.values()) == 0
    assert not found.doubtful.any()


def test_an_empty_frame_yields_none() -> None:
    assert len(find_nuclei(np.zeros((60, 80), np.uint8), UM)) == 0


@settings(max_examples=8, deadline=None)
@given(long_um=st.floats(5, 13), ratio=st.floats(0.55, 1), light=st.floats(15, 200))
def test_one_nucleus_is_one_nucleus_of_its_size(long_um: float, ratio: float, light: float) -> None:
    half = (long_um, long_um * ratio)
    found = find_nuclei(exposed(field() + ellipse((200, 150), half, light)), UM)
    assert len(found) == 1
    assert found.area_um2[0] == pytest.approx(np.pi * half[0] * half[1], rel=0.25)
    assert found.centres_px[0] == pytest.approx((200, 150), abs=1)


@settings(max_examples=8, deadline=None)
@given(radius_um=st.floats(6, 9), apart=st.floats(1.8, 2.4), turn=st.floats(0, np.pi))
def test_touching_nuclei_are_parted(radius_um: float, apart: float, turn: float) -> None:
    reach = apart * radius_um / UM / 2
    layers = [
        ellipse(
            (200 + sign * reach * np.cos(turn), 150 + sign * reach * np.sin(turn)),
            (radius_um, radius_um),
            light=60 + 30 * sign,
        )
        for sign in (-1, 1)
    ]
    assert len(find_nuclei(exposed(field() + np.maximum(*layers)), UM)) == 2


def test_light_that_is_no_nucleus_is_counted_under_its_reason() -> None:
    frame = field() + ellipse((60, 60), (7, 6))  # a nucleus
    frame += ellipse((320, 70), (9, 9), light=120, blur_um=6)  # out of focus
    frame += ellipse((80, 230), (25, 20))  # a piece of dirt
    frame[150, 200] = 255  # a hot pixel
    cv2.polylines(frame, [np.array([[230, 200], [300, 210], [330, 270]])], False, 200.0, 6)
    found = find_nuclei(exposed(frame), UM)
    assert len(found) == 1
    assert found.rejected == {"diffuse": 1, "large": 1, "small": 1, "irregular": 1}
    assert found.doubtful[70, 320]
    assert found.doubtful[230, 80]
    assert not found.doubtful[150, 200]


def test_light_between_noise_and_nuclei_is_doubtful() -> None:
    frame = field() + sum(ellipse((x, 80), (8, 7), light=220) for x in (60, 200, 340))
    found = find_nuclei(exposed(frame + ellipse((200, 220), (8, 7), light=6)), UM)
    assert len(found) + found.rejected["faint"] == 4
    assert found.doubtful[220, 200] or found.labels[220, 200]


def test_a_colour_camera_counts_the_channel_with_the_light() -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[1, 2, 0] = 90
    assert one_channel(pixels)[1, 2] == 90


def test_a_label_image_is_laid_over_with_its_shift() -> None:
    image = np.zeros((100, 120), np.int32)
    image[40:60, 50:70] = 7
    over = laid_over(image, (50, 60), (200, 240), (8.0, -4.0))
    y, x = np.nonzero(over == 7)
    assert (x.mean(), y.mean()) == pytest.approx((59.5 / 2 - 2.25, 49.5 / 2 + 0.75), abs=0.3)


def test_a_frame_that_strays_or_has_no_estimate_takes_the_median() -> None:
    own = [(1.0, -1.0), (2.0, -1.0), (3.0, -1.0), (25.0, 9.0), None]
    shifts = agreed_shifts(own, [UM] * 5)
    assert [shift.origin for shift in shifts] == ["own"] * 3 + ["median"] * 2
    assert shifts[3].used_px == shifts[4].used_px == pytest.approx((2.5, -1.0))
    assert {shift.origin for shift in agreed_shifts([None, None], [UM] * 2)} == {"none"}
