"""Limits on sending: adaptive concurrency, rates, dollars, back-off."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

START_WINDOW = 64
RAMP_SECONDS = 0.025
TOLERANCE = 0.15
CUT = 0.7
RETRY_AFTER_LIMIT_SECONDS = 300.0


class Window:
    """How many requests may be in flight: slow start, additive growth, multiplicative cut (AIMD, as in TCP).

    Slow start doubles with every round of answers, and with time as well: a model may take half a minute to answer,
    and an endpoint that is too full says so at once. A share of refusals up to `TOLERANCE` is noise, retried but not
    acted on; above it the window is cut once, and refusals of requests sent before the cut no longer count.

    Args:
        ceiling: Never more than this.
        start: Size of the window at the beginning.
    """

    def __init__(self, ceiling: int, start: int = START_WINDOW) -> None:
        self.ceiling = max(1, ceiling)
        self.size = min(self.ceiling, start)
        self.epoch = 0
        self.ramping = self.size < self.ceiling
        self._threshold = self.ceiling
        self._good = self.size
        self._done = self._refused = 0

    def ramp(self) -> bool:
        """Doubles the window in the first slow start; returns whether to call again after `RAMP_SECONDS`."""
        if self.ramping:
            self.size = min(self.ceiling, self.size * 2)
            self.ramping = self.size < self.ceiling
        return self.ramping

    def succeeded(self, epoch: int) -> None:
        """Counts an answer to a request sent in `epoch`."""
        if self.size < self._threshold:
            self.size = min(self.ceiling, self.size + 1)
        self._count(epoch)

    def refused(self, epoch: int) -> bool:
        """Counts a refusal (429, 5xx, timeout, reset); returns whether the window is as small as it gets."""
        if epoch != self.epoch:
            return False
        self.ramping = False
        self._refused += 1
        if self._refused >= max(3.0, TOLERANCE * self.size):
            self.size = max(1, int(self.size * CUT))
            self._good //= 2  # a second cut before a good round lowers the aim of the recovery further
            self._threshold = max(self.size, self._good)
            self._next_epoch()
            return self.size == 1
        self._count(epoch)
        return False

    def _count(self, epoch: int) -> None:
        if epoch != self.epoch:
            return
        self._done += 1
        if self._done >= max(self.size, 20):
            self._good = self.size
            if self.size >= self._threshold:
                self.size = min(self.ceiling, self.size + max(1, self.size // 20))
            self._done = self._refused = 0

    def _next_epoch(self) -> None:
        self.epoch += 1
        self._done = self._refused = 0


class RateLimit:
    """Token bucket that keeps any 60 seconds within `per_minute`; it holds at most one second's worth.

    Args:
        per_minute: Units (requests, tokens) a minute.
        clock: Seconds, for tests.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = max(1.0, per_minute / 60)
        self._per_second = max(per_minute - self._capacity, 0.5) / 60
        self._level = self._capacity
        self._clock = clock
        self._at = clock()

    def wait(self) -> float:
        """Returns the seconds until something may be sent; 0.0 is now."""
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._at) * self._per_second)
        self._at = now
        need = min(1.0, self._capacity) - self._level
        return need / self._per_second if need > 1e-9 else 0.0

    def take(self, amount: float) -> None:
        """Takes `amount`, into debt if need be (one request may hold more tokens than a second is worth); a negative
        amount gives back what an estimate took too much."""
        self._level -= amount


class DollarLimit:
    """Dollars that may still be spent, with what requests in flight may cost set aside.

    Args:
        limit: US dollars.
        spent: What was paid before.
    """

    def __init__(self, limit: float, spent: float = 0.0) -> None:
        self.limit = limit
        self.spent = spent
        self.reserved = 0.0

    def fits(self, estimate: float) -> bool:
        """Whether a request of this estimated cost can be afforded next to those in flight."""
        return self.spent + self.reserved + estimate <= self.limit

    def reserve(self, estimate: float) -> None:
        """Sets a request's estimated cost aside."""
        self.reserved += estimate

    def settle(self, estimate: float, paid: float) -> None:
        """Replaces a request's estimate by what it cost."""
        self.reserved -= estimate
        self.spent += paid


def backoff(attempt: int, retry_after: float | None, draw: Callable[[float, float], float] = random.uniform) -> float:
    """Returns the seconds to wait before attempt `attempt` + 1: full jitter, uniform in [0, min(60, 0.5 * 2^attempt)].

    After a Retry-After the jitter comes on top of it, and is at most a quarter of it, so that those who were refused
    together do not come back together.
    """
    if retry_after is not None:
        return retry_after + draw(0.0, 0.1 + retry_after / 4)
    return draw(0.0, min(60.0, 0.5 * 2**attempt))
