"""Top floor: `evalkit judge run`: one judge judges the battles, or grades the answers, that a ledger holds already."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evalkit.engine import Budget, Engine, Progress
from evalkit.errors import UserError
from evalkit.estimate import Counter, Estimate, count_judge
from evalkit.judging import Judge, Judging, load_judge
from evalkit.models.base import sha256
from evalkit.models.prices import Prices
from evalkit.plan import JudgePlan
from evalkit.provenance import code_version, environment
from evalkit.store import Ledger, arena
from judges.fight import Case, Fight, load_cases, load_fights


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
class Judged:
    """What became of it.

    Attributes:
        battles, answers: Given to the judge, of which it sees as many as its plan says.
        without_texts: Battles that cannot be judged: votes that were imported without answers, or failed answers.
        errors: Requests without an answer.
        not_sent: Requests that the dollar budget kept back.
    """

    run_id: int
    battles: int
    answers: int
    without_texts: int
    errors: int
    not_sent: int


def judge_plan(options: Mapping[str, Any], model: Mapping[str, Any] | None) -> JudgePlan:
    """Makes a judge out of command-line options; None is not given.

    Raises:
        UserError: An option is wrong; names it.
    """
    given = {key: value for key, value in options.items() if value not in (None, ())}
    try:
        of = {key: value for key, value in model.items() if value is not None} if model else None
        plan = JudgePlan.model_validate(given | ({"model": of} if of else {}))
    except ValidationError as error:
        first = error.errors()[0]
        message, said = first["msg"].removeprefix("Value error, "), first["input"]
        if first["loc"]:
            message = f"--{str(first['loc'][-1]).replace('_', '-')}: {message}"
            message += "" if repr(said) in message else f", not {said!r}"
        raise UserError(message, code=2) from error
    return plan


def default_name(model: str | None, prompt: str | None) -> str:
    """Returns what tables call a judge without a name: its model and prompt, or the verifier."""
    return f"{model} {Path(prompt or 'pairwise-v1').stem}" if model else "verifier"


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
    with tempfile.TemporaryDirectory(prefix="evalkit-") as folder, Ledger.open(str(Path(folder) / "dry.db")) as scratch:
        run_id = scratch.start_run("dry", {}, seed=chosen.seed, environment={})
        counter = Counter(scratch, run_id, ledger)
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
        UserError: The judge's model, prompt or criteria do not exist or do not fit, or there is nothing to judge.
        KeyboardInterrupt: Ctrl-C; what was answered is stored.
    """
    judge, table = load_judge(plan), Prices.load(prices)
    if judge.model is not None and dollars is not None and table.estimate(judge.model.settings, 1, 1) is None:
        raise UserError(
            f"--dollars: the limit cannot be kept, for the price of {judge.model.settings.name} is unknown: add it to "
            "a price list (0 for a server of your own) and name that by --prices",
            code=2,
        )
    fights, cases, without = find(ledger, judge, chosen)
    snapshot = {
        "judges": [plan.model_dump(mode="json")],
        "datasets": list(chosen.datasets),
        "voted": chosen.voted,
        "resolved": {"judges": [sha256(dict(judge.definition()))], "code": code_version()},
    }
    run_id = ledger.start_run(f"judge {plan.name}", snapshot, seed=chosen.seed, environment=environment())
    ledger.update_run(run_id, stage="judge")
    budget = Budget(dollars=dollars)
    try:
        with Engine(ledger, run_id, budget=budget, prices=table, progress=progress) as engine:
            judging = Judging(ledger, run_id, engine, chosen.seed)
            judging.judge(judge, fights, cases)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        said = (
            "stopped by Ctrl-C; the same command goes on from here" if stopped else f"{type(error).__name__}: {error}"
        )
        ledger.finish_run(run_id, "stopped" if stopped else "failed", said)
        raise
    errors = arena.count_errors(ledger, run_id)
    ledger.finish_run(run_id, "failed" if errors or judging.not_sent else "done", _message(errors, judging.not_sent))
    return Judged(run_id, len(fights), len(cases), without, errors, judging.not_sent)


def _message(errors: int, not_sent: int) -> str:
    said = [f"{errors} requests failed; the same command tries them again"] if errors else []
    said += [f"{not_sent} requests were not sent: the dollar budget is used up"] if not_sent else []
    return "; ".join(said)


def criteria_of(given: Sequence[str]) -> tuple[str, ...]:
    """Returns criteria as options give them: several options, or names with commas."""
    return tuple(name.strip() for one in given for name in one.split(",") if name.strip())
