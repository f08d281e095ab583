"""Ledgers that the pages read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit.store import Ledger


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the pages look for their ledger: nothing is there yet, and nothing of another one is remembered."""
    import streamlit as st

    path = tmp_path / "ledger.db"
    monkeypatch.setenv("EVALKIT_STORE", str(path))
    monkeypatch.delenv("EVALKIT_TEAM", raising=False)
    st.cache_resource.clear()
    st.cache_data.clear()
    yield path
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def ledger(store: Path) -> Iterator[Ledger]:
    """A ledger without a row."""
    with Ledger.open(str(store)) as made:
        yield made


@pytest.fixture
def sample(store: Path) -> Iterator[tuple[Ledger, int]]:
    """The ledger of `sample_ledger`, and its run."""
    import sample_ledger

    ledger, run_id = sample_ledger.make(store, items=20)
    with ledger:
        yield ledger, run_id


@pytest.fixture(scope="session")
def _board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import board_world

    path = tmp_path_factory.mktemp("board") / "ledger.db"
    board_world.fill(path)
    return path


@pytest.fixture
def board_ledger(store: Path, _board: Path) -> Iterator[Ledger]:
    """The ledger of `board_world`."""
    shutil.copyfile(_board, store)
    with Ledger.open(str(store)) as made:
        yield made
