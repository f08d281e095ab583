"""Reads of people and their work as DataFrames: campaigns, members, invitations, ballots, jobs, schedules."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from evalkit.store.ledger import Ledger
from evalkit.store.reading import frame, model_names
from evalkit.store.rows_app import JobStatus
from evalkit.store.schema import Battle
from evalkit.store.schema_app import Ballot, Campaign, Invitation, Job, Member, Schedule

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ballots", "campaigns", "invitations", "jobs", "members", "schedules"]

NUMBERS = ("seconds", "total", "progress", "median_seconds", "max_uses")


def _counted(which: sa.ColumnElement[bool]) -> Any:
    return sa.func.coalesce(sa.cast(sa.func.sum(sa.case((which, 1), else_=0)), sa.BigInteger), 0)


STANDS = Ballot.undone_at.is_(None)
VOTES = _counted(STANDS & Ballot.winner.is_not(None))
SKIPPED = _counted(STANDS & Ballot.winner.is_(None))
UNDONE = _counted(~STANDS)


def campaigns(ledger: Ledger) -> pd.DataFrame:
    """Lists campaigns, newest first.

    Returns:
        campaign_id, name, status (open, closed), mode (queue, free), criterion, instructions, settings, seed,
        voters (with votes), votes (neither skipped nor undone), skipped, undone, created_at, closed_at.
    """
    head = ("id", "name", "status", "mode", "criterion", "instructions", "settings", "seed")
    voters = sa.func.count(sa.distinct(sa.case((STANDS & Ballot.winner.is_not(None), Ballot.annotator_id))))
    counts = (voters, VOTES, SKIPPED, UNDONE)
    ballots_of = sa.select(Ballot.campaign_id, *(c.label(f"n{i}") for i, c in enumerate(counts)))
    counted = ballots_of.group_by(Ballot.campaign_id).subquery()
    sums = [sa.func.coalesce(counted.c[f"n{i}"], 0) for i in range(len(counts))]
    columns = (*(getattr(Campaign, name) for name in head), *sums, Campaign.created_at, Campaign.closed_at)
    query = sa.select(*columns).outerjoin(counted, counted.c.campaign_id == Campaign.id).order_by(Campaign.id.desc())
    names = ("campaign_id", *head[1:], "voters", "votes", "skipped", "undone", "created_at", "closed_at")
    with ledger.engine.connect() as connection:
        return frame(connection.execute(query), names)


def invitations(ledger: Ledger) -> pd.DataFrame:
    """Lists invitations, newest first: invitation_id, role, campaign_id, campaign, note, status (open, used up,
    expired, revoked), uses, max_uses (NaN: any number), created_at, expires_at, revoked_at."""
    from evalkit.store.database import now

    columns = (
        *(Invitation.id, Invitation.role, Invitation.campaign_id, Campaign.name, Invitation.note, Invitation.uses),
        *(Invitation.max_uses, Invitation.created_at, Invitation.expires_at, Invitation.revoked_at),
    )
    status = sa.case(
        (Invitation.revoked_at.is_not(None), "revoked"),
        (Invitation.expires_at <= now(), "expired"),
        (Invitation.uses >= Invitation.max_uses, "used up"),
        else_="open",
    )
    query = sa.select(*columns[:5], status, *columns[5:]).outerjoin(Campaign, Campaign.id == Invitation.campaign_id)
    names = ("invitation_id", "role", "campaign_id", "campaign", "note", "status", "uses", "max_uses")
    with ledger.engine.connect() as connection:
        rows = connection.execute(query.order_by(Invitation.id.desc()))
        return frame(rows, (*names, "created_at", "expires_at", "revoked_at"), NUMBERS)


def members(ledger: Ledger) -> pd.DataFrame:
    """Lists members, how they vote, and what is doubtful about it (`evalkit.stats.voter_checks` over all ballots).

    Returns:
        member_id, name, role, identity, annotator_id, invitation_id, votes (neither skipped nor undone), skipped,
        undone, median_seconds (of votes; NaN without), agreement (share of the other members' votes on the same
        battles that are alike, 0..1; NaN without), agreement_n (votes that it is over), consistency (share of repeated
        pairs with the same vote again; NaN without), repeats, doubts (sentences, joined by "; "; empty if none),
        created_at, last_at (of the newest ballot), set_aside_at, set_aside_reason.
    """
    head = ("id", "name", "role", "identity", "annotator_id", "invitation_id")
    tail = ("created_at", "last_at", "set_aside_at", "set_aside_reason")
    sums = (VOTES, SKIPPED, UNDONE, sa.func.max(Ballot.created_at))
    counted = sa.select(Ballot.annotator_id, *(c.label(f"n{i}") for i, c in enumerate(sums)))
    counts = counted.group_by(Ballot.annotator_id).subquery()
    columns = (*(getattr(Member, name) for name in head), *(sa.func.coalesce(counts.c[f"n{i}"], 0) for i in range(3)))
    more = (Member.created_at, counts.c.n3, Member.set_aside_at, Member.set_aside_reason)
    query = sa.select(*columns, *more).outerjoin(counts, counts.c.annotator_id == Member.annotator_id)
    with ledger.engine.connect() as connection:
        found = frame(
            connection.execute(query.order_by(Member.id)),
            ("member_id", *head[1:], "votes", "skipped", "undone", *tail),
        )
        checks = _checks(connection)
    shown = ("median_seconds", "agreement", "agreement_n", "consistency", "repeats", "doubts")
    nothing = (float("nan"), float("nan"), 0, float("nan"), 0, "")
    for place, name in enumerate(shown):
        found[name] = [checks.get(who, nothing)[place] for who in found["annotator_id"]]
    return found[["member_id", *head[1:], "votes", "skipped", "undone", *shown, *tail]]


def _checks(connection: sa.Connection) -> dict[int, tuple[Any, ...]]:
    """By annotator: median seconds, agreement and its n, consistency and its n, doubts."""
    from evalkit.stats import voter_checks

    columns = (
        *(Ballot.annotator_id, Ballot.battle_id, Battle.model_a_id, Battle.model_b_id, Ballot.winner),
        *(Ballot.order_shown, Ballot.seconds, Ballot.replicate, Ballot.criterion),
    )
    query = sa.select(*columns).join(Battle, Battle.id == Ballot.battle_id)
    rows = connection.execute(query.where(STANDS, Ballot.winner.is_not(None)).order_by(Ballot.id)).all()
    names = ("annotator", "battle", "model_a", "model_b", "winner", "order", "seconds", "replicate")
    votes = frame(rows, (*names, "criterion"), NUMBERS)
    votes["battle"] = votes.groupby(["battle", "criterion"]).ngroup()  # votes on another criterion are no contradiction
    return {
        check.annotator: (
            *(check.median_seconds, check.agreement.value, check.agreement.n),
            *(check.consistency.value, check.consistency.n, "; ".join(check.doubts)),
        )
        for check in voter_checks(votes)
    }


def ballots(
    ledger: Ledger,
    annotator_id: int | None = None,
    *,
    campaign_id: int | None = None,
    after: int | None = None,
    limit: int | None = 100,
    newest_first: bool = False,
) -> pd.DataFrame:
    """Reads ballots, undone and skipped ones included.

    Args:
        annotator_id: Whose; None for everyone's.
        after: The last ballot_id of the page before.

    Returns:
        ballot_id, key, campaign_id, annotator_id, battle_id, item_id, turn, model_a, model_b, criterion, order,
        replicate, kind, winner (missing if skipped), seconds, comment, created_at, undone_at.
    """
    columns = (
        *(Ballot.id, Ballot.key, Ballot.campaign_id, Ballot.annotator_id, Ballot.battle_id, Battle.item_id),
        *(Battle.turn, Battle.model_a_id, Battle.model_b_id, Ballot.criterion, Ballot.order_shown, Ballot.replicate),
        *(Ballot.kind, Ballot.winner, Ballot.seconds, Ballot.comment, Ballot.created_at, Ballot.undone_at),
    )
    query = sa.select(*columns).join(Battle, Battle.id == Ballot.battle_id).limit(limit)
    query = query.order_by(Ballot.id.desc() if newest_first else Ballot.id)
    if after is not None:
        query = query.where(Ballot.id < after if newest_first else Ballot.id > after)
    if annotator_id is not None:
        query = query.where(Ballot.annotator_id == annotator_id)
    if campaign_id is not None:
        query = query.where(Ballot.campaign_id == campaign_id)
    with ledger.engine.connect() as connection:
        names = model_names(connection)
        rows = [(*row[:7], names[row[7]], names[row[8]], *row[9:]) for row in connection.execute(query)]
    what = ("ballot_id", "key", "campaign_id", "annotator_id", "battle_id", "item_id", "turn", "model_a", "model_b")
    how = ("criterion", "order", "replicate", "kind", "winner", "seconds", "comment", "created_at", "undone_at")
    return frame(rows, (*what, *how), NUMBERS)


def jobs(
    ledger: Ledger, *, status: Collection[JobStatus] | None = None, limit: int = 100, before: int | None = None
) -> pd.DataFrame:
    """Lists jobs, newest first.

    Args:
        before: A job id; lists the jobs queued earlier.

    Returns:
        job_id, kind, name, status (queued, running, done, failed, cancelled, died), progress, total (NaN if
        unknown), message, run_id, schedule_id, attempts, pid, host, log, created_at, started_at, heartbeat_at,
        finished_at, spec.
    """
    columns = ("id", "kind", "name", "status", "progress", "total", "message", "run_id", "schedule_id", "attempts")
    more = ("pid", "host", "log", "created_at", "started_at", "heartbeat_at", "finished_at", "spec")
    query = sa.select(*(getattr(Job, name) for name in (*columns, *more))).order_by(Job.id.desc()).limit(limit)
    if status is not None:
        query = query.where(Job.status.in_(status))
    if before is not None:
        query = query.where(Job.id < before)
    with ledger.engine.connect() as connection:
        return frame(connection.execute(query), ("job_id", *columns[1:], *more), NUMBERS)


def schedules(ledger: Ledger) -> pd.DataFrame:
    """Lists schedules by name: schedule_id, name, cron, kind, spec, enabled, last_at, next_at, created_at."""
    columns = ("id", "name", "cron", "kind", "spec", "enabled", "last_at", "next_at", "created_at")
    query = sa.select(*(getattr(Schedule, name) for name in columns)).order_by(Schedule.name)
    with ledger.engine.connect() as connection:
        return frame(connection.execute(query), ("schedule_id", *columns[1:]))
