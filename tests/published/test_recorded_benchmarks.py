"""Published scores from published answers: the recorded-answers provider, lm-eval's definitions, the local mirror."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")

from benchmarks import bridge
from benchmarks.tasks import Loaded, TaskSpec
from evalkit.engine import Engine
from evalkit.models.recorded import RecordedModel
from evalkit.store import Ledger

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("EVALKIT_SHARED_DATA") or ROOT.parent / "shared" / "data") / "benchmarks"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no published answers in {DATA}")

# Percent of problems that each model's solution solves, as published with the solutions.
GSM8K = {"6b_finetuning": 21.68, "6b_verification": 39.04, "175b_finetuning": 34.72, "175b_verification": 56.25}
IFEVAL = {"prompt_level_strict_acc": 77.22, "inst_level_strict_acc": 83.77, "prompt_level_loose_acc": 79.63,
          "inst_level_loose_acc": 85.58}  # fmt: skip


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> list[Loaded]:
    monkeypatch.setenv("EVALKIT_DATA", str(DATA))
    return bridge.load_tasks([TaskSpec(name)])


def score(ledger: Ledger, model: RecordedModel, loaded: list[Loaded]) -> bridge.Report:
    run_id = ledger.start_run("published", {"model": model.settings.name}, seed=0, environment={})
    (model_id,) = ledger.add_models([model.settings])
    with Engine(ledger, run_id) as engine:
        return bridge.run_tasks(engine, ledger, run_id, model, model_id, loaded)


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_gpt4_follows_instructions_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DATA / "ifeval" / "input_response_data_gpt4_20231107_145030.jsonl"
    answers = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    rows = [
        {"item_id": str(i), "model": "gpt-4", "prompt": a["prompt"], "response": a["response"]}
        for i, a in enumerate(answers)
    ]
    model = RecordedModel(write(tmp_path / "answers.jsonl", rows), "gpt-4")
    loaded = load("ifeval", monkeypatch)
    assert "ifeval/input_data.jsonl sha256:" in loaded[0].sources["ifeval"]
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        report = score(ledger, model, loaded)
    assert report.errors == 0
    scores = {s.metric.split(",")[0]: s for s in report.scores}
    assert {s.n for s in report.scores} == {540}
    for metric, published in IFEVAL.items():
        value = scores[metric].value
        assert value is not None and round(100 * value, 2) == published, metric
    strict = scores["prompt_level_strict_acc"]
    assert strict.stderr == pytest.approx((strict.value * (1 - strict.value) / 539) ** 0.5, rel=1e-9)
    # Instructions of one prompt are a cluster: lm-eval gives no error here, and counting them alone would be too small.
    instructions = scores["inst_level_strict_acc"]
    assert instructions.stderr > (instructions.value * (1 - instructions.value) / 834) ** 0.5


def test_gsm8k_solutions_score_as_graded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with gzip.open(DATA / "gsm8k" / "example_model_solutions.jsonl.gz", "rt", encoding="utf-8") as file:
        problems = [json.loads(line) for line in file]
    rows = [
        {"item_id": str(i), "model": name, "prompt": p["question"], "response": p[name]["solution"]}
        for i, p in enumerate(problems)
        for name in GSM8K
    ]
    path = write(tmp_path / "answers.jsonl", rows)
    loaded = load("gsm8k", monkeypatch)
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        for name, published in GSM8K.items():
            report = score(ledger, RecordedModel(path, name), loaded)
            (found,) = [s for s in report.scores if s.metric == "exact_match,flexible-extract"]
            graded = sum(p[name]["is_correct"] for p in problems) / len(problems)
            assert (found.value, found.n, found.errors) == (pytest.approx(graded, abs=1e-12), 1319, 0)
            assert round(100 * graded, 2) == published
