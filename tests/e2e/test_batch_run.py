"""`evalkit run` by the batch API as its users meet it: killed while it waits, resumed, stopped, refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models"))

from batch_server import BatchServer, completion

from evalkit.estimate import estimate
from evalkit.plan import load_plan
from evalkit.store import Ledger

KEY = "sk-for-the-batch-server"


def answer(body: Mapping[str, Any]) -> tuple[int, Any]:
    said = "[[1]]" if body["model"] == "judge" else f"{body['model']} says {body['messages'][-1]['content']}"
    return 200, completion(body, said)


def write(folder: Path, url: str, **more: Any) -> Path:
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps({"prompt": f"Question {i}?"}) for i in range(12)))
    price = {"input": 1.0, "output": 2.0, "batch_discount": 0.5}
    prices = {"prices": [{"model": model, **price} for model in ("a", "b", "judge")]}
    (folder / "prices.yaml").write_text(yaml.safe_dump(prices))
    by_batch = {"base_url": url, "batch": True}
    plan: dict[str, Any] = {
        "store": "e.db",
        "prices": "prices.yaml",
        "models": [{"model": "openai/a", "name": "a", **by_batch}, {"model": "openai/b", "name": "b", "base_url": url}],
        "arena": {"prompts": "prompts.jsonl", "sampling": {"max_tokens": 50}},
        "judges": [{"name": "j", "model": {"model": "openai/judge", "name": "judge", **by_batch}}],
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan | more))
    return path


class Run:
    """`evalkit run` in a process of its own."""

    def __init__(self, plan: Path, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "evalkit.cli", "run", str(plan)]
        variables = {**environment, "OPENAI_API_KEY": KEY}
        self.process = subprocess.Popen(command, cwd=plan.parent, env=variables, stderr=subprocess.PIPE, text=True)

    def until(self, there: Callable[[], bool]) -> Run:
        deadline = time.monotonic() + 60
        while not there():
            assert self.process.poll() is None, self.end()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return self

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Waits for the end, after a signal if one is given; returns exit code and what was said."""
        if number is not None:
            self.process.send_signal(number)
        said = self.process.communicate(timeout=60)[1]
        return self.process.returncode, " ".join(said.split())


def value(folder: Path, query: str) -> Any:
    with Ledger.open(str(folder / "e.db"), readonly=True) as ledger, ledger.engine.connect() as connection:
        return connection.exec_driver_sql(query).scalar()


def test_killed_while_answers_and_verdicts_are_at_the_endpoint(tmp_path: Path, environment: dict[str, str]) -> None:
    with BatchServer(answer, key=KEY) as server:
        plan = write(tmp_path, server.url)

        def waiting(job: str, polls: int) -> Callable[[], bool]:
            return lambda: server.count("GET", f"/v1/batches/{job}") >= polls

        server.held = {"batch_1", "batch_2"}
        Run(plan, environment).until(waiting("batch_1", 1)).end(signal.SIGKILL)
        server.held.discard("batch_1")
        Run(plan, environment).until(waiting("batch_2", 1)).end(signal.SIGKILL)
        server.held.clear()
        code, said = Run(plan, environment).end()
        assert code == 0, said
        assert "judge: picking up batch batch_2 of 24 requests" in said
        assert server.sizes == [12, 24]
        assert len(server.live) == 12 and len(server.bought) == 48 and not server.bought_twice
    assert value(tmp_path, "SELECT count(*) FROM verdict WHERE winner IS NOT NULL") == 24
    assert value(tmp_path, "SELECT count(*) FROM response WHERE error_kind IS NULL AND attempts = 1") == 48
    assert value(tmp_path, "SELECT count(*) FROM batch WHERE finished_at IS NULL") == 0
    costs = "SELECT sum(cost) FROM run_cell JOIN model ON model.id = model_id WHERE name = "
    assert value(tmp_path, f"{costs}'a'") == pytest.approx(value(tmp_path, f"{costs}'b'") / 2)
    assert KEY not in (tmp_path / "e.db").read_bytes().decode("latin-1")


def test_all_models_and_judges_are_underway_before_one_is_waited_for(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with BatchServer(answer, key=KEY) as server:
        by_batch = {"base_url": server.url, "batch": True}
        models = [{"model": f"openai/{name}", "name": name, **by_batch} for name in ("a", "b")]
        judges = [
            {"name": name, "model": {"model": "openai/judge", "name": name, "sampling": {"seed": seed}, **by_batch}}
            for seed, name in enumerate(("j", "k"))
        ]
        server.held = {"batch_1", "batch_3"}
        run = Run(write(tmp_path, server.url, models=models, judges=judges), environment)
        run.until(lambda: server.count("GET", "/v1/batches/batch_1") > 0)
        assert server.sizes == [12, 12]
        server.held.discard("batch_1")
        run.until(lambda: server.count("GET", "/v1/batches/batch_3") > 0)
        assert server.sizes == [12, 12, 24, 24]
        server.held.clear()
        code, said = run.end()
        assert code == 0, said
        assert len(server.jobs) == 4 and not server.bought_twice
    assert value(tmp_path, "SELECT count(*) FROM verdict WHERE winner IS NOT NULL AND response_id IS NOT NULL") == 48


def test_a_dry_run_counts_the_batch_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    by_name = {row.model: row for row in estimate(load_plan(write(tmp_path, "http://127.0.0.1:9/v1", judges=[])))}
    assert by_name["a"].requests == by_name["b"].requests == 12
    assert by_name["a"].dollars and by_name["a"].dollars == pytest.approx((by_name["b"].dollars or 0) / 2)


def test_ctrl_c_says_that_the_job_goes_on(tmp_path: Path, environment: dict[str, str]) -> None:
    with BatchServer(answer, key=KEY) as server:
        server.held = {"batch_1"}
        run = Run(write(tmp_path, server.url, judges=[]), environment)
        code, said = run.until(lambda: server.count("GET", "/v1/batches/batch_1") > 0).end(signal.SIGINT)
        assert code == 130
        assert f"a: batch batch_1 goes on at {server.url}; the same command picks it up" in said
        assert server.jobs["batch_1"].status == "in_progress"


def test_an_endpoint_without_batches(tmp_path: Path, environment: dict[str, str]) -> None:
    with BatchServer(answer, key=KEY, batches=False) as server:
        code, said = Run(write(tmp_path, server.url, judges=[]), environment).end()
    assert code == 1 and "has no batch API" in said and "Traceback" not in said


def test_only_endpoints_have_a_batch_api(tmp_path: Path, environment: dict[str, str]) -> None:
    models = [{"model": "embedded/smollm2-135m-instruct", "batch": True}]
    code, said = Run(write(tmp_path, "http://localhost/v1", models=models, judges=[]), environment).end()
    assert code == 2 and "only models at an endpoint" in said
