"""Writes of models, datasets, runs, annotators and scores."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from evalkit.models.base import ModelSettings, sha256
from evalkit.store.database import now
from evalkit.store.rows import AnnotatorKind, Item, ScoreRow
from evalkit.store.schema import Annotator, Dataset, DatasetItem, Model, Run, Score
from evalkit.store.schema import Item as ItemTable
from evalkit.store.writing import ids_by_hash, insert, insert_new, insert_tuples, next_id


def add_models(connection: sa.Connection, models: Sequence[ModelSettings]) -> list[int]:
    """See `Ledger.add_models`."""
    by_hash = {model.hash: model for model in models}
    ids = ids_by_hash(connection, Model, list(by_hash))
    for digest, model in by_hash.items():
        if digest in ids and model.label:
            renamed = sa.update(Model).where(Model.id == ids[digest], Model.label != model.label)
            connection.execute(renamed.values(label=model.label))
    new = [digest for digest in by_hash if digest not in ids]
    ids.update(zip(new, range(next_id(connection, Model), 2**62), strict=False))
    created = now()
    rows = [
        {
            **by_hash[digest].identity(),
            "id": ids[digest],
            "hash": digest,
            "label": by_hash[digest].label,
            "created_at": created,
        }
        for digest in new
    ]
    insert_new(connection, Model, rows)
    return [ids[model.hash] for model in models]


def add_dataset(connection: sa.Connection, name: str, items: Sequence[Item], source: str) -> tuple[int, list[int]]:
    """See `Ledger.add_dataset`."""
    hashes = [item.hash for item in items]
    digest = sha256({"name": name, "items": hashes})
    known = ids_by_hash(connection, Dataset, [digest])
    if known:
        dataset_id = known[digest]
        order = (
            sa.select(DatasetItem.item_id).where(DatasetItem.dataset_id == dataset_id).order_by(DatasetItem.position)
        )
        return dataset_id, list(connection.scalars(order))
    by_hash = dict(zip(hashes, items, strict=True))
    ids = dict(zip(by_hash, range(next_id(connection, ItemTable), 2**62), strict=False))
    rows = [
        (
            ids[item_hash],
            item_hash,
            json.dumps([dict(message) for message in item.messages]),
            None if item.reference is None else json.dumps(item.reference),
            json.dumps(dict(item.tags)),
        )
        for item_hash, item in by_hash.items()
    ]
    if insert_tuples(connection, ItemTable, ("id", "hash", "messages", "reference", "tags"), rows) != len(rows):
        ids = ids_by_hash(connection, ItemTable, list(by_hash))  # some were there, from another dataset
    dataset_id = next_id(connection, Dataset)
    insert_new(
        connection,
        Dataset,
        [{"id": dataset_id, "hash": digest, "name": name, "source": source, "n": len(items), "created_at": now()}],
    )
    positions = [
        (dataset_id, position, ids[item_hash], item.name, item.split)
        for position, (item_hash, item) in enumerate(zip(hashes, items, strict=True))
    ]
    insert_tuples(connection, DatasetItem, ("dataset_id", "position", "item_id", "name", "split"), positions)
    return dataset_id, [ids[item_hash] for item_hash in hashes]


def find_run(connection: sa.Connection, name: str, plan: Mapping[str, Any], seed: int) -> tuple[int, str] | None:
    """See `Ledger.find_run`."""
    same = Run.plan_hash == sha256({"name": name, "plan": dict(plan), "seed": seed})
    row = connection.execute(sa.select(Run.id, Run.status).where(same).order_by(Run.id.desc()).limit(1)).first()
    return None if row is None else (row[0], row[1])


def start_run(
    connection: sa.Connection,
    name: str,
    plan: Mapping[str, Any],
    seed: int,
    environment: Mapping[str, Any],
    resume: bool,
) -> int:
    """See `Ledger.start_run`."""
    plan_hash = sha256({"name": name, "plan": dict(plan), "seed": seed})
    here = {"status": "running", "pid": os.getpid(), "host": platform.node(), "updated_at": now()}
    if resume:
        known = find_run(connection, name, plan, seed)
        if known is not None:
            changes = {**here, "message": "", "finished_at": None}
            connection.execute(sa.update(Run).where(Run.id == known[0]).values(**changes))
            return known[0]
    run_id = next_id(connection, Run)
    row = {
        **here,
        "id": run_id,
        "name": name,
        "plan_hash": plan_hash,
        "stage": "",
        "done": 0,
        "total": None,
        "errors": 0,
        "seed": seed,
        "started_at": here["updated_at"],
        "finished_at": None,
        "message": "",
        "plan": dict(plan),
        "environment": dict(environment),
    }
    insert_new(connection, Run, [row])
    return run_id


def update_run(connection: sa.Connection, run_id: int, **changes: Any) -> None:
    """Sets columns of a run.

    Raises:
        KeyError: There is no such run.
    """
    found = connection.execute(sa.update(Run).where(Run.id == run_id).values(updated_at=now(), **changes))
    if found.rowcount != 1:
        raise KeyError(f"run {run_id}")


def add_annotator(connection: sa.Connection, kind: AnnotatorKind, name: str, definition: Mapping[str, Any]) -> int:
    """See `Ledger.add_annotator`."""
    digest = sha256({"kind": kind, "name": name, "definition": dict(definition)})
    known = ids_by_hash(connection, Annotator, [digest])
    if known:
        return known[digest]
    annotator_id = next_id(connection, Annotator)
    row = {"id": annotator_id, "hash": digest, "kind": kind, "name": name, "definition": dict(definition)}
    insert_new(connection, Annotator, [{**row, "created_at": now()}])
    return annotator_id


def finite(value: float | None) -> float | None:
    """Returns None for what is not a number: databases differ in what they make of NaN."""
    return value if value is not None and math.isfinite(value) else None


def set_scores(connection: sa.Connection, run_id: int, rows: Sequence[ScoreRow]) -> None:
    """See `Ledger.set_scores`."""
    if not rows:
        return
    statement = insert(connection, Score)
    values = ("value", "stderr", "n", "errors", "higher_is_better")
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["run_id", "model_id", "dataset_id", "metric"],
            set_={name: statement.excluded[name] for name in values},
        ),
        [
            {
                "run_id": run_id,
                "model_id": row.model_id,
                "dataset_id": row.dataset_id,
                "metric": row.metric,
                "value": finite(row.value),
                "stderr": finite(row.stderr),
                "n": row.n,
                "errors": row.errors,
                "higher_is_better": row.higher_is_better,
            }
            for row in rows
        ],
    )
