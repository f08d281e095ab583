"""What takes seconds to read: not again and again while votes come in, and not while somebody waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

State = tuple[Any, ...]

OLD_SECONDS = 600.0
"""So old may be what is shown while it is computed anew; what is older is waited for."""
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    at: State
    seen: float
    busy: bool = False


class Places:
    """For every read, the state of the ledger that it was last done at; safe between threads."""

    def __init__(self) -> None:
        self._known: dict[Hashable, _Known] = {}
        self._lock = threading.Lock()

    def state(self, now: State, key: Hashable, read: Callable[[State], Any]) -> State:
        """Returns the state to read at: `now`, or the one before while a thread reads at `now`.

        Args:
            now: The ledger's state.
            key: Of the read.
            read: Does it, and has it kept.
        """
        with self._lock:
            known = self._known.get(key)
            if known is None or (known.at != now and time.monotonic() - known.seen > OLD_SECONDS):
                # Not taken for known before it is: whoever comes meanwhile waits for the same read.
                self._known[key] = _Known(now, time.monotonic())
                return now
            if known.at == now:
                known.seen = time.monotonic()
            elif not known.busy:
                known.busy = True
                threading.Thread(target=self._anew, args=(now, key, read), name="calm", daemon=True).start()
            return known.at

    def _anew(self, now: State, key: Hashable, read: Callable[[State], Any]) -> None:
        found = False
        try:
            read(now)
            found = True
        except Exception:
            # Whoever asks next reads it, and is told what is wrong.
            log.warning("could not be read in the background: %s", key, exc_info=True)
        with self._lock:
            if found:
                self._known[key] = _Known(now, time.monotonic())
            else:
                self._known.pop(key, None)
