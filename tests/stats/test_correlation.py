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
    for seed in range(120):
        x, noise = rng.normal(size=(2, 30))
        result = correlation(x, 0.7 * x + np.sqrt(0.51) * noise, rounds=1000, seed=seed)
        for method in hits:
            estimate = getattr(result, method)
            hits[method] += estimate.lower <= true[method] <= estimate.upper
    assert all(0.90 <= hit / 120 <= 0.99 for hit in hits.values()), hits


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
    found = correlate(SCORES, rounds=1000)
    matrix = found.matrix("kendall")
    assert (np.diag(matrix.value) == 1).all() and matrix.value.equals(matrix.value.T)
    assert matrix.value.loc["mmlu", "arena"] == found.pairs[2].kendall.value
    assert matrix.n.to_numpy().tolist() == [[6, 5, 5], [5, 5, 4], [5, 4, 5]]
    assert result.matrix().n.loc["gsm8k", "mmlu"] == 0 and np.isnan(result.matrix().value.loc["gsm8k", "mmlu"])
    with pytest.raises(UserError, match="must be one of pearson, spearman, kendall"):
        found.matrix("phi")


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
    with pytest.raises(UserError, match="'elo' is no score column; there are gsm8k, mmlu, arena"):
        correlate(SCORES, reference="elo")
    with pytest.raises(UserError, match="equal lengths"):
        correlation([1, 2], [1, 2, 3])
    with pytest.raises(UserError, match="infinite"):
        correlation([1, np.inf], [1, 2])


def long(values: np.ndarray, models: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": np.repeat(models, values.shape[1]),
            "item_id": np.tile([f"q{i}" for i in range(values.shape[1])], len(models)),
            "value": values.ravel(),
        }
    )


MODELS = [f"m{i:02d}" for i in range(12)]


def test_resampled_models_and_items_equal_those_drawn() -> None:
    from evalkit.stats.correlation import _statistics_by_item
    from evalkit.stats.item_scores import item_scores

    rng = np.random.default_rng(3)
    values, y = np.round(rng.normal(size=(12, 7)), 1), rng.normal(size=12)
    side = item_scores(long(values, MODELS).sample(frac=1, random_state=0), "x")
    assert side.models == tuple(MODELS) and (side.values == values).all()
    models, items = rng.integers(12, size=12), rng.integers(7, size=7)
    weight = np.concatenate([np.bincount(models, minlength=12), np.bincount(items, minlength=7)]).astype(float)
    drawn = values[:, items].mean(axis=1)[models]
    expected = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}
    for method, statistic in _statistics_by_item(side, y, side.items).items():
        assert statistic(weight[None])[0] == pytest.approx(expected[method](drawn, y[models]).statistic)


def test_a_column_may_be_given_item_by_item() -> None:
    rng = np.random.default_rng(4)
    skill = rng.normal(size=12)
    bench = (rng.random((12, 40)) < 1 / (1 + np.exp(-skill[:, None]))).astype(float)
    bench[3, :5] = np.nan
    scores = pd.DataFrame({"model": MODELS[::-1], "arena": (1000 + 100 * skill)[::-1]})
    frame = long(bench, MODELS)
    found = correlate(scores, items={"bench": frame, "other": frame[frame["model"] != "m00"]}, rounds=1000)
    mean = np.nanmean(bench, axis=1)
    assert found.frame().loc[0, ["a", "b", "n"]].tolist() == ["arena", "bench", 12]
    assert found.pairs[0].spearman.value == pytest.approx(stats.spearmanr(mean, skill).statistic)
    assert found.pairs[2].n == 11 and found.pairs[2].pearson.value == pytest.approx(1)
    assert found.n_models == {"arena": 12, "bench": 12, "other": 11}
    assert "over models, and over items of bench, other" in found.interval
    assert "bench: 5 values are missing (failures); they are in no mean." in found.warnings
    plain = correlate(scores.assign(bench=mean[::-1]), rounds=1000).pairs[0].pearson
    both = found.pairs[0].pearson
    assert both.value == pytest.approx(plain.value) and (both.lower, both.upper) != (plain.lower, plain.upper)


def test_intervals_over_models_and_items_cover() -> None:
    from evalkit.stats.correlation import _statistics_by_item
    from evalkit.stats.intervals import bootstrap
    from evalkit.stats.item_scores import item_scores

    rng = np.random.default_rng(5)
    hits, tau = 0, 2 / np.pi * np.arcsin(0.7)
    names = [f"m{i:02d}" for i in range(16)]
    for seed in range(60):
        skill, noise = rng.normal(size=(2, 16))
        values = skill[:, None] * (0.5 + rng.random(25)) + rng.normal(size=(16, 25))
        side = item_scores(long(values, names), "x")
        statistic = _statistics_by_item(side, 0.7 * skill + np.sqrt(0.51) * noise, side.items)["kendall"]
        lower, upper, _ = bootstrap(statistic, (16, 25), rounds=1000, seed=seed)
        hits += lower <= tau <= upper
    assert 0.87 <= hits / 60 <= 1.0, hits


def test_bad_item_values_end_in_a_sentence() -> None:
    frame = long(np.ones((12, 3)), MODELS)
    scores = pd.DataFrame({"model": MODELS, "arena": range(12)})
    with pytest.raises(UserError, match="'arena' is given twice"):
        correlate(scores, items={"arena": frame})
    with pytest.raises(UserError, match="no column model"):
        correlate(scores.drop(columns="model"), items={"x": frame})
    with pytest.raises(UserError, match="item values of x lack the column"):
        correlate(scores, items={"x": frame.drop(columns="value")})
    with pytest.raises(UserError, match="row 2 of the item values of x has the value 'good'"):
        correlate(scores, items={"x": frame.assign(value=[1, "good", *frame["value"][2:]])})
    with pytest.raises(UserError, match="row 1 of the item values of x has no model"):
        correlate(scores, items={"x": frame.assign(model=None)})
