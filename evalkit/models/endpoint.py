"""Any OpenAI-compatible server: chat and raw completions, log-likelihoods, tools, schemas, log-probabilities."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from evalkit.errors import UserError
from evalkit.models.base import ModelSettings, Reply, Request, RequestFailed
from evalkit.models.endpoint_errors import html_failure, is_html, refused_parameter, status_failure, transport_failure
from evalkit.models.httpclient import HTTPClient, HTTPReply, TransportError
from evalkit.models.loglik import NO_LOGPROBS, continuation_start, echo_choices, echo_payload, score
from evalkit.models.streaming import EventStream, Heard
from evalkit.models.wire import correct, parse_completion, payload_of, plain_chat, served_by

DEFAULT_ENDPOINT = "https://api.openai.com/v1"
DEFAULT_CONCURRENCY = 1024
MAX_CORRECTIONS = 12


def default_endpoint() -> str:
    """Returns OPENAI_BASE_URL or OpenAI's own address; to be put into the settings, for it is part of who answers."""
    return os.environ.get("OPENAI_BASE_URL", "").rstrip("/") or DEFAULT_ENDPOINT


class EndpointModel:
    """A model behind an OpenAI-compatible server.

    Args:
        settings: `endpoint` is the base URL, mostly ending in /v1.
        api_key_env: Environment variable that holds the key; no variable, no key. The key is never stored.
        timeout_s: Seconds to wait for a whole answer.
        max_concurrency: Requests in flight at most; the engine finds out how many the server takes below that.

    Raises:
        UserError: The endpoint is missing or not a URL.
    """

    def __init__(
        self,
        settings: ModelSettings,
        api_key_env: str = "OPENAI_API_KEY",
        timeout_s: float = 600.0,
        max_concurrency: int = DEFAULT_CONCURRENCY,
    ) -> None:
        if not settings.endpoint:
            raise UserError(f"The model {settings.name} has no endpoint: give its base URL or set OPENAI_BASE_URL")
        self._settings = settings
        self._max_concurrency = max_concurrency
        self._key = os.environ.get(api_key_env, "").strip() or None
        self._key_name = api_key_env
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._url = settings.endpoint.rstrip("/")
        self._timeout_s = timeout_s
        self._http = HTTPClient(self._url, {"User-Agent": "evalkit", **headers}, timeout_s)
        self._corrections: dict[str, str | None] = {}
        self._no_logprobs = False
        self._one_prompt = False
        _raise_file_limit(max_concurrency)

    @property
    def settings(self) -> ModelSettings:
        """Who this is."""
        return self._settings

    @property
    def max_concurrency(self) -> int:
        """Requests in flight at most."""
        return self._max_concurrency

    async def reply(self, request: Request) -> Reply:
        """Answers one request, which is already `effective`.

        Raises:
            RequestFailed: No answer; says whether a retry may help.
        """
        try:
            if request.pairs:
                return await self._score_pairs(request)
            return await self._complete(request)
        except RequestFailed as failure:
            raise self._at_this_url(failure) from failure

    async def stream(self, request: Request, heard: Heard) -> Reply:
        """Answers one chat, heard while the server writes it; of a server that does not stream, when it is whole.

        Raises:
            RequestFailed: No answer; says whether a retry may help.
        """
        events = EventStream(heard)

        def payload() -> dict[str, Any]:
            asked = payload_of(self._settings.name, request)
            return {**asked, "stream": True, "stream_options": {"include_usage": True}}

        try:
            if not request.messages:
                raise RequestFailed("unsupported", "only chats are streamed")
            document, seconds = await self._ask("/chat/completions", payload, events=events)
            reply = parse_completion(document, request, seconds, self._corrections)
        except RequestFailed as failure:
            raise self._at_this_url(failure) from failure
        heard(reply.text)
        return reply

    def _at_this_url(self, failure: RequestFailed) -> RequestFailed:
        if self._url in failure.message:
            return failure
        return RequestFailed(
            failure.kind,
            f"{self._url}: {failure.message}",
            retryable=failure.retryable,
            retry_after=failure.retry_after,
            paid=failure.paid,
        )

    async def _complete(self, request: Request) -> Reply:
        name, chat = self._settings.name, bool(request.messages)
        body = plain_chat(name, request) if chat and not self._corrections else None
        make = partial(payload_of, name, request)
        document, seconds = await self._ask("/chat/completions" if chat else "/completions", make, body)
        return parse_completion(document, request, seconds, self._corrections)

    async def _ask(
        self,
        path: str,
        payload: Callable[[], Mapping[str, Any]],
        body: bytes | None = None,
        events: EventStream | None = None,
    ) -> tuple[Any, float]:
        """Returns the reply's JSON and its seconds, after leaving out what the server was found to refuse.

        Args:
            payload: Makes what to send.
            body: The same encoded, where it is there already.
            events: Where the reply is asked for as a stream.
        """
        heard = events.feed if events else None
        url = self._url + path
        for _ in range(MAX_CORRECTIONS):
            if body is None:
                body = json.dumps(correct(payload(), self._corrections)).encode()
            if events:
                events.restart()
            try:
                reply = await self._http.request("POST", path, body, heard)
            except TransportError as error:
                raise transport_failure(error, url) from error
            if reply.status not in (400, 422):
                break
            refused = refused_parameter(reply, json.loads(body))
            if refused is None:
                break
            self._corrections[refused[0]] = refused[1]
            body = None
        return self._document(reply, url, events), reply.seconds

    def _document(self, reply: HTTPReply, url: str, events: EventStream | None = None) -> Any:
        """Returns a reply's JSON, or raises what went wrong."""
        if reply.status != 200:
            raise status_failure(reply, url, self._settings.name, self._key, self._key_name)
        document = events.document() if events else None
        try:
            if document is None:
                document = json.loads(reply.body.decode())
        except ValueError:
            if is_html(reply.body):
                raise html_failure(url) from None
            message = f"{url} answered with broken JSON ({len(reply.body)} bytes)"
            raise RequestFailed("malformed", message, retryable=True, paid=True) from None
        wrong = document.get("error") if isinstance(document, dict) and not document.get("choices") else None
        if wrong:  # some gateways wrap a provider's error in a 200
            code = wrong.get("code") if isinstance(wrong, dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 502
            wrapped = dataclasses.replace(reply, status=status)
            raise status_failure(wrapped, url, self._settings.name, self._key, self._key_name)
        return document

    async def _score_pairs(self, request: Request) -> Reply:
        if self._no_logprobs:
            raise RequestFailed("unsupported", NO_LOGPROBS)
        echoed, seconds, tokens, served = await self._echo([c + t for c, t in request.pairs])
        results, counted = [], dict[str, int]()
        for logprobs, (context, continuation) in zip(echoed, request.pairs, strict=True):
            stripped = context.rstrip()  # spaces at the end belong to the continuation, as for lm-eval
            start = continuation_start(logprobs, stripped, context[len(stripped) :] + continuation)
            if start is None:
                # Characters of several tokens: count the context's tokens instead, as lm-eval does.
                if stripped not in counted:
                    (alone,), more, extra, _ = await self._echo([stripped])
                    counted[stripped] = len(alone["tokens"]) - 1
                    seconds, tokens = seconds + more, tokens + extra
                start = counted[stripped]
            results.append(score(logprobs, start))
        best = max(range(len(results)), key=lambda i: results[i][0])
        return Reply(
            text=request.pairs[best][1],
            logprobs=results,
            finish_reason="stop",
            prompt_tokens=tokens,
            completion_tokens=len(results),
            seconds=seconds,
            served_by=served,
        )

    async def _echo(self, prompts: list[str]) -> tuple[list[Mapping[str, Any]], float, int, str | None]:
        """Returns each prompt's logprobs, the seconds, the prompts' tokens and who served; one request if possible."""
        if len(prompts) > 1 and self._one_prompt:
            return await self._echo_each(prompts)
        try:
            document, seconds = await self._ask("/completions", partial(echo_payload, self._settings.name, prompts))
            choices = echo_choices(document, len(prompts))
        except RequestFailed as failure:
            if failure.message == NO_LOGPROBS:
                self._no_logprobs = True
            if len(prompts) == 1 or failure.kind != "bad_request":
                raise
            choices = None
        if choices is None:
            if len(prompts) == 1:
                raise RequestFailed("malformed", "the reply to one prompt does not hold one choice", paid=True)
            result = await self._echo_each(prompts)
            self._one_prompt = True  # only now: single prompts have proven to work
            return result
        return choices, seconds, sum(len(c["tokens"]) - 1 for c in choices), served_by(document)

    async def _echo_each(self, prompts: list[str]) -> tuple[list[Mapping[str, Any]], float, int, str | None]:
        parts = [await self._echo([prompt]) for prompt in prompts]
        found = [logprobs for part in parts for logprobs in part[0]]
        return found, sum(p[1] for p in parts), sum(p[2] for p in parts), parts[-1][3]

    async def check(self) -> tuple[bool, str]:
        """Asks the endpoint for its models, for `evalkit doctor`.

        Returns:
            Whether it answers and has the model, and one sentence about it.
        """
        url = f"{self._url}/models"
        try:
            reply = await self._http.request("GET", "/models")
        except TransportError as error:
            return False, transport_failure(error, url).message
        finally:
            self._http.close()
        if reply.status != 200:
            return False, status_failure(reply, url, self._settings.name, self._key, self._key_name).message
        if is_html(reply.body):
            return False, html_failure(url).message
        try:
            names = [str(row["id"]) for row in json.loads(reply.body)["data"]]
        except (ValueError, KeyError, TypeError):
            return False, f"{url} answers, but not with a list of models: is it an OpenAI-compatible API?"
        if not names:
            return True, f"{url} answers and lists no models; whether it serves {self._settings.name} is not known"
        if self._settings.name not in names:
            listed = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
            return False, f"{url} answers but does not list {self._settings.name}; it has {listed}"
        return True, f"{url} answers and serves {self._settings.name}"

    async def close(self) -> None:
        """Closes the connections."""
        self._http.close()


def _raise_file_limit(connections: int) -> None:
    """Each connection is a file, and many systems allow 1,024 or 256 by default though the hard limit is far higher."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 512
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
