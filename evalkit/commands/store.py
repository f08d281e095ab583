"""Ledgers for the commands: opened to look into, or started for a run or an import."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.errors import UserError

if TYPE_CHECKING:
    from evalkit.store import Ledger


def opened(store: str) -> Ledger:
    """Opens an existing ledger to look into or add to.

    Raises:
        UserError: There is none.
    """
    from evalkit.store import Ledger

    if "://" not in store and not Path(store).exists():
        raise UserError(f"there is no ledger {store}; name it with --store FILE or set EVALKIT_STORE", code=2)
    return Ledger.open(store, create=False)


@contextmanager
def started(store: str) -> Iterator[Ledger]:
    """Opens a ledger, or starts one; a file that was started and got no row before an error is taken away again.

    Raises:
        UserError: It cannot be opened or made.
    """
    from evalkit.store import Ledger

    file = Path(store.removeprefix("sqlite:///"))
    fresh = "://" not in str(file) and not file.exists()
    with Ledger.open(store) as ledger:
        try:
            yield ledger
        except BaseException:
            if fresh and _is_empty(ledger):
                ledger.close()
                for path in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm"))):
                    path.unlink(missing_ok=True)
            raise


def run_id(ledger: Ledger, given: int | None) -> int:
    """Returns the run asked for; the last one if none is.

    Raises:
        UserError: There is no such run.
    """
    from evalkit.store import frames

    before = None if given is None else given + 1
    rows = frames.runs(ledger, limit=1, before=before)
    if rows.empty or (given is not None and int(rows.run_id[0]) != given):
        missing = "the ledger has no runs yet" if given is None else f"there is no run {given}; type: evalkit runs"
        raise UserError(missing, code=2)
    return int(rows.run_id[0])


def _is_empty(ledger: Ledger) -> bool:
    """Returns whether there is no row in a SQLite ledger, and no other process has it open that may still write one."""
    import sqlalchemy as sa

    from evalkit.store import schema

    try:
        with ledger.engine.connect() as connection:
            for table in schema.Base.metadata.sorted_tables:
                if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
                    return False
        ledger.close()
        own = ledger.engine.raw_connection()
        try:
            own.cursor().execute("PRAGMA busy_timeout=0")
            own.cursor().execute("PRAGMA journal_mode=DELETE")  # fails where anybody else has the file open
        finally:
            own.close()
    except (sqlite3.Error, UserError):
        return False  # the file stays; what went wrong before is what the user has to hear
    return True
