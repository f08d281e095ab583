"""The first version: every table of the ledger."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, Text
from sqlalchemy.schema import SchemaItem

from evalkit.store.migrations import app_0001

revision = "0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # only INTEGER is SQLite's own row id


def _numbered(table: str) -> tuple[SchemaItem, ...]:
    return Column("id", BIG, autoincrement=False, nullable=False), sa.PrimaryKeyConstraint("id", name=f"pk_{table}")


def _known_by(key: str, table: str) -> tuple[SchemaItem, ...]:
    return *_numbered(table), Column(key, Text, nullable=False), sa.UniqueConstraint(key, name=f"uq_{table}_{key}")


def upgrade() -> None:
    """Makes all tables."""
    op.create_table(
        "annotator",
        *_known_by("hash", "annotator"),
        Column("kind", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("definition", sa.JSON(), nullable=False),
        Column("created_at", Text, nullable=False),
        sa.CheckConstraint("kind IN ('human', 'judge', 'metric')", name="ck_annotator_kind"),
    )
    op.create_table(
        "dataset",
        *_known_by("hash", "dataset"),
        Column("name", Text, nullable=False),
        Column("source", Text, nullable=False),
        Column("n", BIG, nullable=False),
        Column("created_at", Text, nullable=False),
    )
    op.create_table(
        "item",
        *_known_by("hash", "item"),
        Column("messages", sa.JSON(), nullable=False),
        Column("reference", sa.JSON(), nullable=True),
        Column("tags", sa.JSON(), nullable=False),
    )
    op.create_table(
        "model",
        *_known_by("hash", "model"),
        Column("provider", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("revision", Text, nullable=True),
        Column("endpoint", Text, nullable=True),
        Column("dtype", Text, nullable=True),
        Column("system", Text, nullable=True),
        Column("sampling", sa.JSON(), nullable=False),
        Column("extra", sa.JSON(), nullable=False),
        Column("label", Text, nullable=False),
        Column("created_at", Text, nullable=False),
    )
    op.create_table(
        "run",
        *_numbered("run"),
        Column("name", Text, nullable=False),
        Column("plan_hash", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column("stage", Text, nullable=False),
        Column("done", BIG, nullable=False),
        Column("total", BIG, nullable=True),
        Column("errors", BIG, nullable=False),
        Column("seed", BIG, nullable=False),
        Column("pid", BIG, nullable=False),
        Column("host", Text, nullable=False),
        Column("started_at", Text, nullable=False),
        Column("updated_at", Text, nullable=False),
        Column("finished_at", Text, nullable=True),
        Column("message", Text, nullable=False),
        Column("plan", sa.JSON(), nullable=False),
        Column("environment", sa.JSON(), nullable=False),
        sa.CheckConstraint("status IN ('running', 'done', 'failed', 'stopped')", name="ck_run_status"),
    )
    op.create_index("ix_run_plan_hash", "run", ["plan_hash"], unique=False)
    op.create_table(
        "dataset_item",
        Column("dataset_id", BIG, nullable=False),
        Column("position", BIG, nullable=False),
        Column("item_id", BIG, nullable=False),
        Column("name", Text, nullable=False),
        Column("split", Text, nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name="fk_dataset_item_dataset_id_dataset"),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name="fk_dataset_item_item_id_item"),
        sa.PrimaryKeyConstraint("dataset_id", "position", name="pk_dataset_item"),
    )
    op.create_index("ix_dataset_item_item_id", "dataset_item", ["item_id"], unique=False)
    op.create_table(
        "gate",
        *_known_by("hash", "gate"),
        Column("run_id", BIG, nullable=True),
        Column("candidate_id", BIG, nullable=False),
        Column("parent_id", BIG, nullable=False),
        Column("decision", Text, nullable=False),
        Column("evidence", sa.JSON(), nullable=False),
        Column("created_at", Text, nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["model.id"], name="fk_gate_candidate_id_model"),
        sa.ForeignKeyConstraint(["parent_id"], ["model.id"], name="fk_gate_parent_id_model"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_gate_run_id_run"),
    )
    op.create_table(
        "model_parent",
        Column("model_id", BIG, nullable=False),
        Column("parent_id", BIG, nullable=False),
        Column("relation", Text, nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name="fk_model_parent_model_id_model"),
        sa.ForeignKeyConstraint(["parent_id"], ["model.id"], name="fk_model_parent_parent_id_model"),
        sa.PrimaryKeyConstraint("model_id", "parent_id", name="pk_model_parent"),
    )
    op.create_table(
        "response",
        *_numbered("response"),
        Column("model_id", BIG, nullable=False),
        Column("item_id", BIG, nullable=False),
        Column("request_key", Text, nullable=False),
        Column("key_prefix", BIG, nullable=False),
        Column("sample", BIG, nullable=False),
        Column("turn", BIG, nullable=False),
        Column("error_kind", Text, nullable=True),
        Column("finish_reason", Text, nullable=True),
        Column("prompt_tokens", BIG, nullable=True),
        Column("completion_tokens", BIG, nullable=True),
        Column("cached_tokens", BIG, nullable=True),
        Column("seconds", sa.Double(), nullable=True),
        Column("cost", sa.Double(), nullable=True),
        Column("attempts", BIG, nullable=False),
        Column("served_by", Text, nullable=True),
        Column("created_at", Text, nullable=False),
        Column("error", Text, nullable=True),
        Column("warnings", sa.JSON(), nullable=True),
        Column("text", Text, nullable=True),
        Column("reasoning", Text, nullable=True),
        Column("tool_calls", sa.JSON(), nullable=True),
        Column("body", Text, nullable=False),
        Column("logprobs", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name="fk_response_item_id_item"),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name="fk_response_model_id_model"),
    )
    op.create_table(
        "run_cell",
        Column("run_id", BIG, nullable=False),
        Column("model_id", BIG, nullable=False),
        Column("dataset_id", BIG, nullable=False),
        Column("n", BIG, nullable=False),
        Column("errors", BIG, nullable=False),
        Column("cached", BIG, nullable=False),
        Column("unpriced", BIG, nullable=False),
        Column("prompt_tokens", BIG, nullable=False),
        Column("completion_tokens", BIG, nullable=False),
        Column("cost", sa.Double(), nullable=False),
        Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name="fk_run_cell_dataset_id_dataset"),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name="fk_run_cell_model_id_model"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_run_cell_run_id_run"),
        sa.PrimaryKeyConstraint("run_id", "model_id", "dataset_id", name="pk_run_cell"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "score",
        Column("run_id", BIG, nullable=False),
        Column("model_id", BIG, nullable=False),
        Column("dataset_id", BIG, nullable=False),
        Column("metric", Text, nullable=False),
        Column("value", sa.Double(), nullable=True),
        Column("stderr", sa.Double(), nullable=True),
        Column("n", BIG, nullable=True),
        Column("errors", BIG, nullable=False),
        Column("higher_is_better", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name="fk_score_dataset_id_dataset"),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name="fk_score_model_id_model"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_score_run_id_run"),
        sa.PrimaryKeyConstraint("run_id", "model_id", "dataset_id", "metric", name="pk_score"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "slice",
        *_known_by("hash", "slice"),
        Column("run_id", BIG, nullable=False),
        Column("name", Text, nullable=False),
        Column("definition", sa.JSON(), nullable=False),
        Column("support", BIG, nullable=False),
        Column("effect", sa.Double(), nullable=True),
        Column("q_value", sa.Double(), nullable=True),
        Column("created_at", Text, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_slice_run_id_run"),
    )
    op.create_table(
        "tally",
        Column("criterion", Text, nullable=False),
        Column("model_a_id", BIG, nullable=False),
        Column("model_b_id", BIG, nullable=False),
        Column("annotator_id", BIG, nullable=False),
        Column("turn", BIG, nullable=False),
        Column("wins_a", BIG, nullable=False),
        Column("wins_b", BIG, nullable=False),
        Column("ties", BIG, nullable=False),
        Column("both_bad", BIG, nullable=False),
        Column("errors", BIG, nullable=False),
        sa.ForeignKeyConstraint(["annotator_id"], ["annotator.id"], name="fk_tally_annotator_id_annotator"),
        sa.ForeignKeyConstraint(["model_a_id"], ["model.id"], name="fk_tally_model_a_id_model"),
        sa.ForeignKeyConstraint(["model_b_id"], ["model.id"], name="fk_tally_model_b_id_model"),
        sa.PrimaryKeyConstraint("criterion", "model_a_id", "model_b_id", "annotator_id", "turn", name="pk_tally"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "battle",
        *_numbered("battle"),
        Column("item_id", BIG, nullable=False),
        Column("model_a_id", BIG, nullable=False),
        Column("model_b_id", BIG, nullable=False),
        Column("response_a_id", BIG, nullable=True),
        Column("response_b_id", BIG, nullable=True),
        Column("turn", BIG, nullable=False),
        sa.CheckConstraint("model_a_id < model_b_id", name="ck_battle_ordered"),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name="fk_battle_item_id_item"),
        sa.ForeignKeyConstraint(["model_a_id"], ["model.id"], name="fk_battle_model_a_id_model"),
        sa.ForeignKeyConstraint(["model_b_id"], ["model.id"], name="fk_battle_model_b_id_model"),
        sa.ForeignKeyConstraint(["response_a_id"], ["response.id"], name="fk_battle_response_a_id_response"),
        sa.ForeignKeyConstraint(["response_b_id"], ["response.id"], name="fk_battle_response_b_id_response"),
    )
    op.create_table(
        "grade",
        *_numbered("grade"),
        Column("response_id", BIG, nullable=False),
        Column("annotator_id", BIG, nullable=False),
        Column("criterion", Text, nullable=False),
        Column("replicate", BIG, nullable=False),
        Column("value", sa.Double(), nullable=True),
        Column("error", Text, nullable=True),
        Column("detail", sa.JSON(), nullable=True),
        Column("created_at", Text, nullable=False),
        sa.CheckConstraint("(value IS NULL) = (error IS NOT NULL)", name="ck_grade_value_or_error"),
        sa.ForeignKeyConstraint(["annotator_id"], ["annotator.id"], name="fk_grade_annotator_id_annotator"),
        sa.ForeignKeyConstraint(["response_id"], ["response.id"], name="fk_grade_response_id_response"),
        sa.UniqueConstraint("response_id", "annotator_id", "criterion", "replicate", name="uq_grade_identity"),
    )
    op.create_table(
        "run_response",
        Column("run_id", BIG, nullable=False),
        Column("model_id", BIG, nullable=False),
        Column("dataset_id", BIG, nullable=False),
        Column("response_id", BIG, nullable=False),
        Column("failed", sa.Boolean(), nullable=False),
        Column("cached", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["response_id"], ["response.id"], name="fk_run_response_response_id_response"),
        sa.PrimaryKeyConstraint("run_id", "model_id", "dataset_id", "response_id", name="pk_run_response"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_run_response_failed",
        "run_response",
        ["response_id"],
        sqlite_where=sa.text("failed"),
        postgresql_where=sa.text("failed"),
    )
    op.create_index(
        "ix_run_response_failed_page",
        "run_response",
        ["run_id", "model_id", "dataset_id", "response_id"],
        sqlite_where=sa.text("failed"),
        postgresql_where=sa.text("failed"),
    )
    op.create_table(
        "slice_item",
        Column("slice_id", BIG, nullable=False),
        Column("item_id", BIG, nullable=False),
        Column("split", Text, nullable=False),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name="fk_slice_item_item_id_item"),
        sa.ForeignKeyConstraint(["slice_id"], ["slice.id"], name="fk_slice_item_slice_id_slice"),
        sa.PrimaryKeyConstraint("slice_id", "item_id", name="pk_slice_item"),
    )
    op.create_table(
        "training_set",
        *_known_by("hash", "training_set"),
        Column("name", Text, nullable=False),
        Column("slice_id", BIG, nullable=True),
        Column("recipe", sa.JSON(), nullable=False),
        Column("n", BIG, nullable=False),
        Column("created_at", Text, nullable=False),
        sa.ForeignKeyConstraint(["slice_id"], ["slice.id"], name="fk_training_set_slice_id_slice"),
    )
    op.create_table(
        "training_row",
        Column("training_set_id", BIG, nullable=False),
        Column("position", BIG, nullable=False),
        Column("item_id", BIG, nullable=True),
        Column("provenance", sa.JSON(), nullable=False),
        Column("content", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name="fk_training_row_item_id_item"),
        sa.ForeignKeyConstraint(
            ["training_set_id"], ["training_set.id"], name="fk_training_row_training_set_id_training_set"
        ),
        sa.PrimaryKeyConstraint("training_set_id", "position", name="pk_training_row"),
    )
    op.create_table(
        "training_run",
        *_known_by("hash", "training_run"),
        Column("run_id", BIG, nullable=True),
        Column("training_set_id", BIG, nullable=True),
        Column("parent_id", BIG, nullable=False),
        Column("model_id", BIG, nullable=True),
        Column("method", Text, nullable=False),
        Column("config", sa.JSON(), nullable=False),
        Column("status", Text, nullable=False),
        Column("checkpoint", Text, nullable=True),
        Column("message", Text, nullable=False),
        Column("created_at", Text, nullable=False),
        Column("finished_at", Text, nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name="fk_training_run_model_id_model"),
        sa.ForeignKeyConstraint(["parent_id"], ["model.id"], name="fk_training_run_parent_id_model"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_training_run_run_id_run"),
        sa.ForeignKeyConstraint(
            ["training_set_id"], ["training_set.id"], name="fk_training_run_training_set_id_training_set"
        ),
    )
    op.create_table(
        "verdict",
        *_numbered("verdict"),
        Column("battle_id", BIG, nullable=False),
        Column("annotator_id", BIG, nullable=False),
        Column("criterion", Text, nullable=False),
        Column("order_shown", Text, nullable=False),
        Column("replicate", BIG, nullable=False),
        Column("winner", Text, nullable=True),
        Column("probability", sa.Double(), nullable=True),
        Column("seconds", sa.Double(), nullable=True),
        Column("run_id", BIG, nullable=True),
        Column("response_id", BIG, nullable=True),
        Column("created_at", Text, nullable=False),
        Column("error", Text, nullable=True),
        Column("rationale", Text, nullable=True),
        sa.CheckConstraint("order_shown IN ('ab', 'ba', '')", name="ck_verdict_order_shown"),
        sa.CheckConstraint("winner IN ('model_a', 'model_b', 'tie', 'both_bad')", name="ck_verdict_winner"),
        sa.CheckConstraint("(winner IS NULL) = (error IS NOT NULL)", name="ck_verdict_winner_or_error"),
        sa.ForeignKeyConstraint(["annotator_id"], ["annotator.id"], name="fk_verdict_annotator_id_annotator"),
        sa.ForeignKeyConstraint(["battle_id"], ["battle.id"], name="fk_verdict_battle_id_battle"),
        sa.ForeignKeyConstraint(["response_id"], ["response.id"], name="fk_verdict_response_id_response"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_verdict_run_id_run"),
        sa.UniqueConstraint(
            "battle_id", "annotator_id", "criterion", "order_shown", "replicate", name="uq_verdict_identity"
        ),
    )
    op.create_table(
        "batch",
        *_known_by("token", "batch"),
        Column("endpoint", Text, nullable=False),
        Column("route", Text, nullable=False),
        Column("file_id", Text, nullable=True),
        Column("provider_id", Text, nullable=True),
        Column("status", Text, nullable=False),
        Column("run_id", BIG, nullable=False),
        Column("model_id", BIG, nullable=False),
        Column("n", BIG, nullable=False),
        Column("keys", sa.JSON(), nullable=False),
        Column("corrections", sa.JSON(), nullable=False),
        Column("created_at", Text, nullable=False),
        Column("finished_at", Text, nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name="fk_batch_model_id_model"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_batch_run_id_run"),
    )
    op.create_table(
        "curve_point",
        Column("training_run_id", BIG, nullable=False),
        Column("metric", Text, nullable=False),
        Column("step", BIG, nullable=False),
        Column("value", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["training_run_id"], ["training_run.id"], name="fk_curve_point_training_run_id_training_run"
        ),
        sa.PrimaryKeyConstraint("training_run_id", "metric", "step", name="pk_curve_point"),
        sqlite_with_rowid=False,
    )
    op.create_index("uq_response_identity", "response", ["key_prefix", "model_id", "item_id"], unique=True)
    op.create_index(
        "uq_battle_identity",
        "battle",
        [
            "item_id",
            "model_a_id",
            "model_b_id",
            "turn",
            sa.text("coalesce(response_a_id, 0)"),
            sa.text("coalesce(response_b_id, 0)"),
        ],
        unique=True,
    )
    app_0001.upgrade()
