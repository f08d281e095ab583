"""What goes into the engine and what comes out."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.models.base import Reply, Request, RequestFailed


@dataclass(frozen=True, slots=True)
class Job:
    """One question to one model, with the ledger rows that the answer belongs to.

    Attributes:
        request: As the task states it; the engine applies the model's system prompt and sampling.
        turn: Of a conversation, from 1.
    """

    model_id: int
    item_id: int
    dataset_id: int
    request: Request
    turn: int = 1


class NotSent(RequestFailed):
    """Nothing was sent, so that nothing is stored: the budget is used up, or offline and not in the ledger."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job.

    Attributes:
        response_id: Row in the ledger; None only if nothing was sent (budget used up, or offline and not cached).
        cached: Whether the answer was in the ledger before.
        cost: US dollars paid in this run; None if no price is known.
    """

    response_id: int | None
    result: Reply | RequestFailed
    cached: bool
    cost: float | None

    @property
    def reply(self) -> Reply | None:
        """The answer, or None if there is none."""
        return self.result if isinstance(self.result, Reply) else None


@dataclass(frozen=True)
class Budget:
    """Limits that the engine keeps by itself; None is no limit.

    All but the dollars hold for endpoints only; a local model computes in batches of its own.

    Attributes:
        dollars: For the whole run, what earlier attempts of it paid included; no request is sent that could exceed it.
        max_concurrency: Requests in flight; the adaptive window stays below it.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    dollars: float | None = None
    max_concurrency: int | None = None
