"""Tango's score interval and test of non-inferiority."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.errors import UserError
from evalkit.stats.paired_shares import non_inferiority_p, shares_difference


def test_no_change_is_the_closed_form() -> None:
    """Without a changed item the limits are z^2 / (n + z^2), Tango's published case of n = 44."""
    found = shares_difference(0, 0, 44)
    z2 = 1.959963984540054**2
    assert found.difference == 0
    assert found.upper == pytest.approx(z2 / (44 + z2), abs=1e-9)
    assert found.lower == pytest.approx(-found.upper, abs=1e-9)


def test_all_changed_is_the_closed_form() -> None:
    """With all items won the lower limit is (n - z^2) / (n + z^2)."""
    z2 = 1.959963984540054**2
    found = shares_difference(20, 0, 20)
    assert (found.difference, found.upper) == (1.0, 1.0)
    assert found.lower == pytest.approx((20 - z2) / (20 + z2), abs=1e-9)


@pytest.mark.parametrize(("new", "old", "n"), [(12, 2, 50), (0, 5, 5), (3, 0, 9), (7, 7, 40), (1, 0, 1)])
def test_swapping_the_models_mirrors_the_interval(new: int, old: int, n: int) -> None:
    one, other = shares_difference(new, old, n), shares_difference(old, new, n)
    assert one.lower == pytest.approx(-other.upper, abs=1e-9)
    assert one.lower <= one.difference <= one.upper


def test_the_interval_is_what_the_test_does_not_reject() -> None:
    """A one-sided 2.5 % test at the lower limit of the 95 % interval has p = 0.025."""
    found = shares_difference(4, 9, 70)
    assert non_inferiority_p(4, 9, 70, -found.lower) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize(("win", "lose", "n"), [(0.3, 0.05, 20), (0.05, 0.05, 60), (0.1, 0.15, 120)])
def test_coverage(win: float, lose: float, n: int) -> None:
    """In 2,000 draws the 95 % interval covers the truth about 95 % of the time, with few items too."""
    drawn = np.random.default_rng(5).multinomial(n, [win, lose, 1 - win - lose], size=2000)
    pairs, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    covered = 0
    for (new, old), count in zip(pairs.tolist(), counts.tolist(), strict=True):
        found = shares_difference(new, old, n)
        covered += count * (found.lower <= win - lose <= found.upper)
    assert 0.935 < covered / 2000 < 0.985


def test_margin_zero_is_mcnemar() -> None:
    """z is (b - c) / sqrt(b + c)."""
    from scipy.stats import norm

    assert non_inferiority_p(9, 4, 100, 0.0) == pytest.approx(norm.sf(5 / 13**0.5), abs=1e-12)


@pytest.mark.parametrize(("new", "old", "n"), [(1, 1, 1), (-1, 0, 5), (0, 0, 0)])
def test_impossible_counts(new: int, old: int, n: int) -> None:
    with pytest.raises(UserError, match="cannot be"):
        shares_difference(new, old, n)


def test_impossible_margin() -> None:
    with pytest.raises(UserError, match="margin: 1 is not"):
        non_inferiority_p(1, 1, 10, 1.0)
