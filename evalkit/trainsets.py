"""Top floor: builds the training set of a retrain plan, with a run that its answers are filed under."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evalkit.engine import Budget, Engine
from evalkit.provenance import environment
from evalkit.store import Ledger

if TYPE_CHECKING:
    from evalkit.engine.progress import Progress
    from trainers.material import Grader
    from trainers.plan import RetrainPlan
    from trainers.training_set import TrainingSet


def build_training_set(ledger: Ledger, plan: RetrainPlan, progress: Progress | None = None) -> TrainingSet:
    """Builds a plan's training set, or returns the one that it made before; a build that was ended goes on.

    Args:
        ledger: With the slice.
        plan: Of the retrain.
        progress: Who is told.

    Raises:
        UserError: See `trainers.training_set.build`; the run is marked as failed.
        KeyboardInterrupt: Ctrl-C; what was answered is stored.
    """
    from trainers.training_set import build

    told = plan.model_dump(mode="json", include={"slice", "base", "recipe", "method", "seed"})
    run_id = ledger.start_run(f"{plan.name}: training set", told, seed=plan.seed, environment=environment())
    budget = Budget(dollars=plan.budget.dollars)
    try:
        with Engine(ledger, run_id, budget=budget, progress=progress) as engine:
            grader = grader_of(ledger, plan, engine)
            made = build(ledger, plan, engine=engine, progress=progress, grader=grader)
    except KeyboardInterrupt:
        ledger.finish_run(run_id, "stopped", "stopped by Ctrl-C; the same command goes on from here")
        raise
    except Exception as error:
        ledger.finish_run(run_id, "failed", str(error) or type(error).__name__)
        raise
    ledger.finish_run(run_id, "done", f"training set {made.id}, {len(made.rows)} rows")
    return made


def grader_of(ledger: Ledger, plan: RetrainPlan, engine: Engine) -> Grader | None:
    """Returns the grader of a plan's judge: the mean of its grades of an answer as a share of their scale.

    Returns:
        None without a judge.

    Raises:
        UserError: The judge's model or prompt does not exist, or it compares answers instead of grading them.
    """
    judge_plan = plan.recipe.filters.judge
    if judge_plan is None:
        return None
    from evalkit.errors import UserError
    from evalkit.judging import Judging, load_judge
    from evalkit.store.labels import grades_of
    from judges.fight import load_cases

    judge = load_judge(judge_plan)
    if not judge.grades:
        raise UserError(
            f"recipe.filters.judge: {judge.name} compares two answers; give a prompt that grades single ones", code=2
        )
    judging = Judging(ledger, engine.run_id, engine, plan.seed)

    def grade(response_ids: Sequence[int]) -> dict[int, float]:
        import numpy as np

        judging.grade(judge, load_cases(ledger, list(response_ids)))
        annotator = judging.annotator(judge)
        found: dict[int, list[float]] = {}
        for criterion in judge.criteria:
            ids, values = grades_of(ledger, [annotator], criterion.name, response_ids)
            low, high = criterion.scale or (judge.prompt and judge.prompt.answer.scale) or (0.0, 1.0)
            for response_id, value in zip(ids, values[:, 0], strict=True):
                if np.isfinite(value):
                    found.setdefault(response_id, []).append(float((value - low) / (high - low)))
        return {key: sum(values) / len(values) for key, values in found.items()}

    return grade
