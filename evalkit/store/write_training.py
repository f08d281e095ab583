"""Writes of the gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.models.base import sha256
from evalkit.store.database import now, storable
from evalkit.store.ledger import Ledger
from evalkit.store.schema import Gate

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
) -> int:
    """Stores what a gate found; the same evidence on the same two models again is the gate that is there.

    Args:
        run_id: The run that measured.
        evidence: See `evalkit.store.frames_training`.

    Returns:
        The gate's id.
    """
    key = sha256({"candidate": candidate_id, "parent": parent_id, "evidence": evidence})
    with ledger.write() as connection:
        known = connection.scalar(sa.select(Gate.id).where(Gate.hash == key))
        if known is not None:
            return known
        row = {"hash": key, "run_id": run_id, "candidate_id": candidate_id, "parent_id": parent_id,
               "decision": decision, "evidence": dict(evidence), "created_at": now()}  # fmt: skip
        return int(connection.execute(sa.insert(Gate).values(row).returning(Gate.id)).scalar_one())
