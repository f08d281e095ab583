"""A live board: counts kept up to date, so that a refresh costs the same after a thousand votes or a billion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from evalkit.errors import UserError
from evalkit.stats.ratings import Ratings, bradley_terry
from evalkit.stats.votes import OUTCOMES, Diagnosis, DiagnosisKind, FloatArray, IntArray, VoteCounts, count_votes

_FAULTS: dict[DiagnosisKind, str] = {
    "missing_model": "name no model on one side",
    "unknown_label": f"have an unknown winner, not {'|'.join(OUTCOMES)}",
    "missing_winner": "have no winner",
    "self_battle": "pit a model against itself",
}


class LiveBoard:
    """A running tensor of counts (model, model, outcome): votes are added or undone, models join, ratings refresh.

    `ratings` gives what `bradley_terry` gives on all votes added and not undone, starting from the last board. One
    process and one thread at a time.

    Args:
        models: Names known at the start; others join with their first vote.
    """

    def __init__(self, models: Sequence[str] = ()) -> None:
        self._models = tuple(sorted(set(models)))
        size = len(self._models)
        self._votes: FloatArray = np.zeros((size, size, 4))
        # Sums of weights and of their squares; the counts themselves until a weighted vote comes.
        self._weights: tuple[FloatArray, FloatArray] | None = None
        self._faults: Counter[DiagnosisKind] = Counter()
        self._last: Ratings | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """Names, sorted."""
        return self._models

    @property
    def n(self) -> int:
        """Votes counted."""
        return round(float(self._votes.sum()))

    def add(self, votes: pd.DataFrame | VoteCounts, weights: ArrayLike | None = None) -> None:
        """Count a batch of votes, of any size.

        Rows that cannot be counted (no winner, an unknown label, no model, a model against itself) are left out, and
        the boards say so.

        Args:
            votes: A votes frame (model_a, model_b, winner), or its counts as `count_votes` returns them.
            weights: Weight of each vote of a frame, shape (votes,).

        Raises:
            UserError: A column is missing, or a weight is negative or not finite.
        """
        batch = votes if isinstance(votes, VoteCounts) else count_votes(votes, weights)
        self._join(batch.models)
        self._change(batch, 1.0)

    def undo(self, votes: pd.DataFrame | VoteCounts, weights: ArrayLike | None = None) -> None:
        """Take votes back, given as they were added; the models stay.

        Args:
            votes: A votes frame, or its counts.
            weights: The weights they were added with.

        Raises:
            UserError: As `add`; or a vote that was not added, and then none is taken back.
        """
        batch = votes if isinstance(votes, VoteCounts) else count_votes(votes, weights)
        missing = [name for name in batch.models if name not in self._models]
        if missing:
            raise UserError(f"cannot undo a vote on {missing[0]!r}: no such model is on the board.")
        place = self._places(batch.models)
        short = np.argwhere(self._votes[np.ix_(place, place)] < batch.votes)
        if len(short):
            a, b, outcome = short[0].tolist()
            raise UserError(
                f"cannot undo {batch.votes[a, b, outcome]:g} vote(s) {OUTCOMES[outcome]} on {batch.models[a]} against "
                f"{batch.models[b]}: only {self._votes[place[a], place[b], outcome]:g} were added."
            )
        for diagnosis in batch.diagnoses:
            if self._faults[diagnosis.kind] < diagnosis.count:
                raise UserError(
                    f"cannot undo {diagnosis.count} vote(s) that {_FAULTS[diagnosis.kind]}: only "
                    f"{self._faults[diagnosis.kind]} were added."
                )
        self._change(batch, -1.0)

    def counts(self) -> VoteCounts:
        """A copy of the counts, for any function that takes counts."""
        now = self._now()
        votes = now.votes.copy()
        if self._weights is None:
            return VoteCounts(now.models, votes, votes, votes, now.n_excluded, now.diagnoses)
        weight, squared = (plane.copy() for plane in self._weights)
        return VoteCounts(now.models, votes, weight, squared, now.n_excluded, now.diagnoses)

    def ratings(self, **options: Any) -> Ratings:
        """The board as it stands; its cost depends on the number of models only.

        Args:
            **options: As for `bradley_terry`, but `cluster`, `weights` and `start`: counts do not say who voted,
                weights come with `add`, and the start is the last board.

        Raises:
            UserError: As `bradley_terry`.
        """
        self._last = bradley_terry(self._now(), start=self._last, **options)
        return self._last

    def _now(self) -> VoteCounts:
        weight, squared = self._weights or (self._votes, self._votes)
        faults = tuple(
            Diagnosis(kind, f"{count} votes {_FAULTS[kind]}; not counted.", (), count)
            for kind, count in self._faults.items()
            if count
        )
        excluded = sum(self._faults.values())
        return VoteCounts(self._models, self._votes, weight, squared, excluded, faults)

    def _places(self, models: Sequence[str]) -> IntArray:
        return np.searchsorted(np.array(self._models, dtype=object), np.array(models, dtype=object))

    def _join(self, models: Sequence[str]) -> None:
        everyone = tuple(sorted({*self._models, *models}))
        if len(everyone) == len(self._models):
            return
        before, self._models = self._models, everyone
        place = self._places(before)

        def enlarged(plane: FloatArray) -> FloatArray:
            larger = np.zeros((len(everyone), len(everyone), 4))
            larger[np.ix_(place, place)] = plane
            return larger

        self._votes = enlarged(self._votes)
        if self._weights is not None:
            self._weights = enlarged(self._weights[0]), enlarged(self._weights[1])

    def _change(self, batch: VoteCounts, sign: float) -> None:
        if self._weights is None and batch.weight is not batch.votes:
            self._weights = self._votes.copy(), self._votes.copy()
        a, b, outcome = np.nonzero(batch.votes)
        place = self._places(batch.models)
        cells = place[a], place[b], outcome
        self._votes[cells] += sign * batch.votes[a, b, outcome]
        if self._weights is not None:
            for plane, change in zip(self._weights, (batch.weight, batch.weight_squared), strict=True):
                plane[cells] += sign * change[a, b, outcome]
                # What is left of fractions after the last vote was undone.
                plane[cells] = np.where(self._votes[cells] > 0, plane[cells], 0.0)
        for diagnosis in batch.diagnoses:
            self._faults[diagnosis.kind] += int(sign) * diagnosis.count
