"""Whether the order of the answers decides a judge's verdicts, and how many of them cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.agreement import failure_sentence
from evalkit.stats.delta import clustered_share
from evalkit.stats.intervals import Share, share, sign_test_p
from evalkit.stats.verdicts import FAILED, Verdicts, code_verdicts, outcomes, pair_orders
from evalkit.stats.votes import A_WINS, B_WINS, require_columns


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
    return swaps(_ordered(verdicts), confidence)


def swaps(coded: Verdicts, confidence: float) -> SwapConsistency:
    """`swap_consistency` of coded verdicts; those whose order is not known have no partner."""
    left, right = pair_orders(coded)
    x, y = coded.outcome[left], coded.outcome[right]
    parsed = (x != FAILED) & (y != FAILED)
    same = x == y
    n_failed = int((~parsed).sum())
    # With the first model shown first, its win is a win of the first slot; shown second, of the second slot.
    always_first = int(((x == A_WINS) & (y == B_WINS)).sum())
    always_second = int(((x == B_WINS) & (y == A_WINS)).sum())
    n_one_order = len(coded) - 2 * len(left)
    warnings = [failure_sentence(n_failed, len(left), "battles judged in both orders")] if n_failed else []
    if n_one_order:
        warnings.append(f"{n_one_order} of {len(coded)} verdicts have no partner in the other order.")
    return SwapConsistency(
        n=len(left),
        n_failed=n_failed,
        consistent=clustered_share(same[parsed].astype(np.float64), coded.item[left][parsed], confidence),
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
    coded = _ordered(verdicts)
    decided = (coded.outcome == A_WINS) | (coded.outcome == B_WINS)
    first = share(((coded.outcome == A_WINS) != (coded.shown_second == 1))[decided], None, confidence)
    n_failed = int((coded.outcome == FAILED).sum())
    warnings = [failure_sentence(n_failed, len(coded), "verdicts")] if n_failed else []
    if len(coded) and len(np.unique(coded.shown_second ^ coded.turned)) == 1:
        warnings.append("Every verdict has the same order: position and quality cannot be told apart.")
    return FirstSlotPreference(len(coded), n_failed, first, sign_test_p(first.successes, first.n), tuple(warnings))


def parse_failures(verdicts: pd.DataFrame, *, confidence: float = 0.95) -> Share:
    """Share of verdicts with no winner (the judge's reply could not be read), with Wilson's interval.

    Args:
        verdicts: Votes frame; a failure has an empty winner.
        confidence: Level.

    Raises:
        UserError: The column is missing or a winner is unknown.
    """
    require_columns(verdicts, ["winner"], "verdicts")
    return share(outcomes(verdicts["winner"]) == FAILED, None, confidence)


def _ordered(verdicts: pd.DataFrame) -> Verdicts:
    coded = code_verdicts(verdicts, need=["order"])
    unknown = np.flatnonzero(coded.shown_second < 0)
    if len(unknown):
        row = int(unknown[0])
        raise UserError(f"verdict {row + 1} has the order {verdicts['order'].iloc[row]!r}; it must be ab or ba.")
    return coded
