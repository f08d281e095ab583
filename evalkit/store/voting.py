"""Reads for people's votes: which answers a campaign can put side by side, and what was voted so far."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from evalkit.store import schema
from evalkit.store.arena import PROBES
from evalkit.store.ledger import Ledger
from evalkit.store.reading import dataset_ids, model_ids
from evalkit.store.schema_app import Ballot, Campaign, Invitation, set_aside
from evalkit.store.writing import chunks

MAX_ANSWERS = 20_000
MAX_CELLS = 1_000
MAX_BATTLES = 20_000

Place = tuple[int, int]
"""Where answers meet: item id, turn."""


@dataclass(frozen=True, slots=True)
class CampaignRow:
    """A campaign as its owner set it up.

    Attributes:
        id: None stands for votes outside all campaigns.
        mode: queue or free.
        settings: datasets, models (names or ids; none: all), votes_per_pair, gold_share, repeat_share, policy.
    """

    id: int | None
    name: str
    mode: str = "queue"
    criterion: str = "overall"
    instructions: str = ""
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Vote:
    """A ballot that stands (one undone does not), with the battle it is about.

    Attributes:
        winner: None where the voter skipped.
        set_aside: Its voter's votes do not count.
    """

    key: str
    annotator_id: int
    battle_id: int
    place: Place
    model_a_id: int
    model_b_id: int
    order: str
    winner: str | None
    replicate: int
    kind: str
    seconds: float | None
    set_aside: bool


def open_campaigns(ledger: Ledger) -> list[CampaignRow]:
    """Lists the campaigns that take votes, the newest first."""
    names = ("id", "name", "mode", "criterion", "instructions", "seed", "settings")
    query = sa.select(*(getattr(Campaign, name) for name in names)).where(Campaign.status == "open")
    with ledger.engine.connect() as connection:
        return [CampaignRow(*row) for row in connection.execute(query.order_by(Campaign.id.desc()))]


def votes(ledger: Ledger, campaign_id: int | None, annotator_id: int | None = None) -> list[Vote]:
    """Lists a campaign's standing ballots, oldest first; those of free battles are left out.

    Args:
        annotator_id: Only this voter's.
    """
    battle = schema.Battle
    columns = (Ballot.key, Ballot.annotator_id, Ballot.battle_id, battle.item_id, battle.turn, battle.model_a_id)
    aside = Ballot.annotator_id.in_(set_aside())
    query = (
        sa.select(*columns, battle.model_b_id, Ballot.order_shown, Ballot.winner, Ballot.replicate, Ballot.kind)
        .add_columns(Ballot.seconds, aside)
        .join(battle, battle.id == Ballot.battle_id)
        .where(Ballot.campaign_id.is_not_distinct_from(campaign_id), Ballot.undone_at.is_(None), Ballot.kind != "free")
        .order_by(Ballot.id)
    )
    if annotator_id is not None:
        query = query.where(Ballot.annotator_id == annotator_id)
    with ledger.engine.connect() as connection:
        rows: list[Any] = list(connection.execute(query))
    found = []
    for key, annotator, battle_id, item, turn, a, b, order, winner, replicate, kind, seconds, aside_now in rows:
        place = (item, turn)
        parts = (key, annotator, battle_id, place, a, b, order, winner, replicate, kind, seconds, bool(aside_now))
        found.append(Vote(*parts))
    return found


def castings(ledger: Ledger, campaign_id: int | None, annotator_id: int) -> dict[tuple[int, int], int]:
    """Counts a voter's ballots by (battle id, replicate), those undone among them."""
    query = (
        sa.select(Ballot.battle_id, Ballot.replicate, sa.func.count())
        .where(Ballot.annotator_id == annotator_id, Ballot.campaign_id.is_not_distinct_from(campaign_id))
        .group_by(Ballot.battle_id, Ballot.replicate)
    )
    with ledger.engine.connect() as connection:
        return {(row[0], row[1]): row[2] for row in connection.execute(query)}


def answers_by_model(
    ledger: Ledger, datasets: Sequence[int | str] = (), models: Sequence[int | str] = (), limit: int = MAX_ANSWERS
) -> dict[int, dict[Place, int]]:
    """Finds answers with a text: first samples, failures and judges' own answers left out.

    Where there are more than `limit`, every model gets as many of each dataset as the others, those stored first; of
    very many datasets those count that most models have answered.

    Returns:
        Response ids by model id and place.

    Raises:
        UserError: There is no such dataset or model.
    """
    cell, response, link = schema.RunCell, schema.Response, schema.RunResponse
    found: dict[int, dict[Place, int]] = {}
    with ledger.engine.connect() as connection:
        chosen = sa.select(cell.model_id, cell.dataset_id, cell.run_id).join(
            schema.Dataset, schema.Dataset.id == cell.dataset_id
        )
        # Judges' answers are filed under datasets without items.
        chosen = chosen.where(cell.n > cell.errors, schema.Dataset.n > 0, schema.Dataset.name != PROBES)
        chosen = _within(connection, chosen, datasets, models)
        cells = _of_common(connection.execute(chosen.order_by((cell.n - cell.errors).desc(), cell.run_id.desc())))
        per_cell = max(20, limit // max(len(cells), 1))
        page = (
            sa.select(link.response_id)
            .where(link.run_id == sa.bindparam("run"), link.model_id == sa.bindparam("model"))
            .where(link.dataset_id == sa.bindparam("dataset"), ~link.failed)
            .order_by(link.response_id)
            .limit(per_cell)
        )
        scored = response.body.like('%,"pairs":[[%')  # a log-likelihood: nothing was generated
        texts = sa.select(response.item_id, response.turn, response.id).where(
            response.id.in_(page), response.sample == 0, response.text.is_not(None), ~scored
        )
        for model_id, dataset_id, run_id in cells:
            place = {"run": run_id, "model": model_id, "dataset": dataset_id}
            mine = found.setdefault(model_id, {})
            for item_id, turn, response_id in connection.execute(texts, place):
                mine.setdefault((item_id, turn), response_id)
    return {model_id: mine for model_id, mine in found.items() if mine}


def _of_common(rows: Iterable[Any]) -> list[tuple[int, int, int]]:
    """Keeps the cells of the datasets with most models, as many as `MAX_CELLS` allows, of one dataset at least."""
    by_dataset: dict[int, dict[int, tuple[int, int, int]]] = {}
    for model_id, dataset_id, run_id in rows:
        by_dataset.setdefault(dataset_id, {}).setdefault(model_id, (model_id, dataset_id, run_id))
    kept: list[tuple[int, int, int]] = []
    for _, cells in sorted(by_dataset.items(), key=lambda entry: (-len(entry[1]), entry[0])):
        if kept and len(kept) + len(cells) > MAX_CELLS:
            break
        kept += cells.values()
    return kept


def _within(connection: sa.Connection, query: Any, datasets: Sequence[int | str], models: Sequence[int | str]) -> Any:
    cell = schema.RunCell
    if datasets:
        query = query.where(cell.dataset_id.in_([key for name in datasets for key in dataset_ids(connection, name)]))
    return query.where(cell.model_id.in_(model_ids(connection, models))) if models else query


def battles_with_texts(
    ledger: Ledger, datasets: Sequence[int | str] = (), models: Sequence[int | str] = (), limit: int = MAX_BATTLES
) -> list[tuple[int, Place, int, int, int, int]]:
    """Lists stored battles between two stored answers; where there are more than `limit`, spread over the ledger.

    Returns:
        (battle id, place, model ids a and b, response ids a and b).

    Raises:
        UserError: There is no such dataset or model.
    """
    battle = schema.Battle
    probes = sa.select(schema.DatasetItem.item_id).join(
        schema.Dataset, schema.Dataset.id == schema.DatasetItem.dataset_id
    )
    query = sa.select(
        *(battle.id, battle.item_id, battle.turn, battle.model_a_id, battle.model_b_id),
        *(battle.response_a_id, battle.response_b_id),
    ).where(
        battle.response_a_id.is_not(None),
        battle.response_b_id.is_not(None),
        battle.item_id.not_in(probes.where(schema.Dataset.name == PROBES)),
    )
    with ledger.engine.connect() as connection:
        if datasets:
            wanted = [key for name in datasets for key in dataset_ids(connection, name)]
            items = sa.select(schema.DatasetItem.item_id).where(schema.DatasetItem.dataset_id.in_(wanted))
            query = query.where(battle.item_id.in_(items))
        if models:
            ids = model_ids(connection, models)
            query = query.where(battle.model_a_id.in_(ids), battle.model_b_id.in_(ids))
        n = connection.scalar(sa.select(sa.func.count()).select_from(query.subquery())) or 0
        rows: list[Any] = list(connection.execute(query.where(battle.id % (n // limit + 1) == 0).order_by(battle.id)))
        return [(row[0], (row[1], row[2]), *row[3:]) for row in rows]


def verified(ledger: Ledger, response_ids: Collection[int]) -> dict[int, dict[tuple[int, str], float]]:
    """Reads what metrics say of answers: by response id, the value of each (annotator id, criterion)."""
    grade = schema.Grade
    metrics = sa.select(schema.Annotator.id).where(schema.Annotator.kind == "metric")
    found: dict[int, dict[tuple[int, str], float]] = {}
    with ledger.engine.connect() as connection:
        for part in chunks(sorted(response_ids)):
            query = sa.select(grade.response_id, grade.annotator_id, grade.criterion, grade.value).where(
                grade.response_id.in_(part), grade.annotator_id.in_(metrics), grade.value.is_not(None)
            )
            for response_id, annotator_id, criterion, value in connection.execute(query):
                found.setdefault(response_id, {})[annotator_id, criterion] = float(value or 0.0)
    return found


def responses_of(ledger: Ledger, battle_id: int) -> tuple[int, int] | None:
    """Returns the ids of a battle's answers, model_a's first; None if it has no texts."""
    battle = schema.Battle
    with ledger.engine.connect() as connection:
        row = connection.execute(
            sa.select(battle.response_a_id, battle.response_b_id).where(battle.id == battle_id)
        ).first()
    return None if row is None or row[0] is None or row[1] is None else (row[0], row[1])


def invited_to(ledger: Ledger, invitation_id: int | None) -> int | None:
    """Returns the campaign that an invitation names; None if it names none."""
    if invitation_id is None:
        return None
    with ledger.engine.connect() as connection:
        return connection.scalar(sa.select(Invitation.campaign_id).where(Invitation.id == invitation_id))


def gold_votes(ledger: Ledger) -> dict[int, tuple[int, int]]:
    """Counts how voters did on gold pairs, those where a metric gives one answer 1 and the other 0.

    Returns:
        By annotator id: standing votes for the right answer, and all on such pairs; a tie is not right.
    """
    battle = schema.Battle
    query = (
        sa.select(Ballot.annotator_id, Ballot.winner, battle.response_a_id, battle.response_b_id)
        .join(battle, battle.id == Ballot.battle_id)
        .where(Ballot.kind == "gold", Ballot.winner.is_not(None), Ballot.undone_at.is_(None))
    )
    with ledger.engine.connect() as connection:
        rows: list[Any] = [row for row in connection.execute(query) if None not in (row[2], row[3])]
    graded = verified(ledger, {response for row in rows for response in (row[2], row[3])})
    found: dict[int, tuple[int, int]] = {}
    for annotator_id, winner, a, b in rows:
        first, second = graded.get(a, {}), graded.get(b, {})
        known = {
            "model_a" if first[what] >= 1 else "model_b"
            for what in first.keys() & second.keys()
            if max(first[what], second[what]) >= 1 and min(first[what], second[what]) <= 0
        }
        if len(known) == 1:  # where two metrics disagree, nothing is known
            right, n = found.get(annotator_id, (0, 0))
            found[annotator_id] = (right + (winner in known), n + 1)
    return found
