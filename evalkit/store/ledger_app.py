"""The ledger's writes for people and their work: campaigns, members and votes; jobs and schedules.

As in `Ledger`, every writing method is one transaction. Reads are in `evalkit.store.frames_app`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from evalkit.store import database, write_jobs, write_people
from evalkit.store.ledger import Ledger
from evalkit.store.rows_app import (
    BallotKind,
    BallotResult,
    BallotRow,
    JobRow,
    JobStatus,
    Member,
    Role,
    ScheduleRow,
)
from evalkit.store.write_people import LOCAL, sign_in_identity

__all__ = [
    "LOCAL",
    "BallotKind",
    "BallotResult",
    "BallotRow",
    "JobRow",
    "JobStatus",
    "Jobs",
    "Member",
    "People",
    "Role",
    "ScheduleRow",
    "sign_in_identity",
]


class People:
    """Campaigns, invitations, members and votes of a ledger. Safe to share between threads.

    Example:
        >>> people = People(ledger)
        >>> member = people.ensure_member("local", "me", "admin")
        >>> people.vote(BallotRow("k1", None, member.annotator_id, battle_id, "ab", "model_a")).status
        'stored'
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def add_campaign(
        self,
        name: str,
        *,
        mode: Literal["queue", "free"] = "queue",
        criterion: str = "overall",
        instructions: str = "",
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> int:
        """Opens a campaign.

        Args:
            instructions: Shown to voters.
            settings: datasets, models, votes_per_pair, gold_share, repeat_share, policy; plain JSON.

        Returns:
            Its id.

        Raises:
            UserError: The name is taken, empty or too long.
        """
        with self.ledger.write() as connection:
            return write_people.add_campaign(connection, name, mode, criterion, instructions, settings or {}, seed)

    def set_campaign(
        self,
        campaign_id: int,
        *,
        status: Literal["open", "closed"] | None = None,
        instructions: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Changes a campaign; None leaves a value as it is. A closed campaign takes no votes.

        Raises:
            UserError: There is no such campaign.
        """
        given = {"status": status, "instructions": instructions, "settings": None if settings is None else {**settings}}
        with self.ledger.write() as connection:
            write_people.set_campaign(connection, campaign_id, **{k: v for k, v in given.items() if v is not None})

    def invite(
        self,
        role: Role,
        campaign_id: int | None = None,
        expires_at: datetime | None = None,
        note: str = "",
        max_uses: int | None = 1,
    ) -> tuple[int, str]:
        """Makes an invitation.

        Args:
            campaign_id: That the person is asked to vote in.
            expires_at: With a time zone; None never expires.
            note: For whom it is.
            max_uses: How many people may join by it; None for any number.

        Returns:
            Its id, and its token (256 random bits), which is not stored and cannot be shown again.

        Raises:
            UserError: It would have expired already, or could not be used.
        """
        with self.ledger.write() as connection:
            return write_people.invite(connection, role, campaign_id, expires_at, note, max_uses)

    def invitation_of(self, token: str) -> int | None:
        """Returns the id of a token's invitation, whatever became of it."""
        with database.said_plainly(self.ledger.url), self.ledger.engine.connect() as connection:
            return write_people.invitation_of(connection, token)

    def check_invitation(self, token: str) -> Role:
        """Looks whether `redeem` would take a token, and changes nothing.

        Returns:
            The role that it gives.

        Raises:
            UserError: It is not known, expired, revoked, or used up.
        """
        with database.said_plainly(self.ledger.url), self.ledger.engine.connect() as connection:
            role: Role = write_people.check_invitation(connection, token)["role"]
            return role

    def redeem(self, token: str, name: str) -> Member:
        """Makes a new member by an invitation.

        Raises:
            UserError: It is not known, expired, revoked, or used up; or the name is empty or too long.
        """
        with self.ledger.write() as connection:
            return write_people.redeem(connection, token, name)

    def revoke(self, invitation_id: int) -> None:
        """Ends an invitation, and the access of those who joined by it; their votes stay.

        Raises:
            UserError: There is no such invitation.
        """
        with self.ledger.write() as connection:
            write_people.revoke(connection, invitation_id)

    def member_of(self, identity: str) -> Member | None:
        """Returns the member of this identity."""
        with database.said_plainly(self.ledger.url), self.ledger.engine.connect() as connection:
            return write_people.member_of(connection, identity)

    def ensure_member(self, identity: str, name: str, role: Role) -> Member:
        """Returns the member of this identity; makes it, and its human annotator, where there is none.

        Args:
            name, role: Of a new member; a known one keeps its own.

        Raises:
            UserError: The name is empty or too long.
        """
        known = self.member_of(identity)  # first without the writer's lock: this is asked at every page
        if known is not None:
            return known
        with self.ledger.write() as connection:
            return write_people.ensure_member(connection, identity, name, role)

    def has_admin(self) -> bool:
        """Whether anyone but whoever sits at this machine is admin."""
        with database.said_plainly(self.ledger.url), self.ledger.engine.connect() as connection:
            return write_people.has_admin(connection)

    def set_role(self, member_id: int, role: Role) -> None:
        """Changes what a member may do.

        Raises:
            UserError: There is no such member.
        """
        with self.ledger.write() as connection:
            write_people.set_role(connection, member_id, role)

    def set_aside(self, member_id: int, reason: str) -> None:
        """Leaves a member's votes, past and future, out of boards and exports; nothing is deleted.

        Raises:
            UserError: There is no such member, or no reason is given.
        """
        with self.ledger.write() as connection:
            write_people.set_aside(connection, member_id, reason)

    def take_back(self, member_id: int) -> None:
        """Lets the votes of a member who was set aside count again.

        Raises:
            UserError: There is no such member.
        """
        with self.ledger.write() as connection:
            write_people.take_back(connection, member_id)

    def vote(self, row: BallotRow) -> BallotResult:
        """Stores a ballot, its verdict, and the change of the tally, all or nothing.

        The same key again, and a second ballot of an annotator on the same battle, criterion and replicate of a
        campaign, change nothing, unless the first was undone. A skipped pair makes no verdict. A verdict that this
        annotator gave elsewhere on the same battle stays; the vote is then one more replicate.

        Raises:
            UserError: The campaign is closed, or there is no such campaign or battle.
            ValueError: The winner is none of those that a verdict can have.
        """
        with self.ledger.write() as connection:
            return write_people.vote(connection, row)

    def undo(self, ballot_key: str) -> BallotResult:
        """Takes a ballot's verdict out of the verdicts and the tally; the ballot stays, marked as undone.

        The caller sees to it that the ballot is the voter's own.

        Returns:
            Status "repeated" where it was undone before.

        Raises:
            UserError: There is no such ballot.
        """
        with self.ledger.write() as connection:
            return write_people.undo(connection, ballot_key)


class Jobs:
    """Jobs and schedules of a ledger. Safe to share between threads."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def job(self, job_id: int) -> JobRow:
        """Reads one job.

        Raises:
            UserError: There is no such job.
        """
        with database.said_plainly(self.ledger.url), self.ledger.engine.connect() as connection:
            return write_jobs.job(connection, job_id)

    def enqueue(self, kind: str, spec: Mapping[str, Any], name: str, schedule_id: int | None = None) -> int:
        """Adds a job that waits for a worker, and returns its id."""
        with self.ledger.write() as connection:
            return write_jobs.enqueue(connection, kind, spec, name, schedule_id)

    def set_job(self, job_id: int, *, task_id: str | None = None, log: str | None = None) -> None:
        """Sets a job's id in the queue, and where its log is; None leaves a value as it is.

        Raises:
            UserError: There is no such job.
        """
        given = {"task_id": task_id, "log": log}
        with self.ledger.write() as connection:
            write_jobs.set_job(connection, job_id, **{k: v for k, v in given.items() if v is not None})

    def claim(self, job_id: int | None = None) -> JobRow | None:
        """Takes a queued job for this process: this one, or the one that waits longest.

        Returns:
            None if it does not wait any more: another worker has it, or it was cancelled.
        """
        with self.ledger.write() as connection:
            return write_jobs.claim(connection, job_id)

    def heartbeat(
        self,
        job_id: int,
        attempt: int,
        *,
        progress: int | None = None,
        total: int | None = None,
        message: str | None = None,
        run_id: int | None = None,
        pid: int | None = None,
    ) -> bool:
        """Says that a job is alive and how far it is; None leaves a value as it is.

        Args:
            attempt: `attempts` of the job as it was claimed.
            pid: Of a process that now does the work for the worker.

        Returns:
            False if the job is not this worker's any more (cancelled, or taken for dead): it must stop.
        """
        given = {"progress": progress, "total": total, "message": message, "run_id": run_id, "pid": pid}
        with self.ledger.write() as connection:
            changes = {name: value for name, value in given.items() if value is not None}
            return write_jobs.heartbeat(connection, job_id, attempt, **changes)

    def finish(self, job_id: int, attempt: int, status: Literal["done", "failed"], message: str = "") -> bool:
        """Says how a job ended.

        Returns:
            False if the job was not this worker's any more; nothing was changed.
        """
        with self.ledger.write() as connection:
            return write_jobs.finish(connection, job_id, attempt, status, message)

    def release(self, job_id: int, attempt: int, message: str) -> bool:
        """Gives a running job back to the queue: its worker stops, or was ended.

        Args:
            attempt: As it was claimed.
            message: Why.

        Returns:
            False if the job had been taken over, or had ended; nothing was changed.
        """
        with self.ledger.write() as connection:
            return write_jobs.release(connection, job_id, attempt, message)

    def cancel(self, job_id: int) -> JobRow:
        """Cancels a job that waits or runs; a running one's worker learns of it at its next heartbeat.

        Returns:
            The job; with another status if it had ended before.

        Raises:
            UserError: There is no such job.
        """
        with self.ledger.write() as connection:
            return write_jobs.cancel(connection, job_id)

    def retry(self, job_id: int) -> JobRow:
        """Queues a job again that has ended, however it did.

        Raises:
            UserError: There is no such job, or it waits or runs.
        """
        with self.ledger.write() as connection:
            return write_jobs.retry(connection, job_id)

    def mark_died(self, after_s: float) -> list[JobRow]:
        """Marks running jobs as died that gave no sign of life for so many seconds, and returns them."""
        with self.ledger.write() as connection:
            return write_jobs.mark_died(connection, after_s)

    def add_schedule(self, name: str, cron: str, kind: str, spec: Mapping[str, Any], next_at: str | None) -> int:
        """Adds a schedule, and returns its id.

        Args:
            next_at: When it is due first: UTC, ISO 8601 as `database.now` writes it.

        Raises:
            UserError: The name is taken.
        """
        with self.ledger.write() as connection:
            return write_jobs.add_schedule(connection, name, cron, kind, spec, next_at)

    def set_schedule(self, schedule_id: int, *, enabled: bool | None = None, next_at: str | None = None) -> None:
        """Turns a schedule on or off, or sets when it is due; None leaves a value as it is.

        Raises:
            UserError: There is no such schedule.
        """
        given = {"enabled": enabled, "next_at": next_at}
        with self.ledger.write() as connection:
            write_jobs.set_schedule(connection, schedule_id, **{k: v for k, v in given.items() if v is not None})

    def due(self, at: str) -> list[ScheduleRow]:
        """Returns the enabled schedules that are due at a time (UTC, ISO 8601)."""
        with database.said_plainly(self.ledger.url), self.ledger.engine.connect() as connection:
            return write_jobs.due(connection, at)

    def fire(self, schedule: ScheduleRow, next_at: str | None) -> int | None:
        """Queues a due schedule's job and sets when it is due next.

        Returns:
            The job's id; None if another worker was quicker.
        """
        with self.ledger.write() as connection:
            return write_jobs.fire(connection, schedule, next_at)
