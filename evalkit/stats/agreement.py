"""How far verdicts agree: with other annotators, with themselves when the answers swap places, and with chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.intervals import Share, share, sign_test_p
from evalkit.stats.votes import (
    A_WINS,
    B_WINS,
    BOTH_BAD,
    OUTCOMES,
    TIE,
    IntArray,
    code_names,
    code_outcomes,
    factorize,
    require_columns,
)

_FAILED = 5
# A comparison is of one battle: these columns, where both sides have them.
_BATTLE = ("item_id", "turn", "criterion")
_REQUIRED = ("item_id", "model_a", "model_b", "winner")


@dataclass(frozen=True, eq=False)
class Agreement:
    """How often two annotators' verdicts on the same battle are the same.

    Attributes:
        n: Pairs of verdicts on the same battle, failures included.
        n_failed: Of these, pairs where a verdict has no winner (parse error): in neither share.
        ties: Agreement with ties as a third verdict, over n - n_failed pairs.
        no_ties: Agreement over the pairs where both name a winner.
        table: Counts, left verdict by right verdict (first model wins, second wins, tie), shape (3, 3).
        definition: What was compared, in a sentence.
        warnings: Sentences.
    """

    n: int
    n_failed: int
    ties: Share
    no_ties: Share
    table: IntArray
    definition: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class SwapConsistency:
    """What a judge says when the two answers change places.

    Attributes:
        n: Battles judged in both orders, failures included (each repeat counts).
        n_failed: Of these, battles where a verdict has no winner (parse error): not in the share.
        consistent: Share of the others with the same winner (or the same tie) in both orders.
        always_first, always_second: Battles where the answer shown first (second) won both times.
        other: Battles with a tie in one order only, or with tie and both_bad.
        n_one_order: Verdicts without a partner in the other order.
        warnings: Sentences.
    """

    n: int
    n_failed: int
    consistent: Share
    always_first: int
    always_second: int
    other: int
    n_one_order: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class FirstSlotPreference:
    """Whether the answer shown first wins more often than the one shown second.

    Attributes:
        n: Verdicts, ties and failures included.
        n_failed: Verdicts with no winner (parse error).
        first: Share of the verdicts that name a winner where the answer shown first won.
        p_value: Exact two-sided binomial test of that share against one half.
        warnings: Sentences.
    """

    n: int
    n_failed: int
    first: Share
    p_value: float
    warnings: tuple[str, ...]


def agreement(judge: pd.DataFrame, reference: pd.DataFrame | None = None, *, confidence: float = 0.95) -> Agreement:
    """Agreement of two sets of verdicts, with and without ties.

    Each verdict of `judge` is held against each verdict of `reference` by another annotator on the same battle: same
    item, turn, criterion and unordered pair of models. The share that are the same, over all pairs with ties as a
    third verdict, and over the pairs where neither is a tie (Zheng et al. 2023, "Judging LLM-as-a-judge with MT-bench
    and Chatbot Arena", section 4.2, setups S1 and S2). both_bad counts as a tie. Wilson intervals, adjusted for
    verdicts on the same item being alike (see `intervals.share`).

    Args:
        judge: Votes frame (item_id, model_a, model_b, winner, annotator; optional turn, criterion).
        reference: Votes frame of the reference; None compares the annotators of `judge` with one another, each
            unordered pair of verdicts once.
        confidence: Level.

    Raises:
        UserError: A column is missing or a winner is none of the four labels.
    """
    other = judge if reference is None else reference
    keys = [name for name in _BATTLE if name in judge.columns and name in other.columns]
    for frame in (judge, other):
        require_columns(frame, _REQUIRED, "verdicts")
    _, models = code_names(judge["model_a"], judge["model_b"], other["model_a"], other["model_b"])
    left = _canonical(judge, [*keys, "annotator"], *models[:2])
    right = _canonical(other, [*keys, "annotator"], *models[2:])
    for key in keys:
        kinds = [pd.api.types.is_numeric_dtype(frame[key]) for frame in (left, right)]
        if kinds[0] != kinds[1]:  # one file holds 17, the other "17"
            left, right = left.astype({key: str}), right.astype({key: str})
    matched = left.merge(right, on=[*keys, "first", "second"], suffixes=("_left", "_right"))
    if reference is None:
        # An order between annotators keeps one of the two mirror images of each pair.
        matched = matched[matched["annotator_left"].astype(str) < matched["annotator_right"].astype(str)]
    else:
        matched = matched[matched["annotator_left"].astype(str) != matched["annotator_right"].astype(str)]
    x, y = (np.where(matched[side] == BOTH_BAD, TIE, matched[side]) for side in ("outcome_left", "outcome_right"))
    parsed = (x != _FAILED) & (y != _FAILED)
    decided = parsed & (x != TIE) & (y != TIE)
    items = matched["item_id"].to_numpy()
    table = np.bincount(x[parsed] * 3 + y[parsed], minlength=9).reshape(3, 3)
    n_failed = int((~parsed).sum())
    who = (
        "each pair of different annotators"
        if reference is None
        else "each judge verdict against each reference verdict"
    )
    fields = ", ".join([*keys, "pair of models"])
    warnings = [_failure_sentence(n_failed, len(matched), "pairs of verdicts")] if n_failed else []
    if not len(matched):
        warnings.append(f"No two verdicts of different annotators share the same {fields}.")
    return Agreement(
        n=len(matched),
        n_failed=n_failed,
        ties=share((x == y)[parsed], items[parsed], confidence),
        no_ties=share((x == y)[decided], items[decided], confidence),
        table=table,
        definition=f"{who} on the same {fields}; both_bad counts as tie; failures are in no share",
        warnings=tuple(warnings),
    )


def swap_consistency(verdicts: pd.DataFrame, *, confidence: float = 0.95) -> SwapConsistency:
    """Share of the battles judged in both orders that get the same winner in both.

    consistent / (n - n_failed), with Wilson's interval adjusted for battles sharing an item (position consistency of
    Zheng et al. 2023, section 3.3). Verdicts in the two orders are paired within item, turn, criterion, annotator and
    replicate; without a replicate column repeats are paired in the order of the rows.

    Args:
        verdicts: Votes frame with `order` (ab: model_a was shown first; ba: model_b was).
        confidence: Level.

    Raises:
        UserError: A column is missing, or a winner or an order is unknown.
    """
    frame = _shown(verdicts)
    keys = [name for name in (*_BATTLE, "annotator", "replicate") if name in frame.columns]
    battle = [*keys, "first", "second"]
    # Plain integers instead of strings and missing values: the sort and the merge below are of millions of rows.
    frame = frame.assign(**{key: factorize(frame[key])[0] for key in keys})
    if "replicate" not in keys:
        frame["replicate"] = frame.groupby([*battle, "swapped"], sort=False).cumcount()
        battle.append("replicate")
    both = frame[~frame["swapped"]].merge(frame[frame["swapped"]], on=battle, suffixes=("_left", "_right"))
    x, y = both["outcome_left"].to_numpy(), both["outcome_right"].to_numpy()
    parsed = (x != _FAILED) & (y != _FAILED)
    same = x == y
    n_failed = int((~parsed).sum())
    # Unswapped, a win of the canonical first model is a win of the first slot; swapped, of the second slot.
    always_first = int(((x == A_WINS) & (y == B_WINS)).sum())
    always_second = int(((x == B_WINS) & (y == A_WINS)).sum())
    n_one_order = len(frame) - 2 * len(both)
    warnings = [_failure_sentence(n_failed, len(both), "battles judged in both orders")] if n_failed else []
    if n_one_order:
        warnings.append(f"{n_one_order} of {len(frame)} verdicts have no partner in the other order.")
    return SwapConsistency(
        n=len(both),
        n_failed=n_failed,
        consistent=share(same[parsed], both["item_id"].to_numpy()[parsed], confidence),
        always_first=always_first,
        always_second=always_second,
        other=int((parsed & ~same).sum()) - always_first - always_second,
        n_one_order=n_one_order,
        warnings=tuple(warnings),
    )


def first_slot_preference(verdicts: pd.DataFrame, *, confidence: float = 0.95) -> FirstSlotPreference:
    """Share of the decisive verdicts won by the answer shown first, tested against one half.

    Exact two-sided binomial test, p = min(1, 2 P(X <= min(k, n - k))), X ~ Binomial(n, 1/2), and Wilson's interval. It
    speaks of position alone only if each battle is judged in both orders or the order was drawn at random; with both
    orders of a battle the test errs on the safe side.

    Args:
        verdicts: Votes frame with `order` (ab: model_a was shown first; ba: model_b was).
        confidence: Level.

    Raises:
        UserError: A column is missing, or a winner or an order is unknown.
    """
    frame = _shown(verdicts)
    outcome, swapped = frame["outcome"].to_numpy(), frame["swapped"].to_numpy()
    decided = (outcome == A_WINS) | (outcome == B_WINS)
    first = share(((outcome == A_WINS) != swapped)[decided], None, confidence)
    n_failed = int((outcome == _FAILED).sum())
    warnings = [_failure_sentence(n_failed, len(frame), "verdicts")] if n_failed else []
    if len(frame) and frame["shown_ba"].nunique() == 1:
        warnings.append("Every verdict has the same order: position and quality cannot be told apart.")
    return FirstSlotPreference(len(frame), n_failed, first, sign_test_p(first.successes, first.n), tuple(warnings))


def parse_failures(verdicts: pd.DataFrame, *, confidence: float = 0.95) -> Share:
    """Share of verdicts with no winner (the judge's reply could not be read), with Wilson's interval.

    Args:
        verdicts: Votes frame; a failure has an empty winner.
        confidence: Level.

    Raises:
        UserError: The column is missing or a winner is unknown.
    """
    require_columns(verdicts, ["winner"], "verdicts")
    return share(_outcomes(verdicts["winner"]) == _FAILED, None, confidence)


def _outcomes(column: pd.Series[Any]) -> IntArray:
    outcome, unknown = code_outcomes(column)
    if unknown:
        row = int(np.flatnonzero(outcome == 4)[0]) + 1
        raise UserError(
            f"verdict {row} has the winner {column.iloc[row - 1]!r}; it must be {', '.join(OUTCOMES)}, or empty."
        )
    return outcome


def _canonical(votes: pd.DataFrame, keys: list[str], a: IntArray, b: IntArray) -> pd.DataFrame:
    """Battles with the two models in sorted order: columns `keys`, first, second (codes), outcome, turned."""
    require_columns(votes, keys, "verdicts")
    missing = votes["item_id"].isna().to_numpy()
    if missing.any():
        raise UserError(f"verdict {int(np.flatnonzero(missing)[0]) + 1} has no item_id; every verdict needs one.")
    outcome = _outcomes(votes["winner"])
    turned = a > b
    decided = (outcome == A_WINS) | (outcome == B_WINS)
    return votes[keys].assign(
        first=np.minimum(a, b),
        second=np.maximum(a, b),
        outcome=np.where(turned & decided, A_WINS + B_WINS - outcome, outcome),
        turned=turned,
    )


def _shown(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Canonical battles with `swapped`: whether the second name was shown first."""
    require_columns(verdicts, [*_REQUIRED, "order"], "verdicts")
    keys = [name for name in (*_BATTLE, "annotator", "replicate") if name in verdicts.columns]
    _, (a, b) = code_names(verdicts["model_a"], verdicts["model_b"])
    frame = _canonical(verdicts, keys, a, b)
    orders, labels = factorize(verdicts["order"])
    label = np.array([*labels, ""], dtype=object)  # the last for the code -1, a missing order
    wrong = np.flatnonzero(~np.isin(label, ("ab", "ba"))[orders])
    if len(wrong):
        row = int(wrong[0])
        raise UserError(f"verdict {row + 1} has the order {verdicts['order'].iloc[row]!r}; it must be ab or ba.")
    shown_ba = (label == "ba")[orders]
    return frame.assign(swapped=frame["turned"].to_numpy() ^ shown_ba, shown_ba=shown_ba)


def _failure_sentence(failed: int, n: int, what: str) -> str:
    return f"{failed} of {n} {what} have no readable verdict; they are in n and in no share."
