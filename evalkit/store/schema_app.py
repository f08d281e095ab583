"""The ledger's tables for people and their work: campaigns, invitations, members, ballots, jobs, schedules.

Beside `schema.py`, with the same Base. `docs/ledger.md` says what each one is for.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from evalkit.store.schema import Base, Hash, Id

__all__ = ["Ballot", "Base", "Campaign", "Invitation", "Job", "Member", "Schedule", "set_aside"]


class Campaign(Base):
    """What people are asked to vote on."""

    __tablename__ = "campaign"
    id: Mapped[Id]
    name: Mapped[str] = mapped_column(Text, unique=True)
    status: Mapped[str]
    mode: Mapped[str]  # queue: stored answers; free: the voter's own prompts
    criterion: Mapped[str]
    instructions: Mapped[str]
    settings: Mapped[dict[str, Any]]
    seed: Mapped[int]
    created_at: Mapped[str]
    closed_at: Mapped[str | None]
    __table_args__ = (
        CheckConstraint("status IN ('open', 'closed')", name="status"),
        CheckConstraint("mode IN ('queue', 'free')", name="mode"),
    )


class Invitation(Base):
    """A link that makes its reader a member. The link's token is stored as its SHA-256 only."""

    __tablename__ = "invitation"
    id: Mapped[Id]
    token_hash: Mapped[Hash]
    role: Mapped[str]
    campaign_id: Mapped[int | None] = mapped_column(ForeignKey("campaign.id"))
    note: Mapped[str]
    created_at: Mapped[str]
    expires_at: Mapped[str | None]
    revoked_at: Mapped[str | None]
    uses: Mapped[int]
    max_uses: Mapped[int | None]
    __table_args__ = (CheckConstraint("role IN ('voter', 'analyst', 'admin')", name="role"),)


class Member(Base):
    """A person who uses the dashboard, and the human annotator of that person's votes."""

    __tablename__ = "member"
    id: Mapped[Id]
    identity: Mapped[str] = mapped_column(Text, unique=True)  # local, invitation:ID:USE, or the sign-in service's
    name: Mapped[str]
    role: Mapped[str]
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"), unique=True)
    invitation_id: Mapped[int | None] = mapped_column(ForeignKey("invitation.id"))
    created_at: Mapped[str]
    set_aside_at: Mapped[str | None]
    set_aside_reason: Mapped[str | None]
    __table_args__ = (CheckConstraint("role IN ('voter', 'analyst', 'admin')", name="role"),)


class Ballot(Base):
    """One vote as it was cast. Never deleted; of an undone one only the verdict is taken away."""

    __tablename__ = "ballot"
    id: Mapped[Id]
    key: Mapped[str] = mapped_column(Text, unique=True)
    campaign_id: Mapped[int | None] = mapped_column(ForeignKey("campaign.id"))
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"))
    battle_id: Mapped[int] = mapped_column(ForeignKey("battle.id"))
    criterion: Mapped[str]
    order_shown: Mapped[str]
    replicate: Mapped[int]  # how often this annotator was asked before, within the campaign
    winner: Mapped[str | None]  # None: skipped
    seconds: Mapped[float | None]
    comment: Mapped[str | None]
    kind: Mapped[str]
    verdict_id: Mapped[int | None]  # what it counts as; None where skipped or undone
    created_at: Mapped[str]
    undone_at: Mapped[str | None]
    __table_args__ = (
        CheckConstraint("winner IN ('model_a', 'model_b', 'tie', 'both_bad')", name="winner"),
        CheckConstraint("order_shown IN ('ab', 'ba')", name="order_shown"),
        CheckConstraint("kind IN ('queue', 'repeat', 'gold', 'free')", name="kind"),
        CheckConstraint("verdict_id IS NULL OR (winner IS NOT NULL AND undone_at IS NULL)", name="verdict"),
        Index(None, "annotator_id", "id"),
        Index(None, "campaign_id", "battle_id"),
    )


# One ballot that stands for each question, even against a writer that is not ours; NULLs are distinct, hence coalesce.
QUESTION = "battle_id, annotator_id, criterion, replicate, coalesce(campaign_id, 0)"
_statement = sa.DDL(  # type: ignore[no-untyped-call]
    f"CREATE UNIQUE INDEX uq_ballot_question ON ballot ({QUESTION}) WHERE undone_at IS NULL"
)
sa.event.listen(Ballot.__table__, "after_create", _statement)


class Schedule(Base):
    """A job that is queued again and again."""

    __tablename__ = "schedule"
    id: Mapped[Id]
    name: Mapped[str] = mapped_column(Text, unique=True)
    cron: Mapped[str]
    kind: Mapped[str]
    spec: Mapped[dict[str, Any]]
    enabled: Mapped[bool]
    last_at: Mapped[str | None]
    next_at: Mapped[str | None]
    created_at: Mapped[str]


class Job(Base):
    """Work for `evalkit worker`."""

    __tablename__ = "job"
    id: Mapped[Id]
    kind: Mapped[str]
    name: Mapped[str]
    spec: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(index=True)
    progress: Mapped[int]
    total: Mapped[int | None]
    message: Mapped[str]
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"))
    task_id: Mapped[str | None]  # the queue's own
    pid: Mapped[int | None]
    host: Mapped[str | None]
    attempts: Mapped[int]  # also tells a worker whether the job is still its own
    log: Mapped[str | None]
    schedule_id: Mapped[int | None] = mapped_column(ForeignKey("schedule.id"))
    created_at: Mapped[str]
    started_at: Mapped[str | None]
    heartbeat_at: Mapped[str | None]
    finished_at: Mapped[str | None]
    __table_args__ = (
        CheckConstraint("status IN ('queued', 'running', 'done', 'failed', 'cancelled', 'died')", name="status"),
    )


def set_aside() -> sa.Select[int]:
    """Returns a query of the ids of annotators whose verdicts are set aside."""
    return sa.select(Member.annotator_id).where(Member.set_aside_at.is_not(None))
