"""Reads for building training sets: what there is to train on, and what must never be in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.store.arena import TRAINING_PROMPTS, user_turns
from evalkit.store.frames_training import PASS_FROM, TRAIN
from evalkit.store.ledger import Ledger
from evalkit.store.schema import (
    Annotator,
    Battle,
    Dataset,
    DatasetItem,
    Grade,
    Item,
    ModelParent,
    Response,
    RunCell,
    Slice,
    SliceItem,
    TrainingRow,
    TrainingRun,
    Verdict,
)
from evalkit.store.schema_app import set_aside
from evalkit.store.schema_training import ItemHalf
from evalkit.store.writing import chunks
from evalkit.verify.spec import spec_of


@dataclass(frozen=True, slots=True)
class EvalItem:
    """An item that models are evaluated on.

    Attributes:
        text: The user's turns.
        half: train, held_out, or "" where it has not been given one.
    """

    id: int
    text: str
    half: str


@dataclass(frozen=True, slots=True)
class TrainItem:
    """An item of the training half: it may be read, shown and trained on.

    Attributes:
        verify: Its verifier's spec; None if it has none.
    """

    id: int
    dataset_id: int
    messages: tuple[Mapping[str, Any], ...]
    verify: Mapping[str, Any] | None
    tags: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FoundSlice:
    """A slice as trainers need it.

    Attributes:
        model_id: Of the model that fails; None where the slice does not say.
        metric: The criterion of the grades it was found by; "" for any.
    """

    id: int
    name: str
    run_id: int
    model_id: int | None
    metric: str


@dataclass(frozen=True, slots=True)
class Given:
    """A stored answer with what it was worth.

    Attributes:
        grade: Mean of its grades, 0 to 1, on the metric asked for; None without.
    """

    response_id: int
    item_id: int
    model_id: int
    text: str
    finish_reason: str | None
    grade: float | None


@dataclass(frozen=True, slots=True)
class Preferred:
    """A pair of answers with how much better the first is.

    Attributes:
        margin: 0 to 1: share of the verdicts for the better less that for the worse, or the difference of grades.
        said_by: Names of those who said so.
    """

    item_id: int
    chosen: Given
    rejected: Given
    margin: float
    said_by: tuple[str, ...]


def find_slice(ledger: Ledger, named: int | str) -> FoundSlice:
    """Returns a slice by its id or name.

    Raises:
        UserError: There is none, or two of that name.
    """
    wanted = Slice.id == named if isinstance(named, int) else Slice.name == named
    with ledger.engine.connect() as connection:
        rows = connection.execute(sa.select(Slice).where(wanted)).all()
        known = connection.scalars(sa.select(Slice.name).order_by(Slice.id).limit(8)).all()
    if not rows:
        there = f"there are {', '.join(map(repr, known))}" if known else "type: evalkit slices"
        raise UserError(f"slice: there is no slice {named!r} in this ledger; {there}", code=2)
    if len(rows) > 1:
        ids = ", ".join(str(row.id) for row in rows)
        raise UserError(f"slice: {named!r} is the name of several slices; give one of the ids {ids}", code=2)
    row = rows[0]
    about = row.definition
    return FoundSlice(row.id, row.name, row.run_id, about.get("model"), about.get("metric") or "")


def train_items(ledger: Ledger, slice_id: int) -> list[TrainItem]:
    """Returns a slice's items of the training half, by id."""
    query = sa.select(SliceItem.item_id).where(SliceItem.slice_id == slice_id, SliceItem.split == TRAIN)
    with ledger.engine.connect() as connection:
        return _items(connection, list(connection.scalars(query)))


def evaluated_items(ledger: Ledger, run_id: int) -> list[int]:
    """Returns the ids of all items of a run's datasets, those of training prompts left out."""
    of_run = sa.select(RunCell.dataset_id).where(RunCell.run_id == run_id)
    query = sa.select(DatasetItem.item_id).where(DatasetItem.dataset_id.in_(of_run), ~_of_training())
    with ledger.engine.connect() as connection:
        return sorted(set(connection.scalars(query)))


def other_items(ledger: Ledger, item_ids: Collection[int], slice_id: int) -> list[TrainItem]:
    """Returns those of the items that are of the training half and not of a slice."""
    inside = sa.select(SliceItem.item_id).where(SliceItem.slice_id == slice_id)
    with ledger.engine.connect() as connection:
        taken = set(connection.scalars(inside))
        train = sa.select(ItemHalf.item_id).where(ItemHalf.half == TRAIN)
        ids = set(connection.scalars(train)) & set(item_ids)
        return _items(connection, sorted(ids - taken))


def held_out_values(ledger: Ledger, slice_id: int) -> set[str]:
    """Returns the texts that a slice's held-out items expect, case folded: new values must be others."""
    query = (
        sa.select(Item.reference)
        .join(SliceItem, SliceItem.item_id == Item.id)
        .where(SliceItem.slice_id == slice_id, SliceItem.split != TRAIN)
    )
    found: set[str] = set()
    with ledger.engine.connect() as connection:
        for reference in connection.scalars(query):
            spec = spec_of(reference) or {}
            found |= set(_texts([spec.get("expected"), spec.get("rows")]))
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.casefold()
        yield from value.casefold().split()
    elif isinstance(value, Mapping):
        yield from (text for one in value.values() for text in _texts(one))
    elif isinstance(value, list):
        yield from (text for one in value for text in _texts(one))


def _items(connection: sa.Connection, ids: list[int]) -> list[TrainItem]:
    place = {}
    found = []
    for part in chunks(ids):
        where = sa.select(DatasetItem.item_id, sa.func.min(DatasetItem.dataset_id)).where(
            DatasetItem.item_id.in_(part), ~_of_training()
        )
        place.update({item_id: dataset for item_id, dataset in connection.execute(where.group_by(DatasetItem.item_id))})
        query = sa.select(Item.id, Item.messages, Item.reference, Item.tags).where(Item.id.in_(part))
        found += [
            TrainItem(row.id, place.get(row.id, 0), tuple(row.messages), spec_of(row.reference), row.tags)
            for row in connection.execute(query.order_by(Item.id))
        ]
    return found


def _of_training() -> sa.ColumnElement[bool]:
    return DatasetItem.dataset_id.in_(sa.select(Dataset.id).where(Dataset.name == TRAINING_PROMPTS))


def eval_items(ledger: Ledger) -> list[EvalItem]:
    """Returns all items that measure models, by id: every item but the prompts made for training sets."""
    made = sa.select(DatasetItem.item_id).where(_of_training())
    measured = sa.select(DatasetItem.item_id).where(~_of_training())
    query = (
        sa.select(Item.id, Item.messages, ItemHalf.half)
        .outerjoin(ItemHalf, ItemHalf.item_id == Item.id)
        .where(sa.or_(Item.id.not_in(made), Item.id.in_(measured)))
        .order_by(Item.id)
    )
    with ledger.engine.connect() as connection:
        return [EvalItem(key, "\n".join(user_turns(said)), half or "") for key, said, half in connection.execute(query)]


def given_answers(ledger: Ledger, item_ids: Iterable[int], metric: str = "") -> list[Given]:
    """Returns all answers to items that are in the ledger, first turns only, with the mean of their metrics' grades.

    Args:
        ledger: To look in.
        item_ids: Of items that may be trained on.
        metric: Criterion of the grades; "" for all that metrics gave.
    """
    graded = (
        sa.select(Grade.response_id, sa.func.avg(Grade.value).label("value"))
        .join(Annotator, Annotator.id == Grade.annotator_id)
        .where(Annotator.kind == "metric", Grade.value.is_not(None))
        .group_by(Grade.response_id)
    )
    if metric:
        graded = graded.where(Grade.criterion == metric)
    found = []
    columns = (Response.id, Response.item_id, Response.model_id, Response.text, Response.finish_reason)
    with ledger.engine.connect() as connection:
        for part in chunks(sorted(set(item_ids))):
            asked = Response.item_id.in_(part)
            grades = graded.join(Response, Response.id == Grade.response_id).where(asked).subquery()
            query = (
                sa.select(*columns, grades.c.value)
                .outerjoin(grades, grades.c.response_id == Response.id)
                .where(asked, Response.text.is_not(None), Response.turn == 1, ~Response.body.like('%,"pairs":[[%'))
            )
            found += [Given(*row) for row in connection.execute(query.order_by(Response.id))]
    return found


def passes(answer: Given) -> bool | None:
    """Whether an answer's grade passes; None if it has none."""
    return None if answer.grade is None else answer.grade >= PASS_FROM


def verdict_pairs(ledger: Ledger, item_ids: Iterable[int]) -> list[Preferred]:
    """Returns the pairs of answers that people or judges preferred one of, from all their verdicts together.

    Verdicts of members who were set aside count for nothing; a tie counts for both. A pair without a winner is left
    out.
    """
    answers = {answer.response_id: answer for answer in given_answers(ledger, item_ids)}
    found = []
    with ledger.engine.connect() as connection:
        for part in chunks(sorted({answer.item_id for answer in answers.values()})):
            query = (
                sa.select(
                    Battle.id,
                    Battle.item_id,
                    Battle.response_a_id,
                    Battle.response_b_id,
                    Verdict.winner,
                    Annotator.name,
                )
                .join(Verdict, Verdict.battle_id == Battle.id)
                .join(Annotator, Annotator.id == Verdict.annotator_id)
                .where(Battle.item_id.in_(part), Verdict.winner.is_not(None))
                .where(Verdict.annotator_id.not_in(set_aside()), Verdict.criterion.not_like("probe:%"))
            )
            battles: dict[int, list[Any]] = {}
            for row in connection.execute(query.order_by(Battle.id)):
                battles.setdefault(row.id, []).append(row)
            for rows in battles.values():
                a, b = answers.get(rows[0].response_a_id), answers.get(rows[0].response_b_id)
                wins = sum((row.winner == "model_a") - (row.winner == "model_b") for row in rows) / len(rows)
                if a is not None and b is not None and wins:
                    better, worse = (a, b) if wins > 0 else (b, a)
                    who = tuple(sorted({row.name for row in rows}))
                    found.append(Preferred(rows[0].item_id, better, worse, abs(wins), who))
    return found


def rating_pairs(ledger: Ledger, item_ids: Iterable[int]) -> list[Preferred]:
    """Returns, for each item that several models answered, its best answer and its worst by the grades of judges and
    people (as UltraFeedback does): each annotator's grades are scaled to 0 to 1 by the range that it used.
    """
    answers = {answer.response_id: answer for answer in given_answers(ledger, item_ids)}
    rated: dict[int, list[tuple[float, str]]] = {}
    with ledger.engine.connect() as connection:
        judged = (
            sa.select(Grade.response_id, Grade.annotator_id, Annotator.name, Grade.value)
            .join(Annotator, Annotator.id == Grade.annotator_id)
            .where(Annotator.kind.in_(("judge", "human")), Grade.value.is_not(None))
            .where(Grade.annotator_id.not_in(set_aside()), Grade.criterion.not_like("probe:%"))
        )
        ranges = sa.select(Grade.annotator_id, sa.func.min(Grade.value), sa.func.max(Grade.value))
        scale = {
            key: (low or 0.0, high or 0.0) for key, low, high in connection.execute(ranges.group_by(Grade.annotator_id))
        }
        for part in chunks(sorted(answers)):
            for response_id, annotator, name, value in connection.execute(judged.where(Grade.response_id.in_(part))):
                low, high = scale[annotator]
                if high > low and value is not None:
                    rated.setdefault(response_id, []).append(((value - low) / (high - low), name))
    by_item: dict[int, list[tuple[float, Given]]] = {}
    for response_id, values in rated.items():
        answer = answers[response_id]
        mean = sum(value for value, _ in values) / len(values)
        by_item.setdefault(answer.item_id, []).append((mean, answer))
    found = []
    for item_id, graded in sorted(by_item.items()):
        graded.sort(key=lambda one: (-one[0], one[1].response_id))
        (best, chosen), (worst, rejected) = graded[0], graded[-1]
        if best > worst and chosen.text != rejected.text:
            who = tuple(sorted({name for _, name in (*rated[chosen.response_id], *rated[rejected.response_id])}))
            found.append(Preferred(item_id, chosen, rejected, best - worst, who))
    return found


def trained_rows(ledger: Ledger, model_id: int) -> list[tuple[int | None, dict[str, Any], dict[str, Any]]]:
    """Reads the rows that a model, or one it was merged from, was trained on: item_id, provenance, content of each."""
    merged = sa.select(ModelParent.parent_id).where(
        ModelParent.model_id == model_id, ModelParent.relation == "merged_from"
    )
    trained = sa.select(TrainingRun.training_set_id).where(
        (TrainingRun.model_id == model_id) | TrainingRun.model_id.in_(merged)
    )
    query = sa.select(TrainingRow.item_id, TrainingRow.provenance, TrainingRow.content).where(
        TrainingRow.training_set_id.in_(trained)
    )
    with ledger.engine.connect() as connection:
        rows = connection.execute(query.order_by(TrainingRow.training_set_id, TrainingRow.position))
        return [(item_id, provenance, content) for item_id, provenance, content in rows]
