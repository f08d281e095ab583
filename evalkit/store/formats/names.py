"""From the names in files to the ledger's ids, and back."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute

from evalkit.errors import UserError
from evalkit.models.base import Message, ModelSettings, Reply, RequestFailed, canonical_json, request_key
from evalkit.store.ledger import Ledger
from evalkit.store.reading import model_names
from evalkit.store.rows import AnnotatorKind, Item, ResponseRow
from evalkit.store.run_end import marked
from evalkit.store.schema import Annotator, Dataset, DatasetItem, Response
from evalkit.store.schema import Item as ItemTable
from evalkit.store.write_responses import recorded_body
from evalkit.store.write_runs import add_annotator
from evalkit.store.writing import chunks, ids_by_hash

Place = tuple[int, int, int, int]
"""Of an answer: model id, item id, sample, turn."""
NOTHING: Mapping[str, Any] = {}
PAGE = 5_000  # rows that an export holds in memory
IMPORTED = "import"
"""Source of a dataset made from a file; its items go by the file's own ids."""


@contextmanager
def import_run(ledger: Ledger, what: str, path: Path, *more: Path) -> Iterator[int]:
    """Keeps an import as a run of its own; the same files again are the same run."""
    digest = hashlib.sha256()
    for one in (path, *more):
        with one.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    plan = {"import": what, "sha256": digest.hexdigest()}
    name = f"import {what}" if more else f"import {what} {path.name}"
    run_id = ledger.start_run(name, plan, seed=0, environment={})
    with marked(ledger, run_id):
        yield run_id
    ledger.finish_run(run_id, "done")


def models_by_name(ledger: Ledger, names: Collection[str]) -> dict[str, int]:
    """Returns the ids of the models of these names; makes those that are not there."""
    with ledger.engine.connect() as connection:
        known = {name: key for key, name in model_names(connection).items()}
    new = [name for name in dict.fromkeys(names) if name not in known]
    ids = ledger.add_models([ModelSettings("recorded", name, label=name or "(no model)") for name in new])
    return {name: known[name] for name in names if name in known} | dict(zip(new, ids, strict=True))


def annotator_names(connection: sa.Connection) -> dict[int, tuple[str, str]]:
    """Returns (kind, name) of every annotator, by id; the name with its id behind where two are alike."""
    rows = connection.execute(sa.select(Annotator.id, Annotator.kind, Annotator.name)).all()
    count = Counter((row[1], row[2]) for row in rows)
    return {row[0]: (row[1], row[2] if count[row[1], row[2]] == 1 else f"{row[2]} #{row[0]}") for row in rows}


def annotators_by_name(
    ledger: Ledger,
    wanted: Collection[tuple[AnnotatorKind, str]],
    definitions: Mapping[str, Mapping[str, Any]] = NOTHING,
) -> dict[tuple[AnnotatorKind, str], int]:
    """Returns the ids of the annotators of these kinds and names; makes those that are not there.

    Args:
        definitions: What is known of judges, by name.
    """
    with ledger.engine.connect() as connection:
        known = {name: key for key, name in annotator_names(connection).items()}
    new = [one for one in dict.fromkeys(wanted) if one not in known]
    if new:
        with ledger.write() as connection:  # in one transaction: an arena has thousands of voters
            known |= {one: add_annotator(connection, *one, definitions.get(one[1], NOTHING)) for one in new}
    return {one: known[one] for one in wanted}


def imported_items(connection: sa.Connection, dataset: str | None = None) -> dict[str, set[int]]:
    """Returns which items the ids in imported files (in those of one dataset) mean."""
    query = (
        sa.select(DatasetItem.name, DatasetItem.item_id)
        .join(Dataset, Dataset.id == DatasetItem.dataset_id)
        .where(Dataset.source == IMPORTED)
    )
    if dataset is not None:
        query = query.where(Dataset.name == dataset)
    found: defaultdict[str, set[int]] = defaultdict(set)
    for name, item_id in connection.execute(query):
        found[name].add(item_id)
    return found


def known_items(connection: sa.Connection, path: Path, names: Collection[str]) -> dict[str, int]:
    """Returns which of a file's item ids the ledger has, as an item's hash or as the name in an imported file.

    Raises:
        UserError: A name means several items.
    """
    hashes = ids_by_hash(connection, ItemTable, [name for name in names if len(name) == 64])
    imported = imported_items(connection)
    known: dict[str, int] = dict(hashes)
    for name in names:
        found = imported.get(name, set())
        if name not in known and len(found) > 1:
            raise UserError(
                f"{path}, column 'item_id': {name!r} means {len(found)} different prompts, which were imported from "
                "different files; write the item's hash, as `evalkit export` does"
            )
        if name not in known and found:
            known[name] = next(iter(found))
    return known


def items_by_name(ledger: Ledger, path: Path, tags: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
    """Returns the items of a file without prompts; those the ledger lacks are made with the id as their content.

    Args:
        tags: Further tags of a new item, by item id.
    """
    with ledger.engine.connect() as connection:
        known = known_items(connection, path, tags)
    new = [name for name in tags if name not in known]
    if new:
        made = [Item((), tags={"item_id": name, **tags[name]}, name=name) for name in new]
        known.update(zip(new, ledger.add_dataset(path.name, made, IMPORTED)[1], strict=True))
    return known


def join_items(ledger: Ledger, items: Sequence[Item], dataset: str | None = None) -> list[Item]:
    """Returns the ledger's own items for those it has, completed by what these know more.

    An item that votes or grades brought in gets its prompt, and one without a reference its reference.

    Args:
        dataset: Whose names an item is looked up by; by default those of all imported files.
    """
    joined = []
    with ledger.write() as connection:
        imported = imported_items(connection, dataset)
        by_hash = ids_by_hash(connection, ItemTable, [i.hash for i in items] + [i.name for i in items])
        known = [
            [by_hash[item.name]] if item.name in by_hash else sorted(imported.get(item.name, ())) for item in items
        ]
        stored: dict[int, Any] = {}
        columns = (ItemTable.id, ItemTable.messages, ItemTable.reference, ItemTable.tags)
        for chunk in chunks(sorted({one for ids in known for one in ids})):
            query = sa.select(*columns).where(ItemTable.id.in_(chunk))
            stored.update((row.id, row) for row in connection.execute(query))
        for item, ids in zip(items, known, strict=True):
            for row in (stored[one] for one in ids):
                content = Item(tuple(row.messages), row.reference, row.tags, name=item.name, split=item.split)
                full = _completed(content, item, item.name in by_hash)
                if full is None:
                    continue
                if full != content and not ids_by_hash(connection, ItemTable, [full.hash]):
                    new = {"hash": full.hash, "messages": [dict(m) for m in full.messages], "tags": dict(full.tags)}
                    changed = sa.update(ItemTable).where(ItemTable.id == row.id)
                    connection.execute(changed.values(**new, reference=full.reference))
                item = full
            joined.append(item)
    return joined


def _completed(stored: Item, item: Item, same: bool) -> Item | None:
    """Returns a stored item with what another of its name adds; None if the two are different prompts."""
    if not stored.messages and not same:
        tags = {name: value for name, value in stored.tags.items() if name != "item_id"}
        return replace(item, tags={**tags, **item.tags})
    if not same and stored.messages != item.messages:
        return None
    return replace(stored, reference=item.reference) if stored.reference is None else stored


def recorded(
    place: Place,
    dataset_id: int,
    outcome: Reply | RequestFailed,
    messages: Sequence[Message] = (),
    before: Sequence[str | None] = (),
    cost: float | None = None,
) -> ResponseRow:
    """Returns the row of an answer that came from a file; its key is that of its place, for the request is not known.

    Args:
        messages: Of the item; for a later turn of a conversation.
        before: The model's answers to the earlier turns; the body then holds the conversation so far.
    """
    model_id, item_id, sample, turn = place
    body = recorded_body(*place)
    key = request_key(body)
    users = [message for message in messages if message["role"] == "user"]
    if before and None not in before and len(users) >= turn:
        talk: list[Message] = []
        for asked, text in zip(users, before, strict=False):
            talk += [asked, {"role": "assistant", "content": text}]
        body = canonical_json({**json.loads(body), "messages": [*talk, users[turn - 1]]})
    return ResponseRow(model_id, item_id, dataset_id, key, body, outcome, sample, cost, turn=turn)


def item_ids(connection: sa.Connection, items: Collection[int]) -> dict[int, str]:
    """Returns what files call items: the id in the file they came from if it means them only, else their hash."""
    names = _ids_in_files(connection)
    _add_hashes(connection, names, items)
    return names


def pages(
    connection: sa.Connection, query: sa.Select[*tuple[Any, ...]], key: InstrumentedAttribute[int]
) -> Iterator[tuple[Sequence[sa.Row[*tuple[Any, ...]]], Mapping[int, str]]]:
    """Yields what an export reads: rows in the order of a key, a page at a time, with their `item_ids`.

    Args:
        connection: To read by.
        query: Selects the key first, and an `item_id`.
        key: Primary key of the table that is exported.
    """
    query = query.order_by(key).limit(PAGE)
    names = _ids_in_files(connection)
    last = 0
    while found := connection.execute(query.where(key > last)).all():
        _add_hashes(connection, names, {row.item_id for row in found})
        yield found, names
        last = found[-1][0]


def _ids_in_files(connection: sa.Connection) -> dict[int, str]:
    names: dict[int, str] = {}
    for name, found in imported_items(connection).items():
        if len(found) == 1:
            names.setdefault(next(iter(found)), name)
    return names


def _add_hashes(connection: sa.Connection, names: dict[int, str], items: Collection[int]) -> None:
    for chunk in chunks(sorted(item for item in set(items) if not names.get(item))):
        hashes = sa.select(ItemTable.id, ItemTable.hash).where(ItemTable.id.in_(chunk))
        names.update((row[0], row[1]) for row in connection.execute(hashes))


def stored_responses(connection: sa.Connection, items: Collection[int]) -> dict[Place, tuple[int, bool]]:
    """Returns the first answer at each place, else the first failure: its id, and whether it failed."""
    found: dict[Place, tuple[int, bool]] = {}
    failed = Response.error_kind.is_not(None)
    columns = (Response.model_id, Response.item_id, Response.sample, Response.turn, Response.id, failed)
    for chunk in chunks(sorted(set(items))):
        query = sa.select(*columns).where(Response.item_id.in_(chunk)).order_by(failed, Response.id)
        for row in connection.execute(query):
            found.setdefault((row[0], row[1], row[2], row[3]), (row[4], bool(row[5])))
    return found
