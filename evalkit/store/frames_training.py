"""Reads of failure slices, training runs, gates and the family of models, as DataFrames.

What the JSON columns hold (fields may be missing; readers then show nothing for them):

- slice.definition: model (id), dataset (id), metric, where ({feature: value}) or terms ([word]), and the counts
  `discovery` and `held_out`, each {n, failed, rest_n, rest_failed}: graded answers in the slice and outside of it.
  Then graders ([annotator id]: whose grades say what failed), about ("prompts", or "answers" where the model's own
  answers are part of the definition), interval ([lower, upper] of the effect, 95%), p_value, stability (share of
  resamples that found it again), examples ([item id] of the training half), also (other definitions, in words).
- training_set.recipe: the plan's recipe with key (of the plan: the same plan finds its set again), method, base, made
  and used ({source: rows}), dropped ({reason: rows}), compared ({half: items}), leaks, leaked ([{prompt, source, item,
  rule, value, half}]), allowed (why rows that touch items were kept), diversity, said (sentences for the card).
- training_row.content: as `trainers.rows.Row` says; provenance: kind, source, way, model, response, check ...
- gate.evidence: tests ([{name, kind, metric, n, parent, candidate, difference, lower, upper, margin, p_value, passed,
  minimum_effect}]; kind is improvement, non_inferiority, safety, speed, length or battles), reason, advice, and, for a
  decision by hand, decided ({by, why, at}).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from evalkit.store.arena import user_turns
from evalkit.store.ledger import Ledger
from evalkit.store.reading import frame, model_names
from evalkit.store.schema import (
    Battle,
    CurvePoint,
    Dataset,
    Gate,
    Grade,
    Item,
    Model,
    ModelParent,
    Response,
    RunResponse,
    Slice,
    SliceItem,
    TrainingRow,
    TrainingRun,
    TrainingSet,
    Verdict,
)
from evalkit.store.schema_app import set_aside

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "curve_points",
    "family",
    "gates",
    "slice_answers",
    "slice_material",
    "slices",
    "training_rows",
    "training_runs",
    "training_sets",
]

TRAIN = "train"
"""The half of a slice that may be read, shown and trained on; the other half is the gate's alone."""
PASS_FROM = 0.5
"""A grade below fails, as in `evalkit.report.failures`."""
COUNTS = ("n", "failed", "rest_n", "rest_failed")
NUMBERS = {"effect", "q_value", "value", "grade", *COUNTS, *(f"held_out_{name}" for name in COUNTS)}


def slices(ledger: Ledger) -> pd.DataFrame:
    """Lists the failure slices, those with the smallest q-value first.

    Returns:
        slice_id, slice (its name), run_id, model_id, model, dataset, metric, where (in words), support (items),
        train_items, held_out_items, n, failed, rest_n, rest_failed (graded answers of the discovery half),
        held_out_n ... held_out_rest_failed, effect (failure rate less that outside the slice), q_value, created_at.
    """
    of = sa.func.sum(sa.case((SliceItem.split == TRAIN, 1), else_=0))
    counts = sa.select(SliceItem.slice_id, of.label("train"), sa.func.count().label("all"))
    counted = counts.group_by(SliceItem.slice_id).subquery()
    query = (
        sa.select(*Slice.__table__.c, sa.func.coalesce(counted.c.train, 0), sa.func.coalesce(counted.c.all, 0))
        .outerjoin(counted, counted.c.slice_id == Slice.id)
        .order_by(Slice.q_value.is_(None), Slice.q_value, Slice.id)
    )
    with ledger.engine.connect() as connection:
        models = model_names(connection)
        datasets: dict[int, str] = {key: name for key, name in connection.execute(sa.select(Dataset.id, Dataset.name))}
        rows = []
        for (
            key,
            _,
            run_id,
            name,
            definition,
            support,
            effect,
            q_value,
            created_at,
            train,
            n_items,
        ) in connection.execute(query):
            model_id, dataset_id = definition.get("model"), definition.get("dataset")
            found, kept = definition.get("discovery") or {}, definition.get("held_out") or {}
            what = (model_id, models.get(model_id, ""), datasets.get(dataset_id, ""), definition.get("metric", ""))
            counted_in = (*(found.get(c) for c in COUNTS), *(kept.get(c) for c in COUNTS))
            sizes = (support, int(train), int(n_items - train))
            rows.append(
                (key, name, run_id, *what, _where(definition), *sizes, *counted_in, effect, q_value, created_at)
            )
    head = ("slice_id", "slice", "run_id", "model_id", "model", "dataset", "metric", "where", "support")
    halves = ("train_items", "held_out_items", *COUNTS, *(f"held_out_{c}" for c in COUNTS))
    return frame(rows, (*head, *halves, "effect", "q_value", "created_at"), NUMBERS)


def _where(definition: dict[str, Any]) -> str:
    parts = [f"{feature} = {value}" for feature, value in (definition.get("where") or {}).items()]
    terms = definition.get("terms") or []
    return " and ".join(parts) or (f"about {', '.join(map(str, terms))}" if terms else "")


def _decides(definition: dict[str, Any]) -> list[sa.ColumnElement[bool]]:
    """Which grades say whether an answer of a slice failed."""
    if definition.get("graders"):
        return [Grade.annotator_id.in_(definition["graders"])]
    return [Grade.criterion == definition["metric"]] if definition.get("metric") else []


def slice_answers(ledger: Ledger, slice_id: int, *, limit: int | None = 50) -> pd.DataFrame:
    """Reads the answers of a slice's model to the items that may be read: those of the training half.

    The held-out half is what the gate measures; who saw it could no longer choose examples or data without bias.

    Returns:
        item_id, response_id, prompt, answer (missing if the request failed), error, grade (on the slice's metric;
        NaN without), those that failed first.
    """
    with ledger.engine.connect() as connection:
        row = connection.execute(sa.select(Slice.run_id, Slice.definition).where(Slice.id == slice_id)).first()
        run_id, definition = row if row is not None else (None, {})
        # From the run's own rows: they lie together, while an item's answers are found by no index.
        place = [RunResponse.run_id == run_id]
        for column, key in ((RunResponse.model_id, "model"), (RunResponse.dataset_id, "dataset")):
            if definition.get(key) is not None:
                place.append(column == definition[key])
        asked = sa.select(RunResponse.response_id).where(*place).distinct().subquery()
        value = sa.select(sa.func.min(Grade.value)).where(Grade.response_id == Response.id, *_decides(definition))
        grade = value.correlate(Response).scalar_subquery().label("grade")
        query = (
            sa.select(Item.id, Response.id, Item.messages, Response.text, Response.error, grade)
            .select_from(asked)
            .join(Response, Response.id == asked.c.response_id)
            .join(SliceItem, SliceItem.item_id == Response.item_id)
            .join(Item, Item.id == Response.item_id)
            .where(SliceItem.slice_id == slice_id, SliceItem.split == TRAIN)
            .order_by(grade.is_(None), grade, Response.id)
            .limit(limit)
        )
        rows = [(*row[:2], "\n\n".join(user_turns(row[2])), *row[3:]) for row in connection.execute(query)]
    return frame(rows, ("item_id", "response_id", "prompt", "answer", "error", "grade"), NUMBERS)


def training_sets(ledger: Ledger) -> pd.DataFrame:
    """Lists training sets, newest first: training_set_id, training_set, slice_id, n (rows), recipe, created_at."""
    columns = (TrainingSet.id, TrainingSet.name, TrainingSet.slice_id, TrainingSet.n, TrainingSet.recipe)
    query = sa.select(*columns, TrainingSet.created_at).order_by(TrainingSet.id.desc())
    with ledger.engine.connect() as connection:
        names = ("training_set_id", "training_set", "slice_id", "n", "recipe", "created_at")
        return frame(connection.execute(query), names)


def training_rows(ledger: Ledger, training_set_id: int, *, limit: int = 50) -> pd.DataFrame:
    """Reads a training set's first rows: position, item_id, provenance, content."""
    columns = (TrainingRow.position, TrainingRow.item_id, TrainingRow.provenance, TrainingRow.content)
    query = sa.select(*columns).where(TrainingRow.training_set_id == training_set_id).order_by(TrainingRow.position)
    with ledger.engine.connect() as connection:
        return frame(connection.execute(query.limit(limit)), ("position", "item_id", "provenance", "content"))


def training_runs(ledger: Ledger) -> pd.DataFrame:
    """Lists training runs, newest first.

    Returns:
        training_run_id, method, status, parent_id, parent, model_id (of the result), model, training_set_id,
        training_set, rows, slice_id, run_id, config, checkpoint, message, created_at, finished_at.
    """
    run = TrainingRun
    columns = (
        *(run.id, run.method, run.status, run.parent_id, run.model_id, run.training_set_id, TrainingSet.name),
        *(TrainingSet.n, TrainingSet.slice_id, run.run_id, run.config, run.checkpoint, run.message, run.created_at),
        run.finished_at,
    )
    query = sa.select(*columns).outerjoin(TrainingSet, TrainingSet.id == run.training_set_id).order_by(run.id.desc())
    with ledger.engine.connect() as connection:
        names = model_names(connection)
        rows = [
            (*row[:4], names[row[3]], row[4], names.get(row[4], "") if row[4] else "", *row[5:])
            for row in connection.execute(query)
        ]
    head = ("training_run_id", "method", "status", "parent_id", "parent", "model_id", "model", "training_set_id")
    tail = ("training_set", "rows", "slice_id", "run_id", "config", "checkpoint", "message", "created_at")
    return frame(rows, (*head, *tail, "finished_at"), {"rows"})


def curve_points(ledger: Ledger, training_run_id: int) -> pd.DataFrame:
    """Reads the curves of a training run: metric, step, value, by step."""
    query = sa.select(CurvePoint.metric, CurvePoint.step, CurvePoint.value)
    query = query.where(CurvePoint.training_run_id == training_run_id)
    with ledger.engine.connect() as connection:
        rows = connection.execute(query.order_by(CurvePoint.metric, CurvePoint.step))
        return frame(rows, ("metric", "step", "value"), NUMBERS)


def gates(ledger: Ledger) -> pd.DataFrame:
    """Lists gates, newest first: gate_id, candidate_id, candidate, parent_id, parent, decision (accepted, refused,
    waiting), evidence, run_id, created_at."""
    columns = (Gate.id, Gate.candidate_id, Gate.parent_id, Gate.decision, Gate.evidence, Gate.run_id, Gate.created_at)
    with ledger.engine.connect() as connection:
        names = model_names(connection)
        rows = [
            (row[0], row[1], names[row[1]], row[2], names[row[2]], *row[3:])
            for row in connection.execute(sa.select(*columns).order_by(Gate.id.desc()))
        ]
    head = ("gate_id", "candidate_id", "candidate", "parent_id", "parent", "decision", "evidence", "run_id")
    return frame(rows, (*head, "created_at"))


def family(ledger: Ledger) -> pd.DataFrame:
    """Lists which model was made from which: model_id, model, parent_id, parent, relation (trained_from, merged_from),
    parents before their children."""
    query = sa.select(ModelParent.model_id, ModelParent.parent_id, ModelParent.relation)
    query = query.join(Model, Model.id == ModelParent.model_id)
    with ledger.engine.connect() as connection:
        names = model_names(connection)
        rows = [
            (child, names[child], parent, names[parent], relation)
            for child, parent, relation in connection.execute(
                query.order_by(ModelParent.model_id, ModelParent.parent_id)
            )
        ]
    return frame(rows, ("model_id", "model", "parent_id", "parent", "relation"))


def slice_material(ledger: Ledger, slice_id: int) -> dict[str, int]:
    """Counts what the ledger holds to train on for a slice, in its training half alone.

    Returns:
        items; failed (answers of the slice's model that fail the slice's metric); checked (items with a reference or
        check); accepted (items with an answer, of any model of the run, that passes); outcomes (items with an answer
        that passes and one that fails); preferences (verdicts with a winner on answers to these items).
    """
    train = sa.select(SliceItem.item_id).where(SliceItem.slice_id == slice_id, SliceItem.split == TRAIN)
    with ledger.engine.connect() as connection:
        row = connection.execute(sa.select(Slice.run_id, Slice.definition).where(Slice.id == slice_id)).first()
        run_id, definition = row if row is not None else (None, {})
        place = [RunResponse.run_id == run_id]
        if definition.get("dataset") is not None:
            place.append(RunResponse.dataset_id == definition["dataset"])
        graded = (
            sa.select(Response.item_id, Response.model_id, Grade.value)
            .select_from(RunResponse)
            .join(Response, Response.id == RunResponse.response_id)
            .join(Grade, Grade.response_id == Response.id)
            .where(*place, Response.item_id.in_(train), Grade.value.is_not(None), *_decides(definition))
        )
        passed: set[int] = set()
        failed: set[int] = set()
        own = 0
        for item_id, model_id, value in connection.execute(graded):
            assert value is not None
            (passed if value >= PASS_FROM else failed).add(item_id)
            own += value < PASS_FROM and model_id == definition.get("model")
        references = connection.scalars(sa.select(Item.reference).where(Item.id.in_(train))).all()
        preferred = (
            sa.select(sa.func.count())
            .select_from(Battle)
            .join(Verdict, Verdict.battle_id == Battle.id)
            .where(Battle.item_id.in_(train), Verdict.winner.in_(("model_a", "model_b")))
            .where(Verdict.annotator_id.not_in(set_aside()))
        )
        return {
            "items": len(references),
            "failed": own,
            "checked": sum(bool(reference) for reference in references),
            "accepted": len(passed),
            "outcomes": len(passed & failed),
            "preferences": connection.scalar(preferred) or 0,
        }
