"""A throw-away PostgreSQL server: a fixture, for the conftest.py of any room that imports it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Starts a throw-away server on a Unix socket; gives its URL."""
    pytest.importorskip("psycopg", reason="no PostgreSQL driver: pip install 'evalkit[postgres]'")
    initdb, pg_ctl = shutil.which("initdb"), shutil.which("pg_ctl")
    if not (initdb and pg_ctl):
        pytest.skip("no PostgreSQL server: initdb and pg_ctl are not on PATH")
    folder = Path(tempfile.mkdtemp(prefix="evalkit-pg-"))
    as_user: dict[str, Any] = {}
    if os.getuid() == 0:  # initdb refuses root
        user = next((name for name in ("postgres", "nobody") if _exists(name)), None)
        if user is None:
            pytest.skip("initdb refuses root, and there is no user postgres or nobody")
        shutil.chown(folder, user)
        as_user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
    log = folder / "log"

    def run(*command: str) -> None:
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
        subprocess.run(command, check=True, timeout=120, **quiet, **as_user)

    data = str(folder / "data")
    run(initdb, "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
    options = f"-c listen_addresses='' -k {folder} -c fsync=off -c full_page_writes=off"
    run(pg_ctl, "-D", data, "-w", "-l", str(log), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        run(pg_ctl, "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _exists(user: str) -> bool:
    return any(entry.pw_name == user for entry in pwd.getpwall())


def fresh(server: str, schema: str) -> str:
    """Makes an empty place for a ledger, a schema: making a database takes a second. Returns its URL."""
    admin = sa.create_engine(server)
    with admin.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    admin.dispose()
    return f"{server}&options=-csearch_path%3D{schema}"
