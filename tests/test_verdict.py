"""What a flask's totals mean: corrected shares, the declared line, contamination, advice, trend."""

import math
import time
from statistics import NormalDist
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_follow import frame, received

from parfocal.advice import advice, foreign_text
from parfocal.card import Confusion, GroupFigures
from parfocal.composition import corrected, fields_for, half_width, mixture, share_of
from parfocal.composition_rates import ASSUMED_SD, LEAST_GROUPS, Reading, reading_of
from parfocal.contamination import (
    AIM_CELLS,
    LEAST_FIELDS,
    LOOK_CELLS,
    TAILS,
    contamination,
    critical_rate,
    looks,
)
from parfocal.declared import ERROR, LOOKS, LOOKS_Z, class_of, declared, look_at
from parfocal.follow import one_line
from parfocal.notebook.entry import Entry, composition_rows, facts, warnings
from parfocal.trend import LEAST_PASSAGES, Earlier, control, trend
from parfocal.types import Density, FlaskRef, FlaskVerdict, Shift
from parfocal.verdict import Totals, Yardstick

A, B = CLASSES = ("HEK-293A", "HT1080")
FLASK = FlaskRef(id="F", session="s", cell_line="hek 293a")
STRANGE = Shift(score=4.0, threshold=2.0, flagged=True, n_cells=9, group_kind="flask")


def known(errors: tuple[int, int] = (20, 20), groups: int = 20, cells: int = 400) -> Reading:
    """A card that saw `groups` flasks of each class with so many errors in a thousand."""
    rows = []
    figures = []
    for at, per_thousand in enumerate(errors):
        wrong = [round(cells * per_thousand / 1000)] * groups
        right = groups * cells - sum(wrong)
        rows.append((right, sum(wrong)) if at == 0 else (sum(wrong), right))
        figures += [
            GroupFigures(group=f"{at}-{i}", labels=(CLASSES[at],), n=cells, accuracy=1 - k / cells,
                         low=0, high=1, novelty=0.5)
            for i, k in enumerate(wrong)
        ]  # fmt: skip
    found = reading_of(CLASSES, Confusion(counts=tuple(rows), groups=(), group_kind="flask"),
                       tuple(figures))  # fmt: skip
    assert found is not None
    return found


def answers(n: int, of_a: int, of_b: int) -> list[dict[str, int]]:
    return [{A: of_a, B: of_b}] * n


def test_the_correction_undoes_what_the_model_confuses() -> None:
    """Of 60 % A, a model that errs on 10 % of A and 20 % of B answers 62 % A."""
    matrix = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert mixture(np.array([62.0, 38.0]), matrix) == pytest.approx([0.6, 0.4])
    three = np.array([[0.9, 0.06, 0.04], [0.1, 0.8, 0.1], [0.02, 0.08, 0.9]])
    shares = np.array([0.5, 0.2, 0.3])
    assert mixture(1000 * shares @ three, three) == pytest.approx(shares, abs=1e-3)


counts = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=30)


@settings(deadline=None, max_examples=25)
@given(counts, st.sampled_from([(0, 0), (20, 20), (100, 30), (300, 400)]))
def test_a_share_lies_in_its_own_interval_whatever_was_seen(
    seen: list[tuple[int, int]], errors: tuple[int, int]
) -> None:
    frames = [{A: a, B: b} for a, b in seen]
    shares = corrected(frames, known(errors))
    if shares is None:
        assert not any(a + b for a, b in seen)
        return
    assert all(0 <= f.low <= f.fraction <= f.high <= 1 for f in shares.values())
    assert sum(f.fraction for f in shares.values()) == pytest.approx(1)
    assert [f.n for f in shares.values()] == [sum(a for a, _ in seen), sum(b for _, b in seen)]


def test_no_number_of_fields_makes_the_models_own_errors_known() -> None:
    card = spread_card(np.random.default_rng(0))
    few, many = (half_width(0, answers(n, 18, 2), card) for n in (30, 3000))
    perfect = known((0, 0), groups=60, cells=5000)
    assert many < few < 3 * many
    assert half_width(0, answers(3000, 18, 2), perfect) < many / 2


def test_the_interval_holds_where_a_flask_makes_one_line_look_like_the_other() -> None:
    """Both rates move together then, which the card's flasks of one line each cannot show."""
    card = spread_card(np.random.default_rng(1))
    of_a, of_b = card.errors
    draws = np.random.default_rng(2).normal(size=400)
    held = 0
    for z in draws:
        wrong_a = np.clip(of_a.centre + z * of_a.spread, 0, 1)
        wrong_b = np.clip(of_b.centre - z * of_b.spread, 0, 1)
        named_a = round(1000 * (0.5 * (1 - wrong_a) + 0.5 * wrong_b))
        _, low, high = share_of(0, answers(200, named_a, 1000 - named_a), card)
        held += low <= 0.5 <= high
    assert held / len(draws) > 0.92  # 0.83 if the rates were taken as independent


def test_rates_of_flasks_that_differ_are_known_less() -> None:
    even = known().errors[0]
    wrong = (0, 0, 2, 4, 6, 8, 20, 24)
    wide = [
        GroupFigures(group=str(i), labels=(A,), n=400, accuracy=1 - k / 400, low=0, high=1,
                     novelty=0.5)
        for i, k in enumerate(wrong)
    ]  # fmt: skip
    card = Confusion(counts=((3136, 64), (20, 980)), groups=(), group_kind="flask")
    found = reading_of(CLASSES, card, tuple(wide))
    assert found is not None and found.assumed and found.errors[0].n_groups == 8
    assert np.std(wrong) / 400 < found.errors[0].between < 2 * np.std(wrong) / 400
    assert found.errors[0].spread > 2 * even.spread
    assert found.errors[0].centre == pytest.approx(0.02, abs=0.015)


def test_a_card_that_lists_too_few_flasks_has_the_stated_assumption() -> None:
    found = known(groups=LEAST_GROUPS - 1)
    assert found.assumed
    assert [error.between for error in found.errors] == pytest.approx([ASSUMED_SD] * 2)
    told = contamination(FLASK, answers(20, 20, 0), found, False)
    assert told is not None and told.sd_assumed and "assumed" in told.text


rows = st.lists(st.integers(0, 5000), min_size=2, max_size=2)
listed = st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1)), max_size=9)


@settings(deadline=None, max_examples=25)
@given(rows, rows, listed)
def test_whatever_a_card_counted_can_be_read(
    of_a: list[int], of_b: list[int], groups: list[tuple[int, float]]
) -> None:
    """Also groups that do not add up to the matrix, and models that are always wrong."""
    figures = tuple(
        GroupFigures(group=str(i), labels=(A,), n=n, accuracy=right, low=0, high=1, novelty=0.5)
        for i, (n, right) in enumerate(groups)
    )
    counts = (of_a[0], of_a[1]), (of_b[0], of_b[1])
    found = reading_of(CLASSES, Confusion(counts=counts, groups=(), group_kind="flask"), figures)
    if found is None:
        assert not sum(of_a) or not sum(of_b)
        return
    assert found.matrix.sum(1) == pytest.approx([1, 1]) and (found.variance >= 0).all()
    seen = answers(4, 7, 3)
    for at in range(2):
        share, low, high = share_of(at, seen, found)
        assert 0 <= low <= share <= high <= 1
    told = contamination(FLASK, seen, found, False)
    assert told is not None and 0 <= told.limit_of_detection <= 1


def test_a_card_without_confusion_gives_no_reading() -> None:
    assert reading_of(CLASSES, None, ()) is None
    empty = Confusion(counts=((0, 0), (1, 9)), groups=(), group_kind="flask")
    assert reading_of(CLASSES, empty, ()) is None


@pytest.mark.parametrize(
    ("line", "at"),
    [("HEK-293A", 0), ("hek 293a", 0), ("Hek293A", 0), ("ht-1080", 1), ("HEK-293", None),
     ("", None), ("--", None), (None, None)],
)  # fmt: skip
def test_a_declared_line_is_matched_by_letters_and_digits(line: str | None, at: int | None) -> None:
    assert class_of(line, CLASSES) == at
    assert class_of("ab", ("AB", "a-b")) is None  # it could be either


def test_the_boundary_of_all_looks_keeps_the_stated_error() -> None:
    """100,000 random walks looked at after `LOOKS` steps."""
    steps = np.sqrt(np.diff(np.array([0, *LOOKS])))
    walks = (np.random.default_rng(0).normal(size=(100_000, len(LOOKS))) * steps).cumsum(1)
    ever = ((walks / np.sqrt(LOOKS)).max(1) > LOOKS_Z).mean()
    assert 0.008 <= ever <= ERROR * 1.1


@pytest.mark.parametrize(
    ("share", "match"), [((19, 1), "match"), ((1, 19), "mismatch"), ((10, 10), "undecided")]
)
def test_a_declared_line_is_judged_with_numbers(share: tuple[int, int], match: str) -> None:
    found = declared(FLASK, answers(20, *share), known(), False)
    assert found is not None and found.match == match
    assert found.low is not None and found.share is not None and found.high is not None
    assert found.low <= found.share <= found.high
    assert (found.n_frames, found.n_cells) == (20, 400) and "400 cells in 20 fields" in found.text


@pytest.mark.parametrize(
    ("flask", "n", "reading", "strange", "why"),
    [
        (FLASK, 20, None, False, "does not say how often it errs"),
        (msgspec.structs.replace(FLASK, cell_line="HeLa"), 20, known(), False, "no other line"),
        (FLASK, 20, known(), True, "unlike those the model was trained on"),
        (FLASK, 2, known(), False, "fewer than 3 fields"),
    ],
)
def test_what_cannot_be_judged_is_undecided_with_its_reason(
    flask: FlaskRef, n: int, reading: Reading | None, strange: bool, why: str
) -> None:
    found = declared(flask, answers(n, 0, 20), reading, strange)
    assert found is not None and found.match == "undecided" and why in found.text
    assert contamination(flask, answers(n, 0, 20), reading, strange) is None


def test_fields_without_cells_are_no_looks() -> None:
    empty: list[dict[str, int]] = [{}] * 5
    few = declared(FLASK, answers(2, 0, 90) + empty, known(), False)
    assert few is not None and "fewer than 3 fields with cells" in few.text
    seen = declared(FLASK, answers(2, 0, 90) + empty + answers(1, 0, 90), known(), False)
    assert seen is not None and seen.match == "mismatch"
    assert (seen.n_frames, seen.n_cells) == (3, 270) and "in 3 fields" in seen.text


def test_a_flask_without_a_declared_line_is_not_judged() -> None:
    nameless = FlaskRef(id="F", session="s")
    assert declared(nameless, answers(20, 1, 9), known(), False) is None


def test_between_looks_the_judgement_stands() -> None:
    seen = answers(20, 19, 1) + answers(6, 0, 20)
    assert look_at(26) == 20 and look_at(2) == 0
    assert declared(FLASK, seen, known(), False) == declared(FLASK, seen[:20], known(), False)


def test_contamination_is_found_above_its_limit_and_not_below() -> None:
    pure, dirty = answers(48, 21, 0), answers(48, 19, 2)
    none, found = (contamination(FLASK, seen, known(), False) for seen in (pure, dirty))
    assert none is not None and found is not None
    assert not none.found and "no contamination found" in none.text
    assert found.found and found.low > 0.02
    assert none.expected_other == pytest.approx(0.02, abs=0.005)
    assert 0.02 < none.limit_of_detection < 0.08


def test_contamination_that_was_found_stays_found_and_more_cells_hide_less() -> None:
    seen = answers(20, 40, 10) + answers(60, 49, 1)
    early, late = (contamination(FLASK, seen[:n], known(), False) for n in (20, 80))
    assert early is not None and late is not None
    assert early.found and late.found and late.fraction < early.fraction
    pure = [contamination(FLASK, answers(n, 50, 0), known(), False) for n in range(3, 160, 8)]
    limits = [one.limit_of_detection for one in pure if one is not None]
    assert len(limits) == len(pure) and limits == sorted(limits, reverse=True)


def test_a_flask_is_looked_at_when_it_has_the_cells_and_three_fields() -> None:
    assert looks(answers(10, 3, 0)) == [] and looks(answers(2, 900, 100)) == []
    assert [n for n, _ in looks(answers(20, 45, 5))] == [3, 4, 5, 8, 10, 15, 20]
    assert looks(answers(20, 45, 5))[-1] == (20, TAILS[LOOK_CELLS.index(AIM_CELLS)])
    dense = looks([{}, *answers(9, 700, 50)])
    assert dense[0] == (1 + LEAST_FIELDS, max(TAILS))
    assert looks(answers(300, 45, 5))[-1][0] == 160


@pytest.mark.parametrize("between", [0.0, 0.3, 1.0, 4.0])
def test_the_boundaries_of_all_looks_keep_the_stated_error(between: float) -> None:
    """100,000 pure flasks: their own rate, and a random walk of what cells add to it."""
    rng, cells = np.random.default_rng(0), np.array(LOOK_CELLS)
    steps = rng.normal(size=(100_000, len(cells))) * np.sqrt(np.diff(cells, prepend=0))
    own = rng.normal(size=(100_000, 1)) * math.sqrt(between / AIM_CELLS)
    shown = (own + steps.cumsum(1) / cells) / np.sqrt(between / AIM_CELLS + 1 / cells)
    boundary = [NormalDist().inv_cdf(1 - tail) for tail in TAILS]
    assert 0.006 <= (shown > boundary).any(1).mean() <= ERROR * 1.05


@settings(deadline=None, max_examples=25)
@given(st.integers(30, 3000))
def test_more_cells_detect_less(n: int) -> None:
    error = known().errors[0]
    assert error.centre < critical_rate(error, 2 * n, 0.01) < critical_rate(error, n, 0.01) <= 1


def test_the_critical_rate_is_what_few_pure_flasks_exceed() -> None:
    error = known().errors[0]
    critical = critical_rate(error, 500, 0.007)
    assert error.tail(np.array([critical]), 500)[0] == pytest.approx(0.007, rel=0.1)


NONE_BLURRED = [False] * 40


@pytest.mark.parametrize(
    ("seen", "blurred", "shift", "begins"),
    [
        (answers(10, 18, 2), [False, True, True, False, True], None, "refocus: 3 of the last 5"),
        (answers(10, 18, 2), NONE_BLURRED, STRANGE, "do not rely on it: the cells are unlike"),
        (answers(1, 18, 2), NONE_BLURRED, None, "take at least 2 more fields"),
        (answers(4, 10, 10), NONE_BLURRED, None, "take about"),
        (answers(40, 20, 0), NONE_BLURRED, None, "enough: the share of HEK-293A is known to +- "),
        ([{}] * 9, NONE_BLURRED, None, "take at least 3 more fields"),
    ],
)
def test_advice_says_what_to_do_next(
    seen: list[dict[str, int]], blurred: list[bool], shift: Shift | None, begins: str
) -> None:
    told = advice(seen, known(), A, blurred, shift)
    assert told.text.startswith(begins)
    assert (told.more_fields is not None) == begins.startswith("take")


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (answers(10, 0, 20), "most cells are not the declared hek 293a"),
        (answers(48, 18, 3), "more cells than in a pure flask are not the declared hek 293a"),
    ],
)
def test_a_flask_that_is_not_as_declared_is_to_be_set_aside(
    seen: list[dict[str, int]], says: str
) -> None:
    line = declared(FLASK, seen, known(), False)
    foreign = foreign_text(line, contamination(FLASK, seen, known(), False))
    told = advice(seen, known(), A, [False] * len(seen), None, foreign=foreign)
    assert told.text == f"set the flask aside and check it: {says}"


def test_a_smaller_wanted_interval_takes_more_fields() -> None:
    perfect = known((10, 10), groups=60, cells=5000)
    wide, narrow = (fields_for(w, 0, answers(10, 12, 8), perfect) for w in (0.1, 0.05))
    assert (wide[1], narrow[1]) == (0.1, 0.05)
    assert 2.5 < narrow[0] / wide[0] < 5
    total, half = fields_for(0.0, 0, answers(10, 12, 8), None)  # whatever is asked, it ends
    assert total > 1000 and 0 < half < 0.001


def test_fields_are_asked_for_until_they_add_little() -> None:
    card = spread_card(np.random.default_rng(0))
    few, many = (
        advice(answers(n, 12, 8), card, A, NONE_BLURRED, None, wanted=0.01) for n in (3, 400)
    )
    assert few.more_fields is not None and few.more_fields > 1
    assert "more fields would add little" in many.text and many.more_fields is None
    told, n = few, 3
    while told.more_fields is not None and n < 1000:  # who follows it arrives
        n += told.more_fields
        told = advice(answers(n, 12, 8), card, A, NONE_BLURRED, None, wanted=0.01)
    assert "would add little" in told.text
    at_best = half_width(0, answers(20_000, 12, 8), card)
    assert 0.01 < at_best < half_width(0, answers(n, 12, 8), card) < 1.45 * at_best


def test_advice_is_given_where_the_confusion_is_not_known() -> None:
    assert advice(answers(5, 12, 8), None, None, NONE_BLURRED, None).text.startswith("take about")
    assert advice(answers(99, 12, 8), None, None, NONE_BLURRED, None).text.startswith("enough")


def passage(number: int, per_mm2: float, shift: Shift | None = None) -> FlaskVerdict:
    flask = FlaskRef(id="F", session=str(number), cell_line=A, passage=number)
    spread = Density(cells_per_mm2=per_mm2, low=per_mm2 - 2, high=per_mm2 + 2)
    return FlaskVerdict(flask=flask, open=False, n_frames=9, n_cells=99, n_abstained=0,
                        n_rejected=0, composition={}, density=spread, shift=shift)  # fmt: skip


def test_a_trend_needs_three_earlier_passages_and_says_so() -> None:
    earlier = Earlier(tuple(passage(n, 100 + n) for n in range(1, 3)))
    found = trend(passage(9, 100), earlier)
    assert found is not None and found.n_passages == 2 and not found.figures
    assert f"{LEAST_PASSAGES} are needed" in found.text
    assert trend(FlaskVerdict(**{**as_dict(passage(9, 1)), "flask": FlaskRef(id="F", session="x")}),
                 earlier) is None  # fmt: skip


def as_dict(verdict: FlaskVerdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in verdict.__struct_fields__}


def test_a_figure_outside_its_limits_is_named() -> None:
    earlier = Earlier(tuple(passage(n, 100 + n % 3) for n in range(1, 9)))
    usual, odd = (trend(passage(9, value), earlier) for value in (101.0, 140.0))
    assert usual is not None and not usual.figures["cells per mm2"].outside
    assert odd is not None and odd.figures["cells per mm2"].outside
    assert odd.text.startswith("unlike 8 earlier passages") and "cells per mm2 140" in odd.text


@pytest.mark.parametrize("m", [3, 5, 20])
def test_control_limits_keep_99_of_100_however_few_passages(m: int) -> None:
    rng = np.random.default_rng(m)
    values = rng.normal(0.3, 0.05, (3000, m + 1)).tolist()
    outside = sum(control(now, 0.0, before).outside for now, *before in values)
    assert 0.004 <= outside / 3000 <= 0.017


def totals(n: int, of_a: int, of_b: int, flags: tuple[str, ...] = ()) -> Totals:
    """Totals of n frames with so many cells answered as each class."""
    out, cell = Totals(), frame("a.tif", 1).cells[0]
    for number in range(n):
        result = frame(f"{number}.tif", 1)
        labels = [A] * of_a + [B] * of_b
        cells = tuple(
            msgspec.structs.replace(cell, label=label, area_um2=200.0) for label in labels
        )
        quality = msgspec.structs.replace(result.quality, flags=flags)
        out.add(msgspec.structs.replace(result, cells=cells, quality=quality))
    return out


def yard() -> Yardstick:
    return Yardstick(model_sha256=frame("a.tif", 1).model.sha256, reading=known())


def test_a_verdict_says_all_of_it_in_its_line_and_its_entry() -> None:
    found = totals(20, 2, 18).against(FLASK, yard())
    assert found.declared_match == "mismatch" and found.declared is not None
    assert found.corrected is not None and found.corrected[A].fraction < 0.15
    assert found.confluence is not None and found.confluence.fraction > 0
    line = one_line(received(1, found))
    assert f"HEK-293A {found.corrected[A].fraction:.0%}" in line
    assert "corrected for the model's errors" in line and "covered" in line
    assert "declared hek 293a: mismatch, most cells are not HEK-293A" in line
    assert "advice: " in line
    entry = Entry(found, ())
    assert "mismatch" in dict(facts(entry))["Declared line"]
    assert any("do not match the declared hek 293a" in text for text in warnings(entry))
    assert all(len(row) == 4 for row in composition_rows(found))


def test_a_contamination_is_told_in_the_line_and_the_entry() -> None:
    found = totals(48, 18, 3).against(FLASK, yard())
    assert found.declared_match == "match"
    assert found.contamination is not None and found.contamination.found
    assert "contamination: 1" in one_line(received(1, found))
    assert any(text.startswith("Possible contamination") for text in warnings(Entry(found, ())))


def test_conditions_depend_on_the_last_frames_alone() -> None:
    blurred = totals(6, 20, 0, ("out_of_focus",))
    history = blurred.history(FLASK, yard())
    assert len(history) == 5
    assert [sorted(one) for one in history] == [[]] + [["out_of_focus"]] * 4


def test_a_verdict_of_50_frames_takes_little_time() -> None:
    many, against = totals(50, 20, 2), yard()
    many.against(FLASK, against)
    many.looks.clear()
    start = time.process_time()
    for _ in range(5):
        many.looks.clear()
        many.against(FLASK, against)
        many.history(FLASK, against)
    assert (time.process_time() - start) / 5 < 0.1  # 20 ms where nothing else runs


def test_every_number_of_a_verdict_is_finite() -> None:
    for seen in (totals(0, 0, 0), totals(1, 0, 0), totals(3, 1, 0), totals(4, 0, 1)):
        body = msgspec.to_builtins(seen.against(FLASK, yard()))
        assert all(math.isfinite(v) for v in floats(body))


def floats(value: object) -> list[float]:
    if isinstance(value, dict):
        return [v for item in value.values() for v in floats(item)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize("n_frames", [3, 10, 30])
def test_a_corrected_share_is_covered_though_flasks_differ(n_frames: int) -> None:
    """Simulated flasks whose error rates are their own (mean 5 %, SD 1 point); +- 2 points."""
    rng = np.random.default_rng(n_frames)
    size, card = 0.05 * 0.95 / 0.01**2 - 1, spread_card(rng)
    covered = 0
    for _ in range(500):
        share = rng.uniform(0.05, 0.95)
        miss, false = rng.beta(0.05 * size, 0.95 * size, 2)
        of_a = rng.binomial(20, share * (1 - miss) + (1 - share) * false, n_frames)
        seen = [{A: int(k), B: 20 - int(k)} for k in of_a]
        _, low, high = share_of(0, seen, card)
        covered += low <= share <= high
    assert 0.925 <= covered / 500 <= 0.99


def spread_card(rng: np.random.Generator) -> Reading:
    """Twenty left-out flasks of each class with error rates of mean 5 % and SD 1 point."""
    size, figures, rows = 0.05 * 0.95 / 0.01**2 - 1, [], []
    for at, name in enumerate(CLASSES):
        wrong = rng.binomial(300, rng.beta(0.05 * size, 0.95 * size, 20))
        right = 6000 - int(wrong.sum())
        rows.append((right, int(wrong.sum())) if at == 0 else (int(wrong.sum()), right))
        figures += [
            GroupFigures(
                group=f"{name}{i}",
                labels=(name,),
                n=300,
                accuracy=1 - k / 300,
                low=0,
                high=1,
                novelty=0.5,
            )
            for i, k in enumerate(wrong.tolist())
        ]
    found = reading_of(CLASSES, Confusion(counts=tuple(rows), groups=(), group_kind="flask"),
                       tuple(figures))  # fmt: skip
    assert found is not None
    return found
