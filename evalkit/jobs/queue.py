"""What users of jobs call: the app and `evalkit jobs`. All of it is rows of the ledger, which workers look at."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.jobs import tasks
from evalkit.jobs.place import Place
from evalkit.jobs.schedule import next_times, stamp
from evalkit.store import Ledger
from evalkit.store.ledger_app import JobRow, Jobs

TAIL_LINES = 200
TAIL_BYTES = 200_000
NAME_CHARACTERS = 200


def submit(store: str, kind: str, spec: Mapping[str, Any], name: str = "") -> int:
    """Queues a job, and returns its id.

    Args:
        store: The ledger.
        kind: plan, judge, probe or calibrate.
        spec: See `tasks.checked`.
        name: What lists call it; by default the plan's, or the kind.

    Raises:
        UserError: There is no such ledger, or the job is wrong, in the words of the command it would run.
    """
    checked = tasks.checked(kind, spec)
    with _jobs(store) as jobs:
        return jobs.enqueue(kind, checked, _name(kind, checked, name))


def add_schedule(store: str, kind: str, spec: Mapping[str, Any], name: str, cron: str) -> int:
    """Has a job queued whenever a cron expression (UTC) matches, and returns the schedule's id.

    Raises:
        UserError: As `submit`; or the expression is wrong, or the name is taken.
    """
    first = next_times(cron, datetime.now(UTC), 1)[0]
    checked = tasks.checked(kind, spec)
    with _jobs(store) as jobs:
        return jobs.add_schedule(_name(kind, checked, name), cron, kind, checked, stamp(first))


def enable_schedule(store: str, schedule_id: int, cron: str, enabled: bool) -> None:
    """Turns a schedule on or off; what it missed while it was off is not made up for.

    Raises:
        UserError: There is no such schedule.
    """
    first = stamp(next_times(cron, datetime.now(UTC), 1)[0])
    with _jobs(store) as jobs:
        jobs.set_schedule(schedule_id, enabled=enabled, next_at=first)


def cancel(store: str, job_id: int) -> JobRow:
    """Cancels a job. Its worker interrupts its process as Ctrl-C would, and kills it if it has not stopped soon.

    Raises:
        UserError: There is no such job.
    """
    with _jobs(store) as jobs:
        return jobs.cancel(job_id)


def retry(store: str, job_id: int) -> JobRow:
    """Queues a job again that has ended; it goes on where it was, nothing is paid for twice.

    Raises:
        UserError: There is no such job, or it waits or runs.
    """
    with _jobs(store) as jobs:
        return jobs.retry(job_id)


def logs(store: str, job_id: int, tail: int = TAIL_LINES) -> str:
    """Returns the last lines of what a job printed; "" if it has not run yet.

    Raises:
        UserError: There is no such job, or its log is on another machine.
    """
    with _jobs(store) as jobs:
        row = jobs.job(job_id)
    if row.log is None:
        return ""
    try:
        with Path(row.log).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError as error:
        elsewhere = f" on {row.host}" if row.host != platform.node() else ""
        raise UserError(f"job {job_id}: its log is not here any more: {row.log}{elsewhere}") from error
    lines = text.splitlines()
    return "\n".join(lines[-tail:])


def has_worker(store: str) -> bool | None:
    """Returns whether a worker runs for a ledger; None if one may run on another machine."""
    place = Place.of(store)
    return place.has_worker() or (False if place.is_file else None)


def seconds_left(progress: int, total: int | None, started_at: str | None, now: datetime) -> float | None:
    """Estimates how long what is known of a job still takes, at its pace so far; None if that says nothing yet."""
    if not progress or not total or started_at is None or progress > total:
        return None
    gone = (now - datetime.fromisoformat(started_at)).total_seconds()
    return gone / progress * (total - progress)


def _name(kind: str, spec: Mapping[str, Any], name: str) -> str:
    name = " ".join(name.split()) or (Path(spec["path"]).stem if "path" in spec else kind)
    if len(name) > NAME_CHARACTERS:
        raise UserError(f"name: {len(name)} characters are too many; at most {NAME_CHARACTERS}", code=2)
    return name


@contextmanager
def _jobs(store: str) -> Iterator[Jobs]:
    with Ledger.open(store, create=False) as ledger:
        yield Jobs(ledger)
