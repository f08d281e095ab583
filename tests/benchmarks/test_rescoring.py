"""Changed filters, metrics and targets on stored answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

pytest.importorskip("lm_eval")

from bench_support import ANIMALS, Scripted, rows

from benchmarks import bridge
from benchmarks.rescore import rescore
from benchmarks.tasks import TaskSpec
from evalkit.engine import Engine
from evalkit.errors import UserError
from evalkit.models.base import RequestFailed
from evalkit.store import Ledger
from evalkit.store.schema import Response, Score

TASK = """
task: shout
dataset_path: json
dataset_kwargs:
  data_files: {test: test.jsonl}
test_split: test
output_type: generate_until
doc_to_text: "PROMPT {{question}}"
doc_to_target: "{{animal}}"
generation_kwargs: {until: []}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: IGNORE}
"""


def write(folder: Path, data: list[dict[str, object]], ignore: str = "false", prompt: str = "Say:") -> None:
    (folder / "test.jsonl").write_text("\n".join(json.dumps(row) for row in data))
    (folder / "shout.yaml").write_text(TASK.replace("IGNORE", ignore).replace("PROMPT", prompt))


def shout(prompt: str) -> str | RequestFailed:
    number = int(prompt.rsplit("Question ", 1)[1].split(":")[0])
    return ANIMALS[number].upper() if number else RequestFailed("server", "gone")


@pytest.fixture
def run_id(ledger: Ledger, tmp_path: Path) -> int:
    write(tmp_path, rows(0, 6))
    model = Scripted(shout)
    run_id = ledger.start_run("test", {}, seed=0, environment={})
    (model_id,) = ledger.add_models([model.settings])
    with Engine(ledger, run_id) as engine:
        report = bridge.run_tasks(engine, ledger, run_id, model, model_id, [TaskSpec("shout")], include=[tmp_path])
    assert [(s.value, s.n, s.errors) for s in report.scores] == [(0.0, 5, 1)]
    return run_id


def score_rows(ledger: Ledger) -> list[tuple[float | None, int | None, int]]:
    with ledger.engine.connect() as connection:
        return [tuple(r) for r in connection.execute(sa.select(Score.value, Score.n, Score.errors))]  # type: ignore[misc]


def test_a_changed_metric_replaces_the_score(ledger: Ledger, tmp_path: Path, run_id: int) -> None:
    write(tmp_path, rows(0, 6), ignore="true")
    with ledger.engine.connect() as connection:
        before = connection.scalar(sa.select(sa.func.count()).select_from(Response.__table__))
    (report,) = rescore(ledger, run_id, [TaskSpec("shout")], include=[tmp_path]).values()
    assert [(s.metric, s.value, s.n, s.errors) for s in report.scores] == [("exact_match,none", 1.0, 5, 1)]
    assert score_rows(ledger) == [(1.0, 5, 1)]
    with ledger.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(Response.__table__)) == before


def test_a_corrected_target_counts(ledger: Ledger, tmp_path: Path, run_id: int) -> None:
    data = rows(0, 6)
    data[1]["animal"] = ANIMALS[1].upper()
    write(tmp_path, data)
    rescore(ledger, run_id, [TaskSpec("shout")], include=[tmp_path])
    assert score_rows(ledger) == [(pytest.approx(1 / 5), 5, 1)]


def test_a_changed_prompt_is_refused(ledger: Ledger, tmp_path: Path, run_id: int) -> None:
    write(tmp_path, rows(0, 6), prompt="Whisper:")
    with pytest.raises(UserError, match="asks document 0 otherwise than the run did"):
        rescore(ledger, run_id, [TaskSpec("shout")], include=[tmp_path])


def test_a_run_without_answers_says_so(ledger: Ledger, tmp_path: Path, run_id: int) -> None:
    with pytest.raises(UserError, match="run 99 has no answers to shout"):
        rescore(ledger, 99, [TaskSpec("shout")], include=[tmp_path])


def test_log_likelihoods_are_scored_again(ledger: Ledger, task_folder: Path) -> None:
    model, spec = Scripted(shout), TaskSpec("tiny_choice", num_fewshot=2)
    run_id = ledger.start_run("choices", {}, seed=0, environment={})
    (model_id,) = ledger.add_models([model.settings])
    with Engine(ledger, run_id) as engine:
        before = bridge.run_tasks(engine, ledger, run_id, model, model_id, [spec], include=[task_folder])
    after = rescore(ledger, run_id, [spec], include=[task_folder])[model_id]
    assert after.scores == before.scores and len(after.scores) == 3
