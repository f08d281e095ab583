"""Which answers meet: battles over the responses of a run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.models.base import sha256
from evalkit.store import BattleRow
from judges.fight import drawn


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that may do battle.

    Attributes:
        item, model: Content hashes; a draw goes by these, so that it is the same in every ledger.
        turn: Of the conversation, from 1.
    """

    response_id: int
    item_id: int
    model_id: int
    item: str
    model: str
    turn: int = 1


def pair_up(answers: Sequence[Answer], *, limit: int | None, seed: int, baseline: int | None = None) -> list[BattleRow]:
    """Makes battles between all models that answered the same turn of the same item.

    Args:
        answers: One answer of a model to a turn at most.
        baseline: A model's id: only battles with this model; None for all.
        limit: Battles at most, drawn so that every pair of models gets as many as the others (give or take one).
        seed: Of the draw. A larger draw holds the smaller ones.

    Returns:
        Battles, ordered by item, turn and models.
    """
    by_turn: dict[tuple[int, int], list[Answer]] = {}
    for answer in answers:
        by_turn.setdefault((answer.item_id, answer.turn), []).append(answer)
    by_pair: dict[tuple[str, str], list[tuple[str, BattleRow]]] = {}
    for (item_id, turn), there in by_turn.items():
        for one, other in itertools.combinations(sorted(there, key=lambda a: a.model), 2):
            if baseline is not None and baseline not in (one.model_id, other.model_id):
                continue
            a, b = sorted((one, other), key=lambda x: x.model_id)
            battle = BattleRow(item_id, a.model_id, b.model_id, a.response_id, b.response_id, turn)
            place = drawn(seed, sha256([one.item, turn, one.model, other.model]))
            by_pair.setdefault((one.model, other.model), []).append((place, battle))
    queues = [sorted(pair, key=lambda entry: entry[0]) for _, pair in sorted(by_pair.items())]
    rounds = itertools.chain.from_iterable(itertools.zip_longest(*queues))
    battles = [entry[1] for entry in itertools.islice((e for e in rounds if e is not None), limit)]
    return sorted(battles, key=lambda b: (b.item_id, b.turn, b.model_a_id, b.model_b_id))
