"""A ledger with jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit.store import Ledger
from evalkit.store.ledger_app import Jobs

GOOD = "models: [embedded/smollm2-135m-instruct]\nbenchmarks: [starter_arithmetic]\n"


@pytest.fixture
def store(tmp_path: Path) -> str:
    path = str(tmp_path / "jobs.db")
    Ledger.open(path).close()
    return path


@pytest.fixture
def jobs(store: str) -> Iterator[Jobs]:
    with Ledger.open(store) as ledger:
        yield Jobs(ledger)
