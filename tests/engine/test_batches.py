"""Engine, ledger and the batch API together: everything is bought once, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from batch_server import BatchServer, completion, echo, error
from engine_doubles import Bench

import evalkit.engine.batch_pool as batch_pool
from evalkit.engine import Budget, Engine, Job, NotSent, Outcome
from evalkit.errors import UserError
from evalkit.models import ModelSettings, Reply, Request, RequestFailed, Sampling, batch_api
from evalkit.models.batch_api import BatchModel
from evalkit.models.endpoint import EndpointModel
from evalkit.models.prices import Price, Prices
from evalkit.store.rows import Item

PRICES = Prices((Price("mock", 1000.0, 10_000.0, batch_discount=0.5),))
LIVE_COST = (10 * 1000.0 + 3 * 10_000.0) / 1e6


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_pool, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(batch_pool, "POLL_SECONDS_AT_MOST", 0.02)
    for name in ("PATIENCE_SECONDS", "PATIENCE_SECONDS_DOWN", "PATIENCE_SECONDS_WAITING"):
        monkeypatch.setattr(batch_pool, name, 0.5)
    monkeypatch.setattr(batch_pool, "backoff", lambda attempt, after: 0.01)


class Told:
    """A Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.notes: list[str] = []
        self.on_note: Callable[[str], None] = lambda text: None

    def start(self, label: str, total: int) -> int:
        return 0

    def advance(self, handle: Any, n: int, *, note: str | None = None, **more: Any) -> None:
        if note is not None:
            self.notes.append(note)
            self.on_note(note)

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.said.append(message)

    def finish(self, handle: Any) -> None:
        return


def request(text: str, **options: Any) -> Request:
    options.setdefault("sampling", Sampling(max_tokens=16))
    return Request(messages=({"role": "user", "content": text},), **options)


def drive(
    bench: Bench,
    server: BatchServer,
    requests: Sequence[Request | str],
    *,
    live: bool = False,
    budget: Budget = Budget(),  # noqa: B008
    progress: Told | None = None,
    run_id: int | None = None,
) -> list[Outcome]:
    settings = ModelSettings("openai", "mock", endpoint=server.url)
    model = EndpointModel(settings) if live else BatchModel(settings)
    asked = [request(r) if isinstance(r, str) else r for r in requests]
    items = [Item(r.messages or ({"role": "user", "content": r.prompt or "pairs"},)) for r in asked]
    dataset_id, item_ids = bench.ledger.add_dataset("d", items)
    (model_id,) = bench.ledger.add_models([settings])
    jobs = [Job(model_id, item_id, dataset_id, r) for item_id, r in zip(item_ids, asked, strict=True)]
    with Engine(bench.ledger, run_id or bench.run_id, budget=budget, prices=PRICES, progress=progress) as engine:
        try:
            return engine.run(model, jobs)
        finally:
            engine.release(model)


def texts(n: int) -> list[str]:
    return [f"question {i}" for i in range(n)]


def answers(outcomes: Sequence[Outcome]) -> list[str]:
    return [o.reply.text if o.reply else str(o.result) for o in outcomes]


def open_jobs(bench: Bench) -> int:
    return bench.count("SELECT count(*) FROM batch WHERE finished_at IS NULL")


def test_answers_are_matched_by_request_and_cost_half(bench: Bench) -> None:
    told = Told()
    with BatchServer() as server:
        outcomes = drive(bench, server, texts(30), progress=told)
        assert len(server.jobs) == 1 and not server.live
    assert answers(outcomes) == [f"re: question {i}" for i in range(30)]
    assert bench.count("SELECT count(*) FROM response WHERE error_kind IS NULL AND attempts = 1") == 30
    assert [o.cost for o in outcomes] == [pytest.approx(LIVE_COST / 2)] * 30
    assert sum(o.reply.seconds for o in outcomes if o.reply) == pytest.approx(60)  # the job took a minute
    assert (bench.count("SELECT count(*) FROM batch"), open_jobs(bench)) == (1, 0)
    assert "batch in_progress: 10/30" in told.notes
    assert "batch_1 of 30 requests submitted" in told.said[0]


def test_a_batch_answer_serves_a_live_run_and_the_other_way_round(bench: Bench) -> None:
    with BatchServer() as server:
        drive(bench, server, texts(3))
        first = drive(bench, server, texts(6), live=True)
        assert len(server.live) == 3
        second = drive(bench, server, texts(8))
        assert server.sizes == [3, 2]
        assert not server.bought_twice
    assert [o.cached for o in first] == [True] * 3 + [False] * 3
    assert [o.cached for o in second] == [True] * 6 + [False] * 2
    assert first[5].cost == pytest.approx(LIVE_COST)


def test_schema_and_logprobs_and_raw_prompts(bench: Bench) -> None:
    """A job holds one route, so chats and raw prompts are two jobs."""

    def answer(body: Mapping[str, Any]) -> tuple[int, Any]:
        if "prompt" in body:
            return echo(body)
        form = body["response_format"]["json_schema"]["schema"]
        assert form == {"type": "object"} and body["top_logprobs"] == 2
        top = [{"token": "{", "logprob": -0.1}, {"token": "[", "logprob": -2.0}]
        return 200, completion(body, "{}", logprobs={"content": [{"token": "{", "logprob": -0.1, "top_logprobs": top}]})

    with BatchServer(answer) as server:
        chat = request("json", response_schema={"type": "object"}, logprobs=2)
        outcomes = drive(bench, server, [chat, Request(prompt="Once")])
        assert sorted(job.route for job in server.jobs.values()) == ["/v1/chat/completions", "/v1/completions"]
    assert answers(outcomes) == ["{}", "re: Once"]
    assert outcomes[0].reply and outcomes[0].reply.logprobs == [
        {"token": "{", "logprob": -0.1, "top": [["{", -0.1], ["[", -2.0]]}
    ]


def test_log_likelihoods_fail_alone_with_a_reason(bench: Bench) -> None:
    with BatchServer() as server:
        outcomes = drive(bench, server, [Request(pairs=(("a", "b"),)), request("x")])
    assert "gives no log-likelihoods" in str(outcomes[0].result) and answers(outcomes)[1] == "re: x"
    assert bench.count("SELECT count(*) FROM response WHERE error_kind = 'unsupported'") == 1


def test_errors_of_single_requests_are_those_of_live_ones(bench: Bench) -> None:
    def answer(body: Mapping[str, Any]) -> tuple[int, Any]:
        text = body["messages"][-1]["content"]
        return {
            "long": (400, error("maximum context length is 4096 tokens", "context_length_exceeded")),
            "filter": (400, error("no", "content_filter")),
            "down": (500, error("internal")),
            "empty": (200, completion(body, "")),
            "html": (200, "<!doctype html>"),
        }.get(text, echo(body))

    wrong = ["long", "filter", "down", "empty", "html"]
    with BatchServer(answer) as server:
        by_batch = drive(bench, server, [*wrong, "good"])
        # As the live client says it, but for what it tries again first.
        live = drive(bench, server, ["good", "filter!", *wrong[:2], "empty"], live=True)
        assert open_jobs(bench) == 0
    kinds = [o.result.kind for o in by_batch if isinstance(o.result, RequestFailed)]
    assert kinds == ["context_length", "content_filter", "server", "empty", "malformed"]
    assert answers(by_batch)[5] == "re: good"
    assert answers(live)[2:] == [answers(by_batch)[0], answers(by_batch)[1], answers(by_batch)[3]]
    assert bench.count("SELECT errors FROM run_cell LIMIT 1") == 5


@pytest.mark.parametrize(
    ("final", "kind", "words"),
    [("expired", "timeout", "expired"), ("cancelled", "server", "cancelled"), ("failed", "bad_request", "Enqueued")],
)
def test_a_job_that_does_not_complete(bench: Bench, final: str, kind: str, words: str) -> None:
    with BatchServer(final=final) as server:
        first = drive(bench, server, texts(10))
        kept = 0 if final == "failed" else 5
        assert sum(o.reply is not None for o in first) == kept
        failures = [o.result for o in first if isinstance(o.result, RequestFailed)]
        assert {f.kind for f in failures} == {kind} and all(words in f.message for f in failures)
        assert bench.count(f"SELECT count(*) FROM response WHERE error_kind = '{kind}'") == 10 - kept
        server.final = "completed"
        again = drive(bench, server, texts(10))
        assert all(o.reply for o in again) and sum(o.cached for o in again) == kept
        assert server.sizes == [10, 10 - kept]
        assert not server.bought_twice
    assert open_jobs(bench) == 0


def test_refused_parameters_are_left_out_of_a_second_job(bench: Bench) -> None:
    """They cannot be found while sending. Refused requests cost nothing, so they are sent again without."""

    def answer(body: Mapping[str, Any]) -> tuple[int, Any]:
        if "temperature" in body:
            return 400, error("Unsupported parameter: 'temperature' is not supported with this model.")
        if "max_tokens" in body:
            return 400, error("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return echo(body)

    drawn = Sampling(temperature=0.0, max_tokens=9)
    requests = [request("plain", sampling=Sampling()), *(request(t, sampling=drawn) for t in ("a", "b"))]
    with BatchServer(answer) as server:
        outcomes = drive(bench, server, requests)
        assert server.sizes == [3, 2, 2] and not server.bought_twice
        last = json.loads(server.files[server.jobs["batch_3"].file][1].splitlines()[0])["body"]
        assert last["max_completion_tokens"] == 9 and "temperature" not in last
        # A later run knows no corrections, but asks for nothing.
        assert [o.cached for o in drive(bench, server, requests)] == [True] * 3
    assert answers(outcomes) == ["re: plain", "re: a", "re: b"]
    replies = [o.reply for o in outcomes if o.reply]
    assert replies[0].warnings == ()
    assert replies[1].warnings == (
        "the server refuses `temperature`: left out",
        "the server refuses `max_tokens`: sent as `max_completion_tokens`",
    )
    assert bench.count("SELECT max(attempts) FROM response") == 3 and open_jobs(bench) == 0


def test_what_is_refused_for_good_is_a_failure(bench: Bench) -> None:
    with BatchServer(lambda body: (400, error("Unsupported parameter: 'messages'"))) as server:
        outcomes = drive(bench, server, ["a"])
        assert len(server.jobs) == 1
    assert isinstance(outcomes[0].result, RequestFailed) and outcomes[0].result.kind == "bad_request"


def test_jobs_are_split_by_the_limits_of_the_endpoint(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_api, "MAX_BYTES", 2000)
    monkeypatch.setattr(batch_pool, "MAX_REQUESTS", 7)
    requests = [*texts(20), "x" * 1000, "y" * 3000]
    with BatchServer() as server:
        outcomes = drive(bench, server, requests)
        files = [server.files[job.file][1] for job in server.jobs.values()]
        assert max(map(len, files)) <= 2000 and max(f.count(b"\n") for f in files) <= 7
        assert not server.bought_twice
    assert answers(outcomes)[:21] == [f"re: {text}" for text in requests[:21]]
    assert isinstance(outcomes[21].result, RequestFailed) and outcomes[21].result.kind == "context_length"


def test_a_budget_is_set_aside_before_a_job_is_submitted(bench: Bench) -> None:
    """About $0.09 is the estimate for a request at half price and $0.02 what it costs."""
    with BatchServer() as server:
        first = drive(bench, server, texts(10), budget=Budget(dollars=0.5))
        sizes = server.sizes
        assert sizes[0] == 5 and sizes == sorted(sizes, reverse=True) and sum(sizes) == 10
        assert all(o.reply for o in first)
        tight = drive(bench, server, [f"more {i}" for i in range(20)], budget=Budget(dollars=0.5))
        spent = 0.02 * len(server.bought)
        assert spent <= 0.5
        unsent = [o for o in tight if isinstance(o.result, NotSent)]
        assert unsent and all(o.response_id is None for o in unsent)
        assert bench.count("SELECT count(*) FROM response") == 30 - len(unsent)


def test_no_batch_routes_is_one_sentence(bench: Bench) -> None:
    with BatchServer(batches=False) as server, pytest.raises(UserError) as caught:
        drive(bench, server, texts(3))
    assert "has no batch API" in str(caught.value) and "`batch: true`" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert open_jobs(bench) == 0


def test_a_wrong_key_is_the_same_row_as_live(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mysecretkey")
    with BatchServer(key="sk-another") as server:
        outcomes = drive(bench, server, texts(3))
        assert server.count("POST", "/v1/files") == 1
        server.key = "sk-mysecretkey"
        assert all(o.reply for o in drive(bench, server, texts(3)))
    assert {o.result.kind for o in outcomes if isinstance(o.result, RequestFailed)} == {"auth"}
    assert "OPENAI_API_KEY is wrong" in answers(outcomes)[0] and "sk-" not in answers(outcomes)[0]


def test_nobody_there_is_the_same_row_as_live(bench: Bench) -> None:
    with BatchServer() as server:
        pass
    outcomes = drive(bench, server, texts(3))
    assert {o.result.kind for o in outcomes if isinstance(o.result, RequestFailed)} == {"connection"}
    assert "is the server running" in answers(outcomes)[0]
    assert open_jobs(bench) == 0 and bench.count("SELECT errors FROM run_cell") == 3


def test_troubles_on_the_way_are_sat_out(bench: Bench) -> None:
    """429s, server errors, a download that breaks off: nothing is submitted or bought twice."""
    seen: Counter[tuple[str, str]] = Counter()

    def fault(method: str, path: str) -> int | None:
        path = "/file" if path.startswith("/v1/files/") else path
        seen[method, path] += 1
        return {1: 429, 2: 503}.get(seen[method, path]) or (-1 if path == "/file" and seen[method, path] == 3 else None)

    with BatchServer(fault=fault) as server:
        outcomes = drive(bench, server, texts(5))
        assert len(server.jobs) == 1 and not server.bought_twice
    assert answers(outcomes) == [f"re: question {i}" for i in range(5)]


def test_a_job_whose_creation_was_not_confirmed_is_found(bench: Bench) -> None:
    """The connection breaks after the job was created: creating it again would buy everything twice."""
    cut = iter([-1])
    with BatchServer(fault=lambda m, p: next(cut, None) if (m, p) == ("POST", "/v1/batches") else None) as server:
        outcomes = drive(bench, server, texts(4))
        assert len(server.jobs) == 1 and server.count("GET", "/v1/batches") == 1
    assert all(o.reply for o in outcomes)


def test_a_file_that_is_gone_when_its_job_is_to_be_created(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no list of jobs to look through: the run after the next one submits anew."""
    with BatchServer() as server:
        with monkeypatch.context() as patched, pytest.raises(asyncio.CancelledError):
            patched.setattr(BatchModel, "create", _dies(BatchModel.create, after=False))
            drive(bench, server, texts(3))
        assert open_jobs(bench) == 1
        server.files.clear()
        server.fault = lambda method, path: 405 if (method, path) == ("GET", "/v1/batches") else None
        lost = drive(bench, server, texts(3))
        assert {o.result.kind for o in lost if isinstance(o.result, RequestFailed)} == {"not_found"}
        assert all(o.reply for o in drive(bench, server, texts(3)))
        assert len(server.jobs) == 1 and open_jobs(bench) == 0


def test_an_endpoint_that_goes_silent_keeps_its_job(bench: Bench) -> None:
    silent = False
    with BatchServer(fault=lambda method, path: 503 if silent and method == "GET" else None) as server:
        told = Told()

        def fall_silent(text: str) -> None:
            nonlocal silent
            silent = True

        told.on_note = fall_silent
        outcomes = drive(bench, server, texts(3), progress=told)
        assert "batch_1 goes on there, and the same command picks it up" in answers(outcomes)[0]
        silent = False
        assert all(o.reply for o in drive(bench, server, texts(3)))
        assert len(server.jobs) == 1 and not server.bought_twice
    assert open_jobs(bench) == 0


def test_a_job_the_endpoint_has_forgotten(bench: Bench) -> None:
    with BatchServer() as server:
        told = Told()
        told.on_note = lambda text: server.jobs.pop("batch_1", None) and None
        first = drive(bench, server, texts(3), progress=told)
        assert {o.result.kind for o in first if isinstance(o.result, RequestFailed)} == {"not_found"}
        told.on_note = lambda text: None
        assert all(o.reply for o in drive(bench, server, texts(3)))


def test_wrong_ids_and_texts_with_line_breaks(bench: Bench) -> None:
    """An answer under an id that nobody asked for, a missing one, and texts with breaks that are none in JSON."""
    odd = ["a\u2028b", "c\u0085d", "e\nf", "ü\x00\x1c"]
    with BatchServer() as server:
        names: list[str] = []

        def rename(custom_id: str) -> str:
            names.append(custom_id)
            return "nobody" if len(names) == 1 else custom_id

        server.rename = rename
        outcomes = drive(bench, server, odd)
        lost = [i for i, o in enumerate(outcomes) if not o.reply]
        assert len(lost) == 1 and "without a result for this request" in answers(outcomes)[lost[0]]
        assert [answers(outcomes)[i] for i in range(4) if i not in lost] == [
            f"re: {odd[i]}" for i in range(4) if i not in lost
        ]
        assert open_jobs(bench) == 0


@pytest.mark.parametrize("step", ["upload", "create before", "create after", "update_batch"])
def test_resumed_after_an_end_at_any_step(bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Cancelled right there (as by Ctrl-C), and the ledger left as it then is."""
    with BatchServer() as server, monkeypatch.context() as patched:
        if step == "upload":
            patched.setattr(BatchModel, "upload", _dies(BatchModel.upload, after=True))
        elif step.startswith("create"):
            patched.setattr(BatchModel, "create", _dies(BatchModel.create, after="after" in step))
        else:
            known = bench.ledger.update_batch

            def update(batch_id: int, **changes: Any) -> None:
                if "provider_id" in changes:
                    raise OSError("gone")
                known(batch_id, **changes)

            patched.setattr(bench.ledger, "update_batch", update)
        with pytest.raises((asyncio.CancelledError, OSError)):
            drive(bench, server, texts(4))
        patched.undo()
        outcomes = drive(bench, server, texts(4))
        assert answers(outcomes) == [f"re: question {i}" for i in range(4)]
        assert len(server.jobs) == 1 and not server.bought_twice
        assert len(server.files) == (4 if step == "upload" else 3) - 1
    assert open_jobs(bench) == 0


def _dies(method: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    async def dies(*arguments: Any) -> Any:
        if after:
            await method(*arguments)
        main = next(t for t in asyncio.all_tasks() if "Engine.arun" in str(t.get_coro()))
        main.cancel()
        await asyncio.sleep(60)

    return dies


def test_ctrl_c_leaves_the_job_running_and_says_so(bench: Bench) -> None:
    told = Told()
    with BatchServer() as server:
        server.held.add("batch_1")

        def interrupt(text: str) -> None:
            next(t for t in asyncio.all_tasks() if "Engine.arun" in str(t.get_coro())).cancel()

        told.on_note = interrupt
        with pytest.raises(asyncio.CancelledError):
            drive(bench, server, texts(4), progress=told)
        assert told.said[-1] == f"mock: batch batch_1 goes on at {server.url}; the same command picks it up"
        assert server.jobs["batch_1"].status == "in_progress" and open_jobs(bench) == 1
        told.on_note = lambda text: None
        server.held.clear()
        # Another run that asks for more: what is at the endpoint already is not asked again.
        run_id = bench.ledger.start_run("other", {}, seed=1, environment={})
        outcomes = drive(bench, server, texts(6), progress=told, run_id=run_id)
        assert server.sizes == [4, 2] and not server.bought_twice
    assert all(o.reply for o in outcomes) and open_jobs(bench) == 0
    assert any("picking up batch batch_1 of 4 requests" in said for said in told.said)


def test_a_part_of_a_job_is_asked_for_the_rest_stays_to_be_fetched(bench: Bench) -> None:
    told = Told()
    with BatchServer() as server:
        server.held.add("batch_1")
        told.on_note = lambda text: (
            next(t for t in asyncio.all_tasks() if "Engine.arun" in str(t.get_coro())).cancel() and None
        )
        with pytest.raises(asyncio.CancelledError):
            drive(bench, server, texts(4), progress=told)
        server.held.clear()
        assert all(o.reply for o in drive(bench, server, texts(2)))
        assert open_jobs(bench) == 1
        assert all(o.reply for o in drive(bench, server, texts(4)))
        assert len(server.jobs) == 1 and open_jobs(bench) == 0


def test_a_job_left_open_with_all_its_answers_stored_is_struck_off(bench: Bench) -> None:
    with BatchServer() as server:
        drive(bench, server, texts(2))
        with bench.ledger.write() as connection:
            connection.exec_driver_sql("UPDATE batch SET finished_at = NULL")
        assert all(isinstance(o.result, Reply) for o in drive(bench, server, ["new"]))
    assert open_jobs(bench) == 0


def test_several_models_are_submitted_before_the_first_is_waited_for(bench: Bench) -> None:
    """What the first set aside counts when the second submits, and once only when it is waited for."""
    told = Told()
    with BatchServer() as server:
        settings = [ModelSettings("openai", name, endpoint=server.url) for name in ("one", "two")]
        models = [BatchModel(s) for s in settings]
        prices = Prices(tuple(Price(s.name, 1000.0, 10_000.0, batch_discount=0.5) for s in settings))
        ids = bench.ledger.add_models(settings)
        dataset_id, item_ids = bench.ledger.add_dataset("d", [Item(request(t).messages) for t in texts(4)])
        asked = list(zip(item_ids, map(request, texts(4)), strict=True))
        jobs = [[Job(i, item_id, dataset_id, r) for item_id, r in asked] for i in ids]
        budget = Budget(dollars=0.6)  # seven requests at their estimate of $0.0855
        with Engine(bench.ledger, bench.run_id, budget=budget, prices=prices, progress=told) as engine:
            for model, its in zip(models, jobs, strict=True):
                engine.submit_ahead(lambda model=model, its=its: engine.run(model, its))  # type: ignore[misc]
            assert server.sizes == [4, 3]
            assert not any(path.startswith("/v1/batches/") for _, path in server.requests)
            assert engine.counts() == (0, 0, 0) and bench.count("SELECT count(*) FROM response") == 0
            outcomes = [engine.run(model, its) for model, its in zip(models, jobs, strict=True)]
            for model in models:
                engine.release(model)
        assert server.sizes == [4, 3, 1] and not server.bought_twice
    assert all(o.reply for model in outcomes for o in model)
    assert engine.counts() == (8, 8, 0) and engine.set_aside == set() and open_jobs(bench) == 0
    assert not any("picking up" in said for said in told.said)
