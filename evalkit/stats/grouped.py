"""Ratings by category, criterion or period: one board for each group of votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from evalkit.errors import UserError
from evalkit.stats.ratings import Ratings, bradley_terry
from evalkit.stats.votes import list_names, require_columns

Period = Literal["day", "week", "month", "quarter", "year"]
_FREQUENCY = {"day": "D", "week": "W", "month": "M", "quarter": "Q", "year": "Y"}


@dataclass(frozen=True, eq=False)
class GroupedRatings:
    """A board for each group of votes, in the order of the groups' names (of time, for periods).

    Attributes:
        by: How the groups were made, in words.
        boards: Ratings by group; each board has its own reference, so only differences within one compare.
        n_ungrouped: Votes in no group (no value, or no flag set): on no board.
        n: Votes given.
        notes: Warnings about the grouping.
    """

    by: str
    boards: Mapping[str, Ratings]
    n_ungrouped: int
    n: int
    notes: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those about the grouping, then those of every board with its group."""
        found = [f"{group}: {sentence}" for group, board in self.boards.items() for sentence in board.warnings]
        return (*self.notes, *found)

    def frame(self) -> pd.DataFrame:
        """Columns group, model, rating, lower, upper, rank_low, rank_high, votes."""
        tables = [board.frame().assign(group=group) for group, board in self.boards.items()]
        columns = ["group", "model", "rating", "lower", "upper", "rank_low", "rank_high", "votes"]
        return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def grouped_ratings(
    votes: pd.DataFrame,
    by: str | Sequence[str],
    *,
    period: Period | None = None,
    weights: ArrayLike | None = None,
    **options: Any,
) -> GroupedRatings:
    """`bradley_terry` on each group of votes, with the same options.

    Args:
        votes: A votes frame.
        by: A column whose values are the groups (category, criterion, turn, language); or several columns of flags (0
            and 1, true and false), each a group, where a vote may be in several groups or in none.
        period: `by` is a column of times (ISO 8601, or seconds since 1970), taken in UTC; a group is a period of it.
        weights: Weight of each vote, shape (votes,).
        options: As for `bradley_terry`: ties, cluster, min_votes, anchor and the others.

    Raises:
        UserError: A column is missing, a flag is not 0 or 1, a time cannot be read, there are several columns and a
            period; or as `bradley_terry`, naming the group.
    """
    columns = [by] if isinstance(by, str) else list(by)
    require_columns(votes, ["model_a", "model_b", "winner", *columns])
    if not columns:
        raise UserError("no column to group by; name one, such as category.", code=2)
    weight = None if weights is None else np.asarray(weights, dtype=np.float64)
    if weight is not None and weight.shape != (len(votes),):
        raise UserError(f"the vote weights have the shape {weight.shape}; {len(votes)} are needed, one a vote.")
    if isinstance(by, str):
        values = votes[by] if period is None else _periods(votes[by], period)
        codes, names = pd.factorize(values, sort=True)
        groups = {str(name): np.flatnonzero(codes == code) for code, name in enumerate(names)}
        words = by if period is None else f"{period} of {by} (UTC)"
    elif period is not None:
        raise UserError("periods are of one column of times, not of several flags.", code=2)
    else:
        groups = {column: np.flatnonzero(_flags(votes[column])) for column in columns}
        words = f"flags {', '.join(columns)} (a vote may be in several)"
    grouped = np.zeros(len(votes), dtype=np.bool_)
    boards, notes = {}, []
    empty = [name for name, rows in groups.items() if not len(rows)]
    if empty:
        notes.append(f"No votes in {list_names(empty)}: no board.")
    for name, rows in groups.items():
        if not len(rows):
            continue
        grouped[rows] = True
        try:
            boards[name] = bradley_terry(votes.iloc[rows], weights=None if weight is None else weight[rows], **options)
        except UserError as error:
            raise UserError(f"{words}, group {name}: {error}", code=error.code) from error
    left = int((~grouped).sum())
    if left:
        notes.append(f"{left} of {len(votes)} votes are in no group by {words}; they are on no board.")
    return GroupedRatings(words, boards, left, len(votes), tuple(notes))


def _flags(column: pd.Series[Any]) -> NDArray[np.bool_]:
    """Where a flag is set; an empty one is not."""
    number = column
    if not pd.api.types.is_numeric_dtype(column):
        text = column.astype("string").str.strip().str.lower()
        number = pd.to_numeric(text.replace({"true": "1", "false": "0"}), errors="coerce")
        number = number.where(number.notna() | text.isna() | (text == ""), -1)  # no number: no flag
    bad = number.notna() & ~number.isin([0, 1])
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise UserError(f"vote {row + 1} has {str(column.iloc[row])!r} for the flag {column.name}; flags are 0 or 1.")
    return np.asarray(number.fillna(0) == 1, dtype=np.bool_)


def _periods(column: pd.Series[Any], period: str) -> pd.Series[Any]:
    """The period of each time, such as 2026-11; empty where there is no time."""
    if period not in _FREQUENCY:
        raise UserError(f"the period is {period!r}; it must be one of {', '.join(_FREQUENCY)}.", code=2)
    if pd.api.types.is_datetime64_any_dtype(column):
        moment = pd.to_datetime(column, utc=True)
    else:
        seconds = pd.to_numeric(column, errors="coerce")
        text = column.where(seconds.isna()).astype("string").str.strip()
        text = text.mask(text == "")
        written = pd.to_datetime(text, utc=True, format="ISO8601", errors="coerce")
        moment = written.fillna(pd.to_datetime(seconds, unit="s", utc=True, errors="coerce"))
        bad = moment.isna() & (text.notna() | seconds.notna())
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise UserError(
                f"vote {row + 1} has the {column.name} {str(column.iloc[row])!r}; write times as 2026-11-22T10:30:00Z "
                "or in seconds since 1970."
            )
    return moment.dt.tz_localize(None).dt.to_period(_FREQUENCY[period])
