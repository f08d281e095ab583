"""New prompts from constraint templates: a task of ours with an instruction on form, as the items that failed have it.

The instruction is worded as in items of the training half, or in a wording of our own. The answer is the model's own
where it keeps the constraints; else its answer to the task alone, changed until it does.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.store.training import TrainItem
from evalkit.verify import verify
from trainers.asking import Asker, Prompt
from trainers.rows import said, user
from trainers.sources.keeping import ORDER, Constraint, keep, sentences
from trainers.sources.made import Made
from trainers.sources.templates import Task, Values, tasks, templates

_END = re.compile(r"(?<=[.!?…\"”])\s+(?=[A-ZÄÖÜ\"“])")
OWN_WORDING = 0.5
"""Share of the prompts whose instruction has a wording of ours, where items have wordings that can be taken over."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """What is asked of the form.

    Attributes:
        constraints: That its check has.
        also: Constraints that the wording asks for and the check leaves out.
    """

    text: str
    constraints: tuple[Constraint, ...]
    also: tuple[Constraint, ...] = ()


def constraints_of(item: TrainItem) -> list[Constraint]:
    """Returns an item's constraints; none if it is checked otherwise."""
    spec = item.verify or {}
    return list(spec["constraints"]) if spec.get("verifier") == "constraints" else []


def known(item: TrainItem) -> bool:
    """Whether any of an item's constraints has a template."""
    return any(one["kind"] in templates()["instructions"] and one["kind"] in ORDER for one in constraints_of(item))


def split(items: Sequence[TrainItem]) -> dict[int, tuple[str, str]]:
    """Parts the prompts of items into task and instruction: sentences that two or more items share are an instruction.

    Returns:
        By item id, of the items where both parts are there.
    """
    parts = {item.id: _END.split(said(item.messages[-1:])) for item in items}
    count = Counter(sentence for found in parts.values() for sentence in set(found))
    both = {}
    for key, found in parts.items():
        shared = [sentence for sentence in found if count[sentence] > 1]
        task = [sentence for sentence in found if count[sentence] == 1]
        if shared and task:
            both[key] = (" ".join(task), " ".join(shared))
    return both


def wordings(items: Sequence[TrainItem]) -> list[Instruction]:
    """Returns the instructions that can be put to other tasks: those whose items all have the very same constraints."""
    found: defaultdict[str, list[list[Constraint]]] = defaultdict(list)
    by_id = {item.id: item for item in items}
    for key, (_, instruction) in split(items).items():
        found[instruction].append(constraints_of(by_id[key]))
    return [
        Instruction(text, tuple(checks[0]), _also(text))
        for text, checks in sorted(found.items())
        if checks[0] and all(one == checks[0] for one in checks) and {str(c["kind"]) for c in checks[0]} <= set(ORDER)
    ]


def _also(text: str) -> tuple[Constraint, ...]:
    return ({"kind": "max_sentences", "value": 1},) if re.search(r"\bone[- ]sentence", text, re.IGNORECASE) else ()


def instruct(item: TrainItem, task: Task, values: Values) -> Instruction | None:
    """Words an item's constraints (two at most) anew, for another task."""
    kinds = [one for one in constraints_of(item) if one["kind"] in templates()["instructions"] and one["kind"] in ORDER]
    if not kinds:
        return None
    chosen = sorted(values.rng.sample(kinds, min(len(kinds), 2)), key=lambda one: ORDER.index(one["kind"]))
    fitted = [_fitted(one, task, values) for one in chosen]
    texts = []
    for one in fitted:
        fields = {k: v for k, v in one.items() if k not in ("kind", "keys")}
        keys = " and ".join(f'"{key}"' for key in one.get("keys", []))
        wording = str(values.rng.choice(templates()["instructions"][one["kind"]]))
        texts.append(wording.format(**fields, keys=keys) if "{" in wording else wording)
    return Instruction(" ".join(texts), tuple(fitted), ({"kind": "max_sentences", "value": 2},))


def _fitted(one: Constraint, task: Task, values: Values) -> Constraint:
    """Gives a constraint's fields values that fit another task."""
    kind = one["kind"]
    if kind == "must_include":
        return {"kind": kind, "keyword": task.word.split()[-1]}
    if kind in ("starts_with", "ends_with") and values.rng.random() < 0.5:
        return {"kind": kind, "phrase": values.rng.choice(templates()["phrases"][kind])}
    if kind == "json_object" and len(one.get("keys") or []) != 1:
        return {"kind": kind, "keys": [values.rng.choice(templates()["keys"])]}
    if kind == "max_words":
        return {"kind": kind, "value": max(12, int(one["value"]))}
    return dict(one)


def made_like(items: Sequence[TrainItem], n: int, values: Values, asker: Asker) -> list[Made]:
    """Makes new prompts with the constraints of items, and answers that keep them.

    Args:
        items: That failed.
        n: How many prompts are tried; answers that cannot be made to keep the constraints are left out.
        values: Decides what is drawn.
        asker: The model that answers.
    """
    like = [item for item in items if known(item)]
    if not like:
        return []
    taken = wordings(like)
    asked: dict[str, tuple[Task, Instruction]] = {}
    every = tasks()
    values.rng.shuffle(every)
    for place in range(3 * n):
        task = every[place % len(every)]
        if taken and values.rng.random() >= OWN_WORDING:
            instruction: Instruction | None = values.rng.choice(taken)
        else:
            instruction = instruct(values.rng.choice(like), task, values)
        if instruction is not None:
            before = values.rng.random() < 0.15
            text = f"{instruction.text} {task.text}" if before else f"{task.text} {instruction.text}"
            asked.setdefault(text, (task, instruction))
        if len(asked) == n:
            break
    specs = {
        text: {"verifier": "constraints", "constraints": [dict(c) for c in instruction.constraints]}
        for text, (_, instruction) in asked.items()
    }
    plain = list(dict.fromkeys(task.text for task, _ in asked.values()))
    prompts = [Prompt(tuple(user(text))) for text in plain]
    prompts += [Prompt(tuple(user(text)), specs[text]) for text in asked]
    answers = asker.ask(prompts, f"{asker.name}: new prompts")
    to_task = dict(zip(plain, answers, strict=False))
    found = []
    for (text, (task, instruction)), own in zip(asked.items(), answers[len(plain) :], strict=True):
        one = own[0] if own else None
        if one is not None and one.check and one.passed and not one.cut and _tidy(one.text, instruction):
            found.append(Made(text, specs[text], one.text, "constraints", f"own answer: {one.check.reason}", task.text,
                              own=True, response_id=one.response_id))  # fmt: skip
            continue
        bare = to_task[task.text][0] if to_task[task.text] else None
        changed = (
            keep(bare.text, (*instruction.also, *instruction.constraints), task.word) if bare is not None else None
        )
        check = verify(specs[text], changed) if changed else None
        if bare is not None and changed and check is not None and check.passed:
            found.append(Made(text, specs[text], changed, "constraints", f"plain answer, changed: {check.reason}",
                              task.text, response_id=bare.response_id))  # fmt: skip
    return found


def _tidy(text: str, instruction: Instruction) -> bool:
    """Whether an answer also keeps what the wording asks for beside the check."""
    limits = [int(one["value"]) for one in instruction.also if one["kind"] == "max_sentences"]
    return not limits or len(sentences(text)) <= max(limits[0], 1) or _is_json(instruction.constraints)


def _is_json(constraints: Sequence[Mapping[str, Any]]) -> bool:
    return any(one["kind"] == "json_object" for one in constraints)
