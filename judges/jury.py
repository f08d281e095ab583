"""Juries: several judges' verdicts on a battle become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from evalkit.store import VerdictRow
from evalkit.store.rows import Winner


def majority(votes: Mapping[int, Sequence[Winner | None]], annotator_id: int, criterion: str) -> list[VerdictRow]:
    """Takes the strict majority of the judges' votes on each battle.

    Args:
        votes: Battle id to one vote of each judge that saw it; None for a judge without a readable verdict.
        annotator_id: The jury's row.
        criterion: What was judged.

    Returns:
        A verdict for each battle: what more than half of the given votes say, a tie if none has that many; an error if
        no judge gave a readable one.
    """
    verdicts = []
    for battle_id, given in votes.items():
        cast = Counter(v for v in given if v is not None)
        top = cast.most_common(1)
        winner: Winner | None = None
        if top:
            winner = top[0][0] if 2 * top[0][1] > cast.total() else "tie"
        error = None if winner else "no member gave a readable verdict"
        tally = ", ".join(f"{n} {w}" for w, n in cast.most_common())
        verdicts.append(
            VerdictRow(battle_id, annotator_id, "", winner, criterion=criterion, rationale=tally or None, error=error)
        )
    return verdicts
