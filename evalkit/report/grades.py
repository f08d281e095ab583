"""What judges' grades of single answers come to: a mean for each judge, criterion and model, with interval and n."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from evalkit.report.reads import finite
from evalkit.store.ledger import Ledger
from evalkit.store.reading import model_names
from evalkit.store.schema import Annotator, Grade, Response, RunResponse


@dataclass(frozen=True, slots=True)
class GradeMean:
    """A judge's grades of one model on one criterion.

    Attributes:
        mean: Over all grades, replicates included; None if none could be read.
        lower, upper: 95 % limits, grades on one item taken to be alike; None below two items.
        n: Grades in the mean.
        errors: Grades that could not be given or read: in no mean.
    """

    judge: str
    criterion: str
    model: str
    mean: float | None
    lower: float | None
    upper: float | None
    n: int
    errors: int


def grade_means(
    ledger: Ledger, *, run_id: int | None = None, judges: Collection[str] | None = None
) -> tuple[GradeMean, ...]:
    """Averages the grades of judges; of several judges of one name the newest counts.

    Args:
        ledger: To read.
        run_id: Only grades of answers that took part in this run.
        judges: Names; None for all judges.
    """
    from evalkit.stats import clustered_mean

    judge = sa.select(sa.func.max(Annotator.id)).where(Annotator.kind == "judge").group_by(Annotator.name)
    columns = (Annotator.name, Grade.criterion, Response.model_id, Response.item_id, Grade.value)
    query = (
        sa.select(*columns)
        .join(Response, Response.id == Grade.response_id)
        .join(Annotator, Annotator.id == Grade.annotator_id)
        .where(Grade.annotator_id.in_(judge))
        .order_by(Annotator.id, Grade.criterion, Response.model_id)
    )
    if judges is not None:
        query = query.where(Annotator.name.in_(judges))
    if run_id is not None:
        query = query.where(
            Grade.response_id.in_(sa.select(RunResponse.response_id).where(RunResponse.run_id == run_id))
        )
    cells: dict[tuple[str, str, int], list[tuple[int, float | None]]] = {}
    with ledger.engine.connect() as connection:
        names = model_names(connection)
        for name, criterion, model_id, item_id, value in connection.execute(query):
            cells.setdefault((name, criterion, model_id), []).append((item_id, value))
    rows = []
    for (name, criterion, model_id), given in cells.items():
        read = [(item, value) for item, value in given if value is not None]
        found = clustered_mean([value for _, value in read], [item for item, _ in read])
        limits = (finite(found.lower), finite(found.upper))
        rows.append(
            GradeMean(name, criterion, names[model_id], finite(found.value), *limits, found.n, len(given) - len(read))
        )
    return tuple(rows)
