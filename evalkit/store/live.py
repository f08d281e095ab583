"""Free-prompt battles in the ledger: who can be asked, what people typed, and how they voted.

A person's prompts are items of one dataset, which grows; the answers are ordinary responses of one run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from evalkit.models.base import Message, ModelSettings, Sampling, sha256
from evalkit.models.endpoint import default_endpoint
from evalkit.plan import ModelPlan, SamplingPlan
from evalkit.store.database import now
from evalkit.store.ledger import Ledger
from evalkit.store.reading import model_ids, model_names
from evalkit.store.rows import Item
from evalkit.store.schema import Battle, Dataset, DatasetItem, Model, Run
from evalkit.store.schema import Item as ItemTable
from evalkit.store.schema_app import Ballot, set_aside
from evalkit.store.write_runs import find_run, start_run, update_run
from evalkit.store.writing import ids_by_hash, insert_new, next_id

FREE_PROMPTS = "free prompts"
"""The name of the dataset, and of the run."""
LIVE_PROVIDERS = ("openai", "embedded", "hf", "vllm")


@dataclass(frozen=True, slots=True)
class Contestant:
    """A model of the ledger that may be asked live.

    Attributes:
        plan: How to load it: as the run did that it comes from, with the ledger's own settings.
    """

    model_id: int
    name: str
    settings: ModelSettings
    plan: ModelPlan


def contestants(ledger: Ledger, models: Sequence[int | str] = ()) -> list[Contestant]:
    """Lists the models that can be asked live, by name: all but those whose answers were only recorded.

    Args:
        ledger: To look in.
        models: Ids or names; only these.

    Raises:
        UserError: There is no such model.
    """
    with ledger.engine.connect() as connection:
        query = sa.select(Model.__table__).where(Model.provider.in_(LIVE_PROVIDERS))
        if models:
            query = query.where(Model.id.in_(model_ids(connection, models)))
        names = model_names(connection)
        plans = _plans(connection)
        rows = [dict(row) for row in connection.execute(query).mappings()]
    found = [_contestant(row, names[row["id"]], plans) for row in rows]
    return sorted(found, key=lambda one: one.name)


def _plans(connection: sa.Connection) -> dict[tuple[str, str], list[ModelPlan]]:
    """The models of all runs' plans, by provider and label, the newest first: they know folders and names of keys."""
    found: dict[tuple[str, str], list[ModelPlan]] = {}
    for (plan,) in connection.execute(sa.select(Run.plan).order_by(Run.id.desc())):
        given = plan.get("models") if isinstance(plan, Mapping) else None
        for one in given if isinstance(given, list) else []:
            try:
                model = ModelPlan.model_validate(one)
            except ValueError:
                continue  # of another version, or no plan of ours: the ledger's own row still says who the model is
            found.setdefault((model.model.partition("/")[0], model.label), []).append(model)
    return found


def _contestant(row: Mapping[str, Any], name: str, plans: Mapping[tuple[str, str], Sequence[ModelPlan]]) -> Contestant:
    drawn = {**row["sampling"], "stop": tuple(row["sampling"].get("stop") or ())}
    settings = ModelSettings(
        *(row["provider"], row["name"], row["revision"], row["endpoint"], row["dtype"], row["system"]),
        sampling=Sampling(**drawn),
        extra=row["extra"],
        label=row["label"],
    )
    own = {
        "name": row["label"],
        "system": row["system"],
        "sampling": SamplingPlan(**row["sampling"]),
        "revision": row["revision"],
        "base_url": row["endpoint"],
        "extra": row["extra"],
        "dtype": row["dtype"] or "auto",
        "batch": False,
    }
    model = f"{row['provider']}/{row['name']}"
    for plan in plans.get((row["provider"], row["label"]), ()):
        # A folder is known by its last part; an endpoint's key is meant for that endpoint alone.
        path = plan.model.partition("/")[2]
        if path != row["name"] and path.rstrip("/").rpartition("/")[2] != row["name"]:
            continue
        if plan.base_url is not None and plan.base_url.rstrip("/") != row["endpoint"]:
            continue
        return Contestant(row["id"], name, settings, plan.model_copy(update=own))
    if row["endpoint"] != default_endpoint():
        own["api_key_env"] = ""  # no plan says which key is meant for it, and a key is not sent on a guess
    return Contestant(row["id"], name, settings, ModelPlan(model=model).model_copy(update=own))


def run_of(ledger: Ledger, campaign: str, environment: Mapping[str, Any]) -> int:
    """Returns the run that a campaign's live answers belong to; it is done whenever nobody is asked."""
    plan = {"free_prompts": campaign}
    name = f"{FREE_PROMPTS}: {campaign}" if campaign else FREE_PROMPTS
    with ledger.write() as connection:
        known = find_run(connection, name, plan, 0)
        if known is not None:
            return known[0]
        run_id = start_run(connection, name, plan, 0, environment, resume=False)
        update_run(connection, run_id, status="done", finished_at=now())
        return run_id


def add_prompt(ledger: Ledger, messages: Sequence[Message]) -> tuple[int, int]:
    """Adds what a person asked, turn by turn, to the dataset of free prompts; the same turns are the same item.

    Args:
        ledger: To write to.
        messages: The user's turns alone.

    Returns:
        Dataset id and item id.
    """
    item = Item(tuple(messages))
    dataset_hash = sha256({"grows": FREE_PROMPTS})  # not of its items: it takes new ones
    with ledger.write() as connection:
        dataset_id = ids_by_hash(connection, Dataset, [dataset_hash]).get(dataset_hash)
        if dataset_id is None:
            dataset_id = next_id(connection, Dataset)
            head: dict[str, Any] = {"id": dataset_id, "hash": dataset_hash, "name": FREE_PROMPTS}
            insert_new(connection, Dataset, [{**head, "source": "people, live", "n": 0, "created_at": now()}])
        item_id = ids_by_hash(connection, ItemTable, [item.hash]).get(item.hash)
        if item_id is None:
            item_id = next_id(connection, ItemTable)
            said = [dict(message) for message in messages]
            row = {"id": item_id, "hash": item.hash, "messages": said, "reference": None, "tags": {}}
            insert_new(connection, ItemTable, [row])
        there = sa.select(DatasetItem.position).where(DatasetItem.dataset_id == dataset_id)
        if connection.scalar(there.where(DatasetItem.item_id == item_id)) is None:
            last = connection.scalar(
                sa.select(sa.func.max(DatasetItem.position)).where(DatasetItem.dataset_id == dataset_id)
            )
            position = 0 if last is None else last + 1
            link = {"dataset_id": dataset_id, "position": position, "item_id": item_id, "name": "", "split": ""}
            insert_new(connection, DatasetItem, [link])
            connection.execute(sa.update(Dataset).where(Dataset.id == dataset_id).values(n=position + 1))
    return dataset_id, item_id


def free_votes(ledger: Ledger, campaign_id: int | None) -> list[tuple[int, int, str]]:
    """Lists the standing votes of a campaign's free battles, of those who were not set aside, oldest first.

    Returns:
        (model id a, model id b, winner).
    """
    query = (
        sa.select(Battle.model_a_id, Battle.model_b_id, Ballot.winner)
        .join(Battle, Battle.id == Ballot.battle_id)
        .where(Ballot.campaign_id.is_not_distinct_from(campaign_id), Ballot.kind == "free")
        .where(Ballot.undone_at.is_(None), Ballot.winner.is_not(None), Ballot.annotator_id.not_in(set_aside()))
        .order_by(Ballot.id)
    )
    with ledger.engine.connect() as connection:
        return [(row[0], row[1], str(row[2])) for row in connection.execute(query)]


def next_replicate(ledger: Ledger, campaign_id: int | None, annotator_id: int, battle_id: int) -> int:
    """Returns how often this voter has voted on this very battle before: the same words, models and answers again."""
    query = sa.select(sa.func.max(Ballot.replicate)).where(
        Ballot.campaign_id.is_not_distinct_from(campaign_id),
        Ballot.annotator_id == annotator_id,
        Ballot.battle_id == battle_id,
    )
    with ledger.engine.connect() as connection:
        last = connection.scalar(query)
    return 0 if last is None else last + 1
