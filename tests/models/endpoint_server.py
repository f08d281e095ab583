"""A scripted OpenAI-compatible server in a thread, and a model that talks to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from mock_server import Answer, MockServer, chat

from evalkit.models import ModelSettings, Reply, Request
from evalkit.models.endpoint import EndpointModel

__all__ = ["Answer", "MockServer", "Script", "ask", "ask_all", "chat", "model_at", "user"]

T = TypeVar("T")


class Script:
    """Answers with one answer after the other (the last one again and again), or by a function; keeps what it got."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.got: list[dict[str, Any]] = []
        self.paths: list[str] = []

    def __call__(self, method: str, path: str, body: bytes) -> Answer:
        self.paths.append(path)
        payload = json.loads(body) if body else {}
        self.got.append(payload)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer = answer(payload)
        return answer if isinstance(answer, Answer) else Answer(answer)


def model_at(url: str, name: str = "mock", **options: Any) -> EndpointModel:
    return EndpointModel(ModelSettings("openai", name, endpoint=url), **options)


def user(text: str = "hi", **options: Any) -> Request:
    return Request(messages=({"role": "user", "content": text},), **options)


def ask(script: Script | Callable[[str, str, bytes], Answer], request: Request, **options: Any) -> Reply:
    """Asks once and returns the reply, or raises what the model raises."""
    return ask_all(script, [request], **options)[0]


def ask_all(script: Any, requests: list[Request], **options: Any) -> list[Reply]:
    """Asks one after the other over one model."""
    with MockServer(script) as server:

        async def main() -> list[Reply]:
            model = model_at(server.url, **options)
            try:
                return [await model.reply(request) for request in requests]
            finally:
                await model.close()

        return run(main())


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs on uvloop, as the engine does."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)
