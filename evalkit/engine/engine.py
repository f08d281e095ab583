"""The engine: jobs in, stored outcomes out. Looks answers up before it sends, and stores them before it reports."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from evalkit.engine.drive import Drive, asks_by_batch
from evalkit.engine.limits import DollarLimit, RateLimit
from evalkit.engine.pool import Limits
from evalkit.engine.progress import Progress
from evalkit.engine.types import Budget, Job, Outcome
from evalkit.errors import UserError
from evalkit.models.base import ChatModel
from evalkit.models.prices import Prices
from evalkit.store import Ledger

DEFAULT_CONCURRENCY = 256

_log = logging.getLogger(__name__)


class _Submitted(Exception):
    """Ends a step that was done for its requests alone."""


class Engine:
    """Drives the requests of one run, one model and stage after the other.

    Args:
        ledger: Where answers are looked up and stored.
        run_id: The run they are linked to.
        budget: Rates hold for endpoints; dollars for the whole run, what it paid before it was resumed included.
        prices: Price list; the built-in one by default.
        progress: Who is told; None for nobody.
        offline: Never send; what is not in the ledger becomes an outcome that failed with `missing`.

    Example:
        >>> with Engine(ledger, run_id) as engine:
        ...     outcomes = engine.run(model, jobs, label="gsm8k")
    """

    def __init__(
        self,
        ledger: Ledger,
        run_id: int,
        *,
        budget: Budget = Budget(),  # noqa: B008 - frozen
        prices: Prices | None = None,
        progress: Progress | None = None,
        offline: bool = False,
    ) -> None:
        self.ledger = ledger
        self.run_id = run_id
        self.budget = budget
        self.progress = progress
        self.offline = offline
        self.prices = prices or Prices.load()
        self.warnings: dict[tuple[str, str], int] = {}
        """(model name, what its server ignored) -> number of answers."""
        self.done = self.total = self.errors = 0
        self.set_aside: set[str] = set()
        """Keys of requests submitted ahead, for which dollars are set aside."""
        self._ahead = False
        requests, tokens = budget.requests_per_minute, budget.tokens_per_minute
        self._rates = (RateLimit(requests) if requests else None, RateLimit(tokens) if tokens else None)
        self._dollars = DollarLimit(budget.dollars, self._spent()) if budget.dollars is not None else None
        self._runner: asyncio.Runner | None = None

    def run(self, model: ChatModel, jobs: Sequence[Job], *, label: str = "") -> list[Outcome]:
        """Gets an outcome for every job, from the ledger or from the model, and stores it.

        Returns:
            Outcomes in the order of the jobs. Failures are outcomes too.

        Raises:
            UserError: The ledger cannot be written, a dollar budget lacks a price, or the model cannot start.
            KeyboardInterrupt: Ctrl-C; what had been answered is stored.
        """
        outcomes = self._loop_runner().run(self.arun(model, jobs, label=label))
        if self._ahead:
            raise _Submitted
        return outcomes

    def submit_ahead(self, step: Callable[[], object]) -> None:
        """Does a step up to its first `run`, whose jobs at a batch API are submitted and not waited for.

        Each of several models' jobs may take a day: first submit them all, then do the steps in earnest.

        Args:
            step: Asks a model that is asked by batch; it is left with an exception.
        """
        self._ahead = True
        try:
            step()
        except _Submitted:
            return
        finally:
            self._ahead = False

    async def arun(self, model: ChatModel, jobs: Sequence[Job], *, label: str = "") -> list[Outcome]:
        """The same as `run` for callers inside an event loop; cancelling it is Ctrl-C."""
        limits = self._limits(model)
        self.total += 0 if self._ahead else len(jobs)
        ceiling = model.max_concurrency
        if model.settings.provider == "openai":
            ceiling = min(ceiling, self.budget.max_concurrency or DEFAULT_CONCURRENCY)
        label = label or model.settings.label or model.settings.name
        drive = Drive(self, model, jobs, limits, ceiling, label, self._ahead)
        try:
            return await drive.outcomes()
        finally:
            await asyncio.to_thread(self._update_run)

    def release(self, model: ChatModel) -> None:
        """Closes a model that is done, in the loop that its connections belong to; frees its weights."""
        if self._runner is not None:
            self._runner.run(model.close())

    def close(self) -> None:
        """Ends the event loop; models are to be released before."""
        if self._runner is not None:
            self._runner.close()
        self._runner = None

    def _loop_runner(self) -> asyncio.Runner:
        if self._runner is None:
            self._runner = asyncio.Runner(loop_factory=_loop_factory())
        return self._runner

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def counts(self) -> tuple[int, int, int]:
        """Returns (done, total, errors) of this engine so far."""
        return self.done, self.total, self.errors

    def _update_run(self) -> None:
        done, total, errors = self.counts()
        self.ledger.update_run(self.run_id, done=done, total=total, errors=errors)

    def say(self, sentence: str) -> None:
        """Tells the user something."""
        if self.progress:
            self.progress.say(sentence)
        else:
            _log.info(sentence)

    def note_warning(self, model: str, sentence: str) -> None:
        """Counts what a server ignored, and says it the first time."""
        key = (model, sentence)
        if key not in self.warnings:
            if self.progress:
                self.progress.warn(f"{model}: {sentence}")
            else:
                _log.warning("%s: %s", model, sentence)
        self.warnings[key] = self.warnings.get(key, 0) + 1

    def _limits(self, model: ChatModel) -> Limits:
        settings = model.settings
        if self._dollars is not None and self.prices.estimate(settings, 1, 1) is None and not self.offline:
            raise UserError(
                f"budget: the dollar limit cannot be kept, for the price of {settings.name} at {settings.endpoint} is "
                "unknown: add it to your price list (0 for a server of your own), or take `dollars` out of the budget"
            )
        by_batch = asks_by_batch(model)  # which has quotas of its own
        requests, tokens = self._rates if settings.provider == "openai" and not by_batch else (None, None)
        return Limits(requests, tokens, self._dollars, lambda reply: self.prices.cost(settings, reply, batch=by_batch))

    def _spent(self) -> float:
        with self.ledger.engine.connect() as connection:
            query = sa.text("SELECT sum(cost) FROM run_cell WHERE run_id = :run_id")
            return float(connection.scalar(query, {"run_id": self.run_id}) or 0.0)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    loop: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return loop
