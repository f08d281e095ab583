"""What every model provider speaks: settings, request, reply, failure, and the ChatModel protocol."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter, is_
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

Message = Mapping[str, Any]
"""A chat message in OpenAI's form: role, content, optionally name, tool_calls, tool_call_id."""

FailureKind = Literal[
    "auth",  # 401, 403: wrong or missing key
    "not_found",  # 404: no such model or route
    "bad_request",  # 400, 422: the endpoint refuses this request
    "context_length",  # the prompt is longer than the model's context
    "content_filter",  # the endpoint refuses on content
    "unsupported",  # this provider cannot do it (log-likelihood on a chat-only endpoint)
    "rate_limit",  # 429
    "timeout",
    "connection",  # refused, reset, DNS
    "server",  # 5xx
    "malformed",  # not JSON, HTML, or JSON without an answer
    "empty",  # an answer without text or tool call
    "missing",  # recorded answers: no row for this prompt
]


def canonical_json(value: object) -> str:
    """Serialises to JSON with sorted keys and no spaces, so that equal values give equal text."""
    return _canonical(value)


# Made once: `json.dumps` with these arguments builds an encoder for each call, and this runs for every request.
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_quoted = json.encoder.encode_basestring  # what it does with a string


def sha256(value: object) -> str:
    """Returns the SHA-256 of a value's canonical JSON, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters; None leaves the choice to the task, then to the provider's default.

    Attributes:
        temperature: 0 is greedy.
        max_tokens: Upper limit of generated tokens.
        stop: Strings at which generation ends; not part of the answer.
        seed: Seed of the draw; the sample index is mixed in by the provider.
        extra: Provider-specific parameters, sent as they are.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns only what is set, as plain JSON data."""
        named = {name: value for name in _SAMPLING_FIELDS if (value := getattr(self, name)) is not None}
        for name, plain in (("stop", list), ("extra", dict)):
            if named[name]:
                named[name] = plain(named[name])
            else:
                del named[name]
        return named

    def override(self, other: Sampling) -> Sampling:
        """Returns these parameters with every one that `other` sets taken from there (`extra` merged key by key)."""
        changes = other.to_dict()
        if all(getattr(self, name) is getattr(other, name) for name in changes):
            return self
        if "stop" in changes:
            changes["stop"] = other.stop
        if "extra" in changes:
            changes["extra"] = {**self.extra, **other.extra}
        return dataclasses.replace(self, **changes)


_SAMPLING_FIELDS = tuple(f.name for f in dataclasses.fields(Sampling))
_sampling_values = attrgetter(*_SAMPLING_FIELDS)
_Made = TypeVar("_Made")


class SamplingMemo(Generic[_Made]):
    """A function of sampling parameters that works a value out once: a run has few, and thousands of requests.

    Parameters are the same if they are the same JSON (0 and 0.0 are not), so that no key depends on what came before.
    """

    def __init__(self, make: Callable[..., _Made]) -> None:
        self._make = make
        self._made: dict[str, _Made] = {}
        self._last: tuple[tuple[Sampling, ...], _Made] | None = None

    def __call__(self, *of: Sampling) -> _Made:
        """Returns `make(*of)`."""
        last = self._last
        if last is not None and all(map(is_, last[0], of)):
            return last[1]
        key = repr([_sampling_values(sampling) for sampling in of])
        if key not in self._made:
            if len(self._made) >= 1024:  # each request has its own: not worth keeping
                self._made.clear()
            self._made[key] = self._make(*of)
        made = self._made[key]
        self._last = (of, made)
        return made


_merged = SamplingMemo(Sampling.override)
_sampling_json = SamplingMemo(lambda sampling: canonical_json(sampling.to_dict()))
_NO_SAMPLING = Sampling()


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """A contestant: everything that makes its answers what they are. Equal settings are the same model.

    Attributes:
        provider: openai, hf, embedded, vllm or recorded.
        name: Model name at the provider, hub id, folder or file.
        revision: Hub revision, or the content hash of local weights; for an endpoint what the user states.
        endpoint: Base URL for `openai`, without credentials; the same name elsewhere may be another model.
        dtype: Number format of local weights (float32, bfloat16); answers depend on it.
        system: System prompt put before each conversation.
        sampling: Parameters that win over the task's.
        extra: Further settings that change answers (chat template, context length, quantization).
        label: What boards call it; not part of the identity.
    """

    provider: str
    name: str
    revision: str | None = None
    endpoint: str | None = None
    dtype: str | None = None
    system: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    extra: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    def identity(self) -> dict[str, Any]:
        """Returns what is hashed: all settings but the label."""
        return {
            "provider": self.provider,
            "name": self.name,
            "revision": self.revision,
            "endpoint": self.endpoint,
            "dtype": self.dtype,
            "system": self.system,
            "sampling": self.sampling.to_dict(),
            "extra": dict(self.extra),
        }

    @property
    def hash(self) -> str:
        """64 hex digits; the model's identity in the ledger."""
        return sha256(self.identity())


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked of a model: a chat, a raw completion, or log-likelihoods.

    Exactly one of `messages`, `prompt`, `pairs` is given.

    Attributes:
        messages: A conversation; if the last is the assistant's, the model continues it.
        prompt: Raw text to continue, no chat template.
        pairs: (context, continuation): the reply gives each continuation's summed log-probability in nats.
        sampling: The task's parameters; a model's own win over them (see `effective`).
        tools: Tool definitions in OpenAI's form.
        response_schema: JSON schema that the answer must follow, where the provider can enforce it.
        logprobs: Number of alternatives to report per generated token; None for no log-probabilities.
        sample: Index among several answers to one prompt.
    """

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    tools: tuple[Mapping[str, Any], ...] = ()
    response_schema: Mapping[str, Any] | None = None
    logprobs: int | None = None
    sample: int = 0

    def effective(self, settings: ModelSettings) -> Request:
        """Returns the request as this model gets it: its system prompt first, its sampling over the task's.

        Log-likelihood requests draw nothing, so sampling is dropped from them.
        """
        messages = self.messages
        if messages and settings.system and messages[0].get("role") != "system":
            messages = ({"role": "system", "content": settings.system}, *messages)
        sampling = _NO_SAMPLING if self.pairs else _merged(self.sampling, settings.sampling)
        if messages is self.messages and sampling is self.sampling:
            return self
        return Request(
            messages,
            self.prompt,
            self.pairs,
            sampling,
            self.tools,
            self.response_schema,
            self.logprobs,
            self.sample,
        )

    def body(self, settings: ModelSettings) -> str:
        """Returns the canonical JSON whose SHA-256 is the request key (DESIGN: request key)."""
        effective = self.effective(settings)
        # The keys in their order, put together by hand: to sort and encode the whole costs three times as much.
        head, name, provider, revision = _settings_json(settings)
        parts = [head]
        if self.logprobs is not None:
            parts.append(f',"logprobs":{canonical_json(self.logprobs)}')
        if effective.messages:
            parts.append(f',"messages":{_messages_json(effective.messages)}')
        parts.append(name)
        if self.pairs:
            parts.append(f',"pairs":{canonical_json(self.pairs)}')
        if self.prompt is not None:
            parts.append(f',"prompt":{canonical_json(self.prompt)}')
        parts.append(provider)
        if self.response_schema is not None:
            parts.append(f',"response_schema":{canonical_json(dict(self.response_schema))}')
        parts.append(
            f'{revision},"sample":{canonical_json(self.sample)},"sampling":{_sampling_json(effective.sampling)}'
        )
        if self.tools:
            parts.append(f',"tools":{canonical_json([dict(t) for t in self.tools])}')
        parts.append("}")
        return "".join(parts)


_settings_parts: tuple[ModelSettings | None, tuple[str, str, str, str]] = (None, ("", "", "", ""))


def _settings_json(settings: ModelSettings) -> tuple[str, str, str, str]:
    """Returns a body's parts that are the model's: its beginning, `name`, `provider` and `revision`."""
    global _settings_parts  # of the last model: one has thousands of requests in a row
    known, parts = _settings_parts
    if known is not settings:
        first = {"dtype": settings.dtype, "endpoint": settings.endpoint, "extra": dict(settings.extra)}
        name, provider, revision = (canonical_json(v) for v in (settings.name, settings.provider, settings.revision))
        parts = (
            canonical_json(first)[:-1],
            f',"name":{name}',
            f',"provider":{provider}',
            f',"revision":{revision}',
        )
        _settings_parts = (settings, parts)
    return parts


def _messages_json(messages: tuple[Message, ...]) -> str:
    parts = []
    for message in messages:
        if len(message) != 2 or type(message.get("content")) is not str or type(message.get("role")) is not str:
            return canonical_json([dict(m) for m in messages])
        parts.append(f'{{"content":{_quoted(message["content"])},"role":{_quoted(message["role"])}}}')
    return f"[{','.join(parts)}]"


def request_key(body: str) -> str:
    """Returns the request key (64 hex digits) of a request's `body`."""
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered.

    Attributes:
        text: The answer; for `pairs` the continuation with the highest log-probability.
        reasoning: Thinking text where the provider separates it.
        finish_reason: stop, length, tool_calls or content_filter.
        logprobs: For `pairs` a list of [sum of log-probabilities in nats, is_greedy]; for a generation the
            provider's token list [{token, logprob, top: [[token, logprob], ...]}, ...].
        seconds: From sending to the last byte, queueing in our own process excluded.
        served_by: Model name or fingerprint the endpoint reports.
        warnings: Sentences about what the provider silently ignored or changed.
    """

    text: str = ""
    reasoning: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    logprobs: list[Any] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    seconds: float = 0.0
    served_by: str | None = None
    warnings: tuple[str, ...] = ()


class RequestFailed(Exception):
    """A request that gave no answer.

    Args:
        kind: What happened.
        message: One sentence for the user.
        retryable: Whether the same request may succeed later.
        retry_after: Seconds the endpoint asked to wait.
        paid: Whether an answer was (or may have been) produced and billed, though it was lost or unusable.
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        paid: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.message = message
        self.retryable = retryable
        self.retry_after = retry_after
        self.paid = paid


@runtime_checkable
class ChatModel(Protocol):
    """A model that answers requests. Strategies wrap one and are one."""

    @property
    def settings(self) -> ModelSettings:
        """Who this is."""
        ...

    @property
    def max_concurrency(self) -> int:
        """How many requests it is worth holding open at once (an endpoint's limit, a local model's batches)."""
        ...

    async def reply(self, request: Request) -> Reply:
        """Answers one request, which is already `effective`.

        Raises:
            RequestFailed: No answer; says whether a retry may help.
        """
        ...

    async def close(self) -> None:
        """Frees connections or weights; the model may not be used after."""
        ...
