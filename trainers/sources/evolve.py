"""New prompts that a model writes: a task made harder (depth), a like task (breadth), a question that a text answers.

Evol-Instruct (Xu et al. 2023, WizardLM) and instruction back-translation (Li et al. 2023, Humpback), in our own words.
A model's prompt has no check, so it gets an instruction whose constraints can be checked, as the slice's items have;
where the slice has none, a judge must accept the answer.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.errors import UserError
from evalkit.verify import verify
from trainers.asking import Prompt
from trainers.rows import said, user
from trainers.sources import constraints
from trainers.sources.forms import seeded
from trainers.sources.keeping import keep
from trainers.sources.made import Made
from trainers.sources.templates import Task, Values, tasks
from trainers.sources.text import passages

if TYPE_CHECKING:
    from trainers.material import Material
    from trainers.plan import SourcePlan

DEPTH = "Make this task a little harder by one more detail or condition. Write only the new task.\n\nTask: {}"
BREADTH = "Write one new task of the same kind as this one, about something else. Write only the new task.\n\nTask: {}"
QUESTION = "Which question does this text answer? Write only the question.\n\nText: {}"
CLOSE = 0.5
"""Cosine from which on a question is taken to be about a text."""
LONGEST = 60


def evolved(material: Material, source: SourcePlan, n: int) -> list[Made]:
    """Has a model write n new tasks, half in depth and half in breadth, and answers them."""
    asker = material.answerer(source)
    seeds = _seeds(material, n)
    orders = [Prompt(tuple(user((DEPTH, BREADTH)[place % 2].format(seed)))) for place, seed in enumerate(seeds)]
    written = asker.ask(orders, f"{asker.name}: evolved prompts", temperature=material.plan.recipe.temperature)
    new = [task for answers in written for one in answers if (task := _task(one.text))]
    return _answered(material, source, list(dict.fromkeys(task for task in new if task not in seeds)), "evolve")


def backtranslated(material: Material, source: SourcePlan, n: int) -> list[Made]:
    """Has a model write the question that a passage of raw text answers; the passage becomes the answer.

    Accepted where question and passage are close (cosine of their embeddings at least `CLOSE`), and the passage, put
    into the form that the slice asks for, keeps its constraints.
    """
    from evalkit.slices.embed import embed

    asker = material.answerer(source)
    texts = passages(Path(source.path or ""), LONGEST)[:n]
    orders = [Prompt(tuple(user(QUESTION.format(text)))) for text in texts]
    written = asker.ask(orders, f"{asker.name}: back-translation")
    pairs = [(task, text) for answers, text in zip(written, texts, strict=True) for one in answers
             if (task := _task(one.text))]  # fmt: skip
    if not pairs:
        return []
    vectors = embed([text for pair in pairs for text in pair])
    values = Values(_rng(material, "backtranslate"), material.avoid)
    free = [item for item in material.items if constraints.known(item)]
    found = []
    for place, (task, text) in enumerate(pairs):
        cosine = float(vectors[2 * place] @ vectors[2 * place + 1])
        if cosine < CLOSE:
            continue
        reason = f"question and text are close ({cosine:.2f})"
        if not free:
            found.append(Made(task, None, text, "backtranslate", reason))
            continue
        instruction = constraints.instruct(values.rng.choice(free), Task(task, ""), values)
        if instruction is None:
            continue
        spec = {"verifier": "constraints", "constraints": [dict(one) for one in instruction.constraints]}
        changed = keep(text, instruction.constraints)
        check = verify(spec, changed) if changed else None
        if changed and check is not None and check.passed:
            found.append(
                Made(f"{task} {instruction.text}", spec, changed, "backtranslate", f"{reason}; {check.reason}", task)
            )
    return found


def _answered(material: Material, source: SourcePlan, new: list[str], way: str) -> list[Made]:
    """Gives new tasks an instruction with a check and an answer that passes it, or an answer that a judge accepts."""
    asker = material.answerer(source)
    free = [item for item in material.items if constraints.known(item)]
    if free:
        values = Values(_rng(material, way), material.avoid)
        worded = [(task, constraints.instruct(values.rng.choice(free), Task(task, ""), values)) for task in new]
        prompts, kept = [], []
        for task, instruction in worded:
            if instruction is None:
                continue
            spec = {"verifier": "constraints", "constraints": [dict(one) for one in instruction.constraints]}
            prompts += [Prompt(tuple(user(task))), Prompt(tuple(user(f"{task} {instruction.text}")), spec)]
            kept.append((task, instruction, spec))
        answers = iter(asker.ask(prompts, f"{asker.name}: answers to them"))
        found = []
        for (task, instruction, spec), bare, own in ((one, next(answers), next(answers)) for one in kept):
            text = f"{task} {instruction.text}"
            if own and own[0].passed and not own[0].cut:
                found.append(Made(text, spec, own[0].text, way, "own answer keeps the constraints", task, own=True,
                                  response_id=own[0].response_id))  # fmt: skip
                continue
            changed = keep(bare[0].text, (*instruction.also, *instruction.constraints)) if bare else None
            check = verify(spec, changed) if changed else None
            if changed and check is not None and check.passed:
                found.append(Made(text, spec, changed, way, f"plain answer, changed: {check.reason}", task,
                                  response_id=bare[0].response_id))  # fmt: skip
        return found
    if material.grader is None:
        raise UserError(
            f"recipe: {way} makes prompts without a check here, so a judge must accept the answers: give "
            "recipe.filters.judge",
            code=2,
        )
    answers_of = asker.ask([Prompt(tuple(user(task))) for task in new], f"{asker.name}: answers to them")
    answered = [(task, one[0]) for task, one in zip(new, answers_of, strict=True) if one]
    grades = material.grader([one.response_id for _, one in answered])
    least = material.plan.recipe.filters.min_score
    return [
        Made(task, None, one.text, way, f"judge: {grades[one.response_id]:.2f}", own=True, response_id=one.response_id)
        for task, one in answered
        if grades.get(one.response_id, 0.0) >= least
    ]


def _seeds(material: Material, n: int) -> list[str]:
    """Returns tasks to evolve: the prompts of the slice's items, without instructions that they share, then ours."""
    parted = constraints.split(material.items)
    own = [parted[item.id][0] if item.id in parted else said(item.messages[-1:]) for item in material.items]
    ours = [task.text for task in tasks()]
    rng = _rng(material, "seeds")
    rng.shuffle(ours)
    every = list(dict.fromkeys([*own, *ours]))
    return every[:n]


def _task(text: str) -> str:
    """Returns the task in a model's answer: its first paragraph, without a heading; "" if it is none."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    first = re.sub(r"^(?:new )?(?:task|question)\s*:\s*", "", first, flags=re.IGNORECASE).strip("\"'“”* ")
    return first if 3 <= len(first.split()) <= 60 else ""


def _rng(material: Material, what: str) -> random.Random:
    return seeded(material.seed, what)
