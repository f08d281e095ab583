"""Top floor: judging, for plans and for `evalkit judge run`: verdicts on battles and grades of answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from evalkit.engine import Engine, asks_by_batch
from evalkit.errors import UserError
from evalkit.models.base import ChatModel
from evalkit.models.load import load_model
from evalkit.plan import JudgePlan
from evalkit.store import Ledger
from judges import pairwise, pointwise, verifier
from judges.asking import Hearing, ask
from judges.checklist import Checklist, Topic, checklists
from judges.criteria import Criterion, load_criteria
from judges.fight import Case, Fight, draw
from judges.prompt import JudgePrompt, load_prompt

CHUNK = 4096
"""Questions asked, and verdicts stored, at a time: what is judged already counts while the rest is asked."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge of a plan, ready to be asked: with model, prompt and criteria if it is an LLM, without if a verifier."""

    plan: JudgePlan
    model: ChatModel | None = None
    prompt: JudgePrompt | None = None
    criteria: tuple[Criterion, ...] = ()

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.plan.name

    @property
    def compares(self) -> bool:
        """Whether it judges battles."""
        return self.prompt is None or self.prompt.kind == "pairwise"

    @property
    def grades(self) -> bool:
        """Whether it grades single answers."""
        return self.prompt is None or self.prompt.kind == "pointwise"

    @property
    def orders(self) -> pairwise.Orders:
        """In which orders it sees a battle."""
        return self.plan.orders or (self.prompt.orders if self.prompt else "both")

    @property
    def judged(self) -> tuple[str, ...]:
        """Returns the names of its criteria."""
        return tuple(c.name for c in self.criteria) if self.prompt else (verifier.CRITERION,)

    @property
    def requests_for_a_battle(self) -> int:
        """How many requests one battle takes, repairs not counted; 0 for a verifier."""
        if self.prompt is None:
            return 0
        return (2 if self.orders == "both" else 1) * self.plan.replicates * len(self.prompt.groups(self.criteria))

    def definition(self) -> Mapping[str, Any]:
        """Returns what it is, for its annotator's hash."""
        if self.model is None or self.prompt is None:
            return verifier.DEFINITION
        return pairwise.annotator_definition(self.model, self.prompt, self.criteria)


def load_judge(plan: JudgePlan) -> Judge:
    """Makes a judge ready.

    Raises:
        UserError: Its model, prompt or a criterion does not exist or is wrong, or a key does not fit its prompt.
    """
    if plan.model is None:
        return Judge(plan)
    prompt = load_prompt(plan.prompt)
    try:
        criteria = load_criteria(plan.criteria) if plan.criteria else prompt.criteria
        prompt.groups(criteria)
    except UserError as error:
        raise UserError(f"judge {plan.name}: {error}", code=2) from error
    wrong = [key for key in ("orders", "battles") if getattr(plan, key) is not None]
    if prompt.kind == "pairwise":
        wrong = ["answers"] if plan.answers is not None else []
    if wrong:
        does = "compares two answers" if prompt.kind == "pairwise" else "grades single answers"
        raise UserError(f"judge {plan.name}: {wrong[0]}: its prompt {prompt.name} {does}, so it has none", code=2)
    return Judge(plan, load_model(plan.model), prompt, criteria)


@dataclass(slots=True)
class Judging:
    """Judges of one run at work.

    Attributes:
        ledger: Gets verdicts and grades.
        engine: Of the run; asks, and finds what was answered before.
        seed: Of every draw.
        record: False only asks (a dry run), and writes no verdict.
        not_sent: Requests that a budget kept back.
    """

    ledger: Ledger
    run_id: int
    engine: Engine
    seed: int
    record: bool = True
    not_sent: int = 0
    _annotators: dict[str, int] = field(default_factory=dict)
    _verifiers: dict[int, verifier.Verifier] = field(default_factory=dict)

    def judge_each(self, judges: Sequence[Judge], fights: Sequence[Fight], cases: Sequence[Case]) -> None:
        """Has judges do what they do; batch jobs of all are underway before the first is waited for."""
        for judge in judges if len(judges) > 1 else ():
            if judge.model is not None and asks_by_batch(judge.model):
                self.engine.submit_ahead(partial(self.judge, judge, fights, cases))
        for judge in judges:
            self.judge(judge, fights, cases)

    def judge(self, judge: Judge, fights: Sequence[Fight], cases: Sequence[Case]) -> None:
        """Has a judge do what it does: verdicts on battles, grades of answers; then frees its model."""
        if judge.compares:
            self.compare(judge, draw(fights, judge.plan.battles, self.seed))
        if judge.grades:
            self.grade(judge, draw(cases, judge.plan.answers, self.seed))
        if judge.model is not None:
            self.engine.release(judge.model)

    def annotator(self, judge: Judge) -> int:
        """Returns a judge's row in the ledger."""
        if judge.name not in self._annotators:
            self._annotators[judge.name] = self.ledger.add_annotator("judge", judge.name, judge.definition())
        return self._annotators[judge.name]

    def compare(self, judge: Judge, fights: Sequence[Fight]) -> None:
        """Gets a judge's verdicts on battles."""
        annotator = self.annotator(judge)
        if judge.prompt is None:
            if self.record:
                self.ledger.add_verdicts(self.run_id, self._verifier(annotator).verdicts(fights))
            return
        asked = pairwise.questions(
            fights,
            judge.prompt,
            judge.criteria,
            orders=judge.orders,
            replicates=judge.plan.replicates,
            seed=self.seed,
        )
        total = len(fights) * judge.requests_for_a_battle
        for label, part in _parts(asked, total, judge, "verdicts"):
            hearing = self._ask(judge, [question.asked for question in part], label)
            if self.record:
                self.ledger.add_verdicts(self.run_id, pairwise.verdicts(part, hearing, annotator))

    def grade(self, judge: Judge, cases: Sequence[Case]) -> None:
        """Gets a judge's grades of answers."""
        annotator = self.annotator(judge)
        if judge.model is None or judge.prompt is None:
            if self.record:
                self.ledger.add_grades(self._verifier(annotator).grades(cases))
            return
        replicates = judge.plan.replicates
        lists: dict[Topic, Checklist] = {}
        if judge.prompt.needs_checklist:
            lists, not_sent = checklists(
                self.engine, judge.model, *self._places(judge), judge.prompt, cases, label=f"{judge.name}: checklists"
            )
            self.not_sent += not_sent
            if self.record:
                failed = pointwise.without_checklist(cases, judge.criteria, lists, annotator, replicates)
                self.ledger.add_grades(failed)
        asked = pointwise.questions(cases, judge.prompt, judge.criteria, replicates=replicates, checklists=lists)
        total = len(cases) * replicates * len(judge.prompt.groups(judge.criteria))
        for label, part in _parts(asked, total, judge, "grades"):
            hearing = self._ask(judge, [question.asked for question in part], label)
            if self.record:
                self.ledger.add_grades(pointwise.grades(part, hearing, annotator))

    def _verifier(self, annotator: int) -> verifier.Verifier:
        return self._verifiers.setdefault(annotator, verifier.Verifier(annotator))

    def _places(self, judge: Judge) -> tuple[int, int]:
        """Returns the model's row and the dataset that a judge's own answers are filed under."""
        assert judge.model is not None
        (model_id,) = self.ledger.add_models([judge.model.settings])
        dataset_id, _ = self.ledger.add_dataset(
            f"judging by {judge.name}", [], "verdicts and grades; the items are those that are judged"
        )
        return model_id, dataset_id

    def _ask(self, judge: Judge, asked: Sequence[Any], label: str) -> Hearing:
        assert judge.model is not None and judge.prompt is not None
        hearing = ask(self.engine, judge.model, *self._places(judge), judge.prompt, asked, label=label)
        self.not_sent += hearing.not_sent
        return hearing


def _parts(asked: Iterable[T], total: int, judge: Judge, what: str) -> Iterator[tuple[str, list[T]]]:
    """Cuts questions into chunks with a label each; a batch job is one piece, for it may take a day."""
    size = total if judge.plan.model is not None and judge.plan.model.batch else CHUNK
    rest = iter(asked)
    number, parts = 0, -(-total // max(1, size))
    while part := list(itertools.islice(rest, max(1, size))):
        number += 1
        yield f"{judge.name}: {what}" + (f", part {number} of {parts}" if parts > 1 else ""), part
