"""Plain rows of people, ballots and jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evalkit.store.rows import Winner

Role = Literal["voter", "analyst", "admin"]
BallotKind = Literal["queue", "repeat", "gold", "free"]
JobStatus = Literal["queued", "running", "done", "failed", "cancelled", "died"]


@dataclass(frozen=True, slots=True)
class Member:
    """A person who uses the dashboard.

    Attributes:
        identity: `local`, `invitation:ID:USE`, or what the sign-in service calls the person. No secret.
        annotator_id: Of the person's votes.
        invitation_id: That the person came by.
        revoked: That invitation was revoked: the person may no longer enter.
        set_aside_at: Since when the person's votes do not count (UTC, ISO 8601); None if they do.
    """

    id: int
    identity: str
    name: str
    role: Role
    annotator_id: int
    invitation_id: int | None
    revoked: bool
    created_at: str
    set_aside_at: str | None
    set_aside_reason: str | None


@dataclass(frozen=True, slots=True)
class BallotRow:
    """A vote as it is cast.

    Attributes:
        key: Of this casting, made when the pair is shown: the same key again is the same vote. A vote after an undo
            needs a key of its own.
        order: Which answer was shown first (or left): ab or ba.
        winner: None if the voter skipped the pair.
        replicate: How often this annotator was asked about this battle before, within the campaign: 1 for a repeat.
        seconds: From showing the pair to the vote.
        campaign_id: None for a battle outside all campaigns.
    """

    key: str
    campaign_id: int | None
    annotator_id: int
    battle_id: int
    order: Literal["ab", "ba"]
    winner: Winner | None
    criterion: str = "overall"
    replicate: int = 0
    seconds: float | None = None
    comment: str | None = None
    kind: BallotKind = "queue"


@dataclass(frozen=True, slots=True)
class BallotResult:
    """What became of a vote.

    Attributes:
        status: stored; or repeated, and nothing was changed: the key is known, or another ballot of this annotator
            (another tab's) already answers the question.
        ballot_id, key, winner, undone: Of the ballot that stands in the ledger, which need not be the one cast.
    """

    status: Literal["stored", "repeated"]
    ballot_id: int
    key: str
    winner: Winner | None
    undone: bool = False


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as it stands in the ledger; times are UTC, ISO 8601."""

    id: int
    kind: str
    name: str
    spec: Mapping[str, Any]
    status: JobStatus
    progress: int
    total: int | None
    message: str
    run_id: int | None
    task_id: str | None
    pid: int | None
    host: str | None
    attempts: int
    log: str | None
    schedule_id: int | None
    created_at: str
    started_at: str | None
    heartbeat_at: str | None
    finished_at: str | None


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A job that is queued again and again; times are UTC, ISO 8601."""

    id: int
    name: str
    cron: str
    kind: str
    spec: Mapping[str, Any]
    enabled: bool
    last_at: str | None
    next_at: str | None
    created_at: str
