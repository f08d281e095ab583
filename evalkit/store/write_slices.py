"""Writes of failure slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from evalkit.models.base import sha256
from evalkit.store.database import now, storable
from evalkit.store.ledger import Ledger
from evalkit.store.schema import Slice, SliceItem
from evalkit.store.writing import insert_new, next_id


@dataclass(frozen=True, slots=True)
class SliceRow:
    """A slice as it is stored (see `evalkit.store.frames_training` for what the definition holds).

    Attributes:
        identity: What makes it this slice: the same again is the same slice, with the newest numbers.
        items: Half of each of its items.
    """

    name: str
    identity: Mapping[str, Any]
    definition: Mapping[str, Any]
    effect: float
    q_value: float
    items: Mapping[int, str]


def write_slices(ledger: Ledger, run_id: int, rows: Sequence[SliceRow]) -> list[int]:
    """Stores slices in one transaction; one that is there already keeps its id and takes the new numbers.

    Returns:
        Ids in the order given.
    """
    ids = []
    with ledger.write() as connection:
        for row in rows:
            key = sha256({"run": run_id, **row.identity, "items": sorted(row.items)})
            values = {"name": storable(row.name), "definition": dict(row.definition), "support": len(row.items),
                      "effect": row.effect, "q_value": row.q_value}  # fmt: skip
            known = connection.scalar(sa.select(Slice.id).where(Slice.hash == key))
            if known is not None:
                connection.execute(sa.update(Slice).where(Slice.id == known).values(values))
                ids.append(known)
                continue
            slice_id = next_id(connection, Slice)
            values |= {"id": slice_id, "hash": key, "run_id": run_id, "created_at": now()}
            connection.execute(sa.insert(Slice).values(values))
            items = [{"slice_id": slice_id, "item_id": key, "split": half} for key, half in row.items.items()]
            insert_new(connection, SliceItem, items)
            ids.append(slice_id)
    return ids
