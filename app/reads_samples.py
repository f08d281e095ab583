"""Cached reads of runs, their responses, and single samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import streamlit as st

from app import reads, search
from app.difference import Difference
from app.difference import difference as compare
from app.reads import FRESH
from app.search import Filter, Found, Link, Numbers, Place
from evalkit.store.schema import Annotator, Battle, Grade, Item, Response, RunCell, RunResponse, Verdict
from evalkit.store.schema_app import set_aside

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = 500
"""Of one sample; more are left out, which the page says."""


@st.cache_data(ttl=FRESH, max_entries=32, show_spinner=False)
def run_cells(run: int) -> pd.DataFrame:
    """Sums up a run by model and dataset (see `evalkit.store.frames.run_cells`)."""
    from evalkit.store import frames

    return frames.run_cells(reads.ledger(), run)


@st.cache_data(ttl=FRESH, max_entries=64, show_spinner=False)
def size(wanted: Filter) -> int:
    """Counts the responses that pass a filter, its `below` left out."""
    return search.in_order(reads.ledger(), wanted)[1]


@st.cache_data(ttl=FRESH, max_entries=64, show_spinner=False)
def page(wanted: Filter, number: int) -> tuple[Link, ...]:
    """Returns one page of responses in their own order."""
    source, _ = search.in_order(reads.ledger(), wanted)
    return tuple((row[0], row[1], row[2], bool(row[3])) for row in source((number - 1) * search.PAGE, search.PAGE))


@st.cache_resource(max_entries=3, show_spinner="Reading the numbers of the run, once")
def _numbers(run: int, written: int, graded: int) -> Numbers:
    return search.numbers(reads.ledger(), run)


def numbers(run: int) -> Numbers:
    """Returns the numbers of a run's responses; read anew when it has grown or more has been graded."""
    cells = run_cells(run)
    with reads.ledger().engine.connect() as connection:
        graded = connection.scalar(sa.select(sa.func.max(Grade.id))) or 0
    return _numbers(run, int(cells["n"].sum()), graded)


@st.cache_data(ttl=FRESH, max_entries=64, show_spinner=False)
def chosen(wanted: Filter, sort: str | None, descending: bool) -> list[Link]:
    """Returns the responses of a run that pass a filter, sorted."""
    return numbers(wanted.run or 0).links(wanted, sort, descending=descending)


@st.cache_data(ttl="60s", max_entries=512, show_spinner=False)
def find(wanted: Filter, sort: str | None, descending: bool, text: str, where: Place, looked: int, limit: int) -> Found:
    """Searches on for a text, for a third of a second at most (see `search.find`)."""
    ledger = reads.ledger()
    if sort is None and wanted.below is None:
        source = search.in_order(ledger, wanted)[0]
    else:
        source = search.listed(chosen(wanted, sort, descending))
    return search.find(ledger, source, text, where, looked=looked, limit=limit)


@st.cache_data(ttl=FRESH, max_entries=64, show_spinner=False)
def rows(run: int | None, links: tuple[Link, ...]) -> pd.DataFrame:
    """Reads the rows of one page (see `search.rows`)."""
    return search.rows(reads.ledger(), run, links)


@st.cache_data(ttl=FRESH, max_entries=128, show_spinner=False)
def sample(response: int) -> dict[str, Any]:
    """Reads everything about one response (see `evalkit.store.frames.sample`), and `runs`, those it took part in.

    Raises:
        UserError: There is no such response.
    """
    from evalkit.store import frames

    found = frames.sample(reads.ledger(), response)
    # By cells, which are few: run_response can be looked up by all of its key only.
    cells = sa.select(RunCell.run_id, RunCell.dataset_id).where(RunCell.model_id == found["model_id"])
    with reads.ledger().engine.connect() as connection:
        there = connection.execute(cells).all()
        link = sa.select(RunResponse.run_id).where(
            RunResponse.model_id == found["model_id"], RunResponse.response_id == response
        )
        inside = (
            link.where(RunResponse.run_id == run_id, RunResponse.dataset_id == dataset_id)
            for run_id, dataset_id in there
        )
        found["runs"] = sorted({run_id for query in inside for run_id in connection.scalars(query)})
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """One response to a prompt, among others to it."""

    id: int
    model: str
    sample: int
    turn: int
    failed: bool


@st.cache_data(ttl=FRESH, max_entries=128, show_spinner=False)
def answers_to(item: int) -> tuple[Answer, ...]:
    """Lists all responses to an item, by model and sample.

    There is no index by item: the one by key holds the items too, and reading it from end to end takes a tenth of a
    second for a million responses, where another index would slow down every write.
    """
    from evalkit.store.reading import model_names

    with reads.ledger().engine.connect() as connection:
        ids = list(connection.scalars(sa.select(Response.id).where(Response.item_id == item)))
        names = model_names(connection)
        columns = (Response.id, Response.model_id, Response.sample, Response.turn, Response.error_kind)
        found = connection.execute(sa.select(*columns).where(Response.id.in_(ids))).all()
    made = [Answer(row[0], names[row[1]], row[2], row[3], row[4] is not None) for row in found]
    return tuple(sorted(made, key=lambda one: (one.model.lower(), one.turn, one.sample, one.id)))


@dataclass(frozen=True, slots=True)
class Said:
    """One verdict on a battle.

    Attributes:
        kind: human, judge or metric.
        winner: Name of the model that won, `tie`, `both bad`, or None where the verdict failed.
        shown: The model whose answer was shown first; empty if not known.
    """

    verdict_id: int
    battle_id: int
    annotator: str
    kind: str
    criterion: str
    model_a: str
    model_b: str
    response_a: int | None
    response_b: int | None
    turn: int
    winner: str | None
    shown: str
    replicate: int
    probability: float | None
    seconds: float | None
    error: str | None
    rationale: str | None
    response_id: int | None


def _said(condition: Any, limit: int) -> tuple[Said, ...]:
    from evalkit.store.reading import model_names

    columns = (
        *(Verdict.id, Battle.id, Annotator.name, Annotator.kind, Verdict.criterion, Battle.model_a_id),
        *(Battle.model_b_id, Battle.response_a_id, Battle.response_b_id, Battle.turn, Verdict.winner),
        *(Verdict.order_shown, Verdict.replicate, Verdict.probability, Verdict.seconds, Verdict.error),
        *(Verdict.rationale, Verdict.response_id),
    )
    query = sa.select(*columns).select_from(Battle).join(Verdict, Verdict.battle_id == Battle.id)
    query = query.join(Annotator, Annotator.id == Verdict.annotator_id)
    query = query.where(condition, Verdict.annotator_id.not_in(set_aside()))
    query = query.order_by(Annotator.kind.desc(), Annotator.name, Battle.id, Verdict.id).limit(limit)
    with reads.ledger().engine.connect() as connection:
        names = model_names(connection)
        found = connection.execute(query).all()
    told = []
    for row in found:
        a, b = names[row[5]], names[row[6]]
        winner = {"model_a": a, "model_b": b, "both_bad": "both bad"}.get(row[10] or "", row[10])
        shown = {"ab": a, "ba": b}.get(row[11], "")
        values: list[Any] = [*row[:5], a, b, *row[7:10], winner, shown, *row[12:]]
        told.append(Said(*values))
    return tuple(told)


@st.cache_data(ttl=FRESH, max_entries=128, show_spinner=False)
def verdicts_on(item: int, model: int, response: int) -> tuple[Said, ...]:
    """Lists the verdicts on battles of one response: those it is named in, and those that name only its model.

    Votes of set-aside members are left out; at most `VERDICTS`.
    """
    sides = [
        (side_model == model) & ((side == response) | side.is_(None))
        for side_model, side in (
            (Battle.model_a_id, Battle.response_a_id),
            (Battle.model_b_id, Battle.response_b_id),
        )
    ]
    return _said((Battle.item_id == item) & sa.or_(*sides), VERDICTS)


@dataclass(frozen=True, slots=True)
class Fight:
    """One battle with its texts.

    Attributes:
        messages: Of the item.
        texts: The two answers; None where the ledger has none.
        said: All verdicts on it, of every criterion.
    """

    messages: Sequence[Mapping[str, Any]]
    turn: int
    responses: tuple[int | None, int | None]
    texts: tuple[str | None, str | None]
    said: tuple[Said, ...]


@st.cache_data(ttl=FRESH, max_entries=128, show_spinner=False)
def battle(battle_id: int) -> Fight:
    """Reads one battle."""
    query = sa.select(Item.messages, Battle.turn, Battle.response_a_id, Battle.response_b_id).join(
        Item, Item.id == Battle.item_id
    )
    with reads.ledger().engine.connect() as connection:
        row = connection.execute(query.where(Battle.id == battle_id)).one()
        texts = dict(
            connection.execute(
                sa.select(Response.id, Response.text).where(Response.id.in_([one for one in row[2:] if one]))
            )
            .tuples()
            .all()
        )
    return Fight(
        row[0],
        row[1],
        (row[2], row[3]),
        (texts.get(row[2]), texts.get(row[3])),
        _said(Battle.id == battle_id, VERDICTS),
    )


@st.cache_data(max_entries=64, show_spinner="Comparing the answers")
def difference(left: str, right: str) -> Difference:
    """Compares two texts by words (see `app.difference`)."""
    return compare(left, right)
