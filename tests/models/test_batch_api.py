"""The client of the batch API against a small server that checks what it is sent."""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from batch_server import BatchServer
from endpoint_server import run, user

from evalkit.errors import UserError
from evalkit.models import ModelSettings, Request, RequestFailed
from evalkit.models.batch_api import BatchModel, BatchState
from evalkit.models.load import load_model
from evalkit.plan import ModelPlan

CHAT = "/v1/chat/completions"


def using(server: BatchServer, work: Callable[[BatchModel], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        model = BatchModel(ModelSettings("openai", "mock", endpoint=server.url))
        try:
            return await work(model)
        finally:
            await model.close()

    return run(main())


async def submitted(model: BatchModel, content: bytes, token: str = "t") -> BatchState:
    state = await model.create(await model.upload(io.BytesIO(content), token), CHAT, token)
    while not state.ended:
        state = await model.retrieve(state.id)
    return state


def line(custom_id: str, **changes: Any) -> bytes:
    body = {"model": "mock", "messages": [{"role": "user", "content": "hi"}]}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body, **changes}).encode()


def test_a_plan_chooses_it() -> None:
    plan = ModelPlan(model="openai/x", base_url="http://localhost/v1", batch=True)
    live = load_model(plan.model_copy(update={"batch": False}))
    assert isinstance(load_model(plan), BatchModel) and not isinstance(live, BatchModel)
    assert load_model(plan).settings == live.settings


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{not json\n" + line("b"), "line 1: This line is not parseable"),
        (line("a") + b"\n" + line("a"), "line 2: The custom_id is not unique."),
        (line("a", url="/v1/embeddings"), "line 1: URL, method or model"),
        (line("a") + b"\n" + line("b", body={"model": "other"}), "line 2: URL, method or model"),
        (b"", "The file is empty"),
    ],
)
def test_a_wrong_file_fails_as_a_whole(content: bytes, words: str) -> None:
    with BatchServer() as server:
        state = using(server, lambda model: submitted(model, content))
        assert state.status == "failed" and words in state.message and not server.bought


def test_what_is_written_is_what_is_sent_live() -> None:
    asked = [(f"{n}", user(f"question {n} \u2028 ü")) for n in range(3)]
    with BatchServer() as server:

        async def work(model: BatchModel) -> None:
            file = io.BytesIO()
            assert model.write(file, asked, {}) == 3
            await submitted(model, file.getvalue())
            for _, request in asked:
                await model.reply(request)

        using(server, work)
        assert all(n == 2 for n in server.bought.values()) and len(server.bought) == 3


def test_a_job_is_found_on_a_later_page() -> None:
    with BatchServer() as server:

        async def work(model: BatchModel) -> tuple[Any, Any]:
            file_id = await model.upload(io.BytesIO(line("a")), "first")
            for n in range(130):
                await model.create(file_id, CHAT, f"token {n}")
            return await model.find("token 3", 0.0), await model.find("another", 0.0)

        found, none = using(server, work)
        assert found.id == "batch_4" and none is None
        assert server.count("GET", "/v1/batches") == 4


def test_a_cancelled_job_keeps_what_it_answered() -> None:
    with BatchServer() as server:

        async def work(model: BatchModel) -> BatchState:
            content = b"\n".join(line(f"{n}") for n in range(6))
            state = await model.create(await model.upload(io.BytesIO(content), "t"), CHAT, "t")
            await model._openai().batches.cancel(state.id)
            return await model.retrieve(state.id)

        state = using(server, work)
        assert (state.status, state.done, len(state.files)) == ("cancelled", 3, 1)


def test_a_file_that_breaks_off_is_fetched_anew() -> None:
    """The second try writes over what the first one left."""
    with BatchServer() as server:

        async def work(model: BatchModel) -> bytes:
            file_id = await model.upload(io.BytesIO(line("a")), "t")
            file = io.BytesIO(b"before")
            server.files[file_id] = ("f", b"something longer\n")
            await model.fetch(file_id, file, 6)
            server.fault = lambda method, path: -1
            with pytest.raises(RequestFailed) as caught:
                await model.fetch(file_id, file, 6)
            assert caught.value.retryable and caught.value.kind == "connection"
            server.fault = lambda method, path: None
            server.files[file_id] = ("f", b"whole\n")
            await model.fetch(file_id, file, 6)
            return file.getvalue()

        assert using(server, work) == b"beforewhole\n\n"


@pytest.mark.parametrize(("status", "kind"), [(401, "auth"), (429, "rate_limit"), (500, "server"), (413, None)])
def test_refusals_are_told_in_the_words_of_live_ones(status: int, kind: str | None) -> None:
    with BatchServer(fault=lambda method, path: status) as server, pytest.raises(RequestFailed) as caught:
        using(server, lambda model: model.upload(io.BytesIO(b"x"), "t"))
    assert caught.value.kind == (kind or "context_length") and caught.value.retryable == (status in (429, 500))


@pytest.mark.parametrize("status", [404, 405, 501])
def test_an_endpoint_without_the_routes(status: int) -> None:
    with BatchServer(fault=lambda method, path: status) as server, pytest.raises(UserError, match="has no batch API"):
        using(server, lambda model: model.upload(io.BytesIO(b"x"), "t"))


def test_the_key_is_sent_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-123")
    with BatchServer(key="secret-123") as server:
        state = using(server, lambda model: submitted(model, line("a")))
        assert state.status == "completed"
        said = {"custom_id": "a", "response": None, "error": {"code": "x", "message": "key secret-123 is tired"}}
        with pytest.raises(RequestFailed) as caught:
            using(server, _reads(said))
    assert "secret" not in str(caught.value) and caught.value.kind == "server"


def _reads(said: dict[str, Any]) -> Callable[[BatchModel], Awaitable[Any]]:
    async def work(model: BatchModel) -> Any:
        return model.read(said, Request(messages=({"role": "user", "content": "hi"},)), {}, 0.0)

    return work
