"""A ledger with two models' answers, their battles, and a judge that is a function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evalkit.engine import Engine
from evalkit.judging import Judge, Judging
from evalkit.models import ModelSettings, Reply, Request, RequestFailed
from evalkit.plan import JudgePlan
from evalkit.store import BattleRow, Ledger
from evalkit.store.rows import Item, ResponseRow
from judges.criteria import load_criteria
from judges.fight import load_cases, load_fights
from judges.prompt import load_prompt

Say = Callable[[str], "str | Reply | RequestFailed"]


class SayingModel:
    """A model that answers by a function of the last message."""

    settings = ModelSettings("openai", "judge", endpoint="http://mock/v1")
    max_concurrency = 4

    def __init__(self, say: Say) -> None:
        self.say = say
        self.asked: list[Request] = []

    async def reply(self, request: Request) -> Reply:
        self.asked.append(request)
        await asyncio.sleep(0)
        said = self.say(str(request.messages[-1]["content"]))
        if isinstance(said, RequestFailed):
            raise said
        return said if isinstance(said, Reply) else Reply(said, seconds=0.5)

    async def close(self) -> None:
        self.closed = True


class World:
    """Two models, what each answered to some items, and the battles between them."""

    def __init__(
        self, ledger: Ledger, texts: Sequence[tuple[str, str]], reference: Any = None, category: str = "math"
    ) -> None:
        self.ledger = ledger
        self.run_id = ledger.start_run("test", {}, seed=0, environment={})
        models = ledger.add_models([ModelSettings("hf", "a"), ModelSettings("hf", "b")])
        items = [
            Item(({"role": "user", "content": f"Question {i}"},), reference, {"category": category}, name=str(i))
            for i in range(len(texts))
        ]
        dataset, item_ids = ledger.add_dataset("questions", items)
        rows = [
            ResponseRow(model, item_id, dataset, f"{model:032x}{item_id:032x}", "{}", Reply(text))
            for item_id, pair in zip(item_ids, texts, strict=True)
            for model, text in zip(models, pair, strict=True)
        ]
        self.answers = ledger.add_responses(self.run_id, rows)
        battles = [
            BattleRow(item_id, models[0], models[1], self.answers[2 * i], self.answers[2 * i + 1])
            for i, item_id in enumerate(item_ids)
        ]
        self.battles = dict(zip(ledger.add_battles(battles), battles, strict=True))
        self.fights = load_fights(ledger, self.battles)
        self.cases = load_cases(ledger, self.answers)

    def judged(self, model: SayingModel, prompt: str = "pairwise-v1", **plan: Any) -> list[dict[str, Any]]:
        """Has a judge judge; returns its rows in the ledger, verdicts or grades."""
        read = load_prompt(prompt)
        of = JudgePlan(name="j", model=plan.pop("model", "openai/judge"), prompt=prompt, **plan)
        criteria = load_criteria(of.criteria) if of.criteria else read.criteria
        judge = Judge(of, model, read, criteria)
        with Engine(self.ledger, self.run_id) as engine:
            self.judging = Judging(self.ledger, self.run_id, engine, seed=0)
            self.judging.judge(judge, self.fights, self.cases)
        return self.rows("verdict" if read.kind == "pairwise" else "grade")

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Reads a table."""
        with self.ledger.engine.connect() as connection:
            return [dict(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY id").mappings()]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(str(tmp_path / "ledger.db")) as opened:
        yield opened


@pytest.fixture
def make_world(ledger: Ledger) -> Callable[..., World]:
    """Returns a function that makes a `World` of pairs of texts."""
    return lambda *texts, **more: World(ledger, texts, **more)


@pytest.fixture
def saying() -> type[SayingModel]:
    """Returns the model that answers by a function."""
    return SayingModel
