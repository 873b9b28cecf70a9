"""Strange flasks: the score of a set of cells, its false alarms, and where it is told."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console
from rigs import card_text, save_model, tiny_card, tiny_graph, tiny_weights
from test_follow import frame, received

from parfocal.bundle import BundleError, load
from parfocal.card import Metric, ShiftRule
from parfocal.console import about_model, add_frame, frame_table
from parfocal.follow import one_line
from parfocal.shift import shift
from parfocal.types import FlaskRef, FrameResult, Shift
from parfocal.verdict import Totals
from parfocal_training import shiftrule
from parfocal_training.leftout import numbered
from parfocal_training.shiftrule import elsewhere, shift_rule, spread

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

RULE = ShiftRule(
    mean=0.5, mean_se=0.01, between_sd=0.03, frame_sd=0.04, within_sd=0.3, group_mean_sd=0.05,
    threshold=1.9, false_alarm=0.05, n_groups=10, group_kind="flask",
    observed_false_alarms=Metric(value=0.1, low=0.02, high=0.4, n=10),
)  # fmt: skip


def test_the_score_is_the_excess_in_standard_deviations() -> None:
    found = shift([(100, 62.0)], RULE)
    assert found is not None
    spread_of_mean = math.sqrt(0.01**2 + 0.03**2 + 0.04**2 + 0.3**2 / 100)
    assert found.score == pytest.approx((0.62 - 0.5) / spread_of_mean)
    assert (found.flagged, found.threshold, found.n_cells) == (True, 1.9, 100)
    assert found.false_alarm == RULE.false_alarm
    halves = shift([(50, 31.0), (50, 31.0)], RULE)
    assert halves is not None and halves.score > found.score  # two frames say more than one


def test_more_cells_than_a_group_had_do_not_make_a_mean_more_certain() -> None:
    frames = [(1000, 540.0)] * 200
    found = shift(frames, RULE)
    assert found is not None
    assert found.score == pytest.approx(0.04 / math.hypot(0.01, RULE.group_mean_sd))


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1)), max_size=6))
def test_a_score_is_a_number_or_none(frames: list[tuple[int, float]]) -> None:
    found = shift([(n, n * mean) for n, mean in frames], RULE)
    assert (found is None) == (sum(n for n, _ in frames) == 0)
    assert found is None or math.isfinite(found.score)
    assert shift([(n, n * mean) for n, mean in frames], None) is None


def test_cells_less_strange_than_usual_are_never_flagged() -> None:
    found = shift([(500, 0.0)], RULE)
    assert found is not None and not found.flagged and found.score < 0


# ----------------------------------------------------------------------------- the rule's training


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=2, max_size=25))
def test_novelty_never_looks_at_the_cells_own_group(cells: list[tuple[int, int]]) -> None:
    groups = numbered(tuple(str(g) for g, _ in cells))[1]
    distances = np.array([d for _, d in cells], np.float64)
    got = elsewhere(distances, groups).novelty
    for i, novelty in enumerate(got):
        others = distances[groups != groups[i]]
        assert novelty == pytest.approx(
            1 - (1 + (others >= distances[i]).sum()) / (len(others) + 1)
        )


def drawn(
    rng: np.random.Generator, n_groups: int, between: float, of_frames: float, frames: int = 4
) -> tuple[Floats, Ints, Ints]:
    """Values of 25 cells a frame with these SDs between groups and frames, 0.2 between cells."""
    group = np.repeat(np.arange(n_groups), frames * 25)
    frame = np.repeat(np.arange(n_groups * frames), 25)
    centre = rng.normal(0.5, between, n_groups)[group]
    values = centre + rng.normal(0, of_frames, n_groups * frames)[frame]
    return values + rng.normal(0, 0.2, len(group)), group, frame


def test_variances_are_found_again() -> None:
    rng = np.random.default_rng(0)
    found = [spread(*drawn(rng, 12, 0.06, 0.04)) for _ in range(200)]

    def mean_square(name: str) -> float:
        return float(np.mean([getattr(one, name) ** 2 for one in found]) ** 0.5)

    assert mean_square("between_sd") == pytest.approx(0.06, rel=0.06)
    assert mean_square("frame_sd") == pytest.approx(0.04, rel=0.06)
    assert mean_square("within_sd") == pytest.approx(0.2, rel=0.01)
    wanted = math.sqrt(0.06**2 + 0.04**2 / 4 + 0.2**2 / 100)
    assert mean_square("group_mean_sd") == pytest.approx(wanted, rel=0.06)


def test_unequal_groups_of_one_frame_are_a_one_way_analysis() -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(3, 60, 30)
    groups = np.repeat(np.arange(30), sizes)
    found = []
    for _ in range(200):
        values = rng.normal(0.5, 0.1, 30)[groups] + rng.normal(0, 0.2, len(groups))
        found.append(spread(values, groups, groups))
    assert {one.frame_sd for one in found} == {0.0}
    between = np.mean([one.between_sd**2 for one in found]) ** 0.5
    assert between == pytest.approx(0.1, rel=0.06)


@pytest.mark.parametrize(
    ("n_groups", "between", "cells_as"),
    [(6, 0.06, "flask"), (15, 0.06, "flask"), (15, 0.0, "flask"), (15, 0.06, "frame")],
)
def test_an_ordinary_group_is_flagged_as_often_as_was_said(
    n_groups: int, between: float, cells_as: str
) -> None:
    rng, alarms, repeats = np.random.default_rng(n_groups), 0, 600
    for _ in range(repeats):
        values, groups, frames = drawn(rng, n_groups + 1, between, 0.04)
        known = groups < n_groups
        found = spread(values[known], groups[known], frames[known])
        rule = shiftrule._rule(found, n_groups, "flask", 0.05, Metric(value=0))
        new = values[~known].reshape(4, 25)[: 4 if cells_as == "flask" else 1]
        judged = shift([(25, float(one.sum())) for one in new], rule)
        assert judged is not None
        alarms += judged.flagged
    rate, error = alarms / repeats, math.sqrt(0.05 * 0.95 / repeats)
    assert rate < 0.05 + 3 * error
    if cells_as == "flask":
        assert rate > 0.05 - 3.5 * error


def distances_of(rng: np.random.Generator, strange: float) -> tuple[Floats, Ints]:
    """Distances of 12 groups of 40 cells; those of the last lie farther out."""
    groups = np.repeat(np.arange(12), 40)
    centre = rng.normal(10, 0.3, 12)
    centre[-1] += strange
    return centre[groups] + rng.normal(0, 1, len(groups)), groups


def test_left_out_groups_are_tested_by_the_rule_of_the_others() -> None:
    rule, flagged = shift_rule(
        *distances_of(np.random.default_rng(2), 4.0), np.arange(480), "flask"
    )
    assert rule is not None and flagged is not None
    assert flagged.tolist() == [False] * 11 + [True]
    alarms = rule.observed_false_alarms
    assert alarms.n == 12
    assert alarms.value == pytest.approx(1 / 12)
    assert alarms.low is not None and alarms.high is not None
    assert alarms.low < 1 / 12 < alarms.high
    assert rule.threshold == pytest.approx(1.796, abs=1e-3)  # Student's t, 0.95 at 11 degrees


@pytest.mark.parametrize("n_groups", [1, 2, 3])
def test_few_groups_give_no_rule(n_groups: int) -> None:
    groups = np.arange(30) % n_groups
    assert shift_rule(np.arange(30.0), groups, groups, "flask") == (None, None)


def test_cells_that_are_all_alike_give_no_rule() -> None:
    groups = np.arange(30) % 5
    assert shift_rule(np.ones(30), groups, groups, "flask") == (None, None)


def test_groups_of_one_cell_give_a_rule_that_can_be_used() -> None:
    n = np.arange(20)
    rule, _ = shift_rule(np.random.default_rng(0).random(20), n, n, "image")
    assert rule is not None and rule.group_mean_sd > 0 and rule.within_sd == 0
    assert shift([(10, 9.9)], rule) is not None


# ------------------------------------------------------------------------------- where it is told

STRANGE = Shift(score=3.1, threshold=1.9, flagged=True, n_cells=2, group_kind="flask")
SENTENCE = "unlike the flasks the model was trained on (shift 3.1, limit 1.9)"


def text_of(result: FrameResult) -> str:
    console, table = Console(width=200), frame_table()
    add_frame(table, "1", result)
    with console.capture() as caught:
        console.print(table, about_model(result))
    return caught.get()


def test_a_person_is_told_of_a_strange_frame_and_of_no_other() -> None:
    usual = frame("a.tif", 2)
    strange = msgspec.structs.replace(usual, shift=STRANGE)
    within = msgspec.structs.replace(strange, shift=msgspec.structs.replace(STRANGE, flagged=False))
    assert text_of(strange).count(SENTENCE) == 2
    assert SENTENCE in one_line(received(1, strange))
    for result in (usual, within):
        assert "unlike" not in text_of(result) + one_line(received(1, result))


def with_novelty(novelty: float, n_cells: int, sha256: str = "0") -> FrameResult:
    result = frame("a.tif", n_cells)
    cells = tuple(msgspec.structs.replace(cell, novelty=novelty) for cell in result.cells)
    model = msgspec.structs.replace(result.model, sha256=sha256)
    return msgspec.structs.replace(result, cells=cells, model=model)


def test_a_flasks_shift_is_over_all_its_cells_of_one_model() -> None:
    totals, flask = Totals(), FlaskRef(id="F", session="s")
    for novelty, n_cells, sha256 in ((0.9, 30, "now"), (0.7, 10, "now"), (0.0, 500, "before")):
        totals.add(with_novelty(novelty, n_cells, sha256))
    found = totals.verdict(flask, RULE, "now").shift
    alone = shift([(30, 27.0), (10, 7.0)], RULE)
    assert found is not None and alone is not None
    assert found.score == pytest.approx(alone.score)
    assert found.flagged and found.n_cells == 40
    assert SENTENCE[:30] in one_line(received(1, totals.verdict(flask, RULE, "now")))
    assert totals.verdict(flask).shift is None
    assert totals.verdict(flask, RULE, "another").shift is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"between_sd": -0.1}, "below 0"),
        ({"group_mean_sd": 0.0}, "or none at all"),
        ({"threshold": 0.0}, "no threshold"),
        ({"false_alarm": 1.0}, "no threshold"),
        ({"mean": 1.5}, "share of 1.5"),
        ({"n_groups": 1}, "stands on nothing"),
        ({"observed_false_alarms": Metric(value=-1.0)}, "share of -1"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(
    change: dict[str, object], why: str, tmp_path: Path
) -> None:
    weights = tiny_weights()
    rule = msgspec.structs.replace(RULE, **change)
    card = msgspec.structs.replace(tiny_card(weights), shift=rule)
    path = save_model(tmp_path / "m.onnx", tiny_graph(weights), card_text(card))
    with pytest.raises(BundleError, match=why):
        load(str(path))
