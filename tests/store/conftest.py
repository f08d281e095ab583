"""A ledger in SQLite and one in PostgreSQL, for every test that asks for `ledger`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres_server import fresh
from postgres_server import postgres as postgres
from store_world import World

from evalkit.store import Ledger


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Gives the URL of a fresh, empty place for a ledger at each call."""
    count = itertools.count()
    if request.param == "sqlite":
        return lambda: str(tmp_path / f"ledger{next(count)}.db")
    server = request.getfixturevalue("postgres")
    prefix = f"t{abs(hash(request.node.nodeid)):x}"

    return lambda: fresh(server, f"{prefix}_{next(count)}")


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
