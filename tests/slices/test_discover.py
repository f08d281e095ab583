"""Slices in a whole ledger: a planted failure is found and stored, none is where none was planted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from evalkit.errors import UserError
from evalkit.models.base import ModelSettings, Reply, request_key
from evalkit.slices import embed as embedding
from evalkit.slices.discover import SliceSettings, discover, find_slices
from evalkit.slices.halves import HELD_OUT, TRAIN, stored_halves
from evalkit.slices.naming import ask_name
from evalkit.store import Item, Ledger, ResponseRow, frames_training
from evalkit.store.rows import BattleRow, GradeRow, ScoreRow, VerdictRow

METRIC = "passed,none"
TOPICS = ("rivers", "music", "bread", "chess", "winter", "trains")
WHO = (
    "Ada",
    "Ben",
    "Cleo",
    "Dan",
    "Eva",
    "Finn",
    "Gus",
    "Hal",
    "Ida",
    "Jo",
    "Kim",
    "Lea",
    "Max",
    "Nora",
    "Otto",
    "Pia",
)
WHAT = ("about", "against", "because of", "in spite of", "next to")


class World:
    """A run of one model over prompts on six topics, in two forms; `fails` says which answers are wrong."""

    def __init__(self, ledger: Ledger, fails: Callable[[int, str, str], bool], *, graded: bool = True) -> None:
        self.prompts = [
            (f"{who} wrote to Mr. {who[::-1]} {what} the {topic} again.", topic, ("json", "free")[(i + j) % 2])
            for i, who in enumerate(WHO)
            for j, what in enumerate(WHAT)
            for topic in TOPICS
        ]
        items = [
            Item(({"role": "user", "content": text},), None, {"topic": topic, "format": form, "language": "en"})
            for text, topic, form in self.prompts
        ]
        self.model, self.other = ledger.add_models(
            [ModelSettings("openai", "a", label="a"), ModelSettings("openai", "b", label="b")]
        )
        self.dataset, self.items = ledger.add_dataset("tales", items)
        self.run = ledger.start_run("r", {}, seed=0, environment={})
        self.failed = [fails(k, topic, form) for k, (_, topic, form) in enumerate(self.prompts)]
        rows = []
        for k, item_id in enumerate(self.items):
            body = f'{{"item":{k}}}'
            reply = Reply("a wrong answer" if self.failed[k] else "a right answer", finish_reason="stop")
            rows.append(ResponseRow(self.model, item_id, self.dataset, request_key(body), body, reply))
        self.responses = ledger.add_responses(self.run, rows)
        if graded:
            grader = ledger.add_annotator("metric", f"tales {METRIC}", {})
            ledger.add_grades(
                [
                    GradeRow(r, grader, METRIC, float(not bad))
                    for r, bad in zip(self.responses, self.failed, strict=True)
                ]
            )
            share = 1 - sum(self.failed) / len(self.failed)
            ledger.set_scores(self.run, [ScoreRow(self.model, self.dataset, METRIC, share, 0.01, len(items))])


@pytest.fixture(autouse=True)
def without_minilm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger.open(str(tmp_path / "ledger.db")) as one:
        yield one


def noise(rate: float, seed: int = 0) -> Callable[[int], bool]:
    drawn = np.random.default_rng(seed).random(10_000)
    return lambda k: bool(drawn[k] < rate)


def planted(k: int, topic: str, form: str) -> bool:
    return noise(0.9)(k) if topic == "rivers" else noise(0.15)(k)


def test_a_planted_failure_is_found_confirmed_and_stored(ledger: Ledger) -> None:
    world = World(ledger, planted)
    found = discover(ledger, world.run, world.model)
    assert [dict(one.where) for one in found] == [{"topic": "rivers"}]
    one = found[0]
    assert one.name == "topic = rivers" and one.about == "prompts" and one.metric == METRIC
    assert one.dataset_id == world.dataset
    halves = stored_halves(ledger, world.items)
    members = {item for item, (_, topic, _) in zip(world.items, world.prompts, strict=True) if topic == "rivers"}
    assert dict(one.items) == {item: halves[item] for item in members}
    assert set(one.examples) <= {item for item in members if halves[item] == TRAIN}
    failed = dict(zip(world.items, world.failed, strict=True))
    held = [failed[item] for item in members if halves[item] == HELD_OUT]
    assert (one.held_out.counts.n, one.held_out.counts.failed) == (len(held), sum(held))
    assert one.held_out.lower < one.held_out.counts.effect < one.held_out.upper
    assert one.held_out.q_value < 1e-6 and one.stability > 0.9

    rows = frames_training.slices(ledger)
    assert rows["slice_id"].tolist() == [one.slice_id]
    row = rows.iloc[0]
    assert (row["slice"], row["where"], row["support"]) == ("topic = rivers", "topic = rivers", len(members))
    assert (row["n"], row["held_out_n"]) == (one.discovery.n, len(held))
    assert row["effect"] == pytest.approx(one.held_out.counts.effect)
    shown = frames_training.slice_answers(ledger, one.slice_id, limit=None)
    assert set(shown["item_id"]) == {item for item in members if halves[item] == TRAIN}
    assert frames_training.slice_material(ledger, one.slice_id)["failed"] == one.discovery.failed


def test_a_second_search_finds_and_stores_the_same(ledger: Ledger) -> None:
    world = World(ledger, planted)
    first, second = (discover(ledger, world.run, world.model) for _ in range(2))
    assert first == second
    assert len(frames_training.slices(ledger)) == 1


def test_a_planted_pair_of_features_is_found(ledger: Ledger) -> None:
    def fails(k: int, topic: str, form: str) -> bool:
        return noise(0.95)(k) if (topic, form) == ("chess", "json") else noise(0.1)(k)

    world = World(ledger, fails)
    found = discover(ledger, world.run, world.model, settings=SliceSettings(resamples=5))
    assert {"topic": "chess", "format": "json"} in [dict(one.where) for one in found]


def test_no_slice_is_confirmed_where_failures_are_anywhere(ledger: Ledger) -> None:
    world = World(ledger, lambda k, topic, form: noise(0.4, seed=5)(k))
    assert discover(ledger, world.run, world.model) == []
    assert frames_training.slices(ledger).empty


def test_nothing_fails_or_everything_does(ledger: Ledger) -> None:
    world = World(ledger, lambda k, topic, form: True)
    found = find_slices(ledger, world.run, world.model)
    assert found.slices == () and found.failed == found.answers


def test_battles_decide_where_no_metric_does_and_people_against_judges_is_a_feature(ledger: Ledger) -> None:
    world = World(ledger, planted, graded=False)
    person, judge = ledger.add_annotator("human", "p", {}), ledger.add_annotator("judge", "j", {})
    rows = [BattleRow(item, world.model, world.other, r) for item, r in zip(world.items, world.responses, strict=True)]
    verdicts = []
    for k, battle in enumerate(ledger.add_battles(rows)):
        winner = "model_b" if world.failed[k] else "model_a"
        why = "it ignores the geography entirely" if world.prompts[k][1] == "rivers" else "fine"
        verdicts.append(VerdictRow(battle, judge, "ab", winner, rationale=why))
        if k % 2 == 0:
            verdicts.append(VerdictRow(battle, person, "", winner))
    ledger.add_verdicts(None, verdicts)
    found = discover(ledger, world.run, world.model, settings=SliceSettings(resamples=3))
    assert [dict(one.where) for one in found] == [{"topic": "rivers"}]
    assert found[0].metric == "battles"
    assert any("geography" in name for name in found[0].also)


def test_a_slice_in_the_users_words_is_measured_without_a_search(ledger: Ledger) -> None:
    world = World(ledger, planted)
    found = discover(ledger, world.run, world.model, settings=SliceSettings(where={"topic": "music", "format": "json"}))
    assert len(found) == 1 and found[0].slice_id is not None
    assert found[0].held_out.q_value == found[0].held_out.p_value > 0.05
    for where, message in (
        ({"mood": "x"}, "no feature 'mood'; there are|no feature 'mood' here; there are .*topic"),
        ({"topic": "tea"}, "topic = tea; others: .*rivers"),
    ):
        with pytest.raises(UserError, match=message):
            discover(ledger, world.run, world.model, settings=SliceSettings(where=where))


def test_answers_of_nobody_are_said_so(ledger: Ledger) -> None:
    world = World(ledger, planted)
    with pytest.raises(UserError, match="no answer of this model that was graded"):
        discover(ledger, world.run, world.other)


def test_the_command_prints_stores_and_speaks_json(ledger: Ledger, tmp_path: Path) -> None:
    from evalkit.cli import app

    World(ledger, planted)
    place = ["--store", str(tmp_path / "ledger.db"), "--model", "a", "--resamples", "3"]
    run = CliRunner().invoke(app, ["slices", *place, "--tree"])
    assert run.exit_code == 0, run.output
    assert "topic = rivers" in run.output and "capability tree" in run.output
    told = json.loads(CliRunner().invoke(app, ["slices", *place, "--json"]).stdout)
    row = told["rows"][0]["slices"][0]
    assert (row["slice"], row["slice_id"], row["confirmed"]) == ("topic = rivers", 1, True)
    assert "items" not in row
    named = CliRunner().invoke(app, ["slices", *place, "--where", "topic=music", "--json"])
    assert json.loads(named.stdout)["rows"][0]["slices"][0]["slice"] == "topic = music"
    for wrong, message in ((["--where", "topic"], "FEATURE=VALUE"), (["--model", "c"], "no model 'c'; it has a")):
        failed = CliRunner().invoke(app, ["slices", *place, *wrong])
        assert failed.exit_code != 0 and message in str(failed.exception)


class Sayer:
    """A model that says one thing."""

    settings = ModelSettings("openai", "sayer")

    def __init__(self, text: str) -> None:
        self.text, self.asked = text, ""

    async def reply(self, request) -> Reply:
        self.asked = request.messages[0]["content"]
        return Reply(self.text, finish_reason="stop")


@pytest.mark.parametrize(
    ("said", "name"),
    [('Name: "River geography".\nBecause', "River geography"), ("\x1b[31mred", "[31mred"), ("", ""), ("a " * 9, "")],
)
def test_a_models_name_for_a_group_is_cleaned_or_refused(said: str, name: str) -> None:
    model = Sayer(said)
    assert asyncio.run(ask_name(model, ["river"], ["Where is the Rhine?"])) == name
    assert "Where is the Rhine?" in model.asked
