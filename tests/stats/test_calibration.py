"""Calibration: by hand, against scikit-learn, and with simulated coverage."""

import numpy as np
import pytest
from scipy.special import expit, logit

from evalkit.errors import UserError
from evalkit.stats import fit_isotonic, fit_platt, recalibrate, reliability_curve


def overconfident(n: int, seed: int, factor: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 1, size=n)
    return p, (rng.random(n) < expit(factor * logit(p))).astype(float)


def test_two_bins_by_hand() -> None:
    p, y = [0.2] * 50 + [0.8] * 50, [1] * 20 + [0] * 30 + [1] * 25 + [0] * 25
    found = reliability_curve(p, y, bins=2)
    low, high = found.bins
    assert (low.n, low.probability, low.share) == (50, pytest.approx(0.2), 0.4)
    assert (high.n, high.probability, high.share) == (50, pytest.approx(0.8), 0.5)
    assert low.lower == pytest.approx(0.2761, abs=1e-4) and low.upper == pytest.approx(0.5382, abs=1e-4)  # Wilson
    assert found.ece_plain == pytest.approx(0.25)
    assert 0.24 < found.ece < found.ece_plain and 0.1 < found.ece_lower < 0.25 < found.ece_upper < 0.4
    assert found.brier == pytest.approx((20 * 0.64 + 30 * 0.04 + 25 * 0.04 + 25 * 0.64) / 100)
    assert found.calibrated_p < 0.001
    assert len(found.frame()) == 2


def test_curve_and_brier_against_scikit_learn() -> None:
    calibration = pytest.importorskip("sklearn.calibration", reason="scikit-learn is not installed")
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    p, y = overconfident(5000, 1)
    share, mean = calibration.calibration_curve(y, p, n_bins=10, strategy="quantile")
    found = reliability_curve(p, y)
    np.testing.assert_allclose([point.share for point in found.bins], share, atol=0.003)  # a limit's own bin differs
    np.testing.assert_allclose([point.probability for point in found.bins], mean, atol=0.001)
    assert found.brier == pytest.approx(metrics.brier_score_loss(y, p))


@pytest.mark.parametrize("per_item", [1, 5])
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_coverage(factor: float, per_item: int) -> None:
    """A calibrated (factor 1) and an overconfident judge; five verdicts on an item share half of their luck."""
    rng, rounds, n = np.random.default_rng(2), 200, 600
    large = np.sort(rng.beta(2, 1, size=400_000)).reshape(10, -1)
    true_ece = np.abs((expit(factor * logit(large)) - large).mean(axis=1)).mean()
    chance = expit(factor * logit(large))
    true_brier = (chance * (1 - chance) + (chance - large) ** 2).mean()
    hits = np.zeros(2)
    for _ in range(rounds):
        items = np.repeat(np.arange(n // per_item), per_item)
        p = rng.beta(2, 1, size=n // per_item)[items]
        shared = rng.random(n // per_item)[items]
        luck = np.where(rng.random(n) < 0.5, shared, rng.random(n))
        y = (luck < expit(factor * logit(p))).astype(float)
        found = reliability_curve(p, y, clusters=items)
        hits += [
            found.ece_lower <= true_ece <= found.ece_upper,
            found.brier_lower <= true_brier <= found.brier_upper,
        ]
    assert (hits / rounds >= 0.92).all(), hits / rounds


def test_bias_of_the_plain_error_is_removed() -> None:
    found = [reliability_curve(*overconfident(300, seed, 0.6)) for seed in range(60)]
    large = reliability_curve(*overconfident(400_000, 3, 0.6)).ece
    assert np.mean([one.ece_plain for one in found]) > large + 0.01
    assert np.mean([one.ece for one in found]) == pytest.approx(large, abs=0.008)


def test_failures_stay_in_n_and_in_no_number() -> None:
    p, y = overconfident(200, 4)
    more = reliability_curve([*p, np.nan, 0.5], [*y, 1, np.nan])
    alone = reliability_curve(p, y)
    assert (more.n, more.n_failed, more.ece, more.brier) == (202, 2, alone.ece, alone.brier)
    assert "2 of 202 cases" in more.warnings[0]
    nothing = reliability_curve([np.nan], [1])
    assert (nothing.n, nothing.n_failed) == (1, 1) and np.isnan(nothing.ece) and nothing.bins == ()


def test_a_constant_probability_has_one_bin() -> None:
    found = reliability_curve(np.full(100, 0.7), [1] * 70 + [0] * 30)
    assert len(found.bins) == 1 and found.ece == 0 and found.ece_lower == 0 < found.ece_upper


def test_isotonic_against_scikit_learn() -> None:
    peer = pytest.importorskip("sklearn.isotonic", reason="scikit-learn is not installed")
    p, y = overconfident(800, 5)
    p = p.round(2)  # with ties
    expected = peer.IsotonicRegression(out_of_bounds="clip").fit(p, y)
    grid = np.linspace(0, 1, 201)
    np.testing.assert_allclose(fit_isotonic(p, y)(grid), expected.predict(grid), atol=1e-12)


def test_platt_against_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    p, y = overconfident(500, 6)
    positive = y.sum()
    up, down = (positive + 1) / (positive + 2), 1 / (len(y) - positive + 2)
    target = np.where(y == 1, up, down)
    # A target between 0 and 1 is a case of each outcome with these weights.
    x, label = np.tile(logit(p), 2)[:, None], np.repeat([1, 0], len(p))
    model = linear.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    model.fit(x, label, sample_weight=np.concatenate([target, 1 - target]))
    found = fit_platt(p, y)
    assert found.slope == pytest.approx(model.coef_[0, 0], rel=1e-4)
    assert found.intercept == pytest.approx(model.intercept_[0], rel=1e-4, abs=1e-4)


def test_platt_of_separable_cases_is_finite() -> None:
    found = fit_platt([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
    assert 0 < found.slope < 10 and 0 < found(0.1) < 0.5 < found(0.9) < 1


@pytest.mark.parametrize("scaling", ["platt", "isotonic"])
def test_scaling_helps_on_the_half_that_it_has_not_seen(scaling: str) -> None:
    p, y = overconfident(6000, 7)
    found = recalibrate(p, y, scaling=scaling, clusters=np.arange(6000) // 3, seed=1)
    assert found.n_fit + found.after.n == 6000 and abs(found.n_fit - 3000) <= 3
    assert found.before.ece_lower > 0.05 and found.after.ece < 0.03
    assert found.after.brier < found.before.brier
    assert found.frame()["probability"].tolist() == ["stated", "scaled"]
    again = recalibrate(p, y, scaling=scaling, clusters=np.arange(6000) // 3, seed=1)
    assert again.after == found.after


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: reliability_curve([0.5, 1.2], [1, 0]), "probability of case 2 is 1.2"),
        (lambda: reliability_curve([0.5], [2]), "outcome of case 1 is 2.0"),
        (lambda: reliability_curve([0.5], [1, 0]), "1 probabilities and 2 outcomes"),
        (lambda: fit_platt([0.5, 0.6], [1, 1]), "both outcomes"),
        (lambda: recalibrate([0.5, 0.6], [1, 0], clusters=["x", "x"]), "two clusters"),
    ],
)
def test_bad_input_ends_in_a_sentence(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
