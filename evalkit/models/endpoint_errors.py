"""What went wrong at an endpoint, as a RequestFailed with one sentence for the user."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from evalkit.models.base import FailureKind, RequestFailed
from evalkit.models.httpclient import HTTPReply, TransportError

_KEY = re.compile(r"\b(sk|pk|key|hf|gsk|xai)[-_][A-Za-z0-9_*.-]{6,}")
_CONTEXT = re.compile(
    r"context.{0,20}(length|window|size)|maximum.{0,20}(prompt|input|model) ?len|max_model_len|prompt is too long"
    r"|longer than the (maximum|model)|exceeds? the (maximum|available|model)",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"unsupported|not support|unrecognized|unknown|unexpected|not permitted|not allowed|extra inputs|deprecated"
    r"|does not recognize|invalid (argument|parameter)|unavailable",
    re.IGNORECASE,
)
_TOO_MANY = re.compile(r"too (long|many)|at most|max(imum)? ", re.IGNORECASE)  # OpenAI takes four stop strings
_RENAMED = {"max_tokens": "max_completion_tokens"}
_DROPPABLE: tuple[str, ...] = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
)
_DROPPABLE += ("repetition_penalty", "continue_final_message", "add_generation_prompt", "stream_options")
_DROPPABLE_IN_CHATS = ("response_format", "logprobs", "top_logprobs")  # who asks can read the answer without


def redact(text: str, key: str | None) -> str:
    """Removes the key, and what looks like one, from a text of the server's."""
    if key:
        text = text.replace(key, "[key]")
    return _KEY.sub("[key]", text)


def transport_failure(error: TransportError, url: str) -> RequestFailed:
    """Turns a broken connection into a failure; all but a wrong certificate or host name may pass."""
    message = str(error)
    if error.failure == "timeout":
        return RequestFailed("timeout", f"{url}: {message}", retryable=True, paid=error.sent)
    if error.failure == "garbled":
        return RequestFailed("malformed", f"{url}: {message}; check the address", retryable=True, paid=True)
    if error.failure == "refused":
        message = f"cannot connect ({message}): is the server running, and is the address right?"
    return RequestFailed(
        "connection", f"{url}: {message}", retryable=error.failure not in ("tls", "proxy"), paid=error.sent
    )


def status_failure(reply: HTTPReply, url: str, model: str, key: str | None, key_name: str) -> RequestFailed:
    """Turns a reply with another status than 200 into a failure."""
    status = reply.status
    detail, code = _detail(reply, key)
    said = f"{url} answered {status}"
    tail = f": {detail}" if detail else ""
    after = retry_after(reply.headers)
    if status in (401, 403):
        if not key:
            return RequestFailed("auth", f"{said}: it wants a key and {key_name} is not set{tail}")
        return RequestFailed("auth", f"{said}: the key in {key_name} is wrong or may not use {model}{tail}")
    if status == 404:
        hint = "no such model or address; check the model's name and that the base URL ends in /v1"
        return RequestFailed("not_found", f"{said} for {model}: {hint}{tail}")
    if code == "insufficient_quota":
        return RequestFailed("auth", f"{said}: the account of {key_name} has no credit left{tail}")
    if status == 429:
        return RequestFailed("rate_limit", f"{said}: too many requests{tail}", retryable=True, retry_after=after)
    if status in (408, 425):
        return RequestFailed("timeout", f"{said}{tail}", retryable=True, retry_after=after)
    if status == 501:
        return RequestFailed("unsupported", f"{said}: the server cannot do this{tail}")
    if status >= 500:
        return RequestFailed("server", f"{said}: the server failed{tail}", retryable=True, retry_after=after)
    if 300 <= status < 400:
        where = reply.headers.get("location", "another address")
        return RequestFailed("bad_request", f"{said}: it redirects to {redact(where, key)}; use that as base URL")
    kind: FailureKind = "bad_request"
    if code == "content_filter" or "content_policy" in code:
        kind = "content_filter"
    elif status == 413 or code == "context_length_exceeded" or _CONTEXT.search(detail):
        kind = "context_length"
        said = f"The prompt is longer than {model} takes; {said}"
    return RequestFailed(kind, f"{said}{tail}")


def html_failure(url: str) -> RequestFailed:
    """The failure of an address that serves a web page."""
    hint = "check that the base URL is the API's (it mostly ends in /v1)"
    return RequestFailed("malformed", f"{url} answered with an HTML page, not JSON: {hint}", retryable=True)


def is_html(body: bytes) -> bool:
    """Whether a body is a web page."""
    return body[:300].lstrip().lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml"))


def refused_parameter(reply: HTTPReply, payload: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Returns (parameter, its new name or None to leave it out) if a 400 refuses a parameter we can do without."""
    if reply.status not in (400, 422):
        return None
    detail, _ = _detail(reply, None, limit=2000)
    for name in (*_RENAMED, *_DROPPABLE, *(_DROPPABLE_IN_CHATS if "messages" in payload else ())):
        if name not in payload or not re.search(rf"(?<![A-Za-z_]){name}(?![A-Za-z_])", detail):
            continue
        if _REFUSED.search(detail) or (name == "stop" and _TOO_MANY.search(detail)):
            return name, _RENAMED.get(name)
    return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Reads Retry-After: seconds or a date; None if absent or not understood."""
    milliseconds, value = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds:
            return max(0.0, float(milliseconds) / 1000)
        return max(0.0, float(value)) if value else None
    except ValueError:
        try:
            return max(0.0, parsedate_to_datetime(value or "").timestamp() - time.time())
        except ValueError:
            return None


def _detail(reply: HTTPReply, key: str | None, limit: int = 300) -> tuple[str, str]:
    """Returns the server's own words on one line, and its error code."""
    if is_html(reply.body):
        return "an HTML page instead of JSON", ""
    text, code = reply.body.decode("utf-8", "replace"), ""
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, Mapping):
        error = document.get("error", document)
        if isinstance(error, Mapping):
            found = error.get("message") or error.get("detail") or error.get("error")
            text = found if isinstance(found, str) else json.dumps(found or error)
            code = str(error.get("code") or "")
            if isinstance(error.get("param"), str) and error["param"] not in text:
                text += f" (parameter {error['param']})"
        else:
            text = str(error)
    line = " ".join(redact(text, key).split())
    return line if len(line) <= limit else line[: limit - 3] + "...", code
