"""Answers to own prompts: turn after turn, each model going on from its own answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evalkit.engine import Engine, Job, NotSent, Outcome
from evalkit.models.base import ChatModel, Message, Request, Sampling
from evalkit.store import Item
from evalkit.store.arena import user_turns


class Assumed(NotSent):
    """What a dry run takes for an answer that is not there yet."""

    def __init__(self, text: str) -> None:
        super().__init__("missing", "nothing is sent in a dry run")
        self.text = text


def answer_prompts(
    engine: Engine, model: ChatModel, model_id: int, dataset_id: int, items: Mapping[int, Item], sampling: Sampling
) -> int:
    """Has a model answer prompts; a conversation ends at its last turn, or at one that got no answer.

    Args:
        engine: Of the run.
        model: Who answers.
        model_id: Its row.
        dataset_id: The prompts' dataset.
        items: Prompts by id.
        sampling: For the answers.

    Returns:
        Requests that a budget kept back.
    """
    not_sent = 0
    turns = {item_id: user_turns(item.messages) for item_id, item in items.items()}
    talks: dict[int, tuple[Message, ...]] = dict.fromkeys(items, ())
    for turn in range(1, max(map(len, turns.values()), default=0) + 1):
        talks = {i: (*said, *_next_turn(items[i].messages, turns[i], turn)) for i, said in talks.items()}
        jobs = [
            Job(model_id, item_id, dataset_id, Request(messages=messages, sampling=sampling), turn)
            for item_id, messages in talks.items()
        ]
        label = f"{model.settings.label}: prompts" + (f", turn {turn}" if turn > 1 else "")
        outcomes = engine.run(model, jobs, label=label)
        not_sent += sum(outcome.response_id is None for outcome in outcomes)
        answers = dict(zip(talks, map(_text_of, outcomes), strict=True))
        talks = {
            item_id: (*messages, {"role": "assistant", "content": text})
            for item_id, messages in talks.items()
            if (text := answers[item_id]) is not None and turn < len(turns[item_id])
        }
    return not_sent


def _next_turn(messages: Sequence[Message], turns: Sequence[str], turn: int) -> tuple[Message, ...]:
    """Returns what an item adds to a conversation at a turn: all up to its first question, then a user turn each."""
    if len(turns) <= 1:
        return tuple(messages)
    head = tuple(m for m in messages if m["role"] != "user") if turn == 1 else ()
    return (*head, {"role": "user", "content": turns[turn - 1]})


def _text_of(outcome: Outcome) -> str | None:
    if isinstance(outcome.result, Assumed):
        return outcome.result.text
    return outcome.reply.text if outcome.reply else None
