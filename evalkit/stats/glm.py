"""Logistic regression of scores from 0 to 1 on a few covariates, with each row's influence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from evalkit.stats.votes import FloatArray

_MAX_STEPS = 100
_TOLERANCE = 1e-9
_FAR = 30.0  # log-odds; a mean fitted this far out is at 0 or 1 to any purpose


@dataclass(frozen=True, eq=False)
class LogisticFit:
    """A maximum of the likelihood.

    Attributes:
        coefficients: Shape (k,).
        influence: H^-1 z_i (y_i - p_i) of each row, shape (n, k): its outer products sum to the sandwich covariance.
    """

    coefficients: FloatArray
    influence: FloatArray


def fit_logistic(z: FloatArray, y: FloatArray) -> LogisticFit | None:
    """Maximum likelihood of P(y) = 1 / (1 + exp(-z beta)) by Newton's method, without regularisation.

    Args:
        z: Covariates, shape (n, k).
        y: 0 to 1, shape (n,).

    Returns:
        The fit; None where there is no finite one, or more than one: z tells the outcomes apart, or is collinear.
    """
    beta = np.zeros(z.shape[1])
    for _ in range(_MAX_STEPS):
        p = special.expit(z @ beta)
        information = (z * (p * (1.0 - p))[:, None]).T @ z
        if not np.linalg.cond(information) < 1e12:
            return None
        gradient = z.T @ (y - p)
        step = np.linalg.solve(information, gradient)
        size = 1.0
        while size > _TOLERANCE and z.T @ (y - special.expit(z @ (beta + size * step))) @ step < -0.5 * gradient @ step:
            size /= 2.0
        beta = beta + size * step
        if np.abs(z @ beta).max() > _FAR:
            return None
        if np.abs(step).max() <= _TOLERANCE:
            p = special.expit(z @ beta)
            scores = z * (y - p)[:, None]
            influence = np.linalg.solve((z * (p * (1.0 - p))[:, None]).T @ z, scores.T).T
            return LogisticFit(beta, np.asarray(influence, dtype=np.float64))
    return None
