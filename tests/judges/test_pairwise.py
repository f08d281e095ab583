"""The LLM judge of pairs: orders, replicates, criteria, repair, errors, probabilities, and the draw."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from evalkit.models import Reply, RequestFailed
from judges import pairwise
from judges.fight import Fight, draw
from judges.prompt import load_prompt

PROMPT = load_prompt("pairwise-v1")
Make = Callable[..., Any]


def better(conversation: str) -> str:
    """Prefers the answer that says `good`, wherever it stands."""
    first = conversation.partition("<answer_1>")[2].partition("</answer_1>")[0]
    return "I compared them. [[1]]" if "good" in first else "I compared them. [[2]]"


def test_both_orders_name_the_same_model(make_world: Make, saying: Make) -> None:
    rows = make_world(("good", "poor"), ("poor", "good")).judged(saying(better))
    assert [(r["battle_id"], r["order_shown"], r["winner"]) for r in rows] == [
        (1, "ab", "model_a"),
        (1, "ba", "model_a"),
        (2, "ab", "model_b"),
        (2, "ba", "model_b"),
    ]
    assert all(r["response_id"] and r["seconds"] == 0.5 and r["error"] is None for r in rows)
    assert {r["rationale"] for r in rows} == {"I compared them."}


def test_a_contradiction_stays_as_data_and_is_a_tie_on_the_board(make_world: Make, saying: Make) -> None:
    world = make_world(("one", "two"))
    assert [r["winner"] for r in world.judged(saying(lambda _: "[[1]]"))] == ["model_a", "model_b"]
    (cell,) = world.ledger.engine.connect().exec_driver_sql("SELECT wins_a, wins_b, ties, errors FROM tally").all()
    assert tuple(cell) == (0, 0, 1, 0)


@pytest.mark.parametrize(("said", "winner"), [("[[tie]]", "tie"), ("[[bad]]", "both_bad")])
def test_ties_do_not_depend_on_the_order(make_world: Make, saying: Make, said: str, winner: str) -> None:
    assert [r["winner"] for r in make_world(("one", "two")).judged(saying(lambda _: said))] == [winner, winner]


def test_replicates_are_draws_of_their_own(make_world: Make, saying: Make) -> None:
    world, judge = make_world(("good", "poor")), saying(better)
    rows = world.judged(judge, replicates=3)
    assert sorted((r["order_shown"], r["replicate"]) for r in rows) == [(o, n) for o in ("ab", "ba") for n in range(3)]
    assert sorted(request.sample for request in judge.asked) == [0, 0, 1, 1, 2, 2]
    more = saying(better)
    assert len(world.judged(more, replicates=4)) == 8
    assert [request.sample for request in more.asked] == [3, 3], "only the new replicate is asked for"


def test_an_answer_that_cannot_be_read_is_asked_for_once_more(make_world: Make, saying: Make) -> None:
    world = make_world(("good", "poor"))
    judge = saying(lambda said: "[[1]]" if "nce more with" in said else "Hard to say.")
    rows = world.judged(judge)
    assert [(r["winner"], r["error"], r["seconds"]) for r in rows] == [("model_a", None, 1.0), ("model_b", None, 1.0)]
    repair = judge.asked[-1].messages
    assert [m["role"] for m in repair][-2:] == ["assistant", "user"]
    assert repair[-2]["content"] == "Hard to say."
    said = {r["id"]: r["text"] for r in world.rows("response")}
    assert [said[r["response_id"]] for r in rows] == ["[[1]]", "[[1]]"]
    assert list(said.values()).count("Hard to say.") == 2, "what could not be read stays"


def test_what_cannot_be_read_twice_is_an_error_and_no_tie(make_world: Make, saying: Make) -> None:
    world, judge = make_world(("one", "two")), saying(lambda _: "Hard to say.")
    rows = world.judged(judge)
    assert [r["winner"] for r in rows] == [None, None]
    assert all("unreadable" in r["error"] and "asked again: unreadable" in r["error"] for r in rows)
    assert len(judge.asked) == 4
    assert all(r["response_id"] in {x["id"] for x in world.rows("response")[2:]} for r in rows)
    again = saying(lambda _: "[[1]]")
    assert [r["winner"] for r in world.judged(again)] == [None, None]
    assert again.asked == [], "what was answered is not bought twice, readable or not"


def test_a_failed_request_is_an_error_that_a_second_run_replaces(make_world: Make, saying: Make) -> None:
    world = make_world(("good", "poor"))
    rows = world.judged(saying(lambda _: RequestFailed("bad_request", "no")))
    assert [(r["winner"], r["error"]) for r in rows] == [(None, "bad_request: no")] * 2
    assert [(r["winner"], r["error"]) for r in world.judged(saying(better))] == [("model_a", None)] * 2


def test_a_repair_that_fails_leaves_the_error_and_is_tried_again(make_world: Make, saying: Make) -> None:
    def say(said: str) -> str | RequestFailed:
        return RequestFailed("server", "down") if "nce more with" in said else "Hard to say."

    world = make_world(("good", "poor"))
    assert ["asked again: server: down" in r["error"] for r in world.judged(saying(say))] == [True] * 2
    later = saying(lambda _: "[[tie]]")
    assert [r["winner"] for r in world.judged(later)] == ["tie", "tie"]
    assert len(later.asked) == 2


def test_a_second_judging_asks_nothing(make_world: Make, saying: Make) -> None:
    world = make_world(("good", "poor"), ("poor", "good"))
    first, again = saying(better), saying(better)
    assert world.judged(first) == world.judged(again)
    assert (len(first.asked), again.asked) == (4, [])


def test_several_criteria_in_one_request(make_world: Make, saying: Make) -> None:
    def say(conversation: str) -> str:
        return json.dumps({"explanation": "why", "verdicts": {"correctness": "first", "relevance": "tie"}})

    world, judge = make_world(("x", "y")), saying(say)
    rows = world.judged(judge, "pairwise-json-v1", criteria=["correctness", "relevance"])
    assert len(judge.asked) == 2
    assert [(r["criterion"], r["order_shown"], r["winner"]) for r in rows] == [
        ("correctness", "ab", "model_a"),
        ("relevance", "ab", "tie"),
        ("correctness", "ba", "model_b"),
        ("relevance", "ba", "tie"),
    ]
    assert all(r["seconds"] == 0.25 for r in rows), "two criteria share the seconds of their request"
    assert judge.asked[0].response_schema is not None


def test_only_what_is_missing_is_asked_for_again(make_world: Make, saying: Make) -> None:
    def say(said: str) -> str:
        missing = {"relevance": "second"} if "nce more with" in said else {"correctness": "first"}
        return json.dumps({"explanation": "why", "verdicts": missing})

    world, judge = make_world(("x", "y")), saying(say)
    rows = world.judged(judge, "pairwise-json-v1", criteria=["correctness", "relevance"], orders="random")
    assert [r["error"] for r in rows] == [None, None]
    assert len({r["response_id"] for r in rows}) == 2
    assert "correctness" not in str(judge.asked[1].messages[-1]["content"])


def test_criteria_that_stand_alone_are_a_request_each(make_world: Make, saying: Make) -> None:
    judge = saying(better)
    rows = make_world(("good", "poor")).judged(
        judge, criteria=["helpfulness", {"name": "wit", "description": "Is it funny?"}]
    )
    assert len(judge.asked) == 4
    assert {r["criterion"] for r in rows} == {"helpfulness", "wit"}


def test_probabilities_are_those_of_model_a_in_either_order(make_world: Make, saying: Make) -> None:
    def say(conversation: str) -> Reply:
        first = "good" in conversation.partition("<output_m>")[2].partition("</output_m>")[0]
        tokens = ["m", "M"] if first else ["M", "m"]
        top = [[tokens[0], -0.1053605], [tokens[1], -2.3025851]]
        return Reply(tokens[0], logprobs=[{"token": tokens[0], "logprob": -0.1053605, "top": top}])

    rows = make_world(("good", "poor")).judged(saying(say), "alpaca-eval-v1", orders="both")
    assert [r["winner"] for r in rows] == ["model_a", "model_a"]
    assert [r["probability"] for r in rows] == pytest.approx([0.9, 0.9], abs=1e-4)


def test_the_reference_is_shown_where_the_protocol_says_so(make_world: Make, saying: Make) -> None:
    judge = saying(lambda _: "[[A]]")
    make_world(("x", "y"), reference={"turns": ["It is 42."]}, category="math").judged(judge, "mt-bench-pair-v1")
    assert judge.asked and all("It is 42." in str(request.messages) for request in judge.asked)
    judge = saying(lambda _: "[[A]]")
    make_world(("x", "y"), reference={"turns": ["It is 42."]}, category="writing").judged(judge, "mt-bench-pair-v1")
    assert judge.asked and not any("It is 42." in str(request.messages) for request in judge.asked)


def fights(n: int) -> list[Fight]:
    return [Fight(i, i, ("q",), None, "", ("a",), ("b",)) for i in range(n)]


def test_random_orders_are_drawn_with_the_seed() -> None:
    orders = [
        [q.order for q in pairwise.questions(fights(200), PROMPT, PROMPT.criteria, orders="random", seed=seed)]
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert 60 < orders[0].count("ab") < 140


def test_a_limited_judge_sees_a_draw_in_order_that_a_larger_one_holds() -> None:
    there = fights(50)
    drawn = draw(there, 10, 0)
    assert len(drawn) == 10
    assert drawn == sorted(drawn, key=lambda f: f.battle_id)
    assert drawn == draw(there, 10, 0) != draw(there, 10, 1)
    assert {f.battle_id for f in drawn} < {f.battle_id for f in draw(there, 20, 0)}
    assert draw(there, None, 0) == draw(there, 99, 0) == there
