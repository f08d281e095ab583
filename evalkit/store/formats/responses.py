"""Responses: item_id, model, prompt, response; optional tags, sample, turn, and what an answer took or failed by."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import sqlalchemy as sa

from evalkit.models.base import FailureKind, Message, Reply, RequestFailed
from evalkit.store.arena import judges_answers
from evalkit.store.formats.names import (
    IMPORTED,
    import_run,
    item_ids,
    join_items,
    models_by_name,
    pages,
    recorded,
    stored_responses,
)
from evalkit.store.formats.tables import Row, read_table, unique, write_table
from evalkit.store.ledger import Ledger
from evalkit.store.reading import arrays, model_names
from evalkit.store.rows import Item
from evalkit.store.schema import Item as ItemTable
from evalkit.store.schema import Response
from evalkit.store.writing import chunks

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("item_id", "model", "prompt", "response")
COLUMNS: dict[str, type] = {
    **dict.fromkeys((*REQUIRED, "tags"), str),
    **dict.fromkeys(("sample", "turn"), int),
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
        lambda row: (row.text("item_id"), row.text("model"), row.integer("sample", 0), row.integer("turn", 1, 1)),
        "number several answers of one model to it in a column 'sample'",
    )
    return rows


def read_responses(path: Path) -> pd.DataFrame:
    """Reads a responses file without a ledger, checked as `import_responses` does.

    Returns:
        item_id, model, prompt, response, sample, turn, error_kind ("" for an answer), all but sample and turn as text.

    Raises:
        UserError: Something is wrong in the file.
    """
    import pandas as pd

    rows = []
    for row in _read(path):
        outcome = _outcome(row)
        answer = ("", outcome.kind) if isinstance(outcome, RequestFailed) else (outcome.text, "")
        prompt = row.text("prompt", "")
        place = (row.integer("sample", 0), row.integer("turn", 1, 1))
        rows.append((row.text("item_id"), row.text("model"), prompt, answer[0], *place, answer[1]))
    return pd.DataFrame(rows, columns=["item_id", "model", "prompt", "response", "sample", "turn", "error_kind"])


def ledger_lengths(ledger: Ledger) -> pd.DataFrame:
    """Reads how long the contestants' answers in a ledger are.

    Returns:
        item_id and model, named as in `ledger_votes`, turn and length (characters); failed answers are left out.
    """
    import numpy as np
    import pandas as pd

    length = sa.func.coalesce(sa.func.length(Response.text), -1)
    query = sa.select(Response.item_id, Response.model_id, Response.turn, length)
    query = query.where(Response.id.not_in(judges_answers()), Response.error_kind.is_(None))
    with ledger.engine.connect() as connection:
        item, model, turn, lengths = arrays(connection.execute(query))
        found, place = np.unique(item, return_inverse=True)
        items, models = item_ids(connection, set(found.tolist())), model_names(connection)
    asked, of = np.unique(model, return_inverse=True)
    return pd.DataFrame(
        {
            "item_id": pd.array([items[key] for key in found.tolist()], dtype="str").take(place),
            "model": pd.array([models[key] for key in asked.tolist()], dtype="str").take(of),
            "turn": turn,
            "length": np.where(lengths < 0, np.nan, lengths) if (lengths < 0).any() else lengths,
        }
    )


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
    places = [(row.text("model"), row.text("item_id"), row.integer("sample", 0) or 0) for row in rows]
    turns = [row.integer("turn", 1, 1) or 1 for row in rows]
    models = models_by_name(ledger, [model for model, *_ in places])
    contents = join_items(ledger, [item for item, _ in items.values()])
    dataset_id, ids = ledger.add_dataset(path.name, contents, IMPORTED)
    by_name = dict(zip(items, ids, strict=True))
    said = {
        (*place, turn): outcome.text
        for place, turn, outcome in zip(places, turns, outcomes, strict=True)
        if isinstance(outcome, Reply)
    }
    with ledger.engine.connect() as connection:
        answered = stored_responses(connection, ids)
    with import_run(ledger, "responses", path) as run_id:
        new, links = [], []
        for place, turn, outcome, cost in zip(places, turns, outcomes, costs, strict=True):
            stored_at = (models[place[0]], by_name[place[1]], place[2], turn)
            stored = answered.get(stored_at)
            if stored and (isinstance(outcome, RequestFailed) or not stored[1]):
                links.append((stored[0], stored_at[0], dataset_id))
                continue
            before = [said.get((*place, earlier)) for earlier in range(1, turn)]
            new.append(recorded(stored_at, dataset_id, outcome, items[place[1]][0].messages, before, cost))
        for chunk in chunks(new, PAGE):
            ledger.add_responses(run_id, chunk)
        ledger.link_responses(run_id, links)
    return len(rows)


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
        *(Response.turn, Response.error_kind, Response.error, Response.finish_reason, Response.prompt_tokens),
        *(Response.completion_tokens, Response.seconds, Response.cost),
    )
    query = (
        sa.select(*columns)
        .join(ItemTable, ItemTable.id == Response.item_id)
        .where(Response.id.not_in(judges_answers()))
    )
    numbers: dict[tuple[int, int, int], int] = {}
    with ledger.engine.connect() as connection:
        models = model_names(connection)
        for found, items in pages(connection, query, Response.id):
            page = []
            for row in found:
                tags = {name: value for name, value in row[5].items() if row[3] or name != "item_id"}
                told = json.dumps(tags, ensure_ascii=False) if tags else None
                number = numbers[row[1], row[2], row[6]] = numbers.get((row[1], row[2], row[6]), -1) + 1
                page.append((items[row[1]], models[row[2]], _prompt(row[3]), row[4] or "", told, number, *row[6:]))
            yield page
