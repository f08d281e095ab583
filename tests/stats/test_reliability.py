"""Split-half reliability and disattenuation: against Cronbach's alpha, known noise, and simulated coverage."""

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats import disattenuate, split_half
from evalkit.stats.item_scores import item_scores
from evalkit.stats.reliability import _split_half


def long(values: np.ndarray) -> pd.DataFrame:
    models, items = values.shape
    return pd.DataFrame(
        {
            "model": np.repeat([f"m{i:03d}" for i in range(models)], items),
            "item_id": np.tile([f"q{i:03d}" for i in range(items)], models),
            "value": values.ravel(),
        }
    )


def noisy(rng: np.random.Generator, skill: np.ndarray, items: int, noise: float) -> pd.DataFrame:
    return long(skill[:, None] + noise * rng.normal(size=(len(skill), items)))


def test_split_half_is_near_cronbachs_alpha() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 1)) + 2 * rng.normal(size=(40, 30)) + rng.normal(size=30)
    alpha = 30 / 29 * (1 - values.var(axis=0, ddof=1).sum() / values.sum(axis=1).var(ddof=1))
    found = split_half(long(values), rounds=1000)
    assert found.value == pytest.approx(alpha, abs=0.01)
    assert found.lower < found.value < found.upper and found.ceiling == pytest.approx(np.sqrt(found.value))
    assert found.value == pytest.approx(2 * found.half / (1 + found.half))
    assert found.frame()[["n", "n_items", "n_failures"]].to_numpy().tolist() == [[40, 30, 0]]


def test_reliability_is_the_share_of_true_variance() -> None:
    rng = np.random.default_rng(1)
    frame = noisy(rng, rng.normal(size=2000), 20, 3.0)
    _, reliability = _split_half(item_scores(frame, "x"), "x", 50, 0)
    assert reliability(np.ones((1, 2000)))[0] == pytest.approx(1 / (1 + 9 / 20), abs=0.02)


def test_seed_and_order_of_rows() -> None:
    rng = np.random.default_rng(2)
    frame = noisy(rng, rng.normal(size=12), 11, 1.0)
    shuffled = frame.sample(frac=1, random_state=0)
    assert split_half(frame, rounds=1000, seed=3) == split_half(shuffled, rounds=1000, seed=3)
    assert split_half(frame, rounds=1000, seed=3).value != split_half(frame, rounds=1000, seed=4).value


def test_failures_few_models_and_no_agreement() -> None:
    rng = np.random.default_rng(3)
    frame = noisy(rng, rng.normal(size=5), 10, 0.5)
    frame.loc[3, "value"] = None
    found = split_half(frame, name="gsm8k")
    assert found.n_failures == 1 and np.isnan(found.lower) and 0 < found.value < 1
    assert "1 item values are missing" in found.warnings[0]
    assert found.warnings[1] == "No interval for gsm8k: 5 models are too few (8 are needed)."
    halves = np.tile([[1.0, -1.0], [-1.0, 1.0]], (5, 1)) + 0.01 * rng.normal(size=(10, 2))
    opposed = split_half(long(halves), rounds=1000)
    assert opposed.value < 0 and np.isnan(opposed.ceiling) and "no ceiling" in opposed.warnings[-1]


def test_disattenuation_undoes_the_noise() -> None:
    rng = np.random.default_rng(4)
    skill = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=800)
    items = noisy(rng, skill[:, 0], 10, 3.0)
    ratings = pd.DataFrame({"model": [f"m{i:03d}" for i in range(800)], "se": 0.5})
    ratings["value"] = skill[:, 1] + 0.5 * rng.normal(size=800)
    found = disattenuate(items, ratings, splits=30, rounds=1000)
    assert found.observed.value == pytest.approx(0.8 / np.sqrt(1.9 * 1.25), abs=0.06)
    assert found.corrected.value == pytest.approx(0.8, abs=0.07)
    assert (found.reliability_a, found.reliability_b) == pytest.approx((1 / 1.9, 1 / 1.25), abs=0.06)
    assert found.corrected.lower < 0.8 < found.corrected.upper
    assert found.corrected.value == pytest.approx(found.observed.value / found.ceiling)
    assert found.frame()["corrected"][0] == found.corrected.value


def test_corrected_intervals_cover() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(30):
        skill = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], size=30)
        a, b = noisy(rng, skill[:, 0], 12, 2.0), noisy(rng, skill[:, 1], 12, 2.0)
        b["item_id"] = "b" + b["item_id"]
        found = disattenuate(a, b, splits=6, rounds=1000, seed=seed).corrected
        hits += found.lower <= 0.7 <= found.upper
    assert hits / 30 >= 0.85, hits


def test_what_disattenuation_warns_of() -> None:
    rng = np.random.default_rng(6)
    skill = rng.normal(size=10)
    items = noisy(rng, skill, 8, 1.0)
    plain = pd.DataFrame({"model": [f"m{i:03d}" for i in range(1, 10)] + ["other"], "value": [*skill[1:], 0.0]})
    found = disattenuate(items, plain, names=("bench", "arena"), rounds=1000)
    assert found.n == 9 and found.reliability_b == 1.0
    assert "arena has no items and no standard errors: it counts as free of noise." in found.warnings
    twice = disattenuate(items, items, names=("x", "y"), rounds=1000)
    assert twice.observed.value == pytest.approx(1) and twice.corrected.value > 1
    assert any("x and y share 8 items" in sentence for sentence in twice.warnings)
    assert any("above 1" in sentence for sentence in twice.warnings)


def test_bad_scores_end_in_a_sentence() -> None:
    items = long(np.ones((9, 4)))
    scores = pd.DataFrame({"model": list("ab"), "value": [1.0, 2.0], "se": [0.1, 0.1]})
    with pytest.raises(UserError, match="needs two or more"):
        split_half(items[items["item_id"] == "q000"])
    with pytest.raises(UserError, match="0 splits"):
        split_half(items, splits=0)
    with pytest.raises(UserError, match="name the model 'a' twice"):
        disattenuate(items, scores.assign(model="a"))
    with pytest.raises(UserError, match=r"row 2 of the scores of b has the se '-1\.0'"):
        disattenuate(items, scores.assign(se=[0.1, -1.0]))
    with pytest.raises(UserError, match="row 1 of the scores of b has the value 'high'"):
        disattenuate(items, scores.assign(value=["high", 2]))
    assert np.isnan(split_half(items).value)
