"""Versions of the ledger: how an empty or older database becomes one of today.

A new version is a new module in `versions` (revision "0002", down_revision "0001") and a new `schema.VERSION`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa


def run(connection: sa.Connection) -> None:
    """Applies, within the connection's transaction, every version the database does not have yet."""
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
