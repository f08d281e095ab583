"""Top floor: runs a retrain plan: training set, training, merge, gate. Killed anywhere, it goes on there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from evalkit import gating
from evalkit.models.base import sha256
from evalkit.models.load import load_model
from evalkit.plan import ModelPlan
from evalkit.store import Ledger
from evalkit.store.schema import Model, TrainingRun
from evalkit.store.write_training import add_gate, add_merge, add_parents
from evalkit.store.write_training_runs import finish_training_run, start_training_run
from evalkit.trainsets import build_training_set

if TYPE_CHECKING:
    from evalkit.engine.progress import Progress
    from trainers.gate import Verdict
    from trainers.methods import Trained
    from trainers.plan import RetrainPlan
    from trainers.rows import Row
    from trainers.training_set import TrainingSet

Say = Callable[[str], None]
Decision = Literal["accepted", "refused", "waiting"]


@dataclass(frozen=True, slots=True)
class Retrained:
    """What a retrain made.

    Attributes:
        folder: The new model.
        model: As a plan's model, to be asked.
        run_id: The run that the gate measured on.
        gate_id: None where there is nothing to decide (a reward model).
        decision: accepted, refused, waiting (for a person); trained for a reward model.
        verdict: The gate's; None for a reward model.
        warnings: Sentences of the training: jumps of the loss, overfitting, rows left out.
    """

    folder: Path
    model: ModelPlan
    model_id: int
    training_set_id: int
    training_run_id: int
    run_id: int | None
    gate_id: int | None
    decision: Literal["accepted", "refused", "waiting", "trained"]
    verdict: Verdict | None
    warnings: tuple[str, ...] = ()


def checkpoints_beside(store: str) -> Path:
    """Returns the folder of models beside a ledger's file; `models` in the current one for a database server."""
    return Path("models") if "://" in store else Path(store).absolute().parent / "models"


def retrain(
    plan: RetrainPlan, ledger: Ledger, *, progress: Progress | None = None, say: Say | None = None
) -> Retrained:
    """Runs a plan; each step that was done before is taken from the ledger.

    Args:
        plan: What to do.
        ledger: With the slice, and the run in which it was found.
        progress: Who is shown it.
        say: Who is told what was done, a sentence each.

    Raises:
        UserError: There is no such slice, the training set is empty or touches what is evaluated, or a step fails.
        KeyboardInterrupt: Ctrl-C; the same plan goes on from here.
    """
    from trainers.export import write_card

    tell = say or (lambda sentence: None)
    slice_id, target = gating.load_slice(ledger, plan.slice)
    plan = plan.model_copy(update={"slice": slice_id})
    base = load_model(plan.base)
    [parent_id] = ledger.add_models([base.settings])
    made = build_training_set(ledger, plan, progress)
    tell(f"Training set {made.id}: {len(made.rows)} rows for {target.name!r}.")
    training_run_id, trained, warnings = _train(plan, ledger, made, parent_id, progress, tell)
    if plan.method == "reward":
        child = _as_model(plan, trained, plan.name)
        [model_id] = ledger.add_models([load_model(child).settings])
        finish_training_run(ledger, training_run_id, "done", model_id=model_id)
        return Retrained(trained, child, model_id, made.id, training_run_id, None, None, "trained", None, warnings)
    child, model_id = _child(plan, ledger, trained, training_run_id, parent_id, progress)
    folder = Path(child.model.removeprefix("hf/"))
    tell(f"New model {child.label}: {folder}")
    run_id, gate_id, decision, verdict = _gate(plan, ledger, target, child, parent_id, model_id, made.rows, progress)
    if plan.merge is None:  # a merge's card holds its YAML
        write_card(folder, name=plan.name, scores=_scores(verdict), parents=[plan.base.label])
    return Retrained(folder, child, model_id, made.id, training_run_id, run_id, gate_id, decision, verdict, warnings)


def _scores(verdict: Verdict) -> list[tuple[str, str, float, float]]:
    """Returns what a model card shows: each test's name, metric, and the two means."""
    from trainers.gate import COSTS

    found = []
    for test in verdict.tests:
        if test.parent is not None and test.candidate is not None and test.kind not in COSTS:
            found.append((test.name, test.metric, test.parent, test.candidate))
    return found


def gate_model(
    plan: RetrainPlan, ledger: Ledger, candidate: str, *, progress: Progress | None = None
) -> tuple[int, Decision, Verdict]:
    """Puts any model to the gate of a retrain plan, such as a merge made by hand.

    Args:
        candidate: PROVIDER/NAME, as in a plan.

    Returns:
        The gate's id, its decision, and the evidence.

    Raises:
        UserError: There is no such model or slice, or the evaluation fails.
    """
    from evalkit.store.training import trained_rows
    from trainers.rows import Row

    _, target = gating.load_slice(ledger, plan.slice)
    name = candidate.rstrip("/").rpartition("/")[2]
    child = ModelPlan.model_validate({**plan.base.model_dump(), "model": candidate, "name": name, "revision": None})
    parent_id, model_id = ledger.add_models([load_model(plan.base).settings, load_model(child).settings])
    rows = [Row(told["kind"], content, told["source"], key) for key, told, content in trained_rows(ledger, model_id)]
    _, gate_id, decision, verdict = _gate(plan, ledger, target, child, parent_id, model_id, rows, progress)
    return gate_id, decision, verdict


def completions(rows: Sequence[Row]) -> list[str]:
    """Returns what the rows made for the slice teach to answer."""
    from trainers.plan import GUARDS
    from trainers.rows import answer_of

    return [answer for row in rows if row.source not in GUARDS and (answer := answer_of(row))]


def _gate(
    plan: RetrainPlan,
    ledger: Ledger,
    target: gating.Target,
    child: ModelPlan,
    parent_id: int,
    model_id: int,
    rows: Sequence[Row],
    progress: Progress | None,
) -> tuple[int, int, Decision, Verdict]:
    run_id = gating.evaluate(
        ledger, like_run=target.run_id, parent=plan.base, candidate=child, gate=plan.gate, name=f"{child.label}: gate",
        progress=progress,
    )  # fmt: skip
    verdict = gating.judge_candidate(
        ledger, run_id=run_id, parent_id=parent_id, candidate_id=model_id, target=target, gate=plan.gate,
        taught=completions(rows),
        trained={row.item_id for row in rows if row.item_id is not None},
    )  # fmt: skip
    gate_id, decision = add_gate(
        ledger, candidate_id=model_id, parent_id=parent_id, run_id=run_id,
        decision="waiting" if plan.gate.by_hand else verdict.decision, evidence=verdict.evidence(),
    )  # fmt: skip
    return run_id, gate_id, decision, verdict


def _train(
    plan: RetrainPlan, ledger: Ledger, made: TrainingSet, parent_id: int, progress: Progress | None, tell: Say
) -> tuple[int, Path, tuple[str, ...]]:
    from trainers.methods import train
    from trainers.recorder import Recorder, mark_died
    from trainers.search import search

    mark_died(ledger)
    made.ensure_trainable(ledger)
    config = {"adapter": plan.adapter, "seed": plan.seed, "minutes": plan.budget.minutes,
              "trials": plan.budget.trials, **plan.settings}  # fmt: skip
    config |= {"output": str(plan.output)} if plan.output else {}
    place = _folder(plan, {"set": made.id, "parent": parent_id, "method": plan.method, **config})
    # What another plan trained in the same way is there already: one that only merges, or asks another gate.
    training_run_id, status, checkpoint = start_training_run(
        ledger, parent_id=parent_id, training_set_id=made.id, method=plan.method, config=config, checkpoint=str(place)
    )
    folder = Path(checkpoint)
    recorder = Recorder(ledger, training_run_id, say=tell, shown=progress)
    rows, validation = made.parts()
    base = weights_of(plan.base)
    shared: dict[str, Any] = {"adapter": plan.adapter, "seed": plan.seed, "minutes": plan.budget.minutes,
                              "recorder": recorder}  # fmt: skip
    given = (plan.method, rows, validation, base, folder, plan.settings)
    try:
        if plan.budget.trials > 1:
            trained = search(*given, trials=plan.budget.trials, **shared).trained
        else:
            trained = train(*given, **shared)
    except KeyboardInterrupt:
        recorder.finish("failed", "stopped by Ctrl-C; the same plan goes on from the last checkpoint")
        tell(_interrupted(recorder.progress, folder, plan.budget.trials))
        raise
    except Exception as error:
        recorder.finish("failed", str(error))
        raise
    if status != "done":
        recorder.finish("done", STOPPED.get(trained.stopped, ""))
        tell(" ".join(filter(None, [_trained(trained), STOPPED.get(trained.stopped)])))
    return training_run_id, trained.folder, tuple(dict.fromkeys([*recorder.warnings, *trained.warnings]))


def _trained(trained: Trained) -> str:
    """Returns how a training went, in a sentence."""
    from trainers.recorder import seconds_in_words

    losses = [f"the loss went from {trained.losses[0][1]:.3g} to {trained.losses[-1][1]:.3g}"] if trained.losses else []
    held = trained.metrics.get("eval_loss")
    losses += [f"it is {held:.3g} on the validation rows"] if held is not None else []
    told = f"; {', and '.join(losses)}" if losses else ""
    return f"Trained {trained.steps} steps in {seconds_in_words(trained.seconds)}{told}."


def _interrupted(progress: str, out: Path, trials: int) -> str:
    """Returns where a training was stopped, and from where it goes on."""
    from trainers.checkpoint import last_whole, work_folder

    if trials > 1:
        return "Training stopped; trials that ended stand, and this one goes on from its last checkpoint."
    whole = last_whole(work_folder(out))
    at = f" at {progress.partition(',')[0]}" if progress else ""
    return f"Training stopped{at}; it goes on from {f'step {whole[1].step}' if whole else 'its start'}."


def weights_of(model: ModelPlan) -> Path:
    """Returns the folder of a local model's weights.

    Raises:
        UserError: There is no such model on this machine.
    """
    from evalkit.models import embedded
    from evalkit.models.weights import find_weights

    provider, _, name = model.model.partition("/")
    return embedded.folder(name) if provider == "embedded" else find_weights(name, model.revision)[0]


def _folder(plan: RetrainPlan, identity: dict[str, object]) -> Path:
    """Another set, base or setting is another folder: nothing that was trained is ever written over."""
    place = plan.output or checkpoints_beside(plan.store) / plan.name
    return place.with_name(f"{place.name}-{sha256(identity)[:8]}").absolute()


def _as_model(plan: RetrainPlan, folder: Path, name: str) -> ModelPlan:
    return plan.base.model_copy(update={"model": f"hf/{folder}", "name": name, "revision": None})


def _child(
    plan: RetrainPlan, ledger: Ledger, trained: Path, training_run_id: int, parent_id: int, progress: Progress | None
) -> tuple[ModelPlan, int]:
    """Registers the new model with its parents; the merge of it with its parent, if the plan wants one."""
    child = _as_model(plan, trained, plan.name)
    if plan.merge is not None:  # whoever trained it first has named it
        query = sa.select(Model.label).join(TrainingRun, TrainingRun.model_id == Model.id)
        with ledger.engine.connect() as connection:
            name = connection.scalar(query.where(TrainingRun.id == training_run_id))
        child = child.model_copy(update={"name": name or f"{plan.name}, before its merge"})
    [model_id] = ledger.add_models([load_model(child).settings])
    finish_training_run(ledger, training_run_id, "done", model_id=model_id)
    add_parents(ledger, model_id, [parent_id], "trained_from")
    if plan.merge is None:
        return child, model_id
    from trainers.merging import merge

    config = plan.merge.config(str(trained), str(weights_of(plan.base)))
    folder = trained.with_name(f"{trained.name}-{plan.merge.method}-{plan.merge.weight:g}")
    if not folder.exists():  # a merge gets its name when it is whole
        merge(config, folder, seed=plan.seed, ledger=ledger, progress=progress)
    merged = _as_model(plan, folder, plan.name)
    [merged_id] = ledger.add_models([load_model(merged).settings])
    add_parents(ledger, merged_id, [model_id, parent_id], "merged_from")
    told = {**config.model_dump(mode="json", exclude_none=True), "seed": plan.seed}
    add_merge(ledger, merged_id, parent_id, told, str(folder))
    return merged, merged_id


STOPPED = {
    "minutes": "It stopped when its minutes were used up.",
    "early_stop": "It stopped early: the validation loss fell no more.",
}
