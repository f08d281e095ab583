"""Which rows a local model computes together: lm-eval's order, for a near tie falls as the batch's shape decides.

A matrix product rounds differently with its number of rows, attention with the padding on a row's left. The same
rows in the same batches, with the same padding, give the numbers of lm-eval's `hf` to the last bit.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from evalkit.models.base import Request, canonical_json
from evalkit.models.batching import Batch, Pending

DEFAULT_MAX_TOKENS = 512

Ids: TypeAlias = "array[int]"
"""Token ids, four bytes each: a benchmark of long prompts has tens of millions."""


def token_ids(ids: Sequence[int]) -> Ids:
    """Packs token ids."""
    return array("I", ids)


@dataclass(slots=True)
class Prompt:
    """A generation that waits: the text that the model sees, and its token ids."""

    text: str
    ids: Ids


@dataclass(slots=True)
class Scoring:
    """Log-likelihoods that wait.

    Attributes:
        pairs: Token ids of each context and continuation.
        values: [sum of log-probabilities in nats, is_greedy] of each, None before it is computed.
        seconds: Spent on it so far.
    """

    pairs: list[tuple[Ids, Ids]]
    values: list[list[float | bool] | None]
    seconds: float = 0.0


@dataclass(slots=True)
class Input:
    """One row that a model scores: continuations which differ only in their last token share it.

    Attributes:
        ids: Context and longest continuation.
        span: Length of that continuation.
        wanted: For each value read off it the request, the index of its pair, and the continuation's ids.
    """

    ids: Ids
    span: int
    wanted: list[tuple[Pending, int, Ids]]


def max_tokens(request: Request) -> int:
    """Returns how many tokens a generation may have."""
    return request.sampling.max_tokens or DEFAULT_MAX_TOKENS


def kind(request: Request) -> str:
    """Returns what the rows of a batch share: all but the seed, since each row draws from its own generator."""
    if request.pairs:
        return "pairs"
    sampling = {k: v for k, v in request.sampling.to_dict().items() if k != "seed"}
    return canonical_json([sampling, request.logprobs is not None])


def generation_batches(alike: Sequence[Pending], batch_size: int, limit: int) -> list[Batch]:
    """Cuts generations of one kind into batches, longest prompt first, equal lengths by text.

    Args:
        alike: With a `Prompt` each.
        limit: The model's context in tokens. A row that it cuts short runs alone: its neighbours may write on.
    """
    ordered = sorted(alike, key=lambda p: (-len(p.work.ids), p.work.text))
    fitting = [p for p in ordered if len(p.work.ids) + max_tokens(p.request) <= limit]
    short = [p for p in ordered if len(p.work.ids) + max_tokens(p.request) > limit]
    chunks = [fitting[i : i + batch_size] for i in range(0, len(fitting), batch_size)]
    return [Batch(rows) for rows in (*chunks, *([p] for p in short))]


def likelihood_batches(alike: Sequence[Pending], batch_size: int) -> list[Batch]:
    """Cuts the distinct inputs of all pairs into batches, longest first, equal lengths by token ids.

    Args:
        alike: With a `Scoring` each; a batch may serve parts of many of them.
    """
    inputs: dict[bytes, Input] = {}
    for pending in alike:
        scoring: Scoring = pending.work
        for index, (context, continuation) in enumerate(scoring.pairs):
            if scoring.values[index] is not None:
                continue
            ids = context + continuation
            found = inputs.setdefault(ids[:-1].tobytes(), Input(ids, len(continuation), []))
            if len(continuation) > found.span:
                found.ids, found.span = ids, len(continuation)
            found.wanted.append((pending, index, continuation))
    ordered = sorted(inputs.values(), key=lambda i: (-len(i.ids), i.ids))
    batches = []
    for at in range(0, len(ordered), batch_size):
        rows = ordered[at : at + batch_size]
        asked = list({id(p): p for row in rows for p, _, _ in row.wanted}.values())
        batches.append(Batch(asked, rows))
    return batches
