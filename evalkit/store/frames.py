"""Reads of the ledger as DataFrames. List views come from roll-ups or in pages, and carry no texts.

Pages are keyset pages: hand the last one's end back as `after`, and page 10,000 costs what page 1 does. Wherever a
model, dataset or annotator is asked for, its id or its name will do; names are those of `reading.model_names`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from evalkit.store.ledger import Ledger
from evalkit.store.reading import annotator_ids, arrays, dataset_ids, frame, item_names, model_ids, model_names
from evalkit.store.rows import AnnotatorKind
from evalkit.store.samples import responses, sample
from evalkit.store.schema import (
    Annotator,
    Battle,
    Dataset,
    DatasetItem,
    Grade,
    Item,
    Model,
    Response,
    Run,
    RunCell,
    RunResponse,
    Score,
    Tally,
    Verdict,
)
from evalkit.store.schema_app import set_aside

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "annotators",
    "datasets",
    "grades",
    "items",
    "models",
    "responses",
    "run_cells",
    "runs",
    "sample",
    "scores",
    "tally",
    "verdicts",
]

COUNTERS = ("n", "errors", "cached", "unpriced", "prompt_tokens", "completion_tokens", "cost", "seconds")
PAIR = ("model_a_id", "model_b_id", "model_a", "model_b")
OUTCOMES = ("wins_a", "wins_b", "ties", "both_bad", "errors")
Ref = int | str
Query = sa.Select[*tuple[Any, ...]]


def runs(ledger: Ledger, *, limit: int = 100, before: int | None = None) -> pd.DataFrame:
    """Lists runs, newest first, with what their cells add up to.

    Args:
        before: A run id; lists the runs started earlier.

    Returns:
        run_id, name, status, stage, done, total, models, datasets, n (answers and failures), errors, cached,
        unpriced, prompt_tokens, completion_tokens, cost (US dollars), seconds (of model time), seed, started_at,
        updated_at, finished_at, host, pid, message.
    """
    head = ("id", "name", "status", "stage", "done", "total")
    tail = ("seed", "started_at", "updated_at", "finished_at", "host", "pid", "message")
    page = sa.select(Run.id).order_by(Run.id.desc()).limit(limit)
    if before is not None:
        page = page.where(Run.id < before)
    sums = [_sum(getattr(RunCell, name)) for name in COUNTERS]
    counts = [sa.func.count(sa.distinct(column)) for column in (RunCell.model_id, RunCell.dataset_id)]
    with ledger.engine.connect() as connection:
        ids = list(connection.scalars(page))
        query = (
            sa.select(*(getattr(Run, name) for name in head), *counts, *sums, *(getattr(Run, name) for name in tail))
            .outerjoin(RunCell, RunCell.run_id == Run.id)
            .where(Run.id.in_(ids))
            .group_by(Run.id)
            .order_by(Run.id.desc())
        )
        return frame(connection.execute(query), ("run_id", *head[1:], "models", "datasets", *COUNTERS, *tail))


def _sum(column: Any) -> sa.ColumnElement[Any]:
    """A sum in the column's own type (PostgreSQL would make whole numbers decimals), 0 over no rows."""
    return sa.cast(sa.func.coalesce(sa.func.sum(column), 0), column.type)


def models(ledger: Ledger) -> pd.DataFrame:
    """Lists the contestants: model_id, model (its name on boards), provider, name, revision, endpoint, dtype,
    sampling, label, hash, created_at."""
    columns = ("id", "provider", "name", "revision", "endpoint", "dtype", "sampling", "label", "hash", "created_at")
    with ledger.engine.connect() as connection:
        names = model_names(connection)
        query = sa.select(*(getattr(Model, name) for name in columns)).order_by(Model.id)
        rows = [(row[0], names[row[0]], *row[1:]) for row in connection.execute(query)]
    return frame(rows, ("model_id", "model", *columns[1:]))


def datasets(ledger: Ledger) -> pd.DataFrame:
    """Lists the datasets: dataset_id, dataset, source, n (items), hash, created_at."""
    columns = (Dataset.id, Dataset.name, Dataset.source, Dataset.n, Dataset.hash, Dataset.created_at)
    with ledger.engine.connect() as connection:
        rows = connection.execute(sa.select(*columns).order_by(Dataset.id))
        return frame(rows, ("dataset_id", "dataset", "source", "n", "hash", "created_at"))


def items(ledger: Ledger, dataset: Ref) -> pd.DataFrame:
    """Lists a dataset's items in their order: dataset_id, position, item_id, item (the source's name), split, tags."""
    columns = (DatasetItem.dataset_id, DatasetItem.position, DatasetItem.item_id, DatasetItem.name, DatasetItem.split)
    with ledger.engine.connect() as connection:
        query = (
            sa.select(*columns, Item.tags)
            .join(Item, Item.id == DatasetItem.item_id)
            .where(DatasetItem.dataset_id.in_(dataset_ids(connection, dataset)))
            .order_by(DatasetItem.dataset_id, DatasetItem.position)
        )
        return frame(connection.execute(query), ("dataset_id", "position", "item_id", "item", "split", "tags"))


def annotators(ledger: Ledger) -> pd.DataFrame:
    """Lists who judges: annotator_id, annotator, annotator_kind, battles (with an outcome), errors (failed verdicts),
    hash, created_at."""
    sums = [_sum(Tally.wins_a + Tally.wins_b + Tally.ties + Tally.both_bad), _sum(Tally.errors)]
    columns = (Annotator.id, Annotator.name, Annotator.kind, *sums, Annotator.hash, Annotator.created_at)
    query = (
        sa.select(*columns)
        .outerjoin(Tally, Tally.annotator_id == Annotator.id)
        .group_by(Annotator.id)
        .order_by(Annotator.id)
    )
    with ledger.engine.connect() as connection:
        names = ("annotator_id", "annotator", "annotator_kind", "battles", "errors", "hash", "created_at")
        return frame(connection.execute(query), names)


def run_cells(ledger: Ledger, run_id: int) -> pd.DataFrame:
    """Sums up a run by model and dataset.

    Returns:
        model_id, model, dataset_id, dataset, n (answers and failures), errors, cached (not paid by this run),
        and of the rest: unpriced (answers of unknown cost), prompt_tokens, completion_tokens, cost (US dollars),
        seconds.
    """
    cells = (getattr(RunCell, name) for name in COUNTERS)
    query = (
        sa.select(RunCell.model_id, RunCell.dataset_id, Dataset.name, *cells)
        .join(Dataset, Dataset.id == RunCell.dataset_id)
        .where(RunCell.run_id == run_id)
        .order_by(RunCell.model_id, RunCell.dataset_id)
    )
    with ledger.engine.connect() as connection:
        names = model_names(connection)
        rows = [(row[0], names[row[0]], *row[1:]) for row in connection.execute(query)]
    return frame(rows, ("model_id", "model", "dataset_id", "dataset", *COUNTERS))


def scores(ledger: Ledger, run_id: int | None = None, *, wide: bool = False) -> pd.DataFrame:
    """Reads metric values: of one run, or of every model, dataset and metric the newest.

    Args:
        wide: One row a model, one column a metric named `dataset:metric` (`dataset` alone for the metric "score").

    Returns:
        run_id, model_id, model, dataset_id, dataset, metric, value, stderr, n (documents scored; NaN if unknown),
        errors, higher_is_better. Or, if wide, model and the metrics, NaN where there is none.
    """
    names = ("run_id", "model_id", "dataset_id", "metric", "value", "stderr", "n", "errors", "higher_is_better")
    columns = [getattr(Score, name) for name in names]
    query = sa.select(*columns, Dataset.name).join(Dataset, Dataset.id == Score.dataset_id).order_by(*columns[:4])
    if run_id is not None:
        query = query.where(Score.run_id == run_id)
    with ledger.engine.connect() as connection:
        models = model_names(connection)
        newest = {(row[1], row[9], row[3]): row for row in connection.execute(query).all()}
    if not wide:
        rows = [(r[0], r[1], models[r[1]], r[2], r[9], *r[3:9]) for r in newest.values()]
        return frame(rows, ("run_id", "model_id", "model", "dataset_id", "dataset", *names[3:]))
    cells = {(models[m], d if metric == "score" else f"{d}:{metric}"): row[4] for (m, d, metric), row in newest.items()}
    down, across = ([*dict.fromkeys(key[side] for key in cells)] for side in (0, 1))
    down.sort()
    return frame(
        ([model, *(cells.get((model, name)) for name in across)] for model in down), ("model", *across), across
    )


def tally(
    ledger: Ledger,
    *,
    annotators: Collection[Ref] | None = None,
    kind: AnnotatorKind | None = None,
    criterion: str | None = None,
    models: Collection[Ref] | None = None,
    pooled: bool = False,
    include_set_aside: bool = False,
) -> pd.DataFrame:
    """Reads how battles ended, both orders of one annotator taken together (disagreement is a tie).

    Args:
        models: Battles between these only.
        pooled: One row for each pair of models, over all the annotators, criteria and turns asked for.
        include_set_aside: Also the votes of members who were set aside.

    Returns:
        model_a_id, model_b_id, model_a, model_b (names as categories), and battles by outcome: wins_a, wins_b, ties,
        both_bad; errors counts failed verdicts, not battles. Unless pooled, before these: annotator_id, annotator,
        annotator_kind, turn, criterion.
    """
    import pandas as pd

    pair, counts = (Tally.model_a_id, Tally.model_b_id), [getattr(Tally, name) for name in OUTCOMES]
    query: Query = sa.select(*pair, *counts, Tally.annotator_id, Tally.turn, Tally.criterion)
    query = query.order_by(Tally.criterion, *pair, Tally.annotator_id, Tally.turn)
    if pooled:
        query = sa.select(*pair, *(_sum(count) for count in counts)).group_by(*pair).order_by(*pair)
    if not include_set_aside:
        query = query.where(Tally.annotator_id.not_in(set_aside()))
    with ledger.engine.connect() as connection:
        if annotators is not None or kind is not None:
            wanted = _judged(connection, sa.select(Annotator.id), Annotator.id, annotators, kind)
            query = query.where(Tally.annotator_id.in_(wanted))
        if criterion is not None:
            query = query.where(Tally.criterion == criterion)
        if models is not None:
            ids = model_ids(connection, models)
            query = query.where(Tally.model_a_id.in_(ids), Tally.model_b_id.in_(ids))
        columns = arrays(connection.execute(query))
        names = model_names(connection)
        who = connection.execute(sa.select(Annotator.id, Annotator.name, Annotator.kind)).all()
    table = dict(
        zip(("model_a_id", "model_b_id", *OUTCOMES, "annotator_id", "turn", "criterion"), columns, strict=False)
    )
    table.update({side: _named(table[f"{side}_id"], names) for side in ("model_a", "model_b")})
    head = () if pooled else ("annotator_id", "annotator", "annotator_kind", "turn", "criterion")
    if not pooled:
        table["annotator"] = _named(table["annotator_id"], {row.id: row.name for row in who})
        table["annotator_kind"] = _named(table["annotator_id"], {row.id: row.kind for row in who})
        table["criterion"] = pd.Categorical(table["criterion"])
    return pd.DataFrame({name: table[name] for name in (*head, *PAIR, *OUTCOMES)})


def _named(ids: Any, names: Mapping[int, str]) -> Any:
    """Returns the names of ids as categories."""
    import numpy as np
    import pandas as pd

    places = {name: place for place, name in enumerate(dict.fromkeys(names.values()))}
    codes = np.zeros(max(names, default=0) + 1, dtype=np.int64)
    codes[list(names)] = [places[name] for name in names.values()]
    return pd.Categorical.from_codes(codes[ids], pd.Index(list(places)))


def _judged(
    connection: sa.Connection,
    query: Query,
    column: Any,
    annotators: Collection[Ref] | None,
    kind: AnnotatorKind | None,
) -> Query:
    if annotators is not None:
        query = query.where(column.in_(annotator_ids(connection, annotators)))
    return query if kind is None else query.where(Annotator.kind == kind)


def verdicts(
    ledger: Ledger,
    *,
    run_id: int | None = None,
    annotators: Collection[Ref] | None = None,
    kind: AnnotatorKind | None = None,
    criterion: str | None = None,
    models: Collection[Ref] | None = None,
    after: int = 0,
    limit: int | None = None,
    include_set_aside: bool = False,
) -> pd.DataFrame:
    """Reads single verdicts, one row for each order and replicate.

    Args:
        run_id: Those given in this run.
        models: Battles between these only.
        after: The last verdict_id of the page before.
        include_set_aside: Also those of members who were set aside.

    Returns:
        verdict_id, battle_id, item_id, item (the source's name), model_a, model_b, winner (missing if it failed),
        annotator, annotator_kind, criterion, turn, order (ab, ba or ""), replicate, probability (that model_a's is
        preferred), error, seconds, run_id, response_id (the judge's own), timestamp.
    """
    columns = (
        *(Verdict.id, Verdict.battle_id, Battle.item_id, Battle.model_a_id, Battle.model_b_id, Verdict.winner),
        *(Annotator.name, Annotator.kind, Verdict.criterion, Battle.turn, Verdict.order_shown, Verdict.replicate),
        *(Verdict.probability, Verdict.error, Verdict.seconds, Verdict.run_id, Verdict.response_id),
        Verdict.created_at,
    )
    query: Query = sa.select(*columns).join(Battle, Battle.id == Verdict.battle_id)
    query = query.join(Annotator, Annotator.id == Verdict.annotator_id).where(Verdict.id > after)
    query = query.order_by(Verdict.id).limit(limit)
    if not include_set_aside:
        query = query.where(Verdict.annotator_id.not_in(set_aside()))
    with ledger.engine.connect() as connection:
        query = _judged(connection, query, Verdict.annotator_id, annotators, kind)
        if criterion is not None:
            query = query.where(Verdict.criterion == criterion)
        if run_id is not None:
            query = query.where(Verdict.run_id == run_id)
        if models is not None:
            ids = model_ids(connection, models)
            query = query.where(Battle.model_a_id.in_(ids), Battle.model_b_id.in_(ids))
        found = connection.execute(query).all()
        names = model_names(connection)
        item = item_names(connection, {row[2] for row in found})
    rows = [(*row[:3], item.get(row[2], ""), names[row[3]], names[row[4]], *row[5:]) for row in found]
    who = ("verdict_id", "battle_id", "item_id", "item", "model_a", "model_b", "winner", "annotator", "annotator_kind")
    what = ("criterion", "turn", "order", "replicate", "probability", "error", "seconds", "run_id", "response_id")
    return frame(rows, (*who, *what, "timestamp"))


def grades(
    ledger: Ledger,
    *,
    run_id: int | None = None,
    annotators: Collection[Ref] | None = None,
    kind: AnnotatorKind | None = None,
    criterion: str | None = None,
    models: Collection[Ref] | None = None,
    below: float | None = None,
    after: int = 0,
    limit: int | None = None,
) -> pd.DataFrame:
    """Reads grades.

    Args:
        run_id: Of responses that took part in this run.
        below: Only values under this: the failures of a 0/1 metric are `below=1`.
        after: The last grade_id of the page before.

    Returns:
        grade_id, response_id, model_id, model, item_id, item (the source's name), sample, annotator, annotator_kind,
        criterion, replicate, value (NaN if it failed), error, detail, created_at.
    """
    columns = (
        *(Grade.id, Grade.response_id, Response.model_id, Response.item_id, Response.sample, Annotator.name),
        *(Annotator.kind, Grade.criterion, Grade.replicate, Grade.value, Grade.error, Grade.detail, Grade.created_at),
    )
    query: Query = sa.select(*columns).join(Response, Response.id == Grade.response_id)
    query = query.join(Annotator, Annotator.id == Grade.annotator_id).where(Grade.id > after)
    query = query.order_by(Grade.id).limit(limit)
    if run_id is not None:
        query = query.where(
            Grade.response_id.in_(sa.select(RunResponse.response_id).where(RunResponse.run_id == run_id))
        )
    if criterion is not None:
        query = query.where(Grade.criterion == criterion)
    if below is not None:
        query = query.where(Grade.value < below)
    with ledger.engine.connect() as connection:
        query = _judged(connection, query, Grade.annotator_id, annotators, kind)
        if models is not None:
            query = query.where(Response.model_id.in_(model_ids(connection, models)))
        found = connection.execute(query).all()
        names = model_names(connection)
        item = item_names(connection, {row[3] for row in found})
    rows = [(*row[:3], names[row[2]], row[3], item.get(row[3], ""), *row[4:]) for row in found]
    head = ("grade_id", "response_id", "model_id", "model", "item_id", "item", "sample", "annotator", "annotator_kind")
    return frame(rows, (*head, "criterion", "replicate", "value", "error", "detail", "created_at"))
