"""Pages of responses: filtered, sorted and searched, over a million of them.

A search has no index of the texts, which would be as large as they are and never up to date: SQLite looks through a
million answers of 300 characters in about a second of CPU time, so they are looked through in slices, in order, until a
page is full, and the reader sees how far it has come. Sorting, and filtering by grade, need all numbers of a run; they
are read once (`numbers`) and kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import sqlalchemy as sa

from evalkit.report.failures import graders
from evalkit.report.scores import score_table
from evalkit.store import Ledger
from evalkit.store.reading import arrays
from evalkit.store.samples import response_rows
from evalkit.store.schema import Grade, Item, Response, RunCell, RunResponse, Score
from evalkit.store.writing import chunks

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.stats.votes import FloatArray, IntArray

Link = tuple[int, int, int, bool]
"""A response's place in a run: model id, dataset id, response id; and whether it was cached."""
Source = Callable[[int, int], Sequence[Link]]
"""Responses in some order: so many, after skipping so many."""
Place = Literal["both", "prompts", "answers"]

PAGE = 50
SLICE = 20_000  # responses looked through by one query: some 30 ms
PREVIEW = 200
SORTS = {
    "score": "Score",
    "completion_tokens": "Tokens of the answer",
    "prompt_tokens": "Tokens of the prompt",
    "seconds": "Seconds",
    "cost": "Cost",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which responses.

    Attributes:
        run, model, dataset: Ids; None for all.
        failed: True for requests without an answer, False for answers.
        below: Only answers whose score (grade by the main metric of their task) is below this; for `Numbers` alone.
    """

    run: int | None = None
    model: int | None = None
    dataset: int | None = None
    failed: bool | None = None
    below: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What one stretch of a search found.

    Attributes:
        links: Responses that have the text.
        looked: How many responses have been looked through, from the first on: where to go on.
        done: Whether those were all.
    """

    links: tuple[Link, ...]
    looked: int
    done: bool


@dataclass(frozen=True, eq=False)
class Numbers:
    """The numbers of all responses of a run, in its order: by model, dataset and response.

    Attributes:
        model, dataset, response: Ids, shape (n,).
        failed, cached: 0 or 1, shape (n,).
        values: By the keys of `SORTS`, NaN where not known, shape (n,) each.
        metrics: What the score is, by dataset id.
    """

    model: IntArray
    dataset: IntArray
    response: IntArray
    failed: IntArray
    cached: IntArray
    values: Mapping[str, FloatArray]
    metrics: Mapping[int, str]

    def links(self, wanted: Filter, sort: str | None = None, *, descending: bool = True) -> list[Link]:
        """Returns the responses that pass a filter, sorted; those whose value is not known stand last."""
        import numpy as np

        keep = np.ones(len(self.response), dtype=np.bool_)
        for column, value in ((self.model, wanted.model), (self.dataset, wanted.dataset)):
            if value is not None:
                keep &= column == value
        if wanted.failed is not None:
            keep &= self.failed == int(wanted.failed)
        if wanted.below is not None:
            keep &= self.values["score"] < wanted.below
        at = np.flatnonzero(keep)
        if sort is not None:
            key = self.values[sort][at]
            at = at[np.argsort(-key if descending else key, kind="stable")]  # NaN goes last both ways
        columns = (self.model[at], self.dataset[at], self.response[at], self.cached[at] == 1)
        return list(zip(*(column.tolist() for column in columns), strict=True))


def in_order(ledger: Ledger, wanted: Filter) -> tuple[Source, int]:
    """Returns responses in their order (newest run first, then by model, dataset and response), and how many there are.

    The roll-up says in which cell a page begins, so only that cell's part of the index is walked over: the ten-
    thousandth page costs what the first does. `Filter.below` is left out.
    """
    n: Any = RunCell.n if wanted.failed is None else RunCell.errors if wanted.failed else RunCell.n - RunCell.errors
    model, dataset, response = RunResponse.model_id, RunResponse.dataset_id, RunResponse.response_id
    there = sa.select(RunCell.run_id, RunCell.model_id, RunCell.dataset_id, n).order_by(
        RunCell.run_id.desc(), RunCell.model_id, RunCell.dataset_id
    )
    query = sa.select(model, dataset, response, RunResponse.cached).order_by(model, dataset, response)
    for name, value in (("run_id", wanted.run), ("model_id", wanted.model), ("dataset_id", wanted.dataset)):
        if value is not None:
            there = there.where(getattr(RunCell, name) == value)
            query = query.where(getattr(RunResponse, name) == value)
    if wanted.failed is not None:
        # Written bare, or SQLite does not see the partial index on failures.
        query = query.where(sa.literal_column("run_response.failed" if wanted.failed else "NOT run_response.failed"))
    with ledger.engine.connect() as connection:
        found = connection.execute(there).all()

    def source(skip: int, size: int) -> Sequence[Link]:
        links: list[Link] = []
        last = None
        with ledger.engine.connect() as connection:
            for run_id, model_id, dataset_id, n in found:
                if run_id == last:
                    continue  # all of that run has been read
                if skip >= n:
                    skip -= n
                    continue
                begin = sa.tuple_(model, dataset) >= sa.tuple_(sa.literal(model_id), sa.literal(dataset_id))
                part = query.where(RunResponse.run_id == run_id, begin).offset(skip).limit(size - len(links))
                links += cast(list[Link], connection.execute(part).fetchall())  # as they are: half the time
                if len(links) >= size:
                    break
                skip, last = 0, run_id
        return links

    return source, sum(row[3] for row in found)


def listed(links: Sequence[Link]) -> Source:
    """Returns a source of responses that are at hand."""
    return lambda skip, size: links[skip : skip + size]


def numbers(ledger: Ledger, run: int) -> Numbers:
    """Reads the numbers of all responses of a run: 0.3 s for 50,000.

    Raises:
        UserError: There is no such run.
    """
    import numpy as np

    tasks = _tasks(ledger, run)
    key = (RunResponse.model_id, RunResponse.dataset_id, RunResponse.response_id)
    names = [name for name in SORTS if name != "score"]
    columns = (*key, RunResponse.failed, RunResponse.cached, *(getattr(Response, name) for name in names))
    with ledger.engine.connect() as connection:
        graded_by = graders(connection, tasks)
        value: Any = Grade.value if graded_by else sa.null()
        query: sa.Select[Any] = sa.select(*columns, value).select_from(RunResponse)
        query = query.join(Response, Response.id == RunResponse.response_id)
        if graded_by:
            query = query.outerjoin(
                Grade,
                (Grade.response_id == RunResponse.response_id)
                & (Grade.annotator_id == sa.case(dict(graded_by), value=RunResponse.dataset_id))
                & (Grade.replicate == 0),
            )
        read = arrays(connection.execute(query.where(RunResponse.run_id == run).order_by(*key)))
    whole = [column.astype(np.int64) for column in read[:5]]
    values = {name: column.astype(np.float64) for name, column in zip([*names, "score"], read[5:], strict=True)}
    metrics = {one: tasks[one][1] for one in graded_by}
    return Numbers(whole[0], whole[1], whole[2], whole[3], whole[4], values, metrics)


def _tasks(ledger: Ledger, run: int | None) -> dict[int, tuple[str, str]]:
    """Names and main metrics by dataset: of a run, or of all."""
    runs = [run]
    if run is None:
        with ledger.engine.connect() as connection:
            runs = list(connection.scalars(sa.select(Score.run_id).distinct()))
    return {task.dataset_id: (task.name, task.metric) for one in runs for task in score_table(ledger, one or 0).tasks}


def find(
    ledger: Ledger,
    source: Source,
    text: str,
    where: Place = "both",
    *,
    looked: int = 0,
    limit: int = PAGE,
    budget: float = 0.3,
) -> Found:
    """Searches on for a text, until there are enough responses, the time is up, or all are looked through.

    Upper and lower case are one (on SQLite those of ASCII letters only).

    Args:
        ledger: Where the texts are.
        source: What to look through.
        text: Any characters, taken as they are.
        where: To search the prompts, the answers (and the errors of failed requests), or both.
        looked: `Found.looked` of the stretch before.
        limit: Responses that are enough.
        budget: Seconds.
    """
    ends = time.monotonic() + budget
    links: list[Link] = []
    size = SLICE // 20  # a text that is everywhere fills a page at once
    with ledger.engine.connect() as connection:
        has_it = _has(connection, text, where)
        while True:
            part = source(looked, size)
            if not part:
                return Found(tuple(links), looked, True)
            having = _which(connection, [link[2] for link in part], has_it)
            for place, link in enumerate(part):
                if link[2] in having:
                    links.append((link[0], link[1], link[2], bool(link[3])))
                    if len(links) == limit:
                        return Found(tuple(links), looked + place + 1, False)
            looked += len(part)
            if time.monotonic() >= ends:
                return Found(tuple(links), looked, False)
            size = SLICE


def _has(connection: sa.Connection, text: str, where: Place) -> sa.ColumnElement[bool]:
    """The condition that a response, or the item it answers, has the text."""
    conditions = []
    if where != "prompts":
        conditions += [_like(connection, Response.text, text), _like(connection, Response.error, text)]
    if where != "answers":
        conditions.append(Response.item_id.in_(_items(connection, text)))
    return sa.or_(*conditions)


def _like(connection: sa.Connection, column: Any, text: str) -> sa.ColumnElement[bool]:
    pattern = text
    for sign in "!%_":
        pattern = pattern.replace(sign, "!" + sign)
    # LIKE of SQLite does not tell upper from lower case; ILIKE would be made of two copies of every text there.
    compare = column.like if connection.dialect.name == "sqlite" else column.ilike
    found: sa.ColumnElement[bool] = compare(f"%{pattern}%", escape="!")
    return found


def _items(connection: sa.Connection, text: str) -> list[int]:
    """Returns the items whose messages have the text, by the database first, then in the messages themselves."""
    written = json.dumps(text)[1:-1]  # as it stands in the column
    query = sa.select(Item.id, Item.messages).where(_like(connection, sa.cast(Item.messages, sa.Text), written))
    low = text.casefold()
    return [row[0] for row in connection.execute(query) if low in prompt(row[1]).casefold()]


def _which(connection: sa.Connection, ids: Sequence[int], has_it: sa.ColumnElement[bool]) -> set[int]:
    """Returns which responses fulfil the condition."""
    first, last = min(ids), max(ids)
    if last - first < 2 * len(ids):  # mostly written one after another: a range is quicker than a list
        return set(connection.scalars(sa.select(Response.id).where(Response.id.between(first, last), has_it)))
    found: set[int] = set()
    for chunk in chunks(ids):
        found.update(connection.scalars(sa.select(Response.id).where(Response.id.in_(chunk), has_it)))
    return found


def rows(ledger: Ledger, run: int | None, links: Sequence[Link]) -> pd.DataFrame:
    """Reads the rows of one page: the columns of `frames.responses`, and prompt and answer (their beginnings), score.

    Args:
        ledger: To read.
        run: Whose main metrics make the score; None for all runs'.
        links: Which responses.

    Raises:
        UserError: There is no such run.
    """
    import pandas as pd

    tasks = _tasks(ledger, run)
    with ledger.engine.connect() as connection:
        table = response_rows(connection, list(links), True)
        prompts: dict[int, str] = {}
        for chunk in chunks(sorted(set(table["item_id"].tolist()))):
            query = sa.select(Item.id, Item.messages).where(Item.id.in_(chunk))
            prompts.update((row[0], prompt(row[1])) for row in connection.execute(query))
        scores = _scores(connection, links, graders(connection, tasks))
    table["prompt"] = [_clip(prompts[item]) for item in table["item_id"]]
    table["answer"] = [_clip(text) if isinstance(text, str) else "" for text in table["text"]]
    keys = zip(table["response_id"], table["dataset_id"], strict=True)
    table["score"] = pd.Series([scores.get(key) for key in keys], dtype="float64")
    return table.drop(columns=["text", "reasoning"])


def _scores(
    connection: sa.Connection, links: Collection[Link], graded_by: Mapping[int, int]
) -> dict[tuple[int, int], float | None]:
    """Returns the grades by each task's main metric, by response and dataset."""
    given: dict[tuple[int, int], float | None] = {}
    for chunk in chunks([link[2] for link in links]):
        query = sa.select(Grade.response_id, Grade.annotator_id, Grade.value).where(
            Grade.response_id.in_(chunk), Grade.annotator_id.in_(sorted(graded_by.values())), Grade.replicate == 0
        )
        given.update(((row[0], row[1]), row[2]) for row in connection.execute(query))
    return {
        (link[2], link[1]): given[link[2], graded_by[link[1]]]
        for link in links
        if link[1] in graded_by and (link[2], graded_by[link[1]]) in given
    }


def prompt(messages: Sequence[Mapping[str, Any]]) -> str:
    """Writes an item's messages as one text, the last of the user's first, as it tells items apart."""
    texts = [content(message.get("content")) for message in messages]
    return "\n\n".join(text for text in reversed(texts) if text)


def content(value: Any) -> str:
    """Writes a message's content, which may be in OpenAI's parts, as text."""
    if isinstance(value, list):
        return "\n".join(str(part.get("text", part)) if isinstance(part, Mapping) else str(part) for part in value)
    return "" if value is None else str(value)


def _clip(text: str) -> str:
    line = " ".join(text[: 2 * PREVIEW].split())
    return line if len(line) <= PREVIEW and len(text) <= 2 * PREVIEW else line[:PREVIEW] + "…"
