"""Rank ranges with a stated error rate, from ratings and their covariance."""

from __future__ import annotations

import numpy as np
from scipy import special

from evalkit.stats.votes import FloatArray, IntArray


def two_sided_p(statistic: FloatArray, df: float) -> FloatArray:
    """Two-sided p-value of a t statistic; `df` = infinity is the normal distribution, 0 never rejects."""
    if not df > 0:
        return np.ones_like(statistic)
    magnitude = -np.abs(statistic)
    tail = special.ndtr(magnitude) if np.isinf(df) else special.stdtr(df, magnitude)
    return np.asarray(2.0 * tail, dtype=np.float64)


def critical_value(confidence: float, df: float) -> float:
    """Two-sided critical value of the t distribution; infinite df is the normal, 0 gives infinity."""
    if not df > 0:
        return float("inf")
    upper = 0.5 + confidence / 2.0
    return float(special.ndtri(upper) if np.isinf(df) else special.stdtrit(df, upper))


def holm(p_values: FloatArray, alpha: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which hypotheses Holm's step-down procedure rejects.

    Sort the p-values; reject p_(k) while p_(k) <= alpha / (K - k + 1), and stop at the first failure. The chance of
    one or more false rejections is at most alpha, whatever the dependence (Holm 1979, Scand. J. Statist. 6:65-70).

    Args:
        p_values: Shape (K,).
        alpha: Family-wise error rate.

    Returns:
        Shape (K,), True where rejected.
    """
    order = np.argsort(p_values, kind="stable")
    fails = p_values[order] > alpha / np.arange(len(p_values), 0, -1)
    first = int(np.argmax(fails)) if fails.any() else len(p_values)
    rejected = np.zeros(len(p_values), dtype=np.bool_)
    rejected[order[:first]] = True
    return rejected


def rank_ranges(rating: FloatArray, covariance: FloatArray, df: float, alpha: float) -> tuple[IntArray, IntArray]:
    """Best and worst rank each model may hold, from Holm-corrected tests of all pairwise differences.

    t_ij = (r_i - r_j) / sqrt(C_ii + C_jj - 2 C_ij), two-sided, all pairs one family. A model's best rank is
    1 + the number of models found better, its worst the number of models minus those found worse. So with
    probability 1 - alpha every range covers its model's true rank (the construction of Mogstad, Romano,
    Shaikh & Wilhelm 2024, Rev. Econ. Stud. 91:476-518, with Holm in place of a bootstrap).

    Args:
        rating: Shape (m,); NaN for a model that cannot be placed, which then is neither better nor worse than any.
        covariance: Shape (m, m), in squared units of `rating`.
        df: Degrees of freedom of the t statistics (infinity: normal).
        alpha: Family-wise error rate.

    Returns:
        (rank_low, rank_high), 1 is best, each of shape (m,).
    """
    m = len(rating)
    low = np.ones(m, dtype=np.int64)
    high = np.full(m, m, dtype=np.int64)
    placed = np.flatnonzero(np.isfinite(rating))
    i, j = (placed[side] for side in np.triu_indices(len(placed), 1))
    if not len(i):
        return low, high
    variance = np.diag(covariance)
    squared_error = variance[i] + variance[j] - 2.0 * covariance[i, j]
    # A difference without sampling variation cannot be tested: it decides nothing.
    testable = squared_error > 1e-12 * (variance[i] + variance[j])
    statistic = np.zeros(len(i))
    difference = rating[i] - rating[j]
    statistic[testable] = difference[testable] / np.sqrt(squared_error[testable])
    found = holm(two_sided_p(statistic, df), alpha)
    better = np.where(difference > 0, i, j)[found]
    worse = np.where(difference > 0, j, i)[found]
    return low + np.bincount(worse, minlength=m), high - np.bincount(better, minlength=m)
