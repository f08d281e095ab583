"""Which judges a jury needs, and what each way of voting is worth, learned on one half and reported on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse

from evalkit.errors import UserError
from evalkit.stats.dawid_skene import apply_dawid_skene, dawid_skene
from evalkit.stats.intervals import share
from evalkit.stats.juries import (
    NO_LABEL,
    JuryVerdict,
    JuryWeights,
    majority,
    names_of,
    weighted,
    with_truth,
)
from evalkit.stats.ranks import critical_value
from evalkit.stats.stacking import best_judge, stacked_weights
from evalkit.stats.votes import FloatArray, IntArray, factorize

_EXHAUSTIVE_UP_TO = 12
_CELLS = 8_000_000


@dataclass(frozen=True, eq=False)
class SubJury:
    """The smallest jury that is not worse than the full one.

    Attributes:
        judges: Names of its members.
        members: Their columns.
        accuracy, full_accuracy: Of the sub-jury and of the full jury on the items it was selected on: too good, since
            selected there; `compare_juries` reports it on others.
        lost_at_most: Upper confidence limit of full_accuracy - accuracy.
        margin: What it may lose.
        n, n_failed: Items with a known truth, and those of them on which no judge gave a readable verdict: these are in
            no share.
        tried: Sub-juries looked at.
        method: In words.
        warnings: Sentences.
    """

    judges: tuple[str, ...]
    members: tuple[int, ...]
    accuracy: float
    full_accuracy: float
    lost_at_most: float
    margin: float
    n: int
    n_failed: int
    tried: int
    method: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """One row: judges, accuracy, full_accuracy, lost_at_most, margin, n, n_failed."""
        names = ("accuracy", "full_accuracy", "lost_at_most", "margin", "n", "n_failed")
        row = {"judges": " + ".join(self.judges), **{name: getattr(self, name) for name in names}}
        return pd.DataFrame([row])


@dataclass(frozen=True, eq=False)
class JuryComparison:
    """Judges and juries held against a truth on items that nothing was learned from.

    Attributes:
        table: Columns jury, judges, accuracy, lower, upper, n, n_failed, n_undecided; best first.
        selected: The sub-jury.
        weights: Of the judges' votes, as learned.
        n: Items reported on, failures included.
        n_learned: Items learned from.
        n_failed: Items reported on where no judge gave a readable verdict.
        method: In words.
        warnings: Sentences.
    """

    table: pd.DataFrame
    selected: SubJury
    weights: JuryWeights
    n: int
    n_learned: int
    n_failed: int
    method: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """`table`."""
        return self.table


def select_jury(
    labels: ArrayLike,
    truth: ArrayLike,
    *,
    judges: Sequence[str] | None = None,
    clusters: ArrayLike | None = None,
    tie: int | None = None,
    n_labels: int | None = None,
    margin: float = 0.01,
    confidence: float = 0.95,
) -> SubJury:
    """The smallest sub-jury whose majority verdict is not worse than the full jury's.

    Not worse: the one-sided upper confidence limit of the paired difference of accuracies (full less sub-jury, t with
    CR1 standard errors clustered as given) is below `margin` (a non-inferiority test). Of the sub-juries of the
    smallest size that pass, the most accurate. Up to 12 judges every sub-jury is tried; beyond that judges are dropped
    one by one, each time the one whose absence leaves the highest accuracy, as long as the jury passes.

    A jury that is undecided on an item (and `tie` is None) is not right there, and neither is a sub-jury none of whose
    members gave a readable verdict. Items without any readable verdict, or without a known truth, are in no accuracy.

    Args:
        labels: Shape (items, judges), -1 or NaN where there is no readable verdict.
        truth: Shape (items,), -1 or NaN where unknown.
        judges: Names.
        clusters: Labels of groups of like items, shape (items,).
        tie: Code of the label "tie", the verdict of a jury without a majority.
        n_labels: K; from the labels and the truth if None.
        margin: Share of the items, such as 0.01.
        confidence: Level of the one-sided limit.

    Raises:
        UserError: As `juries.as_labels`, or the margin is negative.
    """
    if margin < 0:
        raise UserError(f"the margin is {margin}; it must be 0 or more, such as 0.01.", code=2)
    codes, right, k = with_truth(labels, truth, n_labels)
    names = names_of(judges, codes.shape[1])
    known = right != NO_LABEL
    usable = known & (codes != NO_LABEL).any(axis=1)
    unit = np.arange(len(codes)) if clusters is None else factorize(pd.Series(np.asarray(clusters)))[0]
    held, target = codes[usable], right[usable]
    unit = np.unique(unit[usable], return_inverse=True)[1]
    every = tuple(range(len(names)))
    full = _hits(held, target, k, tie, np.ones((len(names), 1)))[:, 0]

    def judged(subsets: list[tuple[int, ...]]) -> tuple[FloatArray, FloatArray]:
        """Accuracy of each sub-jury, and what it loses at most."""
        accuracy, limit = np.zeros(len(subsets)), np.zeros(len(subsets))
        step = max(1, _CELLS // max(held.size * k, 1))
        for start in range(0, len(subsets), step):
            part = subsets[start : start + step]
            chosen = np.zeros((len(names), len(part)))
            for column, members in enumerate(part):
                chosen[list(members), column] = 1.0
            hits = _hits(held, target, k, tie, chosen)
            accuracy[start : start + len(part)] = hits.mean(axis=0)
            limit[start : start + len(part)] = _upper_limit(full[:, None] - hits, unit, confidence)
        return accuracy, limit

    chosen, accuracy, limit, tried = every, full.mean() if len(full) else np.nan, 0.0, 1
    if len(full) and len(every) <= _EXHAUSTIVE_UP_TO:
        for size in range(1, len(every)):
            subsets = list(combinations(every, size))
            values, limits = judged(subsets)
            tried += len(subsets)
            if (limits < margin).any():
                best = int(np.where(limits < margin, values, -1.0).argmax())
                chosen, accuracy, limit = subsets[best], values[best], limits[best]
                break
    elif len(full):
        while len(chosen) > 1:
            subsets = [tuple(m for m in chosen if m != dropped) for dropped in chosen]
            values, limits = judged(subsets)
            tried += len(subsets)
            best = int(np.where(limits < margin, values, -1.0).argmax())
            if limits[best] >= margin:
                break
            chosen, accuracy, limit = subsets[best], values[best], limits[best]
    search = "every sub-jury" if len(every) <= _EXHAUSTIVE_UP_TO else "judges dropped one by one"
    failed = int((known & ~usable).sum())
    warnings = [f"{failed} items have no readable verdict; they are in n and in no accuracy."] if failed else []
    if not len(full):
        warnings.append("No item has a known truth and a readable verdict: the full jury is kept.")
    return SubJury(
        judges=tuple(names[i] for i in chosen),
        members=tuple(chosen),
        accuracy=float(accuracy),
        full_accuracy=float(full.mean()) if len(full) else float("nan"),
        lost_at_most=float(limit),
        margin=margin,
        n=int(known.sum()),
        n_failed=failed,
        tried=tried,
        method=f"{search}; strict majority; one-sided {confidence:.0%} limit of the loss below {margin:g}",
        warnings=tuple(warnings),
    )


def compare_juries(
    labels: ArrayLike,
    truth: ArrayLike,
    *,
    judges: Sequence[str] | None = None,
    clusters: ArrayLike | None = None,
    tie: int | None = None,
    n_labels: int | None = None,
    margin: float = 0.01,
    confidence: float = 0.95,
    seed: int = 0,
) -> JuryComparison:
    """Each judge, and each way to make a jury of them, held against the truth on items nothing was learned from.

    The items (whole clusters of them) are split in two halves at random. On the first are learned the weights
    (`stacking.stacked_weights`, which fall back to the best judge), the Dawid-Skene model (which sees no truth), the
    best single judge and the smallest sub-jury; accuracies are of the second. Intervals are Wilson's, adjusted for
    clusters (`intervals.share`). A jury that is undecided on an item is not right there; items without a readable
    verdict are in n and in no accuracy.

    Args:
        labels, truth, judges, clusters, tie, n_labels, margin: As `select_jury`.
        confidence: Level of the intervals and of the selection.
        seed: Of the split.

    Raises:
        UserError: As `select_jury`, or there are fewer than four clusters with a known truth.
    """
    codes, right, k = with_truth(labels, truth, n_labels)
    names = names_of(judges, codes.shape[1])
    unit = np.arange(len(codes)) if clusters is None else factorize(pd.Series(np.asarray(clusters)))[0]
    known = right != NO_LABEL
    units = np.unique(unit[known])
    if len(units) < 4:
        raise UserError(f"the truth is known for {len(units)} groups of items; 4 or more are needed to split them.")
    first = np.random.default_rng(seed).permutation(units)[: len(units) // 2]
    learn = known & np.isin(unit, first)
    report = known & ~learn
    selected = select_jury(
        codes[learn],
        right[learn],
        judges=names,
        clusters=unit[learn],
        tie=tie,
        n_labels=k,
        margin=margin,
        confidence=confidence,
    )
    weights = stacked_weights(codes[learn], right[learn], judges=names, clusters=unit[learn], n_labels=k, seed=seed)
    model = dawid_skene(codes[learn], judges=names, n_labels=k)
    held = codes[report]
    best = best_judge(codes[learn], right[learn], k)
    members = list(selected.members)
    everyone = list(range(len(names)))
    ways: list[tuple[str, list[int], JuryVerdict]] = [
        *((name, [j], majority(held[:, [j]], n_labels=k)) for j, name in enumerate(names)),
        ("best judge", [best], majority(held[:, [best]], n_labels=k)),
        ("majority", everyone, majority(held, tie=tie, n_labels=k)),
        ("weighted", everyone, weighted(held, weights, tie=tie)),
        ("Dawid-Skene", everyone, apply_dawid_skene(held, model)),
        ("sub-jury", members, majority(held[:, members], tie=tie, n_labels=k)),
    ]
    rows = []
    for name, who, verdict in ways:
        readable = (held[:, who] != NO_LABEL).any(axis=1)
        result = share((verdict.label == right[report])[readable], unit[report][readable], confidence)
        voters = "all" if who == everyone and len(who) > 1 else " + ".join(names[j] for j in who)
        rows.append(
            (name, voters, result.value, result.lower, result.upper, verdict.n, verdict.n_failed, verdict.n_undecided)
        )
    columns = ["jury", "judges", "accuracy", "lower", "upper", "n", "n_failed", "n_undecided"]
    table = pd.DataFrame(rows, columns=columns).sort_values("accuracy", ascending=False, kind="stable")
    method = f"learned on {int(learn.sum())} items, reported on {int(report.sum())} others, split by seed {seed}"
    failed = int((held == NO_LABEL).all(axis=1).sum())
    method += f"; weights: {weights.method}"
    warnings = [*selected.warnings, *model.warnings]
    return JuryComparison(
        table=table.reset_index(drop=True),
        selected=selected,
        weights=weights,
        n=int(report.sum()),
        n_learned=int(learn.sum()),
        n_failed=failed,
        method=method,
        warnings=tuple(warnings),
    )


def _hits(codes: IntArray, right: IntArray, k: int, tie: int | None, chosen: FloatArray) -> FloatArray:
    """Whether each sub-jury's strict majority is right, shape (items, sub-juries); `chosen` is (judges, sub-juries)."""
    indicators = (codes[:, None, :] == np.arange(k)[:, None]).astype(np.float32)
    votes = np.asarray(indicators @ chosen.astype(np.float32))  # items, K, sub-juries
    cast = votes.sum(axis=1)
    mine = np.take_along_axis(votes, right[:, None, None], axis=1)[:, 0]
    hits = 2 * mine > cast
    if tie is not None:
        hits |= (right == tie)[:, None] & (2 * votes.max(axis=1) <= cast) & (cast > 0)
    return np.asarray(hits, dtype=np.float64)


def _upper_limit(loss: FloatArray, unit: IntArray, confidence: float) -> FloatArray:
    """One-sided upper limits of the columns' means, clustered (CR1)."""
    n, g = len(loss), int(unit.max(initial=-1)) + 1
    mean = loss.mean(axis=0)
    if g < 2:
        return np.full(loss.shape[1], np.inf)
    sums = sparse.csr_array((np.ones(n), (unit, np.arange(n))), shape=(g, n)) @ (loss - mean)
    error = np.sqrt(g / (g - 1) * (sums**2).sum(axis=0)) / n
    return np.asarray(mean + critical_value(2 * confidence - 1, g - 1) * error, dtype=np.float64)
