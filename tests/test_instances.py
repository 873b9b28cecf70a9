"""Votes for middles become instances: perfect maps give back the cells that they were made from."""

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parfocal.instances import VoteRules, contacts, instances, merged, pieces, renumbered
from parfocal_training.detector.network import STRIDE
from parfocal_training.detector.targets import targets

Labels = NDArray[np.int32]
Float = NDArray[np.float32]
RULES = VoteRules()


def drawn_labels(seed: int, n: int, side: int = 200) -> Labels:
    """Ellipses on a grid, touching their neighbours now and then, but not covering them."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.int32)
    per_row = 5
    for k in range(n):
        at = (np.array([k % per_row, k // per_row]) + 0.5) * side / per_row
        middle = tuple(float(v) for v in at + rng.uniform(-2, 2, 2))
        size = (float(rng.uniform(20, 37)), float(rng.uniform(14, 24)))
        cv2.ellipse(labels, (middle, size, float(rng.uniform(0, 180))), k + 1, -1)
    return labels


def perfect(labels: Labels) -> tuple[Float, Float, Float]:
    """Maps that a faultless network would give."""
    ones = np.ones(labels.shape, np.uint8)
    wanted = targets(labels, ones, ones, ones)
    return (wanted.cell == 1).astype(np.float32), wanted.dy, wanted.dx


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 25))
def test_perfect_maps_give_back_the_cells(seed: int, n: int) -> None:
    labels = drawn_labels(seed, n)
    found = instances(*perfect(labels), RULES)
    half = labels[::STRIDE, ::STRIDE]
    assert ((found > 0) == (half > 0)).all()
    for label in np.unique(half[half > 0]):
        own = found[half == label]
        best = np.bincount(own).argmax()
        union = ((half == label) | (found == best)).sum()
        assert (own == best).sum() / union > 0.9
    assert found.max() == len(np.unique(half[half > 0]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_any_maps_give_whole_numbers_without_gaps_each_in_one_piece(seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = rng.normal(0.5, 0.4, (3, 24, 31)).astype(np.float32)
    found = instances(maps[0].clip(0, 1), maps[1], maps[2], RULES)
    assert found.dtype == np.int32 and found.shape == (24, 31)
    numbers = np.unique(found[found > 0]).tolist()
    assert numbers == list(range(1, len(numbers) + 1))
    assert not found[maps[0].clip(0, 1) <= RULES.cell].any()
    for number in numbers:
        parts = cv2.connectedComponents((found == number).astype(np.uint8), connectivity=8)[0]
        # a scrap may hang on to its cell by a corner only, nothing is farther away
        assert parts == 2


def test_no_cell_is_no_label() -> None:
    nothing = np.zeros((20, 20), np.float32)
    assert not instances(nothing, nothing, nothing, RULES).any()


def test_a_cell_in_two_pieces_becomes_two() -> None:
    labels = np.zeros((9, 20), np.int32)
    labels[:, :5] = labels[:, 10:15] = 7
    assert np.unique(pieces(labels)).tolist() == [0, 1, 2]


def test_a_tip_belongs_to_its_cell_and_an_equal_neighbour_does_not() -> None:
    labels = np.zeros((60, 60), np.int32)
    labels[10:40, 10:40] = 1
    labels[20:24, 40:48] = 2  # a tip
    labels[45:50, 45:50] = 3  # small, but alone
    joined = merged(labels, VoteRules(scrap_px=100, scrap_ratio=4))
    assert joined[22, 44] == joined[20, 20] != joined[47, 47] > 0
    labels[labels == 2] = 0
    labels[20:30, 40:50] = 2  # half as deep as the rule's ratio allows: a small cell
    apart = merged(labels, VoteRules(scrap_px=100, scrap_ratio=20))
    assert len(np.unique(apart)) == 4


def test_contacts_count_shared_edges() -> None:
    labels = np.array([[1, 1, 2], [1, 3, 2], [0, 3, 0]], np.int32)
    pairs, lengths = contacts(labels)
    found = {tuple(pair): n for pair, n in zip(pairs.tolist(), lengths.tolist(), strict=True)}
    assert found == {(1, 2): 1, (2, 1): 1, (1, 3): 2, (3, 1): 2, (2, 3): 1, (3, 2): 1}


def test_renumbering_leaves_no_gap() -> None:
    assert renumbered(np.array([[0, 5], [9, 5]], np.int32)).tolist() == [[0, 1], [2, 1]]
