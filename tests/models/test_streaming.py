"""Answers heard while they are made: at endpoints, from weights on this machine, and from models that cannot."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stream_server import Said, StreamServer, choice

from evalkit.models import ModelSettings, Reply, Request, RequestFailed, Sampling
from evalkit.models.endpoint import EndpointModel
from evalkit.models.local import LocalModel
from evalkit.models.streaming import EventStream, stream

CHAT = Request(messages=({"role": "user", "content": "hi"},))


def test_events_are_put_together_wherever_they_are_cut() -> None:
    chunks: list[Any] = [
        {"model": "m", "choices": [{"delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"delta": {"reasoning_content": "hm"}}]},
        {"choices": [choice("delta", "Grüße ", None)]},
        {"choices": [choice("delta", "好", "stop")]},
        {"choices": [], "usage": {"prompt_tokens": 2}},
    ]
    wire = b": a comment\n\n" + b"".join(b"data: %b\n\n" % json.dumps(c, ensure_ascii=False).encode() for c in chunks)
    wire += b"data: [DONE]"  # without its line's end
    for step in (1, 2, 3, 7, 64, len(wire)):
        heard: list[str] = []
        events = EventStream(heard.append)
        for at in range(0, len(wire), step):
            events.feed(wire[at : at + step])
        message = {"role": "assistant", "content": "Grüße 好", "reasoning_content": "hm"}
        wanted = [{"message": message, "finish_reason": "stop"}]
        assert events.document() == {"model": "m", "usage": {"prompt_tokens": 2}, "choices": wanted}
        assert heard[-1] == "Grüße 好"
        assert all(heard[-1].startswith(one) for one in heard)


def ask(answer: Callable[[dict[str, Any]], Said], request: Request = CHAT) -> tuple[Reply, list[str], StreamServer]:
    heard: list[str] = []
    with StreamServer(answer) as server:

        async def main() -> Reply:
            model = EndpointModel(ModelSettings("openai", "mock", endpoint=server.url))
            try:
                return await stream(model, request, heard.append)
            finally:
                await model.close()

        return asyncio.run(main()), heard, server


def test_an_endpoint_is_heard_piece_by_piece() -> None:
    reply, heard, server = ask(lambda _: Said(("Once ", "upon ", "a time")))
    assert heard[0] == "Once "
    assert heard[-1] == reply.text == "Once upon a time"
    assert (reply.finish_reason, reply.prompt_tokens, reply.completion_tokens) == ("stop", 5, 4)
    assert server.got[0]["stream"] is True


def test_a_server_that_refuses_stream_options_is_asked_without() -> None:
    def answer(payload: dict[str, Any]) -> Said:
        refused = "stream_options" in payload
        return Said(status=400, error="Unrecognized request argument: stream_options") if refused else Said()

    reply, heard, server = ask(answer)
    assert reply.text == heard[-1] == "Hello"
    assert len(server.got) == 2


def test_a_server_that_does_not_stream_is_heard_at_the_end() -> None:
    reply, heard, _ = ask(lambda _: Said(plain=True))
    assert (reply.text, heard) == ("Hello", ["Hello"])


def test_stop_strings_that_the_server_ignores_end_the_answer() -> None:
    request = Request(messages=CHAT.messages, sampling=Sampling(stop=("lo",)))
    reply, heard, _ = ask(lambda _: Said(), request)
    assert reply.text == heard[-1] == "Hel"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (Said(torn=True), "malformed"),
        (Said(raw=['{"error": {"message": "overloaded", "code": 503}}']), "server"),
        (Said(status=429), "rate_limit"),
        (Said(status=401), "auth"),
        (Said(pieces=()), "empty"),
    ],
)
def test_what_goes_wrong_in_a_stream_is_said(said: Said, kind: str) -> None:
    with pytest.raises(RequestFailed) as failed:
        ask(lambda _: said)
    assert failed.value.kind == kind
    assert "127.0.0.1" in failed.value.message


def local(path: Path) -> LocalModel:
    return LocalModel(ModelSettings("hf", path.name, "r", dtype="float32"), path)


def test_a_local_model_is_heard_token_by_token(tiny: Path) -> None:
    request = Request(messages=CHAT.messages, sampling=Sampling(max_tokens=12, temperature=0.8, seed=3))
    heard: list[str] = []

    async def main() -> tuple[Reply, Reply, Reply]:
        model = local(tiny)
        twin = model.twin()
        try:
            alone = await model.reply(request)
            both = await asyncio.gather(stream(model, request, heard.append), twin.reply(request))
            return alone, *both
        finally:
            await model.close()
            await twin.close()

    alone, streamed, beside = asyncio.run(main())
    assert alone.text == streamed.text == beside.text
    assert len(heard) == streamed.completion_tokens
    assert heard[-1] == streamed.text
    assert heard[0] != heard[-1]


def test_a_local_model_stops_when_nobody_listens_any_more(tiny: Path) -> None:
    long = Request(messages=CHAT.messages, sampling=Sampling(max_tokens=220, temperature=1.0, seed=1))
    heard: list[float] = []

    async def main() -> tuple[float, Reply]:
        model = local(tiny)
        try:
            await model.reply(Request(messages=CHAT.messages, sampling=Sampling(max_tokens=1)))
            asked = asyncio.create_task(stream(model, long, lambda _: heard.append(time.monotonic())))
            while len(heard) < 3:
                await asyncio.sleep(0.001)
            asked.cancel()
            ended = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await asked
            return ended, await model.reply(Request(messages=CHAT.messages, sampling=Sampling(max_tokens=2)))
        finally:
            await model.close()

    ended, after = asyncio.run(main())
    assert after.completion_tokens
    assert len(heard) < 100  # of 220
    assert sum(at > ended for at in heard) <= 2


def test_a_model_that_cannot_stream_is_heard_when_it_is_done() -> None:
    class Whole:
        settings = ModelSettings("vllm", "m")
        max_concurrency = 1

        async def reply(self, request: Request) -> Reply:
            return Reply("all at once")

        async def close(self) -> None:
            """Has nothing to free."""

    heard: list[str] = []
    assert asyncio.run(stream(Whole(), CHAT, heard.append)).text == "all at once"
    assert heard == ["all at once"]
