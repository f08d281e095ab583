"""Engine, ledger and endpoint client together against servers that misbehave: one sentence, nothing lost."""

from __future__ import annotations

import socket

import pytest
from engine_doubles import Bench
from mock_server import Answer, AnswerFunction, LoadModel, MockServer, chat

from evalkit.engine import Budget, Engine, Job, Outcome
from evalkit.models import ModelSettings, Request, RequestFailed, Sampling
from evalkit.models.endpoint import EndpointModel
from evalkit.store.rows import Item


def drive(bench: Bench, url: str, n: int, concurrency: int = 64) -> list[Outcome]:
    settings = ModelSettings("openai", "mock", endpoint=url)
    items = [Item(({"role": "user", "content": f"question {i}"},)) for i in range(n)]
    dataset_id, item_ids = bench.ledger.add_dataset("d", items)
    (model_id,) = bench.ledger.add_models([settings])
    sampling = Sampling(max_tokens=16)
    jobs = [
        Job(model_id, item_id, dataset_id, Request(messages=item.messages, sampling=sampling))
        for item_id, item in zip(item_ids, items, strict=True)
    ]
    model = EndpointModel(settings, timeout_s=20)
    with Engine(bench.ledger, bench.run_id, budget=Budget(max_concurrency=concurrency)) as engine:
        outcomes = engine.run(model, jobs)
        engine.release(model)
    return outcomes


def refusing(bench: Bench, answer: AnswerFunction, n: int = 500) -> tuple[set[str], int]:
    """Returns the sentences of all outcomes, and how many requests the server saw."""
    seen = 0

    def counting(method: str, path: str, body: bytes) -> Answer:
        nonlocal seen
        seen += 1
        return answer(method, path, body)

    with MockServer(counting) as server:
        outcomes = drive(bench, server.url, n)
    assert len(outcomes) == n and all(isinstance(o.result, RequestFailed) for o in outcomes)
    assert bench.count("SELECT errors FROM run_cell") == bench.count("SELECT n FROM run_cell") == n
    return {str(o.result) for o in outcomes}, seen


def test_wrong_key(bench: Bench) -> None:
    sentences, seen = refusing(bench, lambda *_: Answer({"error": {"message": "bad key"}}, status=401))
    assert len(sentences) == 1 and seen <= 64


def test_no_such_model(bench: Bench) -> None:
    sentences, seen = refusing(bench, lambda *_: Answer({"error": {"message": "no model mock"}}, status=404))
    assert len(sentences) == 1 and "no model mock" in sentences.pop() and seen <= 128


def test_a_web_page(bench: Bench) -> None:
    sentences, seen = refusing(bench, lambda *_: Answer(b"<!doctype html><title>Welcome</title>"))
    assert len(sentences) == 1 and "/v1" in sentences.pop() and seen <= 128


def test_nobody_there(bench: Bench) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        outcomes = drive(bench, f"http://127.0.0.1:{free.getsockname()[1]}/v1", 500)
    assert len({str(o.result) for o in outcomes}) == 1
    assert "is the server running" in str(outcomes[0].result)
    assert bench.count("SELECT count(*) FROM response WHERE error_kind = 'connection'") == 500


def test_a_prompt_longer_than_the_context_fails_alone(bench: Bench) -> None:
    def answer(method: str, path: str, body: bytes) -> Answer:
        if b'question 7"' in body:
            return Answer({"error": {"message": "maximum context length is 4096 tokens"}}, status=400)
        return Answer(chat())

    with MockServer(answer) as server:
        outcomes = drive(bench, server.url, 20)
    assert [i for i, o in enumerate(outcomes) if not o.reply] == [7]
    assert "longer than mock takes" in str(outcomes[7].result)


def test_empty_answers_are_failures_not_zero_scores(bench: Bench) -> None:
    sentences, seen = refusing(bench, lambda *_: Answer(chat("")), n=30)
    assert seen == 30 and "empty" in sentences.pop()


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_with_faults_every_sample_is_a_row_and_nothing_is_paid_twice_in_vain(bench: Bench, sigma: float) -> None:
    load = LoadModel(latency=0.01, sigma=sigma, faults=True, cap=0, seed=1)
    with MockServer(load) as server:
        outcomes = drive(bench, server.url, 1000)
    stats = load.stats()
    assert all(o.reply for o in outcomes)
    assert bench.count("SELECT count(*) FROM response WHERE error_kind IS NULL") == 1000
    assert min(stats["statuses"][what] for what in ("429", "500", "reset", "malformed")) > 0
    assert (stats["prompts"], stats["unforced"]) == (1000, 0)
    assert bench.count("SELECT sum(attempts) FROM response") == stats["requests"]


def test_a_server_capped_at_half_the_concurrency(bench: Bench) -> None:
    load = LoadModel(latency=0.02, sigma=0.0, faults=False, cap=32, seed=1)
    with MockServer(load) as server:
        outcomes = drive(bench, server.url, 600)
    stats = load.stats()
    assert all(o.reply for o in outcomes)
    assert (stats["paid"], stats["duplicates"]) == (600, 0)
    assert stats["statuses"]["capped"] < 300
