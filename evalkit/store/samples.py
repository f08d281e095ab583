"""Reads of single responses: a page of a run's, and everything about one. Part of `evalkit.store.frames`."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.store.ledger import Ledger
from evalkit.store.reading import dataset_ids, frame, model_ids, model_names
from evalkit.store.schema import Annotator, Dataset, DatasetItem, Grade, Item, Response, RunCell, RunResponse
from evalkit.store.writing import chunks

if TYPE_CHECKING:
    import pandas as pd

Cursor = tuple[int, int, int]
"""A place in a run: model id, dataset id, response id."""


def responses(
    ledger: Ledger,
    run_id: int,
    *,
    model: int | str | None = None,
    dataset: int | str | None = None,
    failed: bool | None = None,
    after: int | Cursor | None = None,
    limit: int | None = 50,
    texts: bool = False,
) -> pd.DataFrame:
    """Reads one page of a run's responses, ordered by model, dataset and response.

    Args:
        failed: True for requests without an answer only, False for answers only.
        after: Where the page before ended: its last response_id, or `attrs["next"]`.
        limit: Rows a page; None for all that are left.
        texts: Adds the columns text and reasoning.

    Returns:
        response_id, model_id, model, dataset_id, dataset, item_id, item (the source's name), sample, cached,
        error_kind, error, finish_reason, prompt_tokens, completion_tokens, seconds, cost (US dollars), attempts,
        served_by, created_at. `attrs["next"]` is the `after` of the next page, None at the end.

    Raises:
        UserError: There is no such model, dataset, or place.
    """
    with ledger.engine.connect() as connection:
        cells = sa.select(RunCell.model_id, RunCell.dataset_id, RunCell.n, RunCell.errors).where(
            RunCell.run_id == run_id
        )
        if model is not None:
            cells = cells.where(RunCell.model_id.in_(model_ids(connection, [model])))
        if dataset is not None:
            cells = cells.where(RunCell.dataset_id.in_(dataset_ids(connection, dataset)))
        start = _place(connection, run_id, after) if isinstance(after, int) else after
        # Cell by cell, not by one query over the run: a filter then never walks over rows that it drops.
        links: list[tuple[int, int, int, bool]] = []
        query = _links(failed)
        for model_id, dataset_id, n, errors in connection.execute(cells.order_by(RunCell.model_id, RunCell.dataset_id)):
            matching = n if failed is None else errors if failed else n - errors
            if not matching or (start and (model_id, dataset_id) < start[:2]):
                continue
            rest = matching if limit is None else limit + 1 - len(links)
            if rest == 0:
                break
            first = start[2] if start and (model_id, dataset_id) == start[:2] else 0
            place = {"run": run_id, "model": model_id, "dataset": dataset_id, "after": first, "rest": rest}
            links.extend((model_id, dataset_id, row[0], bool(row[1])) for row in connection.execute(query, place))
        more = limit is not None and len(links) > limit
        links = links[:limit]
        table = response_rows(connection, links, texts)
    table.attrs["next"] = links[-1][:3] if more else None
    return table


def _links(failed: bool | None) -> sa.Select[int, bool]:
    query = sa.select(RunResponse.response_id, RunResponse.cached).where(
        RunResponse.run_id == sa.bindparam("run"),
        RunResponse.model_id == sa.bindparam("model"),
        RunResponse.dataset_id == sa.bindparam("dataset"),
        RunResponse.response_id > sa.bindparam("after"),
    )
    if failed is not None:
        # Written bare, or SQLite does not see the partial index on failures.
        query = query.where(sa.literal_column("run_response.failed" if failed else "NOT run_response.failed"))
    return query.order_by(RunResponse.response_id).limit(sa.bindparam("rest"))


def _place(connection: sa.Connection, run_id: int, response_id: int) -> Cursor:
    """Where in a run a response stands; its last place, should it be there for several datasets."""
    model_id = sa.select(Response.model_id).where(Response.id == response_id).scalar_subquery()
    datasets = sa.select(RunCell.dataset_id).where(RunCell.run_id == run_id, RunCell.model_id == model_id)
    query = sa.select(RunResponse.model_id, sa.func.max(RunResponse.dataset_id)).where(
        RunResponse.run_id == run_id,
        RunResponse.model_id == model_id,
        RunResponse.dataset_id.in_(datasets),
        RunResponse.response_id == response_id,
    )
    row = connection.execute(query.group_by(RunResponse.model_id)).first()
    if row is None:
        raise UserError(f"response {response_id} is not one of run {run_id}; give the last id of a page of it", code=2)
    return (row[0], row[1], response_id)


def response_rows(connection: sa.Connection, links: list[tuple[int, int, int, bool]], texts: bool) -> pd.DataFrame:
    """Reads responses in the order of `links`: model id, dataset id, response id, cached. Columns as `responses`."""
    columns = (
        *(Response.id, Response.item_id, Response.sample, Response.error_kind, Response.error),
        *(Response.finish_reason, Response.prompt_tokens, Response.completion_tokens, Response.seconds),
        *(Response.cost, Response.attempts, Response.served_by, Response.created_at),
        *((Response.text, Response.reasoning) if texts else ()),
    )
    found: dict[int, Any] = {}
    for chunk in chunks([link[2] for link in links]):
        found.update((row[0], row) for row in connection.execute(sa.select(*columns).where(Response.id.in_(chunk))))
    models = model_names(connection)
    in_page = {link[1] for link in links}
    query = sa.select(Dataset.id, Dataset.name).where(Dataset.id.in_(in_page))
    datasets = {row[0]: row[1] for row in connection.execute(query)}
    items = _item_names(connection, {found[link[2]][1] for link in links}, in_page)
    rows = []
    for model_id, dataset_id, response_id, cached in links:
        row = found[response_id]
        place = (response_id, model_id, models[model_id], dataset_id, datasets[dataset_id])
        rows.append((*place, row[1], items.get((dataset_id, row[1]), ""), row[2], cached, *row[3:]))
    head = ("response_id", "model_id", "model", "dataset_id", "dataset", "item_id", "item", "sample", "cached")
    return frame(rows, (*head, *(column.key for column in columns[3:])))


def _item_names(
    connection: sa.Connection, items: Collection[int], datasets: Collection[int]
) -> dict[tuple[int, int], str]:
    names: dict[tuple[int, int], str] = {}
    columns = (DatasetItem.dataset_id, DatasetItem.item_id, DatasetItem.name)
    for chunk in chunks(sorted(items)):
        query = sa.select(*columns).where(DatasetItem.item_id.in_(chunk), DatasetItem.dataset_id.in_(datasets))
        for row in connection.execute(query.order_by(DatasetItem.position)):
            names.setdefault((row[0], row[1]), row[2])
    return names


def sample(ledger: Ledger, response_id: int) -> dict[str, Any]:
    """Reads everything about one response.

    Returns:
        All columns of `response`, and: model; messages, reference and tags of its item; datasets, a list of
        {dataset, item, split}; grades, a list of {annotator, annotator_kind, criterion, replicate, value, error,
        detail}.

    Raises:
        UserError: There is no such response.
    """
    with ledger.engine.connect() as connection:
        query = (
            sa.select(Response.__table__, Item.messages, Item.reference, Item.tags)
            .join(Item, Item.id == Response.item_id)
            .where(Response.id == response_id)
        )
        row = connection.execute(query).mappings().first()
        if row is None:
            raise UserError(
                f"there is no response {response_id} in this ledger; `evalkit samples RUN` lists them", code=2
            )
        places = (
            sa.select(Dataset.name.label("dataset"), DatasetItem.name.label("item"), DatasetItem.split)
            .join(Dataset, Dataset.id == DatasetItem.dataset_id)
            .where(DatasetItem.item_id == row["item_id"])
            .order_by(Dataset.id)
        )
        values = (Grade.criterion, Grade.replicate, Grade.value, Grade.error, Grade.detail)
        given = (
            sa.select(Annotator.name.label("annotator"), Annotator.kind.label("annotator_kind"), *values)
            .join(Grade, Grade.annotator_id == Annotator.id)
            .where(Grade.response_id == response_id)
            .order_by(Grade.id)
        )
        return {
            **row,
            "model": model_names(connection)[row["model_id"]],
            "datasets": [dict(place) for place in connection.execute(places).mappings()],
            "grades": [dict(grade) for grade in connection.execute(given).mappings()],
        }
