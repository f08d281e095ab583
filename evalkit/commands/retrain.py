"""The commands `retrain`, `gate` and `loop`: from a failing slice to a model that replaces its parent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalkit.commands import printing

if TYPE_CHECKING:
    from trainers.gate import Verdict
    from trainers.plan import RetrainPlan

REFUSED = 100
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
PlanStore = Annotated[str | None, typer.Option("--store", help="Ledger instead of the plan's.")]
ByHand = Annotated[bool, typer.Option("--by-hand", help="Gather the evidence and leave the decision to the dashboard.")]
TESTS = {
    "name": "test",
    "kind": "kind",
    "n": "n",
    "missing": "errors",
    "parent": "parent:.3f",
    "candidate": "new:.3f",
    "difference": "change:+.3f",
    "lower": "from:+.3f",
    "upper": "to:+.3f",
    "margin": "margin:.2f",
    "p_value": "p:.3f",
    "minimum_effect": "could see:.3f",
    "passed": "passed",
}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(retrain)
    app.command()(gate)
    app.command()(loop)


def retrain(
    plan: Annotated[Path, typer.Argument(help="The retrain plan, a YAML file (the dashboard writes one).")],
    by_hand: ByHand = False,
    store: PlanStore = None,
    json: Json = False,
) -> None:
    """Build a training set for a failing slice, train on it, and put the new model to the gate.

    Exit code 100: the gate refused. A second run does only what is missing.
    """
    from evalkit.commands.store import started
    from evalkit.engine.progress import RichProgress
    from evalkit.retraining import retrain as run_retrain

    loaded = _loaded(plan, store, by_hand)
    with started(loaded.store) as ledger:
        done = run_retrain(loaded, ledger, progress=RichProgress(), say=_silent if json else printing.say)
    row = {name: getattr(done, name) for name in ("model_id", "training_set_id", "training_run_id", "gate_id")}
    row |= {"model": loaded.name, "folder": str(done.folder), "decision": done.decision}
    _conclude(row, done.verdict, json, done.warnings)


def gate(
    candidate: Annotated[str, typer.Argument(help="The new model: hf/FOLDER, or PROVIDER/NAME as in a plan.")],
    plan: Annotated[Path, typer.Option("--plan", help="The retrain plan: its base, slice and gate are used.")],
    by_hand: ByHand = False,
    store: PlanStore = None,
    json: Json = False,
) -> None:
    """Compare any model with its parent on a slice's held-out half and on everything else, and decide.

    Exit code 100: the gate refused.
    """
    from evalkit.commands.store import started
    from evalkit.engine.progress import RichProgress
    from evalkit.retraining import gate_model

    loaded = _loaded(plan, store, by_hand)
    with started(loaded.store) as ledger:
        gate_id, decision, verdict = gate_model(loaded, ledger, candidate, progress=RichProgress())
    _conclude({"model": candidate, "gate_id": gate_id, "decision": decision}, verdict, json)


def loop(
    plan: Annotated[Path, typer.Argument(help="The loop's plan, a YAML file.")],
    store: PlanStore = None,
    json: Json = False,
) -> None:
    """Evaluate, find slices, retrain on one, gate; round after round, keeping the best model."""
    from evalkit.commands.store import started
    from evalkit.engine.progress import RichProgress
    from evalkit.loop import run_loop
    from trainers.loop_plan import load_loop_plan

    loaded = load_loop_plan(plan)
    loaded = loaded.model_copy(update={"store": store} if store else {})
    with started(loaded.store) as ledger:
        result = run_loop(loaded, ledger, progress=RichProgress(), say=_silent if json else printing.say)
    rows = [printing.plain(one.row()) for one in result.rounds]
    columns = {"round": "round", "slice": "slice", "attempt": "attempt", "decision": "decision",
               "before": "before:.3f", "after": "after:.3f", "score_before": "suite before:.3f",
               "score_after": "suite after:.3f", "model": "model"}  # fmt: skip
    warnings = [f"{one.made.model.label}: {said}" for one in result.rounds for said in one.made.warnings]
    if json:
        printing.print_json({"rows": rows, "best": result.best.label, "stopped": result.stopped, "warnings": warnings,
                             "report": None if result.report is None else str(result.report)})  # fmt: skip
        return
    printing.note(warnings)
    printing.print_table(rows, columns, "Rounds")
    printing.say(f"Stopped: {result.stopped}. The best model is {result.best.label} ({result.best.model}).")
    if result.report is not None:
        printing.say(f"Report: {result.report.resolve()}")


def _loaded(path: Path, store: str | None, by_hand: bool) -> RetrainPlan:
    from trainers.plan import load_retrain_plan

    plan = load_retrain_plan(path)
    changes: dict[str, Any] = {"store": store} if store else {}
    if by_hand:
        changes["gate"] = plan.gate.model_copy(update={"by_hand": True})
    return plan.model_copy(update=changes)


def _silent(sentence: str) -> None:
    """Who asks for JSON reads no sentences."""


def _conclude(row: dict[str, Any], verdict: Verdict | None, json: bool, warnings: Sequence[str] = ()) -> None:
    told = [] if verdict is None else [printing.plain(test) for test in verdict.tests]
    words = {} if verdict is None else {"reason": verdict.reason, "advice": verdict.advice}
    if json:
        printing.print_json({"rows": [row | words], "tests": told, "warnings": warnings})
    else:
        printing.note(warnings)
        if verdict is not None:
            printing.print_table(told, TESTS, f"{row['model']} against its parent")
            printing.say(verdict.reason)
            printing.say(verdict.advice)
        printing.say(ENDS[row["decision"]].format(**row))
    raise typer.Exit(REFUSED if row["decision"] == "refused" else 0)


ENDS = {
    "accepted": "Accepted: {model} may replace its parent.",
    "refused": "Refused: {model} does not replace its parent.",
    "waiting": "The decision on {model} waits in the dashboard (Retrain, Gate): evalkit app",
    "trained": "Trained: {folder}. A reward model is no contestant, so there is no gate.",
}
