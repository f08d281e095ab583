"""Juries: several judges' labels on an item become one.

A label matrix has the shape (items, judges); entries are label codes 0 .. K - 1, and -1 (or NaN) where the judge gave
no readable verdict: it withholds its vote there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from evalkit.errors import UserError
from evalkit.stats.battles import LABELS, battle_labels, matching
from evalkit.stats.votes import FloatArray, IntArray, list_names

NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class JuryLabels:
    """What judges and humans said of the same battles.

    Attributes:
        labels: Of the judges, shape (battles, judges): 0 the first model wins, 1 the second, 2 tie, -1 unreadable.
        truth: Strict majority of the humans, 2 (tie) where they have none, -1 where no human voted; shape (battles,).
        items: item_id of each battle, shape (battles,): the clusters.
        judges: Names.
        names: Names of the labels.
        warnings: Sentences.
    """

    labels: IntArray
    truth: IntArray
    items: np.ndarray[tuple[int], np.dtype[np.object_]]
    judges: tuple[str, ...]
    names: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class JuryVerdict:
    """One label for each item.

    Attributes:
        label: Shape (items,); -1 where the jury has no verdict.
        support: Share of the votes cast, or the posterior probability, that the label has; NaN without a verdict, and
            for a tie where no judge can say tie.
        n: Items, those without a verdict included.
        n_failed: Items on which no judge gave a readable verdict.
        n_undecided: Items with votes on which the rule decided for no label.
        n_withheld: Readable verdicts missing, over all judges and items.
        method: The rule, in words.
        warnings: Sentences.
    """

    label: IntArray
    support: FloatArray
    n: int
    n_failed: int
    n_undecided: int
    n_withheld: int
    method: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Columns label, support; one row an item."""
        return pd.DataFrame({"label": self.label, "support": self.support})


@dataclass(frozen=True, eq=False)
class JuryMean:
    """The mean of the judges' grades on each item.

    Attributes:
        mean: Shape (items,), NaN where no judge gave a grade.
        spread: Standard deviation between the judges, NaN with fewer than two grades.
        votes: Grades given, shape (items,).
        n, n_failed: Items, and those without a grade.
        n_withheld: Grades missing.
        method: In words.
        warnings: Sentences.
    """

    mean: FloatArray
    spread: FloatArray
    votes: IntArray
    n: int
    n_failed: int
    n_withheld: int
    method: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Columns mean, spread, votes; one row an item."""
        return pd.DataFrame({"mean": self.mean, "spread": self.spread, "votes": self.votes})


@dataclass(frozen=True, eq=False)
class JuryWeights:
    """Weights of the judges' votes.

    Attributes:
        judges: Names.
        weight: Log-odds, shape (judges,).
        accuracy: The shrunk accuracy behind each weight.
        correct, answered: Counts over the items with a known truth and a readable verdict.
        n, n_failed: Labels held against a known truth, and those that could not be read.
        n_labels: K.
        method: In words, with the shrinkage.
    """

    judges: tuple[str, ...]
    weight: FloatArray
    accuracy: FloatArray
    correct: IntArray
    answered: IntArray
    n: int
    n_failed: int
    n_labels: int
    method: str

    def frame(self) -> pd.DataFrame:
        """Columns judge, weight, accuracy, correct, answered."""
        names = ("weight", "accuracy", "correct", "answered")
        return pd.DataFrame({"judge": list(self.judges), **{name: getattr(self, name) for name in names}})


def jury_labels(votes: pd.DataFrame, judges: str, annotators: str) -> JuryLabels:
    """Label matrix of the judges and the majority of the humans from a votes frame.

    Args:
        votes: See `battles.battle_labels`; battles that no judge saw are left out.
        judges, annotators: Globs for the jury's judges and for the humans.

    Raises:
        UserError: As `battles.battle_labels`, or a glob matches nobody.
    """
    found = battle_labels(votes)
    members, others = matching(found.annotators, judges, annotators)
    seen = np.zeros(len(found.battles), dtype=np.bool_)
    seen[found.battle[np.isin(found.annotator, members)]] = True
    humans = found.matrix(others)[seen]
    truth = majority(humans, tie=LABELS.index("tie"), n_labels=len(LABELS)).label
    return JuryLabels(
        labels=found.matrix(members)[seen],
        truth=truth,
        items=found.battles["item_id"].to_numpy(dtype=object)[seen],
        judges=tuple(found.annotators[i] for i in members),
        names=LABELS,
        warnings=found.warnings,
    )


def as_labels(labels: ArrayLike, n_labels: int | None = None) -> tuple[IntArray, int]:
    """Check a label matrix: codes as integers with -1 for NaN, and the number of labels (largest code + 1 if None).

    Raises:
        UserError: It is not a matrix, or a code is not a whole number from -1 to n_labels - 1.
    """
    raw = np.asarray(labels)
    if raw.ndim != 2 or not raw.shape[1]:
        raise UserError(f"the labels have the shape {raw.shape}; (items, judges) is needed.")
    filled = np.where(np.isnan(raw), NO_LABEL, raw) if raw.dtype.kind == "f" else raw
    codes = filled.astype(np.int64)
    k = n_labels if n_labels is not None else int(codes.max(initial=0)) + 1
    wrong = np.argwhere((codes != filled) | (codes < NO_LABEL) | (codes >= k))
    if len(wrong):
        item, judge = wrong[0].tolist()
        text = f"the label of item {item + 1} by judge {judge + 1} is {filled[item, judge]}"
        raise UserError(f"{text}; it must be a whole number from 0 to {k - 1}, or -1 (or NaN) where there is none.")
    return codes, k


def tally(codes: IntArray, n_labels: int, weights: FloatArray | None = None) -> FloatArray:
    """Votes (or summed weights) for each label, shape (items, n_labels)."""
    items = len(codes)
    # A column of its own takes the withheld votes.
    cell = np.arange(items)[:, None] * (n_labels + 1) + np.where(codes < 0, n_labels, codes)
    weight = None if weights is None else np.broadcast_to(weights, codes.shape).ravel()
    sums = np.bincount(cell.ravel(), weight, minlength=items * (n_labels + 1))
    return sums.reshape(items, n_labels + 1)[:, :n_labels].astype(np.float64)


def majority(labels: ArrayLike, *, tie: int | None = None, n_labels: int | None = None) -> JuryVerdict:
    """The label that more than half of the votes cast on an item name.

    A judge without a readable verdict withholds its vote: it is in no majority and in no denominator, and counted.
    Where no label has more than half, the verdict is `tie`, or none at all if that is None.

    Args:
        labels: Shape (items, judges).
        tie: Code of the label "tie"; None leaves such items undecided (-1).
        n_labels: K; from the labels if None.

    Raises:
        UserError: As `as_labels`.
    """
    codes, k = as_labels(labels, n_labels)
    counts = tally(codes, k)
    cast = counts.sum(axis=1)
    top = counts.argmax(axis=1)
    most = counts[np.arange(len(codes)), top]
    return verdict(codes, np.where(2 * most > cast, top, NO_LABEL), counts / np.maximum(cast, 1)[:, None], tie,
                   "strict majority of the readable verdicts")  # fmt: skip


def mean(grades: ArrayLike) -> JuryMean:
    """The mean of the grades given on each item; a judge without a grade (NaN) withholds its vote.

    Args:
        grades: Shape (items, judges).

    Raises:
        UserError: It is not a matrix, or a grade is infinite.
    """
    values = np.asarray(grades, dtype=np.float64)
    if values.ndim != 2 or np.isinf(values).any():
        raise UserError(f"the grades have the shape {values.shape}; finite (items, judges), NaN for none, is needed.")
    given = ~np.isnan(values)
    votes = given.sum(axis=1)
    center = np.where(votes > 0, np.where(given, values, 0.0).sum(axis=1) / np.maximum(votes, 1), np.nan)
    squares = np.where(given, (values - center[:, None]) ** 2, 0.0).sum(axis=1)
    spread = np.where(votes > 1, np.sqrt(squares / np.maximum(votes - 1, 1)), np.nan)
    failed, withheld = int((votes == 0).sum()), int((~given).sum())
    warnings = (f"{failed} of {len(values)} items have no grade; they are in n and have no mean.",) if failed else ()
    method = "mean of the grades given on the item"
    return JuryMean(center, spread, votes.astype(np.int64), len(values), failed, withheld, method, warnings)


def log_odds_weights(
    labels: ArrayLike, truth: ArrayLike, *, judges: Sequence[str] | None = None, n_labels: int | None = None
) -> JuryWeights:
    """Weights for votes from how often each judge was right.

    w = log(p (K - 1) / (1 - p)), p the accuracy: the best weights where judges err independently and evenly over the
    wrong labels (Nitzan & Paroush 1982, Int. Econ. Rev. 23:289-297, for K = 2). Shrunk: p = (correct + 1) / (answered
    + K), one invented answer for each label, so that a judge with few answers weighs little and none infinitely. A
    judge worse than guessing has a negative weight. Where judges err alike, `stacking.stacked_weights` does better.

    Args:
        labels: Shape (items, judges).
        truth: The right label, shape (items,); -1 or NaN where unknown. Learn on one half of the items and report on
            the other (`jury_selection.compare_juries` does).
        judges: Names.
        n_labels: K, 2 or more; from the labels and the truth if None.

    Raises:
        UserError: As `as_labels`, or the lengths differ.
    """
    codes, right, k = with_truth(labels, truth, n_labels)
    known = right != NO_LABEL
    held = codes[known]
    answered = (held != NO_LABEL).sum(axis=0)
    correct = (held == right[known, None]).sum(axis=0)
    accuracy = (correct + 1) / (answered + k)
    return JuryWeights(
        judges=names_of(judges, codes.shape[1]),
        weight=np.log(accuracy * (k - 1) / (1 - accuracy)),
        accuracy=accuracy,
        correct=correct,
        answered=answered,
        n=held.size,
        n_failed=int((held == NO_LABEL).sum()),
        n_labels=k,
        method="log-odds of accuracy, shrunk by one invented answer for each label",
    )


def weighted(labels: ArrayLike, weights: JuryWeights, *, tie: int | None = None) -> JuryVerdict:
    """The label with the largest sum of weights; its support is exp(sum) over all labels (even prior).

    Args:
        labels: Shape (items, judges), judges as in `weights`.
        weights: From `log_odds_weights`.
        tie: Code of the label "tie", the verdict where two labels have the same sum; None leaves these undecided.

    Raises:
        UserError: As `as_labels`, or the number of judges differs.
    """
    codes, k = as_labels(labels, weights.n_labels)
    if codes.shape[1] != len(weights.weight):
        raise UserError(f"the labels are of {codes.shape[1]} judges, the weights of {len(weights.weight)}.")
    label, shares = weighted_labels(codes, k, weights.weight)
    return verdict(codes, label, shares, tie, f"votes weighted: {weights.method}")


def weighted_labels(codes: IntArray, n_labels: int, weight: FloatArray) -> tuple[IntArray, FloatArray]:
    """The label of each item with the largest sum of weights, -1 where two have it; and exp(sum) over all labels."""
    sums = tally(codes, n_labels, weight)
    top = sums.max(axis=1, keepdims=True)
    odds = np.exp(sums - top)
    alone = (sums >= top - 1e-9).sum(axis=1) == 1
    return np.where(alone, sums.argmax(axis=1), NO_LABEL), odds / odds.sum(axis=1, keepdims=True)


def verdict(codes: IntArray, label: IntArray, shares: FloatArray, tie: int | None, method: str) -> JuryVerdict:
    """Put a rule's labels (-1 undecided) and the labels' shares, shape (items, K), into a `JuryVerdict`."""
    empty = (codes == NO_LABEL).all(axis=1)
    undecided = (label == NO_LABEL) & ~empty
    final = np.where(empty, NO_LABEL, np.where(undecided & (tie is not None), tie if tie is not None else 0, label))
    # A tie need not be among the labels that judges give.
    has_share = (final != NO_LABEL) & (final < shares.shape[1])
    support = np.where(has_share, shares[np.arange(len(codes)), np.where(has_share, final, 0)], np.nan)
    failed, withheld = int(empty.sum()), int((codes == NO_LABEL).sum())
    warnings = []
    if failed:
        warnings.append(f"{failed} of {len(codes)} items have no readable verdict; they are in n and have no label.")
    rest = "undecided" if tie is None else f"label {tie} (tie)"
    return JuryVerdict(
        final,
        support,
        len(codes),
        failed,
        int(undecided.sum()),
        withheld,
        f"{method}; otherwise {rest}",
        tuple(warnings),
    )


def with_truth(labels: ArrayLike, truth: ArrayLike, n_labels: int | None) -> tuple[IntArray, IntArray, int]:
    """Checked labels, truth with -1 where unknown, and K over both (2 at the least)."""
    raw = np.asarray(truth)
    if raw.ndim != 1 or len(raw) != len(np.asarray(labels)):
        raise UserError(
            f"the truth has the shape {raw.shape}; one label an item, {len(np.asarray(labels))}, is needed."
        )
    right, k_truth = as_labels(raw[:, None], n_labels)
    codes, k = as_labels(labels, n_labels)
    return codes, right[:, 0], max(k, k_truth, 2)


def names_of(judges: Sequence[str] | None, n: int) -> tuple[str, ...]:
    """The judges' names, or numbered ones.

    Raises:
        UserError: Not one a judge.
    """
    names = tuple(judges) if judges is not None else tuple(f"judge {i + 1}" for i in range(n))
    if len(names) != n:
        raise UserError(f"there are {len(names)} names ({list_names(names)}) for {n} judges.")
    return names
