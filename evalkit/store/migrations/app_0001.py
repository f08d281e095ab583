"""Tables of the first version for people and their work (see `schema_app`)."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, Text

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # only INTEGER is SQLite's own row id
ROLE = "role IN ('voter', 'analyst', 'admin')"


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "campaign",
        Column("id", BIG, autoincrement=False, nullable=False),
        Column("name", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column("mode", Text, nullable=False),
        Column("criterion", Text, nullable=False),
        Column("instructions", Text, nullable=False),
        Column("settings", sa.JSON(), nullable=False),
        Column("seed", BIG, nullable=False),
        Column("created_at", Text, nullable=False),
        Column("closed_at", Text, nullable=True),
        sa.CheckConstraint("status IN ('open', 'closed')", name="ck_campaign_status"),
        sa.CheckConstraint("mode IN ('queue', 'free')", name="ck_campaign_mode"),
        sa.PrimaryKeyConstraint("id", name="pk_campaign"),
        sa.UniqueConstraint("name", name="uq_campaign_name"),
    )
    op.create_table(
        "invitation",
        Column("id", BIG, autoincrement=False, nullable=False),
        Column("token_hash", Text, nullable=False),
        Column("role", Text, nullable=False),
        Column("campaign_id", BIG, nullable=True),
        Column("note", Text, nullable=False),
        Column("created_at", Text, nullable=False),
        Column("expires_at", Text, nullable=True),
        Column("revoked_at", Text, nullable=True),
        Column("uses", BIG, nullable=False),
        Column("max_uses", BIG, nullable=True),
        sa.CheckConstraint(ROLE, name="ck_invitation_role"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name="fk_invitation_campaign_id_campaign"),
        sa.PrimaryKeyConstraint("id", name="pk_invitation"),
        sa.UniqueConstraint("token_hash", name="uq_invitation_token_hash"),
    )
    op.create_table(
        "member",
        Column("id", BIG, autoincrement=False, nullable=False),
        Column("identity", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("role", Text, nullable=False),
        Column("annotator_id", BIG, nullable=False),
        Column("invitation_id", BIG, nullable=True),
        Column("created_at", Text, nullable=False),
        Column("set_aside_at", Text, nullable=True),
        Column("set_aside_reason", Text, nullable=True),
        sa.CheckConstraint(ROLE, name="ck_member_role"),
        sa.ForeignKeyConstraint(["annotator_id"], ["annotator.id"], name="fk_member_annotator_id_annotator"),
        sa.ForeignKeyConstraint(["invitation_id"], ["invitation.id"], name="fk_member_invitation_id_invitation"),
        sa.PrimaryKeyConstraint("id", name="pk_member"),
        sa.UniqueConstraint("annotator_id", name="uq_member_annotator_id"),
        sa.UniqueConstraint("identity", name="uq_member_identity"),
    )
    op.create_table(
        "ballot",
        Column("id", BIG, autoincrement=False, nullable=False),
        Column("key", Text, nullable=False),
        Column("campaign_id", BIG, nullable=True),
        Column("annotator_id", BIG, nullable=False),
        Column("battle_id", BIG, nullable=False),
        Column("criterion", Text, nullable=False),
        Column("order_shown", Text, nullable=False),
        Column("replicate", BIG, nullable=False),
        Column("winner", Text, nullable=True),
        Column("seconds", sa.Double(), nullable=True),
        Column("comment", Text, nullable=True),
        Column("kind", Text, nullable=False),
        Column("verdict_id", BIG, nullable=True),
        Column("created_at", Text, nullable=False),
        Column("undone_at", Text, nullable=True),
        sa.CheckConstraint("winner IN ('model_a', 'model_b', 'tie', 'both_bad')", name="ck_ballot_winner"),
        sa.CheckConstraint("order_shown IN ('ab', 'ba')", name="ck_ballot_order_shown"),
        sa.CheckConstraint("kind IN ('queue', 'repeat', 'gold', 'free')", name="ck_ballot_kind"),
        sa.CheckConstraint(
            "verdict_id IS NULL OR (winner IS NOT NULL AND undone_at IS NULL)", name="ck_ballot_verdict"
        ),
        sa.ForeignKeyConstraint(["annotator_id"], ["annotator.id"], name="fk_ballot_annotator_id_annotator"),
        sa.ForeignKeyConstraint(["battle_id"], ["battle.id"], name="fk_ballot_battle_id_battle"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name="fk_ballot_campaign_id_campaign"),
        sa.PrimaryKeyConstraint("id", name="pk_ballot"),
        sa.UniqueConstraint("key", name="uq_ballot_key"),
    )
    op.create_index("ix_ballot_annotator_id_ballot_id", "ballot", ["annotator_id", "id"])
    op.create_index("ix_ballot_campaign_id_ballot_battle_id", "ballot", ["campaign_id", "battle_id"])
    op.execute(
        "CREATE UNIQUE INDEX uq_ballot_question ON ballot (battle_id, annotator_id, criterion, replicate,"
        " coalesce(campaign_id, 0)) WHERE undone_at IS NULL"
    )
    op.create_table(
        "schedule",
        Column("id", BIG, autoincrement=False, nullable=False),
        Column("name", Text, nullable=False),
        Column("cron", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("spec", sa.JSON(), nullable=False),
        Column("enabled", sa.Boolean(), nullable=False),
        Column("last_at", Text, nullable=True),
        Column("next_at", Text, nullable=True),
        Column("created_at", Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schedule"),
        sa.UniqueConstraint("name", name="uq_schedule_name"),
    )
    op.create_table(
        "job",
        Column("id", BIG, autoincrement=False, nullable=False),
        Column("kind", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("spec", sa.JSON(), nullable=False),
        Column("status", Text, nullable=False),
        Column("progress", BIG, nullable=False),
        Column("total", BIG, nullable=True),
        Column("message", Text, nullable=False),
        Column("run_id", BIG, nullable=True),
        Column("task_id", Text, nullable=True),
        Column("pid", BIG, nullable=True),
        Column("host", Text, nullable=True),
        Column("attempts", BIG, nullable=False),
        Column("log", Text, nullable=True),
        Column("schedule_id", BIG, nullable=True),
        Column("created_at", Text, nullable=False),
        Column("started_at", Text, nullable=True),
        Column("heartbeat_at", Text, nullable=True),
        Column("finished_at", Text, nullable=True),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'done', 'failed', 'cancelled', 'died')", name="ck_job_status"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_job_run_id_run"),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], name="fk_job_schedule_id_schedule"),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
    )
    op.create_index("ix_job_status", "job", ["status"])
