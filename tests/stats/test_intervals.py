"""Intervals against textbook values, SciPy and simulated coverage."""

import numpy as np
import pytest
from scipy import stats

from evalkit.errors import UserError
from evalkit.stats import bootstrap, clustered_mean, share, wilson
from evalkit.stats.intervals import bounded_mean, sign_test_p


@pytest.mark.parametrize("k, n", [(0, 10), (1, 10), (7, 20), (20, 20), (500, 1343)])
def test_wilson_against_scipy(k: int, n: int) -> None:
    expected = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert np.isnan(share([]).value)


@pytest.mark.parametrize("k, n", [(0, 5), (3, 10), (5, 10), (9, 10), (40, 100)])
def test_sign_test_against_scipy(k: int, n: int) -> None:
    assert sign_test_p(k, n) == pytest.approx(stats.binomtest(k, n).pvalue)


def test_without_clusters_the_error_is_the_usual_one() -> None:
    x = np.random.default_rng(0).normal(size=50)
    mean, expected = clustered_mean(x), stats.ttest_1samp(x, 0.1)
    assert mean.se == pytest.approx(stats.sem(x))
    assert (mean.lower, mean.upper) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert mean.p_value(0.1) == pytest.approx(expected.pvalue)


def test_clustered_error_by_millers_double_sum() -> None:
    rng = np.random.default_rng(1)
    x, cluster = rng.normal(size=30), rng.integers(6, size=30)
    d = x - x.mean()
    same = cluster[:, None] == cluster
    expected = np.sqrt((np.outer(d, d) * same).sum()) / 30
    assert clustered_mean(x, cluster, correction="CR0").se == pytest.approx(expected)
    assert clustered_mean(x, cluster).se == pytest.approx(expected * np.sqrt(6 / 5))
    assert clustered_mean(x, cluster).df == 5


def test_one_cluster_has_no_error() -> None:
    mean = clustered_mean([0.2, 0.4], ["a", "a"])
    assert np.isnan(mean.se) and (mean.lower, mean.upper) == (-np.inf, np.inf) and np.isnan(mean.p_value())


def test_clustered_shares_cover() -> None:
    rng = np.random.default_rng(2)
    items = np.repeat(np.arange(40), 10)
    plain, clustered = [], []
    for _ in range(300):
        hits = rng.random(400) < np.repeat(rng.beta(1, 1, size=40), 10)
        for found, labels in ((plain, None), (clustered, items)):
            estimate = share(hits, labels)
            found.append(estimate.lower <= 0.5 <= estimate.upper)
    assert 0.92 <= np.mean(clustered) <= 0.98
    assert np.mean(plain) < 0.80


def test_share_without_variation_counts_clusters() -> None:
    assert share([True] * 100, np.repeat(np.arange(5), 20)).lower == pytest.approx(wilson(5, 5)[0])


def weighted_mean(x: np.ndarray):
    return lambda weight: (weight @ x) / weight.sum(axis=1)


def test_bootstrap_is_seeded_and_matches_scipy() -> None:
    x = np.random.default_rng(3).exponential(size=60)
    first = bootstrap(weighted_mean(x), 60, rounds=5000, seed=1)
    assert first == bootstrap(weighted_mean(x), 60, rounds=5000, seed=1)
    assert first != bootstrap(weighted_mean(x), 60, rounds=5000, seed=2)
    expected = stats.bootstrap((x,), np.mean, n_resamples=5000, method="BCa", rng=np.random.default_rng(4))
    assert first[:2] == pytest.approx(tuple(expected.confidence_interval), abs=0.02)
    assert first[2] == 0.0


def test_bootstrap_without_variation_has_no_limits() -> None:
    lower, upper, undefined = bootstrap(weighted_mean(np.ones(10)), 10)
    assert np.isnan(lower) and np.isnan(upper) and undefined == 0.0


def test_bad_input_ends_in_a_sentence() -> None:
    with pytest.raises(UserError, match="1000 rounds or more, not 100"):
        bootstrap(weighted_mean(np.ones(3)), 3, rounds=100)
    with pytest.raises(UserError, match="value 2 of 3 is not a finite number"):
        clustered_mean([1.0, np.nan, 2.0])
    with pytest.raises(UserError, match="value 2 of 2 has no cluster label"):
        clustered_mean([1.0, 2.0], ["a", None])
    with pytest.raises(UserError, match="one label a value"):
        clustered_mean([1.0, 2.0], ["a"])


def test_bounded_means_stay_within_0_and_1_and_cover() -> None:
    rng = np.random.default_rng(5)
    hits = []
    for _ in range(400):
        mean = bounded_mean(rng.beta(6, 0.5, size=25))
        assert 0 <= mean.lower < mean.upper <= 1
        hits.append(mean.lower <= 6 / 6.5 <= mean.upper)
    assert 0.91 <= np.mean(hits) <= 0.99
    with pytest.raises(UserError, match=r"value 2 of 2 is 1\.5"):
        bounded_mean([0.5, 1.5])
