"""Figures, intervals and folds that training reports."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs import measured_card

from parfocal.calibrate import softmax
from parfocal_export import sentences
from parfocal_training import figures
from parfocal_training.crossvalidate import group_folds
from parfocal_training.errors import DataError
from parfocal_training.evaluate import abstention, measure
from parfocal_training.leftout import LeftOut, share
from parfocal_training.reliability import draw
from parfocal_training.report import drawn


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


@pytest.mark.parametrize("folds", [4, 7, 10])
def test_more_folds_than_the_rarest_class_has_groups_leave_every_class(folds: int) -> None:
    groups = np.repeat(np.arange(10), 3)  # three groups of A, seven of B
    labels = (groups > 2).astype(np.int64)
    found = group_folds(labels, tuple(map(str, groups)), folds, 1, ("A", "B"))
    assert set(found) == set(range(folds))
    assert {len(set(found[groups == g])) for g in range(10)} == {1}
    for fold in range(folds):
        assert set(labels[found != fold]) == {0, 1}


def test_too_few_groups_for_the_folds_is_said() -> None:
    labels = np.array([0, 0, 1, 1], np.int64)
    with pytest.raises(DataError, match=r"B has 1 group.s.: .* --folds 0 or add flasks"):
        group_folds(labels, ("a", "b", "c", "c"), 2, 0, ("A", "B"))
    with pytest.raises(DataError, match="4 folds need 4 groups, there are 3: give --folds 3"):
        group_folds(labels, ("a", "b", "c", "c"), 4, 0, ("A", "B"))


def test_the_papers_interval() -> None:
    low, high = figures.paper_interval(0.95, 100)
    assert (low, high) == pytest.approx((0.95 - 0.04272, 0.95 + 0.04272), abs=1e-4)
    assert figures.paper_interval(1.0, 10) == (1.0, 1.0)


@pytest.mark.parametrize("true", [0.7, 1.0, 3.0])
def test_the_temperature_is_found(true: float) -> None:
    cells = left_out(5000, true)
    assert figures.temperature(cells.logits, cells.labels) == pytest.approx(true, rel=0.1)


def test_a_temperature_never_leaves_its_range_and_few_cells_hardly_move_it() -> None:
    sure, n = np.array([[1.0, 0.0], [0.0, 1.0]]), 5000
    low, high = figures.TEMPERATURES
    for labels, end in (([0, 1], low), ([1, 0], high)):
        many = figures.temperature(np.tile(sure, (n, 1)), np.tile(labels, n))
        assert many == pytest.approx(end, rel=1e-2)
        assert 0.9 < figures.temperature(sure, np.array(labels)) < 1.1


def test_calibration_error_of_honest_and_of_boastful_answers() -> None:
    cells = left_out(20_000)
    honest = softmax(cells.logits)
    boastful = softmax(cells.logits * 5)
    assert figures.calibration_error(honest, cells.labels) < 0.02
    assert figures.calibration_error(boastful, cells.labels) > 0.1


def test_balanced_accuracy_counts_classes_alike() -> None:
    answers, labels = np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])
    assert figures.balanced_accuracy(answers, labels) == 0.5


def test_cells_that_fail_in_groups_make_the_interval_wider() -> None:
    right = np.repeat(np.random.default_rng(0).random(20) < 0.8, 10)
    groups = tuple(f"g{i // 10}" for i in range(200))
    cells = tuple(map(str, range(200)))

    def width(over: tuple[str, ...]) -> float:
        number = np.unique(over, return_inverse=True)[1]
        of_groups = [np.bincount(number, x).astype(np.float64) for x in (right, right >= 0)]
        found = share(of_groups[0], of_groups[1], np.random.default_rng(1))
        assert found is not None and found.low is not None and found.high is not None
        return found.high - found.low

    assert width(groups) > 2 * width(cells)


def test_a_share_of_nothing_is_none_and_no_error_seen_is_not_none_possible() -> None:
    rng, of = np.random.default_rng(0), np.full(10, 5.0)
    assert share(np.zeros(10), np.zeros(10), rng) is None
    found = share(of, of, rng)
    assert found is not None and found.low is not None
    assert (found.value, found.high) == (1, 1) and 0.6 < found.low < 0.8


def test_the_intervals_of_figures_are_those_of_drawn_cells() -> None:
    cells = left_out(300)
    got = figures.metrics(cells, "field", np.random.default_rng(0))
    p, rng = figures.calibrated(cells), np.random.default_rng(1)
    names = np.array(cells.groups)
    members = [np.flatnonzero(names == name) for name in sorted(set(cells.groups))]
    every: dict[str, list[float]] = {"accuracy": [], "balanced_accuracy": [], "brier": []}
    for _ in range(400):
        i = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        answers, labels = p[i].argmax(1).astype(np.int64), cells.labels[i]
        every["accuracy"].append(float((answers == labels).mean()))
        every["balanced_accuracy"].append(figures.balanced_accuracy(answers, labels))
        every["brier"].append(figures.brier(p[i], labels))
    for name, values in every.items():
        metric = got[name]
        assert [metric.low, metric.high] == pytest.approx(
            np.quantile(values, [0.025, 0.975]), abs=0.02
        )
    assert got["ece"].value == pytest.approx(figures.calibration_error(p, cells.labels))
    assert got["log_loss"].value == pytest.approx(figures.log_loss(p, cells.labels))
    whole = p.argmax(1).astype(np.int64)
    assert got["balanced_accuracy"].value == figures.balanced_accuracy(whole, cells.labels)


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
    chosen = abstention(cells, 0.1, "field", np.random.default_rng(0))
    p = figures.calibrated(cells)
    accepted = p.max(1) >= chosen.min_probability
    wrong = accepted & (p.argmax(1) != cells.labels)
    assert chosen.guaranteed and 0.6 <= chosen.min_probability < 0.9
    assert wrong.mean() <= 0.1
    assert chosen.accepted_share is not None and chosen.accepted_share.value > 0.5
    assert chosen.selective_accuracy is not None
    assert chosen.selective_accuracy.value > (p.argmax(1) == cells.labels).mean()


def test_a_rate_that_refuses_most_cells_is_said_to() -> None:
    said = sentences.caveats(measured_card(measure(left_out(2000), "field", 0, error_rate=0.02)))
    assert any("More than half of all cells are refused" in caveat for caveat in said)


def test_few_groups_promise_nothing_and_say_so() -> None:
    cells = left_out(15)
    said = measure(cells, "flask", 0)
    assert said.abstention.guaranteed is False and said.shift is None
    told = " ".join(sentences.caveats(measured_card(said)))
    assert "no guaranteed error rate (3 groups)" in told
    assert "unlike the training are not noticed: 3 groups, 4" in told


def test_reliability_and_groups_are_those_of_the_cells() -> None:
    cells = left_out(1000, temperature=3.0)
    shown = measure(cells, "field", 0, classes=("A", "B"))
    known = shown.reliability
    assert known is not None and sum(one.n for one in known.bins) == 1000
    assert [one.predicted for one in known.bins] == sorted(one.predicted for one in known.bins)
    assert all(one.low <= one.observed <= one.high for one in known.bins)
    assert sum(b.low <= b.predicted <= b.high for b in known.bins) >= 8  # it is calibrated
    gap = sum(abs(one.predicted - one.observed) * one.n for one in known.bins) / 1000
    assert known.ece == pytest.approx(gap)
    assert known.brier < known.brier_before and known.log_loss < known.log_loss_before
    groups = shown.per_group
    assert groups is not None and len(groups) == 64  # of 200
    assert [one.accuracy for one in groups] == sorted(one.accuracy for one in groups)
    mine = np.array(cells.groups) == groups[0].group
    right = cells.logits.argmax(1) == cells.labels
    assert groups[0].accuracy == right[mine].mean()
    assert set(groups[0].labels) == {"AB"[c] for c in cells.labels[mine]}


def test_the_figure_of_the_reliability_is_drawn() -> None:
    known = measure(left_out(), "field", 0).reliability
    assert known is not None
    figure = draw(known)
    (plot,) = figure.axes
    points = plot.lines[1].get_xydata()  # after the line of as sure as right
    assert np.asarray(points).tolist() == [[b.predicted, b.observed] for b in known.bins]
    assert f"{known.ece:.3f}" in plot.get_title()
    assert drawn(figure)[:4] == b"\x89PNG"


def test_without_left_out_cells_nothing_is_claimed() -> None:
    measured = measure(None, "field", 0)
    assert measured.metrics == {}
    assert measured.confusion is None
    assert measured.calibration.temperature == 1
