"""pass@k and pass^k against exact fractions, simulation and their own coverage."""

from fractions import Fraction
from math import comb

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats import pass_at_k, pass_hat_k, pass_rates


@pytest.mark.parametrize("k", [1, 2, 5, 100])
def test_against_exact_fractions(k: int) -> None:
    c, n = [0, 1, 3, 120, 199, 200, 100], [200, 200, 100, 200, 200, 200, 100]
    some = [1 - Fraction(comb(m - x, k), comb(m, k)) for x, m in zip(c, n, strict=True)]
    every = [Fraction(comb(x, k), comb(m, k)) for x, m in zip(c, n, strict=True)]
    assert pass_at_k(c, n, k).value == pytest.approx(float(sum(some) / 7), abs=1e-14)
    assert pass_hat_k(c, n, k).value == pytest.approx(float(sum(every) / 7), abs=1e-14)


def test_many_samples_stay_finite() -> None:
    exact = float(1 - Fraction(comb(999_990, 1000), comb(1_000_000, 1000)))
    assert pass_at_k([10], 1_000_000, 1000).value == pytest.approx(exact, rel=1e-12)


def test_unbiased_where_the_plug_in_is_not() -> None:
    rng = np.random.default_rng(0)
    c = rng.binomial(5, 0.3, size=20_000)
    truth = 1 - 0.7**3
    assert pass_at_k(c, 5, 3).value == pytest.approx(truth, abs=0.005)
    assert abs((1 - (1 - c / 5) ** 3).mean() - truth) > 0.03
    assert pass_hat_k(c, 5, 3).value == pytest.approx(0.3**3, abs=0.005)


def test_one_sample_is_the_share_with_its_error() -> None:
    found = pass_at_k([1, 0, 1, 1], 1, 1)
    assert found.value == 0.75 and found.se == pytest.approx(np.std([1, 0, 1, 1], ddof=1) / 2)
    assert 0 <= found.lower < 0.75 < found.upper <= 1
    assert (found.n, found.n_samples, found.n_clusters) == (4, 4, 4)


@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_cover(clustered: bool) -> None:
    rng = np.random.default_rng(1)
    hits = 0
    group = np.repeat(np.arange(30), 3)
    for _ in range(300):
        p = rng.beta(1, 2, size=30)[group] if clustered else rng.beta(1, 2, size=90)
        found = pass_at_k(rng.binomial(8, p), 8, 4, clusters=group if clustered else None)
        hits += found.lower <= 2 / 3 <= found.upper  # 1 - E(1 - p)^4 = 1 - 2/6 for Beta(1, 2)
    assert 0.92 <= hits / 300 <= 0.98


def test_all_right_is_not_certain() -> None:
    found = pass_hat_k([4] * 10, 4, 2)
    assert found.value == 1.0 and found.se == 0.0 and 0.5 < found.lower < 0.9 and found.upper == 1.0
    alone = pass_at_k([2], 4, 2)
    assert np.isnan(alone.se) and (alone.lower, alone.upper) == (0.0, 1.0)
    assert np.isnan(pass_at_k([], [], 1).value)


GRADES = pd.DataFrame(
    {
        "item_id": ["q1"] * 3 + ["q2"] * 3 + ["q1"] * 3,
        "model": ["m"] * 6 + ["n"] * 3,
        "value": [1, 0, 1, 0, 0, None, 1, None, None],
    }
)


def test_failures_are_neither_right_nor_wrong() -> None:
    found = pass_rates(GRADES, [1, 2])
    frame = found.frame().set_index(["model", "metric", "k"])
    assert frame.loc[("m", "pass@k", 2), "value"] == 0.5 and frame.loc[("m", "pass^k", 2), "value"] == 1 / 6
    assert frame.loc[("m", "pass@k", 1), "value"] == pytest.approx((2 / 3 + 0) / 2)
    assert frame.loc[("n", "pass@k", 1), ["n", "n_missing", "n_failures"]].tolist() == [1, 0, 2]
    assert frame.loc[("n", "pass@k", 2), ["n", "n_missing"]].tolist() == [0, 1]
    assert np.isnan(frame.loc[("n", "pass@k", 2), "value"])
    assert found.warnings[0] == "m: 1 of 6 samples have no grade; neither right nor wrong."
    assert "n: 1 items have fewer than 2 graded samples; not in pass@2." in found.warnings


def test_bad_counts_end_in_a_sentence() -> None:
    with pytest.raises(UserError, match="item 2 has 3 samples, fewer than k = 4"):
        pass_at_k([1, 1], [5, 3], 4)
    with pytest.raises(UserError, match="item 1 has 6 right samples of 5"):
        pass_hat_k([6], 5, 1)
    with pytest.raises(UserError, match=r"item 1 has 0\.5 right samples"):
        pass_at_k([0.5], 5, 1)
    with pytest.raises(UserError, match="k is 0"):
        pass_at_k([1], 5, 0)
    with pytest.raises(UserError, match="item by item"):
        pass_at_k([1, 2], [5, 5, 5], 1)
    with pytest.raises(UserError, match="k = 4 is above the 3 samples of item q1 of m"):
        pass_rates(GRADES, [4])
    with pytest.raises(UserError, match=r"grade 1 is 0\.5; pass@k takes 1"):
        pass_rates(GRADES.assign(value=0.5), [1])
    with pytest.raises(UserError, match="mix the criteria"):
        pass_rates(GRADES.assign(criterion=["a", "b", "c"] * 3), [1])
    with pytest.raises(UserError, match="lack the column"):
        pass_rates(GRADES.drop(columns="model"), [1])
