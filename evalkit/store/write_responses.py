"""Writes of responses, their links to runs, and the roll-up `run_cell`.

`run_cell` is always what this query would give (tests say so):

    SELECT run_id, model_id, dataset_id, count(*), sum(failed), sum(cached),
           sum(not cached: 1 if it succeeded and its cost is unknown, prompt_tokens, completion_tokens, cost, seconds)
    FROM run_response JOIN response ON response.id = response_id GROUP BY 1, 2, 3

An answer is paid by one link at most, that of the run and dataset which sent it last; all others are `cached`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from evalkit.models.base import Reply, RequestFailed, canonical_json, request_key
from evalkit.store.database import now, storable
from evalkit.store.rows import ResponseRow, StoredResponse
from evalkit.store.schema import Response, RunCell, RunResponse
from evalkit.store.writing import add_up, chunks, insert, insert_tuples, next_id, update_tuples

COUNTERS = ("n", "errors", "cached", "unpriced", "prompt_tokens", "completion_tokens", "cost", "seconds")
PLAIN = (
    *(
        "id",
        "model_id",
        "item_id",
        "request_key",
        "key_prefix",
        "sample",
        "turn",
        "created_at",
        "body",
        "attempts",
        "cost",
    ),
    *("prompt_tokens", "completion_tokens", "seconds", "cached_tokens", "finish_reason", "served_by", "text"),
)
"""What nearly every answer has; a row with more has all of NAMES."""
NAMES = (*PLAIN, "error_kind", "error", "reasoning", "warnings", "tool_calls", "logprobs")
LINK_NAMES = ("run_id", "model_id", "dataset_id", "response_id", "failed", "cached")
LINK = f"""
    INSERT INTO run_response ({", ".join(LINK_NAMES)})
    SELECT {{0}}, model_id, {{0}}, id, error_kind IS NOT NULL, attempts = 0 FROM response
    WHERE id BETWEEN {{0}} AND {{0}}
"""
FAILED: sa.ColumnElement[bool] = sa.literal_column("run_response.failed")  # bare, or SQLite's partial index is not seen
ATTEMPTS, COST = NAMES.index("attempts"), NAMES.index("cost")
Identity = tuple[str, int, int]  # request key, model, item
Link = tuple[int, int]  # run, dataset
Counts = tuple[bool, int | None, int | None, float | None, float | None]  # failed, tokens in and out, cost, seconds


@dataclass(slots=True)
class Known:
    """A response already in the ledger; `links` says of each link whether it is cached."""

    id: int
    model_id: int
    counts: Counts
    attempts: int
    links: dict[Link, bool] = field(default_factory=dict)
    linked: bool = False
    values: tuple[Any, ...] | None = None  # what it is replaced by


class Cells:
    """Changes to roll-up rows, collected over a batch."""

    def __init__(self) -> None:
        self.changes: dict[tuple[int, int, int], list[float]] = {}

    def add(self, key: tuple[int, int, int], counts: Counts, cached: bool, sign: int = 1) -> None:
        """Adds (or with sign -1 takes away) one link; key is (run, model, dataset)."""
        cell = self.changes.get(key)
        if cell is None:
            cell = self.changes[key] = [0] * len(COUNTERS)
        failed, prompt_tokens, completion_tokens, cost, seconds = counts
        cell[0] += sign
        if failed:
            cell[1] += sign
        if cached:
            cell[2] += sign
            return
        if cost:
            cell[6] += sign * cost
        elif cost is None and not failed:
            cell[3] += sign
        if prompt_tokens:
            cell[4] += sign * prompt_tokens
        if completion_tokens:
            cell[5] += sign * completion_tokens
        if seconds:
            cell[7] += sign * seconds

    def write(self, connection: sa.Connection) -> None:
        """Adds the changes to `run_cell`."""
        add_up(connection, RunCell, self.changes)


def _counts(row: ResponseRow) -> Counts:
    outcome = row.outcome
    if isinstance(outcome, RequestFailed):
        return (True, None, None, row.cost, None)
    return (False, outcome.prompt_tokens, outcome.completion_tokens, row.cost, outcome.seconds)


def _json(value: Any) -> str | None:
    return json.dumps(value, separators=(",", ":")) if value else None


def _prefix(key: str) -> int:
    return int(key[:12], 16)


def _is_plain(outcome: Reply | RequestFailed) -> bool:
    if isinstance(outcome, RequestFailed):
        return False
    return outcome.reasoning is None and not (outcome.tool_calls or outcome.warnings or outcome.logprobs)


def _plain(row: ResponseRow, response_id: int, created: str) -> tuple[Any, ...]:
    """Returns an answer's values in the order of PLAIN."""
    key = row.request_key
    reply: Any = row.outcome
    return (
        response_id,
        row.model_id,
        row.item_id,
        key,
        _prefix(key),
        row.sample,
        row.turn,
        created,
        storable(row.body),
        row.attempts,
        row.cost,
        reply.prompt_tokens,
        reply.completion_tokens,
        reply.seconds,
        reply.cached_tokens,
        reply.finish_reason,
        reply.served_by,
        storable(reply.text),
    )


def _full(row: ResponseRow, response_id: int, created: str) -> tuple[Any, ...]:
    """Returns a row's values in the order of NAMES, JSON as text."""
    outcome, key = row.outcome, row.request_key
    if isinstance(outcome, RequestFailed):
        named = (response_id, row.model_id, row.item_id, key, _prefix(key), row.sample, row.turn)
        head = (*named, created, storable(row.body), row.attempts, row.cost)
        nothing = (None,) * (len(PLAIN) - len(head))
        return (*head, *nothing, outcome.kind, storable(outcome.message), *(None,) * 4)
    return (
        *_plain(row, response_id, created),
        None,
        None,
        storable(outcome.reasoning) if outcome.reasoning is not None else None,
        _json(outcome.warnings),
        _json([dict(call) for call in outcome.tool_calls]),
        _json(outcome.logprobs),
    )


def add_responses(connection: sa.Connection, run_id: int, rows: Sequence[ResponseRow]) -> list[int]:
    """See `Ledger.add_responses`."""
    if not rows:
        return []
    first, created = next_id(connection, Response), now()
    # Ids go to plain answers, then to all others: two statements, each of which appends to the table instead of
    # splitting its pages. Of several rows of one identity only the first gets one.
    firsts = _firsts(rows)
    plain = [index for index in firsts if _is_plain(rows[index].outcome)]
    others = sorted({*firsts}.difference(plain)) if len(plain) < len(firsts) else []
    order = [*plain, *others]
    values = [_plain(rows[index], response_id, created) for response_id, index in enumerate(plain, first)]
    rest = [_full(rows[index], response_id, created) for response_id, index in enumerate(others, first + len(plain))]
    count = insert_tuples(connection, Response, PLAIN, values) + insert_tuples(connection, Response, NAMES, rest)
    stored: Collection[int] = range(first, first + len(order))
    if count != len(order):
        stored = set(connection.scalars(sa.select(Response.id).where(Response.id >= first)))
    ids = [0] * len(rows)
    cells = Cells()
    spans: list[list[int]] = []  # of ids for one dataset
    dataset_id = None
    for response_id, index in enumerate(order, first):
        if response_id not in stored:
            continue
        ids[index] = response_id
        row = rows[index]
        if row.dataset_id != dataset_id:
            dataset_id = row.dataset_id
            spans.append([dataset_id, response_id])
        cells.add((run_id, row.model_id, dataset_id), _counts(row), row.attempts == 0)
    ends = [*(start - 1 for _, start in spans[1:]), first + len(order) - 1]
    links = [(run_id, *span, end) for span, end in zip(spans, ends, strict=False)]
    if links:
        connection.exec_driver_sql(LINK.format("?" if connection.dialect.name == "sqlite" else "%s"), links)
    known = [index for index, response_id in enumerate(ids) if not response_id]
    if known:
        settled = _settle(connection, run_id, [rows[index] for index in known], created, cells)
        for index, response_id in zip(known, settled, strict=True):
            ids[index] = response_id
    cells.write(connection)
    return ids


def _firsts(rows: Sequence[ResponseRow]) -> Sequence[int]:
    """Returns the places of the first row of each identity."""
    if len({row.request_key for row in rows}) == len(rows):
        return range(len(rows))
    firsts: dict[Identity, int] = {}
    for index, row in enumerate(rows):
        firsts.setdefault((row.request_key, row.model_id, row.item_id), index)
    return list(firsts.values())


def _settle(
    connection: sa.Connection, run_id: int, rows: Sequence[ResponseRow], created: str, cells: Cells
) -> list[int]:
    """Deals with rows whose identity is in the ledger: an error is replaced, an answer stays and is linked."""
    known = _load(connection, run_id, rows)
    ids = []
    for row in rows:
        stored = known[row.request_key, row.model_id, row.item_id]
        ids.append(stored.id)
        link = (run_id, row.dataset_id)
        if not stored.counts[0]:
            if link not in stored.links:
                stored.links[link] = stored.linked = True
                cells.add((run_id, row.model_id, row.dataset_id), stored.counts, True)
            continue
        for (run, dataset), cached in stored.links.items():
            cells.add((run, row.model_id, dataset), stored.counts, cached, -1)
        costs = [cost for cost in (stored.counts[3], row.cost) if cost is not None]
        cost = sum(costs) if costs else None
        stored.attempts += row.attempts
        failed, prompt_tokens, completion_tokens, _, seconds = _counts(row)
        stored.counts = (failed, prompt_tokens, completion_tokens, cost, seconds)
        changed = list(_full(row, stored.id, created))
        changed[ATTEMPTS], changed[COST] = stored.attempts, cost
        stored.values = tuple(changed)
        if row.attempts:
            stored.links = {**dict.fromkeys(stored.links, True), link: False}
        else:
            stored.links.setdefault(link, True)
        stored.linked = True
        for (run, dataset), cached in stored.links.items():
            cells.add((run, row.model_id, dataset), stored.counts, cached)
    update_tuples(connection, Response, NAMES, [stored.values for stored in known.values() if stored.values])
    _relink(connection, [stored for stored in known.values() if stored.linked])
    return ids


def has_key(keys: Sequence[str]) -> sa.ColumnElement[bool]:
    """Returns the condition that a response is to one of these requests; it uses the index."""
    return sa.and_(Response.key_prefix.in_([_prefix(key) for key in keys]), Response.request_key.in_(keys))


def _load(connection: sa.Connection, run_id: int, rows: Sequence[ResponseRow]) -> dict[Identity, Known]:
    known: dict[Identity, Known] = {}
    by_id: dict[int, Known] = {}
    columns = (Response.request_key, Response.model_id, Response.item_id, Response.id, Response.attempts)
    counts = (Response.prompt_tokens, Response.completion_tokens, Response.cost, Response.seconds)
    for keys in chunks(sorted({wanted.request_key for wanted in rows})):
        query = sa.select(*columns, Response.error_kind.is_not(None), *counts).where(has_key(keys))
        for row in connection.execute(query):
            known[row[0], row[1], row[2]] = by_id[row[3]] = Known(row[3], row[1], (row[5], *row[6:10]), row[4])
    # All links of errors, for a replaced one changes every run's roll-up; of answers those of this run.
    link = sa.select(RunResponse.response_id, RunResponse.run_id, RunResponse.dataset_id, RunResponse.cached)
    here = (
        RunResponse.run_id == run_id,
        RunResponse.model_id.in_(sorted({wanted.model_id for wanted in rows})),
        RunResponse.dataset_id.in_(sorted({wanted.dataset_id for wanted in rows})),
    )
    for ids in chunks(sorted(by_id)):
        for where in ((FAILED,), here):
            links = connection.execute(link.where(RunResponse.response_id.in_(ids), *where))
            for response_id, run, dataset, cached in links:
                by_id[response_id].links[run, dataset] = cached
    return known


def _relink(connection: sa.Connection, known: Iterable[Known]) -> None:
    links = [
        {
            "run_id": run,
            "model_id": stored.model_id,
            "dataset_id": dataset,
            "response_id": stored.id,
            "failed": stored.counts[0],
            "cached": cached,
        }
        for stored in known
        for (run, dataset), cached in stored.links.items()
    ]
    if links:
        upsert = insert(connection, RunResponse)
        changes = {name: upsert.excluded[name] for name in ("failed", "cached")}
        connection.execute(upsert.on_conflict_do_update(index_elements=LINK_NAMES[:4], set_=changes), links)


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
        cells.add((run_id, model_id, dataset_id), (response_id in failed, None, None, None, None), True)
        links.append((run_id, model_id, dataset_id, response_id, response_id in failed, True))
    insert_tuples(connection, RunResponse, LINK_NAMES, links)
    cells.write(connection)


def find_responses(connection: sa.Connection, keys: Sequence[str]) -> dict[str, StoredResponse]:
    """See `Ledger.find_responses`."""
    found: dict[str, StoredResponse] = {}
    for chunk in chunks(list(dict.fromkeys(keys))):
        query = (
            sa.select(Response.__table__)
            .where(has_key(chunk), Response.error_kind.is_(None), Response.text.is_not(None))
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


def recorded_body(model_id: int, item_id: int, sample: int, turn: int = 1) -> str:
    """Returns the body of an answer that came from a file: who answered what, for nobody knows the request."""
    place = {"model": model_id, "item": item_id, "sample": sample}
    return canonical_json({"recorded": place if turn == 1 else {**place, "turn": turn}})


def add_placeholders(connection: sa.Connection, places: Sequence[tuple[int, int, int, int]]) -> list[int]:
    """Adds responses of unknown text, in no run, for grades of what the ledger has not got.

    Args:
        places: (model id, item id, sample, turn), each once.

    Returns:
        Ids in the order given; a later import of the texts replaces these rows in place.
    """
    outcome = RequestFailed("missing", "graded, but the answer itself was not imported")
    first, created = next_id(connection, Response), now()
    bodies = [recorded_body(*place) for place in places]
    keys = [request_key(body) for body in bodies]
    rows = [
        ResponseRow(model_id, item_id, 0, key, body, outcome, sample, attempts=0, turn=turn)
        for key, body, (model_id, item_id, sample, turn) in zip(keys, bodies, places, strict=True)
    ]
    insert_tuples(connection, Response, NAMES, [_full(row, first + i, created) for i, row in enumerate(rows)])
    ids: dict[str, int] = {}
    for chunk in chunks(keys):
        found = connection.execute(sa.select(Response.request_key, Response.id).where(has_key(chunk)))
        ids.update((row[0], row[1]) for row in found)
    return [ids[key] for key in keys]
