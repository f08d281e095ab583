"""Two independent shares: the interval of their difference, an exact test; and q-values of many tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from evalkit.stats.intervals import wilson
from evalkit.stats.votes import FloatArray

_NORMAL_UNITS = 200
_ROUNDS = 9_999
_CELLS = 2_000_000


def share_difference(
    share_a: float, n_a: float, share_b: float, n_b: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the difference of two independent shares: Newcombe's hybrid of Wilson's limits.

    d - sqrt((p_a - l_a)^2 + (u_b - p_b)^2) to d + sqrt((u_a - p_a)^2 + (p_b - l_b)^2), l and u Wilson's limits of each
    (Newcombe 1998, Statist. Med. 17:873-890, method 10).

    Args:
        share_a, share_b: 0 to 1.
        n_a, n_b: Independent units that each is of; (-1, 1) is returned where one is 0.
        confidence: Level.
    """
    if n_a <= 0 or n_b <= 0:
        return -1.0, 1.0
    low_a, high_a = wilson(share_a * n_a, n_a, confidence)
    low_b, high_b = wilson(share_b * n_b, n_b, confidence)
    difference = share_a - share_b
    down = float(np.hypot(share_a - low_a, high_b - share_b))
    up = float(np.hypot(high_a - share_a, share_b - low_b))
    return difference - down, difference + up


def greater_p(inside: ArrayLike, outside: ArrayLike, *, seed: int = 0) -> float:
    """One-sided p-value of the permutation test that values inside a group are not larger than those outside.

    The share of all ways to choose the group among the values with a sum at least as large as seen. Where values are 0
    or 1 that is Fisher's exact test, P(X >= x) for X hypergeometric (Fisher 1935, J. R. Statist. Soc. 98:39-82). Else
    it is sampled, the observed choice counted among the samples (Phipson & Smyth 2010, SAGMB 9:39); from 200 values on
    either side on its normal limit is taken, with the variance of a sum drawn without replacement.

    Args:
        inside, outside: A value for each independent unit, shapes (m,) and (n,).
        seed: Of the samples.

    Returns:
        The p-value; 1 where a side is empty.
    """
    from scipy import stats

    a, b = np.asarray(inside, dtype=np.float64), np.asarray(outside, dtype=np.float64)
    if not len(a) or not len(b):
        return 1.0
    every = np.concatenate([a, b])
    if np.isin(every, (0.0, 1.0)).all():
        return float(stats.hypergeom.sf(a.sum() - 1, len(every), int(every.sum()), len(a)))
    if min(len(a), len(b)) >= _NORMAL_UNITS:
        variance = len(a) * len(b) / len(every) * every.var(ddof=1)
        return float(stats.norm.sf((a.sum() - len(a) * every.mean()) / np.sqrt(variance))) if variance > 0 else 1.0
    rng = np.random.default_rng(seed)
    smaller, sign = (a, 1.0) if len(a) <= len(b) else (b, -1.0)  # as exact, and fewer values to draw
    observed = sign * smaller.sum() - 1e-9
    step, hits = max(1, _CELLS // len(every)), 0
    for start in range(0, _ROUNDS, step):
        order = rng.random((min(step, _ROUNDS - start), len(every))).argpartition(len(smaller) - 1, axis=1)
        hits += int((sign * every[order[:, : len(smaller)]].sum(axis=1) >= observed).sum())
    return (1 + hits) / (1 + _ROUNDS)


def q_values(p_values: Sequence[float]) -> FloatArray:
    """Benjamini-Hochberg q-values: the smallest false discovery rate at which each test is a discovery.

    q_(i) = min over j >= i of min(1, m p_(j) / j), p sorted (Benjamini & Hochberg 1995, J. R. Statist. Soc. B
    57:289-300).

    Args:
        p_values: Shape (m,).

    Returns:
        In the order given, shape (m,).
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return q
