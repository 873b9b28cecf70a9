"""How far a cell's activations lie from those of the training, and what that notices."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from parfocal.calibrate import NoveltyScore
from parfocal_training.novelty import copies_of, surrounding

Floats = NDArray[np.float64]
CELLS, COPIES, D, SHAPES = 800, 2, 40, 3


@pytest.fixture(scope="module")
def score() -> NoveltyScore:
    """Two classes whose cells differ in three directions, and in nothing else beside their copies.

    Copies spread three times as wide in five other directions, as brightness or noise may do.
    """
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], CELLS // 2)
    cells = np.zeros((CELLS, D))
    cells[:, :SHAPES] = rng.normal(0, 2, (CELLS, SHAPES))
    cells[labels == 1, SHAPES] = 6  # what tells the classes apart
    views = cells[:, None] + rng.normal(0, 1, (CELLS, 1 + COPIES, D)) * noise()
    return NoveltyScore(msgspec.structs.replace(surrounding(views, labels, 2), scores=(1.0,)), 2)


def noise() -> Floats:
    sd = np.full(D, 0.5)
    sd[-5:] = 1.5
    return sd


def drawn(rng: np.random.Generator, n: int = 400) -> Floats:
    """LCAs of new cells of the second class: (n, D)."""
    lca = rng.normal(0, 1, (n, D)) * noise()
    lca[:, :SHAPES] += rng.normal(0, 2, (n, SHAPES))
    lca[:, SHAPES] += 6
    return lca


def test_known_cells_of_either_class_are_about_one_away(score: NoveltyScore) -> None:
    lca = drawn(np.random.default_rng(1))
    assert np.mean(score.distance(lca.astype(np.float32)) ** 2) == pytest.approx(1, abs=0.15)
    lca[:, SHAPES] -= 6  # the first class: the nearer mean counts
    assert np.mean(score.distance(lca.astype(np.float32)) ** 2) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    ("directions", "by"), [([0], 8.2), ([1], 8.2), ([2], 8.2), (range(D - 5, D), 9.0)]
)
def test_rare_shapes_and_pictures_unlike_any_are_noticed(
    score: NoveltyScore, directions: Sequence[int], by: float
) -> None:
    """A shape 4 SDs away in one direction; a picture 6 in all in which copies differ."""
    lca = drawn(np.random.default_rng(2))
    ordinary = score.distance(lca.astype(np.float32))
    lca[:, list(directions)] += by
    strange = score.distance(lca.astype(np.float32))
    assert (strange > np.quantile(ordinary, 0.95)).mean() > 0.8


def test_what_copies_of_a_cell_do_is_less_strange_than_as_far_in_a_shape(
    score: NoveltyScore,
) -> None:
    near = drawn(np.random.default_rng(3))
    varied, shaped = near.copy(), near.copy()
    varied[:, -1] += 6  # 4 SDs of what copies do
    shaped[:, 0] += 8.2  # 4 SDs of what cells are
    apart = [score.distance(one.astype(np.float32)).mean() for one in (near, varied, shaped)]
    assert apart[0] < apart[1] < apart[2]


def test_a_network_that_tells_no_cells_apart_still_has_a_distance() -> None:
    same = np.ones((6, 2, 4))
    known = surrounding(same, np.array([0, 0, 0, 1, 1, 1]), 2)
    found = NoveltyScore(msgspec.structs.replace(known, scores=(1.0,)), 2)
    assert found.distance(np.ones((2, 4), np.float32)) == pytest.approx([0, 0])
    assert found.distance(np.full((1, 4), 3, np.float32)) == pytest.approx([4])


@pytest.mark.parametrize(("crops", "copies"), [(121, 7), (500, 7), (1000, 3), (7376, 1)])
def test_large_sets_need_fewer_copies(crops: int, copies: int) -> None:
    assert copies_of(crops) == copies
