"""One attempt at a job: its process, its log, its signs of life."""

from __future__ import annotations

import os
import platform
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import NamedTuple

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.jobs import tasks
from evalkit.jobs.place import Traces, locked, send
from evalkit.store.database import now
from evalkit.store.ledger_app import JobRow, Jobs
from evalkit.store.schema import Run

BEAT_S = 1.0
POLL_S = 0.1
GRACE_S = 30.0
"""What a process gets to stop in, once interrupted."""
LOG_BYTES = 4_000_000
MESSAGE_CHARACTERS = 2000
HEAD = "--- attempt "


@dataclass(frozen=True, slots=True)
class Stop:
    """What a worker tells its attempts: stop, and do not wait for what stops slowly."""

    now: Event
    at_once: Event


REFUSED = 100
"""Exit code of a retrain whose gate refused: it did its work."""


class RunNow(NamedTuple):
    """A job's run as it stands."""

    id: int
    stage: str
    done: int
    total: int | None
    message: str


class Attempt:
    """A claimed job on its way. To be used by one thread, which holds the owner's lock.

    Args:
        owner: The open file of that lock.
        say: Tells the worker's user a sentence.
    """

    def __init__(self, jobs: Jobs, job: JobRow, traces: Traces, owner: int, stop: Stop, say: Callable[[str], None]):
        self.jobs, self.job, self.traces, self.owner, self.stop, self.say = jobs, job, traces, owner, stop, say
        self.env = tasks.environment(traces.place)
        self.secrets = tasks.secrets(self.env)
        self.lost = False  # to a cancel, or to another worker that took this one for dead
        self.run: RunNow | None = None
        self._beaten = 0.0
        self._clean = 0  # bytes of the log that hold no secret

    def work(self) -> str:
        """Runs the job to its end, or until it must stop.

        Returns:
            What became of it, in words.
        """
        try:
            child = self._start()
            return self._end(self._see_through(child) if child else None)
        except UserError as error:
            self.jobs.finish(self.job.id, self.job.attempts, "failed", str(error))
            return f"failed: {error}"

    def _start(self) -> subprocess.Popen[bytes] | None:
        """Starts the process, once no earlier one lives; None if it must not be started any more."""
        with self.traces.log.open("ab", buffering=0) as log:  # once closed here, the lock is the process's alone
            os.fchmod(log.fileno(), 0o600)
            self.jobs.set_job(self.job.id, log=str(self.traces.log))
            if not locked(log.fileno()):
                self._wait_for_earlier(log.fileno())
            if self.lost or self.stop.now.is_set():
                return None
            command = tasks.command_line(self.traces, self.job.kind, self.job.spec)
            shown = shlex.join(["evalkit", *command[4:]])
            log.write(f"{HEAD}{self.job.attempts}, {now()}: {shown}\n".encode())
            os.ftruncate(self.owner, 0)
            try:
                child = subprocess.Popen(
                    command,
                    cwd=self.job.spec["folder"],
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # the worker's own Ctrl-C is not the job's
                )
            except OSError as error:
                raise UserError(f"the job's process cannot be started: {error}") from error
            os.pwrite(self.owner, str(child.pid).encode(), 0)
        return child

    def _wait_for_earlier(self, log: int) -> None:
        """Lets the process of a worker that was ended do its work; the next one finds most of it done."""
        process = self.traces.process()
        self.say(f"Job {self.job.id} still runs, as process {process or '?'} of an earlier worker: waiting for that.")
        self._watch(process, lambda: locked(log))

    def _see_through(self, child: subprocess.Popen[bytes]) -> int:
        """Watches the process until it has ended; returns its exit code."""

        def has_ended() -> bool:  # and still keeps its number, so that what it left behind can be ended too
            return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

        self._watch(child.pid, has_ended)
        send(child.pid, signal.SIGKILL)
        self._beat(child.pid, last=True)
        return child.wait()

    def _watch(self, process: int | None, has_ended: Callable[[], bool]) -> None:
        """Gives signs of life until a process has ended; ends it if it must."""
        asked: float | None = None
        while not has_ended():
            if time.monotonic() - self._beaten >= BEAT_S:
                self._beat(process)
            if asked is None and (self.lost or self.stop.now.is_set()):
                send(process, signal.SIGINT)
                asked = time.monotonic()
            elif asked is not None and (time.monotonic() - asked > GRACE_S or self.stop.at_once.is_set()):
                send(process, signal.SIGKILL)
            time.sleep(POLL_S)

    def _beat(self, process: int | None, last: bool = False) -> None:
        self._beaten = time.monotonic()
        self._keep_log_clean()
        try:
            if process is not None:
                self.run = self._read_run(process) or self.run
            run = self.run
            self.lost = not self.jobs.heartbeat(
                self.job.id,
                self.job.attempts,
                progress=run.done if run else None,
                total=run.total if run else None,
                message=run.stage if run and not last else None,
                run_id=run.id if run else None,
                pid=process,
            )
        except UserError as error:  # a ledger that is locked for long is no reason to stop
            self.say(f"Job {self.job.id}: {error}")

    def _read_run(self, process: int) -> RunNow | None:
        its = sa.and_(Run.pid == process, Run.host == platform.node(), Run.updated_at >= (self.job.created_at))
        mine = its | (Run.id == self.job.run_id)  # an earlier attempt's may be complete, and is then left as it is
        columns = (Run.id, Run.stage, Run.done, Run.total, Run.message)
        query = sa.select(*columns).where(mine).order_by(Run.updated_at.desc()).limit(1)
        with self.jobs.ledger.engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else RunNow(*row)

    def _end(self, code: int | None) -> str:
        """Writes down how it ended; None and a stop of the worker's give it back to the queue."""
        job_id, attempt = self.job.id, self.job.attempts
        if self.lost:
            return "cancelled"
        if code in (0, REFUSED):
            message = "the gate refused the new model" if code == REFUSED else self.run.message if self.run else ""
            self.jobs.finish(job_id, attempt, "done", message)
            return "done"
        if self.stop.now.is_set():
            self.jobs.release(job_id, attempt, "stopped with its worker; goes on when a worker runs")
            return "stopped; it goes on when a worker runs"
        message = self._why(code)
        self.jobs.finish(job_id, attempt, "failed", message)
        return f"failed: {message}"

    def _why(self, code: int | None) -> str:
        """Returns why a job failed: its own sentence, the run's, or what its exit code says."""
        with Path(self.traces.log).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 20 * MESSAGE_CHARACTERS))
            said = file.read().decode("utf-8", "replace").rpartition("\n" + HEAD)[2]
        _, error, sentence = said.rpartition("\nError: ")
        if code is not None and code < 0:
            kind = signal.Signals(-code).name
            memory = ", perhaps as memory ran out" if -code == signal.SIGKILL else ""
            return f"its process was ended by {kind}{memory}; try again to go on from there."
        if code == 130:
            return "its process was interrupted from outside; try again to go on from there."
        if error:
            return sentence.strip()[:MESSAGE_CHARACTERS]
        return (self.run.message if self.run else "") or f"it ended with exit code {code}; its log may say why."

    def _keep_log_clean(self) -> None:
        """Blots secrets out of what was printed since, and drops the oldest half of a log that has grown too long."""
        longest = max(map(len, self.secrets), default=0)
        with Path(self.traces.log).open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, min(self._clean, size) - longest)
            file.seek(start)
            text = file.read(size - start)
            for secret in self.secrets:
                at = text.find(secret)
                while at >= 0:
                    file.seek(start + at)
                    file.write(b"*" * len(secret))
                    at = text.find(secret, at + len(secret))
            self._clean = size
            if size > LOG_BYTES:
                file.seek(size - LOG_BYTES // 2)
                rest = file.read().partition(b"\n")[2]
                file.seek(0)
                file.write(b"(the log's beginning was dropped)\n" + rest)
                file.truncate()
                self._clean = 0
