"""Writes of the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.models.base import sha256
from evalkit.store.database import now, storable
from evalkit.store.ledger import Ledger
from evalkit.store.schema import Gate, ModelParent, TrainingRow, TrainingRun, TrainingSet
from evalkit.store.writing import insert_new, next_id

WAITING = "waiting"
"""The decision of a gate that leaves it to a person."""


def decide_gate(ledger: Ledger, gate_id: int, decision: Literal["accepted", "refused"], *, by: str, why: str) -> None:
    """Decides a gate that waits for a person, and stores who did it and why in its evidence.

    Raises:
        UserError: There is no such gate, it is decided already, or no reason is given.
    """
    reason = " ".join(storable(why).split())
    if not reason:
        raise UserError("why: write why this model is approved or rejected.", code=2)
    with ledger.write() as connection:
        row = connection.execute(sa.select(Gate.decision, Gate.evidence).where(Gate.id == gate_id)).first()
        if row is None:
            raise UserError(f"there is no gate {gate_id} in this ledger.", code=2)
        if row.decision != WAITING:
            decided = row.evidence.get("decided") or {}
            who = f" by {decided['by']}" if decided.get("by") else ""
            raise UserError(f"gate {gate_id} is {row.decision} already{who}; a decision stands.", code=2)
        evidence = {**row.evidence, "decided": {"by": storable(by), "why": reason, "at": now()}}
        connection.execute(sa.update(Gate).where(Gate.id == gate_id).values(decision=decision, evidence=evidence))


def add_gate(
    ledger: Ledger,
    *,
    candidate_id: int,
    parent_id: int,
    run_id: int | None,
    decision: Literal["accepted", "refused", "waiting"],
    evidence: Mapping[str, Any],
) -> tuple[int, Literal["accepted", "refused", "waiting"]]:
    """Stores what a gate found; the same evidence on the same two models again is the gate that is there.

    Args:
        run_id: The run that measured.
        evidence: See `evalkit.store.frames_training`.

    Returns:
        The gate's id, and the decision that stands: a person's, where one has decided it since.
    """
    key = sha256({"candidate": candidate_id, "parent": parent_id, "evidence": evidence})
    with ledger.write() as connection:
        known = connection.execute(sa.select(Gate.id, Gate.decision).where(Gate.hash == key)).first()
        if known is not None:
            stands: Any = known.decision
            return known.id, stands
        gate_id = next_id(connection, Gate)
        row = {"id": gate_id, "hash": key, "run_id": run_id, "candidate_id": candidate_id,
               "parent_id": parent_id, "decision": decision, "evidence": dict(evidence),
               "created_at": now()}  # fmt: skip
        connection.execute(sa.insert(Gate).values(row))
        return gate_id, decision


def add_parents(ledger: Ledger, model_id: int, parent_ids: Sequence[int], relation: str) -> None:
    """Stores which models a model was made from; what is known already stays.

    Args:
        relation: trained_from or merged_from.
    """
    rows = [
        {"model_id": model_id, "parent_id": parent_id, "relation": relation}
        for parent_id in dict.fromkeys(parent_ids)
        if parent_id != model_id  # a merge that gave back the very weights of one that has its name
    ]
    with ledger.write() as connection:
        insert_new(connection, ModelParent, rows)


def add_merge(ledger: Ledger, model_id: int, parent_id: int, config: Mapping[str, Any], checkpoint: str) -> None:
    """Stores a finished merge as a training run without a training set; one that was stored takes its new place.

    Args:
        parent_id: The base, or the first model.
        config: The merge's YAML as data, and its seed.
        checkpoint: Folder.
    """
    key = sha256({"parent": parent_id, "training_set": None, "method": "merge", "config": config, "model": model_id})
    row = {"hash": key, "training_set_id": None, "parent_id": parent_id, "model_id": model_id, "method": "merge",
           "config": dict(config), "status": "done", "checkpoint": checkpoint, "message": "", "created_at": now(),
           "finished_at": now()}  # fmt: skip
    with ledger.write() as connection:
        known = connection.scalar(sa.select(TrainingRun.id).where(TrainingRun.hash == key))
        if known is None:
            connection.execute(sa.insert(TrainingRun).values(id=next_id(connection, TrainingRun), **row))
        else:
            connection.execute(sa.update(TrainingRun).where(TrainingRun.id == known).values(checkpoint=checkpoint))


def add_training_set(
    ledger: Ledger,
    name: str,
    slice_id: int | None,
    recipe: Mapping[str, Any],
    rows: Sequence[tuple[int | None, Mapping[str, Any], Mapping[str, Any]]],
) -> int:
    """Stores a training set; the same rows for the same slice are the set that is there, whatever its name.

    Args:
        name: What tables call it.
        slice_id: It was made for.
        recipe: How; see `evalkit.store.frames_training`.
        rows: (item id or None, provenance, content), in the set's order.

    Returns:
        The set's id.
    """
    contents = [content for _, _, content in rows]
    key = sha256({"slice": slice_id, "rows": contents, "key": recipe.get("key")})
    with ledger.write() as connection:
        known = connection.scalar(sa.select(TrainingSet.id).where(TrainingSet.hash == key))
        if known is not None:
            return known
        set_id = next_id(connection, TrainingSet)
        about = {"id": set_id, "hash": key, "name": name, "slice_id": slice_id, "recipe": dict(recipe),
                 "n": len(rows), "created_at": now()}  # fmt: skip
        connection.execute(sa.insert(TrainingSet).values(about))
        insert_new(
            connection,
            TrainingRow,
            [
                {"training_set_id": set_id, "position": place, "item_id": item_id, "provenance": dict(told),
                 "content": dict(content)}
                for place, (item_id, told, content) in enumerate(rows)
            ],
        )  # fmt: skip
        return set_id
