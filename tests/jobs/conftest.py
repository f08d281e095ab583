"""A ledger with jobs, and servers that may keep the queue."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import postgres as postgres

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


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Starts a throw-away Redis; gives its URL."""
    redis = pytest.importorskip("redis", reason="no Redis client: pip install 'evalkit[redis]'")
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no Redis server: install Debian's package redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--requirepass", "of-this-test"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([binary, *options], cwd=folder, stdout=log, stderr=log)
    url = f"redis://:of-this-test@127.0.0.1:{port}/0"
    client = redis.Redis.from_url(url)
    end = time.monotonic() + 60
    try:
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert time.monotonic() < end and server.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
        yield url
    finally:
        client.close()
        server.terminate()
        server.wait(30)
