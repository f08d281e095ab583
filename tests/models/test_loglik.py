"""Log-likelihoods through a completions endpoint that echoes the prompt."""

from __future__ import annotations

import re
from typing import Any

import pytest
from endpoint_server import Answer, Script, ask, ask_all

from evalkit.models import Reply, Request, RequestFailed


def tokens_of(text: str) -> list[str]:
    return re.findall(r"\s*\w+|\s*[^\w\s]|\s+", text)


def echo_server(*, bos: bool = False, lists: bool = True, lone_bytes: bool = False, echo: bool = True) -> Any:
    """A server whose token at position i has log-probability -(i + 1); even positions are greedy."""

    def choice(index: int, prompt: str) -> dict[str, Any]:
        tokens = (["<s>"] if bos else []) + tokens_of(prompt)
        if lone_bytes:  # a character of three bytes is three tokens, each shown as a replacement character
            tokens = [part for t in tokens for part in ([t] if t.isascii() else ["\ufffd"] * 3)]
        tokens = [*tokens, "generated"] if echo else ["generated"]
        values: list[float | None] = [None if i == 0 and echo else -(i + 1.0) for i in range(len(tokens))]
        tops = [
            None if v is None else ({t: v} if i % 2 == 0 else {t: v, "?": -0.1})
            for i, (t, v) in enumerate(zip(tokens, values, strict=True))
        ]
        offsets, at = [], 0
        for token in tokens:
            offsets.append(at)
            at += len(token)
        logprobs = {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}
        return {"index": index, "text": prompt + "generated", "logprobs": logprobs}

    def answer(payload: dict[str, Any]) -> Answer:
        prompts = payload["prompt"]
        if isinstance(prompts, str):
            prompts = [prompts]
        elif not lists:
            return Answer({"error": {"message": "prompt must be a string"}}, status=400)
        choices = [choice(i, p) for i, p in enumerate(prompts)]
        return Answer({"model": "mock", "choices": choices[::-1], "usage": {"prompt_tokens": 99}})

    return answer


PAIRS = (("The sky is", " blue"), ("The sky is", " very green"))


def check(reply: Reply, shift: int = 0) -> None:
    # "The", " sky", " is" are tokens 0 to 2 (after a BOS 1 to 3); " blue" follows.
    first = -(4.0 + shift)
    assert reply.logprobs == [[first, shift % 2 == 1], [2 * first - 1, False]]
    assert reply.text == " blue"


def test_pairs_go_out_as_one_request_and_lose_the_generated_token() -> None:
    script = Script(echo_server())
    check(ask(script, Request(pairs=PAIRS)))
    assert script.paths == ["/v1/completions"]
    sent = script.got[0]
    assert sent["prompt"] == ["The sky is blue", "The sky is very green"]
    assert (sent["echo"], sent["logprobs"], sent["max_tokens"], sent["temperature"]) == (True, 1, 1, 0)


def test_a_token_before_the_prompt_is_not_counted() -> None:
    check(ask(Script(echo_server(bos=True)), Request(pairs=PAIRS)), shift=1)


def test_a_server_without_lists_is_asked_singly_and_this_is_remembered() -> None:
    script = Script(echo_server(lists=False))
    for reply in ask_all(script, [Request(pairs=PAIRS)] * 2):
        check(reply)
    assert [isinstance(p["prompt"], list) for p in script.got] == [True, False, False, False, False]


def test_a_single_pair_is_a_single_prompt() -> None:
    script = Script(echo_server())
    assert ask(script, Request(pairs=PAIRS[:1])).logprobs == [[-4.0, False]]
    assert script.got[0]["prompt"] == "The sky is blue"


def test_a_token_over_the_border_belongs_to_the_continuation() -> None:
    reply = ask(Script(echo_server()), Request(pairs=(("The sky is ", "blue"),)))
    assert reply.logprobs == [[-4.0, False]]


def test_characters_of_several_tokens_are_split_by_counting_the_contexts() -> None:
    script = Script(echo_server(lone_bytes=True))
    reply = ask(script, Request(pairs=(("天 is", " 蓝"),)))
    # tokens: three for the first character, " is", three for the second
    assert reply.logprobs == [[-(5.0 + 6.0 + 7.0), False]]
    assert script.got[1]["prompt"] == "天 is"


@pytest.mark.parametrize("logprobs", [None, {}, {"tokens": None, "token_logprobs": None}])
def test_a_server_without_logprobs_is_said_once_and_not_asked_again(logprobs: Any) -> None:
    script = Script({"choices": [{"index": 0, "text": "x", "logprobs": logprobs}]})
    failures = []
    for _ in range(2):
        with pytest.raises(RequestFailed) as caught:
            ask(script, Request(pairs=PAIRS[:1]))
        failures.append(caught.value)
    assert {f.kind for f in failures} == {"unsupported"}
    assert "log-likelihood" in failures[0].message


def test_a_server_that_ignores_echo_is_noticed() -> None:
    with pytest.raises(RequestFailed, match="no log-probabilities of the prompt"):
        ask(Script(echo_server(echo=False)), Request(pairs=PAIRS[:1]))


def test_the_first_token_of_a_text_has_no_logprob() -> None:
    with pytest.raises(RequestFailed, match="give a context"):
        ask(Script(echo_server()), Request(pairs=(("", "blue"),)))
    assert ask(Script(echo_server(bos=True)), Request(pairs=(("", "blue"),))).logprobs == [[-2.0, False]]
