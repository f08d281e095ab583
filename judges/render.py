"""From a prompt's templates and a material to messages: Jinja in a sandbox, every judged text fenced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict

from evalkit.errors import UserError
from evalkit.models import Message
from judges.material import Material, conversation, fenced, tag_names

_environment = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, keep_trailing_newline=False, trim_blocks=True, lstrip_blocks=True
)


class Turn(BaseModel):
    """One message of a template."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    role: Literal["system", "user", "assistant"]
    content: str


@cache
def _template(text: str) -> Template:
    return _environment.from_string(text)


@cache
def _tags(templates: tuple[str, ...]) -> frozenset[str]:
    return tag_names(templates)


def prompt_values(
    messages: Sequence[Turn], material: Material, reference: Sequence[str], *, answers: bool = True
) -> dict[str, Any]:
    """Returns what templates may use of a material, with every text fenced.

    Args:
        messages: The templates: the tags that they write are those that no text may write.
        material: One answer gives `answer`, two give `first` and `second`: a text for one turn, the turns between tags
            for several. `turns` has the same turn by turn.
        reference: Reference answers to show.
        answers: Whether the answers are among the values.
    """
    tags = _tags(tuple(turn.content for turn in messages))

    def safe(texts: Sequence[str]) -> list[str]:
        return [fenced(text, tags) for text in texts]

    asked, right = safe(material.turns), safe(reference)
    names = ("answer",) if len(material.answers) == 1 else ("first", "second")
    shown = dict(zip(names, map(safe, material.answers), strict=True)) if answers else {}
    turns = [
        {"number": i + 1, "prompt": text, "reference": right[i] if i < len(right) else ""}
        | {name: texts[i] if i < len(texts) else "" for name, texts in shown.items()}
        for i, text in enumerate(asked)
    ]
    return {
        "prompt": conversation(asked),
        "reference": conversation(right[: len(asked)]) if any(right) else "",
        "turns": turns,
        "category": fenced(material.category, tags),
        "checklist": safe(material.checklist),
        **{name: conversation(texts) for name, texts in shown.items()},
    }


def render(messages: Sequence[Turn], values: Mapping[str, Any], where: str = "messages") -> tuple[Message, ...]:
    """Returns a conversation.

    Args:
        messages: Templates.
        values: What they may use.
        where: The field that they stand in.

    Raises:
        UserError: A template is wrong, or uses what there is not.
    """
    made: list[Message] = []
    for number, turn in enumerate(messages):
        try:
            made.append({"role": turn.role, "content": _template(turn.content).render(values).strip()})
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            field, said = f"{where}.{number}.content", str(error).rstrip(".")
            allowed = f"a template may use {', '.join(values)}, and what Jinja's sandbox allows"
            raise UserError(f"{field}: {said}; {allowed}", code=2) from error
    return tuple(made)
