"""A running `evalkit app`, asked over HTTP, and the people in its ledger."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from app_process import evalkit_app

from app import cookies
from evalkit.store import Ledger
from evalkit.store.ledger_app import People, Role


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    text: str


@dataclass
class Server:
    """A running `evalkit app`.

    Attributes:
        said: What it had said when it first answered.
    """

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


@contextmanager
def serving(folder: Path, *options: str, store: str | None = None, port: int = 0) -> Iterator[Server]:
    """Starts `evalkit app` in a folder, over a ledger that is made if need be; ends it."""
    store, cache = store or str(folder / "ledger.db"), str(folder / "cache")
    with (
        Ledger.open(store) as ledger,
        evalkit_app(store, folder, *options, port=port, EVALKIT_CACHE=cache) as started,
    ):
        yield Server(started.port, store, People(ledger), started.log.read_text())
