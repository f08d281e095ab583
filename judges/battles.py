"""Which answers meet: battles over the responses of a run."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.store import BattleRow


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that may do battle."""

    response_id: int
    item_id: int
    model_id: int


def pair_up(answers: Sequence[Answer], *, limit: int | None, seed: int) -> list[BattleRow]:
    """Makes battles between all models that answered the same item.

    Args:
        answers: One answer of a model to an item at most.
        limit: Battles at most, drawn so that every pair of models gets as many as the others (give or take one).
        seed: Of the draw.

    Returns:
        Battles, ordered by item and models.
    """
    by_item: dict[int, list[Answer]] = {}
    for answer in answers:
        by_item.setdefault(answer.item_id, []).append(answer)
    by_pair: dict[tuple[int, int], list[BattleRow]] = {}
    for item_id in sorted(by_item):
        ordered = sorted(by_item[item_id], key=lambda a: a.model_id)
        for a, b in itertools.combinations(ordered, 2):
            battle = BattleRow(item_id, a.model_id, b.model_id, a.response_id, b.response_id)
            by_pair.setdefault((a.model_id, b.model_id), []).append(battle)
    battles = [battle for pair in by_pair.values() for battle in pair]
    if limit is not None and limit < len(battles):
        draw = random.Random(seed)
        queues = [draw.sample(pair, len(pair)) for _, pair in sorted(by_pair.items())]
        rounds = itertools.chain.from_iterable(itertools.zip_longest(*queues))
        battles = list(itertools.islice((b for b in rounds if b is not None), limit))
    return sorted(battles, key=lambda b: (b.item_id, b.model_a_id, b.model_b_id))
