"""Sends one model's requests: as many at once as it takes, within the budgets, again where a retry may help."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from evalkit.engine.limits import (
    RAMP_SECONDS,
    RETRY_AFTER_LIMIT_SECONDS,
    START_WINDOW,
    DollarLimit,
    RateLimit,
    Window,
    backoff,
)
from evalkit.engine.types import NotSent
from evalkit.models.base import ChatModel, Reply, Request, RequestFailed
from evalkit.models.batching import BatchedModel

MAX_ATTEMPTS = 6
MAX_ATTEMPTS_OF = {"rate_limit": 20, "timeout": 3}  # a 429 costs nothing, a timeout costs minutes
DOWN_AFTER = 5
DOWN_SECONDS_NEVER_UP = 1.0
DOWN_SECONDS_ONCE_UP = 60.0
STOP_GRACE_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Call:
    """One distinct request and what it is for.

    Attributes:
        key: Of the request.
        tokens: Estimated prompt and completion tokens, for the token budget.
        dollars: Estimated upper limit of its cost; None if no price is known.
        failure: What its last attempt ended with.
        owner: Whatever the caller wants back with the result.
    """

    request: Request
    key: str = ""
    tokens: float = 0.0
    dollars: float | None = None
    attempts: int = 0
    epoch: int = 0
    failure: RequestFailed | None = None
    owner: object = None


@dataclass
class Limits:
    """The budgets a pool shares with the pools before and after it in a run."""

    requests: RateLimit | None = None
    tokens: RateLimit | None = None
    dollars: DollarLimit | None = None
    price: Callable[[Reply], float | None] = field(default=lambda reply: None)

    def take(self, call: Call) -> None:
        """Sets aside what a call may cost."""
        if self.requests is not None:
            self.requests.take(1)
        if self.tokens is not None:
            self.tokens.take(call.tokens)
        if self.dollars is not None:
            self.dollars.reserve(call.dollars or 0.0)

    def settle(self, call: Call, result: Reply | RequestFailed | None) -> None:
        """Replaces what was set aside by what the call took."""
        reply = result if isinstance(result, Reply) else None
        if self.tokens is not None and reply and reply.prompt_tokens is not None:
            self.tokens.take(reply.prompt_tokens + (reply.completion_tokens or 0) - call.tokens)
        if self.dollars is not None:
            estimate = call.dollars or 0.0
            paid = self.price(reply) if reply else None
            if paid is None:  # unknown: a lost answer may have been billed, a refusal was not
                lost = reply is not None or (isinstance(result, RequestFailed) and result.paid)
                paid = estimate if lost else 0.0
            self.dollars.settle(estimate, paid)

    @property
    def unaffordable(self) -> NotSent:
        """What becomes of a request that the dollars do not allow."""
        limit = self.dollars.limit if self.dollars else 0.0
        return NotSent("missing", f"not sent: the budget of ${limit:g} does not allow another request")


class Pool:
    """Requests in flight to one model. All methods belong to the event loop's thread.

    Args:
        finished: Called with each call and its reply or final failure.
        room: Says whether results are being stored fast enough for `n` requests in flight.
        hungry: Called when more calls can be submitted.
        crashed: Called with an exception of the provider's that is not a RequestFailed.
    """

    def __init__(
        self,
        model: ChatModel,
        ceiling: int,
        limits: Limits,
        finished: Callable[[Call, Reply | RequestFailed], None],
        room: Callable[[int], bool],
        hungry: Callable[[], None],
        crashed: Callable[[BaseException], None],
    ) -> None:
        self.model = model
        # A model in this process is not found out step by step: it wants all at once, to cut its batches.
        self.window = Window(ceiling, ceiling if isinstance(model, BatchedModel) else START_WINDOW)
        self.limits = limits
        self.ready: deque[Call] = deque()
        self._unaffordable: NotSent | None = None
        self._finished, self._room, self._hungry, self._crashed = finished, room, hungry, crashed
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self.in_flight = 0  # sent and not answered
        self._waiting: dict[Call, asyncio.TimerHandle] = {}  # backing off; these hold no slot
        self._wake: asyncio.TimerHandle | None = None
        self._stopped = False
        self._closed_until = 0.0
        self._dead: RequestFailed | None = None
        self._ever_up = False
        self._same_failures = 0
        self._failing_since = 0.0
        self._ramp_timer = self._loop.call_later(RAMP_SECONDS, self._ramp)

    @property
    def idle(self) -> bool:
        """Whether nothing is to be sent, waited for or in flight."""
        return not (self.in_flight or self.ready or self._waiting)

    def submit(self, call: Call) -> None:
        """Queues a call; `pump` sends it."""
        self.ready.append(call)

    def pump(self) -> None:
        """Sends what may be sent now."""
        while call := self._next():
            self._tasks.add(self._loop.create_task(self._send(call)))
        if len(self.ready) < self.window.size and not self._stopped:
            self._hungry()

    def _next(self) -> Call | None:
        """Takes the next call that may be sent now, and counts it as sent; None if there is none."""
        while self.ready and not self._stopped:
            if self._dead:
                self._finished(self.ready.popleft(), self._dead)
            elif self._unaffordable:
                call = self.ready.popleft()
                self._finished(call, call.failure or self._unaffordable)
            elif self.in_flight < self.window.size and self._room(self.in_flight) and self._allowed():
                call = self.ready.popleft()
                self._start(call)
                return call
            elif not self._unaffordable:
                break
        return None

    def _allowed(self) -> bool:
        """Keeps the pause after refusals and the budgets; sets a timer for when to look again."""
        limits = self.limits
        wait = self._closed_until - time.monotonic()
        for rate in (limits.requests, limits.tokens):
            if rate is not None:
                wait = max(wait, rate.wait())
        if wait > 0:
            if self._wake is None:
                self._wake = self._loop.call_later(wait, self._awake)
            return False
        call = self.ready[0]
        if limits.dollars is not None and not limits.dollars.fits(call.dollars or 0.0):
            # What is in flight may turn out cheaper than its estimate, so wait for it before giving up.
            if not self.in_flight:
                self._unaffordable = limits.unaffordable
            return False
        return True

    def _start(self, call: Call) -> None:
        self.in_flight += 1
        call.attempts += 1
        call.epoch = self.window.epoch
        self.limits.take(call)

    async def _send(self, first: Call) -> None:
        """Sends one call after the other while it may: a task for each would cost as much as its HTTP."""
        call: Call | None = first
        try:
            while call is not None:
                result = await self._ask(call)
                if isinstance(result, Reply):
                    self._ever_up = True
                    self._same_failures = 0
                    self.window.succeeded(call.epoch)
                    self._finished(call, result)
                elif result is not None:
                    self._failed(call, result)
                call = self._next()
                self.pump()
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._tasks.discard(task)

    async def _ask(self, call: Call) -> Reply | RequestFailed | None:
        result: Reply | RequestFailed | None = None
        try:
            result = await self.model.reply(call.request)
        except RequestFailed as failure:
            result = failure
        except Exception as error:  # noqa: BLE001 - a provider's fault, raised by the engine once the rest is stored
            self._stopped = True
            self._crashed(error)
        finally:
            self.in_flight -= 1
            if self.limits.tokens or self.limits.dollars:
                self.limits.settle(call, result)
        return result

    def _failed(self, call: Call, failure: RequestFailed) -> None:
        call.failure = failure
        self._look_for_death(failure)
        if self._dead:
            self._finished(call, self._dead)
            return
        if not failure.retryable:
            self._finished(call, failure)
            return
        after = failure.retry_after
        pushed_back = failure.kind in ("rate_limit", "timeout", "connection", "server")
        if pushed_back and self.window.refused(call.epoch):
            # The endpoint refuses even one at a time: it is its time limit, so leave it alone for a while.
            self._pause(min(60.0, after if after is not None else 1.0))
        if (
            call.attempts >= MAX_ATTEMPTS_OF.get(failure.kind, MAX_ATTEMPTS)
            or (after or 0.0) > RETRY_AFTER_LIMIT_SECONDS
            or self._stopped
        ):
            self._finished(call, failure)
            return
        self._waiting[call] = self._loop.call_later(backoff(call.attempts, after), self._again, call)

    def _again(self, call: Call) -> None:
        del self._waiting[call]
        self.ready.appendleft(call)
        self.pump()

    def _look_for_death(self, failure: RequestFailed) -> None:
        """Decides whether the endpoint is plainly down or wrong, so that thousands of retries would be for nothing."""
        never = not self._ever_up
        unreachable = failure.kind == "connection" or (failure.kind == "timeout" and not failure.paid)
        wrong = failure.kind == "not_found" or (failure.kind == "malformed" and not failure.paid)
        if not (unreachable or failure.kind == "auth" or (never and wrong)):
            self._same_failures = 0
            return
        now = time.monotonic()
        if self._same_failures == 0:
            self._failing_since = now
        self._same_failures += 1
        lasted = now - self._failing_since
        patience = 0.0
        if unreachable:
            patience = DOWN_SECONDS_NEVER_UP if never else DOWN_SECONDS_ONCE_UP
            if not failure.paid:
                self._pause(min(10.0, 0.25 + lasted))
        if (failure.kind == "auth" and never) or (self._same_failures >= DOWN_AFTER and lasted >= patience):
            self._die(failure)

    def _die(self, failure: RequestFailed) -> None:
        self._dead = RequestFailed(failure.kind, failure.message)
        for call, timer in self._waiting.items():
            timer.cancel()
            self.ready.append(call)
        self._waiting.clear()

    def _pause(self, seconds: float) -> None:
        self._closed_until = max(self._closed_until, time.monotonic() + seconds)

    def _awake(self) -> None:
        self._wake = None
        self.pump()

    def _ramp(self) -> None:
        again = self.window.ramp()
        self.pump()
        if again:
            self._ramp_timer = self._loop.call_later(RAMP_SECONDS, self._ramp)

    def stop(self) -> None:
        """Sends nothing more."""
        self._stopped = True

    async def drain(self, seconds: float) -> None:
        """Waits for what is in flight, at most so long, then gives it up."""
        self.stop()
        for timer in (self._ramp_timer, self._wake, *self._waiting.values()):
            if timer is not None:
                timer.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)
        left = set(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
