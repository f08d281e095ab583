"""Runs lm-eval tasks with evalkit's models: items, responses, grades and scores land in the ledger."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import documents, scoring
from benchmarks.lm import Answer, Document, refuse_perplexity, takes_chat
from benchmarks.tasks import Loaded, TaskSpec, load
from evalkit.engine import Engine
from evalkit.errors import UserError
from evalkit.models.base import ChatModel
from evalkit.store import GradeRow, Item, Ledger, ScoreRow

# lm-eval's own seeds: the drawing of few-shot examples, and what tasks shuffle while they are built.
FEWSHOT_SEED, NUMPY_SEED = 1234, 1234


@dataclass(slots=True)
class Report:
    """What became of a model's benchmarks.

    Attributes:
        scores: Tasks and groups.
        skipped: Task to the reason why it was not run.
        failed: Task to number of documents without an answer.
        chat_template: Task to whether its prompts went through the model's chat template.
    """

    scores: list[scoring.Score] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    chat_template: dict[str, bool] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """Documents that got no answer or could not be scored."""
        tasks = self.failed.keys()
        unscored = {s.name: s.errors for s in self.scores if s.name in tasks}
        return sum(max(self.failed[t], unscored.get(t, 0)) for t in tasks)


def load_tasks(specs: Sequence[TaskSpec], include: Sequence[Path] = ()) -> list[Loaded]:
    """Builds the tasks of several specs; the result may be used for one model after the other.

    Raises:
        UserError: See `benchmarks.tasks.load`; a task stands in two specs; none of them can run here.
    """
    with _lm_eval_seeds():
        loaded = [load(spec, include) for spec in specs]
    seen: dict[str, str] = {}
    for one in loaded:
        refuse_perplexity(one.tasks)
        for name in one.tasks:
            if name in seen:
                raise UserError(f"the task {name} is asked for twice, by {seen[name]} and by {one.spec.name}", code=2)
            seen[name] = one.spec.name
    if specs and not seen:
        raise UserError("; ".join(f"the task {k} cannot run: {v}" for one in loaded for k, v in one.skipped.items()))
    return loaded


def run_tasks(
    engine: Engine,
    ledger: Ledger,
    run_id: int,
    model: ChatModel,
    model_id: int,
    tasks: Sequence[TaskSpec] | Sequence[Loaded],
    *,
    include: Sequence[Path] = (),
    label: str = "benchmarks",
) -> Report:
    """Answers and scores tasks with one model; everything already in the ledger is not asked again.

    Args:
        engine: Of the run; `offline=True` sends nothing.
        model: Who answers.
        model_id: Its row.
        tasks: Specs, or what `load_tasks` made of them.
        include: Folders with the user's own task files.
        label: Of the progress bar.

    Returns:
        The scores as written, and what was skipped or failed.

    Raises:
        UserError: A task that does not exist, cannot be built, or cannot be run with this model.
    """
    with templates_compiled_once():
        return _run(engine, ledger, run_id, model, model_id, tasks, include, label)


def _run(
    engine: Engine,
    ledger: Ledger,
    run_id: int,
    model: ChatModel,
    model_id: int,
    tasks: Sequence[TaskSpec] | Sequence[Loaded],
    include: Sequence[Path],
    label: str,
) -> Report:
    specs = [t for t in tasks if isinstance(t, TaskSpec)]
    loaded = [t for t in tasks if isinstance(t, Loaded)] + (load_tasks(specs, include) if specs else [])
    report = Report()
    places: dict[tuple[str, int], Document] = {}
    datasets: dict[str, int] = {}
    asked: dict[str, list[tuple[Any, int]]] = {}
    from benchmarks.lm import EvalkitLM

    lm = EvalkitLM(engine, model, model_id, places)
    for one in loaded:
        report.skipped.update(one.skipped)
        datasets.update(_add_items(ledger, one, places))
        for name, task in one.tasks.items():
            report.chat_template[name] = _build(lm, model, one.spec, task)
            asked[name] = [(instance, n) for instance in task.instances for n in range(instance.repeats or 1)]
    everything = [question for questions in asked.values() for question in questions]
    answers = iter(lm.ask(everything, label))
    for one in loaded:
        scored = {}
        for name, task in one.tasks.items():
            scored[name] = scoring.score_task(task, [_joined(q, next(answers)) for q in asked[name]])
            report.failed[name] = len(scored[name].failed)
            write_grades(ledger, scored[name])
        scores = scoring.summarise(scored, one.groups)
        write_scores(ledger, run_id, model_id, datasets, scores)
        report.scores += scores
    return report


def _joined(question: tuple[Any, int], answer: Answer) -> tuple[Any, int, int | None, Any]:
    return (*question, answer.response_id, answer.value)


def _add_items(ledger: Ledger, one: Loaded, places: dict[tuple[str, int], Document]) -> dict[str, int]:
    """Writes datasets of tasks and groups; returns their ids by name."""
    items: dict[str, list[Item]] = {}
    ids: dict[str, int] = {}
    for name, task in one.tasks.items():
        limit = documents.number_of_documents(task, one.spec.limit)
        items[name] = documents.items(task, limit)
        ids[name], item_ids = ledger.add_dataset(name, items[name], one.sources.get(name, ""))
        places.update({(name, n): Document(item, ids[name]) for n, item in enumerate(item_ids)})
    for name, group in one.groups.items():
        members = [t.task_name for t in group.get_all_tasks()]
        joined = [item for member in members for item in items[member]]
        ids[name], _ = ledger.add_dataset(name, joined, f"group of {', '.join(members)}")
    return ids


def _build(lm: Any, model: ChatModel, spec: TaskSpec, task: Any) -> bool:
    """Makes a task's instances for this model; returns whether with a chat template."""
    name, kind, recorded = task.config.task, task.OUTPUT_TYPE, model.settings.provider == "recorded"
    # Recorded answers belong to the document's own prompt: neither examples nor a template may stand around it.
    chat = (recorded and kind == "generate_until") or takes_chat(model, kind, spec.chat_template)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    shots = task.config.num_fewshot
    if recorded:
        task.set_config(key="num_fewshot", value=0)
    try:
        with no_bars():
            task.build_all_requests(
                limit=documents.number_of_documents(task, spec.limit),
                system_instruction=model.settings.system,
                apply_chat_template=chat,
                fewshot_as_multiturn=spec.fewshot_as_multiturn,
                chat_template=lm.apply_chat_template if chat else None,
                tokenizer_name=lm.tokenizer_name,
            )
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"the task {name} cannot be put into prompts: {type(error).__name__}: {error}") from error
    finally:
        task.set_config(key="num_fewshot", value=shots)
    return chat


def write_grades(ledger: Ledger, scored: scoring.TaskScores) -> None:
    """Writes a task's grades under one annotator for each metric and filter."""
    annotators: dict[str, int] = {}
    for grade in scored.grades:
        if grade.metric not in annotators:
            definition = scoring.annotator_definition(scored.task, grade.metric)
            name = f"{scored.task.config.task} {grade.metric}"
            annotators[grade.metric] = ledger.add_annotator("metric", name, definition)
    ledger.add_grades(
        [
            GradeRow(g.response_id, annotators[g.metric], g.metric, g.value, g.error, detail=g.detail)
            for g in scored.grades
        ]
    )


def write_scores(
    ledger: Ledger, run_id: int, model_id: int, datasets: Mapping[str, int], scores: Sequence[scoring.Score]
) -> None:
    """Writes a model's scores; a score's dataset is its task's or group's."""
    ledger.set_scores(
        run_id,
        [
            ScoreRow(model_id, datasets[s.name], s.metric, s.value, s.stderr, s.n, s.errors, s.higher_is_better)
            for s in scores
        ],
    )


@contextlib.contextmanager
def _lm_eval_seeds() -> Iterator[None]:
    """Seeds the global generators as lm-eval does before it builds tasks, and puts them back after."""
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    random.seed(scoring.PYTHON_SEED)
    np.random.seed(NUMPY_SEED)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def templates_compiled_once() -> Iterator[None]:
    """Lets lm-eval compile a task's template once; it does so for each field of each document, most of its own time."""
    from lm_eval.utils import env

    env.from_string = functools.cache(env.from_string)
    try:
        yield
    finally:
        del env.from_string


@contextlib.contextmanager
def no_bars() -> Iterator[None]:
    """Takes lm-eval's bar over prompt building off the terminal, where the engine's own stands."""
    from lm_eval.api import task as module

    before, module.tqdm = module.tqdm, lambda iterable, **_: iterable
    try:
        yield
    finally:
        module.tqdm = before
