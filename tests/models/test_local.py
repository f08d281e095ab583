"""The local provider on a tiny random model: against transformers itself, and whatever the batch."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import UserError
from evalkit.models import ModelSettings, Reply, Request, RequestFailed
from evalkit.models.base import Sampling
from evalkit.models.batching import Batch, BatchedModel
from evalkit.models.local import LocalModel, auto_dtype
from evalkit.models.tokens import split_reasoning

SETTINGS = ModelSettings("hf", "tiny", dtype="float32")
Answer = Reply | RequestFailed


def user(text: str, **more: Any) -> Request:
    sampling = Sampling(**{"max_tokens": 12, **more.pop("sampling", {})})
    return Request(messages=({"role": "user", "content": text},), sampling=sampling, **more)


def ask(
    path: Path, requests: Sequence[Request], *, batch_size: int = 8, settings: ModelSettings = SETTINGS
) -> list[Any]:
    """Asks all at once; a failure stands in its place."""

    async def main() -> list[Any]:
        model = LocalModel(settings, path, batch_size=batch_size)
        try:
            return await asyncio.gather(*(model.reply(r.effective(settings)) for r in requests), return_exceptions=True)
        finally:
            await model.close()

    return asyncio.run(main())


def reference(path: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)


def without_seconds(replies: Sequence[Reply]) -> list[Reply]:
    return [replace(r, seconds=0.0, logprobs=None) for r in replies]


def test_greedy_answers_are_those_of_transformers(tiny: Path) -> None:
    import torch

    model, tokenizer = reference(tiny)
    texts = ["How much is 3 plus 4?", "Question", "好 and a much longer question than the two before it"]
    for text, reply in zip(texts, ask(tiny, [user(t) for t in texts]), strict=True):
        chat = [{"role": "user", "content": text}]
        rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(rendered, return_tensors="pt").input_ids
        with torch.inference_mode():
            out = model.generate(ids, max_new_tokens=12, do_sample=False)
        new = out[0, ids.shape[1] :]
        assert reply.text == tokenizer.decode(new, skip_special_tokens=True)
        assert (reply.prompt_tokens, reply.completion_tokens) == (ids.shape[1], len(new))
        assert reply.finish_reason == ("stop" if int(new[-1]) == tokenizer.eos_token_id else "length")


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0}, {"temperature": 2.0, "top_p": 0.9, "top_k": 50}])
def test_batch_size_and_order_change_no_answer(tiny: Path, sampling: dict[str, Any]) -> None:
    texts = [f"Question {i}: " + "how much " * (i % 7) for i in range(20)]
    requests = [user(t, sampling=sampling) for t in texts]
    alone = without_seconds(ask(tiny, requests, batch_size=1))
    shuffled = list(range(20))
    random.Random(0).shuffle(shuffled)
    together = without_seconds(ask(tiny, [requests[i] for i in shuffled], batch_size=7))
    assert [together[shuffled.index(i)] for i in range(20)] == alone


@pytest.mark.parametrize("pad", [True, False])
def test_stop_strings_and_penalties_do_not_depend_on_the_batch_either(
    make_tiny: Callable[..., Path], pad: bool
) -> None:
    folder = make_tiny(f"pad-{pad}", seed=3, pad=pad)
    texts = [f"Question {i}: " + "how much " * (i % 7) for i in range(20)]
    sampling = {"stop": ("e", "1"), "temperature": 1.5, "repetition_penalty": 1.3, "max_tokens": 6}
    requests = [user(t, sampling=sampling) for t in texts]
    alone = without_seconds(ask(folder, requests, batch_size=1))
    assert without_seconds(ask(folder, requests, batch_size=20)) == alone
    assert {r.finish_reason for r in alone} == {"stop", "length"}


def test_every_end_token_of_the_generation_config_ends_an_answer(make_tiny: Callable[..., Path]) -> None:
    folder = make_tiny("two-ends")
    requests = [user(f"Question {i}", sampling={"temperature": 1.0, "max_tokens": 30}, logprobs=0) for i in range(6)]
    before = ask(folder, requests)
    _, tokenizer = reference(folder)
    end = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(before[0].logprobs[3]["token"]))[0]
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [2, end]}))
    alone, together = ask(folder, requests, batch_size=1), ask(folder, requests)
    assert without_seconds(alone) == without_seconds(together)
    assert together[0].completion_tokens == 4
    assert together[0].finish_reason == "stop"


def test_a_row_near_the_end_of_the_context_takes_nothing_from_its_neighbours(tiny: Path) -> None:
    long = Request(prompt="好" * 220, sampling=Sampling(max_tokens=60))
    short = Request(prompt="Question 3:", sampling=Sampling(max_tokens=60))
    (alone,) = ask(tiny, [short])
    (nearly,) = ask(tiny, [long])
    assert nearly.prompt_tokens > 256 - 60, "the prompt must leave too little room"
    assert without_seconds(ask(tiny, [long, short])) == without_seconds([nearly, alone])
    assert nearly.prompt_tokens + nearly.completion_tokens <= 256


def test_a_stop_string_ends_the_answer_and_is_not_in_it(tiny: Path) -> None:
    (whole,) = ask(tiny, [user("Question 3", sampling={"max_tokens": 20})])
    stop = whole.text[4:6]
    (cut,) = ask(tiny, [user("Question 3", sampling={"max_tokens": 20, "stop": (stop,)})])
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert cut.completion_tokens < whole.completion_tokens


def test_seed_and_sample_index_make_other_draws(tiny: Path) -> None:
    drawn = [
        user("Question 3", sampling={"temperature": 1.0, "seed": seed}, sample=sample)
        for seed in (0, 1)
        for sample in (0, 1)
    ]
    first, second = ask(tiny, drawn), ask(tiny, drawn)
    assert len({r.text for r in first}) == 4
    assert [r.text for r in first] == [r.text for r in second]


def test_draws_follow_the_models_distribution(tiny: Path) -> None:
    import torch

    model, tokenizer = reference(tiny)
    ids = tokenizer("Question", return_tensors="pt").input_ids
    with torch.inference_mode():
        probabilities = (model(ids).logits[0, -1] / 3).softmax(-1)
    n = 600
    requests = [
        Request(prompt="Question", sampling=Sampling(temperature=3.0, max_tokens=1), sample=i, logprobs=0)
        for i in range(n)
    ]
    tokens = [r.logprobs[0]["token"] for r in ask(tiny, requests, batch_size=200)]
    expected: dict[str, float] = {}
    for token, p in enumerate(probabilities.tolist()):  # single bytes of longer characters look alike
        text = tokenizer.decode([token])
        expected[text] = expected.get(text, 0.0) + p
    for text, p in sorted(expected.items(), key=lambda pair: -pair[1])[:5]:
        assert abs(tokens.count(text) / n - p) < 4 * (p * (1 - p) / n) ** 0.5


def test_log_probabilities_of_generated_tokens(tiny: Path) -> None:
    import torch

    model, tokenizer = reference(tiny)
    (reply,) = ask(tiny, [Request(prompt="Question 3", sampling=Sampling(max_tokens=5), logprobs=3)])
    ids = tokenizer("Question 3").input_ids
    assert len(reply.logprobs) == reply.completion_tokens
    for step in reply.logprobs:
        with torch.inference_mode():
            expected = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        best = expected.topk(3)
        assert step["token"] == tokenizer.decode([int(best.indices[0])])
        assert step["logprob"] == pytest.approx(float(best.values[0]), abs=1e-4)
        assert [t for t, _ in step["top"]] == [tokenizer.decode([i]) for i in best.indices.tolist()]
        assert [v for _, v in step["top"]] == pytest.approx(best.values.tolist(), abs=1e-4)
        ids.append(int(best.indices[0]))


PAIRS = (
    ("Question 3: how much is", " 7"),
    ("Question 3: how much is ", "7 and more"),
    ("", "The answer"),
    ("  ", "The answer"),
    ("The answer is", " 12345"),
)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_pairs_equal_a_direct_computation(tiny: Path, batch_size: int) -> None:
    import torch

    model, tokenizer = reference(tiny)
    requests = [Request(pairs=PAIRS), *(Request(pairs=(pair,)) for pair in PAIRS)]
    replies = ask(tiny, requests, batch_size=batch_size)
    assert [r.logprobs for r in replies[1:]] == [[pytest.approx(value, abs=1e-4)] for value in replies[0].logprobs]
    for (context, continuation), (value, greedy) in zip(PAIRS, replies[0].logprobs, strict=True):
        stripped = context.rstrip()
        head = tokenizer(stripped, add_special_tokens=False).input_ids or [tokenizer.bos_token_id]
        moved = context[len(stripped) :] + continuation
        tail = tokenizer(stripped + moved, add_special_tokens=False).input_ids[len(head) if stripped else 0 :]
        with torch.inference_mode():
            logprobs = model(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1].log_softmax(-1)
        expected = sum(float(logprobs[i, t]) for i, t in enumerate(tail))
        assert value == pytest.approx(expected, abs=1e-3)
        assert greedy == (logprobs.argmax(-1).tolist() == tail)
    best = max(range(len(PAIRS)), key=lambda i: replies[0].logprobs[i][0])
    assert replies[0].text == PAIRS[best][1]


def test_a_prompt_longer_than_the_context_fails_alone(tiny: Path) -> None:
    requests = [user("好" * 400), user("short"), Request(pairs=(("好" * 400, " 1"),)), Request(pairs=(("a", " 1"),))]
    too_long, short, pairs_too_long, pairs = ask(tiny, requests)
    for failed in (too_long, pairs_too_long):
        assert isinstance(failed, RequestFailed)
        assert failed.kind == "context_length"
        assert not failed.retryable
        assert "256" in failed.message
    assert short.text
    assert pairs.logprobs


def test_a_stated_context_length_wins(tiny: Path) -> None:
    settings = replace(SETTINGS, extra={"context_length": 20})
    (failed,) = ask(tiny, [user("one two three four five six seven eight nine ten")], settings=settings)
    assert isinstance(failed, RequestFailed)
    assert failed.kind == "context_length"


def test_system_prompt_and_continued_answer_reach_the_template(tiny: Path) -> None:
    model = LocalModel(SETTINGS, tiny)
    told = user("Q").effective(replace(SETTINGS, system="Be brief."))
    assert model.tokens.render(told) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
    )
    begun = Request(messages=({"role": "user", "content": "Q"}, {"role": "assistant", "content": "The"}))
    assert model.tokens.render(begun).endswith("<|im_start|>assistant\nThe")


def test_a_model_without_chat_template_says_so(make_tiny: Callable[..., Path]) -> None:
    folder = make_tiny("base")
    (folder / "chat_template.jinja").unlink()
    (reply,) = ask(folder, [user("Question")])
    assert reply.text
    assert "no chat template" in " ".join(reply.warnings)


def test_a_conversation_that_the_template_refuses_fails_alone(make_tiny: Callable[..., Path]) -> None:
    folder = make_tiny("strict")
    template = folder / "chat_template.jinja"
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    template.write_text(refusal + template.read_text())
    told = replace(user("Q"), messages=({"role": "system", "content": "S"}, {"role": "user", "content": "Q"}))
    failed, reply = ask(folder, [told, user("Q")])
    assert isinstance(failed, RequestFailed)
    assert failed.kind == "bad_request"
    assert "no system role" in failed.message
    assert reply.text


def test_what_it_ignores_is_said(tiny: Path) -> None:
    asked = user("Q", sampling={"presence_penalty": 1.0}, response_schema={"type": "object"})
    (reply,) = ask(tiny, [asked])
    assert len(reply.warnings) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", (None, "plain")),
        ("<think>a b</think>\n\nc", ("a b", "c")),
        ("a b</think>c", ("a b", "c")),
        ("<think>never ends", (None, "<think>never ends")),
    ],
)
def test_reasoning_is_split_from_the_answer(text: str, expected: tuple[str | None, str]) -> None:
    assert split_reasoning(text) == expected


def test_closing_ends_the_worker_and_later_requests_fail(tiny: Path) -> None:
    async def main() -> None:
        model = LocalModel(SETTINGS, tiny)
        assert (await model.reply(user("Q"))).text
        await model.close()
        with pytest.raises(RequestFailed, match="closed"):
            await asyncio.wait_for(model.reply(user("Q")), 5)

    asyncio.run(main())


class Slow(BatchedModel):
    """Computes when told to; remembers what it computed."""

    def __init__(self) -> None:
        super().__init__(SETTINGS, 2)
        self.computed: list[str | None] = []
        self.go: Future[None] = Future()

    def compute(self, batch: Batch) -> None:
        self.go.result(10)
        for pending in batch.asked:
            self.computed.append(pending.request.prompt)
            if pending.request.prompt == "breaks":
                raise ZeroDivisionError("a fault of the model's code")
            pending.answer(Reply(text=str(pending.request.prompt)))


def test_what_nobody_waits_for_is_not_computed() -> None:
    async def main() -> None:
        model = Slow()
        tasks = [asyncio.create_task(model.reply(Request(prompt=str(i)))) for i in range(6)]
        await asyncio.sleep(0.1)
        for task in tasks[3:]:
            task.cancel()
        await asyncio.sleep(0)
        model.go.set_result(None)
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        assert [r.text for r in replies[:3] if isinstance(r, Reply)] == ["0", "1", "2"]
        assert all(isinstance(r, asyncio.CancelledError) for r in replies[3:])
        assert model.computed == ["0", "1", "2"]
        await model.close()

    asyncio.run(main())


def test_a_fault_while_computing_reaches_those_who_asked_and_nobody_else() -> None:
    async def main() -> None:
        model = Slow()
        model.go.set_result(None)
        with pytest.raises(ZeroDivisionError):
            await model.reply(Request(prompt="breaks"))
        assert (await model.reply(Request(prompt="works"))).text == "works"
        await model.close()

    asyncio.run(main())


def test_closing_answers_those_who_still_wait() -> None:
    async def main() -> None:
        model = Slow()
        tasks = [asyncio.create_task(model.reply(Request(prompt=str(i)))) for i in range(4)]
        await asyncio.sleep(0.1)
        closing = asyncio.create_task(model.close())
        await asyncio.sleep(0.1)
        model.go.set_result(None)
        replies = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        await closing
        assert [isinstance(r, RequestFailed) for r in replies] == [False, False, True, True]

    asyncio.run(main())


def broken(folder: Path, file: str, text: str | None) -> Path:
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("model.safetensors", "not weights"),
        ("config.json", "{"),
        ("config.json", '{"model_type": "no-such-architecture"}'),
        ("tokenizer.json", "{"),
        ("tokenizer.json", None),
    ],
)
def test_a_damaged_folder_is_one_sentence(make_tiny: Callable[..., Path], file: str, text: str | None) -> None:
    folder = broken(make_tiny("damaged"), file, text)
    (failed,) = ask(folder, [user("Q")])
    assert isinstance(failed, UserError), repr(failed)
    assert str(folder) in str(failed)
    assert "\n" not in str(failed)


def test_code_that_lies_in_a_model_folder_is_not_run(make_tiny: Callable[..., Path], tmp_path: Path) -> None:
    folder, trace = make_tiny("foreign"), tmp_path / "ran"
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "foreign", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(trace)!r}, 'w')\n")
    (failed,) = ask(folder, [user("Q")])
    assert isinstance(failed, UserError), repr(failed)
    assert not trace.exists()


def test_the_number_format_is_known_without_torch() -> None:
    assert auto_dtype() in ("bfloat16", "float32")
