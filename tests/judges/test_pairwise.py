"""The LLM judge: orders, errors, and the draw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evalkit.engine import Engine
from evalkit.models import ModelSettings, Reply, Request, RequestFailed
from evalkit.store import BattleRow, Ledger, VerdictRow
from evalkit.store.rows import Item, ResponseRow
from judges import pairwise
from judges.fight import Fight
from judges.prompt import load_prompt

PROMPT = load_prompt("pairwise-v1")


class Judge:
    """A judge that decides by a function of the text of the conversation."""

    settings = ModelSettings("openai", "judge", endpoint="http://mock/v1")
    max_concurrency = 4

    def __init__(self, say: Callable[[str], str | RequestFailed]) -> None:
        self.say, self.asked = say, 0

    async def reply(self, request: Request) -> Reply:
        self.asked += 1
        await asyncio.sleep(0)
        said = self.say(str(request.messages[-1]["content"]))
        if isinstance(said, RequestFailed):
            raise said
        return Reply(said, seconds=0.5)

    async def close(self) -> None:
        self.asked = 0


class World:
    """Two models, their answers to some items, and the battles between them."""

    def __init__(self, ledger: Ledger, texts: list[tuple[str, str]]) -> None:
        self.ledger = ledger
        self.run_id = ledger.start_run("test", {}, seed=0, environment={})
        self.models = ledger.add_models([ModelSettings("hf", "a"), ModelSettings("hf", "b")])
        items = [Item(({"role": "user", "content": f"Question {i}"},), name=str(i)) for i in range(len(texts))]
        dataset, item_ids = ledger.add_dataset("questions", items)
        rows, battles = [], []
        for item_id, pair in zip(item_ids, texts, strict=True):
            for model, text in zip(self.models, pair, strict=True):
                key = f"{model:032x}{item_id:032x}"
                rows.append(ResponseRow(model, item_id, dataset, key, "{}", Reply(text)))
        ids = ledger.add_responses(self.run_id, rows)
        for i, item_id in enumerate(item_ids):
            battles.append(BattleRow(item_id, *self.models, ids[2 * i], ids[2 * i + 1]))
        self.fights = [
            Fight(battle, row.item_id, f"Question {i}", None, *texts[i])
            for i, (battle, row) in enumerate(zip(ledger.add_battles(battles), battles, strict=True))
        ]

    def judged(self, judge: Judge, orders: str = "both") -> list[VerdictRow]:
        (model_id,) = self.ledger.add_models([judge.settings])
        dataset, _ = self.ledger.add_dataset("judging", [])
        annotator = self.ledger.add_annotator("judge", "j", pairwise.annotator_definition(judge, PROMPT))
        asked = pairwise.requests(self.fights, PROMPT, orders=orders, seed=0)  # type: ignore[arg-type]
        with Engine(self.ledger, self.run_id) as engine:
            verdicts = pairwise.judge(engine, judge, model_id, dataset, annotator, PROMPT, asked, label="j")
        assert self.ledger.add_verdicts(self.run_id, verdicts) in (len(verdicts), 0)
        return verdicts


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(str(tmp_path / "ledger.db")) as opened:
        yield opened


def better(conversation: str) -> str:
    """Prefers the answer that says `good`, wherever it stands."""
    first = conversation.partition("<answer_1>")[2].partition("</answer_1>")[0]
    return "I compared them. [[1]]" if "good" in first else "I compared them. [[2]]"


def test_both_orders_name_the_same_model(ledger: Ledger) -> None:
    world = World(ledger, [("good", "poor"), ("poor", "good")])
    verdicts = world.judged(Judge(better))
    assert [(v.order, v.winner) for v in verdicts] == [
        ("ab", "model_a"),
        ("ba", "model_a"),
        ("ab", "model_b"),
        ("ba", "model_b"),
    ]
    assert all(v.response_id and v.seconds == 0.5 and v.error is None for v in verdicts)


def test_a_judge_that_always_takes_the_first_contradicts_itself(ledger: Ledger) -> None:
    world = World(ledger, [("one", "two")])
    assert [v.winner for v in world.judged(Judge(lambda _: "[[1]]"))] == ["model_a", "model_b"]


@pytest.mark.parametrize(("said", "winner"), [("[[tie]]", "tie"), ("[[bad]]", "both_bad")])
def test_ties_do_not_depend_on_the_order(ledger: Ledger, said: str, winner: str) -> None:
    world = World(ledger, [("one", "two")])
    assert [v.winner for v in world.judged(Judge(lambda _: said))] == [winner, winner]


def test_an_unreadable_answer_is_an_error_and_no_tie(ledger: Ledger) -> None:
    world = World(ledger, [("one", "two")])
    verdicts = world.judged(Judge(lambda _: "Hard to say."))
    assert [v.winner for v in verdicts] == [None, None]
    assert all("no verdict in the judge's answer" in str(v.error) and v.response_id for v in verdicts)


def test_a_failed_request_is_an_error_that_a_second_run_replaces(ledger: Ledger) -> None:
    world = World(ledger, [("good", "poor")])
    verdicts = world.judged(Judge(lambda _: RequestFailed("bad_request", "no")))
    assert [(v.winner, v.error) for v in verdicts] == [(None, "bad_request: no")] * 2
    assert [v.winner for v in world.judged(Judge(better))] == ["model_a"] * 2
    with ledger.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT winner, error FROM verdict").all()
    assert [tuple(r) for r in rows] == [("model_a", None)] * 2


def test_a_second_judging_asks_nothing(ledger: Ledger) -> None:
    world = World(ledger, [("good", "poor"), ("poor", "good")])
    first, again = Judge(better), Judge(better)
    assert world.judged(first) == world.judged(again)
    assert (first.asked, again.asked) == (4, 0)


def test_random_orders_are_drawn_with_the_seed() -> None:
    fights = [Fight(i, i, "q", None, "a", "b") for i in range(200)]
    orders = [[order for _, order, _ in pairwise.requests(fights, PROMPT, orders="random", seed=s)] for s in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert 60 < orders[0].count("ab") < 140


def test_a_limited_judge_sees_a_draw_in_order() -> None:
    fights = [Fight(i, i, "q", None, "a", "b") for i in range(50)]
    drawn = pairwise.draw(fights, 10, 0)
    assert len(drawn) == 10
    assert drawn == sorted(drawn, key=lambda f: f.battle_id)
    assert drawn == pairwise.draw(fights, 10, 0) != pairwise.draw(fights, 10, 1)
    assert pairwise.draw(fights, None, 0) == pairwise.draw(fights, 99, 0) == fights
