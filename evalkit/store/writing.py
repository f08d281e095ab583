"""What all writers share: upserts in both dialects, ids, and lookups in chunks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

import sqlalchemy as sa

from evalkit.store.schema import Base

CHUNK = 500
T = TypeVar("T")


def chunks(values: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """Cuts a sequence for `IN (...)`: databases limit the number of parameters, and few lengths mean few plans."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def insert(connection: sa.Connection, table: type[Base]) -> Any:
    """Returns an INSERT that knows ON CONFLICT in this connection's dialect."""
    if connection.dialect.name == "postgresql":  # imported where it is used: it takes a tenth of a second
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)


def insert_new(connection: sa.Connection, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Inserts rows; those whose identity is there already are left as they are."""
    if rows:
        connection.execute(insert(connection, table).on_conflict_do_nothing(), rows)


def insert_tuples(
    connection: sa.Connection,
    table: type[Base],
    names: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    conflict: str = "DO NOTHING",
) -> int:
    """Does what `insert_new` does, for the hottest tables: past SQLAlchemy's work per row, which takes most of it.

    JSON values come as text.

    Args:
        conflict: What follows ON CONFLICT.

    Returns:
        How many rows were written.
    """
    if not rows:
        return 0
    _check_references(connection, table, names, rows)
    # A column of NULLs is left out: Python's driver takes far longer to bind None than a number.
    given = [i for i in range(len(names)) if rows[0][i] is not None or any(row[i] is not None for row in rows)]
    if len(given) < len(names):
        names, rows = [names[i] for i in given], list(map(itemgetter(*given), rows))
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    marks = ", ".join([mark] * len(names))
    statement = f"INSERT INTO {table.__tablename__} ({', '.join(names)}) VALUES ({marks}) ON CONFLICT {conflict}"
    return connection.exec_driver_sql(statement, list(rows)).rowcount


def update_tuples(
    connection: sa.Connection, table: type[Base], names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Sets all named columns of rows by id, which is the first name; values as for `insert_tuples`."""
    if rows:
        _check_references(connection, table, names, rows)
        mark = "?" if connection.dialect.name == "sqlite" else "%s"
        changes = ", ".join(f"{name} = {mark}" for name in names[1:])
        statement = f"UPDATE {table.__tablename__} SET {changes} WHERE {names[0]} = {mark}"
        connection.exec_driver_sql(statement, [(*row[1:], row[0]) for row in rows])


def _check_references(
    connection: sa.Connection, table: type[Base], names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Checks foreign keys where SQLite does not (see `database.transaction`), each value once."""
    if not connection.get_execution_options().get("ledger_batch", False):
        return
    driver: Any = connection.connection.driver_connection
    for place, name in enumerate(names):
        for key in table.__table__.c[name].foreign_keys:
            values = json.dumps(list({row[place] for row in rows} - {None}))
            query = (
                f"SELECT value FROM json_each(?) WHERE value NOT IN (SELECT id FROM {key.column.table.name}) LIMIT 1"
            )
            missing = driver.execute(query, (values,)).fetchone()
            if missing is not None:
                where = f"{table.__tablename__}.{name} = {missing[0]}"
                fault = sqlite3.IntegrityError(f"FOREIGN KEY constraint failed: {where}")
                raise sa.exc.IntegrityError(query, None, fault)


def add_up(connection: sa.Connection, table: type[Base], changes: Mapping[tuple[Any, ...], Sequence[float]]) -> None:
    """Adds to the counters of a roll-up's rows, making rows that are not there.

    Args:
        changes: By primary key, what to add to each of the other columns.
    """
    name, columns = table.__tablename__, table.__table__.c
    keys, counters = ([c.name for c in columns if c.primary_key == is_key] for is_key in (True, False))
    # Always in one order, so that two writers of a database without our lock could not deadlock.
    rows = [(*key, *change) for key, change in sorted(changes.items()) if any(change)]
    sums = ", ".join(f"{counter} = {name}.{counter} + excluded.{counter}" for counter in counters)
    insert_tuples(connection, table, [*keys, *counters], rows, f"({', '.join(keys)}) DO UPDATE SET {sums}")


def next_id(connection: sa.Connection, table: type[Base]) -> int:
    """Returns the first free id; it stays free until the transaction ends, for there is one writer."""
    return int(connection.exec_driver_sql(f"SELECT max(id) FROM {table.__tablename__}").scalar() or 0) + 1


def ids_by_hash(connection: sa.Connection, table: type[Base], hashes: Sequence[str]) -> dict[str, int]:
    """Looks up which content hashes a table has."""
    columns = table.__table__.c
    found: dict[str, int] = {}
    for chunk in chunks(hashes):
        query = sa.select(columns.hash, columns.id).where(columns.hash.in_(chunk))
        found.update((row[0], row[1]) for row in connection.execute(query))
    return found
