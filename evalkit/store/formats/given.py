"""What the exports of foreign formats write: answers, verdicts and grades with their texts and names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from evalkit.errors import UserError
from evalkit.store.arena import judges_answers
from evalkit.store.formats.names import annotator_names, pages
from evalkit.store.ledger import Ledger
from evalkit.store.reading import model_names
from evalkit.store.schema import Battle, Grade, Item, Response, Verdict
from evalkit.store.schema_app import set_aside


def make_folder(folder: Path) -> None:
    """Makes a folder to write to.

    Raises:
        UserError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror or error}") from error


def file_name(name: str) -> str:
    """Returns a model's or judge's name as one that every file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


def seconds_of(moment: str) -> float:
    """Returns a stored time as seconds since 1970."""
    return datetime.fromisoformat(moment).timestamp()


def talk_before(messages: list[Mapping[str, Any]], body: str, turn: int) -> list[Mapping[str, Any]]:
    """Returns the conversation that an answer goes on from: the item's up to this turn, or the request's own."""
    told = json.loads(body).get("messages") if turn > 1 else None
    if isinstance(told, list):
        return told
    users = [place for place, message in enumerate(messages) if message["role"] == "user"]
    return (
        messages[: users[turn - 1] + 1] if 1 < len(users) >= turn and users == list(range(len(messages))) else messages
    )


@dataclass(frozen=True, slots=True)
class Given:
    """An answer of a contestant."""

    id: int
    item: str
    messages: list[Mapping[str, Any]]
    category: str
    model: str
    sample: int
    turn: int
    text: str | None
    created_at: str


def answers(ledger: Ledger) -> Iterator[Given]:
    """Yields the contestants' answers, failed ones without a text, in the order they were stored.

    Places that only a grade brought in are left out.
    """
    columns = (
        *(Response.id, Response.item_id, Response.model_id, Response.sample, Response.turn, Response.text),
        *(Response.created_at, Item.messages, Item.tags),
    )
    query = sa.select(*columns).join(Item, Item.id == Response.item_id).where(Response.id.not_in(judges_answers()))
    query = query.where(sa.func.coalesce(Response.error_kind, "") != "missing")
    with ledger.engine.connect() as connection:
        models = model_names(connection)
        for found, items in pages(connection, query, Response.id):
            for row in found:
                yield Given(
                    id=row.id,
                    item=items[row.item_id],
                    messages=row.messages,
                    category=row.tags.get("category", ""),
                    model=models[row.model_id],
                    sample=row.sample,
                    turn=row.turn,
                    text=row.text,
                    created_at=row.created_at,
                )


@dataclass(frozen=True, slots=True)
class Said:
    """A verdict; a text is None where the ledger has no answer there, "" where the answer failed."""

    battle_id: int
    item: str
    messages: list[Mapping[str, Any]]
    category: str
    tags: Mapping[str, Any]
    model_a: str
    model_b: str
    turn: int
    winner: str | None
    annotator: str
    annotator_kind: str
    criterion: str
    order: str
    replicate: int
    probability: float | None
    seconds: float | None
    rationale: str | None
    error: str | None
    created_at: str
    text_a: str | None
    text_b: str | None
    before_a: list[Mapping[str, Any]]
    before_b: list[Mapping[str, Any]]

    @property
    def seconds_1970(self) -> float:
        """When it was given."""
        return seconds_of(self.created_at)


def verdicts(ledger: Ledger) -> Iterator[Said]:
    """Yields every human's and judge's verdict, in the order they were stored; not those of members set aside."""
    a, b = aliased(Response), aliased(Response)
    columns = (
        *(Verdict.id, Verdict.battle_id, Battle.item_id, Item.messages, Item.tags, Battle.model_a_id),
        *(Battle.model_b_id, Battle.turn, Verdict.winner, Verdict.annotator_id, Verdict.criterion),
        *(Verdict.order_shown, Verdict.replicate, Verdict.probability, Verdict.seconds, Verdict.rationale),
        *(Verdict.error, Verdict.created_at),
    )
    texts = [getattr(side, name) for side in (a, b) for name in ("id", "text", "body")]
    labels = ("id_a", "text_a", "body_a", "id_b", "text_b", "body_b")
    query = sa.select(*columns, *(column.label(label) for column, label in zip(texts, labels, strict=True)))
    query = query.join(Battle, Battle.id == Verdict.battle_id).join(Item, Item.id == Battle.item_id)
    query = query.outerjoin(a, a.id == Battle.response_a_id).outerjoin(b, b.id == Battle.response_b_id)
    query = query.where(Verdict.annotator_id.not_in(set_aside()))
    with ledger.engine.connect() as connection:
        models, people = model_names(connection), annotator_names(connection)
        for found, items in pages(connection, query, Verdict.id):
            for row in found:
                kind, name = people[row.annotator_id]
                sides = [
                    None if one is None else text or ""
                    for one, text in ((row.id_a, row.text_a), (row.id_b, row.text_b))
                ]
                before = [talk_before(row.messages, body or "{}", row.turn) for body in (row.body_a, row.body_b)]
                yield Said(
                    battle_id=row.battle_id,
                    item=items[row.item_id],
                    messages=row.messages,
                    category=row.tags.get("category", ""),
                    tags=row.tags,
                    model_a=models[row.model_a_id],
                    model_b=models[row.model_b_id],
                    turn=row.turn,
                    winner=row.winner,
                    annotator=name,
                    annotator_kind=kind,
                    criterion=row.criterion,
                    order=row.order_shown,
                    replicate=row.replicate,
                    probability=row.probability,
                    seconds=row.seconds,
                    rationale=row.rationale,
                    error=row.error,
                    created_at=row.created_at,
                    text_a=sides[0],
                    text_b=sides[1],
                    before_a=before[0],
                    before_b=before[1],
                )


@dataclass(frozen=True, slots=True)
class Graded:
    """A grade of one answer."""

    item: str
    category: str
    model: str
    sample: int
    turn: int
    annotator: str
    annotator_kind: str
    criterion: str
    replicate: int
    value: float | None
    rationale: str | None


def grades(ledger: Ledger) -> Iterator[Graded]:
    """Yields grades, in the order they were stored."""
    columns = (
        *(Grade.id, Response.item_id, Item.tags, Response.model_id, Response.sample, Response.turn),
        *(Grade.annotator_id, Grade.criterion, Grade.replicate, Grade.value, Grade.detail),
    )
    query = sa.select(*columns).join(Response, Response.id == Grade.response_id)
    query = query.join(Item, Item.id == Response.item_id)
    with ledger.engine.connect() as connection:
        models, people = model_names(connection), annotator_names(connection)
        for found, items in pages(connection, query, Grade.id):
            for row in found:
                kind, name = people[row.annotator_id]
                yield Graded(
                    item=items[row.item_id],
                    category=row.tags.get("category", ""),
                    model=models[row.model_id],
                    sample=row.sample,
                    turn=row.turn,
                    annotator=name,
                    annotator_kind=kind,
                    criterion=row.criterion,
                    replicate=row.replicate,
                    value=row.value,
                    rationale=(row.detail or {}).get("rationale"),
                )
