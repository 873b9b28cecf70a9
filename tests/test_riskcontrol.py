"""The chosen error rate: kept over new groups where it is promised, and refused where it cannot."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parfocal_training import riskcontrol
from parfocal_training.riskcontrol import STEPS, Answers, abstention, controlled, losses, threshold

Floats = NDArray[np.float64]


@st.composite
def answers(draw: st.DrawFn) -> Answers:
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=8))
    n = sum(sizes)
    sure = draw(st.lists(st.integers(500, 1000), min_size=n, max_size=n))
    flags = draw(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=n, max_size=n))
    right, usual = np.array(flags, bool).reshape(n, 2).T
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return Answers(np.array(sure) / 1000, right, usual, groups, floor=0.6)


@settings(max_examples=60, deadline=None)
@given(answers())
def test_a_loss_never_rises_and_is_what_the_daemon_would_accept(cells: Answers) -> None:
    table = losses(cells)
    assert table.shape == (cells.groups.max() + 1, len(STEPS))
    assert (np.diff(table, axis=1) <= 0).all()
    for step in (0, 500, 777, len(STEPS) - 1):
        accepted = cells.usual & (cells.sure >= STEPS[step])
        wrong = [
            (accepted & ~cells.right)[cells.groups == g].mean()
            for g in range(cells.groups.max() + 1)
        ]
        np.testing.assert_allclose(table[:, step], wrong)


@settings(max_examples=60, deadline=None)
@given(answers(), st.floats(0.01, 0.9), st.randoms(use_true_random=False))
def test_neither_the_order_of_cells_nor_that_of_groups_matters(
    cells: Answers, rate: float, random: object
) -> None:
    rng = np.random.default_rng(random.randrange(2**32))  # type: ignore[attr-defined]
    order, renamed = rng.permutation(len(cells.sure)), rng.permutation(cells.groups.max() + 1)
    shuffled = Answers(
        cells.sure[order], cells.right[order], cells.usual[order],
        renamed[cells.groups][order].astype(np.int64), cells.floor,
    )  # fmt: skip
    assert threshold(shuffled, rate) == threshold(cells, rate)


def test_the_order_of_groups_does_not_decide_at_the_very_rate() -> None:
    shares, rng = np.array([0.1, 0.2, 0.3, 1 / 3, 0.7, 2 / 3, 0.6]), np.random.default_rng(0)
    orders = [rng.permutation(shares)[:, None] for _ in range(50)]
    rounded = {float(order.sum(0)[0]) for order in orders}
    assert len(rounded) > 1  # which one comes out depends on the order
    for total in rounded:
        assert len({controlled(order, (total + 1) / 8) for order in orders}) == 1


@settings(max_examples=60, deadline=None)
@given(answers(), st.floats(0.01, 0.45))
def test_more_error_allowed_never_asks_for_more_certainty(cells: Answers, rate: float) -> None:
    strict, loose = (controlled(losses(cells), r) for r in (rate, 2 * rate))
    assert strict is None or (loose is not None and loose <= strict)


def simulated(repeats: int, n_groups: int, rng: np.random.Generator) -> Floats:
    """Losses (repeats, groups, steps) of groups of 20 cells whose error rates are beta spread."""
    errors = rng.beta(1, 4, (repeats, n_groups, 1))  # mean 0.2: flasks differ much
    sure = rng.uniform(0.5, 1, (repeats, n_groups, 20))
    wrong = rng.random(sure.shape) < 2 * errors * (1 - sure) * 2  # surer answers are wrong less
    at = np.linspace(0.5, 0.999, 100)
    return np.stack([((sure >= step) & wrong).mean(2) for step in at], 2)


@pytest.mark.parametrize(("n_groups", "rate"), [(20, 0.05), (20, 0.1), (40, 0.05), (9, 0.1)])
def test_the_mean_loss_of_a_new_group_is_at_most_what_was_asked(n_groups: int, rate: float) -> None:
    repeats = 1500
    table = simulated(repeats, n_groups + 1, np.random.default_rng(n_groups))
    got = []
    for one in table:
        step = controlled(one[:-1], rate)
        got.append(0.0 if step is None else one[-1, step])  # None: everything would be refused
    error = np.std(got) / repeats**0.5
    assert np.mean(got) <= rate + 2 * error
    assert (
        np.mean(got) >= rate - 2.5 / (n_groups + 1) - 2 * error
    )  # and not by refusing for nothing


def groups_of(n_groups: int, wrong: float, seed: int = 0) -> tuple[Answers, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    n = n_groups * 30
    sure = rng.uniform(0.5, 1, n)
    right = rng.random(n) > wrong * 4 * (1 - sure)
    groups = np.repeat(np.arange(n_groups), 30)
    return Answers(sure, right, np.ones(n, bool), groups, 0.6), groups % 4


def test_a_promise_says_for_whom_it_holds_and_what_it_is_not() -> None:
    cells, folds = groups_of(40, 0.15)
    rule = abstention(cells, folds, 0.05, 0.98, "flask", np.random.default_rng(0))
    assert rule.guaranteed and rule.error_rate == 0.05 and rule.n_groups == 40
    assert rule.expected_loss is not None and rule.expected_loss <= 0.05
    assert rule.guarantee is not None
    assert (
        "new flasks that are exchangeable with the 40 left-out ones, at most 5.0%" in rule.guarantee
    )
    assert "not bounded by this, only measured" in rule.guarantee
    assert rule.accepted_share is not None and 0.3 < rule.accepted_share.value < 1
    assert rule.selective_accuracy is not None and rule.selective_accuracy.low is not None
    assert rule.selective_accuracy.value > cells.right.mean()
    tighter = abstention(cells, folds, 0.03, 0.98, "flask", np.random.default_rng(0))
    assert tighter.min_probability > rule.min_probability
    assert tighter.max_novelty == 0.98


def test_too_few_groups_are_told_apart_from_too_many_errors() -> None:
    few, folds = groups_of(18, 0.1)
    rule = abstention(few, folds, 0.05, 0.98, "field", np.random.default_rng(0))
    assert rule.guaranteed is False and rule.guarantee is not None
    assert "18 fields are too few to promise 5.0%, which takes at least 19" in rule.guarantee
    assert rule.min_probability == riskcontrol.empirical(few)
    wrong = Answers(
        np.ones(900), np.zeros(900, bool), np.ones(900, bool), np.arange(900) // 30, 0.6
    )
    rule = abstention(wrong, wrong.groups % 4, 0.05, 0.98, "field", np.random.default_rng(0))
    assert rule.guaranteed is False and rule.guarantee is not None
    assert "no threshold keeps 5.0% over the 30 left-out fields" in rule.guarantee
    assert rule.selective_accuracy is not None and rule.selective_accuracy.value == 0


def test_cells_too_novel_to_be_accepted_are_no_loss() -> None:
    cells, _ = groups_of(40, 0.3)
    strange = Answers(cells.sure, cells.right, cells.right, cells.groups, cells.floor)
    assert threshold(strange, 0.05) == (0.6, True)
    assert threshold(cells, 0.05)[0] > 0.6


def test_a_test_on_the_same_groups_would_flatter() -> None:
    cells, folds = groups_of(24, 0.5, seed=3)
    rule = abstention(cells, folds, 0.05, 0.98, "flask", np.random.default_rng(0))
    accepted = cells.sure >= rule.min_probability
    assert rule.accepted_share is not None
    assert rule.accepted_share.value != accepted.mean()  # thresholds came from the other folds
    assert "other folds" in rule.accepted_share.how
