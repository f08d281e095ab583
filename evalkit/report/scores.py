"""The score table of a run: model x task, each cell with its standard error, n and errors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from evalkit.report.reads import run_models, run_row, unique_names
from evalkit.store.ledger import Ledger
from evalkit.store.schema import Annotator, Dataset, Score

MAIN = ("passed", "exact_match", "acc", "prompt_level_strict_acc", "pass@1")
GROUP = "group of "


@dataclass(frozen=True, slots=True)
class Cell:
    """A metric's value for a model on a task; None with `errors` where nothing could be scored."""

    model: str
    task: str
    metric: str
    value: float | None
    stderr: float | None
    n: int | None
    errors: int
    main: bool


@dataclass(frozen=True, slots=True)
class Task:
    """A column.

    Attributes:
        metric: The main one: that which the task lists first.
        group: The group of tasks in this run that it belongs to.
        dataset_id: Row of its data.
        items: Number of items in its data.
        hash: Of its data, 64 hex digits.
    """

    name: str
    metric: str
    higher_is_better: bool
    group: str | None
    dataset_id: int
    items: int
    source: str
    hash: str


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """A run's scores.

    Attributes:
        cells: Every metric, main ones first.
    """

    models: tuple[str, ...]
    tasks: tuple[Task, ...]
    cells: tuple[Cell, ...]

    def cell(self, model: str, task: str) -> Cell | None:
        """Returns the main metric's cell; None where the model has no score."""
        return next((c for c in self.cells if c.main and c.model == model and c.task == task), None)


def score_table(ledger: Ledger, run_id: int) -> ScoreTable:
    """Reads a run's scores. A task's main metric is the first it lists, known from the order its graders were made in.

    Raises:
        UserError: There is no such run.
    """
    with ledger.engine.connect() as connection:
        run_row(connection, run_id)
        ordered = sa.select(Score.__table__).order_by(Score.model_id, Score.dataset_id, Score.metric)
        scores = connection.execute(ordered.where(Score.run_id == run_id)).mappings().fetchall()
        models = run_models(connection, run_id)
        query = sa.select(Dataset.__table__).where(Dataset.id.in_({row["dataset_id"] for row in scores}))
        datasets = {row["id"]: row for row in connection.execute(query.order_by(Dataset.id)).mappings()}
        names = unique_names({key: row["name"] for key, row in datasets.items()})
        listed = listed_metrics(connection)
    metrics: dict[int, dict[str, bool]] = {key: {} for key in datasets}
    for row in scores:
        metrics[row["dataset_id"]][row["metric"]] = row["higher_is_better"]
    groups = {
        member: names[key]
        for key, row in datasets.items()
        if row["source"].startswith(GROUP)
        for member in row["source"].removeprefix(GROUP).split(", ")
    }
    tasks = []
    for key, row in datasets.items():
        metric = main_metric(row["name"], metrics[key], listed)
        group = groups.get(row["name"])
        better = metrics[key][metric]
        tasks.append(Task(names[key], metric, better, group, key, row["n"], row["source"], row["hash"]))
    main = {task.dataset_id: task.metric for task in tasks}
    cells = [
        Cell(
            model=models[row["model_id"]],
            task=names[row["dataset_id"]],
            metric=row["metric"],
            value=row["value"],
            stderr=row["stderr"],
            n=row["n"],
            errors=row["errors"],
            main=row["metric"] == main[row["dataset_id"]],
        )
        for row in scores
    ]
    cells.sort(key=lambda c: not c.main)  # stable: else by model and task
    return ScoreTable(tuple(models.values()), tuple(tasks), tuple(cells))


def listed_metrics(connection: sa.Connection) -> dict[str, int]:
    """Returns the id of the first grader of each "task metric": they were made in the order that the task lists."""
    graders = sa.select(Annotator.name, sa.func.min(Annotator.id)).where(Annotator.kind == "metric")
    return {name: first for name, first in connection.execute(graders.group_by(Annotator.name))}


def main_metric(task: str, metrics: Collection[str], listed: Mapping[str, int]) -> str:
    """Returns a task's main metric: the first it lists, else the most usual."""
    return min(metrics, key=lambda metric: _preference(task, metric, listed))


def _preference(task: str, metric: str, listed: Mapping[str, int]) -> tuple[float, int, str]:
    """Sorts a task's metrics: as it lists them; those of groups, which have no graders, by what is usual."""
    base = metric.partition(",")[0]
    usual = MAIN.index(base) if base in MAIN else len(MAIN)
    return (listed.get(f"{task} {metric}", float("inf")), usual, metric)
