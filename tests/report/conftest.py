"""One sample ledger for all tests that only read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_ledger import make

from evalkit.store import Ledger


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ledger, int]]:
    ledger, run_id = make(tmp_path_factory.mktemp("report") / "sample.db", items=24)
    with ledger:
        yield ledger, run_id


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(str(tmp_path / "empty.db")) as empty:
        yield empty
