"""Writes and reads of jobs at batch APIs."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from evalkit.store.database import now
from evalkit.store.rows import BatchRow
from evalkit.store.schema import Batch, Response
from evalkit.store.write_responses import has_key
from evalkit.store.writing import chunks, insert_new, next_id

PREPARING = "preparing"
_SHOWN = (
    *(Batch.id, Batch.token, Batch.route, Batch.file_id, Batch.provider_id, Batch.status, Batch.n, Batch.keys),
    *(Batch.model_id, Batch.corrections, Batch.created_at),
)


def add_batch(
    connection: sa.Connection,
    run_id: int,
    model_id: int,
    endpoint: str,
    route: str,
    keys: Sequence[str],
    corrections: Mapping[str, str | None],
) -> BatchRow:
    """See `Ledger.add_batch`."""
    row: dict[str, Any] = {
        "id": next_id(connection, Batch),
        "token": secrets.token_hex(16),
        "route": route,
        "file_id": None,
        "provider_id": None,
        "status": PREPARING,
        "model_id": model_id,
        "n": len(keys),
        "keys": list(keys),
        "corrections": dict(corrections),
        "created_at": now(),
    }
    more = {"endpoint": endpoint, "run_id": run_id, "finished_at": None}
    insert_new(connection, Batch, [{**row, **more}])
    return BatchRow(**{**row, "keys": tuple(keys)})


def open_batches(connection: sa.Connection, endpoint: str) -> list[BatchRow]:
    """See `Ledger.open_batches`."""
    query = sa.select(*_SHOWN).where(Batch.endpoint == endpoint, Batch.finished_at.is_(None)).order_by(Batch.id)
    return [BatchRow(**{**row, "keys": tuple(row["keys"])}) for row in connection.execute(query).mappings()]


def update_batch(connection: sa.Connection, batch_id: int, **changes: Any) -> None:
    """See `Ledger.update_batch`."""
    if "keys" in changes:
        changes["keys"] = list(changes["keys"])
        changes["finished_at"] = None if changes["keys"] else now()
    connection.execute(sa.update(Batch).where(Batch.id == batch_id).values(**changes))


def unanswered(connection: sa.Connection, keys: Sequence[str]) -> list[str]:
    """See `Ledger.unanswered`."""
    answered: set[str] = set()
    for chunk in chunks(keys):
        query = sa.select(Response.request_key).where(has_key(chunk), Response.error_kind.is_(None))
        answered.update(connection.scalars(query))
    return [key for key in keys if key not in answered]
