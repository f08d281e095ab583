"""How well ratings foretell votes they have not seen: held-out log-loss, accuracy and Brier score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.estimate import Prior, TiePolicy
from evalkit.stats.intervals import Mean, bounded_mean, cluster_codes, clustered_mean
from evalkit.stats.ratings import ELO, BothBadPolicy, Ratings, bradley_terry
from evalkit.stats.votes import (
    A_WINS,
    B_WINS,
    BOTH_BAD,
    TIE,
    CodedVotes,
    FloatArray,
    IntArray,
    code_votes,
    count_votes,
    require_columns,
)

Scope = Literal["wins", "wins and ties"]


@dataclass(frozen=True)
class Skill:
    """One predictor's scores on held-out votes.

    Attributes:
        predictor: `ratings`, `always 1/2` (each outcome equally likely) or `base rates` (of the training votes).
        scope: `wins`: which side wins, given that one does; `wins and ties`: which of the three outcomes.
        log_loss: Mean of -log p of what happened, nats; lower is better.
        accuracy: Share of votes where the likeliest outcome happened; outcomes equally likely share the hit.
        brier: Mean of the squared errors: of the winner's probability (`wins`, 0 to 1), or summed over the three
            outcomes (`wins and ties`, 0 to 2); lower is better.
    """

    predictor: str
    scope: Scope
    log_loss: Mean
    accuracy: Mean
    brier: Mean


@dataclass(frozen=True)
class Predictions:
    """Held-out scores of ratings beside two baselines, all on the same votes.

    Attributes:
        skills: Ratings and baselines, by scope.
        n: Votes scored.
        n_wins, n_ties: Of them, votes with a winner, and ties (scored in `wins and ties` only).
        n_unscored: Votes with an outcome to which the tie policy gives no probability.
        n_unpredicted: Votes with a model that the training votes could not rate; scored nowhere.
        n_excluded: Rows that are no votes.
        folds: Number of folds.
        definition: What was done, in words.
        warnings: Sentences.
    """

    skills: tuple[Skill, ...]
    n: int
    n_wins: int
    n_ties: int
    n_unscored: int
    n_unpredicted: int
    n_excluded: int
    folds: int
    definition: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Columns predictor, scope, n, and log_loss, accuracy, brier, each with `_lower` and `_upper`."""
        rows = []
        for skill in self.skills:
            row: dict[str, object] = {"predictor": skill.predictor, "scope": skill.scope, "n": skill.log_loss.n}
            for name in ("log_loss", "accuracy", "brier"):
                mean: Mean = getattr(skill, name)
                row |= {name: mean.value, f"{name}_lower": mean.lower, f"{name}_upper": mean.upper}
            rows.append(row)
        return pd.DataFrame(rows)


def held_out_predictions(
    votes: pd.DataFrame,
    *,
    ties: TiePolicy = "half",
    both_bad: BothBadPolicy | None = None,
    prior: Prior = "none",
    cluster: str | None = None,
    folds: int = 5,
    confidence: float = 0.95,
    seed: int = 0,
) -> Predictions:
    """Rate on all folds but one, predict the votes of that one, and score the predictions.

    Which side wins, given that one does: p = P(a) / (P(a) + P(b)), 1 / (1 + 10^(-d/400)) for a rating difference d with
    ties half or dropped; comparable across all policies. With Davidson's or Rao and Kupper's model also the three
    outcomes. Log-loss and Brier score are proper: only the true probabilities minimise their expectation (Brier 1950,
    Mon. Weather Rev. 78:1-3; Gneiting & Raftery 2007, JASA 102:359-378). Intervals: t over votes, or over clusters
    (CR1), for the ratings fitted; the folds' fits overlap, which they leave out.

    Args:
        votes: A votes frame (model_a, model_b, winner).
        ties, both_bad, prior: As for `bradley_terry`.
        cluster: Column whose values stay together in a fold (item_id, annotator); None for single votes. Without it, a
            voter's or prompt's votes are in training and test both, and the scores flatter the ratings.
        folds: Number of folds, at least 2.
        confidence: Level.
        seed: Of the folds.

    Raises:
        UserError: As `bradley_terry`; or there are fewer units than folds, or a vote has no cluster.
    """
    require_columns(votes, [cluster] if cluster else [])
    coded = code_votes(votes)
    if folds < 2:
        raise UserError(f"{folds} folds leave nothing to train on; use 2 or more.", code=2)
    m = len(coded.models)
    rows = np.flatnonzero((coded.a < m) & (coded.b < m) & (coded.a != coded.b) & (coded.outcome <= BOTH_BAD))
    coded_rows = _select(coded, rows)
    n = len(rows)
    unit = np.arange(n) if cluster is None else cluster_codes(votes[cluster].to_numpy()[rows], n)
    units = int(unit.max()) + 1 if n else 0
    if units < folds:
        what = f"values of {cluster}" if cluster else "votes"
        raise UserError(f"{folds} folds need as many {what}; there are {units}.", code=2)
    order = np.random.default_rng(seed).permutation(units)
    fold = (order % folds)[unit]
    policy_bad: TiePolicy = both_bad or ties
    three = ties in ("davidson", "rao-kupper")
    tied = [outcome for outcome, policy in ((TIE, ties), (BOTH_BAD, policy_bad)) if three and policy == ties]
    outcome = np.where(np.isin(coded_rows.outcome, tied), 1, -1)
    outcome[coded_rows.outcome == A_WINS], outcome[coded_rows.outcome == B_WINS] = 0, 2
    chance, base = np.full((n, 3), np.nan), np.full((n, 3), np.nan)
    for held in range(folds):
        test = fold == held
        training = _select(coded_rows, np.flatnonzero(~test))
        board = bradley_terry(count_votes(training), ties=ties, both_bad=both_bad, prior=prior)
        chance[test] = _outcome_chances(board, coded_rows, np.flatnonzero(test))
        seen = np.bincount(outcome[~test & (outcome >= 0)], minlength=3)
        base[test] = (seen + 1.0 * np.array([1, three, 1])) / (seen.sum() + 2.0 + three)
    predicted = ~np.isnan(chance[:, 0])
    scored = predicted & (outcome >= 0)
    unscored, unpredicted = int((outcome < 0).sum()), int((~predicted & (outcome >= 0)).sum())
    warnings = []
    if unscored:
        warnings.append(f"{unscored} votes are ties or both bad, to which the policy gives no chance; not scored.")
    if unpredicted:
        warnings.append(f"{unpredicted} votes have a model that the other folds could not rate; not scored.")
    if len(votes) > n:
        warnings.append(f"{len(votes) - n} rows are no votes (no model, no known winner, or a self-battle).")
    labels = None if cluster is None else unit
    skills = []
    scopes: list[Scope] = ["wins", "wins and ties"] if three else ["wins"]
    for scope in scopes:
        used = np.flatnonzero(scored & (outcome != 1) if scope == "wins" else scored)
        groups = None if labels is None else labels[used]
        even = np.ones((len(used), 3))
        for predictor, table in (("ratings", chance[used]), ("always 1/2", even), ("base rates", base[used])):
            skills.append(_skill(predictor, scope, table, outcome[used], groups, confidence))
    wins = int((scored & (outcome != 1)).sum())
    return Predictions(
        skills=tuple(skills),
        n=int(scored.sum()),
        n_wins=wins,
        n_ties=int(scored.sum()) - wins,
        n_unscored=unscored,
        n_unpredicted=unpredicted,
        n_excluded=len(votes) - n,
        folds=folds,
        definition=(
            f"{folds}-fold cross-validation by {cluster or 'vote'}, seed {seed}; ratings with ties {ties}, both_bad "
            f"{policy_bad}, prior {prior}; log-loss in nats; {confidence:.0%} t intervals over "
            f"{'clusters by ' + cluster if cluster else 'votes'}"
        ),
        warnings=tuple(warnings),
    )


def _select(coded: CodedVotes, rows: IntArray) -> CodedVotes:
    return replace(coded, a=coded.a[rows], b=coded.b[rows], outcome=coded.outcome[rows])


def _outcome_chances(board: Ratings, coded: CodedVotes, rows: IntArray) -> FloatArray:
    """P(model_a wins), P(tie), P(model_b wins) of votes, shape (rows, 3); NaN where a model is not rated."""
    place = {name: i for i, name in enumerate(board.models)}
    rating = np.array([board.rating[place[name]] if name in place else np.nan for name in coded.models])
    half = (rating[coded.a[rows]] - rating[coded.b[rows]]) / (2.0 * ELO)
    if board.ties == "rao-kupper":
        cut = np.log(board.tie_parameter.value) / 2.0 if board.tie_parameter else 0.0
        win, loss = (1.0 / (1.0 + np.exp(2.0 * (cut - side))) for side in (half, -half))
        return np.column_stack([win, np.maximum(1.0 - win - loss, 0.0), loss])
    nu = board.tie_parameter.value if board.tie_parameter else 0.0
    top = np.abs(half)
    parts = np.column_stack([np.exp(half - top), nu * np.exp(-top), np.exp(-half - top)])
    return np.asarray(parts / parts.sum(axis=1, keepdims=True))


def _skill(
    predictor: str, scope: Scope, chance: FloatArray, outcome: IntArray, labels: IntArray | None, confidence: float
) -> Skill:
    if scope == "wins":
        chance = chance * np.array([1.0, 0.0, 1.0])
    chance = chance / chance.sum(axis=1, keepdims=True)
    happened = chance[np.arange(len(outcome)), outcome]
    best = chance.max(axis=1)
    hit = (happened >= best - 1e-12) / (chance >= best[:, None] - 1e-12).sum(axis=1)
    squared = (chance**2).sum(axis=1) - 2.0 * happened + 1.0
    # Of two outcomes both errors are the same; the usual score counts it once.
    brier = squared / 2.0 if scope == "wins" else squared
    with np.errstate(divide="ignore"):
        loss = -np.log(happened)
    if not np.isfinite(loss).all():
        raise UserError(f"a held-out tie had no chance at all by the {predictor}: the training votes hold no tie.")
    return Skill(
        predictor,
        scope,
        clustered_mean(loss, labels, confidence),
        bounded_mean(hit, labels, confidence),
        clustered_mean(brier, labels, confidence),
    )
