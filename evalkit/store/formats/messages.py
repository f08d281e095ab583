"""Conversations as public sets write them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from evalkit.models.base import Message
from evalkit.store.formats.tables import Row

_SPEAKER = re.compile(r"(?:\A|\n\n)\s*(Human|Assistant):")


def dialogue(text: str) -> list[dict[str, str]]:
    """Returns the messages of a text in which paragraphs that begin with Human: and Assistant: take turns."""
    parts = _SPEAKER.split(text)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": said.strip()} for who, said in zip(parts[::2], parts[1::2], strict=True)]


def texts_of(asked: Sequence[str]) -> tuple[Message, ...]:
    """Returns a user's turns as messages."""
    return tuple({"role": "user", "content": text} for text in asked)


def read_messages(row: Row, field: str, given: Any) -> list[dict[str, str]]:
    """Returns messages of role and text; content in parts is joined, and only text parts are taken.

    Raises:
        UserError: It is no conversation.
    """
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except json.JSONDecodeError:
            given = None
    if not isinstance(given, list) or not given:
        raise row.fault(field, "it must be a list of messages with `role` and `content`")
    messages = []
    for number, one in enumerate(given, 1):
        role = one.get("role") if isinstance(one, dict) else None
        content = one.get("content") if isinstance(one, dict) else None
        if isinstance(content, list):
            parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
            content = "\n".join(part for part in parts if isinstance(part, str))
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            raise row.fault(field, f"message {number} needs a role (system, user or assistant) and text as content")
        messages.append({"role": role, "content": content})
    return messages


def split_turns(row: Row, field: str, given: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the user's turns and the model's answers of a conversation that takes turns.

    Raises:
        UserError: It is no conversation, or user and assistant do not take turns.
    """
    messages = read_messages(row, field, given)
    roles = [message["role"] for message in messages]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise row.fault(field, "user and assistant must take turns, and the assistant have the last word")
    texts = [message["content"] for message in messages]
    return tuple(texts[::2]), tuple(texts[1::2])
