"""The adaptive jury: what it asks and when it stops, and the same board for half the requests."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from adaptive_jury import GOAL, Arena, at_random, drive, simulated
from scipy import stats

from evalkit.errors import UserError
from judges.adaptive import AdaptiveJury, AdaptiveVerdicts, Member


def rho(arena: Arena, found: AdaptiveVerdicts) -> float:
    return float(stats.spearmanr(found.strength, arena.board(arena.whole(arena.labels)))[0])


def test_the_same_board_for_half_the_requests() -> None:
    arena = simulated(2, battles=2000, models=20)
    found, asked = drive(arena, arena.requests // 2)
    assert asked <= arena.requests // 2
    assert rho(arena, found) >= GOAL
    at_chance = np.mean([at_random(arena, 0.5, seed) for seed in range(5)], axis=0)
    assert rho(arena, found) > at_chance.max() + 0.005
    # Members are known as well as if all had been asked, and ranked rightly.
    assert found.accuracy == pytest.approx([0.85, 0.75, 0.7, 0.65, 0.6], abs=0.1)


def test_what_is_settled_is_right_as_often_as_it_says() -> None:
    arena = simulated(3, battles=2000, models=20)
    found, asked = drive(arena, None, settled=0.9, batch=200)
    assert found.settled.mean() > 0.98 and asked < 0.7 * arena.requests
    right = found.label == arena.whole(arena.labels)
    expected = found.posterior.max(axis=1).mean()
    assert right.mean() == pytest.approx(expected, abs=0.02)
    certain, everything = drive(arena, None, settled=1.0, batch=200)
    assert (certain.label == arena.whole(arena.labels)).all() and asked < everything < arena.requests


def test_a_member_that_cannot_change_the_verdict_is_never_asked() -> None:
    arena = simulated(0, battles=300, models=10)
    weights = (3.0, 1.0, 1.0, 0.5, 0.0)
    jury = AdaptiveJury(arena.pairs, arena.members, settled=1.0, rule="weighted", weights=weights)
    asked = np.zeros(5, dtype=int)
    while asks := jury.next_asks(20):
        for battle, member in asks:
            asked[member] += 1
            jury.tell(battle, member, int(arena.labels[battle, member]))
    assert asked.tolist() == [300, 0, 0, 0, 0]
    assert (jury.verdicts().label == arena.labels[:, 0]).all()


def test_cheap_members_are_asked_first() -> None:
    arena = simulated(0, battles=300, models=10)
    members = [Member("dear", 10.0, 0.8), Member("cheap", 1.0, 0.6), Member("dearer", 12.0, 0.8)]
    jury = AdaptiveJury(arena.pairs, members)
    assert {member for _, member in jury.next_asks(200)} == {1}
    even = AdaptiveJury(arena.pairs, [Member("good", 1.0, 0.8), Member("poor", 1.0, 0.5), Member("fair", 1.0, 0.6)])
    assert {member for _, member in even.next_asks(200)} == {0}


def test_budget_waiting_questions_and_unreadable_answers() -> None:
    pairs = [(0, 1), (1, 2), (0, 2)]
    jury = AdaptiveJury(pairs, [Member("a"), Member("b")], budget=5)
    first = jury.next_asks(10)
    assert sorted(battle for battle, _ in first) == [0, 1, 2]
    assert jury.next_asks(10) == []  # one question a battle at a time
    for battle, member in first:
        jury.tell(battle, member, -1)
    second = jury.next_asks(10)
    assert len(second) == 2 and not set(first) & set(second)  # the budget ends here, and nobody is asked twice
    for battle, member in second:
        jury.tell(battle, member, 0)
    assert jury.next_asks(10) == [] and jury.spent == 5
    found = jury.verdicts()
    assert sorted(found.label.tolist()) == [-1, 0, 0] and found.asked.sum() == 5
    # Where one member cannot be read the other's vote is the jury's.
    assert found.posterior[found.label == 0] == pytest.approx(np.array([[1.0, 0.0, 0.0]] * 2))


def test_answers_known_from_earlier_cost_nothing() -> None:
    arena = simulated(1, battles=100, models=8)
    jury = AdaptiveJury(arena.pairs, arena.members, budget=0)
    for battle, member in itertools.product(range(100), range(5)):
        jury.tell(battle, member, int(arena.labels[battle, member]))
    assert jury.next_asks(10) == [] and jury.spent == 0
    found = jury.verdicts()
    assert (found.label == arena.whole(arena.labels)).all() and found.settled.all()
    with pytest.raises(UserError, match="m0 has already answered on battle 3"):
        jury.tell(3, 0, 1)


def test_the_same_answers_lead_to_the_same_questions() -> None:
    arena = simulated(4, battles=200, models=8)
    runs = []
    for _ in range(2):
        jury, asked = AdaptiveJury(arena.pairs, arena.members, seed=3), []
        while asks := jury.next_asks(7):
            asked += asks
            for battle, member in asks:
                jury.tell(battle, member, int(arena.labels[battle, member]))
        runs.append(asked)
    assert runs[0] == runs[1] and len(set(runs[0])) == len(runs[0])
    other = AdaptiveJury(arena.pairs, arena.members, seed=4)
    assert other.next_asks(50) != AdaptiveJury(arena.pairs, arena.members, seed=3).next_asks(50)


def test_ten_thousand_battles_in_seconds() -> None:
    arena = simulated(5, battles=10_000, models=60)
    start = time.process_time()
    drive(arena, None, batch=500)
    assert time.process_time() - start < 10


def test_no_battles_are_no_questions() -> None:
    jury = AdaptiveJury(np.zeros((0, 2)), [Member("a")])
    assert jury.next_asks(3) == [] and jury.verdicts().label.tolist() == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"battles": [(0, 0)]}, "pairs of two different model codes"),
        ({"members": []}, "1 to 8 members, not 0"),
        ({"members": [Member("a", 0.0)]}, "cost of a is 0"),
        ({"members": [Member("a", 1.0, 0.2)]}, "accuracy of a is 0"),
        ({"settled": 1.5}, "settled is 1"),
        ({"budget": -1}, "budget is -1"),
        ({"rule": "mean"}, "no rule 'mean'"),
        ({"rule": "weighted"}, "needs a weight for each member"),
        ({"weights": [1.0]}, "no other rule takes any"),
    ],
)
def test_wrong_input_is_a_sentence(options: dict[str, object], sentence: str) -> None:
    given: dict[str, object] = {"battles": [(0, 1)], "members": [Member("a")], **options}
    with pytest.raises(UserError, match=sentence):
        AdaptiveJury(given.pop("battles"), given.pop("members"), **given)  # type: ignore[arg-type]
    jury = AdaptiveJury([(0, 1)], [Member("a")])
    with pytest.raises(UserError, match="the label is 3"):
        jury.tell(0, 0, 3)
