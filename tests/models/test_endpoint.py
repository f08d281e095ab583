"""The endpoint client: what it sends, what it reads, and what it says when a server errs or ignores an option."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from endpoint_server import Answer, MockServer, Script, ask, ask_all, chat, model_at, run, user

from evalkit.errors import UserError
from evalkit.models import ModelSettings, Request, RequestFailed, Sampling
from evalkit.models.endpoint import EndpointModel


def failure(script: Any, request: Request | None = None, **options: Any) -> RequestFailed:
    with pytest.raises(RequestFailed) as caught:
        ask(script, request or user(), **options)
    assert "\n" not in caught.value.message
    return caught.value


def error(status: int, message: str, **fields: Any) -> Answer:
    return Answer({"error": {"message": message, **fields}}, status=status)


# What is sent


def test_a_chat_request_with_everything() -> None:
    script = Script(chat("ok", logprobs={"content": [{"token": "ok", "logprob": -0.1, "top_logprobs": []}]}))
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    sampling = Sampling(
        temperature=0.5, top_p=0.9, max_tokens=9, stop=("\n\n",), seed=10, extra={"reasoning_effort": "low"}
    )
    ask(script, user(sampling=sampling, tools=(tool,), logprobs=3, sample=2))
    assert script.paths == ["/v1/chat/completions"]
    assert script.got == [
        {
            "model": "mock",
            "messages": [{"role": "user", "content": "hi"}],
            "temperature": 0.5,
            "top_p": 0.9,
            "max_tokens": 9,
            "stop": ["\n\n"],
            "seed": 12,
            "reasoning_effort": "low",
            "tools": [tool],
            "logprobs": True,
            "top_logprobs": 3,
        }
    ]


def test_a_plain_request_sends_nothing_that_was_not_asked_for() -> None:
    script = Script(chat())
    ask(script, user())
    assert script.got == [{"model": "mock", "messages": [{"role": "user", "content": "hi"}]}]


def test_a_schema_is_sent_as_strict_response_format() -> None:
    script = Script(chat('{"a": 1}'))
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert ask(script, user(response_schema=schema)).warnings == ()
    sent = script.got[0]["response_format"]
    assert (sent["type"], sent["json_schema"]["strict"], sent["json_schema"]["schema"]) == ("json_schema", True, schema)


def test_a_raw_prompt_goes_to_completions() -> None:
    script = Script({"choices": [{"text": " world", "finish_reason": "length"}], "usage": {"completion_tokens": 1}})
    reply = ask(script, Request(prompt="hello", sampling=Sampling(max_tokens=1)))
    assert script.paths == ["/v1/completions"]
    assert script.got == [{"model": "mock", "prompt": "hello", "max_tokens": 1}]
    assert (reply.text, reply.finish_reason) == (" world", "length")


def test_the_key_comes_from_the_environment_and_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret-1234567")
    script = Script(error(401, "Incorrect API key provided: secret-1234567, or sk-abcdef****wxyz"))
    failed = failure(script, api_key_env="MY_KEY")
    assert failed.kind == "auth" and "MY_KEY" in failed.message
    assert "1234567" not in failed.message and "abcdef" not in failed.message


# What is read


def test_a_whole_reply() -> None:
    answer = chat("Paris", reasoning_content="France...", usage={"prompt_tokens": 5, "completion_tokens": 2})
    answer["system_fingerprint"] = "fp_1"
    answer["usage"]["prompt_tokens_details"] = {"cached_tokens": 3}
    reply = ask(Script(answer), user())
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("Paris", "France...", "stop")
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == (5, 2, 3)
    assert reply.served_by == "mock fp_1"
    assert reply.seconds > 0
    assert reply.warnings == ()


def test_reasoning_under_its_other_name() -> None:
    assert ask(Script(chat("x", reasoning="hm")), user()).reasoning == "hm"


def test_tool_calls_are_an_answer() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    reply = ask(Script(chat(None, tool_calls=[call], finish_reason="tool_calls")), user())
    assert (reply.text, reply.tool_calls) == ("", (call,))


def test_token_logprobs_in_both_forms() -> None:
    top = [{"token": "b", "logprob": -0.5}]
    script = Script(chat("b", logprobs={"content": [{"token": "b", "logprob": -0.5, "top_logprobs": top}]}))
    expected = [{"token": "b", "logprob": -0.5, "top": [["b", -0.5]]}]
    assert ask(script, user(logprobs=1)).logprobs == expected
    old = {"tokens": ["b"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -0.5}], "text_offset": [0]}
    raw = Script({"choices": [{"text": "b", "logprobs": old}]})
    assert ask(raw, Request(prompt="a", logprobs=1)).logprobs == expected


def test_content_in_parts() -> None:
    assert ask(Script(chat([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])), user()).text == "ab"  # type: ignore[arg-type]


# What servers ignore in silence


@pytest.mark.parametrize(
    ("answer", "request_", "sentence"),
    [
        (chat("x"), user(logprobs=0), "ignores `logprobs`"),
        (chat("Sure! 7"), user(response_schema={"type": "object"}), "ignores `response_format`"),
        (chat('{"a": "x"}'), user(response_schema={"properties": {"a": {"type": "integer"}}}), "response_format"),
        (chat("a\nb"), user(sampling=Sampling(stop=("\n",))), "ignores `stop`"),
        (
            chat("long", usage={"prompt_tokens": 1, "completion_tokens": 50}),
            user(sampling=Sampling(max_tokens=10)),
            "ignores `max_tokens`",
        ),
    ],
)
def test_an_ignored_option_is_said(answer: dict[str, Any], request_: Request, sentence: str) -> None:
    reply = ask(Script(answer), request_)
    assert len(reply.warnings) == 1 and sentence in reply.warnings[0]


def test_an_answer_that_ran_on_past_a_stop_string_is_cut_there() -> None:
    assert ask(Script(chat("a\n\nQ: b")), user(sampling=Sampling(stop=("Q:", "\n\n")))).text == "a"


def test_json_cut_off_by_the_token_limit_is_not_blamed_on_the_server() -> None:
    reply = ask(Script(chat('{"a": ', finish_reason="length")), user(response_schema={"type": "object"}))
    assert reply.warnings == ()


# Parameters that a model refuses


def test_a_reasoning_model_is_corrected_once_and_remembered() -> None:
    def strict(payload: dict[str, Any]) -> Answer:
        if "max_tokens" in payload:
            return error(
                400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'"
            )
        if "temperature" in payload:
            return error(
                400, "Unsupported value: 'temperature' does not support 0 with this model.", param="temperature"
            )
        return Answer(chat("ok"))

    script = Script(strict)
    request = user(sampling=Sampling(max_tokens=5, temperature=0.0))
    first, second = ask_all(script, [request, request], name="o4-mini")
    assert len(script.got) == 4
    assert script.got[-1] == {
        "model": "o4-mini",
        "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 5,
    }
    assert first.warnings == second.warnings
    assert set(first.warnings) == {
        "the server refuses `max_tokens`: sent as `max_completion_tokens`",
        "the server refuses `temperature`: left out",
    }


@pytest.mark.parametrize(
    ("asked", "refused", "says"),
    [
        ({"response_schema": {"type": "object"}}, "response_format", "This response_format type is unavailable now"),
        ({"logprobs": 5}, "logprobs", "logprobs are not supported with this model"),
        ({"logprobs": 5}, "top_logprobs", "Unknown parameter: 'top_logprobs'"),
    ],
)
def test_a_server_without_schemas_or_log_probabilities_is_asked_without(
    asked: dict[str, Any], refused: str, says: str
) -> None:
    script = Script(lambda payload: error(400, says) if refused in payload else Answer(chat("ok")))
    reply = ask(script, user(**asked))
    assert reply.text == "ok" and f"the server refuses `{refused}`: left out" in reply.warnings
    assert len(script.got) == 2
    assert "top_logprobs" not in script.got[-1]


def test_more_stop_strings_than_the_server_takes_are_applied_here() -> None:
    def four(payload: dict[str, Any]) -> Answer:
        if len(payload.get("stop", ())) > 4:
            return error(400, "Invalid 'stop': array too long. Expected an array with maximum length 4.")
        return Answer(chat("a\nb5c"))

    reply = ask(Script(four), user(sampling=Sampling(stop=("1", "2", "3", "4", "5"))))
    assert reply.text == "a\nb" and "the server refuses `stop`: left out" in reply.warnings


def test_a_parameter_the_task_needs_is_not_dropped() -> None:
    failed = failure(Script(error(400, "tools are not supported by this model")), user(tools=({"type": "function"},)))
    assert failed.kind == "bad_request" and "tools are not supported" in failed.message


def test_a_server_that_never_gives_in_is_not_asked_forever() -> None:
    script = Script(lambda p: error(400, f"unknown parameter {next(iter(set(p) - {'model', 'messages'}), 'messages')}"))
    failed = failure(script, user(sampling=Sampling(temperature=0.0, top_p=0.5)))
    assert failed.kind == "bad_request" and len(script.got) == 3


# Empty answers


def test_an_empty_answer_is_a_failure() -> None:
    failed = failure(Script(chat("")))
    assert (failed.kind, failed.retryable, failed.paid) == ("empty", False, True)


def test_reasoning_that_used_up_the_limit_is_named() -> None:
    answer = chat(None, reasoning_content="hm...", finish_reason="length")
    failed = failure(Script(answer), user(sampling=Sampling(max_tokens=77)))
    assert failed.kind == "empty" and "max_tokens = 77" in failed.message


def test_an_answer_that_began_with_a_stop_string_is_an_answer() -> None:
    reply = ask(
        Script(chat("", usage={"prompt_tokens": 1, "completion_tokens": 1})), user(sampling=Sampling(stop=("\n",)))
    )
    assert reply.text == ""


def test_a_withheld_answer() -> None:
    assert failure(Script(chat(None, finish_reason="content_filter"))).kind == "content_filter"


# Errors


@pytest.mark.parametrize(
    ("answer", "kind", "retryable", "words"),
    [
        (error(401, "bad key"), "auth", False, "OPENAI_API_KEY is not set"),
        (error(403, "no"), "auth", False, "answered 403"),
        (error(404, "The model `mock` does not exist"), "not_found", False, "/v1"),
        (error(400, "nonsense"), "bad_request", False, "nonsense"),
        (error(400, "This model's maximum context length is 2048."), "context_length", False, "longer than mock"),
        (error(400, "x", code="context_length_exceeded"), "context_length", False, "longer"),
        (error(400, "blocked", code="content_filter"), "content_filter", False, "blocked"),
        (Answer({"detail": [{"msg": "field required"}]}, status=422), "bad_request", False, "field required"),
        (error(429, "slow down"), "rate_limit", True, "slow down"),
        (error(429, "pay", code="insufficient_quota"), "auth", False, "no credit"),
        (error(500, "oops"), "server", True, "oops"),
        (Answer(b"<html>bad gateway</html>", status=502), "server", True, "HTML"),
        (Answer(b"", status=503), "server", True, "503"),
        (Answer({"error": {"message": "overloaded", "code": 503}}), "server", True, "overloaded"),
        (Answer(b"", status=308, headers={"Location": "https://b/v1"}), "bad_request", False, "https://b/v1"),
        (Answer(b'{"choices": [{"mess'), "malformed", True, "broken JSON"),
        (Answer({"choices": []}), "malformed", True, "choices"),
        (Answer(b"[1]"), "malformed", True, "without an answer"),
        (Answer(b"<!DOCTYPE html><p>hello"), "malformed", True, "HTML page"),
        (Answer(chat(), reset=True), "connection", True, "closed the connection"),
        (Answer(chat(), cut=True), "connection", True, "middle of its reply"),
    ],
)  # fmt: skip
def test_each_fault_has_its_kind_and_one_sentence(answer: Answer, kind: str, retryable: bool, words: str) -> None:
    failed = failure(Script(answer))
    assert (failed.kind, failed.retryable) == (kind, retryable)
    assert words in failed.message and "http://127.0.0.1" in failed.message


def test_a_lost_answer_counts_as_paid_and_a_refusal_does_not() -> None:
    assert failure(Script(Answer(chat(), cut=True))).paid
    assert failure(Script(Answer(b'{"half'))).paid
    assert not failure(Script(error(429, "slow down"))).paid


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After-Ms": "250", "Retry-After": "1"}, 0.25),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert failure(Script(Answer(b"{}", status=429, headers=headers))).retry_after == seconds


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(RequestFailed) as caught:
        run(model_at(url).reply(user()))
    assert (caught.value.kind, caught.value.retryable, caught.value.paid) == ("connection", True, False)
    assert url in caught.value.message and "is the server running" in caught.value.message


def test_no_such_host() -> None:
    with pytest.raises(RequestFailed, match=r"host name nowhere\.invalid is not known"):
        run(model_at("http://nowhere.invalid/v1").reply(user()))


def test_a_timeout() -> None:
    failed = failure(Script(Answer(chat(), delay=5.0)), timeout_s=0.1)
    assert (failed.kind, failed.retryable, failed.paid) == ("timeout", True, True)
    assert "no reply within 0.1 s" in failed.message


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a/v1", "http://", "http://a:port/v1"])
def test_a_wrong_url_is_said_at_once(url: str) -> None:
    with pytest.raises(UserError, match="not a URL"):
        model_at(url)


def test_a_url_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(UserError) as caught:
        model_at("http://me:hunter2@host/v1")
    assert "hunter2" not in str(caught.value)


def test_no_endpoint() -> None:
    with pytest.raises(UserError, match="no endpoint"):
        EndpointModel(ModelSettings("openai", "m"))


# Doctor


@pytest.mark.parametrize(
    ("answer", "fine", "words"),
    [
        (Answer({"data": [{"id": "mock"}]}), True, "serves mock"),
        (Answer({"data": [{"id": "other"}]}), False, "does not list mock; it has other"),
        (Answer({"data": []}), True, "lists no models"),
        (Answer(b"<html>"), False, "HTML"),
        (Answer({"hello": 1}), False, "not with a list of models"),
        (error(401, "no"), False, "401"),
    ],
)
def test_check(answer: Answer, fine: bool, words: str) -> None:
    with MockServer(Script(answer)) as server:
        result = run(model_at(server.url).check())
    assert result[0] is fine and words in result[1] and server.url in result[1]
