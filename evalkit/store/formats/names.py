"""From the names in files to the ledger's ids, and back."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.models.base import ModelSettings
from evalkit.store.ledger import Ledger
from evalkit.store.reading import model_names
from evalkit.store.rows import AnnotatorKind, Item
from evalkit.store.schema import Annotator, Dataset, DatasetItem, Response
from evalkit.store.schema import Item as ItemTable
from evalkit.store.writing import chunks, ids_by_hash

IMPORTED = "import"
"""Source of a dataset made from a file; its items go by the file's own ids."""


@contextmanager
def import_run(ledger: Ledger, what: str, path: Path) -> Iterator[int]:
    """Keeps an import as a run of its own; the same file again is the same run."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    plan = {"import": what, "sha256": digest}
    run_id = ledger.start_run(f"import {what} {path.name}", plan, seed=0, environment={})
    try:
        yield run_id
    except BaseException as error:
        ledger.finish_run(run_id, "failed", str(error))
        raise
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
    ledger: Ledger, wanted: Collection[tuple[AnnotatorKind, str]]
) -> dict[tuple[AnnotatorKind, str], int]:
    """Returns the ids of the annotators of these kinds and names; makes those that are not there."""
    with ledger.engine.connect() as connection:
        known = {name: key for key, name in annotator_names(connection).items()}
    return {one: known[one] if one in known else ledger.add_annotator(*one, {}) for one in dict.fromkeys(wanted)}


def imported_items(connection: sa.Connection) -> dict[str, set[int]]:
    """Returns which items the ids in imported files mean."""
    query = (
        sa.select(DatasetItem.name, DatasetItem.item_id)
        .join(Dataset, Dataset.id == DatasetItem.dataset_id)
        .where(Dataset.source == IMPORTED)
    )
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


def item_ids(connection: sa.Connection, items: Collection[int]) -> dict[int, str]:
    """Returns what files call items: the id in the file they came from if it means them only, else their hash."""
    imported = imported_items(connection)
    names: dict[int, str] = {}
    for name, found in imported.items():
        if len(found) == 1:
            names.setdefault(next(iter(found)), name)
    missing = sorted(item for item in set(items) if not names.get(item))
    for chunk in chunks(missing):
        hashes = sa.select(ItemTable.id, ItemTable.hash).where(ItemTable.id.in_(chunk))
        names.update((row[0], row[1]) for row in connection.execute(hashes))
    return names


def stored_responses(connection: sa.Connection, items: Collection[int]) -> dict[tuple[int, int, int], tuple[int, bool]]:
    """Returns the first answer of each (model, item, sample), else the first failure: its id, and whether it failed."""
    found: dict[tuple[int, int, int], tuple[int, bool]] = {}
    failed = Response.error_kind.is_not(None)
    columns = (Response.model_id, Response.item_id, Response.sample, Response.id, failed)
    for chunk in chunks(sorted(set(items))):
        query = sa.select(*columns).where(Response.item_id.in_(chunk)).order_by(failed, Response.id)
        for row in connection.execute(query):
            found.setdefault((row[0], row[1], row[2]), (row[3], bool(row[4])))
    return found
