"""Opening a ledger's database, its transactions, and its faults as sentences."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import QueuePool

from evalkit.errors import UserError
from evalkit.store import schema

BUSY_TIMEOUT_S = 30
ADVISORY_LOCK = 0x6576616C  # PostgreSQL's number for "the ledger's writer", the same in every process


def now() -> str:
    """Returns the time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def storable(text: str) -> str:
    """Replaces by U+FFFD what no database can hold as text: NUL and halves of surrogate pairs."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def parse_url(url: str) -> sa.URL:
    """Reads a database URL; what has no scheme is the path of a SQLite file.

    Raises:
        UserError: Neither SQLite nor PostgreSQL, or SQLite without a file.
    """
    try:
        parsed = sa.make_url(url) if "://" in url else sa.URL.create("sqlite", database=url)
    except (ArgumentError, ValueError) as error:
        raise UserError(
            f"store: {url!r} is not a database URL; write a file name or postgresql://host/name."
        ) from error
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise UserError(f"store: {parsed.drivername!r} is not supported; a ledger lives in sqlite or postgresql.")
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UserError("store: a ledger needs a file, several processes share it; write sqlite:///ledger.db.")
    return parsed


def name(url: sa.URL) -> str:
    """Returns how messages name a database: the file, or the URL without its password."""
    return repr(str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string())


def connect(url: sa.URL, *, create: bool, readonly: bool) -> sa.Engine:
    """Makes the engine; SQLite with write-ahead log, busy timeout and foreign keys.

    Raises:
        UserError: The file or its folder is missing, or a driver is not installed.
    """
    if url.get_backend_name() == "sqlite":
        engine = _connect_sqlite(Path(str(url.database)), create=create, readonly=readonly)
    else:
        try:
            engine = sa.create_engine(url, pool_pre_ping=True)
        except (ImportError, NoSuchModuleError) as error:
            raise UserError("store: PostgreSQL needs a driver; type: pip install 'evalkit[postgres]'.") from error
        if readonly:
            engine = engine.execution_options(postgresql_readonly=True)
    where = name(url)

    @event.listens_for(engine, "handle_error")
    def say_plainly(context: sa.engine.ExceptionContext) -> None:
        # For reads, which use the engine as it is; the rest goes through `said_plainly`.
        sentence = _sentence(context.original_exception, where)
        if sentence:
            raise UserError(sentence) from context.original_exception

    return engine


def _connect_sqlite(path: Path, *, create: bool, readonly: bool) -> sa.Engine:
    if not path.parent.is_dir():
        raise UserError(f"store: the folder {str(path.parent)!r} does not exist; make it, or write another path.")
    if path.is_dir():
        raise UserError(f"store: {str(path)!r} is a folder; write the path of a file.")
    if not path.exists() and (readonly or not create):
        raise UserError(f"store: there is no ledger at {str(path)!r}; check the path, or start one with `evalkit run`.")
    uri = f"file:{quote(str(path.absolute()))}?mode={'ro' if readonly else 'rwc'}"
    unlogged = not path.with_name(path.name + "-wal").exists()
    if readonly and unlogged and not os.access(path.parent, os.W_OK):
        uri += "&immutable=1"  # without a log nobody writes, and SQLite could not make its lock files here

    def open_file() -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        connection.isolation_level = None  # we say BEGIN ourselves, below
        for pragma in ("foreign_keys=ON", "cache_size=-65536", "temp_store=MEMORY", "mmap_size=1073741824"):
            connection.execute(f"PRAGMA {pragma}")
        if not readonly:
            # NORMAL under a write-ahead log: a killed process loses no committed row, a power cut at most the
            # last transactions; the file stays whole in both. A longer log means fewer waits for the disk.
            for pragma in ("synchronous=NORMAL", "wal_autocheckpoint=8000"):
                connection.execute(f"PRAGMA {pragma}")
        return connection

    engine = sa.create_engine("sqlite://", creator=open_file, poolclass=QueuePool, pool_size=8, max_overflow=24)

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A write that starts as a read can fail half-way with "database is locked" in spite of the timeout.
        writes = connection.get_execution_options().get("ledger_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def use_log(engine: sa.Engine) -> None:
    """Turns on SQLite's write-ahead log, so that readers and the writer do not wait for each other.

    Not part of `connect`: it changes the file, which may prove not to be a ledger.
    """
    if engine.dialect.name == "sqlite":
        connection = engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA journal_mode=WAL")
        finally:
            connection.close()


@contextmanager
def transaction(engine: sa.Engine, lock: threading.Lock, where: str, *, batch: bool = False) -> Iterator[sa.Connection]:
    """One write transaction; all or nothing. One writer at a time, in this process and in all others.

    Args:
        batch: For writes through `writing.insert_tuples` and `update_tuples` alone: SQLite leaves foreign keys to
            these, which look up each value once a batch; its own check of every row takes a quarter of the time.

    Raises:
        UserError: The disk is full, the file read-only, another process holds the lock too long, ...
    """
    with lock, said_plainly(where), engine.connect() as connection:
        batch = batch and engine.dialect.name == "sqlite"
        connection = connection.execution_options(ledger_write=True, ledger_batch=batch)
        try:
            if batch:  # before BEGIN: within a transaction it would do nothing
                _foreign_keys(connection, on=False)
            with connection.begin():
                if engine.dialect.name == "postgresql":
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
                yield connection
        finally:
            if batch:
                _foreign_keys(connection, on=True)


def _foreign_keys(connection: sa.Connection, *, on: bool) -> None:
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA foreign_keys={'ON' if on else 'OFF'}")


@contextmanager
def said_plainly(where: str) -> Iterator[None]:
    """Turns the database's own faults into one sentence each; `where` names the database in it."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        sentence = _sentence(error.orig if isinstance(error, DBAPIError) else error, where)
        if sentence is None:
            raise
        raise UserError(sentence) from error


_FAULTS = (
    ("readonly", "store: {where} is read-only; nothing was written; make it writable or copy it elsewhere"),
    ("is full", "store: the disk that holds {where} is full; what was committed is safe; free space and run again"),
    ("disk I/O error", "store: the disk that holds {where} fails or is full; what was committed is safe"),
    ("locked", "store: another process has been writing to {where} for {seconds} s; wait for it, then run again"),
    ("unable to open", "store: {where} cannot be opened; check the path, its permissions and those of its folder"),
    ("not a database", "store: {where} is not a ledger: it is not even a SQLite database; write another path"),
    ("malformed", "store: {where} is damaged; `sqlite3 FILE .recover` may save its rows"),
    (
        "No space left",
        "store: the disk that holds {where} is full; what was committed is safe; free space and run again",
    ),
    ("does not exist", "store: {where}: {fault}"),
    ("authentication failed", "store: {where}: {fault}"),
    ("connection", "store: {where} does not answer: {fault}"),
    ("permission denied", "store: {where}: {fault}"),
    ("read-only transaction", "store: {where} was opened for reading only"),
)


def _sentence(fault: BaseException | None, where: str) -> str | None:
    """Returns what to tell the user; None for a fault of ours: a broken constraint or a wrong statement."""
    kinds = {kind.__name__ for kind in type(fault).__mro__}
    first = " ".join(str(fault).split())[:300]
    if "IntegrityError" in kinds or ("ProgrammingError" in kinds and "permission denied" not in first):
        return None
    for sign, sentence in _FAULTS:
        if sign in first:
            return sentence.format(where=where, seconds=BUSY_TIMEOUT_S, fault=first).rstrip(".") + "."
    return None


def found_version(connection: sa.Connection, where: str) -> str | None:
    """Returns a ledger's version, or None where the database is empty.

    Raises:
        UserError: The database holds something else.
    """
    tables = sa.inspect(connection).get_table_names()
    if not tables:
        return None
    found = None
    if "alembic_version" in tables and "run_response" in tables:
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if found is None:
        raise UserError(f"store: {where} is a database, but not an evalkit ledger; write another path.")
    return str(found)


def check_version(found: str, where: str) -> None:
    """Checks that a ledger has the version this program knows.

    Raises:
        UserError: It is older or newer.
    """
    if found < schema.VERSION:
        raise UserError(
            f"store: {where} is a ledger of the older version {found}, this evalkit needs {schema.VERSION}; "
            f"type: evalkit db upgrade {where}"
        )
    if found > schema.VERSION:
        raise UserError(
            f"store: {where} is a ledger of the newer version {found}, this evalkit knows {schema.VERSION}; "
            "type: pip install -U evalkit"
        )
