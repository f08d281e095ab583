"""The thread that commits what the engine got, in small batches, before anyone is told that it is done."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from evalkit.models.base import Reply, RequestFailed
from evalkit.store import Ledger
from evalkit.store.rows import ResponseRow

BATCH_ROWS = 256
BATCH_SECONDS = 0.25
RUN_UPDATE_SECONDS = 2.0


@dataclass(slots=True, eq=False)
class Write:
    """One row to add, or one stored answer to link to the run; `id` is set once it is committed.

    Attributes:
        row: New response; None to link `link`.
        link: (response id, model id, dataset id) of a cached answer.
        waiting: Places in the result that this row answers.
    """

    result: Reply | RequestFailed
    row: ResponseRow | None = None
    link: tuple[int, int, int] | None = None
    cached: bool = False
    id: int | None = None
    waiting: list[int] = field(default_factory=list)


class Writer:
    """Collects writes and commits them when there are `BATCH_ROWS`, or when the first has waited `BATCH_SECONDS`.

    Args:
        committed: Called in the event loop with each batch once it is safe.
        failed: Called in the event loop with the ledger's error; nothing is written after it.
        counts: (done, total, errors) of the run, put into its row now and then for other processes to see.
    """

    def __init__(
        self,
        ledger: Ledger,
        run_id: int,
        loop: asyncio.AbstractEventLoop,
        committed: Callable[[list[Write]], None],
        failed: Callable[[BaseException], None],
        counts: Callable[[], tuple[int, int, int]],
    ) -> None:
        self._ledger, self._run_id, self._loop = ledger, run_id, loop
        self._committed, self._failed, self._counts = committed, failed, counts
        self._updated = time.monotonic()
        self._queue: list[Write] = []
        self._wake = threading.Condition()
        self._hurry = self._closed = False
        self._thread = threading.Thread(target=self._work, name="evalkit writer", daemon=True)
        self._thread.start()

    def put(self, write: Write) -> None:
        """Queues a write."""
        with self._wake:
            self._queue.append(write)
            if len(self._queue) in (1, BATCH_ROWS):
                self._wake.notify()

    def hurry(self) -> None:
        """Commits what is queued without waiting for a batch to fill."""
        with self._wake:
            self._hurry = True
            self._wake.notify()

    def close(self) -> None:
        """Commits what is queued and ends the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._queue or self._closed)
                self._wake.wait_for(
                    lambda: len(self._queue) >= BATCH_ROWS or self._hurry or self._closed, timeout=BATCH_SECONDS
                )
                batch, self._queue = self._queue, []
                self._hurry = False
                if not batch:
                    return
            try:
                self._commit(batch)
            except Exception as error:  # noqa: BLE001 - handed to the loop, which stops the run and raises it
                self._loop.call_soon_threadsafe(self._failed, error)
                return
            self._loop.call_soon_threadsafe(self._committed, batch)

    def _commit(self, batch: list[Write]) -> None:
        new = [write for write in batch if write.row is not None]
        if new:
            rows = [write.row for write in new if write.row is not None]
            for write, response_id in zip(new, self._ledger.add_responses(self._run_id, rows), strict=True):
                write.id = response_id
        linked = [write for write in batch if write.link is not None]
        if linked:
            self._ledger.link_responses(self._run_id, [write.link for write in linked if write.link is not None])
            for write in linked:
                write.id = write.link[0] if write.link else None
        if time.monotonic() - self._updated >= RUN_UPDATE_SECONDS:
            self._updated = time.monotonic()
            done, total, errors = self._counts()
            self._ledger.update_run(self._run_id, done=done, total=total, errors=errors)
