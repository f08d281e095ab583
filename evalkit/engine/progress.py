"""Progress of a run: what the engine tells, and bars on a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console

LINE_SECONDS = 30.0


class Progress(Protocol):
    """Who is told how far a run is. The methods are called from the engine's thread, often: they must be quick."""

    def start(self, label: str, total: int, *, done: int = 0) -> Any:
        """Begins a bar, of which `done` were done before; returns its handle."""
        ...

    def advance(
        self,
        handle: Any,
        n: int,
        *,
        errors: int = 0,
        cached: int = 0,
        cost: float = 0.0,
        window: int = 0,
        note: str | None = None,
    ) -> None:
        """Says that `n` more are stored, how many of them failed, were cached, and what they cost.

        Args:
            note: Stands behind the figures from now on: what requests do elsewhere, a training's losses.
        """
        ...

    def say(self, message: str) -> None:
        """Says something once."""
        ...

    def warn(self, message: str) -> None:
        """Warns of something once."""
        ...

    def finish(self, handle: Any) -> None:
        """Ends a bar."""
        ...


class RichProgress:
    """Bars on a terminal; plain lines every `LINE_SECONDS` where there is none (a log file, CI).

    Args:
        console: Where to; standard error by default, so that tables on standard output stay clean.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self._console = console or Console(stderr=True)
        self._bars: Any = None
        self._open = 0
        self._state: dict[int, dict[str, Any]] = {}
        self._next = 0

    def start(self, label: str, total: int, *, done: int = 0) -> int:
        """Begins a bar."""
        handle, self._next = self._next, self._next + 1
        now = time.monotonic()
        self._state[handle] = {
            "label": label, "total": total, "done": done, "before": done, "errors": 0, "cached": 0, "cost": 0.0,
            "said": now, "since": now, "note": "",
        }  # fmt: skip
        self._open += 1
        if self._console.is_terminal:
            if self._bars is None:
                self._bars = self._make_bars()
                self._bars.start()
            self._state[handle]["task"] = self._bars.add_task(label, total=total, completed=done, note="")
        return handle

    def _make_bars(self) -> Any:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        return Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            refresh_per_second=4,
            # What goes into a file while a bar is shown must not be sent to the terminal instead.
            redirect_stdout=sys.stdout.isatty(),
        )

    def advance(
        self,
        handle: int,
        n: int,
        *,
        errors: int = 0,
        cached: int = 0,
        cost: float = 0.0,
        window: int = 0,
        note: str | None = None,
    ) -> None:
        """Moves a bar."""
        state = self._state[handle]
        news = bool(n) or note not in (None, state["note"])  # a log need not hold a day of the same line
        state["note"] = state["note"] if note is None else note
        state["done"] += n
        state["errors"] += errors
        state["cached"] += cached
        state["cost"] += cost
        if "task" in state:
            self._bars.update(state["task"], advance=n, note=_note(state))
        elif news and state["done"] < state["total"] and time.monotonic() - state["said"] >= LINE_SECONDS:
            state["said"] = time.monotonic()
            self._line(state)

    def say(self, message: str) -> None:
        """Prints a sentence above the bars."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """Prints a warning above the bars."""
        self._console.print(f"Warning: {message}", style="yellow", markup=False, highlight=False, soft_wrap=True)

    def finish(self, handle: int) -> None:
        """Ends a bar; the last one open frees the terminal."""
        state = self._state.pop(handle)
        if "task" not in state:
            self._line(state, ended=True)
        self._open -= 1
        if self._open == 0 and self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _line(self, state: dict[str, Any], *, ended: bool = False) -> None:
        seconds = time.monotonic() - state["since"]
        left, done = state["total"] - state["done"], state["done"] - state["before"]
        rest = f", about {seconds / done * left:.0f} s left" if left and done and not ended else ""
        text = f"{state['label']}: {state['done']}/{state['total']} in {seconds:.1f} s{rest} {_note(state)}".rstrip()
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _note(state: dict[str, Any]) -> str:
    parts = [f"{state['errors']} failed"] if state["errors"] else []
    parts += [f"{state['cached']} cached"] if state["cached"] else []
    parts += [f"${state['cost']:.4f}"] if state["cost"] else []
    parts += [state["note"]] if state["note"] and state["done"] < state["total"] else []
    return ", ".join(parts)
