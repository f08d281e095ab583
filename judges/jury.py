"""Juries: several judges' verdicts on a battle, or grades of a response, become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from evalkit.errors import UserError
from evalkit.store import GradeRow, Ledger, VerdictRow
from evalkit.store.labels import annotator_names_of, items_of, judged_battles, labels_of, majority_of, truth_annotators
from evalkit.store.rows import WINNERS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from evalkit.stats.juries import JuryWeights
    from evalkit.stats.votes import FloatArray, IntArray

Aggregation = Literal["majority", "weighted", "dawid-skene", "mean"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
MIN_LEARNED = 100
"""Battles with both a member's verdict and a known truth, below which no weights are learned."""

_TIE, _BOTH_BAD, _LABELS = 2, 3, 4
_NOBODY = "no member gave a readable verdict"


@dataclass(frozen=True)
class Jury:
    """Judges who vote together.

    Attributes:
        name: Of the jury.
        members: Names of its judges.
        aggregation: `majority` (what more than half of the readable votes say, else a tie), `weighted` (the label with
            the largest sum of `weights`), `dawid-skene` (weights learned from how the members agree among themselves),
            `mean` (of the members' probabilities, or of their grades).
        weights: By member, for `weighted` (and for `mean` of grades); log-odds as `learn_weights` gives them. 0 leaves
            a member out, a negative weight turns its vote around.
    """

    name: str
    members: tuple[str, ...]
    aggregation: Aggregation = "majority"
    weights: Mapping[str, float] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        if not self.members:
            raise UserError(f"the jury {self.name!r} has no members; name its judges", code=2)
        if self.aggregation not in AGGREGATIONS:
            known = ", ".join(AGGREGATIONS)
            raise UserError(f"the jury {self.name!r}: no aggregation {self.aggregation!r}; there are {known}", code=2)
        if self.weights is None and self.aggregation == "weighted":
            raise UserError(f"the jury {self.name!r} is weighted: give the weights of its members", code=2)
        if self.weights is not None:
            missing = [name for name in self.members if name not in self.weights]
            if missing:
                raise UserError(f"the jury {self.name!r}: no weight for its member {missing[0]!r}", code=2)

    def weight_array(self) -> FloatArray:
        """The members' weights in their order, 1 each without weights; shape (members,)."""
        import numpy as np

        return np.array([1.0 if self.weights is None else float(self.weights[name]) for name in self.members])


def jury_verdicts(
    labels: ArrayLike,
    battle_ids: Sequence[int],
    jury: Jury,
    annotator_id: int,
    criterion: str,
    *,
    probabilities: ArrayLike | None = None,
) -> list[VerdictRow]:
    """Makes one verdict of the members' verdicts on each battle.

    A member without a readable verdict withholds its vote: it is in no majority and in no denominator. `weighted` and
    `dawid-skene` take both_bad for a tie while they weigh, for boards do too; a tie is then called both_bad where more
    members said so than said tie.

    Args:
        labels: Shape (battles, members): 0 model_a, 1 model_b, 2 tie, 3 both_bad, -1 no readable verdict.
        battle_ids: Of the rows of `labels`.
        jury: Members in the order of the columns.
        annotator_id: The jury's row.
        criterion: What was judged.
        probabilities: For `mean`, that model_a's answer is preferred, shape (battles, members); NaN, or no array,
            where a member gave a label only, which then counts 1, 0 or 1/2.

    Returns:
        A verdict for each battle, an error where nobody could be read. Its probability of model_a counts a tie half:
        the share of the votes (`majority`), the posterior under the weights or under Dawid-Skene, or the mean. The
        rationale is the tally in words.

    Raises:
        UserError: The array does not fit the battles and the members, or a label is not known.
    """
    import numpy as np

    from evalkit.stats.juries import NO_LABEL, as_labels

    codes, _ = as_labels(labels, _LABELS)
    if codes.shape != (len(battle_ids), len(jury.members)):
        wanted = f"({len(battle_ids)}, {len(jury.members)})"
        raise UserError(f"the jury {jury.name!r}: the labels have the shape {codes.shape}; {wanted} is needed.")
    decided, likely = _decide(codes, jury, probabilities)
    counts = np.stack([(codes == label).sum(axis=1) for label in range(_LABELS)], axis=1)
    rows = []
    for battle_id, label, chance, count in zip(battle_ids, decided.tolist(), likely.tolist(), counts, strict=True):
        if label == _TIE and jury.aggregation != "majority" and count[_BOTH_BAD] > count[_TIE]:
            label = _BOTH_BAD
        order = np.argsort(-count, kind="stable")
        words = [f"{count[i]} {WINNERS[i]}" for i in order if count[i]]
        unread = len(jury.members) - int(count.sum())
        tally = ", ".join([*words, *([f"{unread} without a readable verdict"] if unread else [])])
        rows.append(
            VerdictRow(
                battle_id,
                annotator_id,
                "",
                None if label == NO_LABEL else WINNERS[label],
                criterion=criterion,
                probability=None if label == NO_LABEL else min(max(chance, 0.0), 1.0),
                rationale=f"{jury.aggregation}: {tally}",
                error=_NOBODY if label == NO_LABEL else None,
            )
        )
    return rows


def _decide(codes: IntArray, jury: Jury, probabilities: ArrayLike | None) -> tuple[IntArray, FloatArray]:
    """Labels, -1 where nobody could be read, and the probability of model_a; shape (battles,)."""
    import numpy as np

    from evalkit.stats.dawid_skene import dawid_skene
    from evalkit.stats.juries import NO_LABEL, majority, mean, tally, weighted_labels

    empty = (codes == NO_LABEL).all(axis=1)
    three = np.minimum(codes, _TIE)
    credit = np.array([1.0, 0.0, 0.5])
    if jury.aggregation == "majority":
        label = majority(codes, tie=_TIE, n_labels=_LABELS).label
        counts = tally(three, 3)
        return label, counts @ credit / np.maximum(counts.sum(axis=1), 1.0)
    if jury.aggregation == "mean":
        said = np.where(three == NO_LABEL, np.nan, np.append(credit, np.nan)[three])
        given = np.full(codes.shape, np.nan) if probabilities is None else np.asarray(probabilities, dtype=np.float64)
        chance = mean(np.where(np.isnan(given) | (codes == NO_LABEL), said, given)).mean
        label = np.where(np.abs(chance - 0.5) < 1e-9, _TIE, np.where(chance > 0.5, 0, 1))
    elif jury.aggregation == "weighted":
        weight = jury.weight_array()
        voting = np.where(weight == 0, NO_LABEL, three)
        empty = (voting == NO_LABEL).all(axis=1)
        label, shares = weighted_labels(voting, 3, weight)
        label, chance = np.where(label == NO_LABEL, _TIE, label), shares @ credit
    else:
        model = dawid_skene(three, judges=jury.members, n_labels=3)
        label, chance = model.verdict.label, model.posterior @ credit
    return np.where(empty, NO_LABEL, label), np.where(empty, np.nan, chance)


def jury_grades(
    values: ArrayLike, response_ids: Sequence[int], jury: Jury, annotator_id: int, criterion: str
) -> list[GradeRow]:
    """Makes one grade of the members' grades of each response: their mean, weighted where the jury has weights.

    A member without a grade withholds it. With weights, those of 0 or less count for nothing.

    Args:
        values: Shape (responses, members), NaN where a member gave no grade; on one scale.
        response_ids: Of the rows of `values`.
        jury: Members in the order of the columns; its aggregation must be `mean`, or `weighted`.
        annotator_id: The jury's row.
        criterion: What was graded.

    Returns:
        A grade for each response, with the members' grades and their spread as detail; an error where there was none.

    Raises:
        UserError: The array does not fit, or the aggregation is one of labels.
    """
    import numpy as np

    from evalkit.stats.juries import mean

    if jury.aggregation not in ("mean", "weighted"):
        raise UserError(
            f"the jury {jury.name!r} grades responses, and grades have no {jury.aggregation}: aggregation must be mean",
            code=2,
        )
    grades = np.asarray(values, dtype=np.float64)
    if grades.shape != (len(response_ids), len(jury.members)):
        wanted = f"({len(response_ids)}, {len(jury.members)})"
        raise UserError(f"the jury {jury.name!r}: the grades have the shape {grades.shape}; {wanted} is needed.")
    weight = np.maximum(jury.weight_array(), 0.0)
    found = mean(np.where(weight > 0, grades, np.nan))
    total = np.where(np.isnan(grades), 0.0, weight).sum(axis=1)
    center = np.where(np.isnan(grades), 0.0, weight * np.nan_to_num(grades)).sum(axis=1) / np.where(total > 0, total, 1)
    rows = []
    for i, response_id in enumerate(response_ids):
        given = {m: float(g) for m, g in zip(jury.members, grades[i], strict=True) if not np.isnan(g)}
        spread = None if np.isnan(found.spread[i]) else float(found.spread[i])
        value = float(center[i]) if found.votes[i] else None
        error = None if value is not None else "no member gave a readable grade"
        rows.append(
            GradeRow(response_id, annotator_id, criterion, value, error, detail={"members": given, "spread": spread})
        )
    return rows


def learn_weights(ledger: Ledger, members: Sequence[int], criterion: str, humans: str = "*") -> Mapping[str, float]:
    """Learns the members' weights from the battles in the ledger whose right verdict is known.

    See `learned_weights` for the details and for what was learned from how much.

    Returns:
        Weight by the member's name.
    """
    found = learned_weights(ledger, members, criterion, humans)
    return dict(zip(found.judges, found.weight.tolist(), strict=True))


def learned_weights(ledger: Ledger, members: Sequence[int], criterion: str, humans: str = "*") -> JuryWeights:
    """Weights as `stats.stacked_weights` fits them: not expected to do worse than the best member alone.

    The right verdict is the strict majority of the people who voted on the battle (a tie where they have none).

    Args:
        ledger: Holds the verdicts.
        members: Annotator ids.
        criterion: What was judged.
        humans: Whose verdicts are held to be right: `*` for all people, or a glob over names, such as `verifier`.

    Returns:
        Weights with the counts behind them; `n` and `n_failed` are members' verdicts held against the truth.

    Raises:
        UserError: Nobody to learn from, or fewer than `MIN_LEARNED` battles.
    """
    import numpy as np

    from evalkit.stats.stacking import stacked_weights

    battles = judged_battles(ledger, members, criterion)
    truth = majority_of(ledger, truth_annotators(ledger, humans, members), criterion, battles)
    known = np.flatnonzero(truth >= 0)
    who = "people" if humans == "*" else repr(humans)
    if len(known) < MIN_LEARNED:
        raise UserError(
            f"weights of a jury need {MIN_LEARNED} battles that {who} voted on too; on {criterion!r} there are "
            f"{len(known)} of the {len(battles)} that its members judged. Use aggregation majority or dawid-skene, or "
            "vote on more",
            code=2,
        )
    ids = [battles[i] for i in known.tolist()]
    labels = np.minimum(labels_of(ledger, members, criterion, ids)[0], _TIE)
    items = items_of(ledger, ids)
    clusters = items if len(np.unique(items)) > 1 else None
    return stacked_weights(
        labels, truth[known], judges=annotator_names_of(ledger, members), clusters=clusters, n_labels=3
    )
