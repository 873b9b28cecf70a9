"""Where fields lie on each other, and that no point of the bottom is counted twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parfocal.gate.atlas import Atlas
from parfocal.gate.places import Overlap, already_counted, covered, inside, shared, turned

SIZE = (480, 640)
offsets = st.tuples(st.floats(-900, 900), st.floats(-900, 900))
turns = st.floats(-0.12, 0.12)
places = st.lists(st.tuples(st.floats(0, 900), st.floats(0, 900), turns), min_size=1, max_size=5)
Place = tuple[float, float, float]


def overlap(offset: tuple[float, float], turn: float, field: int = 1) -> Overlap:
    return Overlap(field, offset, turn, shared(offset, turn, SIZE), 1.0)


def between(now: Place, earlier: Place, field: int) -> Overlap:
    """The true overlap of two views whose corner and turn on the bottom are given."""
    turn = now[2] - earlier[2]
    offset = (np.array(now[:2]) - earlier[:2]) @ turned(earlier[2])
    return overlap((float(offset[0]), float(offset[1])), turn, field)


@given(offsets, turns, st.integers(0, 2**32 - 1))
def test_a_point_comes_back_from_the_earlier_field(
    offset: tuple[float, float], turn: float, seed: int
) -> None:
    points = np.random.default_rng(seed).uniform(-100, 800, (20, 2))
    one = overlap(offset, turn)
    assert one.to_frame(one.to_earlier(points)) == pytest.approx(points, abs=1e-6)


@given(offsets)
def test_without_a_turn_the_shared_area_is_a_rectangle(offset: tuple[float, float]) -> None:
    h, w = SIZE
    expected = max(w - abs(offset[0]), 0) * max(h - abs(offset[1]), 0) / (w * h)
    assert shared(offset, 0.0, SIZE) == pytest.approx(expected, abs=1e-4)


@settings(deadline=None)
@given(st.lists(st.tuples(offsets, turns), min_size=1, max_size=4))
def test_together_fields_cover_at_least_the_largest_and_at_most_the_sum(
    pairs: list[tuple[tuple[float, float], float]],
) -> None:
    overlaps = [overlap(offset, turn, k) for k, (offset, turn) in enumerate(pairs, 1)]
    shares = [one.share for one in overlaps]
    assert max(shares) - 0.03 <= covered(overlaps, SIZE) <= sum(shares) + 0.03


@settings(deadline=None)
@given(places, st.floats(0, 120), st.integers(0, 2**32 - 1))
def test_every_point_of_the_bottom_is_counted_once(
    fields: list[Place], margin: float, seed: int
) -> None:
    bottom = np.random.default_rng(seed).uniform(-100, 1700, (300, 2))
    times, countable = np.zeros(300, int), np.zeros(300, bool)
    for k, now in enumerate(fields):
        points = (bottom - np.array(now[:2])) @ turned(now[2])
        here = inside(points, SIZE, margin)
        overlaps = [between(now, earlier, j) for j, earlier in enumerate(fields[:k], 1)]
        times += here & ~already_counted(points, overlaps, SIZE, margin)
        countable |= here
    assert (times == countable).all()


@given(offsets, turns, st.floats(0, 100), st.floats(0, 100))
def test_a_wider_border_leaves_less_counted(
    offset: tuple[float, float], turn: float, one_px: float, other_px: float
) -> None:
    y, x = np.mgrid[0:480:40, 0:640:40]
    points = np.column_stack([x.ravel(), y.ravel()]).astype(float)
    overlaps = [overlap(offset, turn)]
    wide, narrow = (
        already_counted(points, overlaps, SIZE, px)
        for px in (max(one_px, other_px), min(one_px, other_px))
    )
    assert not (wide & ~narrow).any()


def test_without_earlier_fields_nothing_was_counted() -> None:
    assert not already_counted(np.zeros((3, 2)), [], SIZE).any()
    assert covered([], SIZE) == 0


@settings(deadline=None)
@given(places, st.integers(0, 2**32 - 1))
def test_an_atlas_tells_every_overlap_that_follows_from_those_found(
    fields: list[Place], seed: int
) -> None:
    rng, atlas = np.random.default_rng(seed), Atlas()
    for k, now in enumerate(fields):
        true = {j: between(now, earlier, j) for j, earlier in enumerate(fields[:k], 1)}
        found = [one for one in true.values() if one.share > 0 and rng.random() < 0.7]
        told = atlas.completed(found, SIZE)
        sheets = {atlas.sheets[one.field - 1] for one in found}
        follow = {j for j, o in true.items() if o.share > 0.01 and atlas.sheets[j - 1] in sheets}
        assert follow <= {one.field for one in told} <= {j for j, o in true.items() if o.share > 0}
        for one in told:
            expected = true[one.field]
            assert one.offset_px == pytest.approx(expected.offset_px, abs=1e-3)
            assert one.turn_rad == pytest.approx(expected.turn_rad, abs=1e-6)
        assert [one.share for one in told] == sorted((one.share for one in told), reverse=True)
        atlas.add(told)


def test_a_corner_on_an_edge_is_no_trouble() -> None:
    just_turned = shared((1.0, 1e-38), 0.0625, (480, 640))
    assert just_turned == pytest.approx(shared((1.0, 0.01), 0.0625, (480, 640)), abs=1e-3)
    assert just_turned < 0.95
