"""Grades: item_id, annotator, annotator_kind, criterion, value; optional model, sample, turn, replicate, error."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa

from evalkit.store.arena import PROBE
from evalkit.store.formats.columns import Layout, read_frame
from evalkit.store.formats.names import (
    annotator_names,
    annotators_by_name,
    import_run,
    items_by_name,
    models_by_name,
    pages,
    stored_responses,
)
from evalkit.store.formats.tables import LARGEST, Row, read_table, unique, write_table
from evalkit.store.ledger import Ledger
from evalkit.store.reading import model_names
from evalkit.store.rows import AnnotatorKind, GradeRow
from evalkit.store.schema import Grade, Model, Response
from evalkit.store.write_responses import add_placeholders

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("item_id", "annotator", "annotator_kind", "criterion", "value")
COLUMNS: dict[str, type] = {
    **dict.fromkeys(("item_id", "model"), str),
    **dict.fromkeys(("sample", "turn"), int),
    **dict.fromkeys(("annotator", "annotator_kind", "criterion"), str),
    "replicate": int,
    "value": float,
    "error": str,
}
KINDS = ("human", "judge", "metric")
LAYOUT = Layout(
    required=REQUIRED,
    texts={"model": None, "error": None},
    choices={"annotator_kind": KINDS},
    numbers={"value": (-math.inf, math.inf), "sample": (0, LARGEST), "turn": (1, LARGEST), "replicate": (0, LARGEST)},
    whole={"sample": 0, "turn": 1, "replicate": None},
    unless_failed="value",
)


def read_grades(path: Path, *, need: Collection[str] = ()) -> pd.DataFrame:
    """Reads a grades file without a ledger, checked as `import_grades` does.

    Args:
        need: Further columns that must be there.

    Returns:
        The columns of a grades file that this one has, a row for each of its rows, and the further ones; value is
        missing where `error` says why.

    Raises:
        UserError: Something is wrong in the file, or it has no rows.
    """
    return read_frame(path, LAYOUT, _values, need=need)


def _values(row: Row) -> dict[str, Any]:
    error, value = row.text("error", "") or None, row.number("value")
    if (value is None) == (error is None):
        problem = "it is empty; a grade has a value, or an error" if value is None else "there is an error as well"
        raise row.fault("value", problem)
    return {
        **{name: row.text(name) for name in ("item_id", "annotator", "criterion")},
        "annotator_kind": row.choice("annotator_kind", KINDS),
        "model": row.text("model", "") or None,
        "sample": row.integer("sample", 0) or 0,
        "turn": row.integer("turn", 1, 1) or 1,
        "replicate": row.integer("replicate", None),
        "value": value,
        "error": error,
    }


def ledger_grades(ledger: Ledger) -> pd.DataFrame:
    """Reads every grade of a ledger as `read_grades` would read its export."""
    import pandas as pd

    frame = pd.DataFrame([row for page in _pages(ledger) for row in page], columns=list(COLUMNS))
    return frame.astype({name: "str" for name, kind in COLUMNS.items() if kind is str} | {"value": "float64"})


def import_grades(ledger: Ledger, path: Path) -> int:
    """Reads a grades file; a grade goes to the model's answer to the item, or to a place kept for it.

    Repeated grades of one annotator are replicates.

    Returns:
        The number of rows.

    Raises:
        UserError: Something is wrong in the file; nothing was written.
    """
    rows = read_table(path, REQUIRED)
    if rows and "id" in rows[0].values:
        unique(rows, "id", lambda row: row.text("id"), "every grade has an id of its own")
    checked = []
    for row in rows:
        one = _values(row)
        place = (one["item_id"], one["model"] or "", one["sample"], one["turn"])
        kind = cast(AnnotatorKind, one["annotator_kind"])
        judged = ((kind, one["annotator"]), one["criterion"], one["replicate"])
        checked.append((place, judged, one["value"], one["error"]))
    models = models_by_name(ledger, [place[1] for place, *_ in checked])
    annotators = annotators_by_name(ledger, [judged[0] for _, judged, *_ in checked])
    items = items_by_name(ledger, path, {place[0]: {} for place, *_ in checked})
    with import_run(ledger, "grades", path):
        places = [(models[model], items[item], sample, turn) for (item, model, sample, turn), *_ in checked]
        with ledger.write() as connection:
            responses = {place: one for place, (one, _) in stored_responses(connection, items.values()).items()}
            missing = [place for place in dict.fromkeys(places) if place not in responses]
            responses.update(zip(missing, add_placeholders(connection, missing), strict=True))
        seen: Counter[tuple[Any, ...]] = Counter()
        grades = []
        for stored, (_, (who, criterion, replicate), value, error) in zip(places, checked, strict=True):
            unit = (responses[stored], annotators[who], criterion)
            grades.append(GradeRow(*unit, value, error, seen[unit] if replicate is None else replicate))
            seen[unit] += 1
        ledger.add_grades(grades)
    return len(grades)


def export_grades(ledger: Ledger, path: Path) -> int:
    """Writes every grade, failed ones included (with `error` and no value).

    Returns:
        The number of rows.

    Raises:
        UserError: The file cannot be written.
    """
    return write_table(path, COLUMNS, _pages(ledger))


def _pages(ledger: Ledger) -> Iterator[list[tuple[Any, ...]]]:
    columns = (
        *(Grade.id, Response.item_id, Response.model_id, Response.sample, Response.turn, Grade.annotator_id),
        *(Grade.criterion, Grade.replicate, Grade.value, Grade.error),
    )
    query = sa.select(*columns).join(Response, Response.id == Grade.response_id)
    query = query.where(~Grade.criterion.startswith(PROBE))
    with ledger.engine.connect() as connection:
        models, annotators = model_names(connection), annotator_names(connection)
        for unnamed in connection.scalars(sa.select(Model.id).where(Model.provider == "recorded", Model.name == "")):
            models[unnamed] = ""
        for found, items in pages(connection, query, Grade.id):
            yield [(items[row[1]], models[row[2]], *row[3:5], *annotators[row[5]][::-1], *row[6:]) for row in found]
