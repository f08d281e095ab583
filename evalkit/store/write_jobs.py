"""Writes of jobs and schedules.

A worker that claims a job is told its attempt. Whatever the worker writes of the job holds only while the job runs and
that attempt is the latest one: a worker that was taken for dead, or whose job was cancelled and started again, changes
nothing any more.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.store.database import now, storable
from evalkit.store.rows_app import JobRow, ScheduleRow
from evalkit.store.schema_app import Job, Schedule
from evalkit.store.writing import next_id

JOB = tuple(getattr(Job, name) for name in JobRow.__dataclass_fields__)
SCHEDULE = tuple(getattr(Schedule, name) for name in ScheduleRow.__dataclass_fields__)
IDLE: dict[str, Any] = {
    **{"status": "queued", "progress": 0, "total": None, "message": "", "task_id": None, "pid": None, "host": None},
    **{"started_at": None, "heartbeat_at": None, "finished_at": None},
}


def job(connection: sa.Connection, job_id: int) -> JobRow:
    """See `Jobs.job`."""
    row = connection.execute(sa.select(*JOB).where(Job.id == job_id)).first()
    if row is None:
        raise UserError(f"there is no job {job_id} in this ledger; type: evalkit jobs", code=2)
    return JobRow(*row)


def enqueue(
    connection: sa.Connection, kind: str, spec: Mapping[str, Any], name: str, schedule_id: int | None = None
) -> int:
    """See `Jobs.enqueue`."""
    job_id = next_id(connection, Job)
    values = {"id": job_id, "kind": kind, "name": storable(name), "spec": dict(spec), "schedule_id": schedule_id}
    nothing = {"run_id": None, "log": None, "attempts": 0}
    connection.execute(sa.insert(Job), {**IDLE, **values, **nothing, "created_at": now()})
    return job_id


def set_job(connection: sa.Connection, job_id: int, **changes: Any) -> None:
    """See `Jobs.set_job`."""
    if connection.execute(sa.update(Job).where(Job.id == job_id).values(**changes)).rowcount != 1:
        job(connection, job_id)


def claim(connection: sa.Connection, job_id: int | None) -> JobRow | None:
    """See `Jobs.claim`."""
    waiting = sa.select(Job.id).where(Job.status == "queued").order_by(Job.id).limit(1)
    if job_id is not None:
        waiting = waiting.where(Job.id == job_id)
    found = connection.scalar(waiting)
    if found is None:
        return None
    here = {"status": "running", "pid": os.getpid(), "host": platform.node(), "attempts": Job.attempts + 1}
    started = now()
    set_job(connection, found, **here, started_at=started, heartbeat_at=started)
    return job(connection, found)


def heartbeat(connection: sa.Connection, job_id: int, attempt: int, **changes: Any) -> bool:
    """See `Jobs.heartbeat`."""
    if "message" in changes:
        changes["message"] = storable(changes["message"])
    own = sa.update(Job).where(Job.id == job_id, Job.status == "running", Job.attempts == attempt)
    return connection.execute(own.values(**changes, heartbeat_at=now())).rowcount == 1


def finish(
    connection: sa.Connection, job_id: int, attempt: int, status: Literal["done", "failed"], message: str
) -> bool:
    """See `Jobs.finish`."""
    return heartbeat(connection, job_id, attempt, status=status, message=message, finished_at=now())


def release(connection: sa.Connection, job_id: int, attempt: int, message: str) -> bool:
    """See `Jobs.release`."""
    idle = {"status": "queued", "task_id": None, "pid": None, "host": None, "heartbeat_at": None}
    return heartbeat(connection, job_id, attempt, message=message) and bool(
        connection.execute(sa.update(Job).where(Job.id == job_id).values(**idle)).rowcount
    )


def cancel(connection: sa.Connection, job_id: int) -> JobRow:
    """See `Jobs.cancel`."""
    open_one = sa.update(Job).where(Job.id == job_id, Job.status.in_(("queued", "running")))
    connection.execute(open_one.values(status="cancelled", finished_at=now()))
    return job(connection, job_id)


def retry(connection: sa.Connection, job_id: int) -> JobRow:
    """See `Jobs.retry`."""
    found = job(connection, job_id)
    if found.status in ("queued", "running"):
        raise UserError(f"job {job_id} is {found.status}; cancel it first, or wait until it ends.", code=2)
    set_job(connection, job_id, **IDLE)
    return job(connection, job_id)


def mark_died(connection: sa.Connection, after_s: float) -> list[JobRow]:
    """See `Jobs.mark_died`."""
    limit = (datetime.now(UTC) - timedelta(seconds=after_s)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    silent = sa.select(*JOB).where(Job.status == "running", Job.heartbeat_at < limit).order_by(Job.id)
    found = [JobRow(*row) for row in connection.execute(silent)]
    for one in found:
        where = f"process {one.pid} on {one.host}"
        message = f"no sign of life from {where} since {one.heartbeat_at}; it was ended, or its machine stopped."
        set_job(connection, one.id, status="died", message=message, finished_at=now())
    return [job(connection, one.id) for one in found]


def add_schedule(
    connection: sa.Connection, name: str, cron: str, kind: str, spec: Mapping[str, Any], next_at: str | None
) -> int:
    """See `Jobs.add_schedule`."""
    if connection.scalar(sa.select(Schedule.id).where(Schedule.name == name)) is not None:
        raise UserError(f"there is a schedule {name!r} already; choose another name.", code=2)
    schedule_id = next_id(connection, Schedule)
    given = {"id": schedule_id, "name": storable(name), "cron": cron, "kind": kind, "spec": dict(spec)}
    more = {"enabled": True, "last_at": None, "next_at": next_at, "created_at": now()}
    connection.execute(sa.insert(Schedule), {**given, **more})
    return schedule_id


def set_schedule(connection: sa.Connection, schedule_id: int, **changes: Any) -> None:
    """See `Jobs.set_schedule`."""
    if connection.execute(sa.update(Schedule).where(Schedule.id == schedule_id).values(**changes)).rowcount != 1:
        raise UserError(f"there is no schedule {schedule_id} in this ledger.", code=2)


def due(connection: sa.Connection, at: str) -> list[ScheduleRow]:
    """See `Jobs.due`."""
    query = sa.select(*SCHEDULE).where(Schedule.enabled, Schedule.next_at <= at).order_by(Schedule.next_at)
    return [ScheduleRow(*row) for row in connection.execute(query)]


def fire(connection: sa.Connection, schedule: ScheduleRow, next_at: str | None) -> int | None:
    """See `Jobs.fire`."""
    same = sa.update(Schedule).where(Schedule.id == schedule.id, Schedule.enabled, Schedule.next_at == schedule.next_at)
    if connection.execute(same.values(last_at=now(), next_at=next_at)).rowcount != 1:
        return None
    return enqueue(connection, schedule.kind, schedule.spec, schedule.name, schedule.id)
