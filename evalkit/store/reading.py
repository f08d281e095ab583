"""What all reads share: names of models and items, filters, and frames from rows."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.store.schema import Annotator, Dataset, DatasetItem, Model
from evalkit.store.writing import chunks

if TYPE_CHECKING:
    import pandas as pd


NUMBERS = {
    *("total", "value", "stderr", "n", "probability", "seconds", "cost"),
    *("prompt_tokens", "completion_tokens"),
}


def frame(rows: Iterable[Sequence[Any]], columns: Sequence[str], numbers: Collection[str] = NUMBERS) -> pd.DataFrame:
    """Returns rows as a DataFrame; columns of numbers have NaN where one is missing."""
    import numpy as np
    import pandas as pd

    sqlite3.register_adapter(np.int64, int)  # a table's id asked for again is one, and would match nothing
    table = pd.DataFrame.from_records([tuple(row) for row in rows], columns=list(columns))
    for name in set(numbers).intersection(columns):
        table[name] = pd.to_numeric(table[name])
    return table


def arrays(result: sa.CursorResult[*tuple[Any, ...]]) -> list[Any]:
    """Fetches rows as one array a column, for results of a hundred thousand rows of numbers or short texts.

    In parts, for so many rows held at once would set off the garbage collector; and as the driver gives them, for
    SQLAlchemy's rows take twice as long.
    """
    import numpy as np

    parts: list[list[Any]] = []
    with contextlib.closing(result):
        cursor: Any = result.cursor
        while part := cursor.fetchmany(2000):
            parts.append([np.array(column) for column in zip(*part, strict=True)])
        nothing = [np.empty(0, dtype=np.int64)] * len(cursor.description)
    return [np.concatenate(column) for column in zip(*(parts or [nothing]), strict=True)]


def model_names(connection: sa.Connection) -> dict[int, str]:
    """Returns what boards call every model, by id: its label, else provider/name; with its id where two are alike."""
    rows = connection.execute(sa.select(Model.id, Model.label, Model.provider, Model.name)).all()
    names = {row.id: row.label or f"{row.provider}/{row.name}" for row in rows}
    count = Counter(names.values())
    return {key: name if count[name] == 1 else f"{name} #{key}" for key, name in names.items()}


def model_ids(connection: sa.Connection, models: Collection[int | str]) -> list[int]:
    """Returns the ids of models given by id or by name.

    Raises:
        UserError: There is no such model.
    """
    names = model_names(connection)
    return _ids("model", {name: key for key, name in names.items()}, models)


def annotator_ids(connection: sa.Connection, annotators: Collection[int | str]) -> list[int]:
    """Returns the ids of annotators given by id or by name; a name may be that of several versions.

    Raises:
        UserError: There is no such annotator.
    """
    rows = connection.execute(sa.select(Annotator.id, Annotator.name)).all()
    wanted = [row.id for row in rows if row.id in annotators or row.name in annotators]
    known = {row.name for row in rows} | {row.id for row in rows}
    for missing in (annotator for annotator in annotators if annotator not in known):
        raise UserError(
            f"there is no annotator {missing!r} in this ledger; {_some([row.name for row in rows])}", code=2
        )
    return wanted


def dataset_ids(connection: sa.Connection, dataset: int | str) -> list[int]:
    """Returns a dataset's id, or the ids of all versions of the dataset of that name.

    Raises:
        UserError: There is no such dataset.
    """
    column = Dataset.id if isinstance(dataset, int) else Dataset.name
    found = list(connection.scalars(sa.select(Dataset.id).where(column == dataset)))
    if not found:
        names = connection.scalars(sa.select(Dataset.name).distinct().limit(20)).all()
        raise UserError(f"there is no dataset {dataset!r} in this ledger; {_some(names)}", code=2)
    return found


def _ids(what: str, known: dict[str, int], wanted: Collection[int | str]) -> list[int]:
    ids = []
    for one in wanted:
        found = known.get(one) if isinstance(one, str) else one if one in known.values() else None
        if found is None:
            raise UserError(f"there is no {what} {one!r} in this ledger; {_some(list(known))}", code=2)
        ids.append(found)
    return ids


def _some(names: Sequence[str]) -> str:
    return f"there are: {', '.join(names[:10])}" if names else "there are none"


def item_names(connection: sa.Connection, items: Collection[int]) -> dict[int, str]:
    """Returns the source's own names of items, of the first dataset that has them."""
    names: dict[int, str] = {}
    for chunk in chunks(sorted(set(items))):
        query = sa.select(DatasetItem.item_id, DatasetItem.name).where(DatasetItem.item_id.in_(chunk))
        for item_id, name in connection.execute(query.order_by(DatasetItem.dataset_id, DatasetItem.position)):
            names.setdefault(item_id, name)
    return names
