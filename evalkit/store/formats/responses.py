"""Responses: item_id, model, prompt, response; optional tags, sample, error_kind, error, and what an answer took."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import sqlalchemy as sa

from evalkit.models.base import FailureKind, Message, Reply, RequestFailed, request_key
from evalkit.store.formats.names import (
    IMPORTED,
    import_run,
    imported_items,
    item_ids,
    models_by_name,
    stored_responses,
)
from evalkit.store.formats.tables import Row, read_table, unique, write_table
from evalkit.store.ledger import Ledger
from evalkit.store.reading import model_names
from evalkit.store.rows import Item, ResponseRow
from evalkit.store.schema import Item as ItemTable
from evalkit.store.schema import Response, Verdict
from evalkit.store.write_responses import recorded_body
from evalkit.store.writing import chunks, ids_by_hash

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("item_id", "model", "prompt", "response")
COLUMNS: dict[str, type] = {
    **dict.fromkeys((*REQUIRED, "tags"), str),
    "sample": int,
    **dict.fromkeys(("error_kind", "error", "finish_reason"), str),
    **dict.fromkeys(("prompt_tokens", "completion_tokens"), int),
    **dict.fromkeys(("seconds", "cost"), float),
}
PAGE = 5_000


def _prompt(messages: Sequence[Message]) -> str:
    """A lone user message is its text, a longer conversation the JSON of its messages."""
    if not messages:
        return ""
    if len(messages) == 1 and set(messages[0]) == {"role", "content"} and messages[0]["role"] == "user":
        content = messages[0]["content"]
        if isinstance(content, str) and _conversation(content) is None:
            return content
    return json.dumps(list(messages), ensure_ascii=False)


def _conversation(prompt: str) -> tuple[Message, ...] | None:
    """Returns the messages if a prompt is the JSON of a conversation."""
    if not prompt.startswith("[{"):
        return None
    try:
        messages = json.loads(prompt)
    except json.JSONDecodeError:
        return None
    found = all(isinstance(m, dict) and isinstance(m.get("role"), str) and "content" in m for m in messages)
    return tuple(messages) if found else None


def _item(row: Row) -> Item:
    prompt, item_id = row.text("prompt", ""), row.text("item_id")
    tags = row.json("tags")
    if not prompt:
        return Item((), tags={"item_id": item_id, **tags}, name=item_id)
    return Item(_conversation(prompt) or ({"role": "user", "content": prompt},), tags=tags, name=item_id)


def _outcome(row: Row) -> Reply | RequestFailed:
    text = row.text("response", "")
    kinds: tuple[FailureKind, ...] = get_args(FailureKind)
    kind = row.choice("error_kind", kinds, "")
    if kind:
        return RequestFailed(kind, row.text("error", "no reason was recorded"))  # type: ignore[arg-type]
    if not text:
        return RequestFailed("empty", "the recorded answer is empty")
    return Reply(
        text,
        finish_reason=row.text("finish_reason", "") or None,
        prompt_tokens=row.integer("prompt_tokens", None),
        completion_tokens=row.integer("completion_tokens", None),
        seconds=row.number("seconds", 0) or 0.0,
    )


def _read(path: Path) -> list[Row]:
    rows = read_table(path, REQUIRED)
    unique(
        rows,
        "item_id",
        lambda row: (row.text("item_id"), row.text("model"), row.integer("sample", 0)),
        "number several answers of one model to it in a column 'sample'",
    )
    return rows


def read_responses(path: Path) -> pd.DataFrame:
    """Reads a responses file without a ledger, checked as `import_responses` does.

    Returns:
        item_id, model, prompt, response, sample, error_kind ("" for an answer), all but sample as text.

    Raises:
        UserError: Something is wrong in the file.
    """
    import pandas as pd

    rows = []
    for row in _read(path):
        outcome = _outcome(row)
        answer = ("", outcome.kind) if isinstance(outcome, RequestFailed) else (outcome.text, "")
        prompt = row.text("prompt", "")
        rows.append((row.text("item_id"), row.text("model"), prompt, answer[0], row.integer("sample", 0), answer[1]))
    return pd.DataFrame(rows, columns=["item_id", "model", "prompt", "response", "sample", "error_kind"])


def ledger_lengths(ledger: Ledger) -> pd.DataFrame:
    """Reads how long the contestants' answers in a ledger are.

    Returns:
        item_id and model, named as in `ledger_votes`, and length (characters); failed answers are left out.
    """
    import pandas as pd

    judging = sa.select(Verdict.response_id).where(Verdict.response_id.is_not(None))
    query = sa.select(Response.item_id, Response.model_id, sa.func.length(Response.text))
    query = query.where(Response.id.not_in(judging), Response.error_kind.is_(None))
    with ledger.engine.connect() as connection:
        found = connection.execute(query).all()
        models, items = model_names(connection), item_ids(connection, {row[0] for row in found})
    rows = [(items[item], models[model], length) for item, model, length in found]
    return pd.DataFrame(rows, columns=["item_id", "model", "length"])


def import_responses(ledger: Ledger, path: Path) -> int:
    """Reads a responses file into items, models and responses, a run of its own.

    An empty answer is a failure of kind `empty`. What the ledger has of a model on an item stays as it is.

    Returns:
        The number of rows.

    Raises:
        UserError: Something is wrong in the file; nothing was written.
    """
    rows = _read(path)
    items: dict[str, tuple[Item, Row]] = {}
    for row in rows:
        item = _item(row)
        first, where = items.setdefault(row.text("item_id"), (item, row))
        if first != item:
            column = "tags" if first.messages == item.messages else "prompt"
            raise row.fault(column, f"it differs from that of the same item_id in line {where.line}")
    outcomes = [_outcome(row) for row in rows]
    costs = [row.number("cost", 0) for row in rows]
    samples = [row.integer("sample", 0) or 0 for row in rows]
    models = models_by_name(ledger, [row.text("model") for row in rows])
    contents = _join(ledger, [item for item, _ in items.values()])
    dataset_id, ids = ledger.add_dataset(path.name, contents, IMPORTED)
    by_name = dict(zip(items, ids, strict=True))
    with ledger.engine.connect() as connection:
        answered = stored_responses(connection, ids)
    with import_run(ledger, "responses", path) as run_id:
        new, links = [], []
        for row, outcome, cost, sample in zip(rows, outcomes, costs, samples, strict=True):
            place = (models[row.text("model")], by_name[row.text("item_id")], sample)
            stored = answered.get(place)
            if stored and (isinstance(outcome, RequestFailed) or not stored[1]):
                links.append((stored[0], place[0], dataset_id))
                continue
            body = recorded_body(*place)
            new.append(ResponseRow(place[0], place[1], dataset_id, request_key(body), body, outcome, sample, cost))
        for chunk in chunks(new, PAGE):
            ledger.add_responses(run_id, chunk)
        ledger.link_responses(run_id, links)
    return len(rows)


def _join(ledger: Ledger, items: Sequence[Item]) -> list[Item]:
    """Returns the ledger's own items for those it has, and gives prompts to items that votes or grades brought in."""
    joined = []
    with ledger.write() as connection:
        imported = imported_items(connection)
        by_hash = ids_by_hash(connection, ItemTable, [i.hash for i in items] + [i.name for i in items])
        for item in items:
            known = [by_hash[item.name]] if item.name in by_hash else sorted(imported.get(item.name, ()))
            query = sa.select(ItemTable.id, ItemTable.messages, ItemTable.reference, ItemTable.tags)
            for row in connection.execute(query.where(ItemTable.id.in_(known))):
                content = Item(tuple(row[1]), row[2], row[3], name=item.name)
                if content.messages == item.messages or item.name in by_hash:
                    item = content
                elif not content.messages:
                    tags = {name: value for name, value in row[3].items() if name != "item_id"}
                    item = replace(item, tags={**tags, **item.tags})
                    if ids_by_hash(connection, ItemTable, [item.hash]):
                        continue
                    new = {"hash": item.hash, "messages": [dict(m) for m in item.messages], "tags": dict(item.tags)}
                    connection.execute(sa.update(ItemTable).where(ItemTable.id == row[0]).values(**new))
            joined.append(item)
    return joined


def export_responses(ledger: Ledger, path: Path) -> int:
    """Writes every response of a contestant, failures included (with `error_kind` and no response).

    What judges answered is left out: it belongs to their verdicts. `sample` numbers a model's answers to an item, as
    other settings of a task may have asked for several.

    Returns:
        The number of rows.

    Raises:
        UserError: The file cannot be written.
    """
    return write_table(path, COLUMNS, _pages(ledger))


def _pages(ledger: Ledger) -> Iterator[list[tuple[Any, ...]]]:
    columns = (
        *(Response.id, Response.item_id, Response.model_id, ItemTable.messages, Response.text, ItemTable.tags),
        *(Response.sample, Response.error_kind, Response.error, Response.finish_reason, Response.prompt_tokens),
        *(Response.completion_tokens, Response.seconds, Response.cost),
    )
    judging = sa.select(Verdict.response_id).where(Verdict.response_id.is_not(None))
    query = sa.select(*columns).join(ItemTable, ItemTable.id == Response.item_id).where(Response.id.not_in(judging))
    query = query.order_by(Response.id).limit(PAGE)
    last = 0
    numbers: dict[tuple[int, int], int] = {}
    with ledger.engine.connect() as connection:
        models = model_names(connection)
        while found := connection.execute(query.where(Response.id > last)).all():
            items = item_ids(connection, {row[1] for row in found})
            page = []
            for row in found:
                tags = {name: value for name, value in row[5].items() if row[3] or name != "item_id"}
                told = json.dumps(tags, ensure_ascii=False) if tags else None
                number = numbers[row[1], row[2]] = numbers.get((row[1], row[2]), -1) + 1
                page.append((items[row[1]], models[row[2]], _prompt(row[3]), row[4] or "", told, number, *row[7:]))
            yield page
            last = found[-1][0]
