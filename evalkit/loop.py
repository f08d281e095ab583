"""Top floor: the loop. Evaluate, find slices, choose, retrain, gate; the best model goes into the next round.

All of it lies in the ledger: the same plan run again passes over what was done and goes on where it was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError
from evalkit.models.load import load_model
from evalkit.plan import ModelPlan, Plan
from evalkit.retraining import Retrained, retrain
from evalkit.stages import PlanRun
from evalkit.store import Ledger

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.engine.progress import Progress
    from trainers.gate import GateTest
    from trainers.loop_plan import LoopPlan

Say = Callable[[str], None]
REMEDY = "merged with its parent"


@dataclass(frozen=True, slots=True)
class Round:
    """One attempt: a slice, a new model, the gate's decision.

    Attributes:
        attempt: trained, or merged with its parent after the trained model was refused.
        before, after: Share of the held-out slice that passes, of parent and new model; None if it was not measured.
        score_before, score_after: Mean over the benchmarks.
    """

    number: int
    slice_name: str
    attempt: str
    made: Retrained
    parent: str
    before: float | None
    after: float | None
    score_before: float
    score_after: float

    def row(self) -> dict[str, Any]:
        """Returns it as a table's row."""
        return {"round": self.number, "slice": self.slice_name, "attempt": self.attempt, "model": self.made.model.label,
                "decision": self.made.decision, "before": self.before, "after": self.after,
                "score_before": self.score_before, "score_after": self.score_after,
                "gate_id": self.made.gate_id}  # fmt: skip


@dataclass(slots=True)
class LoopResult:
    """What became of a loop.

    Attributes:
        best: The last model that passed the gate; the first one if none did.
        stopped: Why no further round was begun.
        slices_left: Names of slices that still fail.
    """

    best: ModelPlan
    rounds: list[Round] = field(default_factory=list)
    stopped: str = ""
    slices_left: tuple[str, ...] = ()
    report: Path | None = None


def run_loop(plan: LoopPlan, ledger: Ledger, *, progress: Progress | None = None, say: Say | None = None) -> LoopResult:
    """Runs rounds until a limit of the plan is reached or no slice is left.

    Args:
        plan: What to do.
        ledger: Where everything lands.
        progress: Who is shown it.
        say: Who is told what was done, a sentence each.

    Raises:
        UserError: A step cannot run at all; a refusal by the gate is no error.
        KeyboardInterrupt: Ctrl-C; the same plan goes on from here.
    """
    tell = say or (lambda sentence: None)
    began, poor = time.monotonic(), 0
    result, tried = LoopResult(plan.model), set[tuple[str, str]]()
    for number in range(1, plan.rounds + 1):
        if plan.minutes is not None and time.monotonic() - began > plan.minutes * 60:
            result.stopped = f"the budget of {plan.minutes:g} minutes is used up"
            break
        run_id = _evaluate(plan, ledger, result.best, progress)
        found = _slices(plan, ledger, run_id, result.best, progress)
        result.slices_left = tuple(found["slice"])
        open_ones = [row for row in _rows(found) if (result.best.label, row["slice"]) not in tried]
        chosen = _choose(ledger, open_ones)
        if chosen is None:
            result.stopped = "no failing slice is left that the recipe could make rows for"
            break
        tried.add((result.best.label, chosen["slice"]))
        tell(
            f"Round {number}: {result.best.label} fails {chosen['rate']:.0%} of {chosen['slice']} "
            f"({len(found)} failing slices in all)."
        )
        attempts = list(_attempts(plan, ledger, number, chosen, result.best, progress, tell))
        result.rounds += attempts
        last = attempts[-1]
        gain = last.score_after - last.score_before if last.made.decision == "accepted" else 0.0
        if last.made.decision == "accepted":
            result.best = last.made.model
        elif last.made.decision == "waiting":
            result.stopped = "the gate waits for a person's decision in the dashboard"
            break
        poor = poor + 1 if gain < plan.min_gain else 0
        if poor >= plan.patience:
            result.stopped = f"{poor} rounds in a row gained less than {plan.min_gain:g}"
            break
    else:
        result.stopped = "all rounds of the plan are done"
    if plan.report is not None:
        from evalkit.loop_report import write_loop_report

        write_loop_report(ledger, plan.name, result, plan.report)
        result.report = plan.report
    return result


def _evaluate(plan: LoopPlan, ledger: Ledger, model: ModelPlan, progress: Progress | None) -> int:
    asked = Plan(
        name=f"{plan.name}: {model.label}", store=plan.store, seed=plan.seed, models=(model,),
        benchmarks=plan.benchmarks, task_folders=plan.task_folders, arena=plan.arena,
    )  # fmt: skip
    done = PlanRun(asked, progress).run(ledger)
    if done.status != "done":
        raise UserError(f"run {done.run_id} is not complete: {done.errors} requests failed; the same command goes on")
    return done.run_id


def _slices(plan: LoopPlan, ledger: Ledger, run_id: int, model: ModelPlan, progress: Progress | None) -> pd.DataFrame:
    """The model's failing slices that were confirmed on the held-out half, with `rate`, the share that fails there."""
    from evalkit.slices.discover import SliceSettings, discover
    from evalkit.store import frames_training

    [model_id] = ledger.add_models([load_model(model).settings])
    discover(ledger, run_id, model_id, settings=SliceSettings(q=plan.slices.q_value), seed=plan.seed, progress=progress)
    found = frames_training.slices(ledger)
    mine = (found["run_id"] == run_id) & (found["model_id"] == model_id)
    large = (found["support"] >= plan.slices.min_support) & (found["q_value"] <= plan.slices.q_value)
    found = found[mine & large & (found["held_out_n"] > 0)]
    if plan.slices.include:
        found = found[found["dataset"].isin(plan.slices.include)]
    return found.assign(rate=found["held_out_failed"] / found["held_out_n"])


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _choose(ledger: Ledger, slices: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The largest expected gain: answers that fail beyond what fails elsewhere, as far as rows can be made for them."""
    from trainers.training_set import yield_of

    def gain(row: dict[str, Any]) -> float:
        elsewhere = row["held_out_rest_failed"] / row["held_out_rest_n"] if row["held_out_rest_n"] else 0.0
        return float((row["rate"] - elsewhere) * row["support"] * yield_of(ledger, int(row["slice_id"])))

    best = max(slices, key=gain, default=None)
    return best if best is not None and gain(best) > 0 else None


def _attempts(
    plan: LoopPlan,
    ledger: Ledger,
    number: int,
    chosen: dict[str, Any],
    base: ModelPlan,
    progress: Progress | None,
    tell: Say,
) -> Iterator[Round]:
    """Retrains; where the new model won its slice but lost elsewhere, merges it with its parent and asks again."""
    from trainers.gate import got_worse
    from trainers.plan import MergePlan, RetrainPlan

    settings = {name: getattr(plan.retrain, name) for name in type(plan.retrain).model_fields}
    wanted = RetrainPlan(
        name=f"{plan.name}-{number}", store=plan.store, slice=int(chosen["slice_id"]), base=base, **settings
    )
    first = retrain(wanted, ledger, progress=progress, say=tell)
    yield _round(ledger, number, chosen, "trained", base, first, tell)
    if first.decision != "refused" or plan.remedy is None or wanted.merge is not None or first.verdict is None:
        return
    improved = all(test.passed for test in first.verdict.tests if test.kind == "improvement")
    if improved and any(_lost(test) for test in first.verdict.tests if got_worse(test)):
        merged = wanted.model_copy(update={"name": f"{wanted.name}-merged", "merge": MergePlan(weight=plan.remedy)})
        yield _round(ledger, number, chosen, REMEDY, base, retrain(merged, ledger, progress=progress, say=tell), tell)


def _lost(test: GateTest) -> bool:
    return test.passed is False and test.kind != "improvement"


def _round(
    ledger: Ledger, number: int, chosen: dict[str, Any], attempt: str, base: ModelPlan, made: Retrained, tell: Say
) -> Round:
    from evalkit.report.scores import score_table

    tests = () if made.verdict is None else made.verdict.tests
    target = next((test for test in tests if test.kind == "improvement"), None)
    scores = []
    table = score_table(ledger, made.run_id) if made.run_id is not None else None
    for label in (base.label, made.model.label):
        cells = [] if table is None else [table.cell(label, task.name) for task in table.tasks if task.group is None]
        values = [cell.value for cell in cells if cell is not None and cell.value is not None]
        scores.append(sum(values) / len(values) if values else float("nan"))
    if made.verdict is not None:
        tell(made.verdict.reason)
    return Round(
        number, chosen["slice"], attempt, made, base.label, None if target is None else target.parent,
        None if target is None else target.candidate, *scores,
    )  # fmt: skip
