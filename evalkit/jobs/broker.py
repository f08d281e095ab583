"""huey, as the workers use it: its queue hands numbers of jobs to threads; what they are is in the ledger."""

from __future__ import annotations

import importlib
import json
import sqlite3
from typing import Any

from evalkit.errors import UserError
from evalkit.jobs.place import Place
from evalkit.models.base import sha256


def load_huey() -> Any:
    """Imports huey.

    Raises:
        UserError: It is not installed.
    """
    try:
        return importlib.import_module("huey.api")
    except ImportError as error:
        raise UserError("jobs need huey; type: pip install 'evalkit[app]'") from error


class JsonSerializer:
    """Messages as JSON: huey's own way of writing them runs what it reads."""

    def serialize(self, data: Any) -> bytes:
        """Writes a message of huey's, or a value."""
        return json.dumps(data).encode()

    def deserialize(self, data: bytes) -> Any:
        """Reads a message of huey's (a named tuple is written as a list), or a value."""
        from huey.registry import Message

        found = json.loads(data)
        return Message(*found) if isinstance(found, list) else found


def open_queue(place: Place, store: str, redis: str | None) -> Any:
    """Opens the queue: in Redis if there is a URL, else beside the ledger's file, or in its database server.

    Raises:
        UserError: huey or a driver is not installed, or the server does not answer.
    """
    api = load_huey()
    options: dict[str, Any]
    if redis is not None:
        options = {"storage_class": api.RedisStorage, "url": redis, "read_timeout": 1}
    elif place.is_file:
        options = {"storage_class": api.SqliteStorage, "filename": str(place.folder / "queue.db"), "timeout": 30}
    else:
        driver = store.replace("postgresql+psycopg://", "postgresql://", 1)
        options = {"storage_class": api.PostgresStorage, "dsn": driver, "table_prefix": "evalkit_queue"}
    where = "--redis" if redis is not None else "the queue"
    try:
        queue = api.Huey(f"evalkit-{sha256(place.store)[:12]}", results=False, serializer=JsonSerializer(), **options)
        queue.pending_count()
    except Exception as error:
        first = " ".join(str(error).split())
        raise UserError(f"{where}: cannot be used: {first or type(error).__name__}") from error
    return queue


def faults(place: Place, redis: str | None) -> tuple[type[Exception], ...]:
    """Returns what the queue raises while its server does not answer."""
    if redis is not None:
        return (importlib.import_module("redis.exceptions").RedisError,)
    return (sqlite3.Error,) if place.is_file else (importlib.import_module("psycopg").Error,)
