"""Which cell is which, and how far two models agree."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from parfocal.replay_cells import FEWEST_FLASKS, agreement, matched
from parfocal.replay_flasks import differences
from parfocal.types import Cell, FlaskRef, FlaskVerdict, Fraction, Shift

LIMIT_PX = 10.0
PLACES = st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), max_size=12)


def cells(places: list[tuple[float, float]]) -> list[Cell]:
    return [
        Cell(
            id=number, x_px=x, y_px=y, left_px=x, top_px=y, width_px=1, height_px=1, area_um2=1,
            label="A", probability=1, probabilities={"A": 1}, novelty=0,
        )
        for number, (x, y) in enumerate(places, 1)
    ]  # fmt: skip


@given(PLACES, PLACES)
def test_matches_are_near_one_to_one_and_leave_no_pair_that_could_be(
    old: list[tuple[float, float]], new: list[tuple[float, float]]
) -> None:
    pairs = matched(cells(old), cells(new), LIMIT_PX)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)

    def apart(i: int, j: int) -> float:
        return float(abs(complex(*old[i]) - complex(*new[j])))

    assert all(apart(i, j) <= LIMIT_PX + 1e-9 for i, j in pairs)
    left_old = set(range(len(old))) - {i for i, _ in pairs}
    left_new = set(range(len(new))) - {j for _, j in pairs}
    assert all(apart(i, j) > LIMIT_PX - 1e-9 for i in left_old for j in left_new)


def test_the_nearest_pair_wins() -> None:
    assert matched(cells([(0, 0), (6, 0)]), cells([(5, 0)]), LIMIT_PX) == [(1, 0)]


LABELS = st.sampled_from(["A", "B", "C"])


@given(st.lists(st.tuples(LABELS, LABELS), min_size=2, max_size=40))
def test_kappa_is_cohens(pairs: list[tuple[str, str]]) -> None:
    found = agreement([("f", str(n), old, new) for n, (old, new) in enumerate(pairs)])
    assert found is not None
    if len({label for pair in pairs for label in pair}) == 1:
        assert found.kappa is None and found.low is None
    else:
        expected = cohen_kappa_score(*zip(*pairs, strict=True))
        assert found.kappa == pytest.approx(expected, abs=1e-12)


def test_the_interval_draws_flasks_where_there_are_enough_and_images_else() -> None:
    rows = [(f"f{k % FEWEST_FLASKS}", f"i{k}", "A", "AB"[k % 2]) for k in range(40)]
    rows += [(f"f{k % FEWEST_FLASKS}", f"i{k}", "B", "B") for k in range(40)]
    of_flasks = agreement(rows)
    of_images = agreement([row for row in rows if row[0] != "f0"])
    assert of_flasks is not None and of_images is not None
    assert (of_flasks.unit, of_flasks.n_units) == ("flask", FEWEST_FLASKS)
    assert (of_images.unit, of_images.n_units) == ("image", 32)
    assert of_flasks.low is not None and of_flasks.high is not None
    assert of_flasks.kappa is not None
    assert of_flasks.low <= of_flasks.kappa <= of_flasks.high
    assert agreement([]) is None


def test_cells_of_one_image_are_no_independent_evidence() -> None:
    rows = [(f"f{k % 6}", "i", "A", "A" if k % 6 < 3 else "B") for k in range(600)]
    rows += [(f"f{k % 6}", "i", "B", "B") for k in range(600)]
    wide, many = agreement(rows), agreement([(f"g{n}", "", *row[2:]) for n, row in enumerate(rows)])
    assert wide is not None and many is not None
    assert wide.low is not None and wide.high is not None
    assert many.low is not None and many.high is not None
    assert wide.kappa == many.kappa and wide.high - wide.low > 3 * (many.high - many.low)


def verdict(a: int, b: int, shift: Shift | None = None) -> FlaskVerdict:
    shares = {
        name: Fraction(n=n, fraction=n / (a + b), low=max(0, n / (a + b) - 0.1),
                       high=min(1, n / (a + b) + 0.1))
        for name, n in (("A", a), ("B", b))
    }  # fmt: skip
    return FlaskVerdict(
        flask=FlaskRef(id="F", session="s"), open=False, n_frames=1, n_cells=a + b, n_abstained=0,
        n_rejected=0, composition=shares, density=None, shift=shift,
    )  # fmt: skip


def strange(flagged: bool) -> Shift:
    return Shift(score=1, threshold=2, flagged=flagged, n_cells=9, group_kind="flask")


def test_a_verdict_is_another_one_only_where_both_say_something_else() -> None:
    assert list(differences(verdict(8, 2), verdict(7, 3))) == []
    assert list(differences(verdict(8, 2), verdict(2, 8))) == ["largest class", "composition"]
    assert list(differences(verdict(8, 2, strange(False)), verdict(8, 2, strange(True)))) == [
        "shift"
    ]
    assert list(differences(verdict(8, 2, strange(True)), verdict(8, 2))) == []
    silent = msgspec.structs.replace(verdict(8, 2), declared_match="match")
    assert list(differences(silent, verdict(8, 2))) == []
