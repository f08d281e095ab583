"""What a plan would take: requests, tokens and dollars by model, without sending any."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from evalkit.engine import Engine, Job, Outcome
from evalkit.errors import UserError
from evalkit.models.base import ChatModel, Request, RequestFailed, request_key
from evalkit.models.load import sampling
from evalkit.plan import Plan
from evalkit.stages import PROMPTS, PlanRun
from evalkit.store import Ledger, schema

CHARACTERS_PER_TOKEN = 4  # the usual rule of thumb for English; what is really paid is counted by the endpoint
DEFAULT_MAX_TOKENS = 512


@dataclass(slots=True)
class Estimate:
    """What one model would be asked.

    Attributes:
        requests: To be sent.
        cached: Answered by the ledger already.
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
    """An engine that counts what it is asked to send. What is counted is looked up in the real ledger first."""

    def __init__(self, scratch: Ledger, run_id: int, real: Ledger | None) -> None:
        super().__init__(scratch, run_id, offline=True)
        self.real = real
        self.rows: dict[str, Estimate] = {}

    def run(self, model: ChatModel, jobs: Sequence[Job], *, label: str = "") -> list[Outcome]:
        """Counts jobs; each outcome is that nothing was sent."""
        row = self.rows.setdefault(model.settings.label, Estimate(model.settings.label, "contestant"))
        bodies = {request_key(body := job.request.body(model.settings)): (body, job.request) for job in jobs}
        known = self.real.find_responses(list(bodies)) if self.real else {}
        row.cached += len(known)
        for key, (body, request) in bodies.items():
            if key not in known:
                effective = request.effective(model.settings)
                row.requests += 1
                row.prompt_tokens += len(body) // CHARACTERS_PER_TOKEN
                limit = effective.sampling.max_tokens or DEFAULT_MAX_TOKENS
                row.completion_tokens += 0 if request.pairs else limit
        return [Outcome(None, RequestFailed("missing", "nothing is sent in a dry run"), False, None)] * len(jobs)


def estimate(plan: Plan) -> list[Estimate]:
    """Counts what a plan would send.

    Battles are counted as if every contestant answers every prompt; a judge's prompt is taken to hold two answers of
    half their limit.

    Raises:
        UserError: The plan names a model, task or file that does not exist.
    """
    with tempfile.TemporaryDirectory(prefix="evalkit-") as folder, Ledger.open(str(Path(folder) / "dry.db")) as scratch:
        run = PlanRun(plan, scratch)
        run.run_id = scratch.start_run(plan.name, {}, seed=plan.seed, environment={})
        run.model_ids = scratch.add_models([m.settings for m in run.models])
        real = _existing(plan.store)
        counter = Counter(scratch, run.run_id, real)
        run.engine = counter
        run.answer_all()
        rows = list(counter.rows.values())
        for row, model in zip(rows, [m for m in run.models if m.settings.label in counter.rows], strict=True):
            row.dollars = run.prices.estimate(model.settings, row.prompt_tokens, row.completion_tokens)
        rows += _judges(run, plan, scratch)
        if real is not None:
            real.close()
    return rows


def _existing(url: str) -> Ledger | None:
    if "://" not in url and not Path(url).exists():
        return None
    try:
        return Ledger.open(url, create=False)
    except UserError as error:
        raise UserError(f"store: {error}") from error


def _judges(run: PlanRun, plan: Plan, scratch: Ledger) -> list[Estimate]:
    names = [*plan.arena.tasks, *([PROMPTS] if plan.arena.prompts else [])]
    dataset, link, item = schema.Dataset, schema.DatasetItem, schema.Item
    query = sa.select(item.messages).join(link, link.item_id == item.id).join(dataset, dataset.id == link.dataset_id)
    with scratch.engine.connect() as connection:
        prompts = [len(str(row[0])) for row in connection.execute(query.where(dataset.name.in_(names)))]
    pairs = len(list(itertools.combinations(run.models, 2)))
    battles = min(len(prompts) * pairs, plan.arena.battles or 10**12)
    rows = []
    for judge in plan.judges:
        if judge.model is None or not prompts:
            continue
        from judges.prompt import load_prompt

        prompt = load_prompt(judge.prompt)
        model = run.judge_models[judge.name]
        seen = min(battles, judge.battles or battles)
        requests = seen * (2 if judge.orders == "both" else 1)
        frame = sum(len(m["content"]) for m in prompt.render("", "", "")) + sum(prompts) // len(prompts)
        answers = plan.arena.sampling.max_tokens or DEFAULT_MAX_TOKENS
        tokens_in = requests * (frame // CHARACTERS_PER_TOKEN + answers)
        limit = Request(sampling=sampling(prompt.sampling)).effective(model.settings).sampling.max_tokens
        tokens_out = requests * (limit or DEFAULT_MAX_TOKENS)
        dollars = run.prices.estimate(model.settings, tokens_in, tokens_out)
        rows.append(Estimate(model.settings.label, f"judge {judge.name}", requests, 0, tokens_in, tokens_out, dollars))
    return rows
