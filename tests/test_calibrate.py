"""How sure and how strange: probabilities that add up, and p-values that are p-values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs import tiny_card, tiny_weights

from parfocal.calibrate import Judge, NoveltyScore, from_base64, softmax, to_base64
from parfocal.card import Novelty
from parfocal.classify import BUCKETS, batches
from parfocal.reasons import CellReason


def score(distances: list[float], d: int = 2) -> NoveltyScore:
    """One class at the origin, identity precision: the distance is the length of the vector."""
    card = Novelty(mean=to_base64(np.zeros((1, d), np.float32)), d=d, scores=tuple(distances),
                   precision=to_base64(np.eye(d, dtype=np.float32)))  # fmt: skip
    return NoveltyScore(card, 1)


def lcas(lengths: list[float]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array([[length, 0] for length in lengths], np.float32).reshape(-1, 2)


def test_novelty_is_a_valid_p_value_under_exchangeability() -> None:
    # over every rank that a new cell can take among m calibration cells, P(p <= a) <= a
    m = 99
    values = [float(i) for i in range(1, m + 2)]
    p_values = []
    for i, mine in enumerate(values):
        rest = values[:i] + values[i + 1 :]
        p_values.append(1 - float(score(rest)(lcas([mine]))[0]))
    levels = np.arange(1, m + 2) / (m + 1)
    shares = [(np.array(p_values) <= level + 1e-12).mean() for level in levels]
    np.testing.assert_allclose(shares, levels)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_ties_make_a_p_value_larger_never_smaller(values: list[int]) -> None:
    p_values = np.array([
        1 - float(score([float(v) for v in values[:i] + values[i + 1 :]])(lcas([mine]))[0])
        for i, mine in enumerate(values)
    ])  # fmt: skip
    for level in np.linspace(0, 1, 21):
        assert (p_values <= level).mean() <= level + 1e-9


def test_a_fresh_cell_of_the_same_kind_has_a_uniform_p_value() -> None:
    rng = np.random.default_rng(0)
    calibration = np.linalg.norm(rng.normal(size=(500, 9)), axis=1)
    fresh = rng.normal(size=(5000, 9)).astype(np.float32)
    p_values = np.sort(1 - score(calibration.tolist(), 9)(fresh))
    apart = np.abs(p_values - np.arange(1, 5001) / 5000).max()
    assert apart < 1.95 * np.sqrt(1 / 500 + 1 / 5000)  # Kolmogorov-Smirnov, 1 in 1000


@pytest.mark.parametrize(
    ("length", "novelty"), [(0, 0.0), (1, 0.0), (1.5, 0.25), (2, 0.25), (3.5, 0.75), (1e6, 0.75)]
)
def test_novelty_counts_the_cells_less_strange(length: float, novelty: float) -> None:
    assert score([3.0, 1.0, 2.0])(lcas([length])) == pytest.approx([novelty])


def test_the_nearest_class_counts_and_correlation_is_undone() -> None:
    covariance = np.array([[4.0, 1.0], [1.0, 2.0]])
    means = np.array([[0, 0], [10, 0]], np.float32)
    card = Novelty(mean=to_base64(means), d=2, scores=(1.0,),
                   precision=to_base64(np.linalg.inv(covariance).astype(np.float32)))  # fmt: skip
    x = np.array([9.0, 1.0])
    apart = x - means[1]
    wanted = float(np.sqrt(apart @ np.linalg.inv(covariance) @ apart))
    got = NoveltyScore(card, 2).distance(x[None].astype(np.float32))
    assert got == pytest.approx([wanted], rel=1e-5)


@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=5))
def test_probabilities_add_up(logits: list[float]) -> None:
    probabilities = softmax(np.array([logits]))
    assert probabilities.sum() == pytest.approx(1)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


@pytest.mark.parametrize(
    ("logit", "distance", "reason"),
    [
        (9.0, 0.0, None),
        (0.0, 0.0, CellReason.LOW_CONFIDENCE),
        (9.0, 1e3, CellReason.UNLIKE_TRAINING),
        (0.0, 1e3, CellReason.UNLIKE_TRAINING),
    ],
    ids=["sure and usual", "unsure", "strange", "strange comes first"],
)
def test_a_cell_is_accepted_when_sure_and_usual(
    logit: float, distance: float, reason: CellReason | None
) -> None:
    card = tiny_card(tiny_weights())
    mean = from_base64(card.novelty.mean).reshape(2, -1)[0]
    lca = mean + np.eye(len(mean), dtype=np.float32)[0] * np.float32(distance)
    judged = Judge(card)(np.array([[logit, 0]], np.float32), lca[None].astype(np.float32))
    assert judged.reasons == (reason,)
    tempered = 1 / (1 + np.exp(-logit / card.calibration.temperature))
    assert judged.probabilities[0, 0] == pytest.approx(tempered)


def test_no_cells_are_judged_as_none() -> None:
    judged = Judge(tiny_card(tiny_weights()))(
        np.empty((0, 2), np.float32), np.empty((0, 9), np.float32)
    )
    assert (judged.probabilities.shape, judged.novelty.shape, judged.reasons) == ((0, 2), (0,), ())


SIZES = st.lists(st.integers(1, 70), min_size=1, max_size=5, unique=True).map(
    lambda sizes: tuple(sorted(sizes))
)


@given(st.integers(0, 500), st.one_of(st.just(BUCKETS), st.just((1,)), SIZES))
def test_batches_cover_everything_exactly_once(n: int, sizes: tuple[int, ...]) -> None:
    covered: list[int] = []
    for begin, end, size in batches(n, sizes):
        assert size in sizes and 0 < end - begin <= size
        covered += range(begin, end)
    assert covered == list(range(n))


@given(st.integers(1, 2000))
def test_a_gpu_computes_at_most_twice_what_is_asked(n: int) -> None:
    assert sum(size for _, _, size in batches(n, BUCKETS)) <= 2 * n + 6
