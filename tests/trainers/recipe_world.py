"""A ledger with starter items, halves, slices and a model's stored answers; and a model that answers at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from evalkit.models.base import ModelSettings, Reply, Request, request_key, sha256
from evalkit.slices.halves import assign_halves
from evalkit.store import GradeRow, Item, Ledger, ResponseRow
from evalkit.store.database import now
from evalkit.store.schema import Slice, SliceItem
from evalkit.verify import verify
from trainers.plan import RetrainPlan

DATA = Path(__file__).parents[2] / "benchmarks" / "starter" / "data"
METRIC = "passed,none"
TASKS = ("structure", "instructions", "formats", "sums", "knowledge", "reading")
BASE = ModelSettings("embedded", "smollm2-135m-instruct", "r", dtype="float32", label="base")


def starter(task: str, split: str = "test") -> list[Item]:
    """Items as a benchmark's run stores them."""
    rows = [json.loads(line) for line in (DATA / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        Item(({"role": "user", "content": row["question"]},), {"target": row["answer"], "doc": row},
             {**row["tags"], "benchmark": f"starter_{task}"}, row["id"], split)
        for row in rows
        if row["split"] == split
    ]  # fmt: skip


def fill(ledger: Ledger, slices: Mapping[str, tuple[str, Mapping[str, Any]]], *, seed: int = 0) -> dict[str, int]:
    """Writes the tasks, a run, right answers of `BASE` to those not in a slice, and slices.

    Args:
        slices: Name to (task, {tag: value}).

    Returns:
        Ids of the slices by name, and `run`.
    """
    run_id = ledger.start_run("world", {}, seed=0, environment={})
    [model_id] = ledger.add_models([BASE])
    annotator = ledger.add_annotator("metric", "passed", {"kind": "test"})
    ids: dict[str, int] = {"run": run_id}
    sliced = {task for task, _ in slices.values()}
    every: dict[str, tuple[list[int], list[Item]]] = {}
    for task in TASKS:
        items = starter(task)
        dataset_id, item_ids = ledger.add_dataset(f"starter_{task}", items)
        every[task] = (item_ids, items)
        rows = []
        for item_id, item in zip(item_ids, items, strict=True):
            good = task not in sliced
            text = str(item.reference["doc"]["answer"]) if good else "I do not know."
            rows.append(answer_row(model_id, item_id, dataset_id, item, text))
        responses = ledger.add_responses(run_id, rows)
        ledger.add_grades([GradeRow(r, annotator, METRIC, float(task not in sliced)) for r in responses])
    halves = assign_halves(ledger, [key for keys, _ in every.values() for key in keys], seed=seed)
    with ledger.write() as connection:
        for number, (name, (task, where)) in enumerate(slices.items(), 1):
            about = {"model": model_id, "metric": METRIC, "where": dict(where)}
            inside = [key for key, item in zip(*every[task], strict=True) if where.items() <= item.tags.items()]
            connection.execute(
                sa.insert(Slice).values(id=number, hash=sha256(name), run_id=run_id, name=name, definition=about,
                                        support=len(inside), effect=0.5, q_value=0.01, created_at=now())
            )  # fmt: skip
            for key in dict.fromkeys(inside):
                connection.execute(sa.insert(SliceItem).values(slice_id=number, item_id=key, split=halves[key]))
            ids[name] = number
    return ids


def answer_row(model_id: int, item_id: int, dataset_id: int, item: Item, text: str, *, sample: int = 0) -> ResponseRow:
    """A stored answer."""
    body = Request(item.messages, sample=sample).body(BASE)
    reply = Reply(text, finish_reason="stop")
    return ResponseRow(model_id, item_id, dataset_id, request_key(f"{model_id} {body}"), body, reply, sample)


def plan(slice_name: str, sources: Sequence[Mapping[str, Any]], *, rows: int = 60, **more: Any) -> RetrainPlan:
    """A retrain plan of the world."""
    recipe = {"sources": list(sources), "rows": rows, **more.pop("recipe", {})}
    return RetrainPlan.model_validate(
        {"name": slice_name, "slice": slice_name, "base": "embedded/smollm2-135m-instruct", "recipe": recipe, **more}
    )


class Talker:
    """Answers every request at once: a function of the prompt, else two plain sentences about its words."""

    settings = BASE
    max_concurrency = 64

    def __init__(self, answer: Callable[[str, int], str] | None = None) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def reply(self, request: Request) -> Reply:
        prompt = str(request.messages[-1]["content"])
        self.asked.append(prompt)
        if self.answer is not None:
            return Reply(self.answer(prompt, request.sample), finish_reason="stop")
        words = re.findall(r"[a-z]{4,}", prompt.lower())
        about = " and ".join(sorted(set(words))[:3]) or "that"
        text = f"This is about {about} {sha256(prompt)[:6]}. Many people care about it. It Depends."
        return Reply(text, finish_reason="stop")

    async def close(self) -> None:
        self.asked.clear()


def accepted(spec: Mapping[str, Any], text: str) -> bool:
    """Whether a check accepts an answer."""
    return bool(verify(spec, text).passed)
