"""How far verdicts on the same battles agree: a judge with humans, and humans with one another."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.chance import Coefficient, kappa_of_codes
from evalkit.stats.delta import clustered_share
from evalkit.stats.intervals import Share
from evalkit.stats.verdicts import BATTLE, BoolArray, Verdicts, code_verdicts, join_orders, matches, three_way
from evalkit.stats.votes import TIE, IntArray, factorize, list_names, require_columns

GroupBy = Literal["turn", "criterion", "category"]

HUMANS = "humans"
DEFINITION = (
    "Each verdict of the judge against each verdict of the reference on the same {fields}; both_bad counts as a tie, "
    "and a judge's verdicts in the two orders of a battle are one (a tie where they differ). agreement: the same "
    "verdict, with ties as a third; agreement_no_ties: over the pairs where both name a winner; kappa: Cohen's, "
    "unweighted, the models of a battle in alphabetical order. Pairs with an unreadable verdict are in n and n_failed, "
    "and in no share. Intervals allow for verdicts on one item being alike. The rows of '{humans}' are the ceiling: "
    "the reference's annotators among themselves."
)


@dataclass(frozen=True, eq=False)
class Agreement:
    """How often two annotators' verdicts on the same battle are the same.

    Attributes:
        n: Pairs of verdicts on the same battle, failures included.
        n_failed: Of these, pairs where a verdict has no winner (parse error): in neither share.
        ties: Agreement with ties as a third verdict, over n - n_failed pairs.
        no_ties: Agreement over the pairs where both name a winner.
        kappa: Cohen's kappa of the n - n_failed pairs.
        table: Counts, left verdict by right verdict (first model wins, second wins, tie), shape (3, 3).
        definition: What was compared, in a sentence.
        warnings: Sentences.
    """

    n: int
    n_failed: int
    ties: Share
    no_ties: Share
    kappa: Coefficient
    table: IntArray
    definition: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class AgreementRow:
    """One judge, or the humans among themselves, in one group.

    Attributes:
        judge: Name; `humans` for the humans among themselves.
        reference: The pattern of the annotators that it is compared with.
        group: Value of the column of `group_by`; `all` without one.
        n: Pairs of verdicts, failures included.
        n_failed: Pairs with an unreadable verdict: in no share.
        agreement, agreement_lower, agreement_upper: With ties as a third verdict.
        agreement_no_ties, agreement_no_ties_lower, agreement_no_ties_upper: Over the n_no_ties pairs without a tie.
        n_no_ties: Pairs where both name a winner.
        kappa, kappa_lower, kappa_upper: Cohen's kappa.
    """

    judge: str
    reference: str
    group: str
    n: int
    n_failed: int
    agreement: float
    agreement_lower: float
    agreement_upper: float
    agreement_no_ties: float
    agreement_no_ties_lower: float
    agreement_no_ties_upper: float
    n_no_ties: int
    kappa: float
    kappa_lower: float
    kappa_upper: float


@dataclass(frozen=True)
class JudgeAgreement:
    """Agreement of judges with humans.

    Attributes:
        rows: Judges in alphabetical order, then the humans among themselves; groups in order within each.
        n, n_failed: Sums over the rows of judges.
        definition: What was compared, in words.
        warnings: Sentences.
    """

    rows: tuple[AgreementRow, ...]
    n: int
    n_failed: int
    definition: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """A row for each of `rows`, columns as in `AgreementRow`."""
        return pd.DataFrame([asdict(row) for row in self.rows], columns=list(AgreementRow.__dataclass_fields__))


def judge_agreement(
    votes: pd.DataFrame,
    *,
    judges: str = "*",
    annotators: str = "*",
    group_by: GroupBy | None = None,
    confidence: float = 0.95,
) -> JudgeAgreement:
    """Agreement of each judge with the humans, and of the humans with one another as its ceiling.

    Each verdict of a judge against each human vote on the same item, turn, criterion and pair of models, with and
    without ties (Zheng et al. 2023, "Judging LLM-as-a-judge with MT-bench and Chatbot Arena", section 4.2, setups S1
    and S2), after a judge's verdicts on both orders of a battle have become one (section 3.4: a tie where they differ).
    Shares with Wilson's intervals adjusted for clusters (`delta.clustered_share`), kappa with the delta method's
    (`chance.cohen_kappa`), both clustered by item.

    Args:
        votes: Votes frame (item_id, model_a, model_b, winner, annotator; optional annotator_kind, turn, criterion,
            order, replicate, category).
        judges: Pattern of the judges' names, such as `gpt4_*`; `*` is every annotator of the kind judge.
        annotators: Pattern of the humans' names, such as `expert_*`; `*` is every annotator of the kind human. An
            annotator that both patterns fit is a human.
        group_by: Column whose values get rows of their own.
        confidence: Level.

    Raises:
        UserError: A column is missing, no annotator fits a pattern, or a winner or an order is unknown.
    """
    wanted = ["annotator", *([group_by] if group_by else [])]
    require_columns(votes, ["item_id", "model_a", "model_b", "winner", *wanted], "votes")
    coded = code_verdicts(votes)
    humans = annotators_like(coded, votes, annotators, "human")
    judging = np.setdiff1d(annotators_like(coded, votes, judges, "judge"), humans)
    if not len(judging):
        raise UserError(f"every annotator that fits {judges!r} fits {annotators!r} too: no judge is left to compare.")
    group_of = _groups(votes, group_by)
    reference = coded.take(np.flatnonzero(np.isin(coded.annotator, humans)))
    rows: list[AgreementRow] = []
    warnings: list[str] = []
    for code in (*judging, None):
        among = code is None
        judge = HUMANS if among else coded.annotators[code]
        own = reference if among else join_orders(coded.take(np.flatnonzero(coded.annotator == code)))
        left, right = matches(own, None if among else reference)
        if not len(left):
            same = f"on the same {_fields(coded)}"
            text = f"No two humans voted {same}." if among else f"No verdict of {judge} and human vote are {same}."
            warnings.append(text)
        labels = group_of[own.row[left]]
        for group in sorted(set(labels.tolist()), key=_natural) or ["all"]:
            at = labels == group
            x, y = own.outcome[left[at]], reference.outcome[right[at]]
            found = _compare(x, y, own.item[left[at]], among, confidence)
            rows.append(_row(judge, annotators, group, found))
            if found.n > found.n_failed and not np.isfinite(found.kappa.lower):
                warnings.append(f"{judge}, {group}: no interval of kappa. {found.kappa.warnings[0]}")
    judged = [row for row in rows if row.judge != HUMANS]
    n, failed = sum(row.n for row in judged), sum(row.n_failed for row in judged)
    if failed:
        warnings.append(failure_sentence(failed, n, "pairs of verdicts"))
    return JudgeAgreement(
        rows=tuple(rows),
        n=n,
        n_failed=failed,
        definition=DEFINITION.format(fields=_fields(coded), humans=HUMANS),
        warnings=tuple(warnings),
    )


def agreement(judge: pd.DataFrame, reference: pd.DataFrame | None = None, *, confidence: float = 0.95) -> Agreement:
    """Agreement of two sets of verdicts, with and without ties.

    Each verdict of `judge` is held against each verdict of `reference` by another annotator on the same battle: same
    item, turn, criterion and unordered pair of models; verdicts in two orders stay two. Shares and intervals as in
    `judge_agreement`. both_bad counts as a tie.

    Args:
        judge: Votes frame (item_id, model_a, model_b, winner, annotator; optional turn, criterion).
        reference: Votes frame of the reference; None compares the annotators of `judge` with one another, each
            unordered pair of verdicts once.
        confidence: Level.

    Raises:
        UserError: A column is missing or a winner is none of the four labels.
    """
    frames = [judge] if reference is None else [judge, reference]
    for frame in frames:
        require_columns(frame, ("item_id", "model_a", "model_b", "winner", "annotator"), "verdicts")
    keys = [name for name in BATTLE if all(name in frame.columns for frame in frames)]
    for key in keys:
        if len({pd.api.types.is_numeric_dtype(frame[key]) for frame in frames}) == 2:
            frames = [frame.assign(**{key: frame[key].astype(str)}) for frame in frames]  # 17 in one file, "17" in one
    columns = [*keys, "model_a", "model_b", "winner", "annotator"]
    coded = code_verdicts(pd.concat([frame[columns] for frame in frames], ignore_index=True), keys=keys)
    left = coded.take(np.arange(len(judge)))
    right = None if reference is None else coded.take(np.arange(len(judge), len(coded)))
    i, j = matches(left, right)
    x, y = left.outcome[i], (left if right is None else right).outcome[j]
    return _compare(x, y, left.item[i], right is None, confidence, _fields(coded))


def failure_sentence(failed: int, n: int, what: str) -> str:
    """How many of n have no readable verdict."""
    return f"{failed} of {n} {what} have no readable verdict; they are in n and in no share."


def _compare(
    x: IntArray, y: IntArray, items: IntArray, among: bool, confidence: float, fields: str = "battle"
) -> Agreement:
    """Agreement of the outcomes x and y of the same battles; `among`: of annotators without a first and a second."""
    x, y = three_way(x), three_way(y)
    parsed = (x >= 0) & (y >= 0)
    decided = parsed & (x != TIE) & (y != TIE)
    same = (x == y).astype(np.float64)
    n_failed = int((~parsed).sum())
    sides = (np.concatenate([x, y]), np.concatenate([y, x]), np.tile(items, 2)) if among else (x, y, items)
    who = "each pair of different annotators" if among else "each judge verdict against each reference verdict"
    warnings = [failure_sentence(n_failed, len(x), "pairs of verdicts")] if n_failed else []
    if not len(x):
        warnings.append(f"No two verdicts of different annotators share the same {fields}.")
    return Agreement(
        n=len(x),
        n_failed=n_failed,
        ties=clustered_share(same[parsed], items[parsed], confidence),
        no_ties=clustered_share(same[decided], items[decided], confidence),
        kappa=kappa_of_codes(sides[0], sides[1], 3, sides[2], confidence=confidence),
        table=np.bincount(x[parsed] * 3 + y[parsed], minlength=9).reshape(3, 3),
        definition=f"{who} on the same {fields}; both_bad counts as tie; failures are in no share",
        warnings=tuple(warnings),
    )


def _row(judge: str, reference: str, group: str, found: Agreement) -> AgreementRow:
    ties, no_ties, kappa = found.ties, found.no_ties, found.kappa
    return AgreementRow(
        judge=judge,
        reference=reference,
        group=group,
        n=found.n,
        n_failed=found.n_failed,
        agreement=ties.value,
        agreement_lower=ties.lower,
        agreement_upper=ties.upper,
        agreement_no_ties=no_ties.value,
        agreement_no_ties_lower=no_ties.lower,
        agreement_no_ties_upper=no_ties.upper,
        n_no_ties=no_ties.n,
        kappa=kappa.value,
        kappa_lower=kappa.lower,
        kappa_upper=kappa.upper,
    )


def annotators_like(coded: Verdicts, votes: pd.DataFrame, pattern: str, kind: Literal["human", "judge"]) -> IntArray:
    """Codes of the annotators that fit a pattern; `*` stands for those of a kind, where the frame says the kind.

    Raises:
        UserError: There is none.
    """
    fits = np.array([fnmatchcase(name, pattern) for name in coded.annotators], dtype=np.bool_)
    if pattern == "*" and "annotator_kind" in votes.columns:
        fits &= of_kind(coded, votes, kind)
    if not fits.any():
        there = list_names(coded.annotators, like=pattern) or "not named"
        raise UserError(f"no {kind} fits {pattern!r}; the annotators are {there}.")
    return np.flatnonzero(fits)


def of_kind(coded: Verdicts, votes: pd.DataFrame, kind: Literal["human", "judge"]) -> BoolArray:
    """Whether each annotator is of a kind, by the column annotator_kind of its last row."""
    row = np.zeros(len(coded.annotators) + 1, dtype=np.int64)
    row[coded.annotator] = coded.row
    return np.asarray((votes["annotator_kind"].iloc[row[:-1]] == kind).to_numpy(dtype=np.bool_, na_value=False))


def _fields(coded: Verdicts) -> str:
    return ", ".join([*coded.keys, "pair of models"])


def _groups(votes: pd.DataFrame, group_by: GroupBy | None) -> np.ndarray[Any, Any]:
    """The group of each row, as text."""
    if group_by is None:
        return np.full(len(votes), "all", dtype=object)
    codes, values = factorize(votes[group_by])
    return np.array([*(f"{v:g}" if isinstance(v, float) else str(v) for v in values), ""], dtype=object)[codes]


def _natural(text: str) -> tuple[int, float, str]:
    """Sorts numbers as numbers, before texts."""
    return (0, float(text), "") if text.isdecimal() else (1, 0.0, text)
