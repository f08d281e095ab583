"""Paired comparison of two models against SciPy and by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evalkit.errors import UserError
from evalkit.stats import compare_criteria, compare_models, paired_difference


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


def test_permutation_against_scipy() -> None:
    rng = np.random.default_rng(4)
    few, many = rng.normal(0.4, 1, size=10), rng.normal(0.1, 1, size=200)
    options = {"permutation_type": "samples", "n_resamples": 9999, "rng": np.random.default_rng(0)}
    for d, tolerance in ((few, 1e-12), (many, 0.02)):
        result = paired_difference(d, np.zeros(len(d)))
        expected = stats.permutation_test((d, np.zeros(len(d))), lambda x, y: np.mean(x - y), **options)
        assert result.permutation_p == pytest.approx(expected.pvalue, abs=tolerance)
    assert paired_difference(few, few * 0).permutation == "exact over 2^10 sign flips"
    assert "9999 random sign flips, seed 3" in paired_difference(many, many * 0, seed=3).permutation
    again = [paired_difference(many, many * 0, seed=3).permutation_p for _ in range(2)]
    assert again[0] == again[1] != paired_difference(many, many * 0, seed=4).permutation_p


def test_permutation_of_right_and_wrong_is_mcnemar() -> None:
    a = np.array([1] * 12 + [0] * 3 + [1] * 20)
    b = np.array([0] * 12 + [1] * 3 + [1] * 20)
    result = paired_difference(a, b)
    assert result.permutation_p == result.mcnemar_p == pytest.approx(stats.binomtest(12, 15).pvalue)
    same = paired_difference(a, a)
    assert same.permutation_p == 1.0 and same.mcnemar_p == 1.0


def test_permutation_flips_whole_clusters() -> None:
    passage = np.repeat(np.arange(4), 5)
    a = np.repeat([1.0, 2.0, 1.5, 0.5], 5)
    result = paired_difference(a, np.zeros(20), clusters=passage)
    assert result.permutation_p == 2 / 16  # all four agree in sign
    assert paired_difference(a, np.zeros(20)).permutation_p < 0.001


def test_permutation_keeps_its_level_where_clusters_are_few() -> None:
    rng = np.random.default_rng(5)
    rejected = [
        paired_difference(rng.exponential(size=12) * rng.choice([-1, 1], 12), np.zeros(12)).permutation_p <= 0.05
        for _ in range(400)
    ]
    assert 0.02 <= np.mean(rejected) <= 0.08


def test_permutation_of_many_items_has_a_normal_limit() -> None:
    rng = np.random.default_rng(6)
    d = rng.normal(0.005, 1, size=30_000)
    result = paired_difference(d, np.zeros(len(d)))
    assert result.permutation.startswith("normal limit")
    assert result.permutation_p == pytest.approx(result.p_value, rel=0.01)


def test_criteria_are_compared_one_by_one() -> None:
    grades = pd.concat(
        [
            GRADES.assign(criterion="accuracy"),
            GRADES.assign(criterion="style", value=GRADES["value"].fillna(0) * 2),
            GRADES[GRADES["model"] == "m"].assign(criterion="only m"),
        ]
    )
    found = compare_criteria(grades, "m", "n", cluster="passage")
    frame = found.frame()
    assert frame["metric"].tolist() == ["accuracy", "style"] and frame["n"].tolist() == [3, 4]
    single = compare_models(GRADES, "m", "n", cluster="passage")
    assert found.differences[0] == single and frame["p_value"][0] == single.p_value
    assert "accuracy: 1 of 9 grades have no value (failures); they are in no mean." in found.warnings
    assert "only m: only one of the two models has grades" in found.warnings[-1]
    assert "passage" in found.definition and "not adjusted" in found.definition
    assert compare_criteria(GRADES, "m", "n").metrics == ("value",)
    with pytest.raises(UserError, match="no criterion in common"):
        compare_criteria(GRADES.assign(criterion=GRADES["model"]), "m", "n")
    with pytest.raises(UserError, match="grade 1 names no criterion"):
        compare_criteria(GRADES.assign(criterion=None), "m", "n")


def test_a_grade_that_is_no_number_is_named() -> None:
    with pytest.raises(UserError, match="the grade 'good' of m on item q1 is not a finite number"):
        compare_models(GRADES.assign(value=["good", *GRADES["value"][1:]]), "m", "n")
