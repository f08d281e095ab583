"""What each model's answer to each item was worth, for paired comparisons of two models of one run."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import sqlalchemy as sa

from evalkit.report.failures import graders
from evalkit.report.scores import GROUP, score_table
from evalkit.store.ledger import Ledger
from evalkit.store.reading import frame
from evalkit.store.schema import Dataset, Grade, Response, RunResponse

if TYPE_CHECKING:
    import pandas as pd


def item_values(ledger: Ledger, run_id: int, models: Collection[int]) -> pd.DataFrame:
    """Reads a run's answers with the value of their task's main metric, where higher is better.

    Args:
        models: Ids.

    Returns:
        A row for each model, item and sample: model_id, dataset_id, dataset, item_id, sample, metric (missing for
        prompts that no metric grades), value (from 0 to 1; NaN if it failed or was not graded; a metric that is better
        when lower is turned round as 1 - value), answer, tokens (generated), seconds.

    Raises:
        UserError: There is no such run.
    """
    tasks = {
        task.dataset_id: (task.name, task.metric, task.higher_is_better)
        for task in score_table(ledger, run_id).tasks
        if not task.source.startswith(GROUP)
    }
    with ledger.engine.connect() as connection:
        graded_by = graders(connection, {key: (name, metric) for key, (name, metric, _) in tasks.items()})
        grader = sa.case(graded_by, value=RunResponse.dataset_id) if graded_by else sa.literal(0)
        grade = (Grade.response_id == Response.id) & (Grade.annotator_id == grader) & (Grade.replicate == 0)
        query = (
            sa.select(RunResponse.model_id, RunResponse.dataset_id, Dataset.name, Response.item_id, Response.sample,
                      Grade.value, Response.text, Response.completion_tokens, Response.seconds)
            .join(Response, Response.id == RunResponse.response_id)
            .join(Dataset, Dataset.id == RunResponse.dataset_id)
            .outerjoin(Grade, grade)
            .where(RunResponse.run_id == run_id, RunResponse.model_id.in_(models), Response.turn == 1)
            .order_by(RunResponse.dataset_id, Response.item_id, RunResponse.model_id, Response.sample)
        )  # fmt: skip
        rows = []
        for model_id, dataset_id, name, item_id, sample, value, *rest in connection.execute(query):
            _, metric, rising = tasks.get(dataset_id, (name, None, True))
            worth = value if value is None or rising else 1.0 - value
            rows.append((model_id, dataset_id, name, item_id, sample, metric, worth, *rest))
    head = ("model_id", "dataset_id", "dataset", "item_id", "sample", "metric", "value")
    return frame(rows, (*head, "answer", "tokens", "seconds"), {"value", "tokens", "seconds"})
