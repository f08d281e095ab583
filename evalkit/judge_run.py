"""Top floor: one judge judges the battles, or grades the answers, that a ledger holds already; or it is probed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.engine import Budget, Engine, Progress
from evalkit.errors import UserError
from evalkit.estimate import Estimate, count_judge, counting, existing
from evalkit.judging import Judge, Judging, load_judge
from evalkit.models.base import sha256
from evalkit.models.prices import Prices
from evalkit.plan import JudgePlan
from evalkit.provenance import code_version, environment
from evalkit.store import Ledger, arena
from evalkit.store.run_end import end_run, marked
from judges.fight import Case, Fight, load_cases, load_fights
from judges.probes import probe


@dataclass(frozen=True, slots=True)
class Chosen:
    """What of a ledger is to be judged.

    Attributes:
        datasets: Names; only what is on items of these.
        voted: Only battles that a human has voted on.
        seed: Of every draw.
    """

    datasets: tuple[str, ...] = ()
    voted: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A run in which a judge was asked.

    Attributes:
        errors: Requests without an answer.
        not_sent: Requests that the dollar budget kept back.
    """

    run_id: int
    errors: int
    not_sent: int


@dataclass(frozen=True, slots=True)
class Judged(Asked):
    """What became of judging.

    Attributes:
        battles, answers: Given to the judge, of which it sees as many as its plan says.
        without_texts: Battles that cannot be judged: votes that were imported without answers, or failed answers.
    """

    battles: int
    answers: int
    without_texts: int


def find(ledger: Ledger, judge: Judge, chosen: Chosen) -> tuple[list[Fight], list[Case], int]:
    """Reads what a judge is given: battles, or answers; and how many battles have no texts.

    Raises:
        UserError: There is nothing to judge, or no such dataset.
    """
    fights: list[Fight] = []
    cases: list[Case] = []
    without = 0
    if judge.compares:
        battles = arena.all_battles(ledger, chosen.datasets, voted=chosen.voted)
        fights = load_fights(ledger, battles)
        without = len(battles) - len(fights)
    if judge.grades:
        cases = load_cases(ledger, arena.all_answers(ledger, chosen.datasets))
    if not fights and not cases:
        where = f" on {', '.join(chosen.datasets)}" if chosen.datasets else ""
        if not judge.compares:
            what = f"there is no answer{where} to grade"
        elif without:
            what = f"the ledger has {without} battles{where}, but not the answers: import the responses"
        else:
            what = f"there is no battle{where}{' that a human voted on' if chosen.voted else ''} to judge"
        raise UserError(f"{what} (evalkit import --help)", code=2)
    return fights, cases, without


def count(ledger: Ledger, plan: JudgePlan, chosen: Chosen, prices: Path | None) -> list[Estimate]:
    """Counts what a judge would be asked; nothing is sent or written.

    Raises:
        UserError: As `run`.
    """
    judge = load_judge(plan)
    fights, cases, _ = find(ledger, judge, chosen)
    with counting(ledger) as counter:
        count_judge(counter, judge, fights, cases, chosen.seed)
        return counter.estimates(Prices.load(prices))


def run(
    ledger: Ledger,
    plan: JudgePlan,
    chosen: Chosen,
    *,
    dollars: float | None = None,
    prices: Path | None = None,
    progress: Progress | None = None,
) -> Judged:
    """Has a judge judge; what it has said before is in the ledger and is not asked for again.

    Args:
        ledger: Holds battles and answers, gets verdicts and grades.
        plan: The judge.
        chosen: What it is given.
        dollars: No request is sent that could go over it.
        prices: Price list of your own.
        progress: Who is told; None for nobody.

    Raises:
        UserError: The judge's model, prompt or criteria do not exist or do not fit, its model has no price to keep the
            limit by, or there is nothing to judge.
        KeyboardInterrupt: Ctrl-C; what was answered is stored.
    """
    judge, table = load_judge(plan), Prices.load(prices)
    _refuse_unpriced(judge, dollars, table)
    fights, cases, without = find(ledger, judge, chosen)
    snapshot = {"judges": [plan.model_dump(mode="json")], "datasets": list(chosen.datasets), "voted": chosen.voted}
    with _asking(ledger, judge, f"judge {plan.name}", snapshot, chosen.seed, dollars, table, progress) as engine:
        judging = Judging(ledger, engine.run_id, engine, chosen.seed)
        judging.judge(judge, fights, cases)
    errors = end_run(ledger, engine.run_id, judging.not_sent)
    return Judged(engine.run_id, errors, judging.not_sent, len(fights), len(cases), without)


def count_probes(store: str, judge: Judge, questions: int | None, prices: Path | None) -> list[Estimate]:
    """Counts what `run_probes` would send; the ledger need not be there yet.

    Raises:
        UserError: The ledger or the price list cannot be read.
    """
    with existing(store) as real, counting(real) as counter:
        counter.role = f"probes of {judge.name}"
        _probe(counter, judge, questions, record=False)
        return counter.estimates(Prices.load(prices))


def run_probes(
    ledger: Ledger,
    judge: Judge,
    questions: int | None,
    *,
    dollars: float | None = None,
    prices: Path | None = None,
    progress: Progress | None = None,
) -> Asked:
    """Shows a judge the probes (`judges.probes`); what it has said before is not asked for again.

    Args:
        ledger: Gets the probes and what the judge says.
        judge: Has a model.
        questions: The first so many; None for all.
        dollars: No request is sent that could go over it.
        prices: Price list of your own.
        progress: Who is told; None for nobody.

    Raises:
        UserError: The model has no price to keep the limit by.
        KeyboardInterrupt: Ctrl-C; what was answered is stored.
    """
    table = Prices.load(prices)
    _refuse_unpriced(judge, dollars, table)
    snapshot = {"probes": {"judge": judge.plan.model_dump(mode="json"), "questions": questions}}
    with _asking(ledger, judge, f"probes of {judge.name}", snapshot, 0, dollars, table, progress) as engine:
        not_sent = _probe(engine, judge, questions)
    return Asked(engine.run_id, end_run(ledger, engine.run_id, not_sent), not_sent)


def _probe(engine: Engine, judge: Judge, questions: int | None, *, record: bool = True) -> int:
    assert judge.model is not None and judge.prompt is not None  # a verifier has no prompt to be probed with
    who = (judge.model, judge.prompt, judge.criteria, judge.name)
    not_sent = probe(engine.ledger, engine, engine.run_id, *who, questions=questions, record=record)
    engine.release(judge.model)
    return not_sent


def _refuse_unpriced(judge: Judge, dollars: float | None, table: Prices) -> None:
    if judge.model is not None and dollars is not None and table.estimate(judge.model.settings, 1, 1) is None:
        raise UserError(
            f"--dollars: the limit cannot be kept, for the price of {judge.model.settings.name} is unknown: add it to "
            "a price list (0 for a server of your own) and name that by --prices",
            code=2,
        )


@contextmanager
def _asking(
    ledger: Ledger,
    judge: Judge,
    name: str,
    snapshot: Mapping[str, Any],
    seed: int,
    dollars: float | None,
    table: Prices,
    progress: Progress | None,
) -> Iterator[Engine]:
    """Opens a run in which one judge is asked, or goes on with it."""
    resolved = {"judges": [sha256(dict(judge.definition()))], "code": code_version()}
    run_id = ledger.start_run(name, {**snapshot, "resolved": resolved}, seed=seed, environment=environment())
    ledger.update_run(run_id, stage="judge")
    budget = Budget(dollars=dollars)
    with (
        marked(ledger, run_id),
        Engine(ledger, run_id, budget=budget, prices=table, progress=progress) as engine,
    ):
        yield engine
