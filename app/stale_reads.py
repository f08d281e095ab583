"""Stale while revalidate: what takes seconds to read is shown as it was last read, while a thread reads it anew."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

State = tuple[Any, ...]
T = TypeVar("T")

OLD_SECONDS = 600.0
"""So old may be what is shown while it is computed anew; what is older is waited for."""
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    at: State
    seen: float
    done: bool = False
    busy: bool = False


class StaleReads:
    """For every read, the state of the ledger that it was last done at; safe between threads."""

    def __init__(self) -> None:
        self._known: dict[Hashable, _Known] = {}
        self._lock = threading.Lock()

    def read(self, now: State, key: Hashable, read: Callable[[State], T]) -> T:
        """Reads at this state, or at the one before while a thread reads at this.

        Args:
            now: The ledger's state.
            key: Of the read.
            read: Does it, and keeps what it found.
        """
        at = self._state(now, key, read)
        found = read(at)
        with self._lock:
            known = self._known.get(key)
            if known is not None and known.at == at:
                known.done = True
        return found

    def _state(self, now: State, key: Hashable, read: Callable[[State], Any]) -> State:
        with self._lock:
            known = self._known.get(key)
            if known is None or (known.at != now and time.monotonic() - known.seen > OLD_SECONDS):
                # Whoever comes meanwhile waits for the same read.
                self._known[key] = _Known(now, time.monotonic())
                return now
            if known.at == now:
                known.seen = time.monotonic()
            elif not known.busy:
                known.busy = True
                threading.Thread(target=self._revalidate, args=(now, key, read), name="revalidate", daemon=True).start()
            return known.at

    def cached(self, now: State, key: Hashable) -> bool:
        """Whether `read` need not be waited for."""
        with self._lock:
            known = self._known.get(key)
            fresh = known is not None and (known.at == now or time.monotonic() - known.seen <= OLD_SECONDS)
            return known is not None and known.done and fresh

    def _revalidate(self, now: State, key: Hashable, read: Callable[[State], Any]) -> None:
        found = False
        try:
            read(now)
            found = True
        except Exception:
            # Whoever asks next reads it, and is told what is wrong.
            log.warning("could not be read in the background: %s", key, exc_info=True)
        with self._lock:
            if found:
                self._known[key] = _Known(now, time.monotonic(), done=True)
            else:
                self._known.pop(key, None)
