"""The command `trainset`, and a recipe whose judge grades answers: from a plan's file to a file of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import recipe_world
import yaml
from recipe_world import Talker
from typer.testing import CliRunner

from evalkit import judging
from evalkit.cli import app
from evalkit.models.base import ModelSettings
from evalkit.slices import embed as embedding
from evalkit.store import Ledger, frames
from evalkit.trainsets import build_training_set
from trainers import material
from trainers.plan import load_retrain_plan

SOURCES = [{"kind": "new_prompts", "weight": 2}, {"kind": "contrast"}, {"kind": "replay"}]


class Judge(Talker):
    """Grades a text with an even number of letters 9, others 2."""

    settings = ModelSettings("openai", "judge", endpoint="http://mock/v1", label="judge")

    def __init__(self) -> None:
        super().__init__(lambda prompt, sample: f"Fine. Rating: [[{9 if len(prompt) % 2 else 2}]]")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    monkeypatch.setattr(material, "load_model", lambda plan: Talker())
    monkeypatch.setattr(judging, "load_model", lambda plan: Judge())
    path = str(tmp_path / "l.db")
    with Ledger.open(path) as ledger:
        recipe_world.fill(ledger, {"lower": ("formats", {"topic": "lowercase"})})
    return path


def written(folder: Path, store: str, **recipe: Any) -> Path:
    path = folder / "plan.yaml"
    data = {"name": "lower", "store": store, "slice": "lower", "base": "embedded/smollm2-135m-instruct",
            "recipe": {"sources": SOURCES, "rows": 40, **recipe}}  # fmt: skip
    path.write_text(yaml.safe_dump(data))
    return path


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["trainset", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_set_is_built_shown_and_written(store: str, tmp_path: Path) -> None:
    plan = written(tmp_path, store)
    [row] = json.loads(run("build", str(plan), "--json"))["rows"]
    assert (row["n"], row["used"]) == (40, {"new_prompts": 20, "contrast": 10, "replay": 10})
    assert json.loads(run("build", str(plan), "--json"))["rows"][0]["training_set_id"] == row["training_set_id"]
    assert "36 rows to train on, 4 to validate on, for 'lower'" in run("build", str(plan))
    assert "lower" in run("show", "--store", store)
    assert "[new_prompts]" in run("show", "1", "--rows", "40", "--store", store)
    assert "# Training set 1: lower" in run("show", "1", "--card", "--store", store)
    out = tmp_path / "rows.jsonl"
    assert "Wrote 40 rows" in run("export", "1", str(out), "--store", store)
    assert len(out.read_text().splitlines()) == 40
    assert "## Decontamination" in (tmp_path / "rows.card.md").read_text()
    with Ledger.open(store) as ledger:
        runs = frames.runs(ledger).to_dict("records")
        assert runs[0]["name"] == "lower: training set" and runs[0]["status"] == "done"


def test_a_judge_grades_what_models_said(store: str, tmp_path: Path) -> None:
    judge = {"name": "grader", "model": "openai/judge", "prompt": "mt-bench-single-v1"}
    plan = load_retrain_plan(written(tmp_path, store, filters={"judge": judge, "min_score": 0.7}))
    with Ledger.open(store) as ledger:
        made = build_training_set(ledger, plan)
        assert made.recipe["dropped"]["graded below 0.7 by the judge"] > 5
        graded = [row.provenance["grade"] for row in made.rows if "grade" in row.provenance]
        assert graded and all(grade == pytest.approx(8 / 9) for grade in graded)


def test_control_prompts_of_the_gate_are_not_trained_on(store: str, tmp_path: Path) -> None:
    with Ledger.open(store) as ledger:
        plan = load_retrain_plan(written(tmp_path, store))
        first = build_training_set(ledger, plan)
        asked = [row.content["prompt"][0]["content"] for row in first.rows if row.source == "contrast"]
        controls = tmp_path / "controls.jsonl"
        controls.write_text("\n".join(json.dumps({"prompt": text}) for text in asked))
        gate = plan.gate.model_copy(update={"controls": controls})
        guarded = plan.model_copy(update={"name": "guarded", "gate": gate})
        second = build_training_set(ledger, guarded)
        assert not set(asked) & {row.content["prompt"][0]["content"] for row in second.rows}
        assert "control prompt" in {one["half"] for one in second.recipe["leaked"]}
