"""Jobs and schedules: who may write what when, and that no job is started twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.store import Ledger, frames_app
from evalkit.store.database import now
from evalkit.store.ledger_app import Jobs
from evalkit.store.schema_app import Job


@pytest.fixture
def jobs(ledger: Ledger) -> Jobs:
    return Jobs(ledger)


def test_job_from_queue_to_done(jobs: Jobs) -> None:
    first, second = jobs.enqueue("plan", {"path": "p.yaml"}, "mine"), jobs.enqueue("judge", {}, "later")
    jobs.set_job(first, task_id="t1", log="logs/1.txt")
    claimed = jobs.claim()
    assert claimed is not None and (claimed.id, claimed.status, claimed.attempts) == (first, "running", 1)
    assert claimed.spec == {"path": "p.yaml"} and claimed.log == "logs/1.txt" and claimed.task_id == "t1"
    assert jobs.heartbeat(first, 1, progress=3, total=10, message="judging\0")
    shown = jobs.job(first)
    assert (shown.progress, shown.total, shown.message) == (3, 10, "judging\ufffd")
    assert jobs.finish(first, 1, "done", "all well")
    assert not jobs.heartbeat(first, 1, progress=4) and not jobs.finish(first, 1, "failed", "late")
    assert jobs.job(first).status == "done" and jobs.job(first).finished_at is not None
    assert jobs.claim(first) is None
    assert jobs.claim(second) is not None
    assert list(frames_app.jobs(jobs.ledger)["job_id"]) == [second, first]
    assert list(frames_app.jobs(jobs.ledger, status=["running"])["job_id"]) == [second]
    assert list(frames_app.jobs(jobs.ledger, before=second)["job_id"]) == [first]


def test_cancelled_job_is_taken_from_its_worker(jobs: Jobs) -> None:
    waiting, running = jobs.enqueue("plan", {}, "a"), jobs.enqueue("plan", {}, "b")
    assert jobs.cancel(waiting).status == "cancelled"
    assert jobs.claim(waiting) is None
    assert jobs.claim(running) is not None
    assert jobs.cancel(running).status == "cancelled"
    assert not jobs.heartbeat(running, 1) and not jobs.finish(running, 1, "done")
    assert jobs.retry(running).status == "queued"
    again = jobs.claim(running)
    assert again is not None and again.attempts == 2
    assert not jobs.heartbeat(running, 1, message="from the first worker, which is still there")
    assert jobs.finish(running, 2, "done")
    assert jobs.cancel(running).status == "done"


def test_silent_job_has_died_and_can_be_retried(jobs: Jobs) -> None:
    silent, alive = jobs.enqueue("plan", {}, "a"), jobs.enqueue("plan", {}, "b")
    jobs.claim(silent)
    jobs.claim(alive)
    with jobs.ledger.write() as connection:
        connection.execute(sa.update(Job).where(Job.id == silent).values(heartbeat_at="2026-01-01T03:00:00.000Z"))
    (died,) = jobs.mark_died(60)
    assert died.id == silent and died.status == "died"
    assert "no sign of life from process" in died.message and died.finished_at is not None
    assert not jobs.finish(silent, 1, "done")
    assert jobs.mark_died(60) == [] and jobs.job(alive).status == "running"
    back = jobs.retry(silent)
    assert (back.status, back.message, back.pid, back.finished_at) == ("queued", "", None, None)


def test_job_that_waits_or_runs_is_not_retried(jobs: Jobs) -> None:
    number = jobs.enqueue("plan", {}, "a")
    with pytest.raises(UserError, match=f"job {number} is queued; cancel it first"):
        jobs.retry(number)
    jobs.claim(number)
    with pytest.raises(UserError, match="is running"):
        jobs.retry(number)
    for call in (jobs.job, jobs.cancel, jobs.retry, lambda number: jobs.set_job(number, log="x")):
        with pytest.raises(UserError, match="there is no job 99"):
            call(99)


def test_every_job_is_claimed_once(jobs: Jobs) -> None:
    numbers = [jobs.enqueue("plan", {}, str(i)) for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        claimed = [job.id for job in pool.map(lambda _: jobs.claim(), range(30)) if job is not None]
    assert sorted(claimed) == numbers


def test_schedule_fires_once_and_not_while_off(jobs: Jobs) -> None:
    number = jobs.add_schedule("nightly", "0 3 * * *", "plan", {"path": "p.yaml"}, "2026-01-01T03:00:00.000Z")
    with pytest.raises(UserError, match="a schedule 'nightly' already"):
        jobs.add_schedule("nightly", "0 4 * * *", "plan", {}, None)
    assert jobs.due("2026-01-01T02:59:59.999Z") == []
    (due,) = jobs.due(now())
    with ThreadPoolExecutor(2) as pool:  # two workers see it at once
        fired = [job for job in pool.map(lambda _: jobs.fire(due, "2026-01-02T03:00:00.000Z"), range(2)) if job]
    assert len(fired) == 1
    job = jobs.job(fired[0])
    assert (job.kind, job.name, job.spec, job.schedule_id) == ("plan", "nightly", {"path": "p.yaml"}, number)
    (due,) = jobs.due(now())
    jobs.set_schedule(number, enabled=False)
    assert jobs.due(now()) == [] and jobs.fire(due, None) is None
    (listed,) = frames_app.schedules(jobs.ledger).to_dict("records")
    assert not listed["enabled"] and listed["next_at"] == "2026-01-02T03:00:00.000Z" and listed["last_at"]
    with pytest.raises(UserError, match="no schedule 99"):
        jobs.set_schedule(99, enabled=True)
