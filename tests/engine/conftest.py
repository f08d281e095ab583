"""A fresh ledger for each test, and no long waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_doubles import Bench

from evalkit.store import Ledger


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        yield Bench(ledger)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off and patience a hundred times shorter than in earnest."""
    import evalkit.engine.pool as pool
    from evalkit.engine.limits import backoff

    monkeypatch.setattr(pool, "backoff", lambda attempt, after: backoff(attempt, after) / 100)
    monkeypatch.setattr(pool, "DOWN_SECONDS_NEVER_UP", 0.05)
