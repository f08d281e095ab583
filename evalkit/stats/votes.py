"""Votes as counts: names become codes, and one pass counts every (model, model, outcome).

Every rating works on the counts, so its cost after this pass does not depend on the number of votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from evalkit.errors import UserError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

OUTCOMES = ("model_a", "model_b", "tie", "both_bad")
A_WINS, B_WINS, TIE, BOTH_BAD = range(4)
_UNKNOWN, _MISSING = 4, 5
_SAMPLE = 4096  # rows
_BLOCK = 1 << 18  # rows

DiagnosisKind = Literal[
    "unknown_label",
    "missing_winner",
    "missing_model",
    "self_battle",
    "few_votes",
    "no_votes",
    "undefeated",
    "winless",
    "separated",
    "disconnected",
    "no_comparison",
    "no_variation",
    "missing_feature",
    "collinear",
    "not_identifiable",
    "extrapolated",
    "not_monotonic",
    "no_ties",
    "ties_separate",
    "few_clusters",
    "undefined_rounds",
    "not_converged",
]


@dataclass(frozen=True)
class Diagnosis:
    """One thing the user must know before trusting a number.

    Attributes:
        kind: What was found.
        sentence: The same for a reader, with names and counts.
        models: The models concerned; empty when it is about rows.
        count: Rows or models concerned.
    """

    kind: DiagnosisKind
    sentence: str
    models: tuple[str, ...] = ()
    count: int = 0


@dataclass(frozen=True, eq=False)
class CodedVotes:
    """A votes frame with names replaced by codes, row for row.

    Attributes:
        models: Names in sorted order; code i is `models[i]`, code `len(models)` a missing name.
        a, b: Codes of model_a and model_b, shape (rows,).
        outcome: 0 to 3 as in `OUTCOMES`, 4 an unknown label, 5 no winner, shape (rows,).
        weight: Vote weights, shape (rows,), or None where every vote weighs 1.
        unknown_labels: The labels that are none of `OUTCOMES`.
    """

    models: tuple[str, ...]
    a: IntArray
    b: IntArray
    outcome: IntArray
    weight: FloatArray | None
    unknown_labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class VoteCounts:
    """Counts of outcomes between models; every plane has the shape (model_a, model_b, outcome).

    Attributes:
        models: Names, in the order of the first two axes.
        votes: Number of votes, shape (m, m, 4), outcomes as in `OUTCOMES`.
        weight: Sum of the vote weights, same shape (the votes themselves where unweighted).
        weight_squared: Sum of the squared vote weights, same shape.
        n_excluded: Rows that could not be counted; `diagnoses` says why.
        diagnoses: What was wrong with the rows.
    """

    models: tuple[str, ...]
    votes: FloatArray
    weight: FloatArray
    weight_squared: FloatArray
    n_excluded: int
    diagnoses: tuple[Diagnosis, ...]

    def votes_by_model(self, outcomes: Sequence[int] = range(4)) -> IntArray:
        """Number of votes each model took part in, shape (m,)."""
        pairs = self.votes @ np.isin(np.arange(4), list(outcomes)).astype(np.float64)
        return np.asarray(np.rint(pairs.sum(axis=0) + pairs.sum(axis=1)), dtype=np.int64)

    def at_least(self, min_votes: int) -> VoteCounts:
        """Leave out models with fewer than `min_votes` votes, and their battles.

        Repeated until every model left has that many, since each removal takes votes from others.
        """
        kept = np.arange(len(self.models))
        while kept.size and min_votes > 0:
            pairs = self.votes[np.ix_(kept, kept)].sum(axis=2)
            enough = pairs.sum(axis=0) + pairs.sum(axis=1) >= min_votes
            if enough.all():
                break
            kept = kept[enough]
        if kept.size == len(self.models):
            return self
        left_out = tuple(name for i, name in enumerate(self.models) if i not in set(kept.tolist()))
        votes, weight, squared = (p[np.ix_(kept, kept)] for p in (self.votes, self.weight, self.weight_squared))
        lost = round(self.votes.sum() - votes.sum())
        sentence = (
            f"{list_names(left_out)} left out with {lost} votes: fewer than {min_votes} votes each "
            "among the models that remain."
        )
        diagnosis = Diagnosis("few_votes", sentence, left_out, len(left_out))
        models = tuple(self.models[i] for i in kept)
        return VoteCounts(models, votes, weight, squared, self.n_excluded + lost, (*self.diagnoses, diagnosis))


def list_names(names: Sequence[str], limit: int = 5, like: str = "") -> str:
    """Join names for a sentence: at most `limit` of them, those that begin like `like` first, then how many more."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    # The common beginning, not an edit distance: there may be a hundred thousand voters.
    starts = [like[:k] for k in range(1, len(like) + 1)]
    near = sorted(names, key=lambda name: -sum(map(name.startswith, starts)))
    return ", ".join(near[:limit]) + more


def require_columns(frame: pd.DataFrame, columns: Sequence[str], what: str = "votes") -> None:
    """Raise a `UserError` that names the columns of `columns` that `frame` lacks."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise UserError(
            f"the {what} lack the column(s) {', '.join(missing)}; they have {', '.join(map(str, frame.columns))}."
        )


def factorize(column: pd.Series[Any]) -> tuple[IntArray, list[Any]]:
    """Codes and distinct values of a column; a missing value has the code -1.

    Text costs the most of a whole board, so it takes the shortest way there is: Arrow's look-up for Arrow strings, and
    for Python objects the addresses first, as a name repeated is mostly the same object repeated.
    """
    codes, values = _factorize(column)
    return np.asarray(codes, dtype=np.int64), values


def _factorize(column: pd.Series[Any]) -> tuple[NDArray[Any], list[Any]]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = np.asarray(column.cat.codes, dtype=np.int64)
        # A category without a row, as filtering leaves behind, is no value of the column.
        present = np.bincount(codes + 1, minlength=len(column.cat.categories) + 1)[1:] > 0
        place = np.append(np.cumsum(present) - 1, -1)
        return place[codes], list(column.cat.categories[present])
    if getattr(column.dtype, "storage", "pyarrow") == "pyarrow" and column.dtype.type is str:
        return _factorize_arrow(column)
    if column.dtype.type in (np.object_, str):
        return _factorize_objects(column.to_numpy(dtype=object))
    codes, distinct = pd.factorize(column)
    return codes, list(distinct)


def _factorize_arrow(column: pd.Series[Any]) -> tuple[NDArray[Any], list[Any]]:
    import pyarrow as pa
    from pyarrow import compute

    def encode(text: pa.ChunkedArray) -> tuple[NDArray[Any], list[Any]]:
        coded = text.combine_chunks().dictionary_encode()
        return coded.indices.fill_null(-1).to_numpy(), coded.dictionary.to_pylist()

    text = pa.chunked_array(column)
    sample = text.take(pa.array(np.arange(0, len(text), len(text) // _SAMPLE + 1)))
    known = sample.drop_null().unique()
    if 2 * len(known) > len(sample):
        return encode(text)
    # Where values repeat, looking up those of a sample is quicker than collecting them; the others are few.
    found = compute.index_in(text, value_set=known)
    codes, values = found.fill_null(-1).to_numpy(), known.to_pylist()
    if found.null_count:
        rest, others = encode(text.filter(found.is_null()))
        codes = np.array(codes)
        codes[codes < 0] = np.where(rest < 0, -1, rest + len(values))
        values += others
    return codes, values


def _factorize_objects(values: NDArray[np.object_]) -> tuple[NDArray[Any], list[Any]]:
    values = np.ascontiguousarray(values)
    address = np.frombuffer(values, dtype=np.intp)
    # A sample tells whether the objects repeat; where each row has its own, their addresses say nothing.
    sample = address[:: len(address) // _SAMPLE + 1]
    if len(np.unique(sample)) > len(sample) // 2:
        codes, distinct = pd.factorize(values)
        return codes, list(distinct)
    place, objects = pd.factorize(address)
    row = np.empty(len(objects), dtype=np.int64)
    row[place] = np.arange(len(place))
    codes, distinct = pd.factorize(values[row])  # equal names may still be several objects
    return codes[place], list(distinct)


def code_names(*columns: pd.Series[Any]) -> tuple[tuple[str, ...], list[IntArray]]:
    """Sorted names in any of the columns, and each column as codes; a missing or blank name is len(names)."""
    coded = [_factorize(column) for column in columns]
    names = tuple(sorted({str(name) for _, values in coded for name in values if str(name).strip()}))
    place = {name: i for i, name in enumerate(names)}
    # The spare last entry is what the code -1 (missing) picks.
    lookups = [np.array([*(place.get(str(name), len(names)) for name in values), len(names)]) for _, values in coded]
    return names, [lookup[codes] for lookup, (codes, _) in zip(lookups, coded, strict=True)]


def code_outcomes(column: pd.Series[Any]) -> tuple[IntArray, tuple[str, ...]]:
    """Outcome codes of a winner column (4 unknown label, 5 missing) and the unknown labels."""
    codes, labels = _factorize(column)
    known = {label: code for code, label in enumerate(OUTCOMES)}
    lookup = np.full(len(labels) + 1, _MISSING, dtype=np.int64)
    unknown = []
    for position, label in enumerate(labels):
        text = str(label).strip()
        lookup[position] = known.get(text, _UNKNOWN if text else _MISSING)
        if text and text not in known:
            unknown.append(text)
    return lookup[codes], tuple(sorted(unknown))


def code_votes(votes: pd.DataFrame, weights: ArrayLike | None = None) -> CodedVotes:
    """Replace the names in a votes frame by codes.

    Args:
        votes: Columns model_a, model_b, winner (`model_a|model_b|tie|both_bad`); others are ignored.
        weights: Weight of each vote, shape (rows,), finite and not negative; None for equal weights.

    Raises:
        UserError: A column is missing, or a weight is negative or not finite.
    """
    require_columns(votes, ("model_a", "model_b", "winner"))
    models, (a, b) = code_names(votes["model_a"], votes["model_b"])
    outcome, unknown = code_outcomes(votes["winner"])
    weight = None
    if weights is not None:
        weight = np.asarray(weights, dtype=np.float64)
        if weight.shape != (len(votes),):
            raise UserError(f"the vote weights have the shape {weight.shape}; {len(votes)} are needed, one a vote.")
        if not (np.isfinite(weight).all() and (weight >= 0).all()):
            row = int(np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))[0])
            raise UserError(f"the weight of vote {row + 1} is {weight[row]}; weights are finite and not negative.")
    return CodedVotes(models, a, b, outcome, weight, unknown)


def count_votes(votes: pd.DataFrame | CodedVotes, weights: ArrayLike | None = None) -> VoteCounts:
    """Count votes by (model_a, model_b, outcome) in one pass.

    Rows with an unknown label, no winner, no model name, or a model against itself are not counted;
    each kind is a diagnosis with its number of rows.

    Args:
        votes: A votes frame (see `code_votes`) or its codes.
        weights: Weight of each vote, for a frame.

    Raises:
        UserError: As `code_votes`.
    """
    coded = votes if isinstance(votes, CodedVotes) else code_votes(votes, weights)
    m = len(coded.models)
    size, shape = (m + 1) ** 2 * 6, (m + 1, m + 1, 6)
    step = max(_BLOCK, size)

    def tally(weight: FloatArray | None) -> FloatArray:
        total = np.zeros(size)
        for start in range(0, len(coded.a), step):  # in blocks that a cache holds
            rows = slice(start, start + step)
            # Bad rows get cells of their own (outcome 4 and 5, model m), so no mask is needed over the votes.
            cell = coded.a[rows] * (m + 1)
            cell += coded.b[rows]
            cell *= 6
            cell += coded.outcome[rows]
            total += np.bincount(cell, None if weight is None else weight[rows], minlength=size)
        return total.reshape(shape)

    raw = tally(None)
    planes = [raw] if coded.weight is None else [raw, tally(coded.weight), tally(coded.weight**2)]
    self_battles = raw[np.arange(m), np.arange(m), :4].sum(axis=1)
    kept = [np.ascontiguousarray(plane[:m, :m, :4]) for plane in planes]
    for plane in kept:
        plane[np.arange(m), np.arange(m)] = 0.0
    diagnoses = _row_diagnoses(coded, raw, self_battles)
    excluded = len(coded.a) - round(kept[0].sum())
    votes_plane, weight, weight_squared = kept if len(kept) == 3 else kept * 3
    return VoteCounts(coded.models, votes_plane, weight, weight_squared, excluded, diagnoses)


def _row_diagnoses(coded: CodedVotes, raw: FloatArray, self_battles: FloatArray) -> tuple[Diagnosis, ...]:
    m = len(coded.models)
    found: list[Diagnosis] = []
    no_model = int(raw[m].sum() + raw[:m, m].sum())
    if no_model:
        row = int(np.flatnonzero((coded.a == m) | (coded.b == m))[0]) + 1
        sentence = f"{no_model} votes name no model on one side (first: row {row}); not counted."
        found.append(Diagnosis("missing_model", sentence, (), no_model))
    faults: list[tuple[int, DiagnosisKind, str]] = [
        (
            _UNKNOWN,
            "unknown_label",
            f"an unknown winner ({list_names(coded.unknown_labels)}), not {'|'.join(OUTCOMES)}",
        ),
        (_MISSING, "missing_winner", "no winner"),
    ]
    for code, kind, text in faults:
        count = int(raw[:m, :m, code].sum())
        if count:
            row = int(np.flatnonzero(coded.outcome == code)[0]) + 1
            sentence = f"{count} votes have {text} (first: row {row}); not counted, and not taken for ties."
            found.append(Diagnosis(kind, sentence, (), count))
    count = int(self_battles.sum())
    if count:
        names = tuple(coded.models[i] for i in np.flatnonzero(self_battles))
        sentence = f"{count} votes pit a model against itself ({list_names(names)}); not counted."
        found.append(Diagnosis("self_battle", sentence, names, count))
    return tuple(found)
