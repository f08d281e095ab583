"""Writes of responses, their links to runs, and the roll-up `run_cell`.

`run_cell` is always what this query would give (tests say so):

    SELECT run_id, model_id, dataset_id, count(*), sum(failed), sum(cached),
           sum(not cached: 1 if it succeeded and its cost is unknown, prompt_tokens, completion_tokens, cost, seconds)
    FROM run_response JOIN response ON response.id = response_id GROUP BY 1, 2, 3

An answer is paid by one link at most, that of the run and dataset which sent it last; all others are `cached`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from evalkit.models.base import Reply, RequestFailed
from evalkit.store.database import now, storable
from evalkit.store.rows import ResponseRow, StoredResponse
from evalkit.store.schema import Response, RunCell, RunResponse
from evalkit.store.writing import add_up, chunks, insert, insert_new, next_id

COUNTERS = ("n", "errors", "cached", "unpriced", "prompt_tokens", "completion_tokens", "cost", "seconds")
FAILED: sa.ColumnElement[bool] = sa.literal_column(
    "run_response.failed"
)  # written bare, or SQLite would not see its partial index
CellKey = tuple[int, int, int]
Link = tuple[int, int]  # run, dataset


@dataclass(slots=True)
class Known:
    """A response already in the ledger; `links` says of each link whether it is cached."""

    id: int
    values: dict[str, Any]
    links: dict[Link, bool] = field(default_factory=dict)
    changed: bool = False
    linked: bool = False


class Cells:
    """Changes to roll-up rows, collected over a batch."""

    def __init__(self) -> None:
        self.changes: dict[CellKey, list[float]] = {}

    def add(self, key: CellKey, response: dict[str, Any], cached: bool, sign: int = 1) -> None:
        cell = self.changes.get(key)
        if cell is None:
            cell = self.changes[key] = [0] * len(COUNTERS)
        failed = response["error_kind"] is not None
        cell[0] += sign
        cell[1] += sign * failed
        if cached:
            cell[2] += sign
            return
        cost = response["cost"]
        cell[3] += sign * (cost is None and not failed)
        cell[4] += sign * (response["prompt_tokens"] or 0)
        cell[5] += sign * (response["completion_tokens"] or 0)
        cell[6] += sign * (cost or 0.0)
        cell[7] += sign * (response["seconds"] or 0.0)

    def write(self, connection: sa.Connection) -> None:
        names = ("run_id", "model_id", "dataset_id", *COUNTERS)
        rows = [dict(zip(names, (*key, *cell), strict=True)) for key, cell in self.changes.items() if any(cell)]
        add_up(connection, RunCell, rows, COUNTERS)


def _values(row: ResponseRow, created: str) -> dict[str, Any]:
    values: dict[str, Any] = {
        "model_id": row.model_id,
        "item_id": row.item_id,
        "request_key": row.request_key,
        "sample": row.sample,
        "cost": row.cost,
        "attempts": row.attempts,
        "created_at": created,
        "body": storable(row.body),
    }
    outcome = row.outcome
    if isinstance(outcome, RequestFailed):
        return values | _NO_REPLY | {"error_kind": outcome.kind, "error": storable(outcome.message)}
    values["error_kind"] = values["error"] = None
    values["finish_reason"] = outcome.finish_reason
    values["prompt_tokens"] = outcome.prompt_tokens
    values["completion_tokens"] = outcome.completion_tokens
    values["cached_tokens"] = outcome.cached_tokens
    values["seconds"] = outcome.seconds
    values["served_by"] = outcome.served_by
    values["warnings"] = list(outcome.warnings) or None
    values["text"] = storable(outcome.text)
    values["reasoning"] = storable(outcome.reasoning) if outcome.reasoning is not None else None
    values["tool_calls"] = [dict(call) for call in outcome.tool_calls] or None
    values["logprobs"] = outcome.logprobs
    return values


_NO_REPLY: dict[str, Any] = dict.fromkeys(
    (
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "seconds",
        "served_by",
        "warnings",
        "text",
        "reasoning",
        "tool_calls",
        "logprobs",
    )
)


def add_responses(connection: sa.Connection, run_id: int, rows: Sequence[ResponseRow]) -> list[int]:
    """See `Ledger.add_responses`."""
    if not rows:
        return []
    first = next_id(connection, Response)
    ids = list(range(first, first + len(rows)))
    created = now()
    values = [_values(row, created) for row in rows]
    fresh: dict[tuple[str, int, int], int] = {}
    known: list[int] = []
    for index, row in enumerate(rows):
        values[index]["id"] = ids[index]
        if fresh.setdefault((row.request_key, row.model_id, row.item_id), index) != index:
            known.append(index)
    indexes = list(fresh.values())
    insert_new(connection, Response, [values[index] for index in indexes])
    count = connection.scalar(sa.select(sa.func.count()).select_from(Response).where(Response.id >= first))
    if count != len(indexes):
        stored = set(connection.scalars(sa.select(Response.id).where(Response.id >= first)))
        known = sorted(known + [index for index in indexes if ids[index] not in stored])
        indexes = [index for index in indexes if ids[index] in stored]
    cells = Cells()
    links = []
    for index in indexes:
        row, cached = rows[index], rows[index].attempts == 0
        cells.add((run_id, row.model_id, row.dataset_id), values[index], cached)
        links.append(
            {
                "run_id": run_id,
                "model_id": row.model_id,
                "dataset_id": row.dataset_id,
                "response_id": ids[index],
                "failed": values[index]["error_kind"] is not None,
                "cached": cached,
            }
        )
    insert_new(connection, RunResponse, links)
    if known:
        settled = _settle(connection, run_id, [(rows[index], values[index]) for index in known], cells)
        for index, response_id in zip(known, settled, strict=True):
            ids[index] = response_id
    cells.write(connection)
    return ids


def _settle(
    connection: sa.Connection, run_id: int, rows: Sequence[tuple[ResponseRow, dict[str, Any]]], cells: Cells
) -> list[int]:
    """Deals with rows whose identity is in the ledger: an error is replaced, an answer stays and is linked."""
    known = _load(connection, run_id, [row for row, _ in rows])
    ids = []
    for row, values in rows:
        stored = known[row.request_key, row.model_id, row.item_id]
        ids.append(stored.id)
        link = (run_id, row.dataset_id)
        if stored.values["error_kind"] is None:
            if link not in stored.links:
                stored.links[link] = stored.linked = True
                cells.add((run_id, row.model_id, row.dataset_id), stored.values, True)
            continue
        for (run, dataset), cached in stored.links.items():
            cells.add((run, row.model_id, dataset), stored.values, cached, -1)
        costs = [cost for cost in (stored.values["cost"], row.cost) if cost is not None]
        attempts = stored.values["attempts"] + row.attempts
        stored.values = {**values, "cost": sum(costs) if costs else None, "attempts": attempts}
        if row.attempts:
            stored.links = {**dict.fromkeys(stored.links, True), link: False}
        else:
            stored.links.setdefault(link, True)
        for (run, dataset), cached in stored.links.items():
            cells.add((run, row.model_id, dataset), stored.values, cached)
        stored.changed = stored.linked = True
    _store(connection, known.values())
    return ids


def _load(connection: sa.Connection, run_id: int, rows: Sequence[ResponseRow]) -> dict[tuple[str, int, int], Known]:
    columns = (
        Response.id,
        Response.model_id,
        Response.error_kind,
        Response.prompt_tokens,
        Response.completion_tokens,
        Response.cost,
        Response.seconds,
        Response.attempts,
    )
    known: dict[tuple[str, int, int], Known] = {}
    by_id: dict[int, Known] = {}
    for keys in chunks(sorted({row.request_key for row in rows})):
        query = sa.select(Response.request_key, Response.item_id, *columns).where(Response.request_key.in_(keys))
        for found in connection.execute(query).mappings():
            stored = Known(found["id"], dict(found))
            known[found["request_key"], found["model_id"], found["item_id"]] = by_id[stored.id] = stored
    # All links of errors, for a replaced one changes every run's roll-up; of answers those of this run.
    link = sa.select(RunResponse.response_id, RunResponse.run_id, RunResponse.dataset_id, RunResponse.cached)
    here = (
        RunResponse.run_id == run_id,
        RunResponse.model_id.in_(sorted({row.model_id for row in rows})),
        RunResponse.dataset_id.in_(sorted({row.dataset_id for row in rows})),
    )
    for ids in chunks(sorted(by_id)):
        for where in ((FAILED,), here):
            for response_id, run, dataset, cached in connection.execute(
                link.where(RunResponse.response_id.in_(ids), *where)
            ):
                by_id[response_id].links[run, dataset] = cached
    return known


def _store(connection: sa.Connection, known: Iterable[Known]) -> None:
    known = list(known)
    changed = [
        {("key" if name == "id" else name): value for name, value in {**stored.values, "id": stored.id}.items()}
        for stored in known
        if stored.changed
    ]
    if changed:
        statement = sa.update(Response.__table__).where(Response.__table__.c.id == sa.bindparam("key"))  # type: ignore[arg-type]
        connection.execute(statement, changed)
    links = [
        {
            "run_id": run,
            "model_id": stored.values["model_id"],
            "dataset_id": dataset,
            "response_id": stored.id,
            "failed": stored.values["error_kind"] is not None,
            "cached": cached,
        }
        for stored in known
        if stored.linked
        for (run, dataset), cached in stored.links.items()
    ]
    if links:
        upsert = insert(connection, RunResponse)
        names = ("run_id", "model_id", "dataset_id", "response_id")
        changes = {name: upsert.excluded[name] for name in ("failed", "cached")}
        connection.execute(upsert.on_conflict_do_update(index_elements=names, set_=changes), links)


def link_responses(connection: sa.Connection, run_id: int, rows: Sequence[tuple[int, int, int]]) -> None:
    """See `Ledger.link_responses`."""
    wanted = dict.fromkeys(rows)
    failed: set[int] = set()
    linked: set[tuple[int, int, int]] = set()
    models, datasets = ({row[i] for row in wanted} for i in (1, 2))
    for ids in chunks(sorted({row[0] for row in wanted})):
        failed.update(
            connection.scalars(sa.select(Response.id).where(Response.id.in_(ids), Response.error_kind.is_not(None)))
        )
        query = sa.select(RunResponse.response_id, RunResponse.model_id, RunResponse.dataset_id).where(
            RunResponse.run_id == run_id,
            RunResponse.model_id.in_(models),
            RunResponse.dataset_id.in_(datasets),
            RunResponse.response_id.in_(ids),
        )
        linked.update((row[0], row[1], row[2]) for row in connection.execute(query))
    cells = Cells()
    links = []
    for response_id, model_id, dataset_id in wanted:
        if (response_id, model_id, dataset_id) in linked:
            continue
        error = "failed" if response_id in failed else None
        cells.add((run_id, model_id, dataset_id), {"error_kind": error}, True)
        links.append(
            {
                "run_id": run_id,
                "model_id": model_id,
                "dataset_id": dataset_id,
                "response_id": response_id,
                "failed": error is not None,
                "cached": True,
            }
        )
    insert_new(connection, RunResponse, links)
    cells.write(connection)


def find_responses(connection: sa.Connection, keys: Sequence[str]) -> dict[str, StoredResponse]:
    """See `Ledger.find_responses`."""
    found: dict[str, StoredResponse] = {}
    for chunk in chunks(list(dict.fromkeys(keys))):
        query = (
            sa.select(Response.__table__)
            .where(Response.request_key.in_(chunk), Response.error_kind.is_(None), Response.text.is_not(None))
            .order_by(Response.id.desc())  # of several copies the first one paid for wins
        )
        for row in connection.execute(query).mappings():
            reply = Reply(
                text=row["text"],
                reasoning=row["reasoning"],
                tool_calls=tuple(row["tool_calls"] or ()),
                finish_reason=row["finish_reason"],
                logprobs=row["logprobs"],
                prompt_tokens=row["prompt_tokens"],
                completion_tokens=row["completion_tokens"],
                cached_tokens=row["cached_tokens"],
                seconds=row["seconds"] or 0.0,
                served_by=row["served_by"],
                warnings=tuple(row["warnings"] or ()),
            )
            found[row["request_key"]] = StoredResponse(
                row["id"], row["model_id"], row["item_id"], row["request_key"], reply, row["cost"]
            )
    return found
