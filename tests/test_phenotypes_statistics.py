"""The statistics of phenotypes: silhouettes, spaces, limits, tests over flasks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr, ttest_ind  # type: ignore[import-untyped]
from sklearn.metrics import silhouette_samples

from parfocal_training.errors import DataError
from parfocal_training.phenotypes.choice import OfK, best_k, elbow_k, starts, sweep
from parfocal_training.phenotypes.clustering import Method, clusters_of
from parfocal_training.phenotypes.differences import holm, permutation, welch
from parfocal_training.phenotypes.lca import CellLca
from parfocal_training.phenotypes.model import (
    BEYOND,
    folds_of,
    left_out_cells,
    limits_of,
    unlike_any,
)
from parfocal_training.phenotypes.silhouette import all_silhouettes
from parfocal_training.phenotypes.space import Kind, fitted, spread_of
from parfocal_training.phenotypes.trends import spearman_test, thirds
from parfocal_training.pixels.agreement import adjusted_rand
from parfocal_training.report import cell_text

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(2, 6), st.integers(7, 40))
def test_silhouettes_are_those_of_scikit_learn(seed: int, k: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    points, labels = rng.normal(size=(n, 3)), rng.integers(k, size=n)
    labels[:k] = np.arange(k)
    mine = all_silhouettes(points, labels, rows=5)
    np.testing.assert_allclose(mine, silhouette_samples(points, labels), atol=1e-4)


def test_spaces_are_the_linear_maps_that_they_say() -> None:
    rng = np.random.default_rng(0)
    lca = (rng.normal(size=(200, 8)) @ rng.normal(size=(8, 12)) * 10.0 + 5).astype(np.float32)
    lca[:, 3] = 7  # a unit that is silent for every cell
    kinds: tuple[Kind, ...] = ("lca", "components", "whitened")
    raw, some, white = (fitted(lca, kind, None, np.eye(12)) for kind in kinds)
    np.testing.assert_allclose(raw.at(lca), lca - lca.mean(0, dtype=np.float64), atol=1e-4)
    assert 0.95 <= some.explained <= 1 and some.axes.shape[1] <= 8
    np.testing.assert_array_equal(some.axes[3], 0)
    variances = some.at(lca).var(0)
    assert (np.diff(variances) <= 1e-6).all()
    assert variances.sum() == pytest.approx(11 * some.explained)
    np.testing.assert_allclose(
        np.cov(white.at(lca).T, bias=True), np.eye(white.axes.shape[1]), atol=1e-3
    )
    assert fitted(lca, "components", 2, np.eye(12)).axes.shape == (12, 2)
    with pytest.raises(DataError, match="all 200 cells have the same LCA"):
        fitted(np.ones((200, 3)), "components", None, np.eye(3))


def test_discriminants_are_where_cells_differ_more_than_their_copies() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(300, 1))  # what tells cells apart lies along one small value
    lca = np.concatenate([truth, np.zeros((300, 5))], 1)
    noise = rng.normal(size=(300, 20, 6)) * np.array([0.1, 30, 30, 30, 30, 30])
    copies = lca[:, None] + noise
    found = fitted(copies.mean(1), "discriminants", 1, spread_of(copies))
    plain = fitted(copies.mean(1), "lca", None, spread_of(copies))
    assert abs(np.corrcoef(found.at(copies.mean(1))[:, 0], truth[:, 0])[0, 1]) > 0.9
    assert abs(np.corrcoef(plain.at(copies.mean(1))[:, 1], truth[:, 0])[0, 1]) < 0.2


def test_the_spread_of_copies_is_their_covariance_about_their_own_cell() -> None:
    rng = np.random.default_rng(2)
    copies = rng.normal(size=(400, 1, 2)) * 50 + rng.normal(size=(400, 10, 2)) * np.array([1, 3])
    np.testing.assert_allclose(spread_of(copies), np.diag([1, 9]), atol=0.6)


@given(SEEDS, st.integers(2, 6), st.integers(2, 30))
def test_folds_keep_groups_whole(seed: int, folds: int, n_groups: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(n_groups), rng.integers(n_groups, size=50)])
    found = folds_of(groups, folds, rng)
    assert set(found) == set(range(min(folds, n_groups)))
    assert all(len(set(found[groups == g])) == 1 for g in range(n_groups))


def test_limits_leave_two_percent_outside_at_any_scale() -> None:
    rng = np.random.default_rng(1)
    nearest = np.repeat([0, 1, 2], [3000, 1000, 4])
    apart = rng.gamma(5, 1, len(nearest)) * np.array([1.0, 4.0, 1.0])[nearest]
    limits = limits_of(nearest, apart, 4)
    for j in range(2):
        beyond = (apart[nearest == j] > limits[j]).mean()
        assert beyond == pytest.approx(BEYOND, abs=0.01)
    assert limits[1] == pytest.approx(4 * limits[0], rel=0.1)
    assert limits[2] == limits[3]  # too few cells, and none: the median of all


@pytest.mark.parametrize("method", ["k-means", "mixture"])
def test_two_percent_of_left_out_flasks_are_unlike_any(method: Method) -> None:
    rng = np.random.default_rng(4)
    groups, labels = np.repeat(np.arange(30), 40), np.tile([0, 0, 1, 2], 300)
    middle = np.array([[0.0] * 6, [8.0] * 6, [-8, 8] * 3])
    place = middle[labels] + rng.normal(0, 0.5, (30, 6))[groups]  # flasks differ
    scale = np.array([0.5, 1.0, 1.5])[labels][:, None]
    looks = [(place + scale * rng.normal(size=place.shape)).astype(np.float32) for _ in range(3)]
    lca = CellLca(looks[0], (looks[1] + looks[2]) / 2, np.stack(looks[1:], 1), np.arange(1200))
    cells = left_out_cells(lca, labels, "components", None, method, folds_of(groups, 5, rng))
    np.testing.assert_array_equal(cells.nearest, labels)
    found = unlike_any(cells, groups, 3, "flask", rng)
    assert found.value == pytest.approx(BEYOND, abs=0.01)
    assert found.low is not None and found.high is not None
    assert found.low <= found.value <= found.high < 0.06


def test_the_spread_of_left_out_copies_is_not_looked_at() -> None:
    rng = np.random.default_rng(6)
    groups, labels = np.repeat(np.arange(4), 30), np.tile([0, 1], 60)
    place = labels[:, None] * 8 + rng.normal(size=(120, 3))
    copies = place[:, None] + rng.normal(size=(120, 4, 3))
    mean = place.astype(np.float32)
    folds = folds_of(groups, 4, rng)
    wild = copies.copy()
    wild[folds == 0] *= rng.normal(size=(30, 4, 3)) * 100
    seen = [
        left_out_cells(
            CellLca(mean, mean, c.astype(np.float32), np.arange(120)),
            labels,
            "discriminants",
            1,
            "k-means",
            folds,
        ).apart[folds == 0]
        for c in (copies, wild)
    ]
    np.testing.assert_array_equal(*seen)


def test_a_mixture_finds_long_clusters_that_k_means_cuts_across() -> None:
    rng = np.random.default_rng(8)
    kinds = np.repeat([0, 1, 2], [300, 200, 100])
    shape = np.array([[12.0, 2], [2, 12], [2, 2]])[kinds]  # SD along the two axes
    points = rng.normal(size=(600, 2)) * shape + np.array([[0, -10], [50, 0], [0, 5]])[kinds]
    found = {}
    for method in ("k-means", "mixture"):
        labels, cost = starts(points, 3, method, 10, seed=1)
        found[method] = labels[cost.argmin()]
        sizes = np.bincount(found[method])
        assert list(sizes) == sorted(sizes, reverse=True)
    rand = {name: adjusted_rand(kinds.astype(np.intp), one) for name, one in found.items()}
    assert rand["mixture"] > 0.98 and rand["k-means"] < 0.7
    told = sweep(points, range(2, 6), "mixture", 10, 1, lambda one: None)
    assert best_k(told) == 3 and all(one.bic is not None for one in told)
    known = clusters_of(points, found["mixture"], "mixture")
    assert known.weights is not None
    np.testing.assert_allclose(known.weights, [1 / 2, 1 / 3, 1 / 6], atol=0.01)
    near, apart = known.nearest(points)
    assert (near == found["mixture"]).mean() > 0.99
    assert np.median(apart) == pytest.approx(np.sqrt(2 * np.log(2)), abs=0.1)  # Rayleigh's


def test_clusters_of_few_cells_have_a_width() -> None:
    rng = np.random.default_rng(9)
    points = np.concatenate([rng.normal(size=(60, 5)), rng.normal(size=(3, 5)) + 20])
    known = clusters_of(points, np.repeat([0, 1], [60, 3]), "mixture")
    near, apart = known.nearest(points)
    assert known.precisions is not None and not np.tril(known.precisions, -1).any()
    assert near.tolist() == [0] * 60 + [1] * 3 and apart.max() < 6


def test_the_elbow_is_where_the_curve_bends() -> None:
    def of(k: int, inertia: float, silhouette: float) -> OfK:
        return OfK(
            k=k,
            inertia=inertia,
            silhouette=silhouette,
            mean_silhouette=silhouette,
            sd_silhouette=0.0,
        )

    found = tuple(
        of(k, 100 - 20 * k if k < 5 else 21 - k, 1 / (1 + abs(k - 4))) for k in range(2, 20)
    )
    assert (elbow_k(found), best_k(found)) == (5, 4)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_corrects_upwards_in_order(p: list[float]) -> None:
    values = np.array(p)
    corrected = holm(values)
    assert (corrected >= values).all() and (corrected <= 1).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(corrected[order]) >= 0).all()
    assert corrected[order[0]] == pytest.approx(min(1, len(p) * values.min()))


def test_flasks_that_vary_are_compared_by_welch() -> None:
    one, other = np.array([10, 20, 35, 12]), np.array([40, 55, 70])
    n = np.full(4, 100)
    difference, half, p = welch(one, n, other, n[:3])
    known = ttest_ind(other / 100, one / 100, equal_var=False)
    assert difference == pytest.approx((other.mean() - one.mean()) / 100)
    assert p == pytest.approx(known.pvalue)
    interval = known.confidence_interval(0.95)
    assert difference - half == pytest.approx(interval.low)
    assert difference + half == pytest.approx(interval.high)


def test_flasks_that_happen_to_agree_are_not_believed_to() -> None:
    same = np.array([20, 20]), np.array([100, 100])
    difference, half, p = welch(*same, np.array([24, 24]), same[1])
    assert difference == pytest.approx(0.04) and half > 0.04 and p > 0.3
    assert welch(*same, *same)[2] == 1
    none = np.array([0, 0])
    assert welch(none, same[1], none, same[1])[2] == 1


def test_welch_raises_no_more_false_alarms_than_it_says() -> None:
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(400):
        shares = 1 / (1 + np.exp(-rng.normal(-1.5, 0.5, 6)))  # flasks that differ
        hits, n = rng.binomial(100, shares), np.full(3, 100)
        alarms += welch(hits[:3], n, hits[3:], n)[2] < 0.05
    assert alarms / 400 < 0.08


def test_a_permutation_of_flasks_is_exact_when_it_can_be() -> None:
    low, high = np.array([0.1, 0.2, 0.15]), np.array([0.5, 0.6, 0.55])
    assert permutation(low, high) == pytest.approx(2 / 20)
    assert permutation(low, low) == 1
    rng = np.random.default_rng(0)
    many = permutation(rng.normal(0, 1, 12), rng.normal(3, 1, 12))
    assert 0 < many < 0.001


@given(SEEDS, st.integers(3, 30))
@settings(max_examples=20, deadline=None)
def test_the_correlation_of_a_trend_is_spearmans(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=n), rng.integers(0, 5, n).astype(float)
    rho, p = spearman_test(one, other)
    if np.ptp(other):
        assert rho == pytest.approx(spearmanr(one, other).statistic)
    else:
        assert (rho, p) == (0, 1)
    assert 0 < p <= 1


def test_the_p_value_of_a_trend_is_exact_for_few_flasks() -> None:
    rising = np.arange(5.0)
    rho, p = spearman_test(rising, rising**3)
    assert rho == pytest.approx(1) and p == 2 / 120
    assert spearman_test(rising, np.array([1.0, 0, 2, 3, 4]))[1] > 2 / 120


def test_a_trend_raises_no_more_false_alarms_than_it_says() -> None:
    rng = np.random.default_rng(2)
    alarms = [spearman_test(rng.normal(size=6), rng.normal(size=6))[1] <= 0.05 for _ in range(600)]
    assert np.mean(alarms) < 0.08


def test_thirds_keep_equal_values_together() -> None:
    assert thirds(np.array([5.0, 1, 3, 2, 4, 6])).tolist() == [2, 0, 1, 0, 1, 2]
    assert thirds(np.array([1.0, 1, 1, 1, 9])).tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("cell", "text"),
    [(0.0, "0.000"), (0.0004, "< 0.001"), (0.0006, "0.001"), (-0.0001, "-0.000"), (3, "3")],
)
def test_no_small_p_value_reads_zero(cell: object, text: str) -> None:
    assert cell_text(cell) == text
