"""The ledger's tables (SQLAlchemy typed declarative). `docs/ledger.md` says what each one is for.

Ids are given out by the writer, which holds the ledger's only write lock, so no table needs a sequence and a batch
knows its ids before it is sent. Times are UTC, ISO 8601, as text. Large texts stand last in `response`: SQLite reads
a row from the left, so a list view never touches them.
"""

from __future__ import annotations

from typing import Annotated, Any

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, ForeignKey, Index, PrimaryKeyConstraint, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

VERSION = "0002"
"""The newest migration; a ledger carries its own in `alembic_version`."""

BigInt = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # only INTEGER is SQLite's own row id
Json = sa.JSON(none_as_null=True)

Id = Annotated[int, mapped_column(BigInt, primary_key=True, autoincrement=False)]
Hash = Annotated[str, mapped_column(Text, unique=True)]


class Base(DeclarativeBase):
    """Names of constraints are fixed, so that migrations can speak of them."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {str: Text, int: BigInt, float: sa.Double, dict[str, Any]: Json, list[Any]: Json}  # noqa: RUF012


class Model(Base):
    __tablename__ = "model"
    id: Mapped[Id]
    hash: Mapped[Hash]
    provider: Mapped[str]
    name: Mapped[str]
    revision: Mapped[str | None]
    endpoint: Mapped[str | None]
    dtype: Mapped[str | None]
    system: Mapped[str | None]
    sampling: Mapped[dict[str, Any]]
    extra: Mapped[dict[str, Any]]
    label: Mapped[str]
    created_at: Mapped[str]


class ModelParent(Base):
    __tablename__ = "model_parent"
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"), primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("model.id"), primary_key=True)
    relation: Mapped[str]  # trained_from, merged_from


class Dataset(Base):
    __tablename__ = "dataset"
    id: Mapped[Id]
    hash: Mapped[Hash]
    name: Mapped[str]
    source: Mapped[str]
    n: Mapped[int]
    created_at: Mapped[str]


class Item(Base):
    __tablename__ = "item"
    id: Mapped[Id]
    hash: Mapped[Hash]
    messages: Mapped[list[Any]]
    reference: Mapped[Any] = mapped_column(Json, nullable=True)
    tags: Mapped[dict[str, Any]]


class DatasetItem(Base):
    __tablename__ = "dataset_item"
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    position: Mapped[int]
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), index=True)
    name: Mapped[str]
    split: Mapped[str]
    __table_args__ = (PrimaryKeyConstraint("dataset_id", "position"),)


class Run(Base):
    __tablename__ = "run"
    id: Mapped[Id]
    name: Mapped[str]
    plan_hash: Mapped[str] = mapped_column(index=True)
    status: Mapped[str]
    stage: Mapped[str]
    done: Mapped[int]
    total: Mapped[int | None]
    errors: Mapped[int]
    seed: Mapped[int]
    pid: Mapped[int]
    host: Mapped[str]
    started_at: Mapped[str]
    updated_at: Mapped[str]
    finished_at: Mapped[str | None]
    message: Mapped[str]
    plan: Mapped[dict[str, Any]]
    environment: Mapped[dict[str, Any]]
    __table_args__ = (CheckConstraint("status IN ('running', 'done', 'failed', 'stopped')", name="status"),)


class Response(Base):
    __tablename__ = "response"
    id: Mapped[Id]
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    request_key: Mapped[str]
    key_prefix: Mapped[int]  # the first 48 bits of request_key, see uq_response_identity
    sample: Mapped[int]
    turn: Mapped[int]  # of a conversation, from 1
    error_kind: Mapped[str | None]
    finish_reason: Mapped[str | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cached_tokens: Mapped[int | None]
    seconds: Mapped[float | None]
    cost: Mapped[float | None]
    attempts: Mapped[int]
    served_by: Mapped[str | None]
    created_at: Mapped[str]
    error: Mapped[str | None]
    warnings: Mapped[list[Any] | None]
    text: Mapped[str | None]
    reasoning: Mapped[str | None]
    tool_calls: Mapped[list[Any] | None]
    body: Mapped[str]
    logprobs: Mapped[list[Any] | None]


# One index for both the cache (by key alone) and the identity. 48 of the key's 256 bits tell any two requests to one
# model about one item apart, and keep the index, which grows at random places, a quarter of the size.
Index("uq_response_identity", Response.key_prefix, Response.model_id, Response.item_id, unique=True)


class RunResponse(Base):
    """In primary-key order, so that a page of one model on one dataset is one range of the tree."""

    __tablename__ = "run_response"
    run_id: Mapped[int]  # these three are checked once a batch, by run_cell's foreign keys
    model_id: Mapped[int]
    dataset_id: Mapped[int]
    response_id: Mapped[int] = mapped_column(ForeignKey("response.id"))
    failed: Mapped[bool]
    cached: Mapped[bool]
    __table_args__ = (
        PrimaryKeyConstraint("run_id", "model_id", "dataset_id", "response_id"),
        {"sqlite_with_rowid": False},
    )


# Partial indexes as plain DDL: `Index(postgresql_where=...)` would import that dialect, slowly, for every ledger.
for _index in (
    "ix_run_response_failed ON run_response (response_id)",
    "ix_run_response_failed_page ON run_response (run_id, model_id, dataset_id, response_id)",
):
    _statement = sa.DDL(f"CREATE INDEX {_index} WHERE failed")  # type: ignore[no-untyped-call]
    sa.event.listen(RunResponse.__table__, "after_create", _statement)


class RunCell(Base):
    """Roll-up of run_response and response. Tokens, cost and seconds are those the run itself paid: not the cached."""

    __tablename__ = "run_cell"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"))
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    n: Mapped[int]
    errors: Mapped[int]
    cached: Mapped[int]
    unpriced: Mapped[int]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cost: Mapped[float]
    seconds: Mapped[float]
    __table_args__ = (PrimaryKeyConstraint("run_id", "model_id", "dataset_id"), {"sqlite_with_rowid": False})


class Batch(Base):
    """A job at an endpoint's batch API: stored step by step, so that a later run goes on where this one was ended."""

    __tablename__ = "batch"
    id: Mapped[Id]
    token: Mapped[str] = mapped_column(Text, unique=True)  # ours, in the job's metadata: finds a job whose id was lost
    endpoint: Mapped[str]
    route: Mapped[str]
    file_id: Mapped[str | None]  # None until the requests are uploaded
    provider_id: Mapped[str | None]  # None until the endpoint has accepted the job
    status: Mapped[str]  # preparing, then the endpoint's own
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"))
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    n: Mapped[int]
    keys: Mapped[list[Any]]  # of requests whose results are still to be stored
    corrections: Mapped[dict[str, Any]]  # parameters that were renamed, or left out, as the endpoint refuses them
    created_at: Mapped[str]
    finished_at: Mapped[str | None]  # None while there are keys


class Annotator(Base):
    __tablename__ = "annotator"
    id: Mapped[Id]
    hash: Mapped[Hash]
    kind: Mapped[str]
    name: Mapped[str]
    definition: Mapped[dict[str, Any]]
    created_at: Mapped[str]
    __table_args__ = (CheckConstraint("kind IN ('human', 'judge', 'metric')", name="kind"),)


class Grade(Base):
    __tablename__ = "grade"
    id: Mapped[Id]
    response_id: Mapped[int] = mapped_column(ForeignKey("response.id"))
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"))
    criterion: Mapped[str]
    replicate: Mapped[int]
    value: Mapped[float | None]
    error: Mapped[str | None]
    detail: Mapped[dict[str, Any] | None]
    created_at: Mapped[str]
    __table_args__ = (
        UniqueConstraint("response_id", "annotator_id", "criterion", "replicate", name="uq_grade_identity"),
        CheckConstraint("(value IS NULL) = (error IS NOT NULL)", name="value_or_error"),
    )


class Battle(Base):
    __tablename__ = "battle"
    id: Mapped[Id]
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    model_a_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    model_b_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    response_a_id: Mapped[int | None] = mapped_column(ForeignKey("response.id"))
    response_b_id: Mapped[int | None] = mapped_column(ForeignKey("response.id"))
    turn: Mapped[int]
    __table_args__ = (CheckConstraint("model_a_id < model_b_id", name="ordered"),)


# NULLs are distinct in a unique index, hence coalesce.
Index(
    "uq_battle_identity",
    Battle.item_id,
    Battle.model_a_id,
    Battle.model_b_id,
    Battle.turn,
    sa.func.coalesce(Battle.response_a_id, sa.text("0")),
    sa.func.coalesce(Battle.response_b_id, sa.text("0")),
    unique=True,
)


class Verdict(Base):
    __tablename__ = "verdict"
    id: Mapped[Id]
    battle_id: Mapped[int] = mapped_column(ForeignKey("battle.id"))
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"))
    criterion: Mapped[str]
    order_shown: Mapped[str]
    replicate: Mapped[int]
    winner: Mapped[str | None]
    probability: Mapped[float | None]
    seconds: Mapped[float | None]
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"))
    response_id: Mapped[int | None] = mapped_column(ForeignKey("response.id"))
    created_at: Mapped[str]
    error: Mapped[str | None]
    rationale: Mapped[str | None]
    __table_args__ = (
        UniqueConstraint(
            "battle_id", "annotator_id", "criterion", "order_shown", "replicate", name="uq_verdict_identity"
        ),
        CheckConstraint("(winner IS NULL) = (error IS NOT NULL)", name="winner_or_error"),
        CheckConstraint("winner IN ('model_a', 'model_b', 'tie', 'both_bad')", name="winner"),
        CheckConstraint("order_shown IN ('ab', 'ba', '')", name="order_shown"),
    )


class Tally(Base):
    """Roll-up of verdict: outcomes of battles, both orders together; by pair first, as a board adds up neighbours."""

    __tablename__ = "tally"
    criterion: Mapped[str]
    model_a_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    model_b_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"))
    turn: Mapped[int]
    wins_a: Mapped[int]
    wins_b: Mapped[int]
    ties: Mapped[int]
    both_bad: Mapped[int]
    errors: Mapped[int]  # verdicts that failed, not battles
    __table_args__ = (
        PrimaryKeyConstraint("criterion", "model_a_id", "model_b_id", "annotator_id", "turn"),
        {"sqlite_with_rowid": False},
    )


class Score(Base):
    __tablename__ = "score"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"))
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    metric: Mapped[str]
    value: Mapped[float | None]
    stderr: Mapped[float | None]
    n: Mapped[int | None]  # None where an imported table does not say
    errors: Mapped[int]
    higher_is_better: Mapped[bool]
    __table_args__ = (PrimaryKeyConstraint("run_id", "model_id", "dataset_id", "metric"), {"sqlite_with_rowid": False})


class Slice(Base):
    __tablename__ = "slice"
    id: Mapped[Id]
    hash: Mapped[Hash]  # of definition and run
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"))
    name: Mapped[str]
    definition: Mapped[dict[str, Any]]
    support: Mapped[int]
    effect: Mapped[float | None]
    q_value: Mapped[float | None]
    created_at: Mapped[str]


class SliceItem(Base):
    __tablename__ = "slice_item"
    slice_id: Mapped[int] = mapped_column(ForeignKey("slice.id"), primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
    split: Mapped[str]  # train, held_out


class TrainingSet(Base):
    __tablename__ = "training_set"
    id: Mapped[Id]
    hash: Mapped[Hash]
    name: Mapped[str]
    slice_id: Mapped[int | None] = mapped_column(ForeignKey("slice.id"))
    recipe: Mapped[dict[str, Any]]
    n: Mapped[int]
    created_at: Mapped[str]


class TrainingRow(Base):
    __tablename__ = "training_row"
    training_set_id: Mapped[int] = mapped_column(ForeignKey("training_set.id"))
    position: Mapped[int]
    item_id: Mapped[int | None] = mapped_column(ForeignKey("item.id"))
    provenance: Mapped[dict[str, Any]]
    content: Mapped[dict[str, Any]]
    __table_args__ = (PrimaryKeyConstraint("training_set_id", "position"),)


class TrainingRun(Base):
    __tablename__ = "training_run"
    id: Mapped[Id]
    hash: Mapped[Hash]  # of parent, training set, method and config
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"))
    training_set_id: Mapped[int | None] = mapped_column(ForeignKey("training_set.id"))
    parent_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    model_id: Mapped[int | None] = mapped_column(ForeignKey("model.id"))  # the result
    method: Mapped[str]
    config: Mapped[dict[str, Any]]
    status: Mapped[str]
    checkpoint: Mapped[str | None]
    message: Mapped[str]
    created_at: Mapped[str]
    finished_at: Mapped[str | None]


class CurvePoint(Base):
    __tablename__ = "curve_point"
    training_run_id: Mapped[int] = mapped_column(ForeignKey("training_run.id"))
    metric: Mapped[str]
    step: Mapped[int]
    value: Mapped[float | None]
    __table_args__ = (PrimaryKeyConstraint("training_run_id", "metric", "step"), {"sqlite_with_rowid": False})


class Gate(Base):
    __tablename__ = "gate"
    id: Mapped[Id]
    hash: Mapped[Hash]  # of candidate, parent and evidence
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"))
    candidate_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    parent_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    decision: Mapped[str]  # accepted, refused
    evidence: Mapped[dict[str, Any]]
    created_at: Mapped[str]
