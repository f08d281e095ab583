"""Ratings from votes: Bradley-Terry with intervals, rank ranges and diagnoses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from evalkit.errors import UserError
from evalkit.stats.bradley_terry import fit, meat_by_cluster, meat_from_counts, rateable_group, win_matrix
from evalkit.stats.ranks import critical_value, rank_ranges
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

ELO = 400.0 / float(np.log(10.0))
_FEW_CLUSTERS = 10

TiePolicy = Literal["half", "drop"]


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
        method, ties, both_bad, reference, interval, ranks: What was done, for printing beside the numbers.
        confidence: Level of the intervals and of the rank ranges.
        n: Votes counted, after the tie policy.
        n_excluded: Rows left out for a fault or by `min_votes`; `diagnoses` says which.
        n_dropped: Votes left out by the tie policy.
        df: Degrees of freedom of the intervals; infinite without clusters.
        iterations: Newton steps taken.
        gradient: Largest absolute derivative of the log-likelihood at the solution, per vote of the model: the
            certificate of convergence, 0 at the maximum.
        converged: Whether the last Newton step was below 1e-9 (on the log-odds scale).
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


def bradley_terry(
    votes: pd.DataFrame | VoteCounts,
    *,
    ties: TiePolicy = "half",
    both_bad: TiePolicy | None = None,
    anchor: str | None = None,
    center: float = 1000.0,
    cluster: str | None = None,
    weights: ArrayLike | None = None,
    min_votes: int = 0,
    confidence: float = 0.95,
) -> Ratings:
    """Bradley-Terry ratings on the Elo scale.

    Model: P(i beats j) = 1 / (1 + exp(s_j - s_i)) (Bradley & Terry 1952, Biometrika 39:324-345); a half win adds half
    a vote to each side of the likelihood. Maximised by Newton's method on the counts with the analytic Hessian.
    Rating = center + (400 / ln 10) (s_i - reference).

    Intervals: rating -+ t SE from the sandwich H^-1 M H^-1 (White 1982, Econometrica 50:1-25), H the information and
    M the summed outer products of the votes' scores, from the counts alone, times n / (n - models + 1). With
    `cluster`, M sums the scores within a cluster first, times G / (G - 1) for G clusters (CR1: Liang & Zeger 1986,
    Biometrika 73:13-22), and t has G* - 1 degrees of freedom, G* = (sum n_g)^2 / sum n_g^2 the effective number of
    clusters of n_g votes (Kish 1965). Use it when votes share items or voters.

    The maximum exists only among models linked by wins in both directions (Ford 1957, Amer. Math. Monthly
    64:28-33). The largest such group is rated, from the battles within it: the exact limit of the likelihood. Every
    other model gets the rating NaN, infinite limits and the widest rank range, and a diagnosis says why.

    Args:
        votes: A votes frame (model_a, model_b, winner), or counts of one.
        ties: A tie is half a win for each side (`half`) or not used (`drop`).
        both_bad: The same for both_bad; as `ties` if None.
        anchor: Model whose rating is `center`; the mean of the rated models if None.
        center: Rating of the reference, Elo points.
        cluster: Column of `votes` with the sampling unit (item_id, annotator).
        weights: Weight of each vote, shape (votes,).
        min_votes: Models with fewer votes are left out, with a diagnosis.
        confidence: Level of the intervals; rank ranges hold together at this level (Holm).

    Raises:
        UserError: An unknown policy, a missing column or cluster value, an anchor that is not rated, a negative
            weight, or clusters or weights asked of bare counts.
    """
    policy_bad: TiePolicy = both_bad or ties
    _check_options(ties, policy_bad, confidence)
    if isinstance(votes, VoteCounts):
        if cluster is not None or weights is not None:
            raise UserError("clusters and weights need the votes themselves, not their counts.")
        all_counts = votes
    else:
        require_columns(votes, [cluster] if cluster else [])
        coded = code_votes(votes, weights)
        all_counts = count_votes(coded)
    counts = all_counts.at_least(min_votes)
    half = [outcome for outcome, policy in ((TIE, ties), (BOTH_BAD, policy_bad)) if policy == "half"]
    used = [A_WINS, B_WINS, *half]
    wins = win_matrix(counts.weight, half)
    core, islands, unplaced = rateable_group(counts.models, wins)
    diagnoses = [*counts.diagnoses, *unplaced]
    solution = fit(wins[np.ix_(core, core)])
    if not solution.converged:
        sentence = f"Newton's method did not converge in {solution.iterations} steps: do not use these ratings."
        diagnoses.append(Diagnosis("not_converged", sentence))

    cells = np.ix_(core, core)
    df = float("inf")
    if cluster is not None and not isinstance(votes, VoteCounts):
        meat, n_clusters, effective = meat_by_cluster(coded, votes[cluster], counts, core, solution.strength, half)
        df = max(effective - 1.0, 0.0)
        interval = f"sandwich clustered by {cluster} (CR1), t with {effective:.1f} effective of {n_clusters} clusters"
        if len(core) and effective < _FEW_CLUSTERS:
            sentence = (
                f"Only {effective:.1f} effective clusters of {cluster}: below {_FEW_CLUSTERS}, intervals are rough."
            )
            diagnoses.append(Diagnosis("few_clusters", sentence, (), n_clusters))
    else:
        interval = "sandwich from counts, votes taken as independent"
        n_core = counts.votes[cells][:, :, used].sum()
        meat = meat_from_counts(solution.strength, counts.weight_squared[cells], half)
        meat = meat * n_core / max(n_core - len(core) + 1, 1)

    m = len(counts.models)
    names = [counts.models[i] for i in core]
    rating, covariance = np.full(m, np.nan), np.full((m, m), np.nan)
    sandwich = solution.bread @ meat @ solution.bread
    rating[core], covariance[cells] = _to_elo(solution.strength, sandwich, names, anchor, center)
    order = np.array(
        sorted(range(m), key=lambda i: (np.isnan(rating[i]), -rating[i], counts.models[i])), dtype=np.int64
    )
    rating, covariance = rating[order], covariance[np.ix_(order, order)]
    models = tuple(counts.models[i] for i in order)
    half_width, still = _half_width(covariance, models, anchor, critical_value(confidence, df))
    diagnoses += still
    tested = np.where(np.isfinite(half_width), rating, np.nan)  # without an interval nothing can be told apart
    rank_low, rank_high = rank_ranges(tested, covariance, df, 1.0 - confidence)
    n = round(counts.votes[:, :, used].sum())
    return Ratings(
        models=models,
        rating=rating,
        lower=np.nan_to_num(rating - half_width, nan=-np.inf, neginf=-np.inf),
        upper=np.nan_to_num(rating + half_width, nan=np.inf, posinf=np.inf),
        rank_low=rank_low,
        rank_high=rank_high,
        votes=counts.votes_by_model(used)[order],
        covariance=covariance,
        method="Bradley-Terry",
        ties=ties,
        both_bad=policy_bad,
        reference=f"{anchor} = {center:g}" if anchor else f"mean of the rated models = {center:g}",
        interval=f"{interval}, {confidence:.0%}",
        ranks=f"tests of all pairwise differences, Holm, family-wise error {1.0 - confidence:.0%}",
        confidence=confidence,
        n=n,
        n_excluded=counts.n_excluded,
        n_dropped=round(counts.votes.sum()) - n,
        df=df,
        iterations=solution.iterations,
        gradient=solution.gradient,
        converged=solution.converged,
        islands=islands,
        diagnoses=tuple(diagnoses),
    )


def _check_options(ties: str, both_bad: str, confidence: float) -> None:
    allowed = get_args(TiePolicy)
    for name, policy in (("ties", ties), ("both_bad", both_bad)):
        if policy not in allowed:
            raise UserError(f"the policy for {name} is {policy!r}; it must be one of {', '.join(allowed)}.", code=2)
    if not 0.0 < confidence < 1.0:
        raise UserError(f"the confidence is {confidence}; it must lie between 0 and 1, such as 0.95.", code=2)


def _to_elo(
    strength: FloatArray, covariance: FloatArray, names: Sequence[str], anchor: str | None, center: float
) -> tuple[FloatArray, FloatArray]:
    """Elo points around the reference; shifting by a model's own strength changes the covariance too."""
    shift = np.eye(len(names))
    if anchor is not None:
        if anchor not in names:
            rated = list_names(names) or "none"
            raise UserError(f"the anchor model {anchor!r} is not among the rated models ({rated}).", code=2)
        shift[:, list(names).index(anchor)] -= 1.0
    return center + ELO * (shift @ strength), ELO**2 * (shift @ covariance @ shift.T)


def _half_width(
    covariance: FloatArray, models: Sequence[str], anchor: str | None, critical: float
) -> tuple[FloatArray, list[Diagnosis]]:
    """Half-widths of the intervals; infinite (and diagnosed) where the votes show no variation to judge from."""
    error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    fixed = np.array([name == anchor for name in models], dtype=np.bool_)
    still = (error < 1e-6) & ~fixed
    # With one cluster the scores sum to zero by construction; that case has its own diagnosis.
    named = still & np.isfinite(critical)
    names = tuple(name for name, flag in zip(models, named, strict=True) if flag)
    # An infinite critical value times the anchor's zero error is zero, not NaN.
    width = np.where(still, np.inf, np.where(fixed, 0.0, critical) * error)
    sentence = f"No interval for {list_names(names)}: the votes show no variation, such as ties only."
    return width, [Diagnosis("no_variation", sentence, names, len(names))] if names else []
