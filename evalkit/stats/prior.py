"""A normal prior on the strengths, its standard deviation estimated from the votes (empirical Bayes)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import optimize

from evalkit.stats.bradley_terry import Fit

STEP = 0.2
"""Of log tau, for derivatives by it."""

_LOG_BOUNDS = (np.log(0.01), np.log(10.0))  # log-odds: 1.7 to 1,700 Elo points


def prior_deviation(fit_at: Callable[[float], Fit], models: int) -> tuple[float, float]:
    """Standard deviation tau of the strengths, by maximum marginal likelihood.

    The strengths are normal around their mean with variance tau^2. Integrating them out by Laplace's method (Tierney &
    Kadane 1986, J. Amer. Statist. Assoc. 81:82-86), with the mean left free as in REML, gives

        l(tau) = max_s [log L(s) - sum (s_i - mean s)^2 / (2 tau^2)] - (m - 1) log tau - log det(H + K) / 2,

    K the prior's precision. log tau - tau is added: a Gamma(2, 1) density, which keeps the estimate away from 0 (all
    models equal, intervals of no width: Chung et al. 2013, Psychometrika 78:685-709) and, where nothing bounds it,
    from infinity; among many models it weighs next to nothing.

    Args:
        fit_at: The fit for a given precision 1 / tau^2, its likelihood and determinant with the prior.
        models: Number of models m.

    Returns:
        tau in log-odds, and the standard error of log tau, from the curvature there; at most 1.
    """

    def loss(log_tau: float) -> float:
        fit = fit_at(float(np.exp(-2.0 * log_tau)))
        marginal = fit.likelihood - (models - 1) * log_tau - fit.log_determinant / 2.0
        return float(-(marginal + log_tau - np.exp(log_tau)))

    found = optimize.minimize_scalar(loss, bounds=_LOG_BOUNDS, method="bounded", options={"xatol": 1e-5})
    curvature = (loss(found.x - STEP) - 2.0 * loss(found.x) + loss(found.x + STEP)) / STEP**2
    return float(np.exp(found.x)), float(max(curvature, 1.0) ** -0.5)
