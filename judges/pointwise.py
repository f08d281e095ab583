"""The LLM judge of single answers: asks a model for a grade."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evalkit.store import GradeRow
from judges.asking import Asked, Hearing
from judges.checklist import Checklist, Topic, topic
from judges.criteria import Criterion
from judges.fight import Case
from judges.prompt import JudgePrompt


@dataclass(frozen=True, slots=True)
class Question:
    """An answer as it is shown once; without a checklist where the prompt needs one and none could be had."""

    case: Case
    asked: Asked
    checklist: Checklist | None


def questions(
    cases: Sequence[Case],
    prompt: JudgePrompt,
    criteria: Sequence[Criterion],
    *,
    replicates: int = 1,
    checklists: Mapping[Topic, Checklist],
) -> Iterator[Question]:
    """Yields what a judge is asked: each answer, once for each replicate and request's criteria.

    Args:
        cases: Answers.
        prompt: Says which criteria go into one request.
        criteria: What is judged.
        replicates: How often each is asked.
        checklists: Where the prompt needs them (see `judges.checklist`); those that could not be had are left out
            here, see `without_checklist`.
    """
    groups = prompt.groups(criteria)
    for case in cases:
        checklist = checklists.get(topic(case)) if prompt.needs_checklist else None
        if prompt.needs_checklist and (checklist is None or checklist.error):
            continue
        material = case.material(checklist.questions if checklist else ())
        for group in groups:
            for replicate in range(replicates):
                yield Question(case, Asked(case.item_id, material, group, replicate), checklist)


def without_checklist(
    cases: Sequence[Case],
    criteria: Sequence[Criterion],
    checklists: Mapping[Topic, Checklist],
    annotator_id: int,
    replicates: int,
) -> list[GradeRow]:
    """Returns error rows for the answers to items whose checklist could not be read."""
    rows = []
    for case in cases:
        checklist = checklists.get(topic(case))
        if checklist is None or not checklist.error:
            continue
        error, detail = f"no checklist: {checklist.error}", {"checklist_response_id": checklist.response_id}
        rows += [
            GradeRow(case.response_id, annotator_id, criterion.name, None, error, replicate, detail)
            for criterion in criteria
            for replicate in range(replicates)
        ]
    return rows


def grades(asked: Sequence[Question], hearing: Hearing, annotator_id: int) -> list[GradeRow]:
    """Returns a grade for each question and criterion; failed and unreadable ones carry an error and no value.

    `detail` holds the judge's `response_id`, `seconds` of model time, and where there are any its `rationale` and
    what the prompt's form reads besides. Questions that were not sent give none.
    """
    rows = []
    for question, told in zip(asked, hearing.heard, strict=True):
        for heard in told or ():
            reading = heard.reading
            detail = dict(reading.detail or {})
            detail |= {"response_id": heard.response_id, "seconds": heard.seconds}
            if reading.rationale is not None:
                detail["rationale"] = reading.rationale
            if question.checklist is not None and question.checklist.response_id is not None:
                detail["checklist_response_id"] = question.checklist.response_id
            rows.append(
                GradeRow(
                    question.case.response_id,
                    annotator_id,
                    reading.criterion,
                    None if reading.error else reading.value,
                    reading.error,
                    question.asked.replicate,
                    detail,
                )
            )
    return rows
