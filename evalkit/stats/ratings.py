"""Ratings from votes: Bradley-Terry and its tie models, with intervals, rank ranges and diagnoses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from evalkit.errors import UserError
from evalkit.stats.bootstrap import MIN_ROUNDS, Bootstrap, bootstrap_strengths, percentile_limits
from evalkit.stats.bradley_terry import rateable_group, win_matrix
from evalkit.stats.elo_scale import ELO as ELO
from evalkit.stats.elo_scale import interval_half_width, to_elo
from evalkit.stats.estimate import Prior, TiePolicy, block, estimate, sandwich, tie_matrix
from evalkit.stats.ranks import (
    BoolArray,
    RankMethod,
    critical_value,
    rank_words,
    ranks_of,
    significance_groups,
    told_apart,
    two_sided_p,
)
from evalkit.stats.ties import TieModel, TieParameter, tie_diagnoses, tie_parameter
from evalkit.stats.votes import (
    A_WINS,
    B_WINS,
    BOTH_BAD,
    TIE,
    Diagnosis,
    FloatArray,
    IntArray,
    VoteCounts,
    code_votes,
    count_votes,
    list_names,
    require_columns,
)

BothBadPolicy = Literal["half", "drop"]
Interval = Literal["sandwich", "bootstrap"]


@dataclass(frozen=True)
class Difference:
    """Rating of one model minus that of another, Elo points.

    Attributes:
        a, b: The models.
        difference: Rating of a minus rating of b; NaN unless both are rated.
        lower, upper: Confidence limits, infinite where there is no interval.
        p_value: Two-sided test of equal strength; 1 where there is no interval.
        win_probability: P(a beats b) when one of them wins.
        confidence: Level of the interval, of this difference alone.
    """

    a: str
    b: str
    difference: float
    lower: float
    upper: float
    p_value: float
    win_probability: float
    confidence: float


@dataclass(frozen=True, eq=False)
class Ratings:
    """A leaderboard; every array has one entry for each model, best first, models that cannot be placed last.

    Attributes:
        models: Names.
        rating: Elo points; NaN for a model that cannot be placed (see `diagnoses`).
        lower, upper: Confidence limits of the rating, infinite where there is none.
        rank_low, rank_high: Best and worst rank the model may hold, 1 is best (`ranks` says at which error rate).
        votes: Votes the model took part in, after the tie policy.
        covariance: Of the ratings, squared Elo points, shape (m, m); NaN for models that cannot be placed.
        better: Shape (m, m), True where the row's model is found better than the column's, as `ranks` says.
        method, ties, both_bad, reference, interval, ranks: What was done, for printing beside the numbers.
        confidence: Level of the intervals and of the rank ranges.
        n: Votes counted, after the tie policy.
        n_excluded: Rows left out for a fault or by `min_votes`; `diagnoses` says which.
        n_dropped: Votes left out by the tie policy.
        n_ties, n_both_bad: Votes with these outcomes among the models shown, used or dropped.
        tie_parameter: Of the Davidson or Rao-Kupper model, else None.
        prior: The prior on the strengths in words, or `none`.
        df: Degrees of freedom of the intervals; infinite without clusters.
        iterations: Newton steps taken.
        gradient: Largest absolute derivative of the log-likelihood at the solution, per vote of the model: the
            certificate of convergence, 0 at the maximum.
        converged: Whether the last Newton step was below 1e-9 (on the log-odds scale), or the gradient zero up to
            rounding.
        islands: Groups of models with no battle between the groups; one group is the normal case.
        diagnoses: What the reader must know first.
    """

    models: tuple[str, ...]
    rating: FloatArray
    lower: FloatArray
    upper: FloatArray
    rank_low: IntArray
    rank_high: IntArray
    votes: IntArray
    covariance: FloatArray
    better: BoolArray
    method: str
    ties: str
    both_bad: str
    reference: str
    interval: str
    ranks: str
    confidence: float
    n: int
    n_excluded: int
    n_dropped: int
    n_ties: int
    n_both_bad: int
    tie_parameter: TieParameter | None
    prior: str
    df: float
    iterations: int
    gradient: float
    converged: bool
    islands: tuple[tuple[str, ...], ...]
    diagnoses: tuple[Diagnosis, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentences of the diagnoses."""
        return tuple(diagnosis.sentence for diagnosis in self.diagnoses)

    def frame(self) -> pd.DataFrame:
        """Columns model, rating, lower, upper, rank_low, rank_high, votes; best first."""
        names = ("rating", "lower", "upper", "rank_low", "rank_high", "votes")
        return pd.DataFrame({"model": list(self.models), **{name: getattr(self, name) for name in names}})

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Significance groups: two models share one if, and only if, neither is found better."""
        return tuple(tuple(self.models[i] for i in group) for group in significance_groups(self.better))

    def difference(self, a: str, b: str) -> Difference:
        """Rating of `a` minus rating of `b`, with the interval of the difference itself.

        The variance is C_aa + C_bb - 2 C_ab; intervals of two ratings may overlap while their difference is certain.

        Raises:
            UserError: A model is not on the board.
        """
        for name in (a, b):
            if name not in self.models:
                raise UserError(
                    f"the model {name!r} is not on the board ({list_names(self.models) or 'empty'}).", code=2
                )
        i, j = self.models.index(a), self.models.index(b)
        gap = float(self.rating[i] - self.rating[j])
        variance = float(self.covariance[i, i] + self.covariance[j, j] - 2.0 * self.covariance[i, j])
        testable = variance > 1e-12 * float(self.covariance[i, i] + self.covariance[j, j])
        error = float(np.sqrt(variance)) if testable else float("inf")
        width = 0.0 if a == b else critical_value(self.confidence, self.df) * error
        p_value = float(two_sided_p(np.array([gap / error]), self.df)[0]) if testable else 1.0
        lower, upper = (gap - width, gap + width) if np.isfinite(gap) else (-np.inf, np.inf)
        return Difference(a, b, gap, lower, upper, p_value, float(special.expit(gap / ELO)), self.confidence)


def bradley_terry(
    votes: pd.DataFrame | VoteCounts,
    *,
    ties: TiePolicy = "half",
    both_bad: BothBadPolicy | None = None,
    anchor: str | None = None,
    center: float = 1000.0,
    cluster: str | None = None,
    weights: ArrayLike | None = None,
    min_votes: int = 0,
    confidence: float = 0.95,
    interval: Interval = "sandwich",
    rounds: int = MIN_ROUNDS,
    ranks: RankMethod = "family-wise",
    prior: Prior = "none",
    start: Ratings | None = None,
    seed: int = 0,
) -> Ratings:
    """Bradley-Terry ratings on the Elo scale.

    Model: P(i beats j) = 1 / (1 + exp(s_j - s_i)) (Bradley & Terry 1952, Biometrika 39:324-345); a half win adds half
    a vote to each side of the likelihood. `davidson` and `rao-kupper` give ties a probability and a parameter of their
    own (see `evalkit.stats.ties.fit_ties`). Maximised by Newton's method on the counts with the analytic Hessian.
    Rating = center + (400 / ln 10) (s_i - reference).

    Intervals: rating -+ t SE from the sandwich H^-1 M H^-1 (White 1982, Econometrica 50:1-25), H the information and
    M the summed outer products of the votes' scores, from the counts alone, times n / (n - models + 1). With
    `cluster`, M sums the scores within a cluster first, times G / (G - 1) for G clusters (CR1: Liang & Zeger 1986,
    Biometrika 73:13-22), and t has G* - 1 degrees of freedom, G* = (sum n_g)^2 / sum n_g^2 the effective number of
    clusters of n_g votes (Kish 1965). Use it when votes share items or voters. `interval="bootstrap"`: bias-corrected
    percentiles of the Poisson bootstrap (`evalkit.stats.bootstrap`), votes taken as independent; the covariance is
    that of its rounds.

    The maximum exists only among models linked by wins in both directions (Ford 1957, Amer. Math. Monthly
    64:28-33). The largest such group is rated, from the battles within it: the exact limit of the likelihood. Every
    other model gets the rating NaN, infinite limits and the widest rank range, and a diagnosis says why.

    `prior="empirical-bayes"` adds a normal prior on the strengths whose variance is estimated from the votes
    (`evalkit.stats.prior.prior_deviation`). It pulls models with few votes to the mean and gives all models of one
    island finite ratings. Its intervals have the prior's precision in H and in M, M no smaller than H on the diagonal,
    the uncertainty of the estimated variance added to first order (Kass & Steffey 1989, J. Amer. Statist. Assoc.
    84:717-726), and t with models - 1 degrees of freedom.

    Args:
        votes: A votes frame (model_a, model_b, winner), or counts of one.
        ties: A tie is half a win for each side (`half`), an outcome of its own (`davidson`, `rao-kupper`) or not used
            (`drop`).
        both_bad: `half` or `drop`, whatever happens to ties; None treats it as `ties` does a tie.
        anchor: Model whose rating is `center`; the mean of the rated models if None.
        center: Rating of the reference, Elo points.
        cluster: Column of `votes` with the sampling unit (item_id, annotator).
        weights: Weight of each vote, shape (votes,).
        min_votes: Models with fewer votes are left out, with a diagnosis.
        confidence: Level of the intervals; 1 - confidence is the error rate of the rank ranges.
        interval: `sandwich` or `bootstrap`.
        rounds: Of the bootstrap, 1,000 or more.
        ranks: How models are told apart (`evalkit.stats.ranks.told_apart`): `family-wise` (max-t step-down),
            `false-discovery` (Benjamini-Hochberg) or the legacy rule `overlap`.
        prior: `none` or `empirical-bayes`.
        start: An earlier board of mostly the same models, to start Newton's method from: the same result sooner.
        seed: Of the bootstrap and of the simulation behind the family-wise ranks.

    Raises:
        UserError: An unknown policy, a missing column or cluster value, an anchor that is not rated, a negative
            weight, clusters or weights asked of bare counts, or a bootstrap of under 1,000 rounds, or with clusters or
            a prior.
    """
    policy_bad: TiePolicy = both_bad or ties
    _check_options(ties, both_bad, confidence, prior, interval, ranks)
    if interval == "bootstrap" and (cluster is not None or prior != "none"):
        raise UserError(
            "the bootstrap takes the votes as independent and has no prior; use the sandwich with a cluster or a prior."
        )
    coded = None
    if isinstance(votes, VoteCounts):
        if cluster is not None or weights is not None:
            raise UserError("clusters and weights need the votes themselves, not their counts.")
        all_counts = votes
    else:
        require_columns(votes, [cluster] if cluster else [])
        coded = code_votes(votes, weights)
        all_counts = count_votes(coded)
    counts = all_counts.at_least(min_votes)
    policies = {TIE: ties, BOTH_BAD: policy_bad}
    half = [outcome for outcome, policy in policies.items() if policy == "half"]
    tie_model: TieModel | None = ties if ties in ("davidson", "rao-kupper") else None
    drawn = [outcome for outcome, policy in policies.items() if policy == tie_model]
    used = [A_WINS, B_WINS, *half, *drawn]
    wins, tied = win_matrix(counts.weight, half), tie_matrix(counts.weight, drawn)
    core, islands, unplaced = rateable_group(counts.models, wins + tied / 2.0 if tie_model else wins, prior != "none")
    diagnoses = [*counts.diagnoses, *unplaced]
    if tie_model and len(core):
        found = tie_diagnoses(block(wins, core), block(tied, core), tie_model, prior != "none")
        diagnoses += found
        if any(diagnosis.kind == "ties_separate" for diagnosis in found):
            core = core[:0]
    place = _start_from(start, [counts.models[i] for i in core], block(wins, core))
    fitted = estimate(block(wins, core), block(tied, core), tie_model, half, drawn, prior, place)
    if not fitted.fit.converged:
        sentence = f"Newton's method did not converge in {fitted.fit.iterations} steps: do not use these ratings."
        diagnoses.append(Diagnosis("not_converged", sentence))

    resampled: Bootstrap | None = None
    if interval == "bootstrap":
        resampled = bootstrap_strengths(counts, core, half, drawn, fitted.fit, tie_model, rounds=rounds, seed=seed)
        variance, df, words, few = (
            resampled.covariance(tie_model is not None),
            np.inf,
            resampled.words,
            resampled.doubts,
        )
    else:
        variance, df, words, few = sandwich(fitted, counts, core, coded, votes, cluster)
    diagnoses += few
    m, k = len(counts.models), len(core)
    names = [counts.models[i] for i in core]
    rating, covariance = np.full(m, np.nan), np.full((m, m), np.nan)
    rating[core], covariance[np.ix_(core, core)] = to_elo(fitted.fit.strength, variance[:k, :k], names, anchor, center)
    by_name = np.argsort(np.argsort(np.array(counts.models, dtype=object)))
    order = np.lexsort((by_name, -rating))  # NaN last
    rating, covariance = rating[order], covariance[np.ix_(order, order)]
    models = tuple(counts.models[i] for i in order)
    critical = critical_value(confidence, df)
    half_width, still = interval_half_width(covariance, models, anchor, critical)
    diagnoses += still
    tested = np.where(np.isfinite(half_width), rating, np.nan)  # without an interval nothing can be told apart
    lower = np.nan_to_num(rating - half_width, nan=-np.inf, neginf=-np.inf)
    upper = np.nan_to_num(rating + half_width, nan=np.inf, posinf=np.inf)
    deviations = None
    if resampled is not None and k:
        values = np.full((rounds, m), np.nan)
        reference = resampled.strength[:, [names.index(anchor)]] if anchor else 0.0
        values[:, core] = center + ELO * (resampled.strength - reference)
        values = values[:, order]
        lower[:k], upper[:k] = percentile_limits(values[:, :k], rating[:k], confidence)
        lower[np.isinf(half_width)], upper[np.isinf(half_width)] = -np.inf, np.inf
        deviations = (values - rating)[resampled.defined]
    better = told_apart(tested, covariance, df, 1.0 - confidence, ranks, seed, deviations)
    rank_low, rank_high = ranks_of(better)
    outcomes = np.ones(m * m) @ counts.votes.reshape(m * m, 4)
    n = round(outcomes[used].sum())
    return Ratings(
        models=models,
        rating=rating,
        lower=lower,
        upper=upper,
        rank_low=rank_low,
        rank_high=rank_high,
        votes=counts.votes_by_model(used)[order],
        covariance=covariance,
        better=better,
        method="Bradley-Terry" if prior == "none" else "Bradley-Terry, empirical Bayes",
        ties=ties,
        both_bad=policy_bad,
        reference=f"{anchor} = {center:g}" if anchor else f"mean of the rated models = {center:g}",
        interval=f"{words}, {confidence:.0%}",
        ranks=rank_words(ranks, 1.0 - confidence, df),
        confidence=confidence,
        n=n,
        n_excluded=counts.n_excluded,
        n_dropped=round(outcomes.sum()) - n,
        n_ties=round(outcomes[TIE]),
        n_both_bad=round(outcomes[BOTH_BAD]),
        tie_parameter=tie_parameter(tie_model, fitted.tie, variance[k:, k:], critical, confidence)
        if tie_model and k
        else None,
        prior=_prior_words(fitted.prior_deviation),
        df=df,
        iterations=fitted.fit.iterations,
        gradient=fitted.fit.gradient,
        converged=fitted.fit.converged,
        islands=islands,
        diagnoses=tuple(diagnoses),
    )


def _prior_words(deviation: float | None) -> str:
    if deviation is None:
        return "none"
    return (
        f"normal around the mean of the rated models, standard deviation {ELO * deviation:.0f} Elo points "
        "(empirical Bayes: maximum marginal likelihood, kept from 0 and infinity)"
    )


def _start_from(start: Ratings | None, models: Sequence[str], wins: FloatArray) -> FloatArray | None:
    """Strengths of an earlier board; models new to it start at their odds against the field."""
    if start is None or not np.isfinite(start.rating).any():
        return None
    known = dict(zip(start.models, (start.rating - np.nanmean(start.rating)) / ELO, strict=True))
    won, lost = wins.sum(axis=1), wins.sum(axis=0)
    place = np.array([known.get(name, np.nan) for name in models], dtype=np.float64)
    return np.where(np.isfinite(place), place, np.log((won + 0.5) / (lost + 0.5)))


def _check_options(ties: str, both_bad: str | None, confidence: float, prior: str, interval: str, ranks: str) -> None:
    for name, value, allowed in (
        ("policy for ties", ties, get_args(TiePolicy)),
        ("policy for both_bad", both_bad or "half", get_args(BothBadPolicy)),
        ("prior", prior, get_args(Prior)),
        ("interval", interval, get_args(Interval)),
        ("method of the ranks", ranks, get_args(RankMethod)),
    ):
        if value not in allowed:
            raise UserError(f"the {name} is {value!r}; it must be one of {', '.join(allowed)}.", code=2)
    if not 0.0 < confidence < 1.0:
        raise UserError(f"the confidence is {confidence}; it must lie between 0 and 1, such as 0.95.", code=2)
