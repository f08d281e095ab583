"""Writes of training runs: their status, and the points of their curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from evalkit.models.base import sha256
from evalkit.store.database import now, storable
from evalkit.store.ledger import Ledger
from evalkit.store.schema import CurvePoint, TrainingRun
from evalkit.store.writing import insert, next_id

Status = Literal["running", "done", "failed", "died"]
Point = tuple[str, int, float | None]
"""Metric, step and value of a curve."""


def start_training_run(
    ledger: Ledger,
    *,
    parent_id: int,
    training_set_id: int | None,
    method: str,
    config: Mapping[str, Any],
    checkpoint: str,
    run_id: int | None = None,
) -> tuple[int, str, str]:
    """Stores that a training starts; the same one again is the same row, and goes on unless it is done.

    Args:
        parent_id: The model that is trained.
        config: All that decides the result: settings, adapter, seed.
        checkpoint: Folder of the result, of a new one.

    Returns:
        Its id; its status: running, or done where nothing is left to do; and the folder of its result.
    """
    key = sha256({"parent": parent_id, "training_set": training_set_id, "method": method, "config": dict(config)})
    with ledger.write() as connection:
        columns = (TrainingRun.id, TrainingRun.status, TrainingRun.checkpoint)
        known = connection.execute(sa.select(*columns).where(TrainingRun.hash == key)).first()
        if known is not None:
            if known.status != "done":
                again = {"status": "running", "message": "", "finished_at": None}
                connection.execute(sa.update(TrainingRun).where(TrainingRun.id == known.id).values(**again))
            return known.id, "done" if known.status == "done" else "running", known.checkpoint
        training_run_id = next_id(connection, TrainingRun)
        row = {
            "id": training_run_id, "hash": key, "run_id": run_id, "training_set_id": training_set_id,
            "parent_id": parent_id, "model_id": None, "method": method, "config": dict(config), "status": "running",
            "checkpoint": checkpoint, "message": "", "created_at": now(), "finished_at": None,
        }  # fmt: skip
        connection.execute(sa.insert(TrainingRun).values(row))
        return training_run_id, "running", checkpoint


def finish_training_run(
    ledger: Ledger, training_run_id: int, status: Status, *, message: str | None = None, model_id: int | None = None
) -> None:
    """Stores how a training ended.

    Args:
        message: In words: what was stopped or failed, and warnings; None leaves what stands there.
        model_id: The result, once it is registered.
    """
    values: dict[str, Any] = {"status": status, "finished_at": now()}
    if message is not None:
        values["message"] = storable(message)
    if model_id is not None:
        values["model_id"] = model_id
    with ledger.write() as connection:
        connection.execute(sa.update(TrainingRun).where(TrainingRun.id == training_run_id).values(**values))


def add_curve_points(ledger: Ledger, training_run_id: int, points: Sequence[Point], *, message: str = "") -> None:
    """Stores points of curves; a step that was trained again after a kill takes the place of the first one.

    Args:
        message: How far the training is, in words.
    """
    if not points and not message:
        return
    last = {(metric, step): value for metric, step, value in points}
    rows = [
        {
            "training_run_id": training_run_id,
            "metric": metric,
            "step": step,
            "value": value if value is not None and math.isfinite(value) else None,
        }
        for (metric, step), value in last.items()
    ]
    with ledger.write() as connection:
        if rows:
            statement = insert(connection, CurvePoint)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["training_run_id", "metric", "step"], set_={"value": statement.excluded.value}
                ),
                rows,
            )
        if message:
            running = sa.update(TrainingRun).where(TrainingRun.id == training_run_id, TrainingRun.status == "running")
            connection.execute(running.values(message=storable(message)))
