"""A new prompt with its check and an answer that passes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Made:
    """A new prompt.

    Attributes:
        prompt: The user's turn.
        verify: Its check; None for one that a judge accepted.
        answer: That passes the check; "" where a model has still to give it.
        way: How the prompt was made: values, constraints, evolve, backtranslate.
        reason: Why the answer was accepted.
        plain: The same without the instruction on form; "" if there is none.
        item_id: The item it was made from; None for one from a template.
        own: Whether the answer is the model's own, word for word.
        response_id: Where the answer came from; None for one that was computed.
    """

    prompt: str
    verify: Mapping[str, Any] | None
    answer: str
    way: str
    reason: str = ""
    plain: str = ""
    item_id: int | None = None
    own: bool = False
    response_id: int | None = None


def canonical(value: Any) -> str:
    """Writes JSON as people do: on one line, keys in the order given."""
    return json.dumps(value, ensure_ascii=False)
