"""Plain rows that go into the ledger; the database's own ids come back from the writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from evalkit.models.base import Message, Reply, RequestFailed, sha256

AnnotatorKind = Literal["human", "judge", "metric"]
Winner = Literal["model_a", "model_b", "tie", "both_bad"]
WINNERS: tuple[Winner, ...] = ("model_a", "model_b", "tie", "both_bad")


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt with what is known about it.

    Attributes:
        messages: The conversation up to the model's turn.
        reference: Right answer, verifier spec, or whatever a metric needs; plain JSON.
        tags: Slice features: topic, difficulty, length, format, language, ...
        name: The source's own id (doc id, question id); not part of the content hash.
        split: dev, test, ...; not part of the content hash.
    """

    messages: tuple[Message, ...]
    reference: Any = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    split: str = ""

    @property
    def hash(self) -> str:
        """Content hash, 64 hex digits."""
        return sha256(
            {"messages": [dict(m) for m in self.messages], "reference": self.reference, "tags": dict(self.tags)}
        )


@dataclass(frozen=True, slots=True)
class ResponseRow:
    """An answer, or the failure to get one, to one item.

    Attributes:
        request_key: SHA-256 of `body`.
        body: Canonical JSON of the effective request (see `Request.body`).
        outcome: The reply, or why there is none.
        cost: US dollars; None if no price is known.
        attempts: How often the request was sent.
        turn: Of a conversation, from 1.
    """

    model_id: int
    item_id: int
    dataset_id: int
    request_key: str
    body: str
    outcome: Reply | RequestFailed
    sample: int = 0
    cost: float | None = None
    attempts: int = 1
    turn: int = 1


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as found in the ledger."""

    id: int
    model_id: int
    item_id: int
    request_key: str
    reply: Reply
    cost: float | None


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A job at an endpoint's batch API, as the ledger knows it.

    Attributes:
        token: Ours, in the job's metadata.
        route: What its requests are sent to, as `/v1/chat/completions`.
        file_id: The uploaded requests; None until they are.
        provider_id: The job's id at the endpoint; None until it has accepted the job.
        status: preparing, then the endpoint's own word.
        keys: Of requests whose results are still to be stored.
        corrections: Parameters with their new names (None: left out), as the endpoint refuses them.
        created_at: UTC, ISO 8601.
    """

    id: int
    token: str
    route: str
    file_id: str | None
    provider_id: str | None
    status: str
    model_id: int
    n: int
    keys: tuple[str, ...]
    corrections: Mapping[str, str | None]
    created_at: str


@dataclass(frozen=True, slots=True)
class GradeRow:
    """An annotator's value for one response on one criterion; `value` None with `error` says why there is none."""

    response_id: int
    annotator_id: int
    criterion: str
    value: float | None
    error: str | None = None
    replicate: int = 0
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class BattleRow:
    """Two contestants on one item. Responses are None for imported votes that carry no texts.

    The pair is unordered: the ledger stores the model with the lower id as model_a.
    """

    item_id: int
    model_a_id: int
    model_b_id: int
    response_a_id: int | None = None
    response_b_id: int | None = None
    turn: int = 1


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """An annotator's preference in a battle, in the battle's own a/b naming.

    Attributes:
        order: Which response was shown first: ab or ba; "" where unknown.
        winner: None only with `error`.
        probability: Probability that model_a's answer is preferred, 0..1.
        response_id: The judge's own response that this was read from.
    """

    battle_id: int
    annotator_id: int
    order: Literal["ab", "ba", ""]
    winner: Winner | None
    criterion: str = "overall"
    replicate: int = 0
    probability: float | None = None
    rationale: str | None = None
    error: str | None = None
    seconds: float | None = None
    response_id: int | None = None
    created_at: str | None = None


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One cell of a score table: a metric's summary for a model on a dataset within a run.

    Attributes:
        metric: As lm-eval names it: "exact_match,strict-match".
        stderr: Standard error of `value`; clustered where the task has groups.
        n: Documents scored; failed ones are in `errors`, never in `n`. None where an imported table does not say.
    """

    model_id: int
    dataset_id: int
    metric: str
    value: float | None
    stderr: float | None
    n: int | None
    errors: int = 0
    higher_is_better: bool = True
