"""The engine on models that answer from a function: caching, retries, failures, budgets, stopping."""

from __future__ import annotations

import asyncio
import time

import pytest
from engine_doubles import Bench, FunctionModel

from evalkit.engine import Budget, Engine, Job, NotSent, Outcome
from evalkit.errors import UserError
from evalkit.models import Reply, Request, RequestFailed
from evalkit.models.prices import Price, Prices
from evalkit.store.rows import Item


def echo(request: Request, times: int) -> Reply:
    return Reply(
        str(request.messages[-1]["content"]).upper() + str(request.sample), prompt_tokens=4, completion_tokens=2
    )


def run(bench: Bench, model: FunctionModel, jobs: list[Job], **options: object) -> list[Outcome]:
    with Engine(bench.ledger, bench.run_id, **options) as engine:  # type: ignore[arg-type]
        return engine.run(model, jobs)


def test_outcomes_are_in_order_of_the_jobs_and_stored(bench: Bench) -> None:
    model = FunctionModel(lambda r, n: echo(r, n), delay=0.001)
    jobs = bench.jobs(model, [f"q{i}" for i in range(700)])
    outcomes = run(bench, model, jobs)
    assert [o.reply.text for o in outcomes if o.reply] == [f"Q{i}0" for i in range(700)]
    assert not any(o.cached for o in outcomes)
    assert bench.count("SELECT count(*) FROM response") == 700
    assert bench.count("SELECT n FROM run_cell") == 700
    assert bench.count("SELECT done FROM run") == bench.count("SELECT total FROM run") == 700


def test_second_run_sends_nothing(bench: Bench) -> None:
    model = FunctionModel(echo)
    jobs = bench.jobs(model, ["a", "b"])
    first = run(bench, model, jobs)
    again = FunctionModel(echo)
    second = run(bench, again, jobs)
    assert again.asked == {}
    assert [o.response_id for o in second] == [o.response_id for o in first]
    assert all(o.cached and o.cost == 0.0 for o in second)


def test_no_jobs_is_no_outcomes(bench: Bench) -> None:
    assert run(bench, FunctionModel(echo), []) == []


def test_n_samples_are_n_answers(bench: Bench) -> None:
    model = FunctionModel(echo)
    outcomes = run(bench, model, bench.jobs(model, ["a"], samples=3))
    assert [o.reply.text for o in outcomes if o.reply] == ["A0", "A1", "A2"]
    assert len({o.response_id for o in outcomes}) == 3


def test_identical_requests_are_sent_once_and_paid_once(bench: Bench) -> None:
    model = FunctionModel(echo, delay=0.02)
    prices = Prices((Price("m", 1e6, 0.0),))
    jobs = bench.jobs(model, ["same", "same", "other"]) + bench.jobs(model, ["same"], dataset="second")
    outcomes = run(bench, model, jobs, prices=prices)
    assert model.asked == {"same#0": 1, "other#0": 1}
    assert [o.cost for o in outcomes] == [4.0, 0.0, 4.0, 0.0]
    assert outcomes[0].response_id == outcomes[1].response_id == outcomes[3].response_id
    assert bench.count("SELECT count(*) FROM run_response") == 3  # "same" takes part in both datasets
    assert bench.count("SELECT sum(cost) FROM run_cell") == 8


def test_an_answer_of_another_item_is_copied_at_no_cost(bench: Bench) -> None:
    model = FunctionModel(echo)
    jobs = bench.jobs(model, ["a"])
    run(bench, model, jobs)
    dataset_id, (item_id,) = bench.ledger.add_dataset("e", [Item(({"role": "user", "content": "a"},), reference=1)])
    job = Job(jobs[0].model_id, item_id, dataset_id, jobs[0].request)
    (outcome,) = run(bench, model, [job])
    assert model.asked == {"a#0": 1}
    assert (outcome.cached, outcome.cost) == (True, 0.0)
    assert bench.count("SELECT count(*) FROM response") == 2
    assert bench.count(f"SELECT cached FROM run_cell WHERE dataset_id = {dataset_id}") == 1


def test_what_may_pass_is_retried_and_attempts_are_counted(bench: Bench) -> None:
    def flaky(request: Request, times: int) -> Reply | RequestFailed:
        return echo(request, times) if times == 3 else RequestFailed("server", "500", retryable=True)

    model = FunctionModel(flaky)
    outcomes = run(bench, model, bench.jobs(model, [f"q{i}" for i in range(20)]))
    assert all(o.reply for o in outcomes)
    assert bench.count("SELECT min(attempts) FROM response") == bench.count("SELECT max(attempts) FROM response") == 3


@pytest.mark.parametrize("kind", ["bad_request", "context_length", "content_filter", "unsupported", "empty"])
def test_what_cannot_pass_is_an_error_row_at_once(bench: Bench, kind: str) -> None:
    def fails_on_bad(request: Request, times: int) -> Reply | RequestFailed:
        return RequestFailed(kind, "no") if "bad" in str(request.messages) else echo(request, times)  # type: ignore[arg-type]

    model = FunctionModel(fails_on_bad)
    outcomes = run(bench, model, bench.jobs(model, ["good", "bad"]))
    assert isinstance(outcomes[1].result, RequestFailed) and outcomes[1].result.kind == kind
    assert outcomes[1].response_id is not None
    assert model.asked["bad#0"] == 1
    assert bench.count("SELECT errors FROM run_cell") == 1


def test_a_later_run_retries_only_the_failures(bench: Bench) -> None:
    def fails_on_b(request: Request, times: int) -> Reply | RequestFailed:
        return RequestFailed("bad_request", "no") if request.messages[-1]["content"] == "b" else echo(request, times)

    broken = FunctionModel(fails_on_b)
    jobs = bench.jobs(broken, ["a", "b", "c"])
    first = run(bench, broken, jobs)
    mended = FunctionModel(echo)
    second = run(bench, mended, jobs)
    assert mended.asked == {"b#0": 1}
    assert [o.response_id for o in second] == [o.response_id for o in first]
    assert bench.count("SELECT errors FROM run_cell") == 0
    assert bench.count("SELECT n FROM run_cell") == 3


def test_retries_end(bench: Bench) -> None:
    model = FunctionModel(lambda r, n: RequestFailed("malformed", "half a JSON", retryable=True, paid=True))
    (outcome,) = run(bench, model, bench.jobs(model, ["a"]))
    assert isinstance(outcome.result, RequestFailed) and outcome.result.kind == "malformed"
    assert model.asked == {"a#0": 6}


def test_wrong_key_ends_the_run_after_the_first_requests(bench: Bench) -> None:
    model = FunctionModel(lambda r, n: RequestFailed("auth", "401: wrong key"), max_concurrency=8)
    outcomes = run(bench, model, bench.jobs(model, [f"q{i}" for i in range(2000)]))
    assert sum(model.asked.values()) <= 8
    assert {str(o.result) for o in outcomes} == {"401: wrong key"}
    assert bench.count("SELECT errors FROM run_cell") == 2000


def test_an_endpoint_that_is_down_ends_the_run(bench: Bench) -> None:
    refusal = RequestFailed("connection", "http://mock: cannot connect", retryable=True)
    model = FunctionModel(lambda r, n: refusal)
    since = time.monotonic()
    outcomes = run(bench, model, bench.jobs(model, [f"q{i}" for i in range(3000)]))
    assert time.monotonic() - since < 10
    assert sum(model.asked.values()) < 300
    assert len(outcomes) == bench.count("SELECT count(*) FROM response WHERE error_kind = 'connection'") == 3000


def test_cached_answers_are_served_even_if_the_endpoint_is_down(bench: Bench) -> None:
    model = FunctionModel(echo)
    jobs = bench.jobs(model, [f"q{i}" for i in range(30)])
    run(bench, model, jobs[:10])
    down = FunctionModel(lambda r, n: RequestFailed("auth", "401"))
    outcomes = run(bench, down, jobs)
    assert [bool(o.reply) for o in outcomes] == [True] * 10 + [False] * 20


def test_a_slot_is_free_while_its_request_backs_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import evalkit.engine.pool as pool

    monkeypatch.setattr(pool, "backoff", lambda attempt, after: 0.5)

    def first_fails(request: Request, times: int) -> Reply | RequestFailed:
        failing = times == 1 and request.messages[-1]["content"] in ("q0", "q1")
        return RequestFailed("rate_limit", "429", retryable=True) if failing else echo(request, times)

    finished: list[tuple[str, float]] = []
    since = time.monotonic()

    class Timed(FunctionModel):
        async def reply(self, request: Request) -> Reply:
            reply = await super().reply(request)
            finished.append((str(request.messages[-1]["content"]), time.monotonic() - since))
            return reply

    model = Timed(first_fails, delay=0.01, max_concurrency=2)
    run(bench, model, bench.jobs(model, [f"q{i}" for i in range(12)]))
    assert {name for name, _ in finished[-2:]} == {"q0", "q1"}
    assert max(at for name, at in finished if name not in ("q0", "q1")) < 0.45


def test_concurrency_stays_below_the_budget(bench: Bench) -> None:
    model = FunctionModel(echo, delay=0.01, max_concurrency=64)
    run(bench, model, bench.jobs(model, [f"q{i}" for i in range(50)]), budget=Budget(max_concurrency=7))
    assert model.most_in_flight == 7


def test_a_server_capped_at_half_is_survived(bench: Bench) -> None:
    class Capped(FunctionModel):
        refused = 0

        async def reply(self, request: Request) -> Reply:
            if self.in_flight >= 32:
                self.refused += 1
                raise RequestFailed("rate_limit", "429", retryable=True, retry_after=1.0)
            return await super().reply(request)

    model = Capped(echo, delay=0.02)
    outcomes = run(bench, model, bench.jobs(model, [f"q{i}" for i in range(600)]))
    assert all(o.reply for o in outcomes)
    assert model.refused < 300
    assert set(model.asked.values()) == {1}


def test_dollars_stop_new_requests_and_say_so(bench: Bench) -> None:
    model = FunctionModel(lambda r, n: Reply("x", prompt_tokens=10, completion_tokens=10), delay=0.001)
    prices = Prices((Price("m", 0.0, 1000.0),))  # 0.01 dollars an answer; 1.024 at most, for no limit is given
    jobs = bench.jobs(model, [f"q{i}" for i in range(500)])
    outcomes = run(bench, model, jobs, prices=prices, budget=Budget(dollars=3.0))
    unsent = [o for o in outcomes if o.response_id is None]
    spent = sum(o.cost or 0.0 for o in outcomes)
    assert len(outcomes) == 500 and 0 < len(unsent) < 500
    assert all(isinstance(o.result, NotSent) and "budget of $3" in str(o.result) for o in unsent)
    assert spent <= 3.0
    assert bench.count("SELECT count(*) FROM response") == 500 - len(unsent)
    more = run(bench, model, jobs, prices=prices, budget=Budget(dollars=3.0))
    assert sum(o.cost or 0.0 for o in more) + spent <= 3.0  # a resumed run knows what it spent before
    rest = run(bench, model, jobs, prices=prices, budget=Budget(dollars=30.0))
    assert all(o.reply for o in rest)


def test_a_dollar_budget_needs_a_price(bench: Bench) -> None:
    model = FunctionModel(echo)
    with pytest.raises(UserError, match="price of m at http://mock/v1 is unknown"):
        run(bench, model, bench.jobs(model, ["a"]), prices=Prices(()), budget=Budget(dollars=1.0))


def test_requests_per_minute(bench: Bench) -> None:
    model = FunctionModel(echo)
    since = time.monotonic()
    run(bench, model, bench.jobs(model, [f"q{i}" for i in range(30)]), budget=Budget(requests_per_minute=1200))
    assert time.monotonic() - since >= 0.4  # 20 a second, of which the first second's worth may go at once


def test_offline_never_sends(bench: Bench) -> None:
    model = FunctionModel(echo)
    jobs = bench.jobs(model, ["a", "b"])
    run(bench, model, jobs[:1])
    outcomes = run(bench, model, jobs, offline=True)
    assert model.asked == {"a#0": 1}
    assert outcomes[0].cached and outcomes[0].reply
    assert outcomes[1].response_id is None
    assert isinstance(outcomes[1].result, RequestFailed) and outcomes[1].result.kind == "missing"
    assert bench.count("SELECT count(*) FROM response") == 1


def test_a_provider_fault_is_raised_and_nothing_answered_is_lost(bench: Bench) -> None:
    def faulty(request: Request, times: int) -> Reply:
        if request.messages[-1]["content"] == "q40":
            raise ZeroDivisionError("provider")
        return echo(request, times)

    model = FunctionModel(faulty, delay=0.001, max_concurrency=4)
    with pytest.raises(ZeroDivisionError):
        run(bench, model, bench.jobs(model, [f"q{i}" for i in range(100)]))
    assert bench.count("SELECT count(*) FROM response") >= 37


def test_a_ledger_that_cannot_be_written_is_one_sentence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> list[int]:
        raise UserError("store: the disk is full")

    model = FunctionModel(echo, delay=0.001)
    jobs = bench.jobs(model, [f"q{i}" for i in range(2000)])
    monkeypatch.setattr(bench.ledger, "add_responses", full)
    with pytest.raises(UserError, match="disk is full"):
        run(bench, model, jobs)
    assert sum(model.asked.values()) < 2000


def test_nothing_is_reported_before_it_is_stored(bench: Bench) -> None:
    class Watch:
        done = 0
        behind: list[tuple[int, int]] = []  # noqa: RUF012

        def start(self, label: str, total: int) -> int:
            return 0

        def advance(self, handle: int, n: int, **_: object) -> None:
            self.done += n
            self.behind.append((self.done, bench.count("SELECT count(*) FROM response")))

        def warn(self, message: str) -> None:
            raise AssertionError(message)

        def finish(self, handle: int) -> None:
            self.done += 0

    model = FunctionModel(echo, delay=0.001)
    watch = Watch()
    run(bench, model, bench.jobs(model, [f"q{i}" for i in range(1500)]), progress=watch)
    assert watch.done == 1500
    assert all(stored >= done for done, stored in watch.behind) and len(watch.behind) > 2


def test_cancelling_stores_what_was_in_flight(bench: Bench) -> None:
    model = FunctionModel(echo, delay=0.1, max_concurrency=8)
    jobs = bench.jobs(model, [f"q{i}" for i in range(100)])

    async def main() -> None:
        with Engine(bench.ledger, bench.run_id) as engine:
            task = asyncio.ensure_future(engine.arun(model, jobs))
            await asyncio.sleep(0.25)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    answered = sum(model.asked.values())
    assert 16 <= answered < 50
    assert bench.count("SELECT count(*) FROM response") == answered


def test_warnings_are_counted_and_said_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    model = FunctionModel(lambda r, n: Reply("x", warnings=("the server ignores `stop`",)))
    with Engine(bench.ledger, bench.run_id) as engine:
        engine.run(model, bench.jobs(model, ["a", "b", "c"]))
    assert engine.warnings == {("m", "the server ignores `stop`"): 3}
    assert caplog.text.count("ignores `stop`") == 1


def test_several_models_one_after_the_other(bench: Bench) -> None:
    one, two = FunctionModel(echo, name="one"), FunctionModel(echo, name="two")
    with Engine(bench.ledger, bench.run_id) as engine:
        first = engine.run(one, bench.jobs(one, ["a"]))
        second = engine.run(two, bench.jobs(two, ["a"]))
        engine.release(one)
        engine.release(two)
    assert one.asked == two.asked == {}  # closed
    assert first[0].response_id != second[0].response_id
    assert bench.count("SELECT count(*) FROM run_cell") == 2
