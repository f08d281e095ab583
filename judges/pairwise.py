"""The LLM judge of pairs: asks a model which answer is better, in both orders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evalkit.models import ChatModel
from evalkit.store import VerdictRow
from evalkit.store.rows import Winner
from judges.asking import Asked, Hearing
from judges.criteria import Criterion
from judges.fight import Fight, Order, drawn
from judges.prompt import JudgePrompt, Side, definition

Orders = Literal["both", "random"]


@dataclass(frozen=True, slots=True)
class Question:
    """A battle as it is shown once."""

    fight: Fight
    order: Order
    asked: Asked


def annotator_definition(model: ChatModel, prompt: JudgePrompt, criteria: Sequence[Criterion]) -> Mapping[str, Any]:
    """Returns what an LLM judge is, of pairs or of single answers: its model's settings, its prompt, its criteria."""
    return {"kind": "llm", "model": model.settings.identity(), "prompt": definition(prompt, criteria)}


def questions(
    fights: Sequence[Fight],
    prompt: JudgePrompt,
    criteria: Sequence[Criterion],
    *,
    orders: Orders,
    replicates: int = 1,
    seed: int,
) -> Iterator[Question]:
    """Yields what a judge is asked: each battle in both orders, or in one drawn with the seed.

    Args:
        fights: Battles.
        prompt: Says which criteria go into one request.
        criteria: What is judged.
        orders: random: each battle once, in an order that battle and seed decide.
        replicates: How often each is asked.
        seed: Of the orders.
    """
    groups = prompt.groups(criteria)
    for fight in fights:
        shown: tuple[Order, ...] = ("ab", "ba") if orders == "both" else (_coin(fight, seed),)
        for order in shown:
            material = fight.material(order)
            for group in groups:
                for replicate in range(replicates):
                    yield Question(fight, order, Asked(fight.item_id, material, group, replicate))


def verdicts(asked: Sequence[Question], hearing: Hearing, annotator_id: int) -> list[VerdictRow]:
    """Returns a verdict for each question and criterion; failed and unreadable ones carry an error and no winner.

    Questions that were not sent give none.
    """
    rows = []
    for question, told in zip(asked, hearing.heard, strict=True):
        for heard in told or ():
            reading = heard.reading
            probability = reading.probability
            if probability is not None and question.order == "ba":
                probability = 1.0 - probability
            rows.append(
                VerdictRow(
                    question.fight.battle_id,
                    annotator_id,
                    question.order,
                    None if reading.error else _winner(reading.side, question.order),
                    criterion=reading.criterion,
                    replicate=question.asked.replicate,
                    probability=probability,
                    rationale=reading.rationale,
                    error=reading.error,
                    seconds=heard.seconds,
                    response_id=heard.response_id,
                )
            )
    return rows


def _coin(fight: Fight, seed: int) -> Order:
    """Draws which answer is shown first; by the texts, for which one is `a` hangs on the ledger."""
    a, b = (drawn(seed, f"{fight.draw_key} {text}") for text in (fight.a, fight.b))
    return "ab" if a < b else "ba"


def _winner(side: Side | None, order: Order) -> Winner | None:
    if side == "first":
        return "model_a" if order == "ab" else "model_b"
    if side == "second":
        return "model_b" if order == "ab" else "model_a"
    return side
