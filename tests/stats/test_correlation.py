"""Correlations against SciPy, missing cells, and what has no interval."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evalkit.errors import UserError
from evalkit.stats import correlate, correlation


@pytest.mark.parametrize("tied", [False, True])
def test_coefficients_against_scipy(tied: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=25)
    y = x + rng.normal(size=25)
    if tied:
        x, y = np.round(x), np.round(y)
    result = correlation(x, y, rounds=1000)
    assert result.pearson.value == pytest.approx(stats.pearsonr(x, y).statistic)
    assert result.spearman.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert result.kendall.value == pytest.approx(stats.kendalltau(x, y).statistic)


def test_resampled_coefficients_equal_those_of_the_drawn_models() -> None:
    from evalkit.stats.correlation import _statistics

    rng = np.random.default_rng(1)
    x, y = np.round(rng.normal(size=12), 1), np.round(rng.normal(size=12), 1)
    drawn = rng.integers(12, size=12)
    weight = np.bincount(drawn, minlength=12).astype(float)[None]
    expected = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}
    for method, statistic in _statistics(x, y).items():
        assert statistic(weight)[0] == pytest.approx(expected[method](x[drawn], y[drawn]).statistic)


def test_intervals_cover() -> None:
    rng = np.random.default_rng(2)
    hits = {"pearson": 0, "spearman": 0, "kendall": 0}
    true = {"pearson": 0.7, "spearman": 6 / np.pi * np.arcsin(0.35), "kendall": 2 / np.pi * np.arcsin(0.7)}
    for seed in range(200):
        x, noise = rng.normal(size=(2, 30))
        result = correlation(x, 0.7 * x + np.sqrt(0.51) * noise, rounds=1000, seed=seed)
        for method in hits:
            estimate = getattr(result, method)
            hits[method] += estimate.lower <= true[method] <= estimate.upper
    assert all(0.90 <= hit / 200 <= 0.99 for hit in hits.values()), hits


SCORES = pd.DataFrame(
    {
        "model": list("abcdef"),
        "gsm8k": [0.1, 0.3, 0.2, 0.5, 0.6, 0.9],
        "mmlu": [0.2, 0.3, 0.4, np.nan, 0.5, 0.8],
        "arena": [900, 1000, 950, 1100, np.nan, 1200.0],
    }
)


def test_pairs_are_complete_pairwise() -> None:
    frame = correlate(SCORES, rounds=1000).frame()
    assert frame[["a", "b", "n"]].to_numpy().tolist() == [
        ["gsm8k", "mmlu", 5],
        ["gsm8k", "arena", 5],
        ["mmlu", "arena", 4],
    ]
    row = frame.iloc[0]
    both = SCORES.dropna(subset=["mmlu"])
    assert row["pearson"] == pytest.approx(stats.pearsonr(both["gsm8k"], both["mmlu"]).statistic)


def test_the_interval_holds_the_coefficient() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=12)
    result = correlation(x, x + draw.normal(size=12), rounds=1000)
    for estimate in (result.pearson, result.spearman, result.kendall):
        assert -1 <= estimate.lower < estimate.value < estimate.upper <= 1


def test_reference_matrix_and_seed() -> None:
    result = correlate(SCORES, reference="arena", rounds=1000)
    assert result.frame()["b"].tolist() == ["arena", "arena"]
    assert "1000 rounds, seed 0" in result.interval
    shuffled = correlate(SCORES.sample(frac=1, random_state=0), reference="arena", rounds=1000)
    pd.testing.assert_frame_equal(result.frame(), shuffled.frame())
    matrix = correlate(SCORES, rounds=1000).matrix("kendall")
    assert (np.diag(matrix) == 1).all() and matrix.equals(matrix.T) and matrix.notna().all().all()


@pytest.mark.parametrize("n", [3, 7])
def test_few_models_have_no_interval(n: int) -> None:
    result = correlation([*range(n), np.nan], [1, 0, *range(2, n), 4])
    assert result.n == n and 0 < result.pearson.value < 1
    assert np.isnan([result.pearson.lower, result.kendall.upper]).all()
    assert f"only {n} models" in result.warnings[0]


def test_a_perfect_order_has_no_interval() -> None:
    result = correlation(range(1, 9), [n**2 for n in range(1, 9)])
    assert result.spearman.value == result.kendall.value == 1.0
    assert np.isnan(result.spearman.lower) and any("no interval for spearman" in w for w in result.warnings)
    assert result.pearson.lower < result.pearson.value < 1


def test_a_constant_column_has_no_coefficient() -> None:
    result = correlation([0.1] * 8, range(8), names=("flat", "score"))
    assert np.isnan([result.pearson.value, result.spearman.value, result.kendall.value]).all()
    assert "flat and score: no pearson coefficient" in result.warnings[0]


@pytest.mark.parametrize("models", [0, 1])
def test_too_few_models_to_correlate(models: int) -> None:
    result = correlation([1.0] * models, [2.0] * models)
    assert result.n == models and np.isnan(result.pearson.value) and result.warnings


def test_bad_tables_end_in_a_sentence() -> None:
    with pytest.raises(UserError, match="name the model 'a' twice"):
        correlate(pd.concat([SCORES, SCORES]))
    with pytest.raises(UserError, match="column 'mmlu' is not numeric"):
        correlate(SCORES.assign(mmlu="high"))
    with pytest.raises(UserError, match="two score columns or more"):
        correlate(SCORES[["model", "mmlu"]])
    with pytest.raises(UserError, match="lack the column"):
        correlate(SCORES, reference="elo")
    with pytest.raises(UserError, match="equal lengths"):
        correlation([1, 2], [1, 2, 3])
    with pytest.raises(UserError, match="infinite"):
        correlation([1, np.inf], [1, 2])
