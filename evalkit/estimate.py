"""What a plan would take: requests, tokens and dollars by model, without sending any."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.answering import Assumed
from evalkit.engine import Engine, Job, NotSent, Outcome, asks_by_batch
from evalkit.errors import UserError
from evalkit.models.base import ChatModel, ModelSettings, Reply, Request, request_key
from evalkit.plan import Plan
from evalkit.stages import PlanRun
from evalkit.store import Ledger, ResponseRow

if TYPE_CHECKING:
    from evalkit.judging import Judge
    from evalkit.models.prices import Prices
    from evalkit.store.rows import StoredResponse
    from judges.fight import Case, Fight

CHARACTERS_PER_TOKEN = 4  # the usual rule of thumb for English; what is really paid is counted by the endpoint
DEFAULT_MAX_TOKENS = 512


@dataclass(slots=True)
class Estimate:
    """What one model would be asked.

    Attributes:
        requests: To be sent.
        cached: Answered by the ledger already, or by then: another of the plan's models or judges asks the same.
        prompt_tokens: About so many.
        completion_tokens: At most so many: all requests up to their limit.
        dollars: At most; None if the model has no price.
        at_most: Whether `requests` is an upper limit: an adaptive jury may leave some out.
    """

    model: str
    role: str
    requests: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float | None = None
    at_most: bool = False


class Counter(Engine):
    """An engine that counts what it is asked to send, after a look into the real ledger.

    Contestants' answers go into a ledger of its own, the real one or a text of half the length allowed, so that battles
    and judging go on from there as they will in the run.

    Attributes:
        role: Whom the next requests are counted for.
        rows: By role and model's label.
    """

    def __init__(self, scratch: Ledger, run_id: int, real: Ledger | None) -> None:
        super().__init__(scratch, run_id, offline=True)
        self.real = real
        self.role = "contestant"
        self.rows: dict[tuple[str, str], tuple[Estimate, ChatModel]] = {}
        self._counted: set[str] = set()

    def run(self, model: ChatModel, jobs: Sequence[Job], *, label: str = "") -> list[Outcome]:
        """Counts jobs; what is not in the ledger is an outcome that was not sent."""
        settings = model.settings
        row, _ = self.rows.setdefault((self.role, settings.label), (Estimate(settings.label, self.role), model))
        bodies = [job.request.body(settings) for job in jobs]
        keys = [request_key(body) for body in bodies]
        known = self.real.find_responses(list(dict.fromkeys(keys))) if self.real else {}
        self._count(row, settings, jobs, bodies, keys, known)
        if self.role != "contestant":
            return [_outcome(known.get(key)) for key in keys]
        replies = [
            known[key].reply if key in known else Reply(_stand_in(key, job.request, settings))
            for key, job in zip(keys, jobs, strict=True)
        ]
        self.ledger.add_responses(
            self.run_id,
            [
                ResponseRow(
                    job.model_id, job.item_id, job.dataset_id, key, body, reply, job.request.sample, turn=job.turn
                )
                for job, key, body, reply in zip(jobs, keys, bodies, replies, strict=True)
            ],
        )
        return [Outcome(None, Assumed(reply.text), False, None) for reply in replies]

    def _count(
        self,
        row: Estimate,
        settings: ModelSettings,
        jobs: Sequence[Job],
        bodies: Sequence[str],
        keys: Sequence[str],
        known: dict[str, StoredResponse],
    ) -> None:
        """Counts distinct requests, as the engine sends them."""
        mine: set[str] = set()
        for key, body, job in zip(keys, bodies, jobs, strict=True):
            if key in mine:
                continue
            mine.add(key)
            if key in known or key in self._counted:
                row.cached += 1
                continue
            row.requests += 1
            row.prompt_tokens += len(body) // CHARACTERS_PER_TOKEN
            row.completion_tokens += _limit(job.request, settings)
        self._counted |= mine

    def estimates(self, prices: Prices) -> list[Estimate]:
        """Returns what was counted, with prices."""
        rows = []
        for row, model in self.rows.values():
            tokens, by_batch = (row.prompt_tokens, row.completion_tokens), asks_by_batch(model)
            dollars = prices.estimate(model.settings, *tokens, batch=by_batch)
            rows.append(dataclasses.replace(row, dollars=dollars))
        return rows


def _outcome(stored: StoredResponse | None) -> Outcome:
    if stored is not None:
        return Outcome(stored.id, stored.reply, True, 0.0)
    return Outcome(None, NotSent("missing", "nothing is sent in a dry run"), False, None)


def _stand_in(key: str, request: Request, settings: ModelSettings) -> str:
    """Returns a text for an answer that is not there yet: like no other, and half as long as it may be."""
    return key.ljust(_limit(request, settings) // 2 * CHARACTERS_PER_TOKEN, ".")


def _limit(request: Request, settings: ModelSettings) -> int:
    """Returns the tokens that an answer may have; a log-likelihood generates none."""
    return 0 if request.pairs else request.effective(settings).sampling.max_tokens or DEFAULT_MAX_TOKENS


def estimate(plan: Plan) -> list[Estimate]:
    """Counts what a plan would send.

    Battles are counted as if every contestant answers every prompt, and no two alike; an answer that is not in the
    ledger yet takes half its limit in a judge's prompt. What judges are asked again, because their answer cannot be
    read, is counted where that answer is in the ledger already. Adaptive juries count as if they asked everything.

    Raises:
        UserError: The plan names a model, task or file that does not exist.
    """
    run = PlanRun(plan)
    run.load_tasks()
    with existing(plan.store) as real, counting(real) as counter:
        run.engine, run.ledger, run.run_id = counter, counter.ledger, counter.run_id
        run.model_ids = run.ledger.add_models([m.settings for m in run.models])
        run.answer_all()
        if run.judges:
            from evalkit.juries import asked_one_by_one

            there = run.pair_answers()
            adaptive = asked_one_by_one(run.juries, run.judges)
            for judge in run.judges:
                fights = there.fights[: adaptive.get(judge.name)]
                count_judge(counter, judge, fights, there.cases, plan.seed, adaptive=judge.name in adaptive)
        return counter.estimates(run.prices)


def count_judge(
    counter: Counter, judge: Judge, fights: Sequence[Fight], cases: Sequence[Case], seed: int, *, adaptive: bool = False
) -> None:
    """Counts what a judge would be asked.

    Args:
        counter: Counts it.
        judge: Of the plan.
        fights: Battles that it sees unless its plan says fewer.
        cases: Answers that it grades unless its plan says fewer.
        seed: Of the draws.
        adaptive: Whether it may be asked less.
    """
    from evalkit.judging import Judging

    counter.role = f"judge {judge.name}"
    Judging(counter.ledger, counter.run_id, counter, seed, record=False).judge(judge, fights, cases)
    for (role, _), (row, _model) in counter.rows.items():
        row.at_most = row.at_most or (adaptive and role == counter.role)


@contextmanager
def counting(real: Ledger | None) -> Iterator[Counter]:
    """Opens a counter with a ledger of its own, which is gone afterwards.

    Args:
        real: Whose answers are not asked for again.
    """
    with tempfile.TemporaryDirectory(prefix="evalkit-") as folder, Ledger.open(str(Path(folder) / "dry.db")) as scratch:
        yield Counter(scratch, scratch.start_run("dry", {}, seed=0, environment={}), real)


@contextmanager
def existing(url: str) -> Iterator[Ledger | None]:
    """Opens a ledger that a dry run may look into; None where there is none yet."""
    if "://" not in url and not Path(url).exists():
        yield None
        return
    try:
        ledger = Ledger.open(url, create=False)
    except UserError as error:
        raise UserError(f"store: {error}") from error
    with ledger:
        yield ledger
