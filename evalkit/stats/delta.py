"""Delta-method intervals for a statistic of many units, clustered by item."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.intervals import Share, wilson
from evalkit.stats.ranks import critical_value, two_sided_p
from evalkit.stats.votes import FloatArray, IntArray


def cluster_codes(labels: Any, n: int) -> IntArray:
    """Labels as codes from 0; every value its own cluster where `labels` is None.

    Raises:
        UserError: There is not one label for each of the n values, or a label is missing.
    """
    if labels is None:
        return np.arange(n, dtype=np.int64)
    column = pd.Series(labels)
    if len(column) != n:
        raise UserError(f"there are {n} values and {len(column)} cluster labels; one label a value is needed.")
    codes, _ = pd.factorize(column)
    if (codes < 0).any():
        raise UserError(f"value {int(np.flatnonzero(codes < 0)[0]) + 1} of {n} has no cluster label.")
    return np.asarray(codes, dtype=np.int64)


def clustered_se(influence: FloatArray, clusters: IntArray) -> tuple[float, int]:
    """Standard error of a statistic from each unit's influence on it, and the number of clusters.

    SE^2 = G / (G - 1) sum_c (sum_{i in c} psi_i)^2 over G clusters, psi_i the derivative of the statistic in the weight
    of unit i (so that the psi sum to 0): the delta method (van der Vaart 1998, Asymptotic Statistics, chapter 20) with
    the CR1 factor for few clusters. NaN with fewer than two clusters.

    Args:
        influence: Shape (n,).
        clusters: Codes, not negative, shape (n,).
    """
    if not len(influence):
        return float("nan"), 0
    sums = np.bincount(clusters, influence)
    # Codes of other rows of the table leave gaps: a cluster counts where it holds a unit.
    g = len(sums) if (sums != 0).all() else int(np.count_nonzero(np.bincount(clusters)))
    if g < 2:
        return float("nan"), g
    return float(np.sqrt(g / (g - 1) * (sums @ sums))), g


def t_interval(value: float, se: float, clusters: int, confidence: float) -> tuple[float, float]:
    """value -+ t_{G-1} SE; infinite limits where the standard error is unknown."""
    if not np.isfinite(se):
        return -np.inf, np.inf
    width = critical_value(confidence, clusters - 1.0) * se
    return value - width, value + width


def mean_interval(value: float, se: float, clusters: int, confidence: float) -> tuple[float, float]:
    """The t interval of a mean within -1 to 1; where nothing varies, the error that Wilson's leaves with G trials."""
    if se != 0:
        return t_interval(value, se, clusters, confidence)
    error = 1 - wilson(clusters, clusters, confidence)[0]
    return value - error, value + error


def t_test(difference: float, se: float, clusters: int) -> float:
    """Two-sided p-value of difference / SE with G - 1 degrees of freedom; NaN where the standard error is 0 or NaN."""
    return float(two_sided_p(np.array([difference / se]), clusters - 1.0)[0]) if se > 0 else float("nan")


def ratio_interval(value: float, se: float, clusters: int, confidence: float) -> tuple[float, float]:
    """Limits of a chance-corrected agreement 1 - D_o / D_e, found on the scale of log(D_o / D_e).

    1 - (1 - value) exp(+-t_{G-1} SE / (1 - value)): the disagreement is a positive ratio, so the limits never pass 1
    and are skewed where agreement is high. Infinite below where the standard error is unknown.
    """
    if not np.isfinite(se):
        return -np.inf, 1.0
    ratio = 1.0 - value
    stretch = float(np.exp(min(critical_value(confidence, clusters - 1.0) * se / ratio, 700.0)))
    return 1.0 - ratio * stretch, 1.0 - ratio / stretch


def wilson_interval(
    share: float, se: float, clusters: int, confidence: float, at_most: float = np.inf
) -> tuple[float, float]:
    """Wilson's limits for n* = share (1 - share) / SE^2 trials, one a cluster where nothing varies.

    Args:
        at_most: Bound of n*; infinity where a clustered design may tell more than as many independent trials (both
            orders of a battle).
    """
    effective = min(share * (1 - share) / se**2 if se > 0 else float(clusters), at_most)
    lower, upper = wilson(share * effective, effective, confidence)
    return min(lower, share), max(upper, share)


def clustered_share(hits: FloatArray, clusters: IntArray, confidence: float) -> Share:
    """Share of hits with Wilson's interval for the effective number of values (as `intervals.share`), from codes.

    Args:
        hits: 0 or 1, shape (n,).
        clusters: Codes, not negative, shape (n,).
        confidence: Level.
    """
    n, successes = len(hits), int(hits.sum())
    if not n:
        return Share(float("nan"), 0.0, 1.0, 0, 0)
    p = successes / n
    se, g = clustered_se((hits - p) / n, clusters)
    return Share(p, *wilson_interval(p, se, g, confidence, at_most=n), successes, n)
