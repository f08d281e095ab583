"""Versions of the ledger: how an empty or older database becomes one of today.

A new version is a new module in `versions` (revision "0003", down_revision "0002") and a new `schema.VERSION`.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.store import database, schema, schema_training


def upgrade(url: str) -> tuple[str, str]:
    """Brings an older ledger to this program's version, in one transaction.

    Returns:
        The version before and after; the same where there was nothing to do.

    Raises:
        UserError: No ledger there, a newer one, or a fault of the disk or database; nothing was changed.
    """
    parsed = database.parse_url(url)
    where = database.name(parsed)
    engine = database.connect(parsed, create=False, readonly=False)
    try:
        with database.said_plainly(where), engine.connect() as connection:
            found = database.found_version(connection, where)
        if found is None:
            raise UserError(f"store: {where} is empty; start a ledger with `evalkit run`.")
        if found > schema.VERSION:
            database.check_version(found, where)
        if found < schema.VERSION:
            apply(engine, where)
        return found, schema.VERSION
    finally:
        engine.dispose()


def create(engine: sa.Engine, where: str) -> None:
    """Makes the tables of today's version in an empty database, in one transaction.

    Without Alembic, whose import takes longer than the tables; that both make the same ones is tested.
    """
    with database.transaction(engine, threading.Lock(), where) as connection:
        if database.found_version(connection, where) is None:  # else another process was quicker
            schema_training.Base.metadata.create_all(connection, checkfirst=False)
            column = "version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)"
            connection.exec_driver_sql(f"CREATE TABLE alembic_version ({column})")
            connection.exec_driver_sql(f"INSERT INTO alembic_version (version_num) VALUES ('{schema.VERSION}')")


def apply(engine: sa.Engine, where: str) -> None:
    """Applies, in one transaction, every version the database does not have yet; in an empty one all of them."""
    with database.transaction(engine, threading.Lock(), where) as connection:
        _run(connection)


def _run(connection: sa.Connection) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)

    def steps(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs("head", revision)

    with EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(connection=connection)
        environment.run_migrations()
