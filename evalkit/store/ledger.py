"""The ledger: every write of the project goes through here, one writer at a time, a transaction for each call."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal, Self

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.models.base import ModelSettings
from evalkit.store import database, migrations, write_batches, write_judgments, write_responses, write_runs
from evalkit.store.rows import (
    AnnotatorKind,
    BatchRow,
    BattleRow,
    GradeRow,
    Item,
    ResponseRow,
    ScoreRow,
    StoredResponse,
    VerdictRow,
)
from evalkit.store.schema import Run

BATCH = 200
"""From so many rows on, SQLite's foreign keys are checked once a batch (see `database.transaction`)."""


class Ledger:
    """One database that holds what models said and what anyone thought of it.

    Safe to share between threads; several processes may open the same ledger. Every writing method is one
    transaction: when it returns, the rows are committed; when it raises, nothing of the call was written.
    Reads are in `evalkit.store.frames`.

    Attributes:
        url: Where it is; passwords hidden.
        engine: The SQLAlchemy engine, for reads.

    Example:
        >>> with Ledger.open("ledger.db") as ledger:
        ...     run_id = ledger.start_run("mine", {}, seed=0, environment={})
    """

    def __init__(self, engine: sa.Engine, url: str, where: str) -> None:
        self.engine = engine
        self.url = url
        self._where = where
        self._lock = threading.Lock()

    @classmethod
    def open(cls, url: str, *, create: bool = True, readonly: bool = False) -> Ledger:
        """Opens a ledger, and makes it first where there is none.

        Args:
            url: A file name, `sqlite:///file.db`, or `postgresql://user@host/name`.
            create: Make a missing ledger; otherwise its absence is an error.
            readonly: Never write, not even a lock file where the folder is read-only.

        Raises:
            UserError: The folder or ledger is missing, the database is not a ledger, is older or newer than
                this program, or cannot be reached.
        """
        parsed = database.parse_url(url)
        where = database.name(parsed)
        engine = database.connect(parsed, create=create, readonly=readonly)
        try:
            with database.said_plainly(where), engine.connect() as connection:
                found = database.found_version(connection, where)
            if found is not None:
                database.check_version(found, where)
            elif readonly or not create:
                raise UserError(f"store: {where} is empty; start a ledger with `evalkit run`.")
            with database.said_plainly(where):
                if not readonly:
                    database.use_log(engine)
                if found is None:
                    migrations.create(engine, where)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, parsed.render_as_string(), where)

    def close(self) -> None:
        """Closes all connections; the ledger may not be used after."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self) -> AbstractContextManager[sa.Connection]:
        """Returns a write transaction, for what has no method here."""
        return database.transaction(self.engine, self._lock, self._where)

    def _write_batch(self, rows: Sequence[Any]) -> AbstractContextManager[sa.Connection]:
        # For fewer rows the change of mode takes longer than it saves.
        return database.transaction(self.engine, self._lock, self._where, batch=len(rows) >= BATCH)

    def add_models(self, models: Sequence[ModelSettings]) -> list[int]:
        """Adds contestants; a known one keeps its id and takes a new label.

        Returns:
            Ids in the order given.
        """
        with self.write() as connection:
            return write_runs.add_models(connection, models)

    def add_dataset(self, name: str, items: Sequence[Item], source: str = "") -> tuple[int, list[int]]:
        """Adds a dataset with its items; the same name with the same items in the same order is the same dataset.

        Returns:
            The dataset's id, and item ids in the order given (equal items have equal ids).
        """
        with self.write() as connection:
            return write_runs.add_dataset(connection, name, items, source)

    def find_run(self, name: str, plan: Mapping[str, Any], *, seed: int) -> tuple[int, str] | None:
        """Returns the run that `start_run` would resume, and its status; None if there is none."""
        with self.engine.connect() as connection:
            return write_runs.find_run(connection, name, plan, seed)

    def run_plan(self, run_id: int) -> Mapping[str, Any]:
        """Returns the plan that a run was started with.

        Raises:
            UserError: There is no such run.
        """
        with self.engine.connect() as connection:
            plan: Mapping[str, Any] | None = connection.scalar(sa.select(Run.plan).where(Run.id == run_id))
        if plan is None:
            raise UserError(f"there is no run {run_id}; type: evalkit runs", code=2)
        return plan

    def start_run(
        self,
        name: str,
        plan: Mapping[str, Any],
        *,
        seed: int,
        environment: Mapping[str, Any],
        resume: bool = True,
    ) -> int:
        """Starts a run, or resumes the latest one of the same name, plan and seed, whatever became of it.

        Args:
            environment: Versions and machine, kept from the run's first start.
            resume: False always starts a new run.
        """
        with self.write() as connection:
            return write_runs.start_run(connection, name, plan, seed, environment, resume)

    def update_run(
        self,
        run_id: int,
        *,
        stage: str | None = None,
        done: int | None = None,
        total: int | None = None,
        errors: int | None = None,
    ) -> None:
        """Sets a run's progress; None leaves a value as it is.

        Raises:
            KeyError: There is no such run.
        """
        given = {"stage": stage, "done": done, "total": total, "errors": errors}
        with self.write() as connection:
            write_runs.update_run(connection, run_id, **{k: v for k, v in given.items() if v is not None})

    def finish_run(self, run_id: int, status: Literal["done", "failed", "stopped"], message: str = "") -> None:
        """Says how a run ended.

        Raises:
            KeyError: There is no such run.
        """
        with self.write() as connection:
            write_runs.update_run(connection, run_id, status=status, message=message, finished_at=database.now())

    def find_responses(self, keys: Sequence[str]) -> dict[str, StoredResponse]:
        """Finds successful answers by request key: the cache.

        Returns:
            By key; a key without an answer is absent.
        """
        with database.said_plainly(self._where), self.engine.connect() as connection:
            return write_responses.find_responses(connection, keys)

    def add_responses(self, run_id: int, rows: Sequence[ResponseRow]) -> list[int]:
        """Adds answers and failures, links them to the run, and keeps `run_cell` exact.

        Identity is (model, item, request key). A stored failure is replaced in place, its attempts and cost added
        up; a stored answer stays. Rows with 0 attempts are copies of a cached answer: nothing was paid.

        Returns:
            Response ids in the order given.
        """
        with self._write_batch(rows) as connection:
            return write_responses.add_responses(connection, run_id, rows)

    def link_responses(self, run_id: int, rows: Sequence[tuple[int, int, int]]) -> None:
        """Links cached answers to a run; linking twice counts once.

        Args:
            rows: (response id, model id, dataset id).
        """
        with self._write_batch(rows) as connection:
            write_responses.link_responses(connection, run_id, rows)

    def add_batch(
        self,
        run_id: int,
        model_id: int,
        endpoint: str,
        route: str,
        keys: Sequence[str],
        corrections: Mapping[str, str | None],
    ) -> BatchRow:
        """Adds a job that is about to be submitted to an endpoint's batch API."""
        with self.write() as connection:
            return write_batches.add_batch(connection, run_id, model_id, endpoint, route, keys, corrections)

    def open_batches(self, endpoint: str) -> list[BatchRow]:
        """Returns the jobs at an endpoint whose results have not all been stored, the oldest first."""
        with database.said_plainly(self._where), self.engine.connect() as connection:
            return write_batches.open_batches(connection, endpoint)

    def update_batch(
        self,
        batch_id: int,
        *,
        file_id: str | None = None,
        provider_id: str | None = None,
        status: str | None = None,
        keys: Sequence[str] | None = None,
    ) -> None:
        """Sets what became of a job; None leaves a value as it is. A job without keys is finished."""
        given = {"file_id": file_id, "provider_id": provider_id, "status": status, "keys": keys}
        with self.write() as connection:
            write_batches.update_batch(connection, batch_id, **{k: v for k, v in given.items() if v is not None})

    def unanswered(self, keys: Sequence[str]) -> list[str]:
        """Returns those of these request keys that have no answer in the ledger."""
        with database.said_plainly(self._where), self.engine.connect() as connection:
            return write_batches.unanswered(connection, keys)

    def add_annotator(self, kind: AnnotatorKind, name: str, definition: Mapping[str, Any]) -> int:
        """Adds an annotator; the same kind, name and definition is the same annotator."""
        with self.write() as connection:
            return write_runs.add_annotator(connection, kind, name, definition)

    def add_grades(self, rows: Sequence[GradeRow], *, replace: bool = False) -> None:
        """Adds grades; a repeated identity is a no-op, but a stored error is replaced.

        A value that is no finite number is stored as an error.

        Args:
            rows: Grades.
            replace: Also replaces stored values: for a jury's, which follow from those of its members.

        Raises:
            ValueError: Neither or both of value and error.
        """
        with self._write_batch(rows) as connection:
            write_judgments.add_grades(connection, rows, replace)

    def add_battles(self, rows: Sequence[BattleRow]) -> list[int]:
        """Adds battles; stored with the lower model id as model_a, whichever way round they are given.

        Returns:
            Ids in the order given.

        Raises:
            ValueError: A model against itself.
        """
        with self._write_batch(rows) as connection:
            return write_judgments.add_battles(connection, rows)

    def add_verdicts(self, run_id: int | None, rows: Sequence[VerdictRow], *, replace: bool = False) -> int:
        """Adds verdicts and keeps `tally` exact; a repeated identity is a no-op, but a stored error is replaced.

        Args:
            run_id: That they were given in; None for imported ones.
            rows: Verdicts.
            replace: Also replaces stored winners: for a jury's, which follow from those of its members.

        Returns:
            How many were added or replaced.

        Raises:
            ValueError: Neither or both of winner and error, or a probability outside 0..1.
        """
        with self._write_batch(rows) as connection:
            return write_judgments.add_verdicts(connection, run_id, rows, replace)

    def set_scores(self, run_id: int, rows: Sequence[ScoreRow]) -> None:
        """Sets cells of a run's score table, replacing what they held."""
        with self.write() as connection:
            write_runs.set_scores(connection, run_id, rows)
