"""The ledger's table of halves: which items may be trained on, and which are the gate's alone.

Beside `schema.py`, with the same Base; it imports the others, so that its Base knows every table.
`docs/ledger.md` says what each table is for.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from evalkit.store.schema_app import Base

__all__ = ["Base", "ItemHalf"]


class ItemHalf(Base):
    """The half an item was given, once and for ever; near-duplicates share a cluster and its half."""

    __tablename__ = "item_half"
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True, autoincrement=False)
    half: Mapped[str]
    cluster: Mapped[int]  # the smallest item id among the near-duplicates it came with
    seed: Mapped[int]
    __table_args__ = (CheckConstraint("half IN ('train', 'held_out')", name="half"),)
