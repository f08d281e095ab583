"""OpenAI's wire format: a Request as a payload, and a completion as a Reply that says what the server ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from evalkit.models.base import Reply, Request, RequestFailed, Sampling, SamplingMemo, canonical_json


def chat_payload(name: str, request: Request) -> dict[str, Any]:
    """Builds the body of a chat completion request."""
    payload: dict[str, Any] = {"model": name, "messages": list(request.messages), **_sampling(request)}
    if request.tools:
        payload["tools"] = list(request.tools)
    if request.response_schema is not None:
        schema = {"name": "answer", "schema": request.response_schema, "strict": True}
        payload["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.logprobs is not None:
        payload["logprobs"] = True
        payload["top_logprobs"] = request.logprobs
    if request.messages[-1].get("role") == "assistant":
        # vLLM's words for "go on with this message"; servers that do not know them refuse, and are corrected.
        payload["continue_final_message"] = True
        payload["add_generation_prompt"] = False
    return payload


_quoted = json.encoder.encode_basestring_ascii  # what `json.dumps` does with a string
_sampling_tail = SamplingMemo(lambda sampling: json.dumps(_named(sampling, 0))[1:])


def plain_chat(name: str, request: Request) -> bytes | None:
    """Encodes the `chat_payload` of a request of nothing but texts and sampling, as nearly all are, in a tenth of the
    time; None for any other."""
    if (
        request.tools
        or request.response_schema is not None
        or request.logprobs is not None
        or request.sample
        or request.sampling.extra
    ):
        return None
    messages = []
    role: Any = None
    for message in request.messages:
        role, content = message.get("role"), message.get("content")
        if len(message) != 2 or type(content) is not str or type(role) is not str:
            return None
        messages.append(f'{{"role": {_quoted(role)}, "content": {_quoted(content)}}}')
    if role == "assistant":
        return None
    tail = _sampling_tail(request.sampling)
    start = f'{{"model": {_quoted(name)}, "messages": [{", ".join(messages)}]'
    return (f"{start}, {tail}" if len(tail) > 1 else f"{start}{tail}").encode()


def completion_payload(name: str, request: Request) -> dict[str, Any]:
    """Builds the body of a raw completion request."""
    payload = {"model": name, "prompt": request.prompt, **_sampling(request)}
    if request.logprobs is not None:
        payload["logprobs"] = request.logprobs
    return payload


def payload_of(name: str, request: Request) -> dict[str, Any]:
    """Builds the body of a chat or raw completion request, whichever it is."""
    return chat_payload(name, request) if request.messages else completion_payload(name, request)


def _sampling(request: Request) -> dict[str, Any]:
    return _named(request.sampling, request.sample)


def _named(sampling: Sampling, sample: int) -> dict[str, Any]:
    payload = sampling.to_dict()
    payload.update(payload.pop("extra", {}))
    if "seed" in payload:
        payload["seed"] += sample  # else a server with a fixed seed gives n times the same answer
    return payload


def correct(payload: Mapping[str, Any], corrections: Mapping[str, str | None]) -> dict[str, Any]:
    """Returns a payload with parameters renamed, or left out where the new name is None."""
    if not corrections:
        return dict(payload)
    names = {name: corrections.get(name, name) for name in payload}
    if names.get("logprobs", "") is None:
        names.pop("top_logprobs", None)  # refused without the other
    return {new: payload[name] for name, new in names.items() if new is not None}


def parse_completion(
    document: Any, request: Request, seconds: float, corrections: Mapping[str, str | None] | None = None
) -> Reply:
    """Reads a chat or raw completion.

    Args:
        corrections: What the request's parameters were corrected by (see `correct`): the reply warns of those.

    Raises:
        RequestFailed: `malformed`, `empty` or `content_filter`.
    """
    try:
        choice = document["choices"][0]
        message = choice["message"] if "message" in choice else {"content": choice["text"]}
        text, reasoning, tool_calls = _content(message)
    except (KeyError, IndexError, TypeError) as error:
        shown = json.dumps(document)[:200]
        raise RequestFailed(
            "malformed", f"the reply is JSON without an answer in `choices`: {shown}", retryable=True, paid=True
        ) from error
    usage = _mapping(document.get("usage"))
    finish = choice.get("finish_reason")
    completion_tokens = _count(usage.get("completion_tokens"))
    text, warnings = _check(text, request, finish, completion_tokens)
    if not text and not tool_calls:
        _check_empty(request, finish, reasoning, completion_tokens, usage)
    logprobs = _token_logprobs(choice.get("logprobs"))
    if request.logprobs is not None and logprobs is None:
        warnings.append("the server ignores `logprobs`: none came back")
    if corrections:
        warnings += _refusals(payload_of("", request), corrections)
    return Reply(
        text=text,
        reasoning=reasoning,
        tool_calls=tool_calls,
        finish_reason=finish,
        logprobs=logprobs,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=completion_tokens,
        cached_tokens=_count(_mapping(usage.get("prompt_tokens_details")).get("cached_tokens")),
        seconds=seconds,
        served_by=served_by(document),
        warnings=tuple(warnings),
    )


def _refusals(payload: Mapping[str, Any], corrections: Mapping[str, str | None]) -> list[str]:
    return [
        f"the server refuses `{name}`: sent as `{new}`" if new else f"the server refuses `{name}`: left out"
        for name, new in corrections.items()
        if name in payload
    ]


def served_by(document: Mapping[str, Any]) -> str | None:
    """Returns the model name the endpoint reports, with its fingerprint after a space where it has one."""
    names = [document.get("model"), document.get("system_fingerprint")]
    return " ".join(n for n in names if isinstance(n, str) and n) or None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _content(message: Mapping[str, Any]) -> tuple[str, str | None, tuple[Mapping[str, Any], ...]]:
    content = message.get("content")
    if isinstance(content, list):  # parts, as some servers answer
        content = "".join(part.get("text") or "" for part in content)
    content = content or message.get("refusal") or ""
    if not isinstance(content, str):
        raise TypeError("content is not text")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    calls = tuple(message.get("tool_calls") or ())
    return content, reasoning if isinstance(reasoning, str) else None, calls


def _check(text: str, request: Request, finish: str | None, completion_tokens: int | None) -> tuple[str, list[str]]:
    """Finds out what the server ignored in silence. The sentences hold no numbers, so that they can be counted."""
    warnings = []
    cuts = [at for at in (text.find(s) for s in request.sampling.stop if s) if at >= 0]
    if cuts:
        text = text[: min(cuts)]
        warnings.append("the server ignores `stop`: the answer was cut here at the first stop string")
    limit = request.sampling.max_tokens
    if limit is not None and completion_tokens is not None and completion_tokens > limit:
        warnings.append("the server ignores `max_tokens`: the answer is longer")
    schema = request.response_schema
    # An answer cut off in the middle cannot be parsed, but whether it begins as JSON does can be seen.
    kept = schema is None or not text or (text.lstrip()[:1] in '{["' if finish == "length" else _fits(text, schema))
    if not kept:
        warnings.append("the server ignores `response_format`: the answer is not JSON that fits the schema")
    return text, warnings


_validators: dict[str, Any] = {}


def _fits(text: str, schema: Mapping[str, Any]) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    key = canonical_json(schema)
    if key not in _validators:
        from jsonschema.validators import validator_for
        from referencing import Registry

        # An empty registry: the default one would fetch a schema's references from the network.
        _validators[key] = validator_for(schema)(schema, registry=Registry())
    return bool(_validators[key].is_valid(value))


def _check_empty(
    request: Request, finish: str | None, reasoning: str | None, tokens: int | None, usage: Mapping[str, Any]
) -> None:
    if finish == "content_filter":
        raise RequestFailed("content_filter", "the endpoint withheld the answer (content filter)", paid=True)
    thought = reasoning or _mapping(usage.get("completion_tokens_details")).get("reasoning_tokens")
    if finish == "length" and thought:
        limit = request.sampling.max_tokens
        which = f"max_tokens = {limit}" if limit is not None else "the endpoint's own token limit"
        raise RequestFailed("empty", f"reasoning used up {which} before any answer: raise max_tokens", paid=True)
    if request.sampling.stop and tokens:
        return  # the model began with a stop string: an answer, if an empty one
    raise RequestFailed("empty", f"the answer is empty (finish_reason {finish}): no text and no tool call", paid=True)


def _token_logprobs(logprobs: object) -> list[Any] | None:
    """Brings both of OpenAI's forms to [{token, logprob, top: [[token, logprob], ...]}, ...]."""
    if not isinstance(logprobs, Mapping):
        return None
    content = logprobs.get("content")
    if isinstance(content, list):
        return [
            {
                "token": t.get("token"),
                "logprob": t.get("logprob"),
                "top": [[a.get("token"), a.get("logprob")] for a in t.get("top_logprobs") or ()],
            }
            for t in content
        ]
    tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list):
        return None
    tops = logprobs.get("top_logprobs") or [None] * len(tokens)
    return [
        {"token": t, "logprob": v, "top": [list(pair) for pair in (top or {}).items()]}
        for t, v, top in zip(tokens, values, tops, strict=True)
    ]
