"""Reads for judging: which answers and battles there are, and the texts that judges see."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from evalkit.store import schema
from evalkit.store.ledger import Ledger
from evalkit.store.reading import dataset_ids
from evalkit.store.rows import BattleRow
from evalkit.store.schema_app import set_aside
from evalkit.store.writing import chunks

PROBES = "judge probes"
"""The dataset of the probes (`judges.probes`): their answers and battles are for them alone."""
TRAINING_PROMPTS = "training prompts"
"""The name of the datasets of prompts that were made for training sets (`trainers`): nothing is measured on them."""
PROBE = "probe:"
"""What the criteria of their verdicts and grades begin with."""


@dataclass(frozen=True, slots=True)
class ItemContent:
    """An item; `category` is its tag of that name."""

    hash: str
    messages: list[dict[str, Any]]
    reference: Any
    category: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """An answer with what came before it.

    Attributes:
        turn: Of the conversation, from 1.
        turns: The user's turns, up to the one that is answered.
        answers: What was answered to each of them, this answer last. Where the item itself brings earlier answers
            along, these are the item's.
    """

    response_id: int
    item_id: int
    model_id: int
    sample: int
    turn: int
    turns: tuple[str, ...]
    answers: tuple[str, ...]


def answers(ledger: Ledger, run_id: int, dataset_ids: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Lists a run's answers in some datasets: the first sample of each model, failures left out.

    Returns:
        (response id, item id, model id, turn), ordered by response id.
    """
    link, response = schema.RunResponse, schema.Response
    query = (
        sa.select(response.id, response.item_id, response.model_id, response.turn)
        .join(link, link.response_id == response.id)
        .where(link.run_id == run_id, link.dataset_id.in_(dataset_ids), ~link.failed, response.sample == 0)
        .order_by(response.id)
    )
    with ledger.engine.connect() as connection:
        return [(row[0], row[1], row[2], row[3]) for row in connection.execute(query)]


def all_answers(ledger: Ledger, datasets: Sequence[str] = ()) -> list[int]:
    """Lists the ids of all answers that models generated: first samples, failures and judges' answers left out.

    Args:
        ledger: To look in.
        datasets: Names; only answers to items of these.

    Raises:
        UserError: There is no such dataset.
    """
    response = schema.Response
    scored = response.body.like('%,"pairs":[[%')  # a log-likelihood: nothing was generated
    query = sa.select(response.id).where(
        response.sample == 0,
        response.text.is_not(None),
        ~scored,
        response.id.not_in(judges_answers()),
        response.item_id.not_in(_probes()),
    )
    with ledger.engine.connect() as connection:
        query = _of_datasets(connection, query, response.item_id, datasets)
        return list(connection.scalars(query.order_by(response.id)))


def all_battles(ledger: Ledger, datasets: Sequence[str] = (), *, voted: bool = False) -> dict[int, BattleRow]:
    """Reads all battles, by id.

    Args:
        ledger: To look in.
        datasets: Names; only battles on items of these.
        voted: Only those that a human who was not set aside has voted on.

    Raises:
        UserError: There is no such dataset.
    """
    battle = schema.Battle
    names = ("item_id", "model_a_id", "model_b_id", "response_a_id", "response_b_id", "turn")
    query = sa.select(battle.id, *(getattr(battle, name) for name in names)).order_by(battle.id)
    query = query.where(battle.item_id.not_in(_probes()))
    if voted:
        humans = sa.select(schema.Annotator.id).where(schema.Annotator.kind == "human")
        humans = humans.where(schema.Annotator.id.not_in(set_aside()))
        query = query.where(
            battle.id.in_(sa.select(schema.Verdict.battle_id).where(schema.Verdict.annotator_id.in_(humans)))
        )
    with ledger.engine.connect() as connection:
        query = _of_datasets(connection, query, battle.item_id, datasets)
        return {row[0]: BattleRow(*row[1:]) for row in connection.execute(query)}


def judges_answers() -> sa.CompoundSelect[int]:
    """Returns a query of the ids of what judges answered: what is filed under datasets without items, or has verdicts
    read from it."""
    link, verdict = schema.RunResponse, schema.Verdict
    empty = sa.select(schema.Dataset.id).where(schema.Dataset.n == 0)
    read = sa.select(verdict.response_id).where(verdict.response_id.is_not(None))
    return sa.union(sa.select(link.response_id).where(link.dataset_id.in_(empty)), read)


def _probes() -> sa.Select[int]:
    """Returns a query of the ids of items that measure no model: of probes, and made for training sets."""
    datasets = sa.select(schema.Dataset.id).where(schema.Dataset.name.in_((PROBES, TRAINING_PROMPTS)))
    return sa.select(schema.DatasetItem.item_id).where(schema.DatasetItem.dataset_id.in_(datasets))


def _of_datasets(connection: sa.Connection, query: Any, item: Any, names: Sequence[str]) -> Any:
    if not names:
        return query
    ids = [key for name in names for key in dataset_ids(connection, name)]
    return query.where(item.in_(sa.select(schema.DatasetItem.item_id).where(schema.DatasetItem.dataset_id.in_(ids))))


def datasets_of_run(ledger: Ledger, run_id: int) -> dict[str, int]:
    """Returns the datasets that a run has answers in: name to id."""
    query = (
        sa.select(schema.Dataset.name, schema.Dataset.id)
        .join(schema.RunCell, schema.RunCell.dataset_id == schema.Dataset.id)
        .where(schema.RunCell.run_id == run_id)
        .distinct()
    )
    with ledger.engine.connect() as connection:
        return {name: dataset_id for name, dataset_id in connection.execute(query)}


def conversations(ledger: Ledger, response_ids: Iterable[int]) -> dict[int, Conversation]:
    """Returns answers with what came before them, by response id.

    Failed requests are left out, and later turns whose earlier answers nobody recorded.
    """
    response = schema.Response
    rows = []
    bodies: dict[int, str] = {}
    wanted = sorted(set(response_ids))
    columns = (response.id, response.item_id, response.model_id, response.sample, response.turn, response.text)
    with ledger.engine.connect() as connection:
        for part in chunks(wanted):
            query = sa.select(*columns).where(response.id.in_(part), response.text.is_not(None))
            rows += list(connection.execute(query))
            later = sa.select(response.id, response.body).where(response.id.in_(part), response.turn > 1)
            bodies.update({row[0]: row[1] for row in connection.execute(later)})
    prompts = items(ledger, [row[1] for row in rows])
    found = {}
    for response_id, item_id, model_id, sample, turn, text in rows:
        before = _answers_before(bodies[response_id]) if turn > 1 else []
        shown = exchange(prompts[item_id].messages, turn, before, text or "")
        if shown is not None:
            found[response_id] = Conversation(response_id, item_id, model_id, sample, turn, *shown)
    return found


def user_turns(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the turns that an item asks one after the other: its user messages, if it brings no answers along.

    An item with answers of its own is asked once, at its end.
    """
    users = [str(message["content"]) for message in messages if message["role"] == "user"]
    return users if all(message["role"] in ("system", "user") for message in messages) else users[-1:]


def exchange(
    messages: Sequence[Mapping[str, Any]], turn: int, before: Sequence[str], text: str
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Returns what judges are shown of an answer: the user's turns, and what was answered to each.

    Args:
        messages: The item's.
        turn: That is answered, from 1.
        before: The model's own answers to the turns before it.
        text: Its answer.

    Returns:
        None if answers are missing.
    """
    turns = user_turns(messages)
    if len(turns) > 1 or turn > 1:
        return (tuple(turns[:turn]), (*before[: turn - 1], text)) if len(before) >= turn - 1 else None
    users: list[str] = []
    said: list[str] = []
    for message in messages:
        content = str(message.get("content") or "")
        if message["role"] == "user":
            if len(users) > len(said):  # two in a row
                users[-1] += f"\n\n{content}"
            else:
                users.append(content)
        elif message["role"] == "assistant" and users:
            if len(said) < len(users):
                said.append(content)
            else:
                said[-1] += f"\n\n{content}"
    if not users or len(said) == len(users):  # no prompt at all, or one that ends with the start of the answer
        start = said.pop() if said else ""
        return tuple(users or [""]), (*said, start + text)
    return tuple(users), (*said, text)


def _answers_before(body: str) -> list[str]:
    """Returns the answers in a stored request of a later turn."""
    messages = json.loads(body).get("messages") or ()
    return [str(message.get("content") or "") for message in messages if message.get("role") == "assistant"]


def items(ledger: Ledger, item_ids: Iterable[int]) -> dict[int, ItemContent]:
    """Returns items by id."""
    item = schema.Item
    found: dict[int, ItemContent] = {}
    with ledger.engine.connect() as connection:
        for part in chunks(sorted(set(item_ids))):
            query = sa.select(item.id, item.hash, item.messages, item.reference, item.tags).where(item.id.in_(part))
            for row in connection.execute(query):
                category = (row[4] or {}).get("category")
                found[row[0]] = ItemContent(row[1], row[2], row[3], "" if category is None else str(category))
    return found


def model_hashes(ledger: Ledger) -> dict[int, str]:
    """Returns the hashes of all models' settings, by id."""
    with ledger.engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(sa.select(schema.Model.id, schema.Model.hash))}


def count_errors(ledger: Ledger, run_id: int) -> int:
    """Returns how many of a run's requests ended without an answer."""
    query = sa.select(sa.func.coalesce(sa.func.sum(schema.RunCell.errors), 0)).where(schema.RunCell.run_id == run_id)
    with ledger.engine.connect() as connection:
        return int(connection.scalar(query) or 0)
