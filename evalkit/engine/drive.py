"""One call of `Engine.run`: the cache, the pool and the writer put together."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evalkit.engine.pool import STOP_GRACE_SECONDS, Call, Limits, Pool
from evalkit.engine.types import Job, NotSent, Outcome
from evalkit.engine.writer import BATCH_ROWS, Write, Writer
from evalkit.models.base import ChatModel, ModelSettings, Reply, Request, RequestFailed, request_key
from evalkit.models.batching import BatchedModel
from evalkit.store.rows import ResponseRow, StoredResponse

if TYPE_CHECKING:
    from evalkit.engine.batch_pool import BatchPool
    from evalkit.engine.engine import Engine

CHUNK_JOBS = 512
BREATH_JOBS = 32
GC_ALLOCATIONS = 100_000
CHARACTERS_PER_TOKEN = 3
GUESSED_COMPLETION_TOKENS = 1024


@dataclass(slots=True, eq=False)
class _Entry:
    """One distinct request: who waits for it, then its result.

    `writes` has one row for each (model, item, dataset) it answers; if nothing is stored yet, the first is paid for.
    """

    writes: dict[tuple[int, int, int], Write] = field(default_factory=dict)
    waiting: list[tuple[int, Job, str, str]] = field(default_factory=list)
    result: Reply | RequestFailed | None = None
    attempts: int = 0
    stored: StoredResponse | None = None


class Drive:
    """Feeds jobs in chunks, so that a million of them are neither looked up nor held ready at once."""

    def __init__(
        self,
        engine: Engine,
        model: ChatModel,
        jobs: Sequence[Job],
        limits: Limits,
        ceiling: int,
        label: str,
        ahead: bool = False,
    ) -> None:
        self.engine, self.model, self.jobs, self.limits = engine, model, jobs, limits
        self.settings: ModelSettings = model.settings
        self.name = self.settings.label or self.settings.name
        self.label, self.ceiling = label, ceiling
        self.by_batch, self.ahead = asks_by_batch(model), ahead
        self.results: list[Outcome | None] = [None] * len(jobs)
        self.entries: dict[str, _Entry] = {}
        self.next_job = 0
        self.left = len(jobs)
        self.unstored = 0
        self.feeding: asyncio.Task[None] | None = None
        self.error: BaseException | None = None

    async def outcomes(self) -> list[Outcome]:
        """Runs everything; see `Engine.run`."""
        loop, engine = asyncio.get_running_loop(), self.engine
        progress = None if self.ahead else engine.progress
        if not self.jobs:
            return []
        self.over: asyncio.Future[None] = loop.create_future()
        self.handle: Any = progress.start(self.label, len(self.jobs)) if progress else None
        self.writer = Writer(engine.ledger, engine.run_id, loop, self._committed, self._fail, engine.counts)
        self.pool: Pool | BatchPool = self._batch_pool() if self.by_batch else self._live_pool()
        # What exists now stays, and an answer leaves no cycles behind: else the collector walks all jobs, then all rows
        # kept for the writer, again and again, a sixth of the CPU time.
        gc.freeze()
        thresholds = gc.get_threshold()
        gc.set_threshold(GC_ALLOCATIONS, *thresholds[1:])
        batched = self.model if isinstance(self.model, BatchedModel) else None
        if batched:
            batched.hold()
        try:
            self.pool.pump()
            await self.over
        finally:
            gc.set_threshold(*thresholds)
            gc.unfreeze()
            # Only Ctrl-C leaves answers worth waiting for; the rest is done, or could not be stored.
            await self.pool.drain(STOP_GRACE_SECONDS if self.left and not self.error else 0.0)
            if batched:
                batched.resume()
            if self.feeding:
                self.feeding.cancel()
            await loop.run_in_executor(None, self.writer.close)
            if progress:
                progress.finish(self.handle)
        if self.error:
            raise self.error
        return [outcome for outcome in self.results if outcome is not None]

    def _fail(self, error: BaseException) -> None:
        self.error = self.error or error
        self.pool.stop()
        if not self.over.done():
            self.over.set_result(None)

    # Feeding

    def _live_pool(self) -> Pool:
        def has_room(in_flight: int) -> bool:
            """Bounds what a kill can cost: the requests in flight and one batch, as large as the window at most."""
            return in_flight + self.unstored < pool.window.size + max(BATCH_ROWS, pool.window.size)

        pool = Pool(self.model, self.ceiling, self.limits, self._answered, has_room, self._feed, self._fail)
        return pool

    def _batch_pool(self) -> BatchPool:
        from evalkit.engine.batch_pool import BatchPool
        from evalkit.models.batch_api import BatchModel

        assert isinstance(self.model, BatchModel)
        engine, progress = self.engine, None if self.ahead else self.engine.progress
        return BatchPool(
            self.model,
            engine.ledger,
            engine.run_id,
            self.jobs[0].model_id,
            self.limits,
            self._answered,
            lambda: self.unstored == 0,
            self._feed,
            self._fail,
            lambda sentence: engine.say(f"{self.name}: {sentence}"),
            lambda text: progress.advance(self.handle, 0, note=text) if progress else None,
            engine.set_aside,
            self.ahead,
        )

    def _feed(self) -> None:
        if self.feeding is None and self.next_job < len(self.jobs) and self.unstored <= CHUNK_JOBS:
            self.feeding = asyncio.ensure_future(self._feed_chunk())
        elif self.next_job >= len(self.jobs) and self.pool.idle:
            self.writer.hurry()

    async def _feed_chunk(self) -> None:
        stop = min(self.next_job + CHUNK_JOBS, len(self.jobs))
        asked: list[tuple[int, Job, Request, str, str]] = []
        for index in range(self.next_job, stop):
            if index % BREATH_JOBS == 0:
                await asyncio.sleep(0)  # answers that came meanwhile go first
            job = self.jobs[index]
            request = job.request.effective(self.settings)
            body = request.body(self.settings)
            asked.append((index, job, request, body, request_key(body)))
        unknown = [key for *_, key in asked if key not in self.entries]
        try:
            found = await asyncio.to_thread(self.engine.ledger.find_responses, unknown)
        except Exception as error:  # noqa: BLE001 - raised by `outcomes`
            self._fail(error)
            return
        for index, job, request, body, key in asked:
            entry = self.entries.get(key) or self._entry(key, request, found.get(key))
            if entry.result is None:
                entry.waiting.append((index, job, body, key))
            else:
                self._store(entry, index, job, body, key)
        self.next_job = stop
        self.feeding = None
        self.pool.pump()
        if not isinstance(self.pool, Pool):
            if stop == len(self.jobs):
                self.pool.begin()
            return
        all_sent = stop == len(self.jobs) or self.pool.in_flight >= self.pool.window.size
        if all_sent and isinstance(self.model, BatchedModel):
            asyncio.get_running_loop().call_soon(self.model.resume)  # behind the first steps of what was sent

    def _entry(self, key: str, request: Request, stored: StoredResponse | None) -> _Entry:
        entry = self.entries[key] = _Entry()
        if stored is not None:
            entry.result, entry.stored = stored.reply, stored
            self._note_warnings(stored.reply)
        elif self.engine.offline:
            entry.result = NotSent("missing", "offline, and the ledger has no answer to this request")
        else:
            call = Call(request, key, owner=entry)
            if self.limits.tokens or self.limits.dollars:
                prompt, completion = _estimate_tokens(request)
                call.tokens = prompt + completion
                call.dollars = self.engine.prices.estimate(self.settings, prompt, completion, batch=self.by_batch)
            self.pool.submit(call)
        return entry

    # Results

    def _answered(self, call: Call, result: Reply | RequestFailed) -> None:
        entry = call.owner
        assert isinstance(entry, _Entry)
        entry.result, entry.attempts = result, call.attempts
        self._note_warnings(result)
        waiting, entry.waiting = entry.waiting, []
        for index, job, body, key in waiting:
            self._store(entry, index, job, body, key)

    def _note_warnings(self, result: Reply | RequestFailed) -> None:
        if isinstance(result, Reply):
            for sentence in result.warnings:
                self.engine.note_warning(self.name, sentence)

    def _store(self, entry: _Entry, index: int, job: Job, body: str, key: str) -> None:
        """Stores an entry's result for one job: the first row is the paid one, further items get copies at no cost."""
        result = entry.result
        assert result is not None
        if isinstance(result, NotSent):
            self._report([index], Outcome(None, result, False, 0.0))
            self._advance(1, 1, 0, 0.0)
            return
        place = (job.model_id, job.item_id, job.dataset_id)
        write = entry.writes.get(place)
        if write is None:
            write = entry.writes[place] = self._write(entry, result, job, body, key)
            write.waiting.append(index)
            self.unstored += 1
            self.writer.put(write)
        elif write.id is None:
            write.waiting.append(index)
        else:
            self._report([index], Outcome(write.id, result, True, 0.0))
            self._advance(1, isinstance(result, RequestFailed), 1, 0.0)

    def _write(self, entry: _Entry, result: Reply | RequestFailed, job: Job, body: str, key: str) -> Write:
        stored = entry.stored
        if stored is not None and (stored.model_id, stored.item_id) == (job.model_id, job.item_id):
            return Write(result, link=(stored.id, job.model_id, job.dataset_id), cached=True)
        failed = isinstance(result, RequestFailed)
        paid = not entry.writes and stored is None
        cost: float | None = 0.0
        if paid:
            reply = result if isinstance(result, Reply) else None
            cost = self.engine.prices.cost(self.settings, reply, batch=self.by_batch) if reply else None
        row = ResponseRow(
            model_id=job.model_id,
            item_id=job.item_id,
            dataset_id=job.dataset_id,
            request_key=key,
            body=body,
            outcome=result,
            sample=job.request.sample,
            cost=cost,
            # 0 attempts mean a copy to the ledger; a failure is none, even if the endpoint was known to be down.
            attempts=max(1, entry.attempts) if paid or failed else 0,
            turn=job.turn,
        )
        return Write(result, row=row, cached=not paid and not failed)

    def _committed(self, batch: list[Write]) -> None:
        self.unstored -= len(batch)
        n = errors = cached = 0
        paid = 0.0
        for write in batch:
            cost = write.row.cost if write.row else 0.0
            outcome = Outcome(write.id, write.result, write.cached, cost)
            first, *others = write.waiting
            self._report([first], outcome)
            if others:
                self._report(others, Outcome(write.id, write.result, True, 0.0))
            n += len(write.waiting)
            errors += len(write.waiting) if isinstance(write.result, RequestFailed) else 0
            cached += len(write.waiting) - (not write.cached)
            paid += cost or 0.0
            write.row = None  # a long run need not hold every text twice
        self._advance(n, errors, cached, paid)
        self.pool.pump()

    def _report(self, indexes: Sequence[int], outcome: Outcome) -> None:
        for index in indexes:
            self.results[index] = outcome
        self.left -= len(indexes)
        if self.left == 0 and not self.over.done():
            self.over.set_result(None)

    def _advance(self, n: int, errors: int, cached: int, cost: float) -> None:
        if self.ahead:  # all this comes again
            return
        self.engine.done += n
        self.engine.errors += errors
        if self.engine.progress:
            self.engine.progress.advance(self.handle, n, errors=errors, cached=cached, cost=cost)


def asks_by_batch(model: ChatModel) -> bool:
    """Whether requests to this model go out as jobs of its endpoint's batch API."""
    if model.settings.provider != "openai":
        return False
    from evalkit.models.batch_api import BatchModel  # no more imports than the model's own

    return isinstance(model, BatchModel)


def _estimate_tokens(request: Request) -> tuple[int, int]:
    """Returns (prompt, completion) tokens, on the high side: budgets are kept on these before the answer is known."""
    if request.pairs:
        return sum(len(c) + len(t) for c, t in request.pairs) // CHARACTERS_PER_TOKEN + 1, len(request.pairs)
    characters = len(request.prompt or "")
    for message in request.messages:
        content = message.get("content")
        characters += len(content) if isinstance(content, str) else len(str(content or ""))
    characters += sum(len(str(tool)) for tool in request.tools)
    limit = request.sampling.max_tokens
    return characters // CHARACTERS_PER_TOKEN + 8, GUESSED_COMPLETION_TOKENS if limit is None else limit
