"""The LLM judge of pairs: asks a model which answer is better, in both orders."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from evalkit.engine import Engine, Job
from evalkit.models import ChatModel, Reply, Request
from evalkit.models.load import sampling
from evalkit.store import VerdictRow
from evalkit.store.rows import Winner
from judges.fight import Fight
from judges.prompt import JudgePrompt, Side, definition

Order = Literal["ab", "ba"]


def annotator_definition(model: ChatModel, prompt: JudgePrompt) -> Mapping[str, Any]:
    """Returns what a judge is: its model's settings and its prompt."""
    return {"kind": "llm", "model": model.settings.identity(), "prompt": definition(prompt)}


def draw(fights: Sequence[Fight], limit: int | None, seed: int) -> list[Fight]:
    """Draws the battles that a judge sees; all of them without a limit."""
    if limit is None or limit >= len(fights):
        return list(fights)
    chosen = sorted(random.Random(seed).sample(range(len(fights)), limit))
    return [fights[i] for i in chosen]


def requests(
    fights: Sequence[Fight], prompt: JudgePrompt, *, orders: Literal["both", "random"], seed: int
) -> list[tuple[Fight, Order, Request]]:
    """Returns what a judge is asked: each battle in both orders, or in one drawn with the seed."""
    coin = random.Random(seed)
    asked: list[tuple[Fight, Order, Request]] = []
    for fight in fights:
        both: tuple[Order, ...] = ("ab", "ba")
        for order in both if orders == "both" else (coin.choice(both),):
            first, second = (fight.text_a, fight.text_b) if order == "ab" else (fight.text_b, fight.text_a)
            messages = prompt.render(fight.prompt, first, second)
            asked.append((fight, order, Request(messages=messages, sampling=sampling(prompt.sampling))))
    return asked


def judge(
    engine: Engine,
    model: ChatModel,
    model_id: int,
    dataset_id: int,
    annotator_id: int,
    prompt: JudgePrompt,
    asked: Sequence[tuple[Fight, Order, Request]],
    *,
    label: str,
) -> list[VerdictRow]:
    """Asks a judge and reads its verdicts.

    Args:
        engine: Of the run.
        model: The judge's model.
        model_id: Its row.
        dataset_id: The dataset that its own answers are filed under.
        annotator_id: The judge's row.
        prompt: Reads the answers.
        asked: As `requests` made it.
        label: Of the progress bar.

    Returns:
        A verdict for each request; failed requests and unreadable answers carry an error and no winner. Requests that
        were not sent (budget) give none.
    """
    jobs = [Job(model_id, fight.item_id, dataset_id, request) for fight, _, request in asked]
    verdicts = []
    for (fight, order, _), outcome in zip(asked, engine.run(model, jobs, label=label), strict=True):
        if outcome.response_id is None:
            continue
        winner, error, seconds = None, None, None
        if isinstance(outcome.result, Reply):
            side = prompt.read(outcome.result.text)
            winner, seconds = _winner(side, order), outcome.result.seconds
            if side is None:
                error = f"no verdict in the judge's answer (pattern {prompt.pattern})"
        else:
            error = f"{outcome.result.kind}: {outcome.result.message}"
        verdicts.append(
            VerdictRow(
                fight.battle_id,
                annotator_id,
                order,
                winner,
                criterion=prompt.criterion,
                error=error,
                seconds=seconds,
                response_id=outcome.response_id,
            )
        )
    return verdicts


def _winner(side: Side | None, order: Order) -> Winner | None:
    if side == "first":
        return "model_a" if order == "ab" else "model_b"
    if side == "second":
        return "model_b" if order == "ab" else "model_a"
    return side
