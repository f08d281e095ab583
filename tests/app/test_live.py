"""Free-prompt battles: what is asked of whom, what is stored, and what becomes of failures, limits and empty pages."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from stream_server import Said, StreamServer

from app import live
from app.live import PROMPT_CHARS, TURNS, Desk
from app.live_talk import Arena, Talk
from evalkit.errors import UserError
from evalkit.models import ChatModel, ModelSettings
from evalkit.models.load import load_model
from evalkit.plan import ModelPlan
from evalkit.store import BattleRow, Ledger, arena, frames, schema
from evalkit.store import live as store
from evalkit.store.ledger_app import BallotRow, People
from evalkit.store.live import Contestant
from evalkit.store.rows import Winner
from evalkit.store.voting import CampaignRow


class World:
    """A ledger, a server that streams, and a desk between them."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger.open(str(folder / "ledger.db"))
        self.people = People(self.ledger)
        self.script: Callable[[dict[str, Any]], Said] = lambda payload: Said((f"{payload['model']} ", "says hi"))
        self.server = StreamServer(lambda payload: self.script(payload)).__enter__()
        self.voter = self.people.ensure_member("v", "v", "voter").annotator_id
        self.desk = Desk(self.people, self.load)
        self.loads: list[ModelPlan] = []
        self.campaign = CampaignRow(self.people.add_campaign("live", mode="free"), "live", "free")

    def load(self, plan: ModelPlan) -> ChatModel:
        self.loads.append(plan)
        return load_model(plan)

    def models(self, n: int = 2) -> list[int]:
        return self.ledger.add_models(
            [ModelSettings("openai", f"m{i}", endpoint=self.server.url, label=f"Secret {i}") for i in range(n)]
        )

    def arena(self, contestants: list[Contestant] | None = None) -> Arena:
        return self.desk.arena(self.campaign, contestants or store.contestants(self.ledger))

    def ask(self, prompt: str = "hi", turn: int = 1, voter: int | None = None, *, wait: bool = True) -> Talk:
        talk = self.desk.ask(self.arena(), voter or self.voter, prompt, turn)
        if wait:
            settled(talk)
        return talk

    def rows(self, table: Any, *columns: str) -> list[tuple[Any, ...]]:
        query = sa.select(*(getattr(table, name) for name in columns)).order_by(table.id)
        with self.ledger.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(query)]


def settled(talk: Talk, seconds: float = 30.0) -> None:
    """Waits as a page does that looks on."""
    until(lambda: not talk.busy, seconds, talk.look)


def until(done: Callable[[], bool], seconds: float = 30.0, meanwhile: Callable[[], object] = lambda: None) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        meanwhile()
        time.sleep(0.01)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.desk.close()
    made.server.__exit__(None, None, None)
    made.ledger.close()


def test_a_battle_is_ordinary_rows_and_its_vote_counts(world: World) -> None:
    ids = world.models()
    talk = world.ask("What is up?")
    assert [side.state for side in talk.sides] == ["done", "done"]
    names = {side.contestant.model_id: side.said for side in talk.sides}
    assert names == {ids[0]: "m0 says hi", ids[1]: "m1 says hi"}
    result = world.desk.cast(talk, "left")
    assert result is not None
    assert result.status == "stored"
    verdicts = frames.verdicts(world.ledger, limit=None)
    left_is_a = talk.left.contestant.model_id == ids[0]
    assert list(verdicts["winner"]) == ["model_a" if left_is_a else "model_b"]
    (battle,) = world.rows(schema.Battle, "model_a_id", "model_b_id", "response_a_id", "response_b_id", "turn")
    assert battle[:2] == tuple(ids)
    texts = arena.conversations(world.ledger, battle[2:4])
    assert [texts[key].answers for key in battle[2:4]] == [("m0 says hi",), ("m1 says hi",)]
    assert world.desk.cast(talk, "right") is None  # a second press
    world.desk.undo(talk)
    assert frames.verdicts(world.ledger, limit=None).empty
    assert world.desk.cast(talk, "right") is None  # the names were seen


def test_each_model_sees_its_own_answers_and_each_turn_is_whole(world: World) -> None:
    ids = world.models()
    talk = world.ask("one")
    first = talk.place
    world.ask("two", 2)
    assert talk.place != first
    later = [got for got in world.server.got if len(got["messages"]) == 3]
    assert {(got["model"], got["messages"][1]["content"]) for got in later} == {
        ("m0", "m0 says hi"),
        ("m1", "m1 says hi"),
    }
    rows = world.rows(schema.Response, "item_id", "model_id", "turn", "attempts")
    assert Counter(rows) == Counter(
        [(first[1], key, 1, 1) for key in ids]
        + [(talk.place[1], key, 1, 0) for key in ids]  # copies: nothing was paid
        + [(talk.place[1], key, 2, 1) for key in ids]
    )
    world.desk.cast(talk, "tie")
    (battle,) = world.rows(schema.Battle, "item_id", "turn", "response_a_id")
    assert battle[:2] == (talk.place[1], 2)
    shown = arena.conversations(world.ledger, [battle[2]])[battle[2]]
    assert (shown.turns, len(shown.answers)) == (("one", "two"), 2)
    assert world.rows(schema.Dataset, "name", "n") == [(store.FREE_PROMPTS, 2)]
    assert world.rows(schema.Run, "name", "status") == [("free prompts: live", "done")]


def test_nothing_is_bought_twice_and_the_same_again_is_a_repeat(world: World) -> None:
    world.models()
    for choice in ("left", "both_bad"):
        talk = world.ask()
        world.desk.cast(talk, choice)  # type: ignore[arg-type]
        world.desk.leave(talk)
        assert world.desk.talk(world.campaign, world.voter) is None
    assert len(world.server.got) == 2
    assert len(world.rows(schema.Battle, "id")) == 1
    assert sorted(frames.verdicts(world.ledger, limit=None)["replicate"]) == [0, 1]


def test_a_failure_is_a_row_that_a_retry_replaces(world: World) -> None:
    world.models()
    world.script = lambda payload: Said(status=500) if payload["model"] == "m1" else Said()
    talk = world.ask()
    failed = next(side for side in talk.sides if side.state == "failed")
    assert failed.failure == "This model's server failed."
    assert not talk.can_vote
    assert world.desk.cast(talk, "left") is None
    assert Counter(world.rows(schema.Response, "error_kind")) == Counter([(None,), ("server",)])
    with pytest.raises(UserError, match="not answered yet"):
        world.ask("more", 2)
    world.script = lambda payload: Said()
    world.desk.retry(talk)
    settled(talk)
    assert talk.can_vote
    assert len(world.server.got) == 3  # the other one was not asked again
    assert Counter(world.rows(schema.Response, "error_kind", "attempts")) == Counter([(None, 1), (None, 2)])


def test_no_failure_names_the_model(world: World) -> None:
    world.models()
    for said in (Said(status=401), Said(status=429), Said(torn=True), Said(pieces=())):
        world.script = lambda payload, said=said: said  # type: ignore[misc]
        talk = world.ask()
        for side in talk.sides:
            assert side.state == "failed"
            assert not any(word in side.failure for word in ("Secret", "m0", "m1", "127.0.0.1"))
        world.desk.leave(talk)


def test_text_is_heard_before_it_is_whole_and_stops_when_nobody_looks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.models()
    hold = threading.Event()
    world.script = lambda payload: Said(hold=hold)
    talk = world.ask(wait=False)
    until(lambda: all(side.said == "Hel" for side in talk.sides), meanwhile=talk.look)
    assert world.desk.talk(world.campaign, world.voter) is talk  # what a reload finds
    world.desk.ask(world.arena(), world.voter, "hi", 1)  # a second tab sends it again
    assert (talk.busy, talk.prompts, len(world.server.got)) == (True, ["hi"], 2)
    monkeypatch.setattr(live, "AWAY_SECONDS", 0.1)
    until(lambda: not talk.busy)
    assert [side.state for side in talk.sides] == ["stopped", "stopped"]
    assert world.server.hung_up.wait(10)
    assert world.rows(schema.Response, "id") == []
    monkeypatch.setattr(live, "AWAY_SECONDS", 10.0)
    hold.set()
    world.desk.retry(talk)
    settled(talk)
    assert talk.can_vote


def test_limits_are_said(world: World) -> None:
    world.models()
    for prompt, turn, words in (("  ", 1, "1 to"), ("x" * (PROMPT_CHARS + 1), 1, "1 to"), ("x", TURNS + 1, "turns")):
        with pytest.raises(UserError, match=words):
            world.ask(prompt, turn)
    assert world.server.got == []
    with pytest.raises(UserError, match="there is none"):
        world.desk.arena(world.campaign, [])


def test_a_closed_campaign_takes_no_vote(world: World) -> None:
    world.models()
    talk = world.ask()
    assert world.campaign.id is not None
    world.people.set_campaign(world.campaign.id, status="closed")
    with pytest.raises(UserError, match="closed"):
        world.desk.cast(talk, "left")
    assert talk.choice is None


def test_pairs_and_sides_are_drawn_evenly_and_by_the_seed(world: World) -> None:
    world.models(4)
    found = store.contestants(world.ledger)

    def pairs(seed: int) -> list[tuple[int, int]]:
        arena = Arena(world.people, CampaignRow(7, "c", "free", seed=seed), found)
        return [(a.model_id, b.model_id) for a, b in (arena.draw(world.voter) for _ in range(48))]

    drawn = pairs(1)
    assert drawn == pairs(1) != pairs(2)
    assert set(Counter(frozenset(pair) for pair in drawn).values()) == {8}
    assert 12 <= sum(a < b for a, b in drawn) <= 36


def test_votes_decide_who_meets_next(world: World) -> None:
    first, second, third = world.models(3)
    for number in range(40):
        for a, b in ((first, second), (first, third), (second, third)):
            _, item = store.add_prompt(world.ledger, [{"role": "user", "content": f"prompt {number}"}])
            (battle,) = world.ledger.add_battles([BattleRow(item, a, b)])
            won = number % 10 if a == first else number % 5 > 1  # 36 and 24 of 40
            winner: Winner = "model_a" if won else "model_b"
            row = BallotRow(f"{number}{a}{b}", world.campaign.id, world.voter, battle, "ab", winner, kind="free")
            world.people.vote(row)
    drawn = [world.arena().draw(world.voter) for _ in range(6)]
    assert {frozenset(side.name for side in pair) for pair in drawn} == {frozenset(("Secret 1", "Secret 2"))}


def test_recorded_models_are_no_contestants_and_folders_are_found_by_their_plan(world: World, tiny: Path) -> None:
    here = load_model(ModelPlan(model=f"hf/{tiny}", name="Tiny")).settings
    world.ledger.add_models([ModelSettings("recorded", "old", label="Old"), here])
    (found,) = store.contestants(world.ledger)
    assert found.plan.model == f"hf/{tiny.name}"  # nothing says where it lies
    world.ledger.start_run(
        "r", {"models": [ModelPlan(model=f"hf/{tiny}", name="Tiny").model_dump()]}, seed=0, environment={}
    )
    (found,) = store.contestants(world.ledger)
    assert load_model(found.plan).settings.hash == found.settings.hash == here.hash


def test_a_key_goes_to_the_endpoint_it_was_meant_for_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    world.models()
    plan = ModelPlan(model="openai/m1", name="Secret 1", base_url=world.server.url, api_key_env="OTHER_KEY")
    world.ledger.start_run("r", {"models": [plan.model_dump()]}, seed=0, environment={})
    world.ask()
    keys = {got["model"]: key for got, key in zip(world.server.got, world.server.keys, strict=True)}
    assert keys == {"m0": None, "m1": "Bearer sk-other"}


def test_weights_that_have_changed_are_not_asked(world: World, tiny: Path) -> None:
    settings = load_model(ModelPlan(model=f"hf/{tiny}", name="Tiny")).settings
    was = ModelSettings("hf", settings.name, "0" * 64, dtype=settings.dtype, label="Tiny")
    world.ledger.add_models([was, ModelSettings("openai", "m0", endpoint=world.server.url, label="M")])
    world.ledger.start_run(
        "r", {"models": [ModelPlan(model=f"hf/{tiny}", name="Tiny").model_dump()]}, seed=0, environment={}
    )
    talk = world.ask()
    assert sorted(side.state for side in talk.sides) == ["done", "failed"]
    errors = [error for (error,) in world.rows(schema.Response, "error") if error]
    assert len(errors) == 1
    assert "not the model of the ledger" in errors[0]


def local(world: World, *plans: ModelPlan) -> None:
    world.ledger.add_models([load_model(plan).settings for plan in plans])
    world.ledger.start_run("r", {"models": [plan.model_dump() for plan in plans]}, seed=0, environment={})


def test_models_on_this_machine_share_weights_and_wait_in_line(world: World, tiny: Path) -> None:
    calm = ModelPlan(model=f"hf/{tiny}", name="Calm", dtype="float32", sampling={"max_tokens": 40})  # type: ignore[arg-type]
    sampling = {"max_tokens": 200, "temperature": 1.3, "seed": 4}
    wild = ModelPlan(model=f"hf/{tiny}", name="Wild", dtype="float32", sampling=sampling)  # type: ignore[arg-type]
    local(world, calm, wild)
    voters = [world.people.ensure_member(f"p{i}", f"p{i}", "voter").annotator_id for i in range(3)]
    talks = [world.ask(f"tell {voter}", voter=voter, wait=False) for voter in voters]
    waits = [0, 0, 0]

    def look() -> None:
        for number, talk in enumerate(talks):
            talk.look()
            waits[number] = max(waits[number], world.desk.before(talk))

    until(lambda: not any(talk.busy for talk in talks), 90, look)
    assert all(talk.can_vote for talk in talks), [side.failure for talk in talks for side in talk.sides]
    assert sorted(waits) == [0, 1, 2]
    assert len(world.loads) == 1  # of both contestants, and for all
    before = len(world.rows(schema.Response, "id"))
    world.ask("more", 2, voters[0])
    assert len(world.rows(schema.Response, "id")) == before + 4
