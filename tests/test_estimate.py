"""Estimates: what a plan would send, against what it then sends; nothing is sent or written by looking."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from mock_server import Answer, MockServer, chat

from evalkit.errors import UserError
from evalkit.estimate import Estimate, estimate
from evalkit.plan import load_plan
from evalkit.stages import PlanRun
from evalkit.store import Ledger

PRICES = {"prices": [{"model": "cheap", "input": 1.0, "output": 2.0}, {"model": "judge", "input": 10.0, "output": 0.0}]}


class Server:
    """Counts requests; a judge always takes the first answer."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, method: str, path: str, body: bytes) -> Answer:
        self.asked += 1
        asked = json.loads(body)
        return Answer(chat("[[1]]" if asked["model"] == "judge" else f"an answer of {asked['model']}"))


def write(folder: Path, url: str, **more: Any) -> Path:
    (folder / "prompts.jsonl").write_text(
        "\n".join(json.dumps({"prompt": f"Question {i}? {'x' * 400}"}) for i in range(4))
    )
    (folder / "prices.yaml").write_text(yaml.safe_dump(PRICES))
    where = {"base_url": url}
    plan: dict[str, Any] = {
        "store": str(folder / "e.db"),
        "prices": str(folder / "prices.yaml"),
        "models": [{"model": "openai/cheap", "name": "a", **where}, {"model": "openai/other", "name": "b", **where}],
        "arena": {"prompts": str(folder / "prompts.jsonl"), "sampling": {"max_tokens": 50}},
        "judges": [
            {"name": "j", "model": {"model": "openai/judge", **where}, "orders": "both"},
            {
                "name": "k",
                "model": {"model": "openai/judge", "name": "k", "sampling": {"seed": 1}, **where},
                "orders": "random",
                "battles": 3,
            },
            {"name": "v", "kind": "verifier"},
        ],
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan | more))
    return path


def by_role(rows: list[Estimate]) -> dict[str, Estimate]:
    return {f"{row.model} {row.role}": row for row in rows}


def test_it_counts_what_a_run_then_sends(tmp_path: Path) -> None:
    server = Server()
    with MockServer(server) as running:
        plan = load_plan(write(tmp_path, running.url))
        rows = by_role(estimate(plan))
        assert server.asked == 0
        assert not (tmp_path / "e.db").exists()
        assert {name: row.requests for name, row in rows.items()} == {
            "a contestant": 4,
            "b contestant": 4,
            "openai/judge judge j": 8,
            "k judge k": 3,
        }
        with Ledger.open(plan.store) as ledger:
            result = PlanRun(plan).run(ledger)
        assert result.status == "done"
        assert server.asked == 4 + 4 + 8 + 3
        again = by_role(estimate(plan))
        assert [(again[f"{m} contestant"].requests, again[f"{m} contestant"].cached) for m in "ab"] == [(0, 4), (0, 4)]
        assert again["a contestant"].dollars == 0.0
        judges = ("openai/judge judge j", "k judge k")
        assert [(again[name].requests, again[name].cached) for name in judges] == [(0, 8), (0, 3)]


def test_what_two_judges_or_models_ask_alike_is_sent_once(tmp_path: Path) -> None:
    """One judge under two names, of which the second sees a part; one model under two names; answers alike."""
    server = Server()
    with MockServer(server) as running:
        where = {"base_url": running.url}
        judge = {"model": "openai/judge", **where}
        path = write(
            tmp_path,
            running.url,
            models=[{"model": f"openai/{m}", "name": n, **where} for m, n in (("a", "a"), ("b", "b"), ("a", "twin"))],
            judges=[
                {"name": "some", "model": judge, "orders": "random", "battles": 3},
                {"name": "all", "model": judge | {"name": "other"}},
            ],
        )
        rows = by_role(estimate(load_plan(path)))
        assert {name: (row.requests, row.cached) for name, row in rows.items()} == {
            "a contestant": (4, 0),
            "b contestant": (4, 0),
            "twin contestant": (0, 4),
            "openai/judge judge some": (3, 0),
            "other judge all": (5, 3),
        }
        with Ledger.open(str(tmp_path / "e.db")) as ledger:
            PlanRun(load_plan(path)).run(ledger)
        assert server.asked == sum(row.requests for row in rows.values())


def test_a_draw_out_of_a_ledger_with_rows_of_its_own(tmp_path: Path) -> None:
    """Which battles are drawn hangs on the numbers that models and items have in the ledger."""
    server = Server()
    with MockServer(server) as running:
        first = load_plan(write(tmp_path, running.url, judges=[]))
        with Ledger.open(first.store) as ledger:
            PlanRun(first).run(ledger)
        lines = (tmp_path / "prompts.jsonl").read_text().splitlines()
        where = {"base_url": running.url}
        path = write(
            tmp_path,
            running.url,
            models=[{"model": f"openai/{m}", **where} for m in ("new", "other", "cheap")],
            arena={"prompts": str(tmp_path / "prompts.jsonl"), "sampling": {"max_tokens": 50}, "battles": 4},
            judges=[{"name": "j", "model": {"model": "openai/judge", **where}, "battles": 2}],
        )
        more = [json.dumps({"prompt": f"More {i}"}) for i in range(3)]
        (tmp_path / "prompts.jsonl").write_text("\n".join([*more, *reversed(lines)]))
        plan = load_plan(path)
        with Ledger.open(plan.store) as ledger:
            PlanRun(plan).run(ledger)
        again = by_role(estimate(plan))
        assert {name: (row.requests, row.cached) for name, row in again.items()} == {
            "openai/new contestant": (0, 7),
            "openai/other contestant": (0, 7),
            "openai/cheap contestant": (0, 7),
            "openai/judge judge j": (0, 4),
        }


def test_dollars_are_an_upper_limit_and_unknown_where_there_is_no_price(tmp_path: Path) -> None:
    rows = by_role(estimate(load_plan(write(tmp_path, "http://127.0.0.1:9/v1"))))
    cheap = rows["a contestant"]
    assert cheap.completion_tokens == 4 * 50
    assert 4 * 400 / 4 <= cheap.prompt_tokens <= 4 * 300
    assert cheap.dollars == pytest.approx((cheap.prompt_tokens * 1.0 + cheap.completion_tokens * 2.0) / 1e6)
    assert rows["b contestant"].dollars is None
    judge = rows["openai/judge judge j"]
    assert judge.dollars == pytest.approx(judge.prompt_tokens * 10.0 / 1e6)


def test_a_battle_budget_bounds_what_judges_see(tmp_path: Path) -> None:
    prompts = str(tmp_path / "prompts.jsonl")
    plan = load_plan(write(tmp_path, "http://127.0.0.1:9/v1", arena={"prompts": prompts, "battles": 2, "limit": 3}))
    rows = by_role(estimate(plan))
    assert (rows["a contestant"].requests, rows["openai/judge judge j"].requests, rows["k judge k"].requests) == (
        3,
        4,
        2,
    )


def test_what_a_run_would_refuse_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "http://127.0.0.1:9/v1", judges=[{"name": "j", "model": "openai/x", "prompt": "none"}])
    with pytest.raises(UserError, match="no judge prompt 'none'"):
        estimate(load_plan(path))
    path = write(tmp_path, "http://127.0.0.1:9/v1")
    (tmp_path / "e.db").write_text("not a ledger")
    with pytest.raises(UserError, match="is not a ledger"):
        estimate(load_plan(path))


def test_a_second_look_at_a_read_only_ledger(tmp_path: Path) -> None:
    path = write(tmp_path, "http://127.0.0.1:9/v1")
    Ledger.open(str(tmp_path / "e.db")).close()
    before = (tmp_path / "e.db").read_bytes()
    estimate(load_plan(path))
    assert (tmp_path / "e.db").read_bytes() == before
