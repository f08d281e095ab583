"""Rank ranges: error rates by simulation, the step-down against a plain computation, groups, the legacy rule."""

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats import bradley_terry
from evalkit.stats.ranks import (
    _draw,
    _pair_precision,
    rank_ranges,
    significance_groups,
    told_apart,
)


def covariance_of(rng: np.random.Generator, m: int, chain: bool) -> np.ndarray:
    """Of models compared all with all, or each with the next only: then errors add up along the chain."""
    root = np.cumsum(rng.normal(size=(m, m)), axis=0) if chain else rng.normal(size=(m, 3 * m))
    covariance = root @ root.T / m
    return covariance - covariance.mean(0) - covariance.mean(1)[:, None] + covariance.mean()


@pytest.mark.parametrize("chain", [False, True])
@pytest.mark.parametrize("m", [2, 3, 5, 30])
def test_step_down_equals_the_plain_computation(m: int, chain: bool) -> None:
    rng = np.random.default_rng(m)
    for spread in (0.5, 3.0, 10.0):
        covariance = covariance_of(rng, m, chain)
        rating = rng.normal(size=m) * spread * np.sqrt(np.diag(covariance).mean())
        draws, precision = _draw(covariance, 2000, 0).astype(float), _pair_precision(covariance)
        i, j = np.nonzero(~np.eye(m, dtype=bool))
        values = (draws[:, i] - draws[:, j]) * precision[i, j]
        statistic = np.subtract.outer(rating, rating) * precision
        active, expected = ~np.eye(m, dtype=bool), np.zeros((m, m), dtype=bool)
        while active.any():
            critical = np.sort(values[:, active[i, j]].max(axis=1))[1900]
            rejected = active & (statistic > critical)
            if not rejected.any():
                break
            expected |= rejected
            active &= ~rejected
        np.testing.assert_array_equal(told_apart(rating, covariance, np.inf, 0.05), expected)


@pytest.mark.parametrize("truth", [np.zeros(6), np.array([0, 0, 0, 9.0, 9.0, 9.0])])
def test_family_wise_error_rate(truth: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    covariance = covariance_of(rng, 6, False)
    estimates = rng.multivariate_normal(truth, covariance, size=600, method="eigh")
    same_or_worse = np.less_equal.outer(truth, truth)
    found = [told_apart(estimate, covariance, np.inf, 0.05) for estimate in estimates]
    wrong = np.mean([(better & same_or_worse).any() for better in found])
    assert wrong <= 0.075
    if not truth.any():  # with all equal the rate is exact
        assert wrong >= 0.03
    # Overlapping intervals of the same 95 % have another error rate altogether.
    legacy = [told_apart(estimate, covariance, np.inf, 0.05, "overlap") for estimate in estimates]
    assert abs(np.mean([(better & same_or_worse).any() for better in legacy]) - 0.05) > 0.005


def test_family_wise_error_rate_with_few_clusters() -> None:
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(400):
        scores = rng.normal(size=(9, 5))  # 9 clusters, 5 equal models
        covariance = np.cov(scores.T) / 9
        wrong += told_apart(scores.mean(axis=0), covariance, 8.0, 0.05).any()
    assert wrong / 400 <= 0.075
    scores = rng.normal(size=(4, 6))  # fewer clusters than models: a covariance without inverse
    better = told_apart(scores.mean(axis=0), np.cov(scores.T) / 4, 3.0, 0.05)
    assert not better.any()


def test_false_discovery_rate_and_power() -> None:
    rng = np.random.default_rng(3)
    truth = np.repeat([0.0, 1.0, 4.0], 4)
    covariance = np.eye(12) * 0.25
    shares, power = [], {"family-wise": 0, "false-discovery": 0}
    for _ in range(300):
        estimate = rng.multivariate_normal(truth, covariance)
        found = told_apart(estimate, covariance, np.inf, 0.05, "false-discovery")
        wrong = found & np.less_equal.outer(truth, truth)
        shares.append(wrong.sum() / max(found.sum(), 1))
        power["false-discovery"] += int((found & ~wrong).sum())
        power["family-wise"] += int(told_apart(estimate, covariance, np.inf, 0.05).sum())
    assert np.mean(shares) <= 0.05
    assert power["false-discovery"] > power["family-wise"] > 0


def test_ranks_cover_the_true_ranks() -> None:
    rng = np.random.default_rng(4)
    truth = np.arange(8.0)[::-1]
    covariance = covariance_of(rng, 8, False)
    covered = 0
    for estimate in rng.multivariate_normal(truth, covariance, size=300, method="eigh"):
        low, high = rank_ranges(estimate, covariance, np.inf, 0.05)
        assert (low >= 1).all() and (high <= 8).all() and (low <= high).all()
        covered += ((low <= np.arange(1, 9)) & (np.arange(1, 9) <= high)).all()
    assert covered / 300 >= 0.93


def test_a_common_shift_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    covariance, rating = covariance_of(rng, 6, False), rng.normal(size=6) * 3
    for method in ("family-wise", "false-discovery", "overlap"):
        plain = told_apart(rating, covariance, np.inf, 0.05, method)
        np.testing.assert_array_equal(told_apart(rating + 7, covariance + 5, np.inf, 0.05, method), plain)


def test_zero_width_intervals_overlap() -> None:
    rating = np.array([3.0, 2.0, 1.0])
    for method in ("overlap", "family-wise", "false-discovery"):
        assert not told_apart(rating, np.zeros((3, 3)), np.inf, 0.05, method).any()
    assert told_apart(rating, np.diag([1e-4, 1e-4, 1e-4]), np.inf, 0.05, "overlap").sum() == 3


def test_unplaced_models_and_no_degrees_of_freedom() -> None:
    covariance = np.eye(3)
    low, high = rank_ranges(np.array([50.0, np.nan, 0.0]), covariance, np.inf, 0.05)
    assert (low.tolist(), high.tolist()) == ([1, 1, 2], [2, 3, 3])
    assert not told_apart(np.array([50.0, 0.0, -50.0]), covariance, 0.0, 0.05).any()


def test_significance_groups() -> None:
    better = np.zeros((4, 4), dtype=bool)
    better[0, 2] = better[0, 3] = better[1, 3] = True
    groups = significance_groups(better)
    assert groups == ((0, 1), (1, 2), (2, 3))
    assert significance_groups(np.zeros((3, 3), dtype=bool)) == ((0, 1, 2),)
    assert significance_groups(np.triu(np.ones((3, 3), dtype=bool), 1)) == ((0,), (1,), (2,))
    assert significance_groups(np.zeros((0, 0), dtype=bool)) == ()


def test_groups_are_shared_just_by_models_not_told_apart() -> None:
    rng = np.random.default_rng(6)
    rating = np.sort(rng.normal(size=40))[::-1] * 3
    better = told_apart(rating, np.diag(rng.uniform(0.05, 2.0, 40)), np.inf, 0.05, "false-discovery")
    groups = significance_groups(better)
    shared = np.zeros((40, 40), dtype=bool)
    for group in groups:
        shared[np.ix_(group, group)] = True
    np.testing.assert_array_equal(shared, ~(better | better.T))


def test_the_board_says_which_rule_it_used() -> None:
    rng = np.random.default_rng(7)
    names, i = np.array(list("abcde")), rng.integers(5, size=900)
    j = (i + rng.integers(1, 5, size=900)) % 5
    winner = np.where(rng.random(900) < 1 / (1 + np.exp((i - j) / 2.0)), "model_a", "model_b")
    votes = pd.DataFrame({"model_a": names[i], "model_b": names[j], "winner": winner})
    boards = {rule: bradley_terry(votes, ranks=rule) for rule in ("family-wise", "false-discovery", "overlap")}
    assert "family-wise error 5%" in boards["family-wise"].ranks and "max-t" in boards["family-wise"].ranks
    assert "no bound for a single range" in boards["false-discovery"].ranks
    assert boards["overlap"].ranks.startswith("legacy rule")
    legacy = boards["overlap"]
    np.testing.assert_array_equal(legacy.better, np.greater.outer(legacy.lower, legacy.upper))
    first = boards["family-wise"]
    assert first.groups()[0][0] == first.models[0]
    assert (first.rank_low == 1 + first.better.sum(axis=0)).all()
    anchored = bradley_terry(votes, anchor="c")
    np.testing.assert_array_equal(anchored.better, first.better)
    with pytest.raises(UserError, match="family-wise, false-discovery, overlap"):
        bradley_terry(votes, ranks="holm")
