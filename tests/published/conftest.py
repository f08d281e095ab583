"""The folder with the published data sets, which are not part of the repository."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def shared_file() -> Callable[[str], Path]:
    """Path of a published file; skips the test where it is absent."""
    default = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
    folder = Path(os.environ.get("EVALKIT_SHARED_DATA", default))

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"{name} is absent: set EVALKIT_SHARED_DATA to the folder with the published data")
        return path

    return find
