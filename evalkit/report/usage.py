"""What each model's answers cost, in dollars, seconds and tokens, over a whole ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from evalkit.store.ledger import Ledger
from evalkit.store.reading import frame, model_names
from evalkit.store.schema import Dataset, RunCell

if TYPE_CHECKING:
    import pandas as pd

_SUMS = ("n", "errors", "cached", "unpriced", "completion_tokens", "cost", "seconds")


def model_usage(ledger: Ledger) -> pd.DataFrame:
    """Sums up the contestants' answers that were paid for; what a run took from the cache counts once.

    Returns:
        model, answers, errors (requests without an answer), unpriced (answers of unknown price), dollars_per_1000
        (over the priced answers), seconds (of model time an answer), tokens (written, an answer); NaN where nothing
        is known.
    """
    sums = [sa.cast(sa.func.sum(getattr(RunCell, name)), getattr(RunCell, name).type) for name in _SUMS]
    query = (
        sa.select(RunCell.model_id, *sums)
        .join(Dataset, Dataset.id == RunCell.dataset_id)
        .where(Dataset.n > 0)  # a dataset without items holds what a judge said
        .group_by(RunCell.model_id)
        .order_by(RunCell.model_id)
    )
    with ledger.engine.connect() as connection:
        names = model_names(connection)
        rows = connection.execute(query).all()
        table = frame([(names[row[0]], *row[1:]) for row in rows if row[0] in names], ("model", *_SUMS), _SUMS)
    answers = (table["n"] - table["cached"] - table["errors"]).clip(lower=0)
    priced = answers - table["unpriced"]
    some = answers.where(answers > 0)
    return table.assign(
        answers=answers,
        dollars_per_1000=1000 * table["cost"] / priced.where(priced > 0),
        seconds=(table["seconds"] / some).where(table["seconds"] > 0),
        tokens=(table["completion_tokens"] / some).where(table["completion_tokens"] > 0),
    )[["model", "answers", "errors", "unpriced", "dollars_per_1000", "seconds", "tokens"]]
