"""Reads for battles: which answers a run has, and the texts that judges see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import sqlalchemy as sa

from evalkit.store import schema
from evalkit.store.ledger import Ledger
from evalkit.store.rows import Winner
from evalkit.store.write_judgments import outcome
from evalkit.store.writing import chunks


def answers(ledger: Ledger, run_id: int, dataset_ids: Sequence[int]) -> list[tuple[int, int, int]]:
    """Lists a run's answers in some datasets: the first sample of each model, failures left out.

    Returns:
        (response id, item id, model id), ordered by response id.
    """
    link, response = schema.RunResponse, schema.Response
    query = (
        sa.select(response.id, response.item_id, response.model_id)
        .join(link, link.response_id == response.id)
        .where(link.run_id == run_id, link.dataset_id.in_(dataset_ids), ~link.failed, response.sample == 0)
        .order_by(response.id)
    )
    with ledger.engine.connect() as connection:
        return [(row[0], row[1], row[2]) for row in connection.execute(query)]


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


def texts(ledger: Ledger, response_ids: Sequence[int]) -> dict[int, str]:
    """Returns answers by response id."""
    found: dict[int, str] = {}
    with ledger.engine.connect() as connection:
        for part in chunks(sorted(set(response_ids))):
            query = sa.select(schema.Response.id, schema.Response.text).where(schema.Response.id.in_(part))
            found.update({response_id: text or "" for response_id, text in connection.execute(query)})
    return found


def items(ledger: Ledger, item_ids: Sequence[int]) -> dict[int, tuple[list[dict[str, Any]], Any]]:
    """Returns prompts by item id: (messages, reference)."""
    found: dict[int, tuple[list[dict[str, Any]], Any]] = {}
    with ledger.engine.connect() as connection:
        for part in chunks(sorted(set(item_ids))):
            query = sa.select(schema.Item.id, schema.Item.messages, schema.Item.reference).where(
                schema.Item.id.in_(part)
            )
            found.update({row[0]: (row[1], row[2]) for row in connection.execute(query)})
    return found


def votes_of(
    ledger: Ledger, annotator_ids: Sequence[int], criterion: str, battle_ids: Sequence[int]
) -> dict[int, list[Winner | None]]:
    """Returns each battle's votes, one for each judge that saw it: both orders of a judge taken together.

    A judge without a readable verdict votes None; one that contradicts itself when the answers swap votes tie.
    """
    verdict = schema.Verdict
    said: dict[tuple[int, int], list[str]] = {}
    with ledger.engine.connect() as connection:
        for part in chunks(sorted(battle_ids)):
            query = sa.select(verdict.battle_id, verdict.annotator_id, verdict.winner).where(
                verdict.annotator_id.in_(annotator_ids),
                verdict.criterion == criterion,
                verdict.battle_id.in_(part),
            )
            for battle_id, annotator_id, winner in connection.execute(query):
                winners = said.setdefault((battle_id, annotator_id), [])
                winners += [winner] if winner is not None else []
    votes: dict[int, list[Winner | None]] = {}
    for (battle_id, _), winners in sorted(said.items()):
        votes.setdefault(battle_id, []).append(cast("Winner | None", outcome(winners)))
    return votes


def count_errors(ledger: Ledger, run_id: int) -> int:
    """Returns how many of a run's requests ended without an answer."""
    query = sa.select(sa.func.coalesce(sa.func.sum(schema.RunCell.errors), 0)).where(schema.RunCell.run_id == run_id)
    with ledger.engine.connect() as connection:
        return int(connection.scalar(query) or 0)
