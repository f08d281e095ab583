"""From answers to grades and scores: lm-eval's filters, metrics, aggregation and standard errors, failures kept out."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import math
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.models.base import RequestFailed, sha256

PYTHON_SEED = 0  # lm-eval's own
BOOTSTRAP_ROUNDS = 1_000  # for the few metrics without a closed form (F1, perplexity, median, BLEU)
MAX_DETAIL_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True)
class Grade:
    """A metric's value for one document.

    Attributes:
        response_id: The (first) response to the document.
        metric: As lm-eval names it, filter included: "exact_match,strict-match".
        value: None with `error`.
        detail: The filtered answer.
    """

    response_id: int
    metric: str
    value: float | None
    error: str | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's summary over a task or group; see `evalkit.store.rows.ScoreRow`."""

    name: str
    metric: str
    value: float | None
    stderr: float | None
    n: int
    errors: int
    higher_is_better: bool


@dataclass(slots=True)
class TaskScores:
    """What one task's answers gave.

    Attributes:
        failed: Document number to what went wrong with its response.
        unscored: Metric to number of documents whose scoring failed.
        values: Metric (name, filter) to the value of each scored document, as lm-eval aggregates them.
        documents: Document numbers behind `values`.
    """

    task: Any
    grades: list[Grade] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    unscored: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    values: dict[tuple[str, str], list[Any]] = field(default_factory=lambda: defaultdict(list))
    documents: dict[tuple[str, str], list[Any]] = field(default_factory=lambda: defaultdict(list))


def score_task(task: Any, answers: Sequence[tuple[Any, int, int | None, Any]]) -> TaskScores:
    """Filters and scores one task's answers as lm-eval's `evaluate` does, documents without an answer left out.

    Args:
        task: An lm-eval task whose instances were built.
        answers: (instance, repeat, response id, value or RequestFailed), repeats in order.

    Returns:
        Values of each document; nothing is scored for a document of which any response failed.
    """
    from lm_eval.tasks import TaskManager

    result = TaskScores(task)
    responses: dict[int, int] = {}
    for instance in task.instances:
        instance.resps, instance.filtered_resps = [], {}
    for instance, _, response_id, value in answers:
        if isinstance(value, RequestFailed):
            result.failed.setdefault(instance.doc_id, f"{value.kind}: {value.message}")
        else:
            instance.resps.append(value)
            if response_id is not None:
                responses.setdefault(instance.doc_id, response_id)
    by_document: dict[int, list[Any]] = defaultdict(list)
    for instance in task.instances:
        if instance.doc_id not in result.failed:
            by_document[instance.doc_id].append(instance)
    if not by_document:
        return result
    everything, task._instances = task.instances, [i for group in by_document.values() for i in group]
    try:
        task.apply_filters()
    except Exception as error:  # a filter is the task author's code
        raise UserError(f"the task {task.config.task}: a filter fails: {type(error).__name__}: {error}") from error
    finally:
        task._instances = everything
    # Some verifiers draw (IFEval's letter frequency, where the letter is "#"). So does lm-eval whenever it asks a task
    # for its name, as its loader does: loading the task as it does makes the draws start where its own do.
    drawn = random.getstate()
    random.seed(PYTHON_SEED)
    TaskManager(include_defaults=False).load([task])
    for filter_name in next(iter(by_document.values()))[0].filtered_resps:
        for number, instances in by_document.items():
            instances.sort(key=lambda i: i.idx)
            _score_document(result, filter_name, number, instances, responses.get(number))
    random.setstate(drawn)
    return result


def _score_document(
    result: TaskScores, filter_name: str, number: int, instances: Sequence[Any], response_id: int | None
) -> None:
    filtered = [i.filtered_resps[filter_name] for i in instances]
    detail = _detail(instances, filtered)
    try:
        metrics = result.task.process_results(instances[0].doc, filtered)
    except Exception as error:  # noqa: BLE001  a metric is the task author's code: its failure becomes a row
        said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        for name in result.task.aggregation():
            _unscored(result, f"{name},{filter_name}", response_id, f"scoring failed: {said}", detail)
        return
    for name, value in metrics.items():
        if isinstance(value, float) and math.isnan(value):  # how a metric says that it cannot tell
            _unscored(result, f"{name},{filter_name}", response_id, "the answer could not be verified", detail)
            continue
        result.values[name, filter_name].append(value)
        result.documents[name, filter_name].append(instances[0].doc)
        single = _single(value)
        if single is not None and response_id is not None:
            result.grades.append(Grade(response_id, f"{name},{filter_name}", single, None, detail))


def _unscored(result: TaskScores, metric: str, response_id: int | None, why: str, detail: dict[str, Any]) -> None:
    result.unscored[metric] += 1
    if response_id is not None:
        result.grades.append(Grade(response_id, metric, None, why, detail))


def _detail(instances: Sequence[Any], filtered: Sequence[Any]) -> dict[str, Any]:
    if instances[0].request_type == "loglikelihood":
        best = max(range(len(filtered)), key=lambda i: filtered[i][0])
        return {"chosen": best, "text": str(instances[best].args[1]).strip()[:MAX_DETAIL_CHARACTERS]}
    answer = filtered[0] if len(filtered) == 1 else filtered
    return {"filtered": answer[:MAX_DETAIL_CHARACTERS] if isinstance(answer, str) else str(answer)}


def _single(value: Any) -> float | None:
    """Returns a document's own value: a number, or the share of a list; None for what means nothing alone."""
    if isinstance(value, list) and value and all(isinstance(v, bool | int | float) for v in value):
        return float(sum(value) / len(value))
    if not hasattr(value, "__float__"):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def summarise(
    scored: Mapping[str, TaskScores], groups: Mapping[str, Any], bootstrap_rounds: int = BOOTSTRAP_ROUNDS
) -> list[Score]:
    """Aggregates tasks and groups with lm-eval's own functions.

    Standard errors are lm-eval's, except that they are clustered (Miller 2024; `evalkit.stats.intervals`) where a
    task names its cluster (`metadata: {cluster: FIELD}`) or a document gives several values (IFEval's instructions).

    Args:
        scored: By task name.
        groups: lm-eval group objects by name.
        bootstrap_rounds: For metrics without a closed form; lm-eval's own default is 100,000.
    """
    from lm_eval.evaluator_utils import _process_results

    accumulated = {name: {"task": s.task, "raw_metrics": s.values, "logged_samples": []} for name, s in scored.items()}
    try:
        with _plain_output():
            results = _process_results(accumulated, dict(groups), bootstrap_rounds)
    except Exception as error:  # an aggregation may be the task author's code
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"the values of {', '.join(scored)} cannot be aggregated: {said}") from error
    scores = []
    for name, metrics in results.metrics.items():
        if name not in scored and not groups[name].has_aggregation:
            continue  # a group that only bundles tasks has no score of its own
        members = [name] if name in scored else [t.task_name for t in groups[name].get_all_tasks()]
        found = {k: v for k, v in metrics.items() if "," in k and "_stderr," not in k}
        for metric in found or _expected(scored, members):
            base, _, filter_name = metric.partition(",")
            theirs = metrics.get(f"{base}_stderr,{filter_name}")
            stderr = float(theirs) if isinstance(theirs, int | float) and math.isfinite(theirs) else None
            if name in scored:
                own = _clustered(scored[name], (base, filter_name), metrics.get(metric))
                stderr = stderr if own is None else own
            parts = [scored[m] for m in members if m in scored]
            value = metrics.get(metric)
            scores.append(
                Score(
                    name,
                    metric,
                    None if value is None or not math.isfinite(value) else float(value),
                    stderr,
                    sum(len(p.values.get((base, filter_name), ())) for p in parts),
                    sum(len(p.failed) + p.unscored.get(metric, 0) for p in parts),
                    all(p.task.higher_is_better().get(base, True) for p in parts),
                )
            )
    return scores


def _expected(scored: Mapping[str, TaskScores], members: Sequence[str]) -> list[str]:
    """Names the metrics of a task all of whose documents failed, so that the failure has a row."""
    names: dict[str, None] = {}
    for member in members:
        if member in scored:
            task = scored[member].task
            for f in task._filters:
                names.update((f"{metric},{f.name}", None) for metric in task.aggregation())
    return list(names)


def _clustered(scores: TaskScores, key: tuple[str, str], value: Any) -> float | None:
    from lm_eval.api.metrics import mean

    values = scores.values.get(key, [])
    metadata = scores.task.config.metadata
    cluster = metadata.get("cluster") if isinstance(metadata, dict) else None
    parts = bool(values) and all(isinstance(v, list) and v for v in values)
    if not parts and not (cluster and values and scores.task.aggregation().get(key[0]) is mean):
        return None
    from evalkit.stats.intervals import clustered_mean

    if parts:
        flat, labels = zip(*((float(x), i) for i, v in enumerate(values) for x in v), strict=True)
        found = clustered_mean(flat, labels)
        # Only where the metric is the plain mean of all parts does this error belong to it.
        return _finite(found.se) if abs(found.value - float(value)) < 1e-9 else None
    return _finite(clustered_mean(values, [str(d[cluster]) for d in scores.documents[key]]).se)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def annotator_definition(task: Any, metric: str) -> dict[str, Any]:
    """Returns what decides a metric's values, for the annotator's identity: change any of it and it is another one.

    Args:
        task: An lm-eval task.
        metric: "exact_match,strict-match".
    """
    name, _, filter_name = metric.partition(",")
    config = task.config
    listed = [m for m in config.metric_list or [] if m.get("metric") == name] or list(config.metric_list or [])
    scoring = {
        "output_type": config.output_type,
        "metrics": _plain(listed),
        "filter": _plain([f for f in config.filter_list or [] if f.get("name") == filter_name]),
        "process_results": _plain(config.process_results),
        "target": _plain(config.doc_to_target),
        "choices": _plain(config.doc_to_choice),
        "class": _plain(type(task)) if type(task).__module__ != "lm_eval.api.task" else "ConfigurableTask",
    }
    return {
        "task": str(config.task),
        "task_version": str(task.VERSION),
        "scoring": sha256(scoring),
        "metric": name,
        "filter": filter_name,
        "lm_eval": version("lm_eval"),
    }


def _plain(value: Any) -> Any:
    """Turns a definition into JSON; a function becomes its name and the hash of the file it stands in."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Callable):  # type: ignore[arg-type]
        name = getattr(value, "__qualname__", type(value).__qualname__)
        try:
            source = Path(inspect.getfile(value)).read_bytes()
        except (TypeError, OSError):
            return {"function": name}
        return {"function": name, "sha256": hashlib.sha256(source).hexdigest()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


@contextlib.contextmanager
def _plain_output() -> Iterator[None]:
    """Keeps lm-eval's bootstrap in this process and off the terminal, where `--json` must stay readable."""
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = before
