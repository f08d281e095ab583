"""A battle with its texts, as judges get it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Fight:
    """A battle's prompt and answers, without the models' names: judging is blind.

    Attributes:
        reference: The item's, with its verifier spec if it has one.
    """

    battle_id: int
    item_id: int
    prompt: str
    reference: Any
    text_a: str
    text_b: str
