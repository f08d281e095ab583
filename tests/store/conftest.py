"""A ledger in SQLite and one in PostgreSQL, for every test that asks for `ledger`."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from store_world import World

from evalkit.store import Ledger


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


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Gives the URL of a fresh, empty place for a ledger at each call."""
    count = itertools.count()
    if request.param == "sqlite":
        return lambda: str(tmp_path / f"ledger{next(count)}.db")
    server = request.getfixturevalue("postgres")
    prefix = f"t{abs(hash(request.node.nodeid)):x}"

    def fresh() -> str:
        schema = f"{prefix}_{next(count)}"  # a schema each: making a database takes a second
        admin = sa.create_engine(server)
        with admin.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        admin.dispose()
        return f"{server}&options=-csearch_path%3D{schema}"

    return fresh


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with Ledger.open(url) as opened:
        yield opened


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Ledger]:
    """For what does not depend on the database."""
    with Ledger.open(str(tmp_path / "only.db")) as opened:
        yield opened


@pytest.fixture
def world(ledger: Ledger) -> World:
    return World(ledger)
