"""Juries of a plan: members' verdicts become one, for each criterion; adaptive ones ask only what is open."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from judge_server import JudgeServer, MockServer
from judge_world import JudgeWorld

from evalkit.errors import UserError
from evalkit.estimate import estimate
from evalkit.plan import load_plan
from evalkit.stages import PlanRun, Result, Stage
from evalkit.store import Ledger, VerdictRow

Run = Callable[..., Result]
PROMPTS = 6


class World(JudgeWorld):
    """With prompts of one turn."""

    def __init__(self, folder: Path, url: str, server: JudgeServer) -> None:
        super().__init__(folder, url, server)
        (folder / "p.jsonl").write_text("\n".join(json.dumps({"prompt": f"Question {n}?"}) for n in range(PROMPTS)))

    def plan(self, judges: list[dict[str, Any]], juries: Any, **more: Any) -> Path:
        plan = {
            "store": self.store,
            "models": [self.model(name) for name in ("weak", "strong", "other")],
            "arena": {"prompts": str(self.folder / "p.jsonl"), "sampling": {"max_tokens": 20}},
            "judges": [{**judge, "model": self.model(judge["model"])} for judge in judges],
        }
        path = self.folder / "plan.yaml"
        path.write_text(yaml.safe_dump(plan | ({} if juries is None else {"juries": juries}) | more))
        return path

    def run(self, judges: list[dict[str, Any]], juries: Any = None, *stages: Stage, **more: Any) -> Result:
        plan = load_plan(self.plan(judges, juries, **more))
        with Ledger.open(self.store) as ledger:
            return PlanRun(plan).run(ledger, stages) if stages else PlanRun(plan).run(ledger)

    def said(self, who: str) -> list[Any]:
        """Returns (criterion, who won, how often)."""
        return sorted((*what, times) for what, times in self.verdicts(who).items())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    server = JudgeServer()
    with MockServer(server) as running:
        yield World(tmp_path, running.url, server)


def three(**more: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, "model": model, **more}
        for name, model in (("one", "judge"), ("two", "judge-two"), ("biased", "judge-first"))
    ]


def test_by_default_the_majority_of_all_judges(world: World) -> None:
    world.run(three())
    # `other` is as good as `strong`, and the third judge contradicts itself everywhere.
    assert world.said("jury") == [
        ("overall", "other", PROMPTS),
        ("overall", "strong", PROMPTS),
        ("overall", "tie", PROMPTS),
    ]
    (definition,) = world.rows("SELECT definition FROM annotator WHERE name = 'jury'")
    assert json.loads(definition)["aggregation"] == "majority"
    assert world.rows("SELECT DISTINCT rationale FROM verdict WHERE rationale LIKE 'majority%' ORDER BY 1") == [
        "majority: 2 model_b, 1 tie", "majority: 3 tie"
    ]  # fmt: skip


def test_a_jury_for_each_criterion_and_aggregation(world: World) -> None:
    judges = three(prompt="pairwise-json-v1", criteria=["helpfulness", "relevance"])
    judges[2]["criteria"] = ["helpfulness"]
    juries = [
        {
            "name": "weighed",
            "members": ["one", "biased"],
            "aggregation": "weighted",
            "weights": {"one": 2, "biased": 1},
        },
        {"name": "learned", "members": ["one", "two", "biased"], "aggregation": "dawid-skene"},
        {"name": "alone", "members": ["one"]},
    ]
    world.run(judges, juries)
    won = [("other", PROMPTS), ("strong", PROMPTS), ("tie", PROMPTS)]
    assert world.said("weighed") == [("helpfulness", *one) for one in won]
    assert world.said("learned") == [(c, *one) for c in ("helpfulness", "relevance") for one in won]
    assert world.said("alone") == [], "one judge alone makes the board by itself"
    assert world.rows("SELECT count(*) FROM annotator WHERE name = 'jury'") == [0]


def test_a_jury_of_grades_is_their_mean(world: World) -> None:
    judges = three(prompt="score-v1")
    juries = [{"name": "panel", "members": ["one", "two", "biased"], "aggregation": "mean"}]
    result = world.run(judges, juries)
    assert result.status == "done"
    grades = world.rows(
        "SELECT m.label, g.value, count(*) FROM grade g JOIN response r ON r.id = g.response_id JOIN model m ON "
        "m.id = r.model_id JOIN annotator j ON j.id = g.annotator_id WHERE j.name = 'panel' GROUP BY 1, 2 ORDER BY 1"
    )
    assert grades == [("other", 9.0, PROMPTS), ("strong", 9.0, PROMPTS), ("weak", 3.0, PROMPTS)]


def test_a_jurys_verdict_follows_when_a_member_comes_late(world: World) -> None:
    judges = [{"name": "one", "model": "judge"}, {"name": "late", "model": "judge-fails"}]
    assert world.run(judges).status == "failed"
    assert ("overall", "strong", PROMPTS) in world.said("jury"), "of whom can be read"
    with Ledger.open(world.store) as ledger:
        (late,) = world.rows("SELECT id FROM annotator WHERE name = 'late'")
        ids = world.rows("SELECT id FROM battle")
        ledger.add_verdicts(None, [VerdictRow(i, late, order, "tie") for i in ids for order in ("ab", "ba")])
    before = len(world.server.asked)
    world.run(judges, None, "jury")
    assert len(world.server.asked) == before
    assert world.said("jury") == [("overall", "tie", 3 * PROMPTS)], "one for a side and one tie are no majority"
    assert world.rows("SELECT sum(ties), sum(wins_a) + sum(wins_b) FROM tally WHERE annotator_id = (SELECT id FROM "
                      "annotator WHERE name = 'jury')") == [(3 * PROMPTS, 0)]  # fmt: skip


def test_an_adaptive_jury_asks_less_than_its_upper_limit_and_nothing_twice(world: World) -> None:
    judges = three()
    juries = [{"name": "frugal", "members": ["one", "two", "biased"], "adaptive": {"settled": 0.8}}]
    rows = {row.role: row for row in estimate(load_plan(world.plan(judges, juries)))}
    assert [rows[f"judge {name}"].requests for name in ("one", "two", "biased")] == [2 * 3 * PROMPTS] * 3
    assert all(rows[f"judge {name}"].at_most for name in ("one", "two", "biased"))
    world.run(judges, juries)
    asked = len(world.server.of("judge", "judge-two", "judge-first"))
    assert 2 * 3 * PROMPTS <= asked < 3 * 2 * 3 * PROMPTS
    assert sum(row[2] for row in world.said("frugal")) == 3 * PROMPTS
    assert max(world.server.answered.values()) == 1
    probability = world.rows("SELECT probability FROM verdict v JOIN annotator a ON a.id = annotator_id "
                             "WHERE a.name = 'frugal'")  # fmt: skip
    assert all(0 <= one <= 1 for one in probability)
    with Ledger.open(world.store) as ledger, ledger.write() as connection:
        connection.exec_driver_sql("UPDATE run SET status = 'stopped'")
    world.run(judges, juries)
    assert len(world.server.of("judge", "judge-two", "judge-first")) == asked, "the same way through the same answers"


def test_an_adaptive_jury_keeps_its_budget(world: World) -> None:
    judges = three()[:2]
    juries = [{"members": ["one", "two"], "adaptive": {"budget": 5}}]
    models = [world.model(name) for name in ("weak", "strong")]
    rows = {row.role: row.requests for row in estimate(load_plan(world.plan(judges, juries, models=models)))}
    assert (rows["judge one"], rows["judge two"]) == (10, 10)
    world.run(judges, juries, models=models)
    assert len(world.server.of("judge", "judge-two")) == 10
    assert sum(row[2] for row in world.said("jury")) <= 5, "a battle that nobody was asked about has no verdict"


def test_a_verifier_in_an_adaptive_jury_is_free_and_still_grades(world: World) -> None:
    checks = {"verifier": "exact", "answers": ["A good answer in turn 1."]}
    rows = [{"prompt": f"{n}?", "verify": checks} for n in range(4)]
    (world.folder / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    plan = yaml.safe_load(world.plan(three()[:1], None).read_text())
    plan["judges"].append({"name": "v", "kind": "verifier"})
    plan["juries"] = [{"members": ["one", "v"], "adaptive": {"settled": 0.7}}]
    (world.folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    with Ledger.open(world.store) as ledger:
        PlanRun(load_plan(world.folder / "plan.yaml")).run(ledger)
    assert sum(row[2] for row in world.said("v")) == 12, "it costs nothing, so it is asked first"
    assert len(world.server.of("judge")) < 2 * 12
    assert world.rows("SELECT count(*) FROM grade") == [12]


def test_weights_come_from_a_file_or_from_people(world: World) -> None:
    weights = world.folder / "weights.yaml"
    weights.write_text("weights: {one: 0.0, two: 0.0, biased: 1.0}\n")
    jury = {"members": ["one", "two", "biased"], "aggregation": "weighted", "weights": str(weights)}
    world.run(three(), [jury])
    assert world.said("jury") == [("overall", "tie", 3 * PROMPTS)]
    with pytest.raises(UserError, match=r"jury jury: the ledger has no human votes: import some"):
        world.run(three(), [{"members": ["one", "two"], "aggregation": "weighted"}])


@pytest.mark.parametrize(
    ("jury", "said"),
    [
        ({"members": []}, "juries.0.members: must have at least one entry"),
        ({"members": ["one", "one"]}, "members: 'one' stands there twice"),
        ({"members": ["nobody"]}, "no judge is called 'nobody'; there are: one, grader"),
        ({"members": ["one"], "name": "one"}, "'one' is the name of two"),
        (
            {"members": ["one"], "aggregation": "vote"},
            "Input should be 'majority', 'weighted', 'dawid-skene' or 'mean'",
        ),
        ({"members": ["one"], "weights": {"one": 1}}, "the aggregation majority has none"),
        ({"members": ["one"], "aggregation": "weighted", "weights": {"two": 1}}, "'one' must be among both"),
        ({"members": ["one"], "adaptive": {}}, "adaptive: needs two members or more"),
        ({"members": ["one", "grader"], "adaptive": {"settled": 2}}, "juries.0.adaptive.settled: Input should be less"),
        ({"members": ["one", "grader"]}, "jury jury: grader grades answers and one compares them: two juries"),
        ({"members": ["grader"]}, "jury jury: its members grade answers: aggregation must be mean"),
        (
            {"members": ["one"], "aggregation": "weighted", "weights": "none.yaml"},
            "jury jury: weights: none.yaml cannot be read: No such file",
        ),
        ({"members": ["one"], "truth": "people"}, "truth: only for the aggregation weighted"),
        ({"member": ["one"]}, "juries.0.member: unknown key. Did you mean 'members'?"),
    ],
)
def test_a_wrong_jury_is_refused_in_one_sentence(world: World, jury: dict[str, Any], said: str) -> None:
    judges = [{"name": "one", "model": "judge"}, {"name": "grader", "model": "judge", "prompt": "score-v1"}]
    with pytest.raises(UserError) as caught:
        PlanRun(load_plan(world.plan(judges, [jury])))
    assert said in str(caught.value)
    assert caught.value.code == 2
