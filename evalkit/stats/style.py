"""Style control: ratings at equal style, and how much length and formatting weigh in the votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from evalkit.errors import UserError
from evalkit.stats.elo_scale import ELO, interval_half_width, to_elo
from evalkit.stats.ranks import RankMethod, critical_value, ranks_of, told_apart, two_sided_p
from evalkit.stats.ratings import BothBadPolicy, Ratings, bradley_terry
from evalkit.stats.style_features import NORMALISATION, feature_columns, feature_values, fill_differences
from evalkit.stats.style_fit import StyleFit, StyleVotes, clustered_meat, fit_style, own_covariates
from evalkit.stats.votes import (
    A_WINS,
    B_WINS,
    BOTH_BAD,
    TIE,
    CodedVotes,
    Diagnosis,
    FloatArray,
    IntArray,
    code_votes,
    count_votes,
    factorize,
    list_names,
    require_columns,
)

_FEW_CLUSTERS = 10


@dataclass(frozen=True)
class StyleCoefficient:
    """What a style feature is worth to an answer.

    Attributes:
        feature: Name.
        coefficient: Log-odds of winning for one `scale` more of the feature's relative difference; NaN where it cannot
            be told (see the diagnoses).
        lower, upper: Confidence limits.
        p_value: Two-sided test that the feature does not matter.
        elo: The coefficient in rating points.
        scale: Root mean square of (a - b) / (a + b) over the votes used.
    """

    feature: str
    coefficient: float
    lower: float
    upper: float
    p_value: float
    elo: float
    scale: float


@dataclass(frozen=True, eq=False)
class StyleRatings:
    """A leaderboard at equal style beside the raw one.

    Attributes:
        ratings: At equal style of the two answers.
        raw: Bradley-Terry on the same votes, without style.
        coefficients: One for each feature.
        covariance: Of the ratings (Elo points, in the order of `ratings.models`), then of the coefficients (log-odds),
            shape (m + k, m + k); NaN for what cannot be estimated.
        normalisation: How a feature's difference is scaled, in words.
        shrinkage: The ridge penalty in words, or `none`.
        n: Votes used.
        n_missing: Votes left out since a feature of an answer is missing.
        diagnoses: What the reader must know first.
    """

    ratings: Ratings
    raw: Ratings
    coefficients: tuple[StyleCoefficient, ...]
    covariance: FloatArray
    normalisation: str
    shrinkage: str
    n: int
    n_missing: int
    diagnoses: tuple[Diagnosis, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentences of the diagnoses."""
        return tuple(diagnosis.sentence for diagnosis in self.diagnoses)

    def frame(self) -> pd.DataFrame:
        """Columns of `Ratings.frame`, then raw_rating, change (controlled less raw), raw_rank_low, raw_rank_high."""
        table = self.ratings.frame()
        raw = self.raw.frame().set_index("model").loc[table["model"]].reset_index()
        table["raw_rating"] = raw["rating"]
        table["change"] = table["rating"] - raw["rating"]
        table["raw_rank_low"], table["raw_rank_high"] = raw["rank_low"], raw["rank_high"]
        return table

    def coefficients_frame(self) -> pd.DataFrame:
        """Columns feature, coefficient, lower, upper, p_value, elo, scale."""
        return pd.DataFrame([vars(coefficient) for coefficient in self.coefficients])


def style_control(
    votes: pd.DataFrame,
    features: pd.DataFrame | Sequence[str],
    *,
    ties: str = "half",
    both_bad: BothBadPolicy | None = None,
    anchor: str | None = None,
    center: float = 1000.0,
    cluster: str | None = None,
    weights: ArrayLike | None = None,
    min_votes: int = 0,
    confidence: float = 0.95,
    ranks: RankMethod = "family-wise",
    shrink: float = 0.0,
    seed: int = 0,
) -> StyleRatings:
    """Bradley-Terry ratings with differences of style as covariates.

    logit P(a beats b) = s_a - s_b + sum_f beta_f x_f, with x_f = (a_f - b_f) / (a_f + b_f) (0 where both are 0) divided
    by its root mean square over the votes: the public arena's style control (Li, Angelopoulos & Chiang 2024, "Does
    style matter?", LMSYS blog), but not centred, since equal style must be x = 0, and swapping the answers must only
    change signs. Maximum likelihood by Newton's method; s are the ratings at equal style.

    Intervals from the sandwich H^-1 M H^-1 of strengths and coefficients together (White 1982, Econometrica 50:1-25),
    times n / (n - parameters); clustered (CR1, t with effective clusters) as in `bradley_terry`. The scales of the
    features are taken as known.

    With `shrink` = c > 0 the log-likelihood less c / 2 sum beta^2 is maximised: a normal prior with variance 1 / c on
    the standardised coefficients, with the votes' own weight however many there are. The intervals are then those of
    the shrunken estimates, around shrunken values.

    Args:
        votes: model_a, model_b, winner.
        features: Names of features, each with columns `<name>_a` and `<name>_b` (0 or more) in `votes`; or a frame of
            such columns, a row a vote (`battle_features`).
        ties: `half` (half a win for each side) or `drop`.
        both_bad: As `ties`, for both_bad; None treats it as a tie.
        anchor, center, cluster, weights, min_votes, confidence, ranks, seed: As for `bradley_terry`.
        shrink: Ridge penalty c, 0 for none.

    Raises:
        UserError: As `bradley_terry`; or a feature's column is missing or holds a negative value, or `ties` or
            `shrink` is out of range.
    """
    if ties not in ("half", "drop"):
        raise UserError(f"the policy for ties is {ties!r}; with style it must be one of half, drop.", code=2)
    if not 0.0 <= shrink < np.inf:
        raise UserError(f"shrink is {shrink}; it must be 0 (none) or a positive number.", code=2)
    require_columns(votes, [cluster] if cluster else [])
    frame, names = feature_columns(votes, features)
    values, known = feature_values(frame, names)
    coded = code_votes(votes, weights)
    diagnoses: list[Diagnosis] = []
    missing = 0
    if known is not None:
        missing, row = int((~known).sum()), int(np.flatnonzero(~known)[0]) + 1
        sentence = f"{missing} votes lack a style feature of an answer (first: row {row}); not used."
        diagnoses.append(Diagnosis("missing_feature", sentence, (), missing))
        votes, coded = votes[known], _take(coded, known)
        values = [(a[known], b[known]) for a, b in values]
    board = bradley_terry(
        votes if cluster else count_votes(coded),
        ties="half" if ties == "half" else "drop",
        both_bad=both_bad,
        anchor=anchor,
        center=center,
        cluster=cluster,
        weights=coded.weight if cluster else None,
        min_votes=min_votes,
        confidence=confidence,
        ranks=ranks,
        seed=seed,
    )
    diagnoses += board.diagnoses
    placed = np.flatnonzero(np.isfinite(board.rating))
    half = [outcome for outcome, policy in ((TIE, ties), (BOTH_BAD, both_bad or ties)) if policy == "half"]
    used = _used(coded, [board.models[i] for i in placed], half)
    unit = _units(votes[cluster], used.rows) if cluster else None
    m, n = len(placed), len(used.score)
    del coded
    x, scale = fill_differences(values, used.rows)
    style = StyleVotes(m, used.pair, used.score, x, used.weight, shrink)
    strength = (board.rating[placed] - board.rating[placed].mean()) / ELO if m else np.zeros(0)
    own = own_covariates(style, strength) if m else []
    diagnoses += _lost_features(names, scale, own) if m else []
    if len(own) < len(names):
        style = style.take(own)
    fitted = fit_style(style, strength) if m else None
    variance, df, words, doubts = _sandwich(style, fitted, unit, cluster) if fitted else (
        np.zeros((0, 0)), np.inf, board.interval.rsplit(",", 1)[0], [])  # fmt: skip
    diagnoses += doubts
    failed = fitted is not None and not fitted.converged
    if failed:
        diagnoses.append(Diagnosis("not_converged", "Newton's method did not converge, as when style alone decides "
                                   "(nearly) every vote: do not use these ratings."))  # fmt: skip
    covariance = np.full((len(board.models) + len(names),) * 2, np.nan)
    rating, estimate = np.full(len(board.models), np.nan), np.full(len(names), np.nan)
    if fitted and not failed:
        rated = [board.models[i] for i in placed]
        rating[placed], covariance[np.ix_(placed, placed)] = to_elo(
            fitted.parameters[:m], variance[:m, :m], rated, anchor, center
        )
        estimate[own] = fitted.parameters[m:]
        at = len(board.models) + np.array(own, dtype=np.int64)
        crossed = ELO * (variance[:m, m:] - (variance[rated.index(anchor), m:] if anchor else 0.0))
        covariance[np.ix_(placed, at)], covariance[np.ix_(at, placed)] = crossed, crossed.T
        covariance[np.ix_(at, at)] = variance[m:, m:]
    ratings, covariance = _board(board, rating, covariance, df, anchor, ranks, seed)
    critical = critical_value(confidence, df)
    error = np.sqrt(np.diag(covariance)[len(board.models) :])
    p_value = two_sided_p(np.nan_to_num(estimate / np.where(error > 0, error, np.inf)), df)
    width = np.where(np.isfinite(error), critical * np.nan_to_num(error, nan=1.0), np.inf)
    center_of = np.nan_to_num(estimate)
    return StyleRatings(
        ratings=replace(
            ratings,
            method="Bradley-Terry at equal style",
            interval=f"{words}, {confidence:.0%}",
            df=df,
            n=n,
            n_excluded=board.n_excluded + missing,
            iterations=fitted.iterations if fitted else 0,
            gradient=fitted.gradient if fitted else 0.0,
            converged=fitted.converged if fitted else True,
            diagnoses=tuple(diagnoses),
        ),
        raw=board,
        coefficients=tuple(
            StyleCoefficient(name, *map(float, values))
            for name, *values in zip(
                names, estimate, center_of - width, center_of + width, p_value, ELO * estimate, scale, strict=True
            )
        ),
        covariance=covariance,
        normalisation=NORMALISATION,
        shrinkage=f"ridge, penalty {shrink:g} / 2 times the sum of squared coefficients" if shrink else "none",
        n=n,
        n_missing=missing,
        diagnoses=tuple(diagnoses),
    )


@dataclass(frozen=True, eq=False)
class _Used:
    """Votes between rated models: their rows (None for all), pairs, scores and weights (see `StyleVotes`)."""

    rows: IntArray | None
    pair: NDArray[np.int32]
    score: NDArray[np.float32]
    weight: FloatArray | None


def _used(coded: CodedVotes, rated: Sequence[str], half: Sequence[int]) -> _Used:
    """Votes between two rated models with an outcome that counts."""
    m = len(rated)
    position = np.full(len(coded.models) + 1, -1, dtype=np.int32)
    place = {name: i for i, name in enumerate(coded.models)}
    position[[place[name] for name in rated]] = np.arange(m)
    points = np.full(6, np.nan, dtype=np.float32)
    points[[A_WINS, B_WINS, *half]] = [1.0, 0.0, *[0.5] * len(half)]
    pair, b, score = position[coded.a], position[coded.b], points[coded.outcome]
    fits = (pair >= 0) & (b >= 0) & (pair != b) & ~np.isnan(score)
    pair *= m
    pair += b
    if fits.all():
        return _Used(None, pair, score, coded.weight)
    rows = np.flatnonzero(fits)
    return _Used(rows, pair[rows], score[rows], None if coded.weight is None else coded.weight[rows])


def _take(coded: CodedVotes, rows: NDArray[np.bool_]) -> CodedVotes:
    weight = None if coded.weight is None else coded.weight[rows]
    return replace(coded, a=coded.a[rows], b=coded.b[rows], outcome=coded.outcome[rows], weight=weight)


def _units(column: pd.Series[Any], rows: IntArray | None) -> IntArray:
    """Codes 0, 1, ... of the sampling units of some votes."""
    codes = factorize(column)[0]
    return np.unique(codes if rows is None else codes[rows], return_inverse=True)[1]


def _lost_features(names: Sequence[str], scale: FloatArray, own: Sequence[int]) -> list[Diagnosis]:
    found = []
    still = tuple(name for name, size in zip(names, scale, strict=True) if not size > 0)
    if still:
        sentence = f"No effect of {list_names(still)}: the two answers never differ in it."
        found.append(Diagnosis("no_variation", sentence, (), len(still)))
    tied = tuple(name for f, name in enumerate(names) if f not in own and name not in still)
    if tied:
        sentence = (
            f"No effect of {list_names(tied)}: the models and the other features determine it, so it cannot be told "
            "from theirs; left out."
        )
        found.append(Diagnosis("collinear", sentence, (), len(tied)))
    return found


def _sandwich(
    style: StyleVotes, fitted: StyleFit, unit: IntArray | None, cluster: str | None
) -> tuple[FloatArray, float, str, list[Diagnosis]]:
    """Covariance of strengths and coefficients, degrees of freedom, the method in words, doubts."""
    n = len(style.score)
    doubts: list[Diagnosis] = []
    if unit is None:
        df, words = float("inf"), "sandwich, votes taken as independent"
        meat = fitted.meat * (n / max(n - len(fitted.parameters) + 1, 1))
    else:
        sizes = np.bincount(unit).astype(np.float64)
        g, effective = len(sizes), float(sizes.sum() ** 2 / (sizes**2).sum())
        df = max(effective - 1.0, 0.0)
        words = f"sandwich clustered by {cluster} (CR1), t with {effective:.1f} effective of {g} clusters"
        meat = clustered_meat(style, fitted.parameters, unit) * (g / max(g - 1, 1))
        if effective < _FEW_CLUSTERS:
            sentence = (
                f"Only {effective:.1f} effective clusters of {cluster}: below {_FEW_CLUSTERS}, intervals are rough."
            )
            doubts.append(Diagnosis("few_clusters", sentence, (), g))
    return fitted.bread @ meat @ fitted.bread, df, words, doubts


def _board(
    raw: Ratings,
    rating: FloatArray,
    covariance: FloatArray,
    df: float,
    anchor: str | None,
    ranks: RankMethod,
    seed: int,
) -> tuple[Ratings, FloatArray]:
    """The raw board with other ratings, in their order; and the covariance, coefficients last, in that order."""
    m = len(rating)
    order = np.array(sorted(range(m), key=lambda i: (np.isnan(rating[i]), -rating[i], raw.models[i])), dtype=np.int64)
    full = np.concatenate([order, np.arange(m, len(covariance))])
    covariance, rating = covariance[np.ix_(full, full)], rating[order]
    models, own = tuple(raw.models[i] for i in order), np.ascontiguousarray(covariance[:m, :m])
    half_width, still = interval_half_width(own, models, anchor, critical_value(raw.confidence, df))
    tested = np.where(np.isfinite(half_width), rating, np.nan)
    better = told_apart(tested, own, df, 1.0 - raw.confidence, ranks, seed)
    low, high = ranks_of(better)
    board = replace(
        raw,
        models=models,
        rating=rating,
        lower=np.nan_to_num(rating - half_width, nan=-np.inf, neginf=-np.inf),
        upper=np.nan_to_num(rating + half_width, nan=np.inf, posinf=np.inf),
        rank_low=low,
        rank_high=high,
        votes=raw.votes[order],
        covariance=own,
        better=better,
        diagnoses=(*raw.diagnoses, *still),
    )
    return board, covariance
