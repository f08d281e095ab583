"""The main job in small: two tiny models, benchmarks, prompts, a verifier and a judge, through the command line."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

PROMPTS = [
    {
        "id": "sum",
        "prompt": "How much is 3 + 4?",
        "verify": {"verifier": "numeric", "answer": "7"},
        "tags": {"topic": "sum"},
    },
    {"id": "yes", "prompt": "Say yes.", "verify": {"verifier": "exact", "answers": ["yes"]}},
    {"id": "free", "prompt": "Tell me something."},
]
MODELS = ("first", "second")


@dataclass(frozen=True)
class World:
    """A folder with a plan and what `evalkit` made of it."""

    folder: Path
    environment: dict[str, str]

    def evalkit(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "evalkit.cli", *map(str, arguments)]
        return subprocess.run(line, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.folder / "small.db")) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], make_tiny: Callable[..., Path]
) -> World:
    folder = tmp_path_factory.mktemp("small")
    models = [
        {"name": name, "model": f"hf/{make_tiny(name, seed=seed, context=2048)}", "dtype": "float32"}
        for seed, name in enumerate(MODELS)
    ]
    plan = {
        "name": "small",
        "store": "small.db",
        "models": models,
        "benchmarks": [
            {"task": "starter_arithmetic", "limit": 2, "generation": {"max_gen_toks": 8}},
            {"task": "starter_knowledge", "limit": 2},
        ],
        "arena": {"tasks": ["starter_arithmetic"], "prompts": "prompts.jsonl", "sampling": {"max_tokens": 8}},
        "judges": [
            {"name": "verifier", "kind": "verifier"},
            {"name": "tiny", "model": models[0], "prompt": "pairwise-letter-v1"},
            {"name": "grader", "model": models[0], "prompt": "g-eval-v1", "criteria": ["fluency"], "answers": 4},
        ],
        "juries": [{"members": ["verifier"]}],
        "report": "report.html",
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps(p) for p in PROMPTS))
    return World(folder, {**environment, "EVALKIT_STORE": "small.db"})


@pytest.fixture
def ran(world: World) -> World:
    """The plan has been run, whichever test of this module came first in this process."""
    done = world.evalkit("run", "plan.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return world


def test_a_small_run_from_beginning_to_end(world: World) -> None:
    dry = json.loads((done := world.evalkit("run", "plan.yaml", "--dry-run", "--json")).stdout)
    assert done.returncode == 0, done.stderr
    assert not (world.folder / "small.db").exists()
    counted = {row["role"]: row["requests"] for row in dry["rows"]}
    assert counted == {"contestant": 2 + 2 + 3, "judge tiny": 2 * (2 + 3), "judge grader": 4}

    part = world.evalkit("run", "plan.yaml", "--stage", "benchmark")
    assert part.returncode == 0, part.stderr
    assert world.ask("SELECT status, message FROM run") == [("stopped", "only some stages were asked for")]
    assert world.ask("SELECT count(*) FROM response") == [(8,)]
    assert world.ask("SELECT count(*) FROM battle") == [(0,)]

    done = world.evalkit("run", "plan.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("starter_arithmetic", "starter_knowledge", "Leaderboard (overall, by verifier)", "Judge tiny:",
                  "answers, 0 of them from the ledger, 0 failed", "Grades", "Ledger: small.db", "Report:"):  # fmt: skip
        assert words in done.stdout
    assert (world.folder / "report.html").stat().st_size > 10_000

    assert world.ask("SELECT status FROM run") == [("done",)], "the partial run is the same run"
    ((answers,),) = world.ask("SELECT count(*) FROM response")
    # A model of random weights says little that can be read: it is asked once more, then it is an error.
    assert world.ask("SELECT count(*) FROM verdict WHERE error LIKE '%asked again%'") == [(10,)]
    assert world.ask("SELECT count(*), count(value) + count(error) FROM grade JOIN annotator a ON a.id = annotator_id "
                     "WHERE a.name = 'grader'") == [(4, 4)]  # fmt: skip
    assert world.ask("SELECT sum(n), sum(errors) FROM run_cell") == [(answers, 0)]
    assert 14 + 20 + 4 <= answers <= 14 + 20 + 8
    assert world.ask("SELECT count(*) FROM battle") == [(2 + 3,)]
    counts = world.ask("SELECT a.name, count(*) FROM verdict v JOIN annotator a ON a.id = v.annotator_id GROUP BY 1")
    assert dict(counts) == {"verifier": 2 + 2, "tiny": 10}
    assert world.ask("SELECT count(*) FROM score WHERE n = 2 AND errors = 0 AND value IS NOT NULL")[0][0] >= 4

    before = world.ask("SELECT id, attempts, created_at FROM response ORDER BY id")
    again = world.evalkit("run", "plan.yaml", "--json")
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert found["run"]["fresh"] is False
    assert found["totals"]["n"] == answers
    assert {row["model"] for row in found["leaderboard"]["rows"]} == set(MODELS)
    assert world.ask("SELECT id, attempts, created_at FROM response ORDER BY id") == before
    assert world.ask("SELECT count(*) FROM run") == [(1,)]


def test_rescoring_asks_no_model(ran: World) -> None:
    before = ran.ask("SELECT model_id, dataset_id, metric, value, stderr, n FROM score ORDER BY 1, 2, 3")
    answers = ran.ask("SELECT count(*) FROM response")
    done = ran.evalkit("rescore")
    assert done.returncode == 0, done.stderr
    assert "without a request" in done.stdout
    assert ran.ask("SELECT model_id, dataset_id, metric, value, stderr, n FROM score ORDER BY 1, 2, 3") == before
    assert ran.ask("SELECT count(*) FROM response") == answers


def test_another_setting_is_asked_anew_and_the_rest_is_not(ran: World) -> None:
    plan = yaml.safe_load((ran.folder / "plan.yaml").read_text())
    plan["models"][1]["system"] = "Answer with a number."
    del plan["benchmarks"], plan["arena"]["tasks"]
    (ran.folder / "changed.yaml").write_text(yaml.safe_dump(plan))
    done = ran.evalkit("run", "changed.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Leaderboard (overall, by verifier)" in done.stdout
    assert ran.ask("SELECT count(*) FROM run") == [(2,)]
    (cached,) = ran.ask("SELECT sum(cached) FROM run_cell c JOIN model m ON m.id = c.model_id WHERE run_id = 2")
    assert cached[0] >= 3, "the first model is not asked again"
    assert ran.ask("SELECT count(*) FROM model") == [(3,)]
    look = ran.evalkit("samples", "2", "--failed", "--json")
    assert look.returncode == 0, look.stderr


def test_eval_without_a_plan(world: World) -> None:
    folder = next(
        Path(m["model"].removeprefix("hf/")) for m in yaml.safe_load((world.folder / "plan.yaml").read_text())["models"]
    )
    line = ("eval", "--model", f"hf/{folder}", "--dtype", "float32", "--tasks", "starter_arithmetic", "--limit", 2)
    done = world.evalkit(*line, "--gen_kwargs", "max_gen_toks=8", "-o", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "starter_arithmetic" in done.stdout
    assert {p.name for p in (world.folder / "out").iterdir()} >= {"evalkit.db", "plan.yaml", "report.html"}
    wrong = world.evalkit("eval", "--model", f"hf/{folder}", "--tasks", "no_such_task", "-o", "out2")
    assert wrong.returncode in (1, 2)
    assert "no_such_task" in wrong.stderr
    assert "Traceback" not in wrong.stderr
