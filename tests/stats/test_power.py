"""Sample sizes and detectable effects: Miller's examples, statsmodels, and simulated power."""

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from evalkit.errors import UserError
from evalkit.stats import (
    EloTest,
    MeanTest,
    ShareTest,
    VarianceComponents,
    WinRateTest,
    achieved_power,
    minimum_detectable_effect,
    sample_size,
    variance_components,
)

# Miller's example: omega^2 = 1/9 and sigma^2 = 1/6 (expected values uniform over items).
MILLER = VarianceComponents(1 / 12, 1 / 12, 1 / 36, 1 / 6, 1 / 6)
NO_SAMPLING = VarianceComponents(1 / 12, 1 / 12, 1 / 36)


def test_millers_examples() -> None:
    assert MILLER.omega2 == pytest.approx(1 / 9)
    assert sample_size(MeanTest(NO_SAMPLING), 0.03).n == 969
    assert minimum_detectable_effect(MeanTest(MILLER), 198).effect == pytest.approx(0.133, abs=0.001)
    ten = MeanTest(MILLER, samples_a=10, samples_b=10)
    assert minimum_detectable_effect(ten, 198).effect == pytest.approx(0.075, abs=0.001)


def test_effect_and_size_are_inverse() -> None:
    for design in (
        MeanTest(MILLER, samples_a=3, samples_b=2),
        MeanTest(MILLER, paired=False),
        ShareTest(0.6),
        ShareTest(0.2, two_groups=True),
        WinRateTest(0.3),
        EloTest(0.3),
        EloTest(0.1, "others"),
    ):
        effect = minimum_detectable_effect(design, 400).effect
        assert sample_size(design, effect).n == pytest.approx(400, abs=1)
        assert achieved_power(design, effect, 400) == pytest.approx(0.8)
        assert sample_size(design, effect * 0.9).n > 450


def test_against_statsmodels() -> None:
    power = pytest.importorskip("statsmodels.stats.power", reason="statsmodels is not installed")
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    unpaired = MeanTest(VarianceComponents(0.2, 0.2), paired=False)
    expected = power.NormalIndPower().solve_power(0.05 / np.sqrt(0.2), alpha=0.05, power=0.9)
    assert sample_size(unpaired, 0.05, power=0.9).n == np.ceil(expected)
    paired = MeanTest(VarianceComponents(0.2, 0.2, 0.15))
    expected = power.TTestPower().solve_power(0.05 / np.sqrt(0.1), alpha=0.05, power=0.8)
    assert sample_size(paired, 0.05).n == pytest.approx(expected, abs=3)  # t instead of the normal
    expected = proportion.samplesize_proportions_2indep_onetail(0.1, 0.5, 0.8)
    assert sample_size(ShareTest(0.5, two_groups=True), 0.1).n == pytest.approx(expected, abs=1)


def test_share_and_votes_by_hand() -> None:
    a, b = stats.norm.ppf([0.975, 0.8])
    assert sample_size(ShareTest(0.5), 0.1).n == np.ceil(((a * 0.5 + b * np.sqrt(0.24)) / 0.1) ** 2)
    p = 1 / (1 + 10 ** (-20 / 400))
    by_hand = ((a * np.sqrt(0.2) + b * np.sqrt(0.2 - (p - 0.5) ** 2)) / (p - 0.5)) ** 2
    assert sample_size(EloTest(0.2), 20).n == np.ceil(by_hand)
    # On a board both differences carry the error of their own opponents: four times the votes of the two in all.
    board, duel = sample_size(EloTest(0.2, "others"), 10).n, sample_size(EloTest(0.2), 10).n
    assert 2 * board == pytest.approx(4 * duel, rel=0.01)


def test_simulated_power_of_the_paired_test() -> None:
    rng = np.random.default_rng(0)
    n = sample_size(MeanTest(MILLER), 0.1).n
    found = 0
    for _ in range(400):
        both = special.ndtr(rng.multivariate_normal([0, 0], [[1, 0.36], [0.36, 1]], size=n))
        both[:, 1] *= 0.8  # a mean of 0.4 for the second model
        a, b = (rng.random((n, 2)) < both).astype(float).T
        found += stats.ttest_rel(a, b).pvalue < 0.05
    assert 0.72 <= found / 400 <= 0.88


def test_simulated_power_of_votes() -> None:
    rng = np.random.default_rng(1)
    plan = sample_size(EloTest(0.25), 40)
    win_rate = special.expit(40 * np.log(10) / 400)
    votes = rng.multinomial(plan.n, [win_rate - 0.125, 0.25, 1 - win_rate - 0.125], size=2000)
    z = (votes[:, 0] - votes[:, 2]) / np.sqrt(votes[:, 0] + votes[:, 2])
    assert 0.77 <= (np.abs(z) > 1.96).mean() <= 0.83


def test_variance_components_are_found_again() -> None:
    rng = np.random.default_rng(2)
    n, k = 3000, 4
    shared = rng.normal(size=n)
    rows = []
    for model, own in (("a", rng.normal(size=n)), ("b", rng.normal(size=n))):
        values = (2 * shared + own)[:, None] + 3 * rng.normal(size=(n, k))
        rows.append(pd.DataFrame({"item_id": np.repeat(np.arange(n), k), "model": model, "value": values.ravel()}))
    grades = pd.concat(rows)
    found = variance_components(grades, "a", "b")
    assert (found.var_a, found.var_b, found.covariance) == pytest.approx((5, 5, 4), rel=0.1)
    assert (found.sigma2_a, found.sigma2_b) == pytest.approx((9, 9), rel=0.05)
    assert found.omega2 == pytest.approx(2, abs=0.4) and found.n == n and not found.warnings
    by_hand = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2 * (found.omega2 + 18 / 4) / 0.04
    assert sample_size(MeanTest(found, samples_a=4, samples_b=4), 0.2).n == pytest.approx(by_hand, rel=0.05)


def test_one_sample_an_item_and_clusters() -> None:
    rng = np.random.default_rng(3)
    passage = np.repeat(np.arange(50), 6)
    grades = pd.DataFrame({"item_id": np.tile(np.arange(300), 2), "model": ["a"] * 300 + ["b"] * 300})
    grades["passage"] = np.tile(passage, 2)
    grades["value"] = np.r_[rng.normal(size=50)[passage], np.zeros(300)] + 0.1 * rng.normal(size=600)
    grades.loc[0, "value"] = np.nan
    found = variance_components(grades, "a", "b", cluster="passage")
    assert found.sigma2_a is None and (found.n, found.n_missing) == (299, 1)
    assert found.design_effect == pytest.approx(6, rel=0.1)
    assert "One sample an item of a" in found.warnings[0] and "1 of 300 items" in found.warnings[-1]
    plain = VarianceComponents(found.var_a, found.var_b, found.covariance, None, None)
    ratio = sample_size(MeanTest(found), 0.1).n / sample_size(MeanTest(plain), 0.1).n
    assert ratio == pytest.approx(found.design_effect, rel=0.01)
    with pytest.raises(UserError, match="one sample an item, so the gain from 4 samples"):
        sample_size(MeanTest(found, samples_a=4), 0.1)


def test_what_cannot_be_found_is_said() -> None:
    plan = minimum_detectable_effect(WinRateTest(0.9), 5)
    assert np.isnan(plan.effect) and "no possible effect" in plan.warnings[0]
    assert "rough" in sample_size(ShareTest(0.5), 0.4).warnings[0]
    assert minimum_detectable_effect(MeanTest(VarianceComponents(0, 0)), 50).effect == 0
    frame = sample_size(WinRateTest(), 0.05).frame()
    assert frame.columns.tolist() == ["effect", "n", "unit", "alpha", "power"] and frame["unit"][0] == "votes"


@pytest.mark.parametrize(
    "design, effect, options, sentence",
    [
        (ShareTest(0.9), 0.2, {}, "above 0 and at most 0.1"),
        (WinRateTest(), 0.0, {}, "above 0"),
        (EloTest(0.5), 400, {}, "at most 190.8"),
        (WinRateTest(1.0), 0.1, {}, "share of ties is 1.0"),
        (ShareTest(-0.1), 0.1, {}, "base share is -0.1"),
        (WinRateTest(), 0.1, {"alpha": 0}, "alpha is 0"),
        (WinRateTest(), 0.1, {"power": 1}, "power is 1"),
        (MeanTest(VarianceComponents(-1, 1)), 0.1, {}, "variance is negative"),
        (MeanTest(MILLER, samples_a=0), 0.1, {}, "0 samples of each item"),
    ],
)
def test_bad_plans_end_in_a_sentence(design, effect, options, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        sample_size(design, effect, **options)
    with pytest.raises(UserError, match="0 votes detect nothing"):
        minimum_detectable_effect(WinRateTest(), 0)
