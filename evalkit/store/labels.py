"""Reads of verdicts as label matrices: what several judges, or the people, said of the same battles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.store.ledger import Ledger
from evalkit.store.rows import WINNERS
from evalkit.store.schema import Annotator, Battle, Grade, Verdict
from evalkit.store.schema_app import set_aside
from evalkit.store.write_judgments import outcome
from evalkit.store.writing import chunks

if TYPE_CHECKING:
    from evalkit.stats.votes import FloatArray, IntArray

NO_VERDICT = -1


def judged_battles(
    ledger: Ledger, annotator_ids: Sequence[int], criterion: str, among: Collection[int] | None = None
) -> list[int]:
    """Lists the battles (of those in `among`) with a verdict, failed ones included, of any of the annotators."""
    query = sa.select(Verdict.battle_id).where(Verdict.annotator_id.in_(annotator_ids), Verdict.criterion == criterion)
    with ledger.engine.connect() as connection:
        found = set(connection.scalars(query.distinct()))
    return sorted(found if among is None else found & set(among))


def labels_of(
    ledger: Ledger, annotator_ids: Sequence[int], criterion: str, battle_ids: Sequence[int]
) -> tuple[IntArray, FloatArray]:
    """Reads one label and one probability of each annotator for each battle, its orders and replicates together.

    Returns:
        Labels, shape (battles, annotators): 0 model_a, 1 model_b, 2 tie (also where the annotator contradicts itself),
        3 both_bad, -1 without a readable verdict; and the mean of the probabilities that model_a's answer is preferred,
        NaN where the annotator gave none.
    """
    import numpy as np

    labels = np.full((len(battle_ids), len(annotator_ids)), NO_VERDICT, dtype=np.int64)
    probabilities = np.full(labels.shape, np.nan)
    row = {battle_id: place for place, battle_id in enumerate(battle_ids)}
    column = {annotator_id: place for place, annotator_id in enumerate(annotator_ids)}
    for (battle_id, annotator_id), (winners, likely) in _said(ledger, annotator_ids, criterion, battle_ids).items():
        at = row[battle_id], column[annotator_id]
        won = outcome(winners)
        if won is not None:
            labels[at] = WINNERS.index(won)
        if likely:
            probabilities[at] = sum(likely) / len(likely)
    return labels, probabilities


def grades_of(
    ledger: Ledger, annotator_ids: Sequence[int], criterion: str, response_ids: Collection[int]
) -> tuple[list[int], FloatArray]:
    """Reads one grade of each annotator for each response, the mean of its replicates.

    Returns:
        The responses (of those in `response_ids`) that any of the annotators graded, failed grades included, and their
        grades, shape (responses, annotators), NaN where an annotator has none that could be read.
    """
    import numpy as np

    query = sa.select(Grade.response_id, Grade.annotator_id, sa.func.avg(Grade.value)).where(
        Grade.annotator_id.in_(annotator_ids), Grade.criterion == criterion
    )
    with ledger.engine.connect() as connection:
        rows = connection.execute(query.group_by(Grade.response_id, Grade.annotator_id)).all()
    wanted = set(response_ids)
    found = sorted({row[0] for row in rows} & wanted)
    place = {response_id: number for number, response_id in enumerate(found)}
    column = {annotator_id: number for number, annotator_id in enumerate(annotator_ids)}
    values = np.full((len(found), len(annotator_ids)), np.nan)
    for response_id, annotator_id, value in rows:
        if response_id in place and value is not None:
            values[place[response_id], column[annotator_id]] = value
    return found, values


def majority_of(ledger: Ledger, annotator_ids: Sequence[int], criterion: str, battle_ids: Sequence[int]) -> IntArray:
    """Reads what more than half of the annotators say of each battle; both_bad counts as a tie.

    Returns:
        Shape (battles,): 0 model_a, 1 model_b, 2 tie or no majority, -1 where none of them gave a readable verdict.
    """
    import numpy as np

    votes: dict[int, Counter[int]] = {}
    for (battle_id, _), (winners, _likely) in _said(ledger, annotator_ids, criterion, battle_ids).items():
        won = outcome(winners)
        if won is not None:
            votes.setdefault(battle_id, Counter())[min(WINNERS.index(won), 2)] += 1
    found = np.full(len(battle_ids), NO_VERDICT, dtype=np.int64)
    for place, battle_id in enumerate(battle_ids):
        if battle_id in votes:
            label, most = votes[battle_id].most_common(1)[0]
            found[place] = label if 2 * most > votes[battle_id].total() else 2
    return found


def items_of(ledger: Ledger, battle_ids: Sequence[int]) -> IntArray:
    """Returns the item of each battle, shape (battles,)."""
    import numpy as np

    found: dict[int, int] = {}
    with ledger.engine.connect() as connection:
        for part in chunks(sorted(battle_ids)):
            rows = connection.execute(sa.select(Battle.id, Battle.item_id).where(Battle.id.in_(part)))
            found.update({battle_id: item_id for battle_id, item_id in rows})
    return np.array([found[battle_id] for battle_id in battle_ids], dtype=np.int64)


def annotator_names_of(ledger: Ledger, annotator_ids: Sequence[int]) -> list[str]:
    """Returns the annotators' names, in the order asked for."""
    with ledger.engine.connect() as connection:
        rows = connection.execute(sa.select(Annotator.id, Annotator.name).where(Annotator.id.in_(annotator_ids)))
        names = {annotator_id: name for annotator_id, name in rows}
    return [names[annotator_id] for annotator_id in annotator_ids]


def truth_annotators(ledger: Ledger, pattern: str, but: Sequence[int]) -> list[int]:
    """Returns the ids of those whose verdicts are held to be right; members who were set aside are not among them.

    Args:
        pattern: `*` for every person; else a glob over the names of people and judges, such as `expert_*` or
            `verifier`.
        but: Ids that must not be among them: the members of the jury.

    Raises:
        UserError: There are none.
    """
    with ledger.engine.connect() as connection:
        counted = Annotator.id.not_in(set_aside())
        rows = connection.execute(sa.select(Annotator.id, Annotator.name, Annotator.kind).where(counted)).all()
    people = [row for row in rows if row.kind == "human"]
    wanted = people if pattern == "*" else [r for r in rows if r.kind != "metric" and fnmatchcase(r.name, pattern)]
    found = [row.id for row in wanted if row.id not in set(but)]
    if not found:
        others = sorted({row.name for row in rows if row.kind == "judge" and row.id not in set(but)})
        who = "has no human votes" if pattern == "*" else f"has no votes of {pattern!r}"
        also = f"; or name a verifier or judge to hold the jury against ({', '.join(others[:5])})" if others else ""
        raise UserError(f"the ledger {who}: import some (evalkit import votes){also}", code=2)
    return found


def _said(
    ledger: Ledger, annotator_ids: Sequence[int], criterion: str, battle_ids: Sequence[int]
) -> dict[tuple[int, int], tuple[list[str], list[float]]]:
    """By battle and annotator: the winners named, and the probabilities given with them."""
    columns = (Verdict.battle_id, Verdict.annotator_id, Verdict.winner, Verdict.probability)
    found: dict[tuple[int, int], tuple[list[str], list[float]]] = {}
    wanted = set(annotator_ids)
    with ledger.engine.connect() as connection:
        for part in chunks(sorted(battle_ids)):
            query = sa.select(*columns).where(
                Verdict.battle_id.in_(part), Verdict.criterion == criterion, Verdict.winner.is_not(None)
            )
            for battle_id, annotator_id, winner, probability in connection.execute(query):
                # Not in the query: there may be more people than a database takes parameters.
                if annotator_id in wanted:
                    winners, likely = found.setdefault((battle_id, annotator_id), ([], []))
                    winners.append(str(winner))
                    likely += [] if probability is None else [probability]
    return found
