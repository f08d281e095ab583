"""Which answers meet."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from judges.battles import Answer, pair_up


def answers(models: int, items: int, missing: frozenset[tuple[int, int]] = frozenset()) -> list[Answer]:
    rows = [
        Answer(1000 * model + item, item, model)
        for model in range(models)
        for item in range(items)
        if (model, item) not in missing
    ]
    random.Random(1).shuffle(rows)
    return rows


def test_all_pairs_meet_on_every_item_once() -> None:
    battles = pair_up(answers(4, 5), limit=None, seed=0)
    assert len(battles) == 6 * 5
    assert len({(b.item_id, b.model_a_id, b.model_b_id) for b in battles}) == 30
    for b in battles:
        assert b.model_a_id < b.model_b_id
        assert (b.response_a_id, b.response_b_id) == (1000 * b.model_a_id + b.item_id, 1000 * b.model_b_id + b.item_id)


def test_a_missing_answer_costs_its_own_battles_only() -> None:
    battles = pair_up(answers(3, 4, frozenset({(0, 2)})), limit=None, seed=0)
    assert len(battles) == 3 * 4 - 2
    assert all(b.item_id != 2 or b.model_a_id != 0 for b in battles)


@pytest.mark.parametrize("limit", [1, 7, 13, 29])
def test_a_limit_is_kept_and_shared_evenly_by_the_pairs(limit: int) -> None:
    battles = pair_up(answers(4, 5), limit=limit, seed=0)
    assert len(battles) == limit
    counts = Counter((b.model_a_id, b.model_b_id) for b in battles)
    shares = [counts.get((a, b), 0) for a in range(4) for b in range(a + 1, 4)]
    assert max(shares) - min(shares) <= 1
    assert battles == sorted(battles, key=lambda b: (b.item_id, b.model_a_id, b.model_b_id))


def test_the_seed_alone_decides_the_draw() -> None:
    draws = [pair_up(answers(4, 20), limit=30, seed=seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    reordered = sorted(answers(4, 20), key=lambda a: -a.response_id)
    assert pair_up(reordered, limit=30, seed=0) == draws[0]


def test_no_battle_without_two_answers() -> None:
    assert pair_up([], limit=None, seed=0) == []
    assert pair_up(answers(1, 5), limit=3, seed=0) == []
    assert len(pair_up(answers(2, 3), limit=100, seed=0)) == 3
