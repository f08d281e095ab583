"""The loop: which slice a round takes, when a refused model is merged with its parent, when the loop stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit import loop
from evalkit.plan import ModelPlan
from evalkit.retraining import Retrained
from evalkit.store import Ledger
from trainers.gate import Measure, Verdict, decide
from trainers.loop_plan import LoopPlan, load_loop_plan
from trainers.plan import RetrainPlan


def verdict(*, improved: bool, fell: bool) -> Verdict:
    """A gate's verdict on 40 held-out items and 200 others."""
    old, better = np.zeros(40), np.ones(40) if improved else np.zeros(40)
    rest = np.ones(200)
    worse = rest.copy()
    worse[: 80 if fell else 0] = 0
    return decide(
        [
            Measure("slice, held out", "improvement", "passed", old, better),
            Measure("knowledge", "non_inferiority", "acc", rest, worse, 0.1),
        ]
    )


def plan(folder: Path, **changes: Any) -> LoopPlan:
    given = {
        "name": "loop", "store": str(folder / "a.db"), "model": {"name": "base", "model": "embedded/x"},
        "benchmarks": ["starter_formats"], "report": str(folder / "report.md"),
        "retrain": {"recipe": {"sources": [{"kind": "new_prompts"}]}},
    }  # fmt: skip
    return LoopPlan.model_validate({**given, **changes})


class World:
    """Stands in for the evaluation, the search and the training, whose own tests are elsewhere."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, slices: list[dict[str, Any]], verdicts: list[Verdict]) -> None:
        import pandas as pd

        self.asked: list[RetrainPlan] = []
        self.verdicts = iter(verdicts)
        monkeypatch.setattr(loop, "_evaluate", lambda *given: 1)
        monkeypatch.setattr(loop, "_slices", lambda *given: pd.DataFrame(slices))
        monkeypatch.setattr(loop, "retrain", self.retrain)
        monkeypatch.setattr("trainers.training_set.yield_of", lambda ledger, slice_id: 0.0 if slice_id == 9 else 1.0)

    def retrain(self, wanted: RetrainPlan, ledger: Ledger, **more: Any) -> Retrained:
        self.asked.append(wanted)
        found = next(self.verdicts)
        child = ModelPlan(model="hf/new", name=wanted.name)
        return Retrained(Path("new"), child, 2, 1, 1, None, len(self.asked), found.decision, found)


def row(slice_id: int, name: str, rate: float, support: int = 40) -> dict[str, Any]:
    return {"slice_id": slice_id, "slice": name, "rate": rate, "support": support, "held_out_rest_failed": 20,
            "held_out_rest_n": 100}  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(str(tmp_path / "a.db"))


def test_the_slice_with_the_most_to_gain_is_taken_and_the_better_model_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: Ledger
) -> None:
    """More prompts that fail beyond the rest win; a slice that no rows can be made for is passed over."""
    slices = [row(1, "small", 1.0, 10), row(2, "large", 0.9), row(9, "unknown", 1.0, 400)]
    world = World(monkeypatch, slices, [verdict(improved=True, fell=False)] * 2)
    result = loop.run_loop(plan(tmp_path, rounds=2), ledger)
    assert [asked.slice for asked in world.asked] == [2, 2]  # the second for the new model, which is another
    assert [asked.base.label for asked in world.asked] == ["base", "loop-1"]
    assert result.best.label == "loop-2"
    assert result.stopped == "all rounds of the plan are done"
    text = (tmp_path / "report.md").read_text()
    assert "| 1 | large | trained | accepted | 0.000 | 1.000 |" in text
    assert "Capability" in text


def test_a_model_that_won_its_slice_and_lost_elsewhere_is_merged_with_its_parent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: Ledger
) -> None:
    world = World(
        monkeypatch, [row(1, "json", 1.0)], [verdict(improved=True, fell=True), verdict(improved=True, fell=False)]
    )
    result = loop.run_loop(plan(tmp_path, rounds=1), ledger)
    assert world.asked[0].merge is None
    assert world.asked[1].merge is not None
    assert world.asked[1].merge.weight == 0.5
    assert [one.attempt for one in result.rounds] == ["trained", loop.REMEDY]
    assert result.best.label == "loop-1-merged"


def test_a_model_that_did_not_win_its_slice_is_not_merged_and_patience_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: Ledger
) -> None:
    slices = [row(1, "json", 1.0), row(2, "case", 0.9), row(3, "length", 0.8)]
    world = World(monkeypatch, slices, [verdict(improved=False, fell=True)] * 3)
    result = loop.run_loop(plan(tmp_path, rounds=3), ledger)
    assert [asked.slice for asked in world.asked] == [1, 2]
    assert result.best.label == "base"
    assert result.stopped == "2 rounds in a row gained less than 0.01"
    assert "what failed: slice, held out, knowledge" in (tmp_path / "report.md").read_text()


def test_nothing_left_to_train_on_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: Ledger) -> None:
    World(monkeypatch, [row(9, "unknown", 1.0)], [])
    result = loop.run_loop(plan(tmp_path), ledger)
    assert not result.rounds
    assert "no failing slice is left" in result.stopped


def test_the_example_is_a_plan() -> None:
    example = load_loop_plan(Path(__file__).parents[1] / "examples" / "loop.yaml")
    assert example.name == "loop"
    controls = Path(__file__).parents[1] / "examples" / "controls.jsonl"
    prompts = [json.loads(line)["prompt"] for line in controls.read_text(encoding="utf-8").splitlines()]
    assert len(set(prompts)) == 64
