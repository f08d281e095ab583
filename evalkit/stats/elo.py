"""Online Elo: one pass over the votes in order, for those who want it."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.votes import BOTH_BAD, Diagnosis, FloatArray, IntArray, code_votes, count_votes

_SCORE = np.array([0.5, -0.5, 0.0, 0.0])  # of model_a, less 1/2, for each of OUTCOMES


@dataclass(frozen=True, eq=False)
class OnlineElo:
    """Ratings after the last vote; every array has one entry for each model, best first.

    Attributes:
        models: Names.
        rating: Elo points.
        votes: Votes that moved the rating.
        k, initial, scale: As given.
        method, ties, both_bad, order: What was done, for printing beside the numbers.
        n: Votes used.
        n_excluded: Rows left out for a fault; `diagnoses` says which.
        n_dropped: Votes left out by the policy for both_bad.
        diagnoses: What the reader must know first.
    """

    models: tuple[str, ...]
    rating: FloatArray
    votes: IntArray
    k: float
    initial: float
    scale: float
    method: str
    ties: str
    both_bad: str
    order: str
    n: int
    n_excluded: int
    n_dropped: int
    diagnoses: tuple[Diagnosis, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentences of the diagnoses."""
        return tuple(diagnosis.sentence for diagnosis in self.diagnoses)

    def frame(self) -> pd.DataFrame:
        """Columns model, rating, votes; best first."""
        return pd.DataFrame({"model": list(self.models), "rating": self.rating, "votes": self.votes})


def online_elo(
    votes: pd.DataFrame,
    *,
    k: float,
    initial: float = 1000.0,
    scale: float = 400.0,
    both_bad: Literal["half", "drop"] = "half",
    compiled: bool = False,
) -> OnlineElo:
    """Elo ratings, updated vote by vote.

    r_a += k (y - E), r_b -= k (y - E), E = 1 / (1 + 10^((r_b - r_a) / scale)), y = 1, 0 or, for a tie, 1/2 (Elo 1978,
    The Rating of Chessplayers). Votes are taken in the order of the column `timestamp` where there is one (equal times
    in the order of the rows), else of the rows. The result depends on that order and has no interval: late votes weigh
    most, and after few votes it has hardly left `initial`. For a leaderboard, prefer `bradley_terry`.

    Args:
        votes: Columns model_a, model_b, winner and, optionally, timestamp.
        k: Largest change by one vote, Elo points; common values are 4 to 32.
        initial: Rating before the first vote.
        scale: Difference at which the better model is expected to score 10 to 1.
        both_bad: A half win for each side (`half`), or not used (`drop`).
        compiled: Run the loop compiled by numba (the extra `fast`): the same result to the last bit, ten times as
            fast, after a second or so of compiling, once in a process. Worth it from some 5 million votes.

    Raises:
        UserError: A missing column, an unknown policy, `k` or `scale` not positive, a timestamp missing or no time, or
            `compiled` without numba.
    """
    for name, value in (("k", k), ("scale", scale)):
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"{name} is {value}; it must be a positive number.", code=2)
    if both_bad not in ("half", "drop"):
        raise UserError(f"the policy for both_bad is {both_bad!r}; it must be one of half, drop.", code=2)
    coded = code_votes(votes)
    counts = count_votes(coded)
    m = len(coded.models)
    a, b, outcome, order = coded.a, coded.b, coded.outcome, "of the rows"
    dropped = round(counts.votes[:, :, BOTH_BAD].sum()) if both_bad == "drop" else 0
    if counts.n_excluded or dropped or "timestamp" in votes.columns:
        used = (a < m) & (b < m) & (a != b) & (outcome <= BOTH_BAD)
        if both_bad == "drop":
            used &= outcome != BOTH_BAD
        rows = np.flatnonzero(used)
        if "timestamp" in votes.columns:
            rows, order = _in_time(votes["timestamp"], rows), "of timestamp, equal ones in the order of the rows"
        a, b, outcome = a[rows], b[rows], outcome[rows]
    rating = _run(a, b, (k * _SCORE)[outcome], m, k, math.log(10.0) / scale, compiled) + initial
    best = np.lexsort((np.arange(m), -rating))
    played = np.bincount(a, minlength=m) + np.bincount(b, minlength=m)
    return OnlineElo(
        models=tuple(coded.models[i] for i in best),
        rating=rating[best],
        votes=played[best],
        k=k,
        initial=initial,
        scale=scale,
        method=f"online Elo, K = {k:g}, from {initial:g}",
        ties="half",
        both_bad=both_bad,
        order=order,
        n=len(a),
        n_excluded=counts.n_excluded,
        n_dropped=dropped,
        diagnoses=counts.diagnoses,
    )


def _in_time(timestamp: pd.Series[Any], rows: IntArray) -> IntArray:
    if pd.api.types.is_numeric_dtype(timestamp):
        moment = timestamp
    else:
        moment = pd.to_datetime(timestamp, errors="coerce", utc=True, format="ISO8601")
    missing = np.flatnonzero(moment.isna().to_numpy()[rows])
    if len(missing):
        row = int(rows[missing[0]])
        raise UserError(
            f"vote {row + 1} has the timestamp {timestamp.iloc[row]!r}; online Elo needs an ISO 8601 time or a number "
            "for every vote, or no such column."
        )
    return rows[np.argsort(moment.to_numpy()[rows], kind="stable")]


def _updates(a: Any, b: Any, win: Any, rating: Any, half: float, slope: float) -> None:
    """The loop itself; on lists, or compiled on arrays. tanh(x / 2) = 2 / (1 + exp(-x)) - 1 cannot overflow."""
    tanh = math.tanh
    for i, j, y in zip(a, b, win):  # noqa: B905 - numba knows no strict
        first, second = rating[i], rating[j]
        gain = y - half * tanh(slope * (first - second))
        rating[i] = first + gain
        rating[j] = second - gain


def _run(a: IntArray, b: IntArray, win: FloatArray, m: int, k: float, slope: float, compiled: bool) -> FloatArray:
    if compiled:
        rating = np.zeros(m)
        _compiled()(a, b, win, rating, k / 2.0, slope / 2.0)
        return rating
    ratings = [0.0] * m
    _updates(a.tolist(), b.tolist(), win.tolist(), ratings, k / 2.0, slope / 2.0)
    return np.array(ratings, dtype=np.float64)


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., None]:
    if importlib.util.find_spec("numba") is None:
        raise UserError("compiled=True needs numba: pip install 'evalkit[fast]', or leave compiled out.", code=2)
    import numba

    loop: Callable[..., None] = numba.njit(_updates)
    return loop
