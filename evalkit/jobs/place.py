"""Where jobs leave their files, and how a job's process is told from a dead one: by the locks on them.

Beside the ledger stands a folder; in it for each job `job-N.log`, which the job's process keeps locked as long as it
lives, and `job-N.owner`, which the worker that watches it keeps locked. The system lets go of a dead process's locks,
so that no process is ever taken for another one with the same number. Every worker holds `workers` as well, shared.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import UserError
from evalkit.models.base import sha256
from evalkit.models.embedded import cache_dir
from evalkit.store.database import parse_url


@dataclass(frozen=True, slots=True)
class Place:
    """The files of a ledger's jobs.

    Attributes:
        store: The ledger as a command line may name it: an absolute path, or a URL without its password.
        password: Of the URL.
        folder: Of the files; made by the worker.
    """

    store: str
    password: str | None
    folder: Path

    @classmethod
    def of(cls, store: str) -> Place:
        """Returns the place of a ledger's jobs: beside a file, in the user's cache for a database server.

        Raises:
            UserError: `store` is neither a file nor a database URL.
        """
        url = parse_url(store)
        if url.get_backend_name() == "sqlite":
            file = Path(str(url.database)).absolute()
            return cls(str(file), None, file.with_name(file.name + ".jobs"))
        bare = url._replace(password=None).render_as_string(hide_password=False)
        password = None if url.password is None else str(url.password)
        return cls(bare, password, cache_dir() / "jobs" / sha256(bare)[:16])

    @property
    def is_file(self) -> bool:
        """Whether the ledger is a file, whose folder all its workers share."""
        return "://" not in self.store

    def make(self) -> None:
        """Makes the folder, for its owner alone.

        Raises:
            UserError: It cannot be made.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"the jobs' folder {self.folder} cannot be made: {error.strerror}") from error

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Shows, while inside, that there is a worker."""
        fd = os.open(self.folder / "workers", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            yield
        finally:
            os.close(fd)

    def has_worker(self) -> bool:
        """Returns whether a worker is there that uses this folder."""
        return is_locked(self.folder / "workers")


@dataclass(frozen=True, slots=True)
class Traces:
    """The files of one job."""

    place: Place
    job_id: int

    @property
    def log(self) -> Path:
        """What the job printed, all attempts after each other; locked by the job's process."""
        return self.place.folder / f"job-{self.job_id}.log"

    @property
    def owner(self) -> Path:
        """Holds the number of the job's process; locked by the worker that watches it."""
        return self.place.folder / f"job-{self.job_id}.owner"

    @property
    def plan(self) -> Path:
        """A plan that was given as text."""
        return self.place.folder / f"job-{self.job_id}.yaml"

    def is_alive(self) -> bool:
        """Returns whether a process of the job lives, whoever started it."""
        return is_locked(self.log)

    def process(self) -> int | None:
        """Returns the number of the process started last; None if it was not written down."""
        try:
            return int(self.owner.read_text() or 0) or None
        except (FileNotFoundError, ValueError):
            return None


@contextmanager
def held(path: Path) -> Iterator[int | None]:
    """Holds a file's lock while inside; gives its descriptor, or None where somebody else holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield fd if locked(fd) else None
    finally:
        os.close(fd)


def locked(fd: int) -> bool:
    """Locks an open file, if nobody else has; returns whether it is locked now."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Returns whether somebody holds a file's lock; False if there is no such file."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not locked(fd)
    finally:
        os.close(fd)


def send(process: int | None, number: signal.Signals) -> None:
    """Sends a signal to a job's process and to all that it started; those that are gone have no use for it."""
    if process is not None:
        with suppress(ProcessLookupError):
            os.killpg(process, number)
