"""What all writers share: upserts in both dialects, ids, and lookups in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    marks = ", ".join([mark] * len(names))
    statement = f"INSERT INTO {table.__tablename__} ({', '.join(names)}) VALUES ({marks}) ON CONFLICT {conflict}"
    return connection.exec_driver_sql(statement, list(rows)).rowcount


def update_tuples(
    connection: sa.Connection, table: type[Base], names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Sets all named columns of rows by id, which is the first name; values as for `insert_tuples`."""
    if rows:
        mark = "?" if connection.dialect.name == "sqlite" else "%s"
        changes = ", ".join(f"{name} = {mark}" for name in names[1:])
        statement = f"UPDATE {table.__tablename__} SET {changes} WHERE {names[0]} = {mark}"
        connection.exec_driver_sql(statement, [(*row[1:], row[0]) for row in rows])


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
