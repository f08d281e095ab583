"""The classic faults of caches, as properties of the request key and of the engine."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
from engine_doubles import Bench, FunctionModel

from evalkit.engine import Engine
from evalkit.models import ModelSettings, Reply, Request, Sampling, request_key
from evalkit.models.base import canonical_json

MODEL = ModelSettings("openai", "m", endpoint="http://a/v1", sampling=Sampling(temperature=0.7))
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
REQUEST = Request(messages=({"role": "user", "content": "Grüße, 你好"},), sampling=Sampling(max_tokens=10, seed=1))


def key(request: Request = REQUEST, model: ModelSettings = MODEL) -> str:
    return request_key(request.body(model))


MODELS: dict[str, ModelSettings] = {
    "name": dataclasses.replace(MODEL, name="n"),
    "provider": dataclasses.replace(MODEL, provider="vllm"),
    "revision": dataclasses.replace(MODEL, revision="abc"),
    "endpoint": dataclasses.replace(MODEL, endpoint="http://b/v1"),
    "dtype": dataclasses.replace(MODEL, dtype="bfloat16"),
    "system prompt": dataclasses.replace(MODEL, system="Be brief."),
    "another system prompt": dataclasses.replace(MODEL, system="Be long."),
    "temperature": dataclasses.replace(MODEL, sampling=Sampling(temperature=0.0)),
    "seed": dataclasses.replace(MODEL, sampling=Sampling(temperature=0.7, seed=3)),
    "extra": dataclasses.replace(MODEL, extra={"context": 2048}),
    "extra sampling": dataclasses.replace(MODEL, sampling=Sampling(temperature=0.7, extra={"reasoning_effort": "low"})),
}
REQUESTS: dict[str, Request] = {
    "text": dataclasses.replace(REQUEST, messages=({"role": "user", "content": "Gruße"},)),
    "role": dataclasses.replace(REQUEST, messages=({"role": "system", "content": "Grüße, 你好"},)),
    "one message more": dataclasses.replace(
        REQUEST, messages=(*REQUEST.messages, {"role": "assistant", "content": ""})
    ),
    "raw prompt": dataclasses.replace(REQUEST, messages=(), prompt="Grüße, 你好"),
    "seed": dataclasses.replace(REQUEST, sampling=Sampling(max_tokens=10, seed=2)),
    "max_tokens": dataclasses.replace(REQUEST, sampling=Sampling(max_tokens=11, seed=1)),
    "stop": dataclasses.replace(REQUEST, sampling=Sampling(max_tokens=10, seed=1, stop=("\n",))),
    "tools": dataclasses.replace(REQUEST, tools=(TOOL,)),
    "two tools": dataclasses.replace(REQUEST, tools=(TOOL, TOOL)),
    "schema": dataclasses.replace(REQUEST, response_schema={"type": "object"}),
    "logprobs": dataclasses.replace(REQUEST, logprobs=0),
    "sample": dataclasses.replace(REQUEST, sample=1),
    "pairs": Request(pairs=(("a", "b"),)),
    "pairs cut elsewhere": Request(pairs=(("ab", ""),)),
}


def test_every_change_is_a_new_request() -> None:
    keys = {"none": key(), **{f"model's {n}": key(model=m) for n, m in MODELS.items()}}
    keys |= {f"request's {n}": key(r) for n, r in REQUESTS.items()}
    same = {(a, b) for a in keys for b in keys if a < b and keys[a] == keys[b]}
    assert same == set()


def test_a_label_is_no_new_request() -> None:
    assert key(model=dataclasses.replace(MODEL, label="mine")) == key()


def test_applying_the_models_settings_twice_changes_nothing() -> None:
    for model in MODELS.values():
        for request in REQUESTS.values():
            effective = request.effective(model)
            assert effective.body(model) == request.body(model)
            assert effective.effective(model) == effective


def test_log_likelihoods_do_not_depend_on_sampling() -> None:
    pairs = REQUESTS["pairs"]
    assert key(pairs) == key(dataclasses.replace(pairs, sampling=Sampling(temperature=1.0)))
    assert key(pairs) == key(pairs, MODELS["temperature"])


def test_the_order_of_a_mapping_means_nothing() -> None:
    message: dict[str, Any] = {"content": "Grüße, 你好", "role": "user"}
    assert key(dataclasses.replace(REQUEST, messages=(message,))) == key()
    turned = json.loads(json.dumps(TOOL, sort_keys=True))
    assert key(dataclasses.replace(REQUEST, tools=(dict(reversed(list(turned.items()))),))) == key(REQUESTS["tools"])


def test_the_key_is_the_same_in_every_process() -> None:
    assert key() == "0e8b289f317e3cc3a2b8833fb446012107074d9c9089649803fbdd6c4542f2ea"


def test_a_body_is_canonical_json_of_everything() -> None:
    for model in MODELS.values():
        for request in (*REQUESTS.values(), REQUEST):
            text = request.body(model)
            assert text == canonical_json(json.loads(text))
            body, effective = json.loads(text), request.effective(model)
            assert body["sampling"] == effective.sampling.to_dict()
            assert body.get("messages", []) == [dict(m) for m in effective.messages]
            assert {"name": model.name, "sample": request.sample, "extra": dict(model.extra)}.items() <= body.items()


def test_equal_numbers_of_other_types_do_not_mix() -> None:
    texts: dict[str, set[str]] = {}
    for zero in (0, 0.0, -0.0, 0, 0.0):
        text = dataclasses.replace(REQUEST, sampling=Sampling(temperature=zero)).body(ModelSettings("openai", "m"))
        texts.setdefault(repr(zero), set()).add(text)
    assert [len(of_one) for of_one in texts.values()] == [1, 1, 1]
    assert len(set.union(*texts.values())) == 3


def test_any_text_has_a_key() -> None:
    draw = random.Random(0)
    texts = {"".join(chr(draw.randrange(0x11000)) for _ in range(8)) for _ in range(300)} | {"\ud800", "\0", ""}
    keys = {key(dataclasses.replace(REQUEST, prompt=text, messages=())) for text in texts}
    assert len(keys) == len(texts)


def answer(request: Request, times: int) -> Reply:
    return Reply(f"{request.messages[-1]['content']}/{request.sampling.temperature}/{request.sample}")


def test_two_models_never_share_an_answer(bench: Bench) -> None:
    outcomes = {}
    with Engine(bench.ledger, bench.run_id) as engine:
        for temperature in (0.0, 0.5, 0.0):
            model = FunctionModel(answer)
            model.settings = dataclasses.replace(model.settings, sampling=Sampling(temperature=temperature))
            outcomes[temperature] = engine.run(model, bench.jobs(model, ["a", "b"]))
            texts = [o.reply.text for o in outcomes[temperature] if o.reply]
            assert texts == [f"a/{temperature}/0", f"b/{temperature}/0"]
    assert all(o.cached for o in outcomes[0.0])  # the third time round
    assert not any(o.cached for o in outcomes[0.5])


@pytest.mark.parametrize("seed", range(3))
def test_batch_size_and_order_change_nothing(tmp_path: Path, bench: Bench, seed: int) -> None:
    model = FunctionModel(answer)
    jobs = bench.jobs(model, [f"q{i % 40}" for i in range(60)], samples=2)
    with Engine(bench.ledger, bench.run_id) as engine:
        plain = {id(j): o for j, o in zip(jobs, engine.run(model, jobs), strict=True)}
        draw = random.Random(seed)
        shuffled = draw.sample(jobs, len(jobs))
        size = draw.choice([1, 7, 50])
        parts = [engine.run(model, shuffled[i : i + size]) for i in range(0, len(shuffled), size)]
    again = [o for part in parts for o in part]
    assert [o.response_id for o in again] == [plain[id(j)].response_id for j in shuffled]
    assert [str(o.result) for o in again] == [str(plain[id(j)].result) for j in shuffled]
    assert bench.count("SELECT count(*) FROM response") == 80
