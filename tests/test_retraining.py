"""A retrain from a slice to the gate, on a tiny model: every step done once, whatever ends it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import typer
import yaml

from evalkit.plan import Plan
from evalkit.slices.halves import assign_halves
from evalkit.stages import PlanRun
from evalkit.store import Ledger
from evalkit.store.database import now
from evalkit.store.schema import (
    Dataset,
    DatasetItem,
    Gate,
    Item,
    Model,
    ModelParent,
    Response,
    Slice,
    SliceItem,
    TrainingRun,
    TrainingSet,
)

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("training_set", "training_run", "checkpoint", "model_parent")
TABLES = (Response, TrainingSet, TrainingRun, Gate, Model, ModelParent)


@pytest.fixture(scope="module")
def world(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A ledger with a run of a tiny model, and a slice of it; and the plan that retrains on it."""
    folder = tmp_path_factory.mktemp("retrain")
    prompts = folder / "controls.jsonl"
    prompts.write_text("".join(json.dumps({"id": f"c{i}", "prompt": f"Tell me about {i}."}) + "\n" for i in range(6)))
    base = {"name": "tiny", "model": f"hf/{tiny}", "sampling": {"max_tokens": 6}}
    plan = Plan.model_validate(
        {"name": "base", "store": str(folder / "a.db"), "models": [base],
         "benchmarks": [{"task": "starter_formats", "limit": 12}, {"task": "starter_sums", "limit": 24}],
         "arena": {"prompts": str(prompts)}}
    )  # fmt: skip
    ledger = Ledger.open(plan.store)
    run_id = PlanRun(plan).run(ledger).run_id
    with ledger.engine.connect() as connection:
        query = sa.select(Item.id, Item.tags, Dataset.name).join(DatasetItem, DatasetItem.item_id == Item.id)
        rows = connection.execute(query.join(Dataset, Dataset.id == DatasetItem.dataset_id)).all()
    halves = assign_halves(ledger, [row.id for row in rows], seed=0)
    inside = [row.id for row in rows if row.tags.get("topic") == "addition"]
    with ledger.write() as connection:
        connection.execute(
            sa.insert(Slice).values(id=1, hash="0" * 64, run_id=run_id, name="sums", support=len(inside),
                                    definition={"model": 1, "where": {"topic": "addition"}, "metric": "passed,none"},
                                    effect=0.5, q_value=0.01, created_at=now())
        )  # fmt: skip
        for key in inside:
            connection.execute(sa.insert(SliceItem).values(slice_id=1, item_id=key, split=halves[key]))
    wanted = {
        "name": "child", "store": plan.store, "slice": "sums", "base": base,
        "recipe": {"sources": [{"kind": "new_prompts"}], "rows": 12, "max_tokens": 24, "filters": {"min_words": 0}},
        "settings": {"learning_rate": 1e-3, "max_length": 192, "per_device_train_batch_size": 4, "lora_r": 4},
        "gate": {"margin": 0.5},
    }  # fmt: skip
    return folder, wanted


def write(world: tuple[Path, dict[str, Any]], **changes: Any) -> Path:
    folder, wanted = world
    path = folder / f"{changes.get('name', wanted['name'])}.yaml"
    path.write_text(yaml.safe_dump({**wanted, **changes}))
    return path


def command(*words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "evalkit.cli", *words], env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def counts(store: str) -> dict[str, int]:
    ledger = Ledger.open(store)
    with ledger.engine.connect() as connection:
        return {t.__tablename__: connection.scalar(sa.select(sa.func.count()).select_from(t)) or 0 for t in TABLES}


def test_a_retrain_is_gated_and_done_once(world: tuple[Path, dict[str, Any]]) -> None:
    plan = write(world)
    first = command("retrain", str(plan), "--json")
    out, err = first.communicate(timeout=300)
    assert first.returncode == 100, err  # a random model learns nothing in three steps
    told = json.loads(out)
    assert re.search(r"^Training: (\d+)/\1 in ", err, re.MULTILINE) and "Loading weights" not in err
    [row] = told["rows"]
    assert row["decision"] == "refused"
    assert "did not clearly improve" in row["reason"]
    assert {test["kind"] for test in told["tests"]} >= {"improvement", "non_inferiority", "length", "speed"}
    assert (Path(row["folder"]) / "model.safetensors").exists()
    before = counts(world[1]["store"])
    again = command("retrain", str(plan), "--json")
    assert json.loads(again.communicate(timeout=300)[0])["rows"] == told["rows"]
    assert again.returncode == 100
    assert counts(world[1]["store"]) == before
    assert before["training_run"] == before["gate"] == before["model_parent"] == 1


def test_warnings_of_the_training_come_again_with_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    from evalkit.commands.retrain import _conclude

    row, said = {"model": "child", "folder": "models/child", "decision": "trained"}, "Step 12: it overfits."
    for as_json in (False, True):
        with pytest.raises(typer.Exit):
            _conclude(row, None, as_json, (said,))
    out = capsys.readouterr().out
    assert out.startswith("Note: Step 12: it overfits.\nTrained: models/child.")
    assert json.loads(out[out.index("{") :])["warnings"] == [said]


def test_what_only_merges_trains_nothing_again(world: tuple[Path, dict[str, Any]]) -> None:
    first = command("retrain", str(write(world)))
    assert first.wait(timeout=300) == 100
    before = counts(world[1]["store"])
    done = command("retrain", str(write(world, name="merged", merge={"weight": 0.25})), "--json")
    _, err = done.communicate(timeout=300)
    assert done.returncode == 100, err
    assert "Training:" not in err
    after = counts(world[1]["store"])
    rose = {name: after[name] - before[name] for name in ("training_set", "training_run", "gate", "model_parent")}
    assert rose == {"training_set": 0, "training_run": 1, "gate": 1, "model_parent": 2}, "the merge is a row of its own"
    with Ledger.open(world[1]["store"]).engine.connect() as connection:
        labels = set(connection.scalars(sa.select(Model.label)))
    assert {"child", "merged"} <= labels and not any("before its merge" in label for label in labels)


def test_the_decision_can_be_left_to_a_person(world: tuple[Path, dict[str, Any]]) -> None:
    from evalkit.store.write_training import decide_gate

    plan = write(world, name="by hand", merge={"weight": 0.5})
    done = command("retrain", str(plan), "--by-hand", "--json")
    out, err = done.communicate(timeout=300)
    assert done.returncode == 0, err
    [row] = json.loads(out)["rows"]
    assert row["decision"] == "waiting"
    decide_gate(Ledger.open(world[1]["store"]), row["gate_id"], "accepted", by="Ada", why="a test")
    again = command("retrain", str(plan), "--by-hand", "--json")
    assert json.loads(again.communicate(timeout=300)[0])["rows"][0]["decision"] == "accepted"


def test_any_model_can_be_put_to_the_gate(world: tuple[Path, dict[str, Any]], make_tiny: Callable[..., Path]) -> None:
    other = make_tiny("other", seed=5)
    done = command("gate", f"hf/{other}", "--plan", str(write(world)), "--json")
    out, err = done.communicate(timeout=300)
    assert done.returncode == 100, err
    assert json.loads(out)["rows"][0]["model"] == f"hf/{other}"


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_any_stage_it_goes_on(world: tuple[Path, dict[str, Any]], stage: str) -> None:
    """`kill -9` once a stage has begun; the next run ends as an unbroken one would, with nothing twice."""
    plan = write(world, name=f"killed at {stage}", seed=STAGES.index(stage) + 1)
    store = world[1]["store"]
    before = counts(store)
    process = command("retrain", str(plan), "--json")
    end = time.monotonic() + 240
    models = Path(store).parent / "models"
    while process.poll() is None and time.monotonic() < end:
        if stage == "checkpoint":
            if list(models.glob(f"killed at {stage}-*.partial/checkpoint-*")):
                break
        elif counts(store)[stage] > before[stage]:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = command("retrain", str(plan), "--json")
    _, err = done.communicate(timeout=300)
    assert done.returncode == 100, err
    after = counts(store)
    rose = {name: after[name] - before[name] for name in ("training_set", "training_run", "gate", "model_parent")}
    assert rose == {"training_set": 1, "training_run": 1, "gate": 1, "model_parent": 1}
    assert not list(models.glob("*.partial"))
    with Ledger.open(store).engine.connect() as connection:
        assert connection.scalar(sa.text("PRAGMA integrity_check")) == "ok"
        assert connection.scalars(sa.select(TrainingRun.status).order_by(TrainingRun.id.desc())).first() == "done"


def test_what_cannot_be_done_is_one_sentence(world: tuple[Path, dict[str, Any]]) -> None:
    for changes, said in (
        ({"slice": "nothing"}, "none has the name 'nothing'"),
        ({"gate": {"regression": ["gsm8k"]}, "name": "child"}, "gate.regression"),
        ({"base": "openai/gpt"}, "only local models can be trained"),
    ):
        done = command("retrain", str(write(world, **changes)))
        _, err = done.communicate(timeout=300)
        assert done.returncode == 2
        assert said in err
        assert "Traceback" not in err
