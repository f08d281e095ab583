"""Reading a prompt's file, and trying it out before anything is asked with it."""

from __future__ import annotations

import re
from pathlib import Path

from evalkit.errors import UserError
from evalkit.yaml_file import read_yaml
from judges.material import Material
from judges.prompt import FOLDER, JudgePrompt

TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)[^<>]*>")
PROMPT, ANSWERS = "\x01prompt\x01", ("\x01first\x01", "\x01second\x01")


def read_prompt(name: str) -> JudgePrompt:
    """Reads a prompt by its name in judges/prompts, or by its path.

    Raises:
        UserError: There is none, or the file is wrong; names file, line and field.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise UserError(f"no judge prompt {name!r}; there are: {known}, or give a path ending in .yaml", code=2)
    empty = "a prompt is a mapping with the keys name, kind, criteria, messages and answer"
    prompt = read_yaml(path, JudgePrompt, "the prompt", empty=empty, context={"folder": path.parent})
    try:
        for turns in (1, 2):
            for criteria in prompt.groups(prompt.criteria):
                _try_out(prompt, turns, criteria)
    except UserError as error:
        raise UserError(f"{path}: {error}", code=2) from error
    return prompt


def _try_out(prompt: JudgePrompt, turns: int, criteria: tuple[object, ...]) -> None:
    """Renders a conversation of so many turns and looks whether all that is judged is shown, and between tags."""
    shown = ANSWERS if prompt.kind == "pairwise" else ANSWERS[:1]
    material = Material(
        (PROMPT,) * turns, tuple((text,) * turns for text in shown), ("r",) * turns, checklist=("Is it?",)
    )
    request = prompt.request(material, criteria)  # type: ignore[arg-type]
    texts = [str(message["content"]) for message in request.messages]
    for text, what in zip((PROMPT, *shown), ("prompt", *_answers(prompt)), strict=True):
        if sum(t.count(text) for t in texts) < turns:
            raise UserError(f"messages: not every turn of {what} is shown; put {{{{ {what} }}}} into one of them")
        if not all(_fenced(t, at.start()) for t in texts for at in re.finditer(text, t)):
            raise UserError(
                f"messages: {what} must stand between tags, as <{what}> {{{{ {what} }}}} </{what}>, for the judge to "
                "see where it ends"
            )
    if prompt.checklist is not None:
        asked = prompt.checklist_request(material).messages
        if not any(PROMPT in str(message["content"]) for message in asked):
            raise UserError("checklist.messages: the prompt is not shown; put {{ prompt }} into one of them")


def _answers(prompt: JudgePrompt) -> tuple[str, ...]:
    return ("first", "second") if prompt.kind == "pairwise" else ("answer",)


def _fenced(text: str, at: int) -> bool:
    """Whether a tag is open at a place of a text."""
    opened: list[str] = []
    for closing, name in TAG.findall(text[:at]):
        if not closing:
            opened.append(name)
        elif name in opened:
            del opened[opened.index(name) :]
    return any(f"</{name}>" in text[at:] for name in opened)
