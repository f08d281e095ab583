"""The queue in front of a model that computes in this process: requests that wait together become one batch."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from evalkit.models.base import ModelSettings, Reply, Request, RequestFailed

Pending = tuple[Request, "Future[Reply]"]


class BatchedModel:
    """A ChatModel whose work runs batch by batch in a thread of its own.

    Subclasses give `compute`, which sets every future of a batch, and may narrow `choose`.

    Args:
        settings: Who this is.
        batch_size: Rows computed at once.
    """

    def __init__(self, settings: ModelSettings, batch_size: int) -> None:
        self._settings = settings
        self.batch_size = batch_size
        self._pending: list[Pending] = []
        self._wake = threading.Condition()
        self._worker: threading.Thread | None = None
        self._closed = False

    @property
    def settings(self) -> ModelSettings:
        """Who this is."""
        return self._settings

    @property
    def max_concurrency(self) -> int:
        """Four batches: enough waiting requests to put like with like."""
        return 4 * self.batch_size

    async def reply(self, request: Request) -> Reply:
        """Answers one request as part of a batch.

        Raises:
            RequestFailed: The prompt is longer than the context, asks for what the model cannot do, or comes too late.
            UserError: The weights cannot be loaded.
        """
        future: Future[Reply] = Future()
        with self._wake:
            if self._closed:
                raise _closed(self.settings)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="evalkit model", daemon=True)
                self._worker.start()
            self._pending.append((request, future))
            self._wake.notify()
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Ends the worker after its current batch and frees the weights."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._worker is not None:
            await asyncio.to_thread(self._worker.join)
        self.unload()

    def choose(self, pending: Sequence[Pending]) -> list[Pending]:
        """Returns the next batch out of what waits, the longest-waiting request among it."""
        return list(pending[: self.batch_size])

    def compute(self, batch: Sequence[Pending]) -> None:
        """Sets the result or exception of every future of a batch."""
        raise TypeError(f"{type(self).__name__} has no compute")

    def unload(self) -> None:
        """Frees the weights."""

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._pending and not self._closed:
                    self._wake.wait()
                if self._closed:
                    for _, future in self._pending:
                        if future.set_running_or_notify_cancel():
                            future.set_exception(_closed(self.settings))
                    return
            time.sleep(0.005)  # lets the engine hand over what it still holds, so that the batch is full
            with self._wake:
                # A request whose asker has gone (Ctrl-C) is not worth computing.
                self._pending = [p for p in self._pending if not p[1].cancelled()]
                batch = self.choose(self._pending) if self._pending else []
                chosen = {id(p) for p in batch}
                self._pending = [p for p in self._pending if id(p) not in chosen]
            batch = [p for p in batch if p[1].set_running_or_notify_cancel()]
            if not batch:
                continue
            try:
                self.compute(batch)
            except BaseException as error:  # noqa: BLE001  the asking coroutine gets it; this thread must live on
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)


def _closed(settings: ModelSettings) -> RequestFailed:
    return RequestFailed("connection", f"{settings.label or settings.name} has been closed")
