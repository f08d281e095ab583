"""Top floor: runs a plan stage by stage. The rooms below are imported where a stage needs them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from evalkit.answering import answer_prompts
from evalkit.engine import Budget, Engine, asks_by_batch
from evalkit.errors import UserError
from evalkit.models.base import ChatModel, sha256
from evalkit.models.load import load_model, sampling
from evalkit.models.prices import Prices
from evalkit.plan import JuryPlan, Plan
from evalkit.prompts import read_prompts
from evalkit.provenance import code_version, digest_of, environment
from evalkit.store import BattleRow, Ledger, arena
from evalkit.store.run_end import end_run, marked

if TYPE_CHECKING:
    from evalkit.engine.progress import Progress
    from evalkit.judging import Judge
    from judges.fight import Case, Fight

Stage = Literal["benchmark", "generate", "battle", "judge", "jury", "report"]
STAGES: tuple[Stage, ...] = get_args(Stage)
PROMPTS = "arena prompts"


@dataclass(slots=True)
class Arena:
    """The answers that do battle, and the battles.

    Attributes:
        answers: Ids of the responses.
        battles: By id.
        fights: The battles with texts.
        cases: The answers with texts; empty if nobody grades them.
    """

    answers: list[int]
    battles: dict[int, BattleRow]
    fights: list[Fight]
    cases: list[Case]


@dataclass(slots=True)
class Result:
    """What became of a run.

    Attributes:
        status: done, or failed if requests failed.
        fresh: False if all of it had been done before.
        not_sent: Requests that the dollar budget kept back.
        skipped: Task to the reason why it could not run here.
    """

    run_id: int
    status: Literal["done", "failed"]
    fresh: bool
    errors: int = 0
    not_sent: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    report: Path | None = None


class PlanRun:
    """A plan on its way through the stages. To make one is to check the plan: no ledger is needed for that.

    Args:
        plan: What to do.
        progress: Who is told; None for nobody.

    Raises:
        UserError: A model, prompt file, judge's prompt or price table of the plan does not exist or is wrong.
    """

    ledger: Ledger

    def __init__(self, plan: Plan, progress: Progress | None = None) -> None:
        _refuse_at_once(plan)
        self.plan = plan
        self.progress = progress
        self.models = [load_model(m) for m in plan.models]
        self.judges, self.juries = _judges(plan)
        self.prompts = read_prompts(plan.arena.prompts, plan.arena.limit) if plan.arena.prompts else []
        self.prices = Prices.load(plan.prices)
        self.tasks: list[Any] = []
        self.run_id = 0
        self.model_ids: list[int] = []
        self.engine: Engine
        self.result = Result(0, "done", fresh=True)
        self.snapshot = plan.model_dump(mode="json") | {
            "resolved": {
                "models": [m.settings.hash for m in self.models],
                "judges": [sha256(dict(judge.definition())) for judge in self.judges],
                "juries": [jury.model_dump(mode="json") for jury in self.juries],
                "prompts": [item.hash for item in self.prompts],
                "tasks": digest_of(plan.task_folders, [b.task for b in plan.benchmarks]),
                "code": code_version(),
            }
        }

    def run(self, ledger: Ledger, stages: Sequence[Stage] = STAGES) -> Result:
        """Runs stages in their order; what is in the ledger already is not done again.

        Args:
            ledger: Where everything lands; nothing is written before all that can be checked has been.
            stages: Which.

        Raises:
            UserError: A task does not exist, the ledger cannot be written, or a stage cannot run at all.
            KeyboardInterrupt: Ctrl-C; what was answered is stored, the run is marked as stopped.
        """
        plan, self.ledger = self.plan, ledger
        known = ledger.find_run(plan.name, self.snapshot, seed=plan.seed)
        if known is not None and known[1] == "done" and set(stages) == set(STAGES) and self._report_is_there():
            return Result(known[0], "done", fresh=False, report=plan.report)
        self._refuse_unpriced()
        if "benchmark" in stages:
            self.load_tasks()
        self.run_id = ledger.start_run(plan.name, self.snapshot, seed=plan.seed, environment=environment())
        self.result = Result(self.run_id, "done", fresh=True)
        self.model_ids = ledger.add_models([m.settings for m in self.models])
        budget = Budget(**plan.budget.model_dump())
        with (
            marked(ledger, self.run_id),
            Engine(ledger, self.run_id, budget=budget, prices=self.prices, progress=self.progress) as engine,
        ):
            self.engine = engine
            if "benchmark" in stages or "generate" in stages:
                self._submit_ahead(stages)
                self.answer_all(stages)
            if {"battle", "judge", "jury"} & set(stages):
                self._enter("battle")
                self.judge_all(self.pair_answers(), stages)
        result, complete = self.result, set(stages) >= set(STAGES) - {"report"}
        result.errors = end_run(ledger, self.run_id, result.not_sent, complete=complete)
        result.status = "failed" if result.errors or result.not_sent else "done"
        if "report" in stages and plan.report:
            from evalkit.report.html import write_report

            write_report(ledger, self.run_id, plan.report)
            result.report = plan.report
        return result

    def load_tasks(self) -> None:
        """Builds the benchmarks' tasks; apart from the rest, for lm-eval takes seconds.

        Raises:
            UserError: A task does not exist or cannot run here, or the arena names one that the plan does not have.
        """
        if self.plan.benchmarks:
            from benchmarks.bridge import load_tasks

            self.tasks = load_tasks(task_specs(self.plan), self.plan.task_folders)
        there = {name for one in self.tasks for name in (*one.tasks, *one.groups)}
        skipped = {name: reason for one in self.tasks for name, reason in one.skipped.items()}
        for name in (n for n in self.plan.arena.tasks if n not in there):
            why = f"is not among the plan's benchmarks: {', '.join(sorted(there)) or 'there are none'}"
            raise UserError(f"arena.tasks: {name!r} {skipped.get(name, why)}", code=2)

    def _refuse_unpriced(self) -> None:
        """The engine would refuse as well, but only once the models before had been paid for."""
        if self.plan.budget.dollars is None:
            return
        judges = [judge.model for judge in self.judges if judge.model is not None]
        for model in (m.settings for m in [*self.models, *judges]):
            if self.prices.estimate(model, 1, 1) is None:
                raise UserError(
                    f"budget.dollars: the limit cannot be kept, for the price of {model.name} at {model.endpoint} is "
                    "unknown: add it to a price list (0 for a server of your own) and name that under `prices`",
                    code=2,
                )

    def _report_is_there(self) -> bool:
        return self.plan.report is None or self.plan.report.exists()

    def _enter(self, stage: Stage) -> None:
        self.ledger.update_run(self.run_id, stage=stage)

    # -- answers --------------------------------------------------------------------------------------------

    def _submit_ahead(self, stages: Sequence[Stage]) -> None:
        """Has the batch jobs of all models underway before the first is waited for: each may take a day."""
        for model, model_id in zip(self.models, self.model_ids, strict=True):
            if asks_by_batch(model) and self.tasks:
                self.engine.submit_ahead(partial(self._benchmark, model, model_id, self.tasks))
            if asks_by_batch(model) and self.prompts and "generate" in stages:
                self.engine.submit_ahead(partial(self._generate, model, model_id))

    def answer_all(self, stages: Sequence[Stage] = STAGES) -> None:
        """Benchmarks and own prompts, one model after the other, so that one set of weights is in memory at a time."""
        for model, model_id in zip(self.models, self.model_ids, strict=True):
            if self.tasks:
                self._enter("benchmark")
                self._benchmark(model, model_id, self.tasks)
            if "generate" in stages and self.prompts:
                self._enter("generate")
                self._generate(model, model_id)
            self.engine.release(model)

    def _benchmark(self, model: ChatModel, model_id: int, loaded: Sequence[Any]) -> None:
        from benchmarks.bridge import run_tasks

        label = f"{model.settings.label}: benchmarks"
        report = run_tasks(self.engine, self.ledger, self.run_id, model, model_id, loaded, label=label)
        self.result.skipped.update(report.skipped)

    def _generate(self, model: ChatModel, model_id: int) -> None:
        plan = self.plan.arena
        dataset_id, item_ids = self.ledger.add_dataset(PROMPTS, self.prompts, str(plan.prompts))
        items = dict(zip(item_ids, self.prompts, strict=True))
        drawn = sampling(plan.sampling)
        self.result.not_sent += answer_prompts(self.engine, model, model_id, dataset_id, items, drawn)

    # -- battles and judging --------------------------------------------------------------------------------

    def pair_answers(self) -> Arena:
        """Pairs up the run's answers.

        Raises:
            UserError: The run has no answers to a dataset of the arena.
        """
        from judges.battles import Answer, pair_up
        from judges.fight import load_cases, load_fights

        plan = self.plan.arena
        known = arena.datasets_of_run(self.ledger, self.run_id)
        wanted = [*plan.tasks, *([PROMPTS] if plan.prompts else [])]
        if not wanted:
            return Arena([], {}, [], [])
        missing = [name for name in wanted if name not in known]
        if missing:
            raise UserError(
                f"arena: this run has no answers to {missing[0]!r}; the plan's benchmarks have: "
                f"{', '.join(sorted(known)) or 'none yet, run the stages benchmark and generate first'}"
            )
        rows = arena.answers(self.ledger, self.run_id, [known[name] for name in wanted])
        contestants = set(self.model_ids)
        rows = [row for row in rows if row[2] in contestants]
        items = arena.items(self.ledger, {row[1] for row in rows})
        models = arena.model_hashes(self.ledger)
        taking_part = [Answer(r, item, model, items[item].hash, models[model], turn) for r, item, model, turn in rows]
        labels = [model.label for model in self.plan.models]
        baseline = None if plan.baseline is None else self.model_ids[labels.index(plan.baseline)]
        paired = pair_up(taking_part, limit=plan.battles, seed=self.plan.seed, baseline=baseline)
        battles = dict(zip(self.ledger.add_battles(paired), paired, strict=True))
        answers = [row[0] for row in rows]
        graded = any(judge.grades for judge in self.judges)
        return Arena(
            answers, battles, load_fights(self.ledger, battles), load_cases(self.ledger, answers) if graded else []
        )

    def judge_all(self, there: Arena, stages: Sequence[Stage]) -> None:
        """Has the judges judge, then the juries; adaptive ones ask their members themselves."""
        if not self.judges or not {"judge", "jury"} & set(stages):
            return
        from evalkit.judging import Judging
        from evalkit.juries import asked_one_by_one, hold

        judging = Judging(self.ledger, self.run_id, self.engine, self.plan.seed)
        if "judge" in stages:
            self._enter("judge")
            waiting = asked_one_by_one(self.juries, self.judges)
            judges = [judge for judge in self.judges if judge.name not in waiting]
            judging.judge_each(judges, there.fights, there.cases)
            for judge in (judge for judge in self.judges if judge.name in waiting):
                judging.judge(judge, [], there.cases)
        if "jury" in stages:
            self._enter("jury")
            by_name = {judge.name: judge for judge in self.judges}
            for jury in self.juries:
                hold(judging, jury, by_name, there.battles, there.fights, there.answers)
        self.result.not_sent += judging.not_sent


def _refuse_at_once(plan: Plan) -> None:
    if not plan.benchmarks and not plan.arena.prompts:
        raise UserError("the plan asks nothing of its models: give it benchmarks or arena.prompts", code=2)
    if plan.report is not None:  # better now than at the end
        above = next(p for p in plan.report.absolute().parents if os.path.exists(p))
        if plan.report.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
            why = "give the path of a file in a folder that you may write to"
            raise UserError(f"report: {str(plan.report)!r} cannot be written: {why}", code=2)


def _judges(plan: Plan) -> tuple[list[Judge], list[JuryPlan]]:
    if not plan.judges:
        return [], []
    from evalkit.judging import load_judge
    from evalkit.juries import jury_plans

    judges = [load_judge(judge) for judge in plan.judges]
    return judges, jury_plans(plan.juries, judges)


def rescore_run(ledger: Ledger, run_id: int) -> int:
    """Applies the task definitions as they are now to a run's stored answers, without a request.

    Returns:
        How many scores were written.

    Raises:
        UserError: The run had no benchmarks, or a task now asks something else.
    """
    from benchmarks.rescore import rescore

    stored = dict(ledger.run_plan(run_id))
    stored.pop("resolved", None)
    if not stored.get("benchmarks"):
        raise UserError(f"run {run_id} had no benchmarks to rescore", code=2)
    plan = Plan.model_validate(stored)
    reports = rescore(ledger, run_id, task_specs(plan), include=plan.task_folders)
    return sum(len(report.scores) for report in reports.values())


def task_specs(plan: Plan) -> list[Any]:
    """Returns a plan's benchmarks as the bridge takes them."""
    from benchmarks.tasks import TaskSpec

    return [
        TaskSpec(
            b.task,
            num_fewshot=b.num_fewshot,
            limit=int(b.limit) if b.limit is not None and b.limit >= 1 else b.limit,
            chat_template=b.chat_template,
            fewshot_as_multiturn=b.fewshot_as_multiturn,
            generation=b.generation,
        )
        for b in plan.benchmarks
    ]
