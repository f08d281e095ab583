"""A running `evalkit app`, asked over HTTP, and the people in its ledger."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from app import cookies
from evalkit.store import Ledger
from evalkit.store.ledger_app import People, Role

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    text: str


@dataclass
class Server:
    """A running `evalkit app`."""

    port: int
    store: str
    people: People
    said: str

    def ask(self, path: str, *, name: str | None = None, cookie: str = "", **headers: str) -> Reply:
        """Gets a path, or posts a name to it; follows nothing."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        if cookie:
            sent["Cookie"] = f"{cookies.NAME}={cookie}"
        body = None if name is None else urlencode({"name": name})
        if body is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request("GET" if body is None else "POST", path, body, sent)
        answer = connection.getresponse()
        reply = Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
        connection.close()
        return reply

    def link(self, role: Role = "voter", campaign_id: int | None = None, **more: Any) -> str:
        """Makes an invitation and returns its path."""
        return f"/join/{self.people.invite(role, campaign_id, **more)[1]}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(folder: Path, *options: str, store: str | None = None, port: int | None = None) -> Iterator[Server]:
    """Starts `evalkit app` in a folder, over a ledger that is made if need be; ends it."""
    store, port = store or str(folder / "ledger.db"), port or free_port()
    with Ledger.open(store) as ledger:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "EVALKIT_", "STREAMLIT_"))}
        environment = {**kept, "PYTHONPATH": str(ROOT), "EVALKIT_CACHE": str(folder / "cache")}
        command = [sys.executable, "-m", "evalkit.cli", "app", "--store", store, "--port", str(port), "--no-browser"]
        with (folder / "said").open("w") as said:
            process = subprocess.Popen(
                [*command, *options], env=environment, cwd=folder, stdout=said, stderr=subprocess.STDOUT
            )
        server = Server(port, store, People(ledger), "")
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                server.said = (folder / "said").read_text()
                assert process.poll() is None, server.said
                try:
                    if server.ask("/healthz").status == 200:
                        break
                except OSError:
                    assert time.monotonic() < deadline, server.said
                time.sleep(0.2)
            yield server
        finally:
            process.terminate()
            process.wait(30)
