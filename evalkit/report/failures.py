"""Where each model fails: failure rates by tag and task, and examples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from evalkit.report.reads import Rate, clip, run_models, run_row
from evalkit.report.scores import ScoreTable, score_table
from evalkit.store.ledger import Ledger
from evalkit.store.schema import Annotator, Dataset, Grade, Item, Response, RunCell, RunResponse

MIN_SUPPORT = 5
PASS_FROM = 0.5
"""A graded answer fails if its task's main metric, which lies in 0..1, is below this."""
MAX_TEXT = 6_000
MAX_VERDICT = 400
TASK = "task"


@dataclass(frozen=True, slots=True)
class FailureSlice:
    """A model's answers that share a tag.

    Attributes:
        tag, value: "topic", "fractions"; the tag `task` is the benchmark.
        also: Other tags that mark exactly the same answers: "format = number".
        rate: Share that failed, n graded answers in the slice, Wilson's interval.
        rest: Share that failed among the model's other graded answers, `rest_n` of them.
        difference: rate minus rest.
        clear: Whether the interval lies wholly above the rest's rate.
    """

    tag: str
    value: str
    also: tuple[str, ...]
    rate: Rate
    rest: float
    rest_n: int
    difference: float
    clear: bool


@dataclass(frozen=True, slots=True)
class FailureExample:
    """One answer that failed.

    Attributes:
        reference: The right answer, as the item holds it.
        verdict: What the metric made of the answer, in words.
    """

    response_id: int
    task: str
    tags: Mapping[str, Any]
    prompt: str
    answer: str
    reference: str
    metric: str
    value: float
    verdict: str


@dataclass(frozen=True, slots=True)
class ModelFailures:
    """One model.

    Attributes:
        overall: Share of its graded answers that failed.
        requests_failed: Requests without an answer: in no rate.
        ungraded: Answers that could not be graded: in no rate.
        slices: Those in which it fails more than elsewhere, the clear ones first, then the largest difference.
        looked_at: Slices with enough support that were compared.
    """

    model: str
    overall: Rate
    requests_failed: int
    ungraded: int
    slices: tuple[FailureSlice, ...]
    looked_at: int
    examples: tuple[FailureExample, ...]


@dataclass(frozen=True, slots=True)
class Failures:
    """All models of a run; `definition` says what counts as a failure."""

    models: tuple[ModelFailures, ...]
    definition: str
    left_out: tuple[str, ...]


@dataclass(slots=True)
class _Count:
    """Graded answers of one model that share all tags."""

    n: int = 0
    failed: int = 0
    slices: dict[tuple[str, str], None] = field(default_factory=dict)


def failures(ledger: Ledger, run_id: int, k: int = 3, *, scores: ScoreTable | None = None) -> Failures:
    """Says where each model fails. Counts are made by the database; texts are read for the examples alone.

    Args:
        k: Examples for each model, drawn with the run's seed.
        scores: The run's score table, where it is at hand.

    Raises:
        UserError: There is no such run.
    """
    table = scores or score_table(ledger, run_id)
    tasks, left_out = passable(table)
    with ledger.engine.connect() as connection:
        run = run_row(connection, run_id)
        names = run_models(connection, run_id)
        graded_by = graders(connection, tasks)
        left_out += [f"{name}: no answer was graded" for key, (name, _) in tasks.items() if key not in graded_by]
        graded = graded_answers(run_id, graded_by)
        counts, ungraded = _count(connection, graded, tasks)
        cells = sa.select(RunCell.model_id, sa.func.sum(RunCell.errors)).join(Dataset, Dataset.id == RunCell.dataset_id)
        cells = cells.where(RunCell.run_id == run_id, Dataset.n > 0).group_by(RunCell.model_id)
        lost = {key: int(n) for key, n in connection.execute(cells)}
        examples = _examples(connection, graded, tasks, int(run["seed"]), k) if k > 0 else {}
    found = []
    for model_id, name in names.items():
        slices, looked_at = _slices(counts[model_id])
        n, failed = (sum(getattr(c, what) for c in counts[model_id]) for what in ("n", "failed"))
        found.append(
            ModelFailures(
                model=name,
                overall=_rate(failed, n),
                requests_failed=lost.get(model_id, 0),
                ungraded=ungraded[model_id],
                slices=slices,
                looked_at=looked_at,
                examples=tuple(examples.get(model_id, ())),
            )
        )
    definition = (
        f"An answer fails if its task's main metric is below {PASS_FROM:g}. Requests without an answer, and "
        f"answers that could not be graded, are in no rate. A slice holds at least {MIN_SUPPORT} graded answers; "
        "intervals are Wilson's, 95%."
    )
    return Failures(tuple(found), definition, tuple(left_out))


def passable(table: ScoreTable) -> tuple[dict[int, tuple[str, str]], list[str]]:
    """Returns the tasks whose main metric says right or wrong, by dataset (name, metric), and why others are not."""
    tasks, left_out = {}, []
    for task in table.tasks:
        values = [c.value for c in table.cells if c.main and c.task == task.name and c.value is not None]
        if task.source.startswith("group of "):
            continue  # its members' answers are counted under their own names
        if task.higher_is_better and all(0 <= value <= 1 for value in values):
            tasks[task.dataset_id] = (task.name, task.metric)
        else:
            left_out.append(f"{task.name}: {task.metric} has no line between right and wrong")
    return tasks, left_out


def graders(connection: sa.Connection, tasks: Mapping[int, tuple[str, str]]) -> dict[int, int]:
    """Returns who graded each dataset's main metric: the newest grader named after task and metric."""
    names = {f"{name} {metric}": key for key, (name, metric) in tasks.items()}
    query = sa.select(Annotator.name, sa.func.max(Annotator.id)).where(Annotator.kind == "metric")
    found = connection.execute(query.where(Annotator.name.in_(sorted(names))).group_by(Annotator.name))
    return {names[name]: annotator_id for name, annotator_id in found}


def graded_answers(run_id: int, graders: Mapping[int, int]) -> sa.Select[Any]:
    """Selects a run's answers with the grade of their task's main metric, by who graded each dataset."""
    if not graders:
        annotator: sa.ColumnElement[int] = sa.literal(0)
    else:
        annotator = sa.case(dict(graders), value=RunResponse.dataset_id)
    return (
        sa.select(RunResponse.response_id)
        .join(Response, Response.id == RunResponse.response_id)
        .join(Grade, (Grade.response_id == RunResponse.response_id) & (Grade.annotator_id == annotator))
        .where(RunResponse.run_id == run_id, RunResponse.dataset_id.in_(sorted(graders)), Grade.replicate == 0)
    )


def _count(
    connection: sa.Connection, graded: sa.Select[Any], tasks: Mapping[int, tuple[str, str]]
) -> tuple[dict[int, list[_Count]], dict[int, int]]:
    """Counts by model and set of tags; and answers without a value by model."""
    tags = sa.cast(Item.tags, sa.Text)
    failed = sa.func.sum(sa.case((Grade.value < PASS_FROM, 1), else_=0))
    query = (
        graded.with_only_columns(
            RunResponse.model_id,
            RunResponse.dataset_id,
            sa.func.max(Item.id),
            sa.func.count(Grade.value),
            failed,
            sa.func.count(),
        )
        .join(Item, Item.id == Response.item_id)
        .group_by(RunResponse.model_id, RunResponse.dataset_id, tags)
    )
    rows = connection.execute(query).fetchall()
    known = _tags(connection, {row[2] for row in rows})
    counts: defaultdict[int, list[_Count]] = defaultdict(list)
    ungraded: defaultdict[int, int] = defaultdict(int)
    for model_id, dataset_id, item_id, n, n_failed, asked in rows:
        task = tasks[dataset_id][0]
        slices: dict[tuple[str, str], None] = {(TASK, task): None}
        for tag, value in _pairs(known[item_id]):
            if value != task:
                slices[tag, value] = None
        counts[model_id].append(_Count(n, n_failed, slices))
        ungraded[model_id] += asked - n
    return counts, ungraded


def _tags(connection: sa.Connection, items: set[int]) -> dict[int, Mapping[str, Any]]:
    known: dict[int, Mapping[str, Any]] = {}
    ordered = sorted(items)
    for start in range(0, len(ordered), 500):
        query = sa.select(Item.id, Item.tags).where(Item.id.in_(ordered[start : start + 500]))
        known.update((row.id, row.tags or {}) for row in connection.execute(query))
    return known


def _pairs(tags: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for tag, value in tags.items():
        for single in value if isinstance(value, list) else [value]:
            if isinstance(single, str | int | float | bool):
                yield str(tag), str(single)


def _slices(counts: list[_Count]) -> tuple[tuple[FailureSlice, ...], int]:
    members: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for index, count in enumerate(counts):
        for key in count.slices:
            members[key].append(index)
    same: defaultdict[tuple[int, ...], list[tuple[str, str]]] = defaultdict(list)
    for key, indexes in members.items():
        same[tuple(indexes)].append(key)
    n_all, failed_all = sum(c.n for c in counts), sum(c.failed for c in counts)
    found, looked_at = [], 0
    for group, keys in same.items():
        n, failed = (sum(getattr(counts[i], what) for i in group) for what in ("n", "failed"))
        if n < MIN_SUPPORT or n_all - n < MIN_SUPPORT:
            continue
        looked_at += 1
        rate, rest = _rate(failed, n), (failed_all - failed) / (n_all - n)
        (tag, value), others = keys[0], tuple(f"{t} = {v}" for t, v in keys[1:])
        difference, clear = failed / n - rest, (rate.lower or 0.0) > rest
        if difference > 0:
            found.append(FailureSlice(tag, value, others, rate, rest, n_all - n, difference, clear))
    found.sort(key=lambda s: (not s.clear, -s.difference, s.tag, s.value))
    return tuple(found), looked_at


def _rate(failed: int, n: int) -> Rate:
    from evalkit.stats import wilson

    return Rate(failed / n, *wilson(failed, n), n) if n else Rate(None, None, None, 0)


def _examples(
    connection: sa.Connection, graded: sa.Select[Any], tasks: Mapping[int, tuple[str, str]], seed: int, k: int
) -> dict[int, list[FailureExample]]:
    """Draws k failures of each model: those whose id, scattered by the seed, comes first."""
    scattered = (Grade.response_id * 2654435761 + (seed % 65_521 + 1) * 40_503) % 4294967291
    place = sa.func.row_number().over(partition_by=RunResponse.model_id, order_by=(scattered, Grade.id))
    drawn = (
        graded.with_only_columns(
            RunResponse.model_id, RunResponse.dataset_id, Grade.id.label("grade_id"), place.label("place")
        )
        .where(Grade.value < PASS_FROM)
        .subquery()
    )
    query = (
        sa.select(
            drawn.c.model_id,
            drawn.c.dataset_id,
            Grade.response_id,
            Grade.value,
            Grade.detail,
            Response.text,
            Item.messages,
            Item.reference,
            Item.tags,
        )
        .join(Grade, Grade.id == drawn.c.grade_id)
        .join(Response, Response.id == Grade.response_id)
        .join(Item, Item.id == Response.item_id)
        .where(drawn.c.place <= k)
        .order_by(drawn.c.model_id, drawn.c.place)
    )
    examples: defaultdict[int, list[FailureExample]] = defaultdict(list)
    for row in connection.execute(query):
        name, metric = tasks[row.dataset_id]
        examples[row.model_id].append(
            FailureExample(
                response_id=row.response_id,
                task=name,
                tags=row.tags or {},
                prompt=clip(_prompt(row.messages), MAX_TEXT),
                answer=clip(row.text or "", MAX_TEXT),
                reference=clip(_reference(row.reference), MAX_TEXT),
                metric=metric,
                value=row.value,
                verdict=_verdict(row.detail, row.text or ""),
            )
        )
    return examples


def _prompt(messages: list[Any]) -> str:
    """A single user message as it is; a conversation with each speaker named."""
    texts = [(str(m.get("role", "")), _content(m.get("content"))) for m in messages]
    return texts[0][1] if len(texts) == 1 else "\n\n".join(f"[{role}] {text}" for role, text in texts)


def _content(content: Any) -> str:
    if isinstance(content, list):  # OpenAI's content parts
        return "\n".join(str(part.get("text", part)) if isinstance(part, Mapping) else str(part) for part in content)
    return "" if content is None else str(content)


def _reference(reference: Any) -> str:
    if isinstance(reference, Mapping):
        for name in ("target", "answer", "verify"):
            if reference.get(name) is not None:
                return _reference(reference[name])
    if reference is None or isinstance(reference, str | int | float):
        return "" if reference is None else str(reference)
    import json

    return json.dumps(reference, ensure_ascii=False, indent=1, default=str)


def _verdict(detail: Mapping[str, Any] | None, answer: str) -> str:
    """What the metric says of the answer, or what it read from it if that is not simply the whole answer."""
    found = detail or {}
    if found.get("reason"):
        return clip(found["reason"], MAX_VERDICT)
    read = found.get("filtered", found.get("text"))
    if read is None or str(read).strip() == answer.strip():
        return ""
    return f"read from the answer: {clip(read, MAX_VERDICT)}" if str(read).strip() else "nothing read from the answer"
