"""What a judge is shown, and the fences that keep it from speaking as the prompt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

INVISIBLE = "\u00ad\u200b-\u200f\u2060-\u2064\ufeff"
TAG = re.compile(rf"<[\s{INVISIBLE}]*/?[\s{INVISIBLE}]*([A-Za-z][\w-]*)")
# Where a chat template is applied to text, these are tokens that end a message and begin another.
CONTROL = (
    r"[|｜][\w▁-]+[|｜]>"  # <|im_start|>, <|eot_id|>, <｜User｜>
    r"|/?(?:think|s|bos|eos|start_of_turn|end_of_turn|start_of_role|end_of_role|end_of_text)>"
)
CONTROL_BRACKETS = re.compile(r"\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS)\])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Material:
    """What a judge is shown, without the models' names: judging is blind.

    Attributes:
        turns: The user's turns, up to the judged one.
        answers: Each shown answer, in the order shown: its text for each turn. One (pointwise) or two (pairwise).
        reference: Reference answers by turn; empty without.
        category: The item's tag `category`.
        checklist: Yes/no questions of this item.
    """

    turns: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    reference: tuple[str, ...] = ()
    category: str = ""
    checklist: tuple[str, ...] = ()


def reference_turns(reference: Any) -> tuple[str, ...]:
    """Returns the reference answers in an item's reference, by turn; empty if none of it is text.

    Args:
        reference: A text, a number, a list of them (turns), or a mapping with one of `turns`, `reference`, `answer`,
            `target` (a benchmark's), in this order of preference.
    """
    if isinstance(reference, bool) or reference is None:
        return ()
    if isinstance(reference, str | int | float):
        return (str(reference),) if str(reference).strip() else ()
    if isinstance(reference, Mapping):
        found = (reference_turns(reference.get(key)) for key in ("turns", "reference", "answer", "target"))
        return next((turns for turns in found if turns), ())
    if isinstance(reference, Sequence):
        turns = tuple(turn for one in reference for turn in reference_turns(one))
        return turns if len(turns) == len(reference) else ()
    return ()


def tag_names(templates: Iterable[str]) -> frozenset[str]:
    """Returns the names of the tags that templates write, in lower case: those that material may not write."""
    return frozenset(name.lower() for text in templates for name in TAG.findall(text)) | {"turn"}


def fenced(text: str, tags: frozenset[str]) -> str:
    """Breaks, inside material under judgment, the prompt's own tags and the control tokens of chat templates.

    Only the bracket that begins them is exchanged, so that a judge still reads what was written.

    Args:
        text: The material.
        tags: As `tag_names` gives them; a longer name that begins with one is broken too.
    """
    return CONTROL_BRACKETS.sub("⟦", _broken(tags).sub("‹", text))


@cache
def _broken(tags: frozenset[str]) -> re.Pattern[str]:
    names = "|".join(map(re.escape, sorted(tags)))
    space = rf"[\s{INVISIBLE}]*"
    return re.compile(rf"<(?={space}/?{space}(?:{names})|{CONTROL})", re.IGNORECASE)


def conversation(turns: Sequence[str]) -> str:
    """Returns fenced texts of one speaker as one: the text alone, or each turn between tags that carry its number."""
    if len(turns) == 1:
        return turns[0]
    return "\n".join(f'<turn number="{number}">\n{text}\n</turn>' for number, text in enumerate(turns, 1))
