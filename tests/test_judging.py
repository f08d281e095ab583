"""Plans that judge, against a server whose models judge: what is sent, what is stored, what a dry run says before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from judge_server import JudgeServer, MockServer
from judge_world import JudgeWorld

from evalkit.errors import UserError
from evalkit.estimate import estimate
from evalkit.plan import load_plan
from evalkit.stages import PlanRun, Result
from evalkit.store import Ledger

PROMPTS: list[dict[str, Any]] = [
    {"id": "sum", "prompt": "3 + 4?", "verify": {"verifier": "exact", "answers": ["A good answer in turn 1."]}},
    {"id": "sky", "prompt": "Why is the sky blue?", "reference": "Scattering.", "tags": {"category": "reasoning"}},
    {"id": "talk", "turns": ["Tell me a joke.", "Another one."], "reference": ["Ha.", "Haha."]},
]


class World(JudgeWorld):
    """With prompts of one and of two turns."""

    def __init__(self, folder: Path, url: str, server: JudgeServer) -> None:
        super().__init__(folder, url, server)
        (folder / "prompts.jsonl").write_text("\n".join(json.dumps(p) for p in PROMPTS))

    def plan(self, judges: list[dict[str, Any]], **more: Any) -> Path:
        for judge in judges:
            if isinstance(judge.get("model"), str):
                judge["model"] = self.model(judge["model"])
        plan = {
            "store": self.store,
            "models": [self.model("weak"), self.model("strong")],
            "arena": {"prompts": str(self.folder / "prompts.jsonl"), "sampling": {"max_tokens": 50}},
            "judges": judges,
        }
        path = self.folder / "plan.yaml"
        path.write_text(yaml.safe_dump(plan | more))
        return path

    def run(self, judges: list[dict[str, Any]], **more: Any) -> Result:
        """Runs a plan, after a look at what it would send: that is what it then sends."""
        plan = load_plan(self.plan(judges, **more))
        before = len(self.server.asked)
        rows = estimate(plan)
        assert len(self.server.asked) == before, "a dry run sends nothing"
        with Ledger.open(self.store) as ledger:
            result = PlanRun(plan).run(ledger)
        self.counted = {row.role: row.requests for row in rows}
        self.sent = len(self.server.asked) - before
        return result

    def grades(self, judge: str) -> list[Any]:
        return self.rows(
            "SELECT m.label, i.messages, r.turn, g.criterion, g.value FROM grade g JOIN response r ON r.id = "
            "g.response_id JOIN model m ON m.id = r.model_id JOIN item i ON i.id = r.item_id JOIN annotator j ON "
            f"j.id = g.annotator_id WHERE j.name = '{judge}' ORDER BY g.id"
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    server = JudgeServer()
    with MockServer(server) as running:
        yield World(tmp_path, running.url, server)


def test_both_orders_of_every_turn_and_nothing_the_second_time(world: World) -> None:
    judges = [{"name": "j", "model": "judge"}]
    assert world.run(judges).status == "done"
    assert world.counted == {"contestant": 4, "judge j": 4 * 2}, "the last row of two contestants"
    assert world.sent == 2 * 4 + 8
    assert world.verdicts("j") == {("overall", "strong"): 8}
    assert world.rows("SELECT turn, count(*) FROM battle GROUP BY 1") == [(1, 3), (2, 1)]
    again = world.run(judges)
    assert (again.fresh, world.sent, world.counted) == (False, 0, {"contestant": 0, "judge j": 0})
    more = world.run([{"name": "j", "model": "judge"}, {"name": "first", "model": "judge-first"}])
    assert (more.status, world.sent) == ("done", 8), "only the new judge is asked"
    assert world.counted["judge first"] == 8


def test_a_conversation_goes_on_with_the_models_own_answers(world: World) -> None:
    world.run([{"name": "j", "model": "judge"}])
    asked = [p["messages"] for p in world.server.of("weak") if len(p["messages"]) > 1]
    assert asked == [
        [
            {"role": "user", "content": "Tell me a joke."},
            {"role": "assistant", "content": "A poor answer in turn 1."},
            {"role": "user", "content": "Another one."},
        ]
    ]
    judged = [str(p["messages"]) for p in world.server.of("judge") if "Another one." in str(p["messages"])]
    assert len(judged) == 2
    assert all("A poor answer in turn 1." in j and "A good answer in turn 2." in j for j in judged)
    assert world.rows("SELECT turn, count(*) FROM response WHERE text LIKE 'A %' GROUP BY 1") == [(1, 6), (2, 2)]


def test_a_turn_without_an_answer_ends_the_conversation(world: World) -> None:
    (world.folder / "prompts.jsonl").write_text(json.dumps(PROMPTS[2]))
    failing = [world.model("judge-fails"), world.model("strong")]
    result = world.run([{"name": "j", "model": "judge"}], models=failing)
    assert (result.status, result.errors) == ("failed", 1)
    assert world.rows("SELECT turn, error_kind FROM response WHERE error_kind IS NOT NULL") == [(1, "bad_request")]
    assert world.rows("SELECT count(*) FROM battle") == [0]


def test_criteria_together_replicates_and_one_order(world: World) -> None:
    judges = [
        {
            "name": "j",
            "model": "judge",
            "prompt": "pairwise-json-v1",
            "criteria": ["helpfulness", {"name": "wit", "description": "Which one is funnier?"}],
            "orders": "random",
            "replicates": 2,
            "battles": 3,
        }
    ]
    world.run(judges)
    assert world.counted["judge j"] == 3 * 2 == len(world.server.of("judge"))
    assert world.verdicts("j") == {("helpfulness", "strong"): 6, ("wit", "strong"): 6}
    assert all(p["response_format"]["type"] == "json_schema" for p in world.server.of("judge"))
    assert world.rows("SELECT rationale FROM verdict LIMIT 1") == ["I compared them."]
    judges[0]["battles"] = 4
    world.run(judges)
    assert world.sent == world.counted["judge j"] == 2, "a larger draw holds the smaller one"


def test_a_server_that_refuses_structured_output_is_asked_without(world: World) -> None:
    world.server.schemas = False
    world.run([{"name": "j", "model": "judge", "prompt": "pairwise-json-v1", "criteria": ["overall"]}])
    assert world.verdicts("j") == {("overall", "strong"): 8}
    (warning,) = set(world.rows("SELECT warnings FROM response WHERE warnings IS NOT NULL"))
    assert "refuses `response_format`" in warning


def test_log_probabilities_become_probabilities(world: World) -> None:
    world.run([{"name": "j", "model": "judge", "prompt": "alpaca-eval-v1", "orders": "both"}])
    probabilities = world.rows(
        "SELECT CASE m.label WHEN 'strong' THEN probability ELSE 1 - probability END FROM verdict v JOIN battle b "
        "ON b.id = v.battle_id JOIN model m ON m.id = b.model_a_id"
    )
    assert probabilities == pytest.approx([0.909] * 8, abs=1e-3)
    world.server.logprobs = False
    world.run([{"name": "plain", "model": "judge-plain", "prompt": "alpaca-eval-v1"}])
    assert world.counted["judge plain"] == 4, "its protocol shows each battle once"
    rows = world.rows(
        "SELECT v.probability FROM verdict v JOIN annotator a ON a.id = annotator_id WHERE a.name = 'plain'"
    )
    assert rows == [None] * 4
    assert world.verdicts("plain") == {("overall", "strong"): 4}


def test_an_unreadable_judge_is_asked_once_more(world: World) -> None:
    world.run([{"name": "mumbles", "model": "judge-mumbles"}, {"name": "silent", "model": "judge-silent"}])
    assert world.counted["judge mumbles"] == 8
    assert len(world.server.of("judge-mumbles")) == len(world.server.of("judge-silent")) == 16
    assert world.verdicts("mumbles") == {("overall", "strong"): 8}
    assert world.verdicts("silent") == {("overall", None): 8}
    assert world.rows("SELECT count(*) FROM response WHERE text = 'Hard to say.'") == [8 + 16]
    rows = estimate(load_plan(world.plan([{"name": "mumbles", "model": "judge-mumbles"}])))
    assert {row.role: (row.requests, row.cached) for row in rows}["judge mumbles"] == (0, 16)


def test_a_judge_that_fails_is_an_error_and_tried_again(world: World) -> None:
    judges = [{"name": "j", "model": "judge-fails"}]
    result = world.run(judges)
    assert (result.status, result.errors) == ("failed", 8)
    assert world.rows("SELECT DISTINCT error FROM verdict")[0].startswith("bad_request: ")
    before = world.sent
    assert world.run(judges).errors == 8
    assert before - world.sent == 8, "the contestants are not asked again"


def test_grades_of_single_answers(world: World) -> None:
    judges: list[dict[str, Any]] = [
        {"name": "score", "model": "judge", "prompt": "score-v1"},
        {"name": "weighted", "model": "judge", "prompt": "g-eval-v1", "criteria": ["fluency"], "replicates": 2},
    ]
    world.run(judges)
    assert (world.counted["judge score"], world.counted["judge weighted"]) == (8, 16)
    assert world.sent == 8 + 8 + 16
    assert {(label, value) for label, _, _, _, value in world.grades("score")} == {("weak", 3.0), ("strong", 9.0)}
    weighted = {label: value for label, _, _, _, value in world.grades("weighted")}
    assert weighted == pytest.approx({"weak": 1.909, "strong": 4.5}, abs=1e-3)
    assert world.rows("SELECT count(*) FROM verdict") == [0]
    again = world.run([*judges, {"name": "few", "model": "judge", "prompt": "score-v1", "answers": 3}])
    assert (again.status, world.sent) == ("done", 0), "the same model was asked the same by another judge"
    assert len(world.grades("few")) == 3


def test_checklists_are_asked_for_once_and_counted_before(world: World) -> None:
    judges = [{"name": "j", "model": "judge", "prompt": "checklist-v1"}]
    world.run(judges)
    assert world.counted["judge j"] == 4 + 8 == len(world.server.of("judge"))
    assert {(label, value) for label, _, _, _, value in world.grades("j")} == {("weak", 0.5), ("strong", 1.0)}
    world.run([{**judges[0], "replicates": 2}])
    assert world.sent == world.counted["judge j"] == 8, "the lists are there"


def test_a_verifier_compares_and_grades(world: World) -> None:
    world.run([{"name": "v", "kind": "verifier"}])
    assert world.verdicts("v") == {("overall", "strong"): 1}
    assert [(label, value) for label, _, _, _, value in world.grades("v")] == [("weak", 0.0), ("strong", 1.0)]


def test_the_dollar_budget_keeps_requests_back_and_says_so(world: World) -> None:
    prices = world.folder / "prices.yaml"
    prices.write_text(
        yaml.safe_dump({"prices": [{"model": m, "input": 0, "output": p} for m, p in
                                   (("judge", 1000), ("weak", 0), ("strong", 0))]})
    )  # fmt: skip
    judges = [{"name": "j", "model": {**world.model("judge"), "sampling": {"max_tokens": 100}}}]
    result = world.run(judges, prices=str(prices), budget={"dollars": 0.1})
    assert result.status == "failed"
    assert 0 < result.not_sent < 8
    assert sum(world.verdicts("j").values()) == 8 - result.not_sent, "what was not sent is no verdict"


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ({"prompt": "none-v1"}, "no judge prompt 'none-v1'"),
        ({"criteria": ["helpfulnes"]}, "Did you mean 'helpfulness'"),
        ({"criteria": ["none.yaml"]}, "none.yaml"),
        ({"prompt": "score-v1", "battles": 3}, "judge j: battles: its prompt score-v1 grades single answers"),
        ({"prompt": "score-v1", "orders": "both"}, "judge j: orders: its prompt score-v1 grades single answers"),
        ({"answers": 3}, "judge j: answers: its prompt pairwise-v1 compares two answers, so it has none"),
        ({"criteria": [{"name": "wit"}]}, "description"),
        ({"replicates": 0}, "judges.0.replicates: Input should be greater than 0"),
        ({"orders": "once"}, "judges.0.orders: Input should be 'both' or 'random', not 'once'"),
        ({"kind": "verifier", "model": None, "criteria": ["wit"]}, "a verifier asks nobody, so it has none"),
        ({"model": {"model": "openai/x", "system": "Hi"}}, "a judge's system prompt stands in its prompt file"),
        ({"prompts": "x"}, "judges.0.prompts: unknown key. Did you mean 'prompt'? Allowed: name, kind,"),
    ],
)
def test_a_wrong_judge_is_refused_before_anything_is_sent(world: World, judge: dict[str, Any], said: str) -> None:
    path = world.plan([{"name": "j", "model": "judge", **judge}])
    with pytest.raises(UserError) as caught:
        PlanRun(load_plan(path))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.code == 2
    assert world.server.asked == []


def test_all_meet_a_baseline(world: World) -> None:
    models = [world.model(name) for name in ("weak", "strong", "other")]
    arena = {"prompts": str(world.folder / "prompts.jsonl"), "baseline": "weak"}
    world.run([{"name": "j", "model": "judge"}], models=models, arena=arena)
    assert world.rows("SELECT count(*) FROM battle") == [2 * 4]
    with pytest.raises(UserError, match="no model is called 'nobody'; there are: weak, strong"):
        load_plan(world.plan([], arena={**arena, "baseline": "nobody"}))
