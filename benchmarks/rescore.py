"""Applies changed filters or metrics to the answers a run already has; nothing is sent, no weights are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks import bridge, documents, scoring
from benchmarks.lm import cut, sampling
from benchmarks.tasks import TaskSpec
from evalkit.errors import UserError
from evalkit.models.base import RequestFailed
from evalkit.store import Ledger
from evalkit.store.schema import Dataset, DatasetItem, Item, Response, RunResponse, Score


@dataclass(frozen=True, slots=True)
class Stored:
    """A response of the run, as far as scoring needs it."""

    id: int
    sample: int
    prompt: str
    text: str
    logprobs: list[Any] | None
    failure: RequestFailed | None


Key = tuple[str, int]
"""Name of the dataset, number of the document in it."""


def rescore(
    ledger: Ledger, run_id: int, tasks: Sequence[TaskSpec], *, include: Sequence[Path] = ()
) -> dict[int, bridge.Report]:
    """Scores a run's stored answers again with the task definitions as they are now.

    A document counts as the same if its number and its prompt are the same; targets, filters and metrics may have
    changed. Grades come under new annotators where the definition changed; the run's scores are replaced.

    Args:
        run_id: The run.
        tasks: What the run evaluated.
        include: Folders with the user's own task files.

    Returns:
        A report for each model, by its id.

    Raises:
        UserError: The run has no answers to these tasks, or the prompts changed.
    """
    with bridge.templates_compiled_once():
        return _rescore(ledger, run_id, tasks, include)


def _rescore(
    ledger: Ledger, run_id: int, tasks: Sequence[TaskSpec], include: Sequence[Path]
) -> dict[int, bridge.Report]:
    reports: dict[int, bridge.Report] = {}
    loaded = bridge.load_tasks(tasks, include)
    for model_id in _models(ledger, run_id):
        report = reports[model_id] = bridge.Report()
        for one in loaded:
            report.skipped.update(one.skipped)
            stored, datasets, sizes = _stored(ledger, run_id, model_id, list(one.tasks))
            scored = {}
            for name, task in one.tasks.items():
                if name not in datasets:
                    continue
                answers = _answers(task, sizes[name], stored)
                scored[name] = scoring.score_task(task, answers)
                report.failed[name] = len(scored[name].failed)
                bridge.write_grades(ledger, scored[name])
            if not scored:
                continue
            datasets.update(_group_datasets(ledger, run_id, model_id, list(one.groups)))
            scores = scoring.summarise(scored, {n: g for n, g in one.groups.items() if n in datasets})
            bridge.write_scores(ledger, run_id, model_id, datasets, scores)
            report.scores += scores
    if not any(report.scores for report in reports.values()):
        raise UserError(f"run {run_id} has no answers to {', '.join(spec.name for spec in tasks)}")
    return reports


def _answers(task: Any, size: int, stored: Mapping[Key, Sequence[Stored]]) -> list[tuple[Any, int, int | None, Any]]:
    """Joins a task's documents with the stored answers, in the form that `scoring.score_task` takes."""
    name = str(task.config.task)
    # Few-shot examples and templates do not matter here: the answers are there, only the order of choices counts.
    shots, task.config.num_fewshot = task.config.num_fewshot, 0
    task.set_fewshot_seed(seed=bridge.FEWSHOT_SEED)
    with bridge.no_bars():
        task.build_all_requests(limit=size)
    task.config.num_fewshot = shots
    prompts = [str(item.messages[0]["content"]) for item in documents.items(task, size)]
    answers: list[tuple[Any, int, int | None, Any]] = []
    by_document: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_document.setdefault(instance.doc_id, []).append(instance)
    missing = RequestFailed("missing", "the run has no answer to this document")
    for number, instances in by_document.items():
        found = {one.sample: one for one in reversed(stored.get((name, number), ()))}
        answers += [(instance, 0, None, missing) for instance in instances if not found]
        for one in found.values():
            if one.prompt != prompts[number]:
                raise UserError(f"the task {name} asks document {number} otherwise than the run did; run it anew")
            values = [one.failure] * len(instances) if one.failure else _values(instances, one, name)
            answers += [(i, one.sample, one.id, v) for i, v in zip(instances, values, strict=True)]
    return sorted(answers, key=lambda answer: answer[1])


def _values(instances: Sequence[Any], one: Stored, name: str) -> list[Any]:
    if instances[0].request_type == "loglikelihood":
        if one.logprobs is None or len(one.logprobs) != len(instances):
            raise UserError(f"the task {name} has other choices than in the run; run it anew")
        return [(float(total), bool(greedy)) for total, greedy in one.logprobs]
    if len(instances) > 1:
        raise UserError(f"the task {name} asks several questions of one document: run it anew instead")
    return [cut(one.text, sampling(instances[0].args[1]).stop)]


def _models(ledger: Ledger, run_id: int) -> list[int]:
    query = sa.select(RunResponse.model_id).where(RunResponse.run_id == run_id).distinct()
    with ledger.engine.connect() as connection:
        return sorted(connection.scalars(query))


def _stored(
    ledger: Ledger, run_id: int, model_id: int, names: Sequence[str]
) -> tuple[dict[Key, list[Stored]], dict[str, int], dict[str, int]]:
    """Reads a model's answers to tasks of those names; with the datasets' ids and numbers of documents."""
    query = (
        sa.select(Dataset.id, Dataset.name, Dataset.n, DatasetItem.position, Item.messages)
        .add_columns(Response.id, Response.sample, Response.text, Response.logprobs)
        .add_columns(Response.error_kind, Response.error)
        .join_from(RunResponse, Response, Response.id == RunResponse.response_id)
        .join(Dataset, Dataset.id == RunResponse.dataset_id)
        .join(DatasetItem, (DatasetItem.dataset_id == Dataset.id) & (DatasetItem.item_id == Response.item_id))
        .join(Item, Item.id == Response.item_id)
        .where(RunResponse.run_id == run_id, RunResponse.model_id == model_id, Dataset.name.in_(names))
        .order_by(Dataset.id, DatasetItem.position, Response.sample, Response.id)
    )
    found: dict[Key, list[Stored]] = {}
    datasets: dict[str, int] = {}
    sizes: dict[str, int] = {}
    with ledger.engine.connect() as connection:
        for row in connection.execute(query):
            dataset_id, name, n, number, messages, response_id, sample, text, logprobs, kind, error = row
            datasets[name], sizes[name] = dataset_id, n
            failure = RequestFailed(kind, error or "") if kind else None
            one = Stored(response_id, sample, str(messages[0]["content"]), text or "", logprobs, failure)
            found.setdefault((name, number), []).append(one)
    return found, datasets, sizes


def _group_datasets(ledger: Ledger, run_id: int, model_id: int, names: Sequence[str]) -> dict[str, int]:
    query = (
        sa.select(Dataset.name, Dataset.id)
        .join(Score, Score.dataset_id == Dataset.id)
        .where(Score.run_id == run_id, Score.model_id == model_id, Dataset.name.in_(names))
    )
    with ledger.engine.connect() as connection:
        return {name: dataset_id for name, dataset_id in connection.execute(query)}
