"""Top floor: runs a plan stage by stage. The rooms below are imported where a stage needs them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from evalkit.engine import Budget, Engine, Job
from evalkit.errors import UserError
from evalkit.models.base import ChatModel, Message, Request
from evalkit.models.load import load_model, sampling
from evalkit.models.prices import Prices
from evalkit.plan import JudgePlan, Plan
from evalkit.prompts import read_prompts
from evalkit.provenance import code_version, digest_of, environment
from evalkit.store import BattleRow, Ledger, arena, labels

if TYPE_CHECKING:
    from evalkit.engine.progress import Progress
    from judges.fight import Fight
    from judges.prompt import JudgePrompt

Stage = Literal["benchmark", "generate", "battle", "judge", "report"]
STAGES: tuple[Stage, ...] = get_args(Stage)
PROMPTS = "arena prompts"


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
        self.judge_models = {j.name: load_model(j.model) for j in plan.judges if j.model is not None}
        self.judge_prompts = _judge_prompts(plan)
        self.prompts = read_prompts(plan.arena.prompts, plan.arena.limit) if plan.arena.prompts else []
        self.prices = Prices.load(plan.prices)
        self.tasks: list[Any] = []
        self.run_id = 0
        self.model_ids: list[int] = []
        self.engine: Engine
        self.result = Result(0, "done", fresh=True)
        self.snapshot = plan.model_dump(mode="json") | {
            "resolved": {
                "models": [m.settings.hash for m in [*self.models, *self.judge_models.values()]],
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
            self._marked(),
            Engine(ledger, self.run_id, budget=budget, prices=self.prices, progress=self.progress) as engine,
        ):
            self.engine = engine
            if "benchmark" in stages or "generate" in stages:
                self.answer_all(stages)
            if "battle" in stages or "judge" in stages:
                self._enter("battle")
                fights = self._battles()
                if "judge" in stages and fights:
                    self._enter("judge")
                    self._judge(fights)
        self._finish(complete=set(stages) >= set(STAGES) - {"report"})
        if "report" in stages and plan.report:
            from evalkit.report.html import write_report

            write_report(ledger, self.run_id, plan.report)
            self.result.report = plan.report
        return self.result

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
        for model in (m.settings for m in [*self.models, *self.judge_models.values()]):
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

    @contextmanager
    def _marked(self) -> Iterator[None]:
        """Marks the run in the ledger if it does not come to its end."""
        try:
            yield
        except KeyboardInterrupt:
            self.ledger.finish_run(self.run_id, "stopped", "stopped by Ctrl-C; the same command goes on from here")
            raise
        except UserError as error:
            self.ledger.finish_run(self.run_id, "failed", str(error))
            raise
        except Exception as error:
            self.ledger.finish_run(self.run_id, "failed", f"{type(error).__name__}: {error}")
            raise

    def _finish(self, *, complete: bool) -> None:
        result = self.result
        result.errors = arena.count_errors(self.ledger, self.run_id)
        said = []
        if result.errors:
            said.append(f"{result.errors} requests failed; the same command tries them again")
        if result.not_sent:
            said.append(f"{result.not_sent} requests were not sent: the dollar budget is used up")
        result.status = "failed" if said else "done"
        if not complete and not said:
            self.ledger.finish_run(self.run_id, "stopped", "only some stages were asked for")
            return
        self.ledger.finish_run(self.run_id, result.status, "; ".join(said))

    # -- answers --------------------------------------------------------------------------------------------

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
        drawn = sampling(plan.sampling)
        jobs = [
            Job(model_id, item_id, dataset_id, Request(messages=item.messages, sampling=drawn))
            for item, item_id in zip(self.prompts, item_ids, strict=True)
        ]
        self._send(model, jobs, f"{model.settings.label}: prompts")

    def _send(self, model: ChatModel, jobs: Sequence[Job], label: str) -> None:
        outcomes = self.engine.run(model, jobs, label=label)
        self.result.not_sent += sum(o.response_id is None for o in outcomes)

    # -- battles and judging --------------------------------------------------------------------------------

    def _battles(self) -> list[Fight]:
        from judges.battles import Answer, pair_up

        plan = self.plan.arena
        known = arena.datasets_of_run(self.ledger, self.run_id)
        wanted = [*plan.tasks, *([PROMPTS] if plan.prompts else [])]
        if not wanted:
            return []
        missing = [name for name in wanted if name not in known]
        if missing:
            raise UserError(
                f"arena: this run has no answers to {missing[0]!r}; the plan's benchmarks have: "
                f"{', '.join(sorted(known)) or 'none yet, run the stages benchmark and generate first'}"
            )
        rows = arena.answers(self.ledger, self.run_id, [known[name] for name in wanted])
        contestants = set(self.model_ids)
        taking_part = [Answer(*row) for row in rows if row[2] in contestants]
        battles = pair_up(taking_part, limit=plan.battles, seed=self.plan.seed)
        ids = self.ledger.add_battles(battles)
        return self._with_texts(battles, ids)

    def _with_texts(self, battles: Sequence[BattleRow], ids: Sequence[int]) -> list[Fight]:
        from judges.fight import Fight

        sides = [side for b in battles for side in (b.response_a_id, b.response_b_id) if side is not None]
        texts = arena.texts(self.ledger, sides)
        items = arena.items(self.ledger, [b.item_id for b in battles])
        fights = []
        for battle_id, battle in zip(ids, battles, strict=True):
            messages, reference = items[battle.item_id]
            a, b = texts[battle.response_a_id or 0], texts[battle.response_b_id or 0]
            fights.append(Fight(battle_id, battle.item_id, prompt_of(messages), reference, a, b))
        return fights

    def _judge(self, fights: Sequence[Fight]) -> None:
        members: dict[str, int] = {}
        criterion = "overall"
        for judge in self.plan.judges:
            if judge.kind == "verifier":
                members[judge.name] = self._verify(judge, fights)
            else:
                members[judge.name], criterion = self._ask(judge, fights)
        jury = [members[name] for name in self.plan.jury_names() if name in members]
        if len(jury) > 1:
            self._vote(jury, criterion, fights)

    def _verify(self, judge: JudgePlan, fights: Sequence[Fight]) -> int:
        from judges import verifier

        annotator = self.ledger.add_annotator("judge", judge.name, verifier.DEFINITION)
        self.ledger.add_verdicts(self.run_id, verifier.judge(fights, annotator))
        return annotator

    def _ask(self, judge: JudgePlan, fights: Sequence[Fight]) -> tuple[int, str]:
        from judges import pairwise

        prompt, model = self.judge_prompts[judge.name], self.judge_models[judge.name]
        (model_id,) = self.ledger.add_models([model.settings])
        annotator = self.ledger.add_annotator("judge", judge.name, pairwise.annotator_definition(model, prompt))
        seen = pairwise.draw(fights, judge.battles, self.plan.seed)
        dataset, _ = self.ledger.add_dataset(
            f"judging by {judge.name}", [], "verdicts; the items are those of the battles"
        )
        asked = pairwise.requests(seen, prompt, orders=judge.orders, seed=self.plan.seed)
        verdicts = pairwise.judge(
            self.engine, model, model_id, dataset, annotator, prompt, asked, label=f"{judge.name}: verdicts"
        )
        self.result.not_sent += len(asked) - len(verdicts)
        self.ledger.add_verdicts(self.run_id, verdicts)
        self.engine.release(model)
        return annotator, prompt.criterion

    def _vote(self, jury: Sequence[int], criterion: str, fights: Sequence[Fight]) -> None:
        from judges.jury import Jury, jury_verdicts

        definition = {"kind": "jury", "aggregation": "majority", "members": sorted(jury)}
        annotator = self.ledger.add_annotator("judge", "jury", definition)
        seen = labels.judged_battles(self.ledger, jury, criterion, [f.battle_id for f in fights])
        said, _ = labels.labels_of(self.ledger, jury, criterion, seen)
        members = Jury("jury", tuple(labels.annotator_names_of(self.ledger, jury)))
        self.ledger.add_verdicts(self.run_id, jury_verdicts(said, seen, members, annotator, criterion))


def _refuse_at_once(plan: Plan) -> None:
    if not plan.benchmarks and not plan.arena.prompts:
        raise UserError("the plan asks nothing of its models: give it benchmarks or arena.prompts", code=2)
    if plan.report is not None:  # better now than at the end
        above = next(p for p in plan.report.absolute().parents if os.path.exists(p))
        if plan.report.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
            why = "give the path of a file in a folder that you may write to"
            raise UserError(f"report: {str(plan.report)!r} cannot be written: {why}", code=2)


def prompt_of(messages: Sequence[Message]) -> str:
    """Returns what judges are shown of a prompt: the user's turns."""
    return "\n\n".join(str(m["content"]) for m in messages if m["role"] == "user")


def _judge_prompts(plan: Plan) -> dict[str, JudgePrompt]:
    llms = [judge for judge in plan.judges if judge.kind == "llm"]
    if not llms:
        return {}
    from judges.prompt import load_prompt

    return {judge.name: load_prompt(judge.prompt) for judge in llms}


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
    plan = Plan.model_validate(stored)
    if not plan.benchmarks:
        raise UserError(f"run {run_id} had no benchmarks to rescore", code=2)
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
