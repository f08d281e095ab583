"""Boards as published protocols make them: AlpacaEval's and Arena-Hard's win rates against a baseline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from evalkit.errors import UserError
from evalkit.stats.bootstrap import MIN_ROUNDS
from evalkit.stats.elo_scale import ELO
from evalkit.stats.intervals import bounded_mean
from evalkit.stats.length_control import length_controlled_win_rates
from evalkit.stats.ratings import bradley_terry
from evalkit.stats.votes import FloatArray, list_names
from evalkit.stats.win_rates import against, interval_words, scores_of

STRONG = 3.0
"""What a strong verdict counts in Arena-Hard."""


@dataclass(frozen=True)
class ProtocolRow:
    """One model against the baseline.

    Attributes:
        model: Name.
        win_rate: 0 to 1; NaN where it cannot be estimated.
        lower, upper: Confidence limits.
        n: Its verdicts, each order one; in Arena-Hard against anyone.
        length_controlled, length_controlled_lower, length_controlled_upper: At equal length of the answers; NaN where
            it was not asked for.
    """

    model: str
    win_rate: float
    lower: float
    upper: float
    n: int
    length_controlled: float = float("nan")
    length_controlled_lower: float = float("nan")
    length_controlled_upper: float = float("nan")


@dataclass(frozen=True, eq=False)
class ProtocolBoard:
    """Win rates against one baseline, best first.

    Attributes:
        protocol, baseline: Names.
        rows: One for each other model.
        definition: What the numbers mean.
        interval: In words.
        n: Verdicts used.
        warnings: Sentences.
    """

    protocol: str
    baseline: str
    rows: tuple[ProtocolRow, ...]
    definition: str
    interval: str
    n: int
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """One row a model, the fields of its row as columns."""
        return pd.DataFrame([vars(row) for row in self.rows])


def alpaca_eval(
    votes: pd.DataFrame,
    baseline: str,
    *,
    length: str | None = None,
    cluster: str | None = "item_id",
    confidence: float = 0.95,
) -> ProtocolBoard:
    """AlpacaEval's win rate: the mean probability that the model's answer is preferred to the baseline's.

    Each verdict counts as the judge's probability; one without a probability as 1, 1/2 (tie) or 0. (Li et al. 2023,
    "AlpacaEval"; probabilities since version 2, Dubois et al. 2024, "Length-controlled AlpacaEval".) Limits as
    `win_rates`'. The length-controlled rate, of the labels, is `length_controlled_win_rates`'.

    Args:
        votes: model_a, model_b, winner; optional probability (of model_a).
        baseline: A model in them.
        length: Name of a length feature: then `<length>_a`, `<length>_b` are columns, and rates at equal length too.
        cluster: Column with the sampling unit; None takes verdicts as independent.
        confidence: Level.

    Raises:
        UserError: As `win_rates` and `length_controlled_win_rates`, or a probability is not one.
    """
    unit = cluster if cluster in votes.columns else None
    battles, half = against(votes, baseline, "half", None, unit)
    likely = np.full(len(votes), np.nan)
    if "probability" in votes.columns:
        likely = votes["probability"].to_numpy(dtype=np.float64, na_value=np.nan)
    likely = likely[battles.row]
    wrong = np.flatnonzero((likely < 0) | (likely > 1))
    if len(wrong):
        raise UserError(f"vote {battles.row[wrong[0]] + 1}: the probability is {likely[wrong[0]]:g}, not from 0 to 1.")
    labels = scores_of(battles.outcome, half)
    likely = np.where(battles.is_a == 1, likely, 1.0 - likely)
    score = np.where(np.isnan(likely) | np.isnan(labels), labels, likely)
    rows, controlled, warnings = [], {}, [diagnosis.sentence for diagnosis in battles.diagnoses]
    if length is not None:
        found = length_controlled_win_rates(votes, baseline, length, cluster=unit, confidence=confidence)
        controlled = {row.model: (row.win_rate, row.lower, row.upper) for row in found.rows}
        warnings += [sentence for sentence in found.warnings if sentence not in warnings]
    for code, name in enumerate(battles.models):
        mine = (battles.model == code) & ~np.isnan(score)
        if name == baseline or not (battles.model == code).any():
            continue
        groups = None if unit is None else votes[unit].to_numpy()[battles.row[mine]]
        mean = bounded_mean(score[mine], groups, confidence)
        rows.append(ProtocolRow(name, mean.value, mean.lower, mean.upper, mean.n, *controlled.get(name, ())))
    return _board(
        "alpaca-eval",
        baseline,
        rows,
        f"mean probability of being preferred to {baseline}; a verdict without a probability counts 1, 1/2 or 0",
        interval_words(unit, "Wilson's at the effective count", confidence),
        sum(row.n for row in rows),
        warnings,
    )


def arena_hard(
    votes: pd.DataFrame, baseline: str, *, confidence: float = 0.95, rounds: int = MIN_ROUNDS, seed: int = 0
) -> ProtocolBoard:
    """Arena-Hard's win rate: Bradley-Terry on games in which a strong verdict counts three times.

    Each verdict, so each order of a battle, is a game; one with probability 0 or 1 (A>>B or B>>A of the five steps) has
    weight 3, a tie is half a win (Li et al. 2024, "From Crowdsourced Data to High-Quality Benchmarks: Arena-Hard and
    BenchBuilder Pipeline"). The win rate against the baseline is 1 / (1 + exp(s_baseline - s_model)). Limits:
    bias-corrected percentiles of the bootstrap over games (`bradley_terry`). Unlike the original, nothing regularises
    the fit: a model that lost no game, or won none, has no rate, and a warning says so.

    Args:
        votes: model_a, model_b, winner; optional probability (of model_a), without which no verdict is strong.
        baseline: A model in them.
        confidence, rounds, seed: Of the bootstrap.

    Raises:
        UserError: As `bradley_terry`, or the baseline is in no vote.
    """
    strong = np.zeros(len(votes), dtype=np.bool_)
    if "probability" in votes.columns:
        likely = votes["probability"].to_numpy(dtype=np.float64, na_value=np.nan)
        strong = ((likely == 0) | (likely == 1)) & votes["winner"].isin(["model_a", "model_b"]).to_numpy()
    names = sorted({*votes["model_a"].dropna(), *votes["model_b"].dropna()} if {"model_a"} <= {*votes.columns} else ())
    if baseline not in names:
        raise UserError(f"the baseline {baseline!r} is in no vote ({list_names(names) or 'there are none'}).", 2)
    board = bradley_terry(
        votes,
        anchor=baseline,
        weights=np.where(strong, STRONG, 1.0),
        confidence=confidence,
        interval="bootstrap",
        rounds=rounds,
        seed=seed,
    )

    def rate(rating: FloatArray) -> FloatArray:
        return np.asarray(special.expit((rating - 1000.0) / ELO), dtype=np.float64)

    values = zip(board.models, rate(board.rating), rate(board.lower), rate(board.upper), board.votes, strict=True)
    rows = [ProtocolRow(m, float(p), float(low), float(up), int(n)) for m, p, low, up, n in values if m != baseline]
    return _board(
        "arena-hard",
        baseline,
        rows,
        f"Bradley-Terry win rate against {baseline}, each order one game, {int(strong.sum())} strong verdicts of "
        f"{board.n} count {STRONG:g} times",
        board.interval,
        board.n,
        list(board.warnings),
    )


def _board(
    protocol: str, baseline: str, rows: list[ProtocolRow], definition: str, interval: str, n: int, warnings: list[str]
) -> ProtocolBoard:
    ordered = sorted(rows, key=lambda row: (np.isnan(row.win_rate), -row.win_rate, row.model))
    return ProtocolBoard(protocol, baseline, tuple(ordered), definition, interval, n, tuple(warnings))
