"""Answers that are heard while they are made: server-sent events of chat completions, and models that can stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from evalkit.models.base import ChatModel, Reply, Request, RequestFailed

Heard = Callable[[str], None]
"""Is told an answer as far as it goes, again and again, the whole of it each time. May be called in any thread."""


@runtime_checkable
class StreamingModel(ChatModel, Protocol):
    """A model whose answers can be heard while they are made."""

    async def stream(self, request: Request, heard: Heard) -> Reply:
        """Answers as `reply` does. Cancelled, it stops generating soon.

        Raises:
            RequestFailed: No answer; says whether a retry may help.
        """
        ...


async def stream(model: ChatModel, request: Request, heard: Heard) -> Reply:
    """Has a model answer, heard while it does so; of one that cannot stream the answer is heard when it is whole.

    Args:
        request: Already `effective`.
        heard: Is told the text so far. The reply's may be shorter: stop strings and reasoning are cut off at the end.

    Raises:
        RequestFailed: No answer; says whether a retry may help.
    """
    if isinstance(model, StreamingModel):
        return await model.stream(request, heard)
    reply = await model.reply(request)
    heard(reply.text)
    return reply


class EventStream:
    """Puts the chunks of a streamed chat completion together; what is no event stream is left alone.

    Args:
        heard: Is told the text so far.
    """

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self.restart()

    def restart(self) -> None:
        """Forgets what came: the request is sent again."""
        self._rest = b""
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._document: dict[str, Any] = {}
        self._finish: str | None = None
        self._error: Any = None
        self._events = 0
        self._ended = False

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the body, cut anywhere."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        before = len(self._text)
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip())
        if len(self._text) > before:
            self._heard("".join(self._text))

    def _event(self, data: bytes) -> None:
        self._events += 1
        if data == b"[DONE]":
            self._ended = True
            return
        try:
            chunk = json.loads(data)
        except ValueError:
            return  # one torn event; a stream without any whole one is reported by `document`
        if not isinstance(chunk, Mapping):
            return
        self._error = self._error or chunk.get("error")
        for name in ("model", "system_fingerprint", "usage"):
            if chunk.get(name):
                self._document[name] = chunk[name]
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, Mapping):
            return
        self._finish = choice.get("finish_reason") or self._finish
        delta = choice.get("delta")
        if isinstance(delta, Mapping):
            for parts, said in (
                (self._text, delta.get("content")),
                (self._reasoning, delta.get("reasoning_content") or delta.get("reasoning")),
            ):
                if isinstance(said, str) and said:
                    parts.append(said)

    def document(self) -> dict[str, Any] | None:
        """Returns what the server would have answered without streaming; None if this was no event stream.

        Raises:
            RequestFailed: The stream ends in the middle.
        """
        if self._rest.startswith(b"data:"):  # a last line without its end
            self.feed(b"\n")
        if not self._events:
            return None
        if self._error:
            return {"error": self._error}
        if not self._ended and self._finish is None:
            message = f"the stream ends in the middle of the answer, after {self._events} events"
            raise RequestFailed("malformed", message, retryable=True, paid=True)
        said: dict[str, Any] = {"role": "assistant", "content": "".join(self._text)}
        if self._reasoning:
            said["reasoning_content"] = "".join(self._reasoning)
        return {**self._document, "choices": [{"message": said, "finish_reason": self._finish}]}
