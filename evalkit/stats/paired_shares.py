"""The difference of two shares on the same items: Tango's score interval and test of non-inferiority."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from evalkit.errors import UserError


@dataclass(frozen=True, slots=True)
class SharesDifference:
    """Share of one model less that of another, on n items that both answered.

    Attributes:
        difference: (only_new - only_old) / n.
        lower, upper: Score interval at `confidence`, two-sided.
    """

    difference: float
    lower: float
    upper: float
    n: int
    confidence: float


def shares_difference(only_new: int, only_old: int, n: int, confidence: float = 0.95) -> SharesDifference:
    """Score interval of a difference of paired shares: all values that the score test does not reject.

    z(d) = (only_new - only_old - n d) / sqrt(n (2 q + d (1 - d))), where q is the likeliest probability that only the
    old one is right, given the difference d: the larger root of 2 n q^2 + B q + C = 0 with
    B = -only_new - only_old + (2 n - only_new + only_old) d and C = -only_old d (1 - d). Tango 1998, Statistics in
    Medicine 17:891-908. Holds its level with few items and where no item changes, which Wald's interval does not.

    Args:
        only_new: Items that only the new model gets right.
        only_old: Items that only the old one gets right.
        n: Items, at least one.
        confidence: Level.

    Raises:
        UserError: The counts are negative or more than n, or n is 0.
    """
    _check(only_new, only_old, n)
    from scipy.optimize import brentq
    from scipy.special import ndtri

    z = float(ndtri((1 + confidence) / 2))
    at = (only_new - only_old) / n
    limits = []
    for end, sign in ((-1.0, 1.0), (1.0, -1.0)):

        def gap(d: float, sign: float = sign) -> float:
            return _score(only_new, only_old, n, d) - sign * z

        inner = end + sign * 1e-12
        beyond = abs(_score(only_new, only_old, n, inner)) <= z or at == end
        limits.append(end if beyond else float(brentq(gap, inner, at, xtol=1e-12)))
    return SharesDifference(at, limits[0], limits[1], n, confidence)


def non_inferiority_p(only_new: int, only_old: int, n: int, margin: float) -> float:
    """One-sided p-value of "the new model is worse by `margin` or more": the upper tail of Tango's z at -margin.

    Margin 0 is McNemar's test without a continuity correction, one-sided.

    Args:
        only_new, only_old, n: As for `shares_difference`.
        margin: From 0 to 1.

    Raises:
        UserError: The counts or the margin cannot be.
    """
    _check(only_new, only_old, n)
    if not 0 <= margin < 1:
        raise UserError(f"margin: {margin:g} is not a share from 0 to below 1.")
    from scipy.special import ndtr

    return float(ndtr(-_score(only_new, only_old, n, -margin)))


def _score(only_new: int, only_old: int, n: int, d: float) -> float:
    spread = 2 * _rare(only_new, only_old, n, d) + d * (1 - d)
    gap = only_new - only_old - n * d
    if spread <= 1e-15:  # no item changed and d is 0
        return 0.0 if abs(gap) < 1e-12 else float("inf") * gap
    return gap / sqrt(n * spread)


def _rare(only_new: int, only_old: int, n: int, d: float) -> float:
    a, b = 2 * n, -only_new - only_old + (2 * n - only_new + only_old) * d
    c = -only_old * d * (1 - d)
    return max((sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a), -d, 0.0)


def _check(only_new: int, only_old: int, n: int) -> None:
    if n < 1 or min(only_new, only_old) < 0 or only_new + only_old > n:
        raise UserError(f"{only_new} and {only_old} changed items of {n} cannot be; counts are from 0 and fit into n.")
