"""Which answers meet."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from judges.battles import Answer, pair_up


def answers(models: int, items: int, missing: frozenset[tuple[int, int]] = frozenset()) -> list[Answer]:
    rows = [
        Answer(1000 * model + item, item, model, f"item {item}", f"model {model}")
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


def test_a_larger_draw_holds_the_smaller_one_and_new_items_change_little() -> None:
    few, many = (pair_up(answers(4, 20), limit=limit, seed=0) for limit in (20, 40))
    assert set(few) < set(many)
    grown = pair_up(answers(4, 22), limit=40, seed=0)
    assert len(set(grown) & set(many)) >= 30


def test_what_is_drawn_does_not_hang_on_the_numbers_in_a_ledger() -> None:
    turned = [Answer(a.response_id, 100 - a.item_id, 100 - a.model_id, a.item, a.model) for a in answers(4, 20)]
    drawn = {frozenset((b.response_a_id, b.response_b_id)) for b in pair_up(answers(4, 20), limit=30, seed=0)}
    assert {frozenset((b.response_a_id, b.response_b_id)) for b in pair_up(turned, limit=30, seed=0)} == drawn


def test_only_answers_to_the_same_turn_meet() -> None:
    talks = [Answer(10 * m + turn, 1, m, "item", f"model {m}", turn) for m in (1, 2) for turn in (1, 2)]
    talks.append(Answer(33, 1, 3, "item", "model 3", 2))
    battles = pair_up(talks, limit=None, seed=0)
    assert [(b.turn, b.response_a_id, b.response_b_id) for b in battles] == [
        (1, 11, 21), (2, 12, 22), (2, 12, 33), (2, 22, 33)
    ]  # fmt: skip


def test_all_may_meet_one_baseline_only() -> None:
    battles = pair_up(answers(4, 5), limit=None, seed=0, baseline=2)
    assert len(battles) == 3 * 5
    assert all(2 in (b.model_a_id, b.model_b_id) for b in battles)


def test_no_battle_without_two_answers() -> None:
    assert pair_up([], limit=None, seed=0) == []
    assert pair_up(answers(1, 5), limit=3, seed=0) == []
    assert len(pair_up(answers(2, 3), limit=100, seed=0)) == 3
