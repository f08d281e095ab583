"""Checklists: yes/no questions about the answers to an item, brought along by it or asked of the judge once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.engine import Engine, Job, Outcome
from evalkit.models import ChatModel, Reply, Request
from judges.fight import Case, checklist_of
from judges.material import Material
from judges.prompt import JudgePrompt

ASSUMED = tuple(f"Question {n} about what the answer must have or must do?" for n in range(1, 9))
"""What a dry run takes for a checklist that nobody has asked for yet."""

Topic = tuple[int, tuple[str, ...]]
"""What a checklist is about: an item, and the user's turns up to the judged one."""


@dataclass(frozen=True, slots=True)
class Checklist:
    """One item's questions, or why there are none.

    Attributes:
        response_id: The judge's answer that they were read from; None for an item's own.
    """

    questions: tuple[str, ...] = ()
    error: str = ""
    response_id: int | None = None


def topic(case: Case) -> Topic:
    """Returns what an answer's checklist is about."""
    return case.item_id, case.turns


def checklists(
    engine: Engine,
    model: ChatModel,
    model_id: int,
    dataset_id: int,
    prompt: JudgePrompt,
    cases: Sequence[Case],
    *,
    label: str,
) -> tuple[dict[Topic, Checklist], int]:
    """Gets the checklist of every item: its own, or one that the judge writes without seeing an answer.

    The judge is asked once for an item, whatever the number of answers: its answer is in the ledger, and found there.

    Args:
        engine: Of the run; one that never sends (a dry run) gets assumed checklists for those not in the ledger.
        model: The judge's model.
        model_id: Its row.
        dataset_id: The dataset that its answers are filed under.
        prompt: Asks for checklists and reads them.
        cases: Answers to be graded.
        label: Of the progress bar.

    Returns:
        Checklists by topic, and the number of requests that a budget kept back; their topics are absent.
    """
    found: dict[Topic, Checklist] = {}
    wanted: dict[Topic, Case] = {}
    for case in cases:
        own = checklist_of(case.reference)
        if own:
            found[topic(case)] = Checklist(own)
        else:
            wanted.setdefault(topic(case), case)
    requests = []
    for case in wanted.values():
        shown = case.material()
        requests.append(prompt.checklist_request(Material(shown.turns, (), shown.reference, shown.category)))
    jobs = [
        Job(model_id, case.item_id, dataset_id, request)
        for case, request in zip(wanted.values(), requests, strict=True)
    ]
    not_sent = 0
    again: dict[Topic, Job] = {}
    for about, job, outcome in zip(wanted, jobs, engine.run(model, jobs, label=label) if jobs else [], strict=True):
        if outcome.response_id is None:
            not_sent += 1
            if engine.offline:
                found[about] = Checklist(ASSUMED)
            continue
        found[about] = _read(prompt, outcome, outcome.response_id)
        if outcome.reply is not None and not found[about].questions:
            again[about] = dataclasses.replace(job, request=_repair(job.request, outcome.reply))
    repairs = engine.run(model, list(again.values()), label=f"{label}, asked again") if again else []
    for about, outcome in zip(again, repairs, strict=True):
        if outcome.response_id is None:
            not_sent += 1
        else:
            found[about] = _read(prompt, outcome, outcome.response_id)
    return found, not_sent


def _read(prompt: JudgePrompt, outcome: Outcome, response_id: int) -> Checklist:
    result = outcome.result
    if not isinstance(result, Reply):
        return Checklist((), f"{result.kind}: {result.message}", response_id)
    questions = prompt.read_checklist(result)
    return Checklist(questions or (), "" if questions else "the judge's answer holds no list of questions", response_id)


def _repair(request: Request, reply: Reply) -> Request:
    asked = 'Answer once more with nothing but one JSON object of this form: {"questions": ["...?", "...?"]}'
    said = ({"role": "assistant", "content": reply.text or "(no answer)"}, {"role": "user", "content": asked})
    return dataclasses.replace(request, messages=(*request.messages, *said))
