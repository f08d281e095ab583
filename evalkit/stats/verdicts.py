"""Verdicts as integers: which battle each is of, who won it, and which two are the same battle in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.votes import (
    A_WINS,
    B_WINS,
    BOTH_BAD,
    OUTCOMES,
    TIE,
    FloatArray,
    IntArray,
    code_names,
    code_outcomes,
    factorize,
    require_columns,
)

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

FAILED = 5
REQUIRED = ("item_id", "model_a", "model_b", "winner")
# A battle is what these columns name, where the frame has them, and an unordered pair of models.
BATTLE = ("item_id", "turn", "criterion")
_LARGEST = 2**62


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Verdicts row for row; the models of a battle stand in alphabetical order, whatever the frame's order.

    Attributes:
        models, annotators: Names in sorted order.
        keys: The columns that name a battle beside the models.
        labels: The values behind the codes of `item` and `turn`, by column.
        row: Place in the frame, shape (rows,).
        item: Codes, shape (rows,).
        turn: Codes, shape (rows,); 0 everywhere where the frame has none.
        battle: Codes of the battles, shape (rows,).
        annotator: Codes, shape (rows,); a missing name is len(annotators).
        replicate: Codes, shape (rows,); None where the frame has none.
        first, second: Codes of the two models, first < second, shape (rows,).
        outcome: A_WINS (the first model won), B_WINS, TIE, BOTH_BAD or FAILED (no winner), shape (rows,).
        shown_second: 1 where the second model was shown first, 0 where the first was, -1 unknown, shape (rows,).
        turned: Whether model_a of the frame is the second model, shape (rows,).
    """

    models: tuple[str, ...]
    annotators: tuple[str, ...]
    keys: tuple[str, ...]
    labels: dict[str, list[Any]]
    row: IntArray
    item: IntArray
    turn: IntArray
    battle: IntArray
    annotator: IntArray
    replicate: IntArray | None
    first: IntArray
    second: IntArray
    outcome: IntArray
    shown_second: IntArray
    turned: BoolArray

    def __len__(self) -> int:
        return len(self.outcome)

    def take(self, rows: IntArray | slice) -> Verdicts:
        """The same for some rows, given in rising order."""
        if isinstance(rows, np.ndarray) and len(rows) and rows[-1] - rows[0] == len(rows) - 1:
            rows = slice(rows[0], rows[-1] + 1)  # neighbours, as one judge's verdicts often are: no copy
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        taken: dict[str, Any] = {name: v[rows] for name, v in columns.items() if isinstance(v, np.ndarray)}
        return replace(self, **taken)


def code_verdicts(votes: pd.DataFrame, *, need: Sequence[str] = (), keys: Sequence[str] = BATTLE) -> Verdicts:
    """Replace the names of a votes frame by codes.

    Args:
        votes: Columns item_id, model_a, model_b, winner; optional turn, criterion, annotator, replicate, order.
        need: Optional columns that must be there.
        keys: Those of item_id, turn and criterion that tell battles apart.

    Raises:
        UserError: A column, an item or a model is missing, or a winner or an order is unknown.
    """
    require_columns(votes, [*REQUIRED, *need], "verdicts")
    keys = tuple(name for name in keys if name in votes.columns)
    coded = {name: factorize(votes[name]) for name in keys}
    item = coded["item_id"][0]
    if (item < 0).any():
        row = int(np.flatnonzero(item < 0)[0]) + 1
        raise UserError(f"verdict {row} has no item_id; every verdict needs one.")
    models, (a, b) = code_names(votes["model_a"], votes["model_b"])
    for side, model in (("model_a", a), ("model_b", b)):
        if (model == len(models)).any():
            row = int(np.flatnonzero(model == len(models))[0]) + 1
            raise UserError(f"verdict {row} names no {side}; every verdict needs two models.")
    turned = a > b
    first, second = np.minimum(a, b), np.maximum(a, b)
    outcome = outcomes(votes["winner"])
    outcome = np.where(turned & (outcome <= B_WINS), A_WINS + B_WINS - outcome, outcome)
    parts = [(codes + 1, len(values) + 1) for codes, values in coded.values()]
    battle = pd.factorize(combine(*parts, (first, len(models)), (second, len(models))))[0]
    shown = _orders(votes["order"]) if "order" in votes.columns else np.full(len(votes), -1, dtype=np.int64)
    annotators: tuple[str, ...] = ()
    annotator = np.zeros(len(votes), dtype=np.int64)
    if "annotator" in votes.columns:
        annotators, (annotator,) = code_names(votes["annotator"])
    return Verdicts(
        models=models,
        annotators=annotators,
        keys=keys,
        labels={name: values for name, (_, values) in coded.items()},
        row=np.arange(len(votes)),
        item=item,
        turn=coded["turn"][0] if "turn" in coded else np.zeros(len(votes), dtype=np.int64),
        battle=np.asarray(battle, dtype=np.int64),
        annotator=annotator,
        replicate=factorize(votes["replicate"])[0] + 1 if "replicate" in votes.columns else None,
        first=first,
        second=second,
        outcome=outcome,
        shown_second=np.where(shown < 0, -1, shown ^ turned),
        turned=turned,
    )


def outcomes(column: pd.Series[Any]) -> IntArray:
    """Outcome codes of a winner column, FAILED where it is empty.

    Raises:
        UserError: A winner is none of the four labels.
    """
    outcome, unknown = code_outcomes(column)
    if unknown:
        row = int(np.flatnonzero(outcome == 4)[0]) + 1
        raise UserError(
            f"verdict {row} has the winner {column.iloc[row - 1]!r}; it must be {', '.join(OUTCOMES)}, or empty."
        )
    return outcome


def combine(*parts: tuple[IntArray, int]) -> IntArray:
    """One integer for each combination of codes; `parts` are (codes from 0, number of codes)."""
    key, size = parts[0]
    for codes, count in parts[1:]:
        if size * count > _LARGEST:
            key, values = pd.factorize(key)
            size = len(values)
        key, size = key * count + codes, size * count
    return key


def pair_orders(verdicts: Verdicts) -> tuple[IntArray, IntArray]:
    """Rows (first model shown first, second model shown first) of the same battle, annotator and replicate.

    Without replicates, repeats are paired in the order of the rows; a verdict without a partner is in no pair.
    """
    rows = np.flatnonzero(verdicts.shown_second >= 0)
    swapped = verdicts.shown_second[rows]
    parts = [(verdicts.battle[rows], int(verdicts.battle.max(initial=0)) + 1)]
    if len(verdicts.annotators) and len(rows) and np.ptp(verdicts.annotator[rows]):
        parts.append((verdicts.annotator[rows], len(verdicts.annotators) + 1))
    if verdicts.replicate is not None:
        parts.append((verdicts.replicate[rows], int(verdicts.replicate.max(initial=0)) + 1))
    slot = combine(*parts, (swapped, 2))
    if int(slot.max(initial=0)) >= 8 * len(rows):
        return _in_turn(rows, slot)
    # Most battles are judged once in each order: only the others need sorting.
    count = np.bincount(slot, minlength=int(slot.max(initial=0)) // 2 * 2 + 2).reshape(-1, 2)
    place = np.zeros(count.size, dtype=np.int64)
    place[slot] = rows
    first, second = count[:, 0], count[:, 1]
    once = np.flatnonzero((first == 1) & (second == 1))
    again = np.flatnonzero(((first > 1) | (second > 1))[slot // 2])
    left, right = _in_turn(rows[again], slot[again])
    return np.concatenate([place[2 * once], left]), np.concatenate([place[2 * once + 1], right])


def _in_turn(rows: IntArray, slot: IntArray) -> tuple[IntArray, IntArray]:
    """Pairs the k-th row of each even slot with the k-th of the odd slot above it."""
    order = np.argsort(slot, kind="stable")
    rows, slot = rows[order], slot[order]
    key, swapped = slot // 2, slot % 2
    start = np.flatnonzero(np.diff(key, prepend=-1))
    size = np.diff(start, append=len(rows))
    late = np.add.reduceat(swapped, start) if len(start) else size
    pairs = np.minimum(late, size - late)
    within = ramp(pairs)
    left = np.repeat(start, pairs) + within
    right = np.repeat(start + size - late, pairs) + within
    return rows[left], rows[right]


def join_orders(verdicts: Verdicts) -> Verdicts:
    """One verdict for each battle judged in both orders: a different winner in each order is a tie.

    The rule of Zheng et al. 2023, "Judging LLM-as-a-judge with MT-bench and Chatbot Arena", section 3.4. A pair with a
    verdict that has no winner has none; a verdict in one order only stays as it is.
    """
    left, right = pair_orders(verdicts)
    x, y = verdicts.outcome[left], verdicts.outcome[right]
    outcome = verdicts.outcome.copy()
    outcome[left] = np.where(x == y, x, np.where((x == FAILED) | (y == FAILED), FAILED, TIE))
    kept = np.ones(len(verdicts), dtype=np.bool_)
    kept[right] = False
    return replace(verdicts, outcome=outcome).take(np.flatnonzero(kept))


def matches(left: Verdicts, right: Verdicts | None) -> tuple[IntArray, IntArray]:
    """Rows (of `left`, of `right`) of every two verdicts of different annotators on the same battle.

    Args:
        left, right: Parts of one `code_verdicts`. Without `right`, the annotators of `left` among themselves, each
            unordered pair once.
    """
    other = left if right is None else right
    order = np.argsort(other.battle, kind="stable")
    size = int(max(left.battle.max(initial=0), other.battle.max(initial=0))) + 1
    count = np.bincount(other.battle, minlength=size)
    start = np.cumsum(count) - count
    found = count[left.battle]
    i = np.repeat(np.arange(len(left)), found)
    j = order[np.repeat(start[left.battle], found) + ramp(found)]
    who = left.annotator[i], other.annotator[j]
    kept = who[0] < who[1] if right is None else who[0] != who[1]
    return i[kept], j[kept]


def ramp(sizes: IntArray) -> IntArray:
    """0 to size - 1 for each size, one after another."""
    return np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def scores(outcome: IntArray) -> FloatArray:
    """What the first model got: 1, 0, or 1/2 for a tie or both_bad; NaN for a verdict without a winner."""
    return np.array([1.0, 0.0, 0.5, 0.5, np.nan, np.nan])[outcome]


def three_way(outcome: IntArray) -> IntArray:
    """A_WINS, B_WINS or TIE (both_bad too); -1 for a verdict without a winner."""
    return np.where(outcome == FAILED, -1, np.where(outcome == BOTH_BAD, TIE, outcome))


def _orders(column: pd.Series[Any]) -> IntArray:
    """0 for ab, 1 for ba, -1 where the order is not said."""
    codes, labels = factorize(column)
    known = {"ab": 0, "ba": 1, "": -1}
    lookup = np.array([*(known.get(str(label).strip(), -2) for label in labels), -1])
    wrong = np.flatnonzero(lookup[codes] == -2)
    if len(wrong):
        row = int(wrong[0])
        raise UserError(f"verdict {row + 1} has the order {column.iloc[row]!r}; it must be ab or ba.")
    return np.asarray(lookup[codes], dtype=np.int64)
