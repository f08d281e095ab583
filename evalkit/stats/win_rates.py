"""Win rates against a baseline, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.intervals import bounded_mean
from evalkit.stats.votes import (
    A_WINS,
    B_WINS,
    BOTH_BAD,
    TIE,
    Diagnosis,
    FloatArray,
    IntArray,
    code_votes,
    list_names,
    require_columns,
)

Row = TypeVar("Row")


@dataclass(frozen=True)
class WinRate:
    """Win rate of one model against the baseline.

    Attributes:
        model, baseline: Names.
        win_rate: Mean score, 0 to 1 (a win 1, a half win 1/2); NaN without votes.
        lower, upper: Confidence limits; 0 and 1 without votes.
        n: Votes used.
        n_clusters: Sampling units among them.
        wins, losses, ties, both_bad: Votes with these outcomes, used or dropped.
        n_dropped: Votes left out by the tie policy.
        n_excluded: Votes of this pair without a readable winner.
    """

    model: str
    baseline: str
    win_rate: float
    lower: float
    upper: float
    n: int
    n_clusters: int
    wins: int
    losses: int
    ties: int
    both_bad: int
    n_dropped: int
    n_excluded: int


@dataclass(frozen=True, eq=False)
class RateTable(Generic[Row]):
    """Win rates against one baseline, best first.

    Attributes:
        rows: One for each model.
        baseline: Name.
        ties, both_bad: The policies.
        interval: The method in words.
        definition: What the numbers mean.
        confidence: Level.
        n: Votes used.
        n_excluded: Votes without a readable winner or model, or without a covariate that the method needs.
        diagnoses: What the reader must know first.
    """

    rows: tuple[Row, ...]
    baseline: str
    ties: str
    both_bad: str
    interval: str
    definition: str
    confidence: float
    n: int
    n_excluded: int
    diagnoses: tuple[Diagnosis, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentences of the diagnoses."""
        return tuple(diagnosis.sentence for diagnosis in self.diagnoses)

    def frame(self) -> pd.DataFrame:
        """One row a model, the fields of its row as columns."""
        return pd.DataFrame([vars(row) for row in self.rows])


class WinRates(RateTable[WinRate]):
    """Raw win rates."""


@dataclass(frozen=True, eq=False)
class Against:
    """Votes against the baseline, seen from the other model: model code, outcome, row, whether it is model_a."""

    models: tuple[str, ...]
    model: IntArray
    outcome: IntArray
    row: IntArray
    is_a: FloatArray
    diagnoses: tuple[Diagnosis, ...]
    n_nameless: int


def win_rates(
    votes: pd.DataFrame,
    baseline: str,
    *,
    ties: str = "half",
    both_bad: str | None = None,
    cluster: str | None = None,
    confidence: float = 0.95,
) -> WinRates:
    """Win rate of every model against a baseline.

    Mean score (win 1, half win 1/2, loss 0) over the votes of the pair. Wilson's interval at the effective count
    p (1 - p) / SE^2 with t of G - 1 degrees of freedom, SE clustered (CR1) over G clusters (`bounded_mean`; Dean &
    Pagano 2015, J. Surv. Stat. Methodol. 3:484-503).

    Args:
        votes: model_a, model_b, winner.
        baseline: A model in them.
        ties: `half` (half a win) or `drop`.
        both_bad: The same for both_bad; None treats it as a tie.
        cluster: Column of `votes` with the sampling unit (item_id, annotator); None for independent votes.
        confidence: Level.

    Raises:
        UserError: The baseline is in no vote, a policy is unknown, or a column or a cluster is missing.
    """
    battles, half = against(votes, baseline, ties, both_bad, cluster)
    rows, excluded = [], battles.n_nameless
    for code, name in enumerate(battles.models):
        mine = battles.model == code
        if name == baseline or not mine.any():
            continue
        outcome = battles.outcome[mine]
        score = scores_of(outcome, half)
        used = ~np.isnan(score)
        labels = None if cluster is None else votes[cluster].to_numpy()[battles.row[mine][used]]
        mean = bounded_mean(score[used], labels, confidence)
        count = np.bincount(outcome, minlength=6)
        bad = int(count[4:].sum())
        excluded += bad
        rows.append(
            WinRate(
                name,
                baseline,
                mean.value,
                mean.lower,
                mean.upper,
                mean.n,
                mean.n_clusters,
                wins=int(count[A_WINS]),
                losses=int(count[B_WINS]),
                ties=int(count[TIE]),
                both_bad=int(count[BOTH_BAD]),
                n_dropped=len(outcome) - mean.n - bad,
                n_excluded=bad,
            )
        )
    rows.sort(key=lambda row: (np.isnan(row.win_rate), -row.win_rate, row.model))
    return WinRates(
        tuple(rows),
        baseline,
        ties,
        both_bad or ties,
        interval_words(cluster, "Wilson's at the effective count", confidence),
        f"mean score against {baseline}: win 1, half win 1/2, loss 0",
        confidence,
        sum(row.n for row in rows),
        excluded,
        battles.diagnoses,
    )


def against(
    votes: pd.DataFrame, baseline: str, ties: str, both_bad: str | None, cluster: str | None
) -> tuple[Against, list[int]]:
    """The votes against the baseline, and the outcomes that are half a win."""
    for what, policy in (("ties", ties), ("both_bad", both_bad or ties)):
        if policy not in ("half", "drop"):
            raise UserError(f"the policy for {what} is {policy!r}; it must be one of half, drop.", code=2)
    require_columns(votes, [cluster] if cluster else [])
    coded = code_votes(votes)
    if baseline not in coded.models:
        raise UserError(f"the baseline {baseline!r} is in no vote ({list_names(coded.models) or 'there are none'}).", 2)
    base, m = coded.models.index(baseline), len(coded.models)
    is_a = coded.b == base
    rows = np.flatnonzero((is_a | (coded.a == base)) & (coded.a != coded.b))
    model = np.where(is_a[rows], coded.a[rows], coded.b[rows])
    rows, model, nameless = rows[model < m], model[model < m], int((model == m).sum())
    flipped = np.array([B_WINS, A_WINS, TIE, BOTH_BAD, 4, 5])
    outcome = np.where(is_a[rows], coded.outcome[rows], flipped[coded.outcome[rows]])
    if cluster is not None and votes[cluster].iloc[rows].isna().any():
        row = int(rows[np.flatnonzero(votes[cluster].iloc[rows].isna())[0]]) + 1
        raise UserError(f"vote {row} has no {cluster}: intervals clustered by it need one for every vote.")
    diagnoses = []
    bad = int((outcome > BOTH_BAD).sum())
    if bad or nameless:
        row = int(rows[np.flatnonzero(outcome > BOTH_BAD)[0]]) + 1 if bad else 0
        first = f" (first: row {row})" if bad else ""
        sentence = f"{bad + nameless} votes against {baseline} have no readable winner or no model{first}; not counted."
        diagnoses.append(Diagnosis("missing_winner", sentence, (), bad + nameless))
    half = [k for k, policy in ((TIE, ties), (BOTH_BAD, both_bad or ties)) if policy == "half"]
    return Against(coded.models, model, outcome, rows, is_a[rows], tuple(diagnoses), nameless), half


def scores_of(outcome: IntArray, half: Sequence[int]) -> FloatArray:
    """Score of each outcome, NaN for one that does not count."""
    points = np.full(6, np.nan)
    points[[A_WINS, B_WINS, *half]] = [1.0, 0.0, *[0.5] * len(half)]
    return np.asarray(points[outcome])


def interval_words(cluster: str | None, method: str, confidence: float) -> str:
    units = f"clustered by {cluster} (CR1)" if cluster else "votes taken as independent"
    return f"{method}, {units}, {confidence:.0%}"
