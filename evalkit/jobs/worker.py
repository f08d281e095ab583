"""The worker: threads of huey's that each watch one job's process, and a round that keeps the queue in order."""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError
from evalkit.jobs.attempt import GRACE_S, Attempt, Stop
from evalkit.jobs.broker import faults, open_queue
from evalkit.jobs.place import Place, Traces, held, send
from evalkit.jobs.schedule import next_times, stamp
from evalkit.store import Ledger, frames_app
from evalkit.store.ledger_app import Jobs, JobStatus

if TYPE_CHECKING:
    import pandas as pd

ROUND_S = 1.0
SILENT_S = 120.0
"""After so long without a sign of life a job of another machine counts as died."""
JOBS = 10_000
RECENT = 20


class Worker:
    """Does a ledger's jobs until it is stopped.

    Several may serve one ledger, on several machines too if it is a database server's. A job belongs to the worker
    whose claim the ledger took, and a job's process keeps its log locked, so that no two ever run.

    Args:
        store: The ledger.
        workers: How many jobs run at once.
        redis: URL of the queue's server.
        say: Tells the user a sentence.
    """

    def __init__(self, store: str, workers: int = 1, redis: str | None = None, *, say: Callable[[str], None]) -> None:
        self.place = Place.of(store)
        self.ledger = Ledger.open(store)
        self.jobs = Jobs(self.ledger)
        self.place.make()
        self.queue = open_queue(self.place, store, redis)
        self.stop = Stop(threading.Event(), threading.Event())
        self.workers, self.say = workers, say
        self.task = self.queue.task(name="job")(self.work_on)
        self._faults: tuple[type[Exception], ...] = (UserError, OSError, *faults(self.place, redis))
        self._interrupted: dict[int, float] = {}
        self._last_round = time.time()

    def run(self) -> None:
        """Works until SIGINT or SIGTERM; then stops the jobs' processes as Ctrl-C would, and gives the jobs back.

        A second signal does not wait for them. To be called in the main thread.
        """
        consumer = self.queue.create_consumer(workers=self.workers, periodic=False, max_delay=ROUND_S)
        at_once = "one job" if self.workers == 1 else f"{self.workers} jobs"
        with self.place.at_work(), self.ledger:
            self._listen()  # before any job starts, whose process would ignore SIGINT if this one did (in a script's &)
            consumer.start()
            self._listen()  # huey has put its own in place, which would leave processes behind
            self.say(f"Worker {os.getpid()} of {self.ledger.url}: {at_once} at a time. Ctrl-C stops it.")
            try:
                while not self.stop.now.wait(ROUND_S):
                    self.keep_order()
                    consumer.check_worker_health()
            finally:
                self.stop.now.set()
                consumer.stop(graceful=True)
        self.say("The worker has stopped.")

    def _listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, *_: Any) -> None:
        if self.stop.now.is_set():
            self.stop.at_once.set()
        self.stop.now.set()

    def work_on(self, job_id: int) -> None:
        """Does a job, unless somebody else has it or it does not wait any more."""
        traces = Traces(self.place, job_id)
        with held(traces.owner) as owner:  # before the claim: a claimed job without this lock has lost its worker
            if owner is None or self.stop.now.is_set():
                return
            job = self.jobs.claim(job_id)
            if job is None:
                return
            name = f"Job {job.id} ({job.name})"
            self.say(f"{name}: started" + (f", attempt {job.attempts}." if job.attempts > 1 else "."))
            since = time.monotonic()
            became = Attempt(self.jobs, job, traces, owner, self.stop, self.say).work()
            self.say(f"{name}: {became.rstrip('.')}, after {time.monotonic() - since:.0f} s.")

    def keep_order(self) -> None:
        """One round: due schedules, jobs without a worker, jobs that the queue does not know."""
        try:
            self._fire_schedules()
            self._take_over()
            self._end_strays()
            self._feed()
        except self._faults as error:  # the next round tries again
            self.say(f"Warning: {error}")

    def _rows(self, *status: JobStatus) -> pd.DataFrame:
        return frames_app.jobs(self.ledger, status=status, limit=JOBS)

    def _fire_schedules(self) -> None:
        now = datetime.now(UTC)
        for schedule in self.jobs.due(stamp(now)):
            following = stamp(next_times(schedule.cron, now, 1)[0])
            if (self._rows("queued", "running")["schedule_id"] == schedule.id).any():
                self.jobs.set_schedule(schedule.id, next_at=following)
                self.say(f"Schedule {schedule.name}: its last job has not ended yet, so it is left out this time.")
                continue
            job_id = self.jobs.fire(schedule, following)
            if job_id is not None:
                self.say(f"Schedule {schedule.name}: job {job_id} is due.")

    def _take_over(self) -> None:
        running = self._rows("running")
        for row in running[running["host"] == platform.node()].to_dict("records"):
            with held(Traces(self.place, int(row["job_id"])).owner) as owner:
                if owner is not None:
                    why = f"its worker was ended after {row['heartbeat_at']}; it goes on from there"
                    if self.jobs.release(int(row["job_id"]), int(row["attempts"]), why):
                        self.say(f"Job {row['job_id']} ({row['name']}): {why}.")
        late, self._last_round = time.time() - self._last_round, time.time()
        if late < SILENT_S / 2:  # else this machine slept, and so did the signs of life of its jobs
            for job in self.jobs.mark_died(SILENT_S):
                self.say(f"Job {job.id} ({job.name}): died: {job.message}")

    def _end_strays(self) -> None:
        """Stops processes of jobs that were cancelled while no worker ran."""
        cancelled = self._rows("cancelled").head(RECENT)
        for job_id in map(int, cancelled.loc[cancelled["host"] == platform.node(), "job_id"]):
            traces = Traces(self.place, job_id)
            if not traces.is_alive():
                self._interrupted.pop(job_id, None)
                continue
            with held(traces.owner) as owner:
                if owner is not None:
                    since = self._interrupted.setdefault(job_id, time.monotonic())
                    slow = time.monotonic() - since > GRACE_S
                    send(traces.process(), signal.SIGKILL if slow else signal.SIGINT)

    def _feed(self) -> None:
        queued = self._rows("queued")
        known = {task.args[0] for task in self.queue.pending()} if len(queued) else set()
        for job_id in sorted(set(map(int, queued["job_id"])) - known):
            task = self.task.s(job_id)
            self.queue.enqueue(task)
            self.jobs.set_job(job_id, task_id=task.id)
