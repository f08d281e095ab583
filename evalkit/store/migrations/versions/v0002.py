"""Halves: which items may be trained on, and which are held out."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, Text

revision = "0002"
down_revision = "0001"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "item_half",
        Column("item_id", BIG, autoincrement=False, nullable=False),
        Column("half", Text, nullable=False),
        Column("cluster", BIG, nullable=False),
        Column("seed", BIG, nullable=False),
        sa.CheckConstraint("half IN ('train', 'held_out')", name="ck_item_half_half"),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name="fk_item_half_item_id_item"),
        sa.PrimaryKeyConstraint("item_id", name="pk_item_half"),
    )
