"""Two shares against published values; the permutation test and q-values by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evalkit.stats.two_shares import greater_p, q_values, share_difference


@pytest.mark.parametrize(
    ("a", "m", "b", "n", "lower", "upper"),
    [  # Newcombe 1998, table II, method 10
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (10, 10, 0, 10, 0.6075, 1.0),
    ],
)
def test_newcombes_examples(a: int, m: int, b: int, n: int, lower: float, upper: float) -> None:
    assert share_difference(a / m, m, b / n, n) == pytest.approx((lower, upper), abs=6e-5)


def test_a_side_without_units_says_nothing() -> None:
    assert share_difference(0.5, 0, 0.5, 10) == (-1, 1)
    assert greater_p([], [0, 1]) == 1


def test_zeros_and_ones_are_fishers_exact_test() -> None:
    # Fisher's tea: 3 of 4 right, one-sided p = 17/70.
    assert greater_p([1, 1, 1, 0], [1, 0, 0, 0]) == pytest.approx(17 / 70)
    inside, outside = [1] * 7 + [0] * 5, [1] * 9 + [0] * 31
    table = [[7, 5], [9, 31]]
    assert greater_p(inside, outside) == pytest.approx(stats.fisher_exact(table, "greater").pvalue)


def test_sampled_shares_agree_with_the_exact_test_and_the_limit_with_the_sample() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.random(6), rng.random(7)
    exact = stats.permutation_test(
        (inside, outside), lambda a, b: a.mean() - b.mean(), n_resamples=np.inf, alternative="greater"
    ).pvalue
    assert greater_p(inside, outside) == pytest.approx(exact, abs=0.02)
    assert greater_p(outside, inside[:5]) == pytest.approx(
        stats.permutation_test(
            (outside, inside[:5]), lambda a, b: a.mean() - b.mean(), n_resamples=np.inf, alternative="greater"
        ).pvalue,
        abs=0.02,
    )
    large = rng.random(250), rng.random(220) - 0.05
    assert greater_p(*large) == pytest.approx(stats.ttest_ind(*large, alternative="greater").pvalue, rel=0.1)


def test_q_values_of_benjamini_and_hochbergs_example() -> None:
    # Benjamini & Hochberg 1995, section 4.1: at 0.05 the first four of these fifteen are discoveries.
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1,
    ]
    assert (q_values(p) <= 0.05).tolist() == [True] * 4 + [False] * 11
    assert q_values(p[::-1])[::-1] == pytest.approx(q_values(p))
    assert q_values(p) == pytest.approx(stats.false_discovery_control(p))
    assert len(q_values([])) == 0
