"""Figures, intervals and folds that training reports."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parfocal.calibrate import softmax
from parfocal_training import evaluate
from parfocal_training.crossvalidate import group_folds
from parfocal_training.errors import DataError
from parfocal_training.evaluate import LeftOut, measure


def left_out(n: int = 200, temperature: float = 1.0, seed: int = 0) -> LeftOut:
    """Answers that would be calibrated if divided by `temperature`; groups of 5 cells."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, 2))
    truth = (rng.random(n) < softmax(logits)[:, 1]).astype(np.int64)
    groups = tuple(f"g{i // 5}" for i in range(n))
    folds = (np.arange(n) // 5) % 4
    return LeftOut(logits * temperature, truth, folds, groups, rng.random(n))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_group_lies_in_one_fold_and_every_fold_is_used(data: st.DataObject) -> None:
    folds = data.draw(st.integers(2, 4))
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=2 * folds, max_size=20))
    groups = tuple(f"g{i}" for i, size in enumerate(sizes) for _ in range(size))
    labels = np.array([i % 2 for i, size in enumerate(sizes) for _ in range(size)], np.int64)
    found = group_folds(labels, groups, folds, data.draw(st.integers(0, 99)), ("A", "B"))
    assert {len(set(found[np.array(groups) == g])) for g in groups} == {1}
    assert set(found) == set(range(folds))


def test_too_few_groups_for_the_folds_is_said() -> None:
    labels = np.array([0, 0, 1, 1], np.int64)
    with pytest.raises(DataError, match=r"B has 1 group.s., 2 folds need 2: give --folds 0"):
        group_folds(labels, ("a", "b", "c", "c"), 2, 0, ("A", "B"))


def test_the_papers_interval() -> None:
    low, high = evaluate.paper_interval(0.95, 100)
    assert (low, high) == pytest.approx((0.95 - 0.04272, 0.95 + 0.04272), abs=1e-4)
    assert evaluate.paper_interval(1.0, 10) == (1.0, 1.0)


@pytest.mark.parametrize("true", [0.7, 1.0, 3.0])
def test_the_temperature_is_found(true: float) -> None:
    cells = left_out(5000, true)
    assert evaluate.temperature(cells.logits, cells.labels) == pytest.approx(true, rel=0.1)


def test_a_temperature_never_leaves_its_range() -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    low, high = evaluate.TEMPERATURES
    assert evaluate.temperature(sure, np.array([0, 1])) == pytest.approx(low, rel=1e-3)
    assert evaluate.temperature(sure, np.array([1, 0])) == pytest.approx(high, rel=1e-2)


def test_calibration_error_of_honest_and_of_boastful_answers() -> None:
    cells = left_out(20_000)
    honest = softmax(cells.logits)
    boastful = softmax(cells.logits * 5)
    assert evaluate.calibration_error(honest, cells.labels) < 0.02
    assert evaluate.calibration_error(boastful, cells.labels) > 0.1


def test_balanced_accuracy_counts_classes_alike() -> None:
    answers, labels = np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])
    assert evaluate.balanced_accuracy(answers, labels) == 0.5


def test_cells_that_fail_in_groups_make_the_interval_wider() -> None:
    right = np.repeat(np.random.default_rng(0).random(20) < 0.8, 10)
    groups = tuple(f"g{i // 10}" for i in range(200))
    cells = tuple(map(str, range(200)))

    def width(over: tuple[str, ...]) -> float:
        low, high = evaluate.bootstrap(
            lambda i: float(right[i].mean()), over, np.random.default_rng(1), 500
        )
        return high - low

    assert width(groups) > 2 * width(cells)


def test_all_figures_have_intervals_that_hold_them() -> None:
    measured = measure(left_out(), "field", 0)
    assert set(measured.metrics) == {
        "accuracy", "balanced_accuracy", "ece", "log_loss", "brier", "accuracy_paper_interval",
    }  # fmt: skip
    for metric in measured.metrics.values():
        assert metric.low is not None and metric.high is not None
        assert metric.n == 200
        assert "4-fold cross-validation over 40 groups (field)" in metric.how
    accuracy = measured.metrics["accuracy"]
    assert (accuracy.low or 0) <= accuracy.value <= (accuracy.high or 0)
    assert measured.confusion is not None
    assert sum(map(sum, measured.confusion.counts)) == 200


def test_no_error_seen_is_not_no_error_possible() -> None:
    cells = left_out(50)
    perfect = LeftOut(
        np.eye(2)[cells.labels] * 9, cells.labels, cells.folds, cells.groups, cells.distances
    )
    metric = measure(perfect, "flask", 0).metrics["accuracy"]
    assert (metric.value, metric.low) == (1, 1 - 3 / 10)


def test_abstention_makes_accepted_cells_right_enough() -> None:
    cells = left_out(2000)
    chosen = evaluate.abstention(cells)
    p = evaluate.calibrated(cells)
    accepted = p.max(1) >= chosen.min_probability
    right = p.argmax(1) == cells.labels
    assert right[accepted].mean() > right.mean()
    assert accepted.mean() >= 0.69
    assert chosen.min_probability >= 0.6


def test_without_left_out_cells_nothing_is_claimed() -> None:
    measured = measure(None, "field", 0)
    assert measured.metrics == {}
    assert measured.confusion is None
    assert measured.calibration.temperature == 1
