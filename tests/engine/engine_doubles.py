"""Doubles for the engine's tests: a model that answers from a function, and a ledger with questions in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from evalkit.engine import Job
from evalkit.models import ModelSettings, Reply, Request, RequestFailed
from evalkit.store import Ledger
from evalkit.store.rows import Item

Answer = Callable[[Request, int], "Reply | RequestFailed"]


class FunctionModel:
    """Answers by a function of the request and of how often it was asked before; records what happened."""

    def __init__(self, answer: Answer, *, delay: float = 0.0, name: str = "m", max_concurrency: int = 64) -> None:
        self.settings = ModelSettings("openai", name, endpoint="http://mock/v1")
        self.max_concurrency = max_concurrency
        self.answer, self.delay = answer, delay
        self.asked: dict[str, int] = {}
        self.in_flight = self.most_in_flight = 0

    async def reply(self, request: Request) -> Reply:
        text = str(request.messages[-1]["content"]) + f"#{request.sample}"
        times = self.asked[text] = self.asked.get(text, 0) + 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delay)
            result = self.answer(request, times)
        finally:
            self.in_flight -= 1
        if isinstance(result, RequestFailed):
            raise result
        return result

    async def close(self) -> None:
        self.asked.clear()


class Bench:
    """A ledger with one run and one dataset of questions."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.run_id = ledger.start_run("test", {}, seed=0, environment={})

    def jobs(self, model: FunctionModel, texts: list[str], samples: int = 1, dataset: str = "d") -> list[Job]:
        items = [Item(({"role": "user", "content": text},), name=str(i)) for i, text in enumerate(texts)]
        dataset_id, item_ids = self.ledger.add_dataset(dataset, items)
        (model_id,) = self.ledger.add_models([model.settings])
        return [
            Job(model_id, item_id, dataset_id, Request(messages=item.messages, sample=sample))
            for item_id, item in zip(item_ids, items, strict=True)
            for sample in range(samples)
        ]

    def count(self, query: str) -> int:
        with self.ledger.engine.connect() as connection:
            return int(connection.exec_driver_sql(query).scalar() or 0)
