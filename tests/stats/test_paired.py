"""Paired comparison of two models against SciPy and by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evalkit.errors import UserError
from evalkit.stats import compare_models, paired_difference


def test_difference_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=40)
    b = a + rng.normal(0.2, 0.5, size=40)
    result, expected = paired_difference(a, b), stats.ttest_rel(a, b)
    assert result.difference == pytest.approx(result.mean_a - result.mean_b)
    assert result.p_value == pytest.approx(expected.pvalue)
    assert (result.lower, result.upper) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert result.mcnemar_p is None


def test_mcnemar_is_exact() -> None:
    a = np.array([1] * 12 + [0] * 3 + [1] * 20 + [0] * 15)
    b = np.array([0] * 12 + [1] * 3 + [1] * 20 + [0] * 15)
    result = paired_difference(a, b)
    assert (result.only_a, result.only_b) == (12, 3)
    assert result.mcnemar_p == pytest.approx(stats.binomtest(12, 15).pvalue)
    assert result.difference == pytest.approx(9 / 50)


def test_clusters_widen_the_error() -> None:
    rng = np.random.default_rng(1)
    passage = np.repeat(np.arange(15), 8)
    a = np.repeat(rng.normal(size=15), 8) + rng.normal(scale=0.1, size=120)
    clustered = paired_difference(a, np.zeros(120), clusters=passage)
    assert clustered.n_clusters == 15
    assert clustered.se > 2 * paired_difference(a, np.zeros(120)).se


def test_failures_are_counted_and_in_no_mean() -> None:
    result = paired_difference([1, 0, np.nan, 1], [0, 0, 1, np.nan])
    assert (result.n, result.n_missing, result.mean_a, result.mean_b) == (2, 2, 0.5, 0.0)
    assert "2 of 4 items" in result.warnings[0]


def test_no_variation_has_no_interval() -> None:
    result = paired_difference([1, 1, 1], [0, 0, 0])
    assert result.difference == 1 and np.isnan(result.p_value) and np.isinf(result.upper)
    assert result.mcnemar_p == pytest.approx(0.25) and "no variation" in result.warnings[0]


def test_no_items_in_common() -> None:
    result = paired_difference([1, np.nan], [np.nan, 1])
    assert result.n == 0 and np.isnan(result.difference) and result.mcnemar_p is None and len(result.warnings) == 2


GRADES = pd.DataFrame(
    [
        ("q1", "m", 1, "p"),
        ("q1", "m", 0, "p"),
        ("q1", "n", 0, "p"),
        ("q1", "other", 1, "p"),
        ("q2", "m", 1, "p"),
        ("q2", "n", 1, "p"),
        ("q3", "m", 1, "r"),
        ("q3", "n", None, "r"),
        ("q4", "m", 1, "s"),
        ("q4", "n", 0, "s"),
    ],
    columns=["item_id", "model", "value", "passage"],
)


def test_grades_are_paired_by_item() -> None:
    result = compare_models(GRADES, "m", "n", cluster="passage")
    assert (result.n, result.n_missing, result.n_clusters) == (3, 1, 2)
    assert result.mean_a == pytest.approx((0.5 + 1 + 1) / 3) and result.mean_b == pytest.approx(1 / 3)
    assert result.mcnemar_p is None
    assert result.warnings[-1] == "1 of 9 grades have no value (failures); they are in no mean."
    reverse = compare_models(GRADES, "n", "m", cluster="passage")
    assert (reverse.difference, reverse.p_value) == pytest.approx((-result.difference, result.p_value))


def test_bad_grades_end_in_a_sentence() -> None:
    with pytest.raises(UserError, match="no grade of the model 'x'; there are grades of m, n, other"):
        compare_models(GRADES, "m", "x")
    with pytest.raises(UserError, match="compared with itself"):
        compare_models(GRADES, "m", "m")
    with pytest.raises(UserError, match="mix the criteria"):
        compare_models(GRADES.assign(criterion=["em", "f1"] * 5), "m", "n")
    with pytest.raises(UserError, match="lack the column"):
        compare_models(GRADES.drop(columns="value"), "m", "n")
    with pytest.raises(UserError, match="item by item"):
        paired_difference([1], [1, 2])
