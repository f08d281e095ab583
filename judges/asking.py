"""Asks a judge: one request for each question, one more where the answer cannot be read, then it is an error."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.engine import Engine, Job, Outcome
from evalkit.models import ChatModel, Reply, Request
from judges.criteria import Criterion
from judges.material import Material
from judges.prompt import JudgePrompt, Reading


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to a judge.

    Attributes:
        item_id: The item of the answers under judgment; the judge's own answer is filed under it.
        criteria: Asked for together, in this request.
        replicate: From 0; each is a draw of its own.
    """

    item_id: int
    material: Material
    criteria: tuple[Criterion, ...]
    replicate: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard on one criterion.

    Attributes:
        response_id: The judge's answer that this was read from; of an error the last that could not be read.
        seconds: Of model time, repair included, shared evenly by the criteria of the request.
    """

    reading: Reading
    response_id: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Hearing:
    """What came of a list of questions.

    Attributes:
        heard: One entry for each question: what was heard on each of its criteria; None if it was not sent.
        not_sent: Requests that a budget kept back, repairs included.
    """

    heard: list[tuple[Heard, ...] | None]
    not_sent: int


def ask(
    engine: Engine,
    model: ChatModel,
    model_id: int,
    dataset_id: int,
    prompt: JudgePrompt,
    asked: Sequence[Asked],
    *,
    label: str,
) -> Hearing:
    """Asks a judge, and once more where an answer cannot be read.

    Args:
        engine: Of the run.
        model: The judge's model.
        model_id: Its row.
        dataset_id: The dataset that its answers are filed under.
        prompt: Makes the requests and reads the answers.
        asked: Questions.
        label: Of the progress bar.

    Returns:
        What was heard. A failed request, or an answer that is unreadable after the repair, is a reading with an
        error; the answers themselves, unreadable ones too, are in the ledger.
    """
    requests = [prompt.request(one.material, one.criteria, one.replicate) for one in asked]

    def send(places: Sequence[int], to_send: Sequence[Request], label: str) -> list[Outcome]:
        jobs = [
            Job(model_id, asked[place].item_id, dataset_id, request)
            for place, request in zip(places, to_send, strict=True)
        ]
        return engine.run(model, jobs, label=label)

    outcomes = send(range(len(asked)), requests, label)
    not_sent = sum(outcome.response_id is None for outcome in outcomes)
    heard = [_heard(prompt, one, outcome) for one, outcome in zip(asked, outcomes, strict=True)]
    unread: list[tuple[int, Asked]] = []
    repairs: list[Request] = []
    for place, (told, outcome) in enumerate(zip(heard, outcomes, strict=True)):
        reply = outcome.reply
        if told is not None and reply is not None and any(h.reading.error for h in told):
            missing = {h.reading.criterion for h in told if h.reading.error}
            wanted = tuple(c for c in asked[place].criteria if c.name in missing)
            unread.append((place, dataclasses.replace(asked[place], criteria=wanted)))
            repairs.append(prompt.repair(requests[place], reply, wanted))
    again = send([place for place, _ in unread], repairs, f"{label}, asked again") if unread else []
    for (place, question), outcome in zip(unread, again, strict=True):
        before, after = heard[place], _heard(prompt, question, outcome)
        if after is None:
            not_sent += 1
        elif before is not None:
            heard[place] = _together(before, after)
    return Hearing(heard, not_sent)


def _heard(prompt: JudgePrompt, asked: Asked, outcome: Outcome) -> tuple[Heard, ...] | None:
    if outcome.response_id is None:
        return None
    result = outcome.result
    if isinstance(result, Reply):
        readings = prompt.read(result, asked.criteria, asked.material.checklist)
        seconds: float | None = result.seconds / len(readings)
    else:
        failure = f"{result.kind}: {result.message}"
        readings = [Reading(criterion.name, error=failure) for criterion in asked.criteria]
        seconds = None
    return tuple(Heard(reading, outcome.response_id, seconds) for reading in readings)


def _together(first: tuple[Heard, ...], again: tuple[Heard, ...]) -> tuple[Heard, ...]:
    """Returns what stands after a repair: what was read at first, else what was read then, else why neither was."""
    repaired = {heard.reading.criterion: heard for heard in again}
    more = sum(heard.seconds or 0.0 for heard in again) / len(first)
    stands = []
    for before in first:
        after = repaired.get(before.reading.criterion)
        seconds = None if before.seconds is None else before.seconds + more
        if after is None:
            stands.append(dataclasses.replace(before, seconds=seconds))
            continue
        reading = after.reading
        if reading.error:
            reading = dataclasses.replace(reading, error=f"{before.reading.error}; asked again: {reading.error}")
        stands.append(Heard(reading, after.response_id, seconds))
    return tuple(stands)
