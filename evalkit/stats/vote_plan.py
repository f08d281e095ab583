"""How to spread the votes that are left over the pairs of models, so that most pairs are told apart by them."""

from __future__ import annotations

import numpy as np
from scipy import special

from evalkit.stats.ranks import BoolArray
from evalkit.stats.votes import FloatArray

_STEPS = 100
_RATE = 0.5  # of a step: the pair with the steepest rise gets exp(0.5) of its share before
_LEAST = 1e-9  # share of a pair's variance, or of its distance to the bound, below which it is taken as this


def plan_votes(
    strength: FloatArray, covariance: FloatArray, critical: float, resolved: BoolArray, votes: float
) -> FloatArray:
    """Votes for each pair, of `votes` in all, that maximise the expected number of pairs told apart on the way.

    A pair is told apart when its estimated difference d reaches b = c SE, c the critical value. With votes n_ij the
    strengths' covariance C becomes V = (C^-1 + sum n_ij p_ij (1 - p_ij) x x')^-1, x = e_i - e_j, and a posterior mean
    moves without drift, here by a variance of r = SE^2 - SE_V^2 (Frazier, Powell & Dayanik 2009, INFORMS J. Comput.
    21:599-613). Its path is that of a Brownian motion in r, so with the bound falling by B from b to c SE_V, at an even
    pace, and a = b - |d|,

        P(told apart on the way) = Phi((B - a) / sqrt r) + exp(2 a B / r) Phi(-(B + a) / sqrt r)

    (first passage over a line: Siegmund 1985, Sequential Analysis, ch. 3); the probability of the opposite order,
    a = b + |d|, is added. The sum over the pairs not yet told apart is maximised from even votes by exponentiated
    gradient steps (Kivinen & Warmuth 1997, Inform. Comput. 132:1-63).

    Args:
        strength: Posterior means, log-odds, shape (m,).
        covariance: Of the strengths, shape (m, m).
        critical: Standard errors that tell a pair apart.
        resolved: Pairs told apart already, shape (m, m).
        votes: Votes left, above 0.

    Returns:
        Shape (m, m), symmetric, zero on the diagonal; the upper triangle sums to `votes`.
    """
    m = len(strength)
    i, j = np.triu_indices(m, 1)
    left = np.flatnonzero(~resolved[i, j])
    p = special.expit(strength[i] - strength[j])
    information = p * (1.0 - p)
    gap = np.abs(strength[i] - strength[j])[left]
    before = pair_variance(covariance)[i, j][left]
    plan = np.full(len(i), votes / max(len(i), 1))
    own = np.eye(m)
    for _ in range(_STEPS):
        added = laplacian(m, plan * information)
        later = np.asarray(np.linalg.solve(own + covariance @ added, covariance), dtype=np.float64)
        slope = np.zeros(len(i))
        slope[left] = _slope(gap, before, pair_variance(later)[i, j][left], critical)
        rise = pair_variance(later @ laplacian(m, slope) @ later)[i, j] * information
        steepest = float(rise.max(initial=0.0))
        if not steepest > 0.0:
            break
        plan *= np.exp(_RATE * np.clip(rise / steepest, -1.0, 1.0))
        plan *= votes / plan.sum()
    spread = np.zeros((m, m))
    spread[i, j] = spread[j, i] = plan
    return spread


def laplacian(m: int, weights: FloatArray) -> FloatArray:
    """sum w_ij (e_i - e_j)(e_i - e_j)' for the weights of the pairs i < j, row by row, shape (m (m - 1) / 2,)."""
    full = np.zeros((m, m))
    full[~np.tri(m, dtype=np.bool_)] = weights
    full += full.T
    return np.asarray(np.diag(full.sum(axis=1)) - full, dtype=np.float64)


def pair_variance(matrix: FloatArray) -> FloatArray:
    """(e_i - e_j)' M (e_i - e_j) for every pair, shape (m, m)."""
    own = np.diag(matrix)
    return np.asarray(own[:, None] + own - matrix - matrix.T, dtype=np.float64)


def _slope(gap: FloatArray, before: FloatArray, after: FloatArray, critical: float) -> FloatArray:
    """By how much the probability of `plan_votes` rises for each unit by which the variance `after` falls."""
    moved = np.maximum(before - after, _LEAST * before)
    root, error = np.sqrt(moved), np.sqrt(np.maximum(after, _LEAST * before))
    bound = critical * np.sqrt(before)
    fallen = bound - critical * error
    away = np.maximum(bound + np.array([[-1.0], [1.0]]) * gap, _LEAST * bound)
    density = np.exp(-0.5 * ((fallen - away) / root) ** 2) / np.sqrt(2.0 * np.pi)
    by_fall = 2.0 * away / moved * np.exp(2.0 * away * fallen / moved + special.log_ndtr(-(fallen + away) / root))
    slope = by_fall * (critical / (2.0 * error) - fallen / moved) + away * density / (moved * root)
    return np.asarray(slope.sum(axis=0), dtype=np.float64)
