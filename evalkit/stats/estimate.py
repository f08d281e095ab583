"""One fit with what its intervals need: strengths, tie parameter, prior, sandwich covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from evalkit.stats.bradley_terry import (
    Fit,
    Slopes,
    fit,
    vote_slopes,
    with_prior,
)
from evalkit.stats.meat import meat_by_cluster, meat_from_counts
from evalkit.stats.prior import STEP, prior_deviation
from evalkit.stats.ties import TieFit, TieModel, fit_ties
from evalkit.stats.votes import A_WINS, B_WINS, TIE, CodedVotes, Diagnosis, FloatArray, IntArray, VoteCounts

TiePolicy = Literal["half", "davidson", "rao-kupper", "drop"]
Prior = Literal["none", "empirical-bayes"]
_FEW_CLUSTERS = 10


@dataclass(frozen=True, eq=False)
class Estimate:
    """A fit with what its intervals need.

    Attributes:
        fit: The maximum of the likelihood.
        slopes, tie_slopes: Derivatives of the votes' log-likelihood (see `meat_from_counts`).
        tie: Tie parameter as `TieFit.tie`.
        prior_deviation: Standard deviation of the prior on the strengths, log-odds; None without a prior.
        prior_shift: How far the estimates move with one standard error of its logarithm, shape of a vote's score.
    """

    fit: Fit
    slopes: Slopes
    tie_slopes: Slopes | None = None
    tie: float = 0.0
    prior_deviation: float | None = None
    prior_shift: FloatArray | None = None

    @property
    def precision(self) -> float:
        """Of the prior; 0 without one."""
        return 0.0 if self.prior_deviation is None else self.prior_deviation**-2


def tie_matrix(counts: FloatArray, drawn: Sequence[int]) -> FloatArray:
    """Votes with the outcomes in `drawn` between row and column, symmetric, shape (m, m)."""
    one_way = counts[:, :, list(drawn)].sum(axis=2)
    return np.asarray(one_way + one_way.T, dtype=np.float64)


def block(plane: FloatArray, core: IntArray) -> FloatArray:
    """Rows and columns of the rated models; no copy where all are."""
    return plane if len(core) == len(plane) else plane[np.ix_(core, core)]


def estimate(
    wins: FloatArray,
    tied: FloatArray,
    model: TieModel | None,
    half: Sequence[int],
    drawn: Sequence[int],
    prior: Prior,
    start: FloatArray | None = None,
) -> Estimate:
    """Fit the strengths, with the tie parameter and the prior where asked.

    Args:
        wins: Wins of row over column, shape (m, m).
        tied: Ties that are outcomes of their own, symmetric, shape (m, m).
        model: The model of these ties, or None.
        half: Outcomes counted in `wins` as half a win each way.
        drawn: Outcomes counted in `tied`.
        prior: `none` or `empirical-bayes`.
        start: Strengths to start from, shape (m,).
    """

    def fit_at(precision: float) -> TieFit:
        nonlocal start
        found = fit_ties(wins, tied, model, start, precision) if model else TieFit(fit(wins, start, precision))
        start = found.fit.strength
        return found

    deviation, shift, precision = None, None, 0.0
    if prior != "none" and len(wins):
        deviation, error = prior_deviation(lambda precision: fit_at(precision).fit, len(wins))
        precision = deviation**-2
        sides = [fit_at(precision * float(np.exp(sign * 2.0 * STEP))) for sign in (-1, 1)]
        low, high = (np.append(side.fit.strength, [side.tie] if model else []) for side in sides)
        shift = error * (high - low) / (2.0 * STEP) if np.isfinite(high).all() else None
    found = fit_at(precision)
    if model is None:
        return Estimate(found.fit, vote_slopes(found.fit.strength, half), prior_deviation=deviation, prior_shift=shift)
    slopes, tie_slopes = dict(found.slopes), dict(found.tie_slopes)
    tie_slope, tie_in_ties = slopes.pop(TIE), tie_slopes.pop(TIE)
    # A half win is the mean of a win and a loss, a tie what the model says.
    slopes |= dict.fromkeys(half, (slopes[A_WINS] + slopes[B_WINS]) / 2.0) | dict.fromkeys(drawn, tie_slope)
    tie_slopes |= dict.fromkeys(half, (tie_slopes[A_WINS] + tie_slopes[B_WINS]) / 2.0)
    tie_slopes |= dict.fromkeys(drawn, tie_in_ties)
    return Estimate(found.fit, slopes, tie_slopes, found.tie, deviation, shift)


def sandwich(
    estimated: Estimate,
    counts: VoteCounts,
    core: IntArray,
    coded: CodedVotes | None,
    votes: pd.DataFrame | VoteCounts,
    cluster: str | None,
) -> tuple[FloatArray, float, str, list[Diagnosis]]:
    """Covariance of the strengths (and tie parameter), degrees of freedom, the method in words, and doubts.

    Args:
        estimated: The fit.
        counts: The counts it is from.
        core: Positions of the rated models.
        coded: The votes one by one, for `cluster`.
        votes: The votes frame with the column `cluster`.
        cluster: The sampling unit; None takes votes as independent.
    """
    slopes, tie_slopes = estimated.slopes, estimated.tie_slopes
    doubts: list[Diagnosis] = []
    if cluster is not None and coded is not None and isinstance(votes, pd.DataFrame):
        meat, n_clusters, effective = meat_by_cluster(coded, votes[cluster], counts, core, slopes, tie_slopes)
        df = max(effective - 1.0, 0.0)
        words = f"sandwich clustered by {cluster} (CR1), t with {effective:.1f} effective of {n_clusters} clusters"
        if len(core) and effective < _FEW_CLUSTERS:
            sentence = (
                f"Only {effective:.1f} effective clusters of {cluster}: below {_FEW_CLUSTERS}, intervals are rough."
            )
            doubts.append(Diagnosis("few_clusters", sentence, (), n_clusters))
    else:
        df, words = float("inf"), "sandwich from counts, votes taken as independent"
        n = float((block(counts.votes, core) @ np.isin(np.arange(4), list(slopes)).astype(np.float64)).sum())
        meat = meat_from_counts(block(counts.weight_squared, core), slopes, tie_slopes)
        meat *= n / max(n - len(core) + 1, 1)
    if estimated.precision:
        df = min(df, len(core) - 1.0)
        words += f", with the prior, its deviation estimated (t with {df:.0f} degrees of freedom)"
        meat = _with_prior_at_least_the_model(meat, estimated)
    covariance = estimated.fit.bread @ meat @ estimated.fit.bread
    if estimated.prior_shift is not None:
        covariance = covariance + np.outer(estimated.prior_shift, estimated.prior_shift)
    return covariance, df, words, doubts


def _with_prior_at_least_the_model(meat: FloatArray, estimated: Estimate) -> FloatArray:
    """The meat for intervals with a prior: its precision added, and small residuals not taken for certainty.

    A model that never lost leaves residuals near zero, from which a sandwich would conclude that its strength is well
    known; so each model's score variance is raised to the information that the model itself expects.
    """
    m = len(estimated.fit.strength)
    expected = estimated.fit.curvature - estimated.precision * (1.0 - 1.0 / m)
    raised = np.zeros(len(meat))
    raised[:m] = np.maximum(expected - np.diag(meat)[:m], 0.0)
    return with_prior(meat + np.diag(raised), estimated.precision, m)
