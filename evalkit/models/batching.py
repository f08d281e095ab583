"""The queue in front of a model that computes in this process: requests that wait together are cut into batches."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from evalkit.models.base import ModelSettings, Reply, Request, RequestFailed
from evalkit.models.streaming import Heard

WINDOW = 16_384
"""Requests that may wait at once: more than all but the largest benchmarks have, and still only megabytes."""

SETTLE_SECONDS = 0.005


@dataclass(slots=True, eq=False)
class Pending:
    """A request that waits, and who waits for it.

    Attributes:
        work: What the model has prepared for it.
        answered: Whether `answer` was called.
        heard: Is told the text so far, where the model can.
    """

    request: Request
    future: Future[Reply]
    work: Any = None
    answered: bool = False
    heard: Heard | None = None

    def answer(self, result: Reply | BaseException) -> None:
        """Gives the reply or failure to who asked, if they still wait (Ctrl-C)."""
        self.answered = True
        if not self.future.set_running_or_notify_cancel():
            return
        if isinstance(result, Reply):
            self.future.set_result(result)
        else:
            self.future.set_exception(result)


@dataclass(slots=True)
class Batch:
    """What is computed together.

    Attributes:
        asked: The requests that it serves.
        inputs: Rows, where these are not the requests themselves.
    """

    asked: list[Pending]
    inputs: list[Any] = field(default_factory=list)


class BatchedModel:
    """A ChatModel whose work runs batch by batch in a thread of its own.

    Subclasses give `compute`, which answers what a batch has finished, and may replace `plan`.

    Args:
        settings: Who this is.
        batch_size: Rows computed at once.
    """

    def __init__(self, settings: ModelSettings, batch_size: int) -> None:
        self._settings = settings
        self.batch_size = batch_size
        self._arrived: list[Pending] = []
        self._wake = threading.Condition()
        self._worker: threading.Thread | None = None
        self._held = False
        self._closed = False

    @property
    def settings(self) -> ModelSettings:
        """Who this is."""
        return self._settings

    @property
    def max_concurrency(self) -> int:
        """As many as may wait, so that batches are cut out of everything there is."""
        return WINDOW

    def hold(self) -> None:
        """Starts no batch until `resume`: more requests are coming, and which rows meet is not to be left to chance."""
        with self._wake:
            self._held = True

    def resume(self) -> None:
        """Ends `hold`."""
        with self._wake:
            self._held = False
            self._wake.notify()

    async def reply(self, request: Request) -> Reply:
        """Answers one request as part of a batch.

        Raises:
            RequestFailed: The prompt is longer than the context, asks for what the model cannot do, or comes too late.
            UserError: The weights cannot be loaded.
        """
        return await self._queue(Pending(request, Future()))

    async def _queue(self, pending: Pending) -> Reply:
        with self._wake:
            if self._closed:
                raise _closed(self.settings)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="evalkit model", daemon=True)
                self._worker.start()
            self._arrived.append(pending)
            self._wake.notify()
        return await asyncio.wrap_future(pending.future)

    async def close(self) -> None:
        """Ends the worker after its current batch and frees the weights."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._worker is not None:
            await asyncio.to_thread(self._worker.join)
        self.unload()

    def plan(self, pending: Sequence[Pending]) -> list[Batch]:
        """Cuts what waits into batches; may answer at once what cannot be computed."""
        return [Batch(list(pending[i : i + self.batch_size])) for i in range(0, len(pending), self.batch_size)]

    def compute(self, batch: Batch) -> None:
        """Answers what a batch finishes."""
        raise TypeError(f"{type(self).__name__} has no compute")

    def unload(self) -> None:
        """Frees the weights."""

    def _work(self) -> None:
        waiting: list[Pending] = []
        batches: deque[Batch] = deque()
        while True:
            with self._wake:
                while not self._closed and (self._held or not (self._arrived or batches)):
                    self._wake.wait()
                if self._closed:
                    for pending in waiting + self._arrived:
                        if not pending.answered:
                            pending.answer(_closed(self.settings))
                    return
            if self._arrived:
                time.sleep(SETTLE_SECONDS)  # lets those who ask without the engine hand over all they have
                with self._wake:
                    waiting += self._arrived
                    self._arrived = []
                # A request whose asker has gone (Ctrl-C) is not worth computing.
                waiting = [p for p in waiting if not (p.answered or p.future.cancelled())]
                batches = deque(self._guarded(self.plan, waiting, waiting) or [])
            elif batches:
                batch = batches.popleft()
                batch.asked = [p for p in batch.asked if not (p.answered or p.future.cancelled())]
                if batch.asked:
                    self._guarded(self.compute, batch, batch.asked)
                if not batches:
                    waiting = []

    def _guarded(self, step: Any, argument: Any, asked: Sequence[Pending]) -> Any:
        try:
            return step(argument)
        except BaseException as error:  # noqa: BLE001  the asking coroutine gets it; this thread must live on
            for pending in asked:
                if not pending.answered:
                    pending.answer(error)
        return None


def _closed(settings: ModelSettings) -> RequestFailed:
    return RequestFailed("connection", f"{settings.label or settings.name} has been closed")
