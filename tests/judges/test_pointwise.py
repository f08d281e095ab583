"""The LLM judge of single answers: grades, checklists, replicates, repair, errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from evalkit.models import Reply, RequestFailed
from judges.fight import Case, draw

Make = Callable[..., Any]
LIST = json.dumps({"questions": ["Is it polite?", "Is it right?"]})


def detail(row: dict[str, Any]) -> Any:
    return json.loads(row["detail"])


def score(conversation: str) -> str:
    return "Fine. [[9]]" if "good" in conversation else "Meh. [[2]]"


def test_each_answer_gets_a_grade_with_its_reason_and_the_judges_answer(make_world: Make, saying: Make) -> None:
    world = make_world(("good", "poor"))
    rows = world.judged(saying(score), "score-v1")
    assert [(r["response_id"], r["criterion"], r["value"], r["error"]) for r in rows] == [
        (world.answers[0], "overall", 9.0, None),
        (world.answers[1], "overall", 2.0, None),
    ]
    said = {r["id"]: r["text"] for r in world.rows("response")}
    assert said[detail(rows[0])["response_id"]] == "Fine. [[9]]"
    assert (detail(rows[0])["rationale"], detail(rows[0])["seconds"]) == ("Fine.", 0.5)


def test_replicates_and_repair(make_world: Make, saying: Make) -> None:
    world = make_world(("good", "poor"))
    judge = saying(lambda said: "[[5]]" if "nce more with" in said else "[[11]]")
    rows = world.judged(judge, "score-v1", replicates=2)
    assert [(r["replicate"], r["value"]) for r in rows] == [(0, 5.0), (1, 5.0)] * 2
    assert len(judge.asked) == 8
    assert detail(rows[0])["seconds"] == 1.0


def test_a_score_off_the_scale_is_an_error_and_never_clamped(make_world: Make, saying: Make) -> None:
    rows = make_world(("good", "poor")).judged(saying(lambda _: "[[11]]"), "score-v1")
    assert [r["value"] for r in rows] == [None, None]
    assert all("not on the scale" in r["error"] for r in rows)
    assert all(detail(r)["response_id"] for r in rows)


def test_probability_weighted_scores(make_world: Make, saying: Make) -> None:
    top = [["4", -0.6931472], ["5", -0.6931472]]
    reply = Reply("4", logprobs=[{"token": "4", "logprob": -0.6931472, "top": top}])
    rows = make_world(("x", "y")).judged(saying(lambda _: reply), "g-eval-v1", criteria=["fluency"])
    assert [r["value"] for r in rows] == pytest.approx([4.5, 4.5])
    assert detail(rows[0])["distribution"]


def test_without_log_probabilities_the_digit_counts(make_world: Make, saying: Make) -> None:
    rows = make_world(("x", "y")).judged(saying(lambda _: "4"), "g-eval-v1", criteria=["fluency"])
    assert [r["value"] for r in rows] == [4.0, 4.0]


def checklist(said: str) -> str:
    if "<questions>" not in said:
        return LIST
    met = [True, "good" in said]
    return json.dumps({"answers": [{"question": n, "reason": "", "met": m} for n, m in enumerate(met, 1)]})


def test_a_checklist_is_asked_for_once_an_item_and_kept(make_world: Make, saying: Make) -> None:
    world, judge = make_world(("good", "poor"), ("poor", "good")), saying(checklist)
    rows = world.judged(judge, "checklist-v1")
    assert [r["value"] for r in rows] == [1.0, 0.5, 0.5, 1.0]
    assert len(judge.asked) == 2 + 4, "one list an item, whatever the number of answers"
    lists = [request for request in judge.asked if "<questions>" not in str(request.messages)]
    assert not any("good" in str(r.messages[-1]) or "poor" in str(r.messages[-1]) for r in lists), "no answer is shown"
    said = {r["id"]: r["text"] for r in world.rows("response")}
    assert all(said[detail(r)["checklist_response_id"]] == LIST for r in rows)
    again = saying(checklist)
    assert world.judged(again, "checklist-v1") == rows
    assert again.asked == []


def test_an_items_own_checklist_is_used(make_world: Make, saying: Make) -> None:
    judge = saying(checklist)
    world = make_world(("good", "poor"), reference={"checklist": ["Is it there?", "Is it right?"]})
    assert [r["value"] for r in world.judged(judge, "checklist-v1")] == [1.0, 0.5]
    assert len(judge.asked) == 2
    assert "Is it there?" in str(judge.asked[0].messages)


def test_a_checklist_that_cannot_be_read_is_asked_for_once_more(make_world: Make, saying: Make) -> None:
    def say(said: str) -> str:
        return checklist(said) if "<answer>" in said or "once more" in said else "Let me think."

    judge = saying(say)
    assert [r["value"] for r in make_world(("good", "poor")).judged(judge, "checklist-v1")] == [1.0, 0.5]
    assert len(judge.asked) == 1 + 1 + 2


@pytest.mark.parametrize(
    ("said", "why"),
    [("I would rather not.", "no list of questions"), (RequestFailed("server", "down"), "no checklist: server: down")],
)
def test_without_a_checklist_the_grades_are_errors(make_world: Make, saying: Make, said: Any, why: str) -> None:
    world, judge = make_world(("good", "poor")), saying(lambda _: said)
    rows = world.judged(judge, "checklist-v1", replicates=2)
    assert [(r["value"], r["replicate"]) for r in rows] == [(None, 0), (None, 1)] * 2
    assert all(why in r["error"] for r in rows)
    if isinstance(said, RequestFailed):
        assert {r["value"] for r in world.judged(saying(checklist), "checklist-v1", replicates=2)} == {1.0, 0.5}


def test_a_limited_judge_grades_a_draw() -> None:
    cases = [Case(i, i, ("q",), None, "", ("a",)) for i in range(50)]
    drawn = draw(cases, 10, 0)
    assert len(drawn) == 10
    assert drawn == sorted(drawn, key=lambda c: c.response_id)
    assert {c.response_id for c in drawn} < {c.response_id for c in draw(cases, 20, 0)}
    assert draw(cases, None, 0) == cases
