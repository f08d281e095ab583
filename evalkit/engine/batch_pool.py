"""Sends one model's requests as jobs of its endpoint's batch API, and picks up the jobs that an earlier run left."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from evalkit.engine.limits import backoff
from evalkit.engine.pool import Call, Limits
from evalkit.engine.types import NotSent
from evalkit.models.base import FailureKind, Reply, RequestFailed
from evalkit.models.batch_api import ENDED, MAX_REQUESTS, BatchModel, BatchState, RefusedParameter, lines
from evalkit.store import Ledger
from evalkit.store.rows import BatchRow

POLL_SECONDS = 1.0
POLL_GROWTH = 1.5
POLL_SECONDS_AT_MOST = 60.0
PATIENCE_SECONDS = 600.0  # with refusals that may pass, such as 429
PATIENCE_SECONDS_DOWN = 15.0  # with an endpoint that cannot be reached
PATIENCE_SECONDS_WAITING = 3600.0  # while a job goes on there
_UNDELIVERED: dict[str, tuple[FailureKind, str]] = {
    "completed": ("malformed", "is complete, but without a result for this request"),
    "expired": ("timeout", "expired before this request was answered"),
    "cancelled": ("server", "was cancelled before this request was answered"),
    "failed": ("bad_request", "was refused as a whole"),
}

AHEAD = NotSent("missing", "submitted ahead, and not waited for")

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Job:
    """A job that is being waited for, with those of its calls that this run asks and has no result of."""

    row: BatchRow
    calls: dict[str, Call]
    provider_id: str | None = None
    status: str = "validating"
    done: int = 0


class BatchPool:
    """Takes all calls of one `Engine.run`, then submits and follows jobs. Belongs to the event loop's thread.

    A job is written to the ledger before its file is uploaded, then after each step, so that whatever ends this
    process, the next one goes on with the same job: see `_adopt`.

    Args:
        model: Whom to ask.
        ledger: Keeps the jobs.
        run_id: The run that submits.
        model_id: The model's row.
        limits: Of these only the dollars hold: rates are for live requests.
        finished: Called with each call and its reply or final failure.
        stored: Says whether every result so far is committed.
        hungry: Called when more calls can be submitted.
        crashed: Called with an exception that is no RequestFailed.
        say: Says a sentence to the user.
        note: Shows how far the jobs are.
        set_aside: Keys of requests that were submitted ahead; their dollars are set aside already.
        ahead: Submit, and wait for nothing: every call is then finished as not sent.
    """

    def __init__(
        self,
        model: BatchModel,
        ledger: Ledger,
        run_id: int,
        model_id: int,
        limits: Limits,
        finished: Callable[[Call, Reply | RequestFailed], None],
        stored: Callable[[], bool],
        hungry: Callable[[], None],
        crashed: Callable[[BaseException], None],
        say: Callable[[str], None],
        note: Callable[[str], None],
        set_aside: set[str],
        ahead: bool,
    ) -> None:
        self.model, self.ledger, self.run_id, self.model_id, self.limits = model, ledger, run_id, model_id, limits
        self.ready: deque[Call] = deque()
        self._endpoint = model.settings.endpoint or ""
        self._finished = finished if not ahead else lambda call, _: finished(call, AHEAD)
        self._stored, self._hungry, self._crashed = stored, hungry, crashed
        self._set_aside, self._ahead = set_aside, ahead
        self._say, self._note = say, note
        self._work: asyncio.Task[None] | None = None
        self._jobs: list[_Job] = []
        self._following: set[asyncio.Task[None]] = set()
        self._over: list[tuple[_Job, str, list[str]]] = []  # ended: its status and the keys that stay open
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Whether nothing is to be sent or waited for."""
        return not (self.ready or self._jobs)

    def submit(self, call: Call) -> None:
        """Queues a call."""
        self.ready.append(call)

    def pump(self) -> None:
        """Asks for more calls, and strikes off jobs whose results are safe."""
        self._hungry()
        if self._over and self._stored():
            over, self._over = self._over, []
            self._closing.add(asyncio.ensure_future(asyncio.to_thread(self._strike_off, over)))

    def begin(self) -> None:
        """Starts the work; all calls are queued."""
        self._work = asyncio.ensure_future(self._guarded())

    def stop(self) -> None:
        """Sends nothing more; what is at the endpoint goes on there."""
        for task in (self._work, *self._following):
            if task is not None:
                task.cancel()

    async def drain(self, seconds: float) -> None:
        """Stops, and tells of the jobs that go on; there is nothing to wait for."""
        self.stop()
        if self._over and self._stored():
            self.pump()
        tasks = [task for task in (self._work, *self._following, *self._closing) if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        going_on = [job.provider_id for job in self._jobs if job.provider_id]
        if going_on:
            what = "batch" if len(going_on) == 1 else f"{len(going_on)} batches"
            shown = ", ".join(going_on[:3]) + (", ..." if len(going_on) > 3 else "")
            goes = "goes" if len(going_on) == 1 else "go"
            more = f", and the {len(self._set_aside)} requests submitted ahead" if self._set_aside else ""
            self._say(f"{what} {shown} {goes} on at {self._endpoint}; the same command picks it up{more}")

    def _strike_off(self, over: list[tuple[_Job, str, list[str]]]) -> None:
        for job, status, left in over:
            self.ledger.update_batch(job.row.id, status=status, keys=left)

    # The work

    async def _guarded(self) -> None:
        try:
            if self.ready:
                await self._adopt()
                await self._submit_and_follow()
        except Exception as error:  # noqa: BLE001 - raised by the engine once the rest is stored
            self._crashed(error)

    async def _adopt(self) -> None:
        """Takes up the jobs that earlier runs submitted and whose results are asked for now."""
        rows = await asyncio.to_thread(self.ledger.open_batches, self._endpoint)
        wanted = {call.key: call for call in self.ready}
        for row in reversed(rows):  # what was asked again is in the newer job
            self.model.corrections.update({k: v for k, v in row.corrections.items() if row.model_id == self.model_id})
            mine = {key: wanted.pop(key) for key in row.keys if key in wanted}
            if not mine:
                if row.status in ENDED:  # killed between the last answer and striking the job off
                    left = await asyncio.to_thread(self.ledger.unanswered, row.keys)
                    await asyncio.to_thread(self.ledger.update_batch, row.id, keys=left)
            elif row.file_id is None:  # killed before the file was there: nothing exists at the endpoint
                await asyncio.to_thread(self.ledger.update_batch, row.id, keys=())
                wanted |= mine
            else:
                job = _Job(row, mine, row.provider_id)
                known = self._set_aside.intersection(mine)
                for call in mine.values():
                    call.attempts += 1
                    if call.key not in known:
                        self.limits.take(call)
                self._set_aside -= known
                if job.provider_id:
                    if not known:
                        self._say(f"picking up batch {job.provider_id} of {row.n} requests, submitted {row.created_at}")
                    self._follow(job)
                else:
                    await self._create(job, row.file_id, maybe_there=True)
        self.ready = deque(wanted.values())

    async def _submit_and_follow(self) -> None:
        while True:
            failure: RequestFailed | None = None
            while self.ready and failure is None:
                failure = await self._submit()
            if not self._following:
                while self.ready and failure is not None:
                    call = self.ready.popleft()
                    self._finished(call, (call.failure if isinstance(failure, NotSent) else None) or failure)
                return
            ended, self._following = await asyncio.wait(self._following, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()

    async def _submit(self) -> RequestFailed | None:
        """Submits the next job out of what is ready; returns why none can be submitted now."""
        route, calls = self._next_calls()
        if not calls:
            return self.limits.unaffordable if self.ready else None
        with tempfile.TemporaryFile() as file:
            asked = [(call.key, call.request) for call in calls]
            corrections = dict(self.model.corrections)
            written = await asyncio.to_thread(self.model.write, file, asked, corrections)
            for call in reversed(calls[max(1, written) :]):
                self.limits.settle(call, None)
                call.attempts -= 1
                self.ready.appendleft(call)
            calls = calls[: max(1, written)]
            if not written:
                self._finish(calls[0], RequestFailed("context_length", "the request is larger than a batch may be"))
                return None
            row = await asyncio.to_thread(
                self.ledger.add_batch,
                self.run_id, self.model_id, self._endpoint, route, [call.key for call in calls], corrections,
            )  # fmt: skip
            job = _Job(row, {call.key: call for call in calls})
            try:
                file_id = await self._insist(lambda: self.model.upload(file, row.token))
            except BaseException as error:
                await asyncio.shield(asyncio.to_thread(self.ledger.update_batch, row.id, keys=()))
                if isinstance(error, RequestFailed):
                    self._fail(job, error)
                    return error
                raise
        await asyncio.to_thread(self.ledger.update_batch, row.id, file_id=file_id)
        return await self._create(job, file_id, maybe_there=False)

    def _next_calls(self) -> tuple[str, list[Call]]:
        """Takes calls of one route that a job may hold and the dollars allow, and sets aside what they may cost."""
        route, calls, others = "", list[Call](), list[Call]()
        while self.ready and len(calls) < MAX_REQUESTS:
            call = self.ready[0]
            try:
                its = self.model.route(call.request)
            except RequestFailed as failure:
                self._finished(self.ready.popleft(), failure)
                continue
            if calls and its != route:
                others.append(self.ready.popleft())
                continue
            if self.limits.dollars is not None and not self.limits.dollars.fits(call.dollars or 0.0):
                break
            route = its
            calls.append(self.ready.popleft())
            call.attempts += 1
            self.limits.take(call)
        self.ready.extendleft(reversed(others))
        return route, calls

    async def _create(self, job: _Job, file_id: str, *, maybe_there: bool) -> RequestFailed | None:
        """Creates a job out of its file, or finds the one that was created already; then follows it."""
        row, refused = job.row, False

        async def create() -> BatchState:
            nonlocal maybe_there, refused
            if maybe_there:
                state = await self._found(row)
                if state is not None:
                    return state
            maybe_there = True  # from here on an answer may be lost and the job be there
            try:
                return await self.model.create(file_id, row.route, row.token)
            except RequestFailed as failure:
                refused = not failure.retryable
                raise

        try:
            state = await self._insist(create)
        except RequestFailed as failure:
            if refused:
                await asyncio.to_thread(self.ledger.update_batch, row.id, keys=())
            self._fail(job, failure)
            return failure
        except Exception:
            await asyncio.to_thread(self.ledger.update_batch, row.id, keys=())
            raise
        await asyncio.to_thread(self.ledger.update_batch, row.id, provider_id=state.id, status=state.status)
        job.provider_id = state.id
        self._say(f"batch {state.id} of {row.n} requests submitted; it may take up to 24 hours, and outlives Ctrl-C")
        self._follow(job)
        return None

    async def _found(self, row: BatchRow) -> BatchState | None:
        try:
            return await self.model.find(row.token, datetime.fromisoformat(row.created_at).timestamp())
        except RequestFailed as failure:
            if failure.kind not in ("not_found", "bad_request", "unsupported"):
                raise
            return None  # an endpoint that lists no jobs

    def _follow(self, job: _Job) -> None:
        if self._ahead:
            self._set_aside.update(job.calls)
            while job.calls:
                self._finished(job.calls.popitem()[1], AHEAD)
            return
        self._jobs.append(job)
        self._following.add(asyncio.ensure_future(self._wait_for(job, job.provider_id or "")))

    async def _wait_for(self, job: _Job, provider_id: str) -> None:
        pause = POLL_SECONDS
        try:
            while True:
                state = await self._insist(lambda: self.model.retrieve(provider_id), waiting=True)
                job.done = state.done
                if state.status != job.status:
                    job.status = state.status
                    await asyncio.to_thread(self.ledger.update_batch, job.row.id, status=state.status)
                self._note(self._progress())
                if state.ended:
                    break
                await asyncio.sleep(pause)
                pause = min(POLL_SECONDS_AT_MOST, pause * POLL_GROWTH)
            await self._deliver(job, state)
        except RequestFailed as failure:
            if failure.kind == "not_found":  # forgotten by the endpoint: the next run submits anew
                await asyncio.to_thread(self.ledger.update_batch, job.row.id, status="lost", keys=())
            else:  # paid, for all that is known
                said = f"{failure.message}; batch {provider_id} goes on there, and the same command picks it up"
                failure = RequestFailed(failure.kind, said, paid=True)
            self._fail(job, failure)
        self._jobs.remove(job)

    async def _deliver(self, job: _Job, state: BatchState) -> None:
        """Gives every call of an ended job its result; those with a refused parameter go into the next job."""
        delivered = set(job.calls)
        share = state.seconds / job.row.n
        with tempfile.TemporaryFile() as file:
            for file_id in state.files:
                start = file.tell()
                await self._insist(partial(self.model.fetch, file_id, file, start), waiting=True)
            async for line in lines(file):
                call = job.calls.pop(str(line.get("custom_id")), None)
                if call is not None:
                    self._read(job, call, line, share)
                if not job.calls:
                    break
        kind, what = _UNDELIVERED[state.status]
        said = f"{self._endpoint}: batch {state.id} {what}" + (f": {state.message}" if state.message else "")
        self._fail(job, RequestFailed(kind, said))
        self._over.append((job, state.status, [key for key in job.row.keys if key not in delivered]))

    def _read(self, job: _Job, call: Call, line: Mapping[str, Any], seconds: float) -> None:
        try:
            result: Reply | RequestFailed = self.model.read(line, call.request, job.row.corrections, seconds)
        except RefusedParameter as refused:
            self.model.corrections[refused.name] = refused.new
            self.limits.settle(call, None)
            call.failure = refused.failure
            self.ready.append(call)
            return
        except RequestFailed as failure:
            result = failure
        self._finish(call, result)

    async def _insist(self, step: Callable[[], Awaitable[T]], *, waiting: bool = False) -> T:
        """Tries a step again while that may help."""
        since, attempt = time.monotonic(), 0
        while True:
            try:
                return await step()
            except RequestFailed as failure:
                attempt += 1
                patience = PATIENCE_SECONDS_DOWN if failure.kind == "connection" else PATIENCE_SECONDS
                if not failure.retryable or time.monotonic() - since > (
                    PATIENCE_SECONDS_WAITING if waiting else patience
                ):
                    raise
                self._note(f"no answer ({failure.kind}), trying again")
                await asyncio.sleep(backoff(attempt, failure.retry_after))

    def _fail(self, job: _Job, failure: RequestFailed) -> None:
        while job.calls:
            self._finish(job.calls.popitem()[1], failure)

    def _finish(self, call: Call, result: Reply | RequestFailed) -> None:
        self.limits.settle(call, result)
        self._finished(call, result)

    def _progress(self) -> str:
        statuses = ", ".join(sorted({job.status for job in self._jobs}))
        what = "batch" if len(self._jobs) == 1 else f"{len(self._jobs)} batches"
        return f"{what} {statuses}: {sum(j.done for j in self._jobs)}/{sum(j.row.n for j in self._jobs)}"
