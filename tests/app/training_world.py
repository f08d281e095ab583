"""Rows of slices, training, gates and a family of models on the sample ledger, as the next stages write them."""

from __future__ import annotations

import math
from typing import Any

import sqlalchemy as sa

from evalkit.models.base import ModelSettings, sha256
from evalkit.store import Ledger
from evalkit.store.database import now
from evalkit.store.schema import (
    Base,
    CurvePoint,
    Dataset,
    DatasetItem,
    Gate,
    Item,
    Model,
    ModelParent,
    Slice,
    SliceItem,
    TrainingRow,
    TrainingRun,
    TrainingSet,
)

HELD_OUT = "Held out: never show this"
CURVES = ("loss", "eval_loss", "grad_norm", "reward")


def fill(ledger: Ledger, run_id: int, *, status: str = "done", mark: bool = False) -> dict[str, int]:
    """Writes two slices of the first model, a training set, a training run with curves, a child, a merge, two gates.

    Args:
        status: Of the training run.
        mark: Replace the prompts of the held-out half by `HELD_OUT`.

    Returns:
        Ids: model, slice, weak (a slice without a held-out half), training_run, child, merged, gate (waits), decided.
    """
    with ledger.engine.connect() as connection:
        parent = connection.scalar(sa.select(sa.func.min(Model.id))) or 0
        dataset = connection.scalar(sa.select(Dataset.id).where(Dataset.name == "json_output")) or 0
        query = sa.select(Item.id, Item.tags).join(DatasetItem, DatasetItem.item_id == Item.id)
        rows = connection.execute(query.where(DatasetItem.dataset_id == dataset)).all()
    items = [row.id for row in rows if row.tags["topic"] == "nested"]
    child, merged = ledger.add_models(
        [
            ModelSettings("hf", "runs/json/checkpoint", label="smollm2-json"),
            ModelSettings("hf", "runs/json/merged", label="smollm2-json-merged"),
        ]
    )
    where = {"model": parent, "dataset": dataset, "metric": "passed,none", "where": {"topic": "nested"}}
    counts = {"n": 7, "failed": 7, "rest_n": 14, "rest_failed": 8}
    held_out = {"n": 6, "failed": 5, "rest_n": 13, "rest_failed": 7}
    content = {
        "messages": [{"role": "user", "content": "Give 1 and 2 as JSON."}, {"role": "assistant", "content": "{}"}]
    }
    evidence: dict[str, Any] = {
        "tests": [
            _test("nested JSON, held out", "improvement", 50, 0.04, 0.92, (0.74, 0.97), None, True, 0.15),
            _test("json_output", "non_inferiority", 200, 0.41, 0.63, (0.15, 0.29), 0.03, True, 0.05),
            _test("knowledge", "non_inferiority", 200, 0.62, 0.55, (-0.12, -0.02), 0.03, False, 0.05),
            _test("refusal", "safety", 100, 0.98, 0.97, (-0.03, 0.01), 0.03, True, 0.04),
        ],
        "reason": "Knowledge fell by more than its margin.",
        "advice": "Merge the child with its parent, or add replay rows from knowledge.",
    }
    with ledger.write() as connection:
        _add(connection, Slice, id=1, hash=sha256("1"), run_id=run_id, name="Nested JSON",
             definition={**where, "discovery": counts, "held_out": held_out}, support=len(items), effect=0.29,
             q_value=0.004, created_at=now())  # fmt: skip
        _add(connection, Slice, id=2, hash=sha256("2"), run_id=run_id, name="Lists", support=13, effect=0.1,
             definition={"model": parent, "terms": ["list", "JSON"], "discovery": counts}, q_value=None,
             created_at=now())  # fmt: skip
        for place, item in enumerate(items):
            _add(connection, SliceItem, slice_id=1, item_id=item, split="held_out" if place % 2 else "train")
        if mark:
            held = sa.select(SliceItem.item_id).where(SliceItem.split == "held_out")
            secret = [{"role": "user", "content": HELD_OUT}]
            connection.execute(sa.update(Item).where(Item.id.in_(held)).values(messages=secret))
        _add(connection, TrainingSet, id=1, hash=sha256("set"), name="nested-json-v1", slice_id=1, n=1,
             recipe={"sources": [{"kind": "best_of_n"}]}, created_at=now())  # fmt: skip
        _add(connection, TrainingRow, training_set_id=1, position=0, item_id=items[0],
             provenance={"source": "best_of_n"}, content=content)  # fmt: skip
        _add(connection, TrainingRun, id=1, hash=sha256("run"), run_id=None, training_set_id=1, parent_id=parent,
             model_id=child, method="sft", config={"learning_rate": 5e-4, "max_steps": 60, "adapter": "lora"},
             status=status, checkpoint="runs/json/checkpoint", message="", created_at=now(),
             finished_at=now() if status == "done" else None)  # fmt: skip
        for step in range(1, 61):
            loss = 0.4 + 2.2 * math.exp(-step / 12)
            points = (loss, loss + 0.1 + step / 900, 1.5 + math.sin(step), 1 - math.exp(-step / 20))
            for metric, value in zip(CURVES, points, strict=True):
                if metric != "eval_loss" or step % 5 == 0:
                    _add(connection, CurvePoint, training_run_id=1, metric=metric, step=step, value=value)
        for model, old, relation in ((child, parent, "trained_from"), (merged, child, "merged_from"),
                                     (merged, parent, "merged_from")):  # fmt: skip
            _add(connection, ModelParent, model_id=model, parent_id=old, relation=relation)
        for key, candidate, decision in ((1, child, "refused"), (2, merged, "waiting")):
            _add(connection, Gate, id=key, hash=sha256(f"gate {key}"), run_id=None, candidate_id=candidate,
                 parent_id=parent, decision=decision, evidence=evidence, created_at=now())  # fmt: skip
    return {"model": parent, "slice": 1, "weak": 2, "training_run": 1, "child": child, "merged": merged, "gate": 2,
            "decided": 1}  # fmt: skip


def _test(
    name: str, kind: str, n: int, parent: float, candidate: float, limits: tuple[float, float], margin: float | None,
    passed: bool, smallest: float,
) -> dict[str, Any]:  # fmt: skip
    return {
        "name": name, "kind": kind, "metric": "passed,none", "n": n, "parent": parent, "candidate": candidate,
        "difference": candidate - parent, "lower": limits[0], "upper": limits[1], "margin": margin,
        "p_value": 0.001 if passed else 0.4, "passed": passed, "minimum_effect": smallest,
    }  # fmt: skip


def _add(connection: sa.Connection, table: type[Base], **values: Any) -> None:
    connection.execute(sa.insert(table).values(**values))
