"""What a plan would take: requests, tokens and dollars by model, without sending any."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from evalkit.engine import Engine, Job, Outcome
from evalkit.errors import UserError
from evalkit.models.base import ChatModel, ModelSettings, Request, RequestFailed, request_key
from evalkit.plan import Plan
from evalkit.stages import PROMPTS, PlanRun, prompt_of
from evalkit.store import Ledger, arena, schema
from evalkit.store.rows import StoredResponse
from evalkit.store.writing import chunks

if TYPE_CHECKING:
    from judges.fight import Fight

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
    """

    model: str
    role: str
    requests: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float | None = None


class Counter(Engine):
    """An engine that counts what it is asked to send. What is counted is looked up in the real ledger first.

    Attributes:
        rows: Of contestants, by label.
        answers: (dataset, item, model) to the answer, or what stands for it, and to the tokens it has beyond that.
    """

    def __init__(self, scratch: Ledger, run_id: int, real: Ledger | None) -> None:
        super().__init__(scratch, run_id, offline=True)
        self.real = real
        self.rows: dict[str, Estimate] = {}
        self.answers: dict[tuple[int, int, int], tuple[str, int]] = {}
        self._counted: set[str] = set()

    def run(self, model: ChatModel, jobs: Sequence[Job], *, label: str = "") -> list[Outcome]:
        """Counts jobs; each outcome is that nothing was sent."""
        row = self.rows.setdefault(model.settings.label, Estimate(model.settings.label, "contestant"))
        asked = self.count(row, model.settings, [(job.request, 0) for job in jobs])
        for job, (key, stored) in zip(jobs, asked, strict=True):
            if job.request.sample == 0:
                unwritten = (f"answer {key}", _limit(job.request, model.settings) // 2)
                self.answers[job.dataset_id, job.item_id, job.model_id] = (
                    unwritten if stored is None else (stored.reply.text, 0)
                )
        return [Outcome(None, RequestFailed("missing", "nothing is sent in a dry run"), False, None)] * len(jobs)

    def count(
        self, row: Estimate, settings: ModelSettings, asked: Sequence[tuple[Request, int]]
    ) -> list[tuple[str, StoredResponse | None]]:
        """Counts distinct requests, as the engine sends them.

        Args:
            row: Counts them.
            settings: Whose.
            asked: Requests, and the prompt tokens that each will have beyond its text.

        Returns:
            Request keys, and what the ledger has for them.
        """
        bodies = [request.body(settings) for request, _ in asked]
        keys = [request_key(body) for body in bodies]
        known = self.real.find_responses(list(dict.fromkeys(keys))) if self.real else {}
        mine: set[str] = set()
        for key, body, (request, more) in zip(keys, bodies, asked, strict=True):
            if key in mine:
                continue
            mine.add(key)
            if key in known or key in self._counted:
                row.cached += 1
                continue
            row.requests += 1
            row.prompt_tokens += len(body) // CHARACTERS_PER_TOKEN + more
            row.completion_tokens += _limit(request, settings)
        self._counted |= mine
        return [(key, known.get(key)) for key in keys]


def _limit(request: Request, settings: ModelSettings) -> int:
    """Returns the tokens that an answer may have; a log-likelihood generates none."""
    return 0 if request.pairs else request.effective(settings).sampling.max_tokens or DEFAULT_MAX_TOKENS


def estimate(plan: Plan) -> list[Estimate]:
    """Counts what a plan would send.

    Battles are counted as if every contestant answers every prompt, and no two alike; an answer that is not in the
    ledger yet takes half its limit in a judge's prompt.

    Raises:
        UserError: The plan names a model, task or file that does not exist.
    """
    run = PlanRun(plan)
    run.load_tasks()
    with tempfile.TemporaryDirectory(prefix="evalkit-") as folder, Ledger.open(str(Path(folder) / "dry.db")) as scratch:
        run.ledger = scratch
        run.run_id = scratch.start_run(plan.name, {}, seed=plan.seed, environment={})
        run.model_ids = scratch.add_models([m.settings for m in run.models])
        real = _existing(plan.store)
        try:
            run.engine = counter = Counter(scratch, run.run_id, real)
            run.answer_all()
            rows = {m.settings.label: (counter.rows.get(m.settings.label), m.settings) for m in run.models}
            counted = [(row, settings) for row, settings in rows.values() if row is not None]
            if run.judge_models:
                counted += _judges(run, counter, scratch)
        finally:
            if real is not None:
                real.close()
    for row, settings in counted:
        row.dollars = run.prices.estimate(settings, row.prompt_tokens, row.completion_tokens)
    return [row for row, _ in counted]


def _existing(url: str) -> Ledger | None:
    if "://" not in url and not Path(url).exists():
        return None
    try:
        return Ledger.open(url, create=False)
    except UserError as error:
        raise UserError(f"store: {error}") from error


def _judges(run: PlanRun, counter: Counter, scratch: Ledger) -> list[tuple[Estimate, ModelSettings]]:
    from judges import pairwise

    fights, more = _fights(run.plan, counter, scratch)
    rows = []
    for judge in run.plan.judges if fights else ():
        if judge.name in run.judge_models:
            settings = run.judge_models[judge.name].settings
            row = Estimate(settings.label, f"judge {judge.name}")
            seen = pairwise.draw(fights, judge.battles, run.plan.seed)
            prompt = run.judge_prompts[judge.name]
            asked = pairwise.requests(seen, prompt, orders=judge.orders, seed=run.plan.seed)
            counter.count(row, settings, [(request, more[fight.battle_id]) for fight, _, request in asked])
            rows.append((row, settings))
    return rows


def _fights(plan: Plan, counter: Counter, scratch: Ledger) -> tuple[list[Fight], list[int]]:
    """Pairs answers up as the run will; returns battles, numbered from 0, and by number the tokens still to come."""
    from judges.battles import Answer, pair_up
    from judges.fight import Fight

    names = [*plan.arena.tasks, *([PROMPTS] if plan.arena.prompts else [])]
    with scratch.engine.connect() as connection:
        query = sa.select(schema.Dataset.id).where(schema.Dataset.name.in_(names))
        datasets = set(connection.scalars(query))
    there = {(item, model): said for (data, item, model), said in counter.answers.items() if data in datasets}
    items = _numbers(counter.real, scratch, schema.Item, {item for item, _ in there})
    models = _numbers(counter.real, scratch, schema.Model, {model for _, model in there})
    answers = {(items[item], models[model]): said for (item, model), said in there.items()}
    prompts = {items[i]: prompt_of(found[0]) for i, found in arena.items(scratch, list(items)).items()}
    fights, more = [], []
    pairs = pair_up([Answer(0, item, model) for item, model in answers], limit=plan.arena.battles, seed=plan.seed)
    for number, pair in enumerate(pairs):
        (a, more_a), (b, more_b) = (answers[pair.item_id, m] for m in (pair.model_a_id, pair.model_b_id))
        fights.append(Fight(number, pair.item_id, prompts[pair.item_id], None, a, b))
        more.append(more_a + more_b)
    return fights, more


def _numbers(
    real: Ledger | None, scratch: Ledger, table: type[schema.Item] | type[schema.Model], ids: set[int]
) -> dict[int, int]:
    """Returns the ids that rows have, or will get, in the real ledger: which battles are drawn hangs on their order."""
    if real is None:
        return {i: i for i in ids}
    with scratch.engine.connect() as connection:
        hashes = {i: h for i, h in connection.execute(sa.select(table.id, table.hash)) if i in ids}
    found: dict[str, int] = {}
    with real.engine.connect() as connection:
        for part in chunks(sorted(hashes.values())):
            query = sa.select(table.hash, table.id).where(table.hash.in_(part))
            found.update({h: i for h, i in connection.execute(query)})
        last = connection.scalar(sa.select(sa.func.max(table.id))) or 0
    return {i: found.get(h, last + i) for i, h in hashes.items()}
