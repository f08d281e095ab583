"""The templates of new prompts (`templates.yaml`), filled with values from a seed."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

SLOT = re.compile(r"\{([a-z]+)(\d*)(?:\.(first|last))?\}")


@lru_cache(maxsize=1)
def templates() -> Mapping[str, Any]:
    """Returns the file of templates."""
    text = (Path(__file__).parent / "templates.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = yaml.safe_load(text)
    return loaded


@dataclass(frozen=True, slots=True)
class Task:
    """A question that asks for no form, and the word that it is about."""

    text: str
    word: str


def tasks() -> list[Task]:
    """Returns all tasks, in the file's order."""
    found = []
    for frame, words in templates()["tasks"].items():
        for word in words.split():
            spoken = word.replace("-", " ")
            found.append(Task(re.sub(r"\b([Aa]) (?=[aeiouAEIOU])", r"\1n ", frame.format(spoken)), spoken))
    return found


class Values:
    """Draws values for slots.

    Args:
        rng: Decides every draw.
        avoid: Values, case folded, that stand in items of the held-out half.
    """

    def __init__(self, rng: random.Random, avoid: Collection[str] = ()) -> None:
        self.rng = rng
        self.avoid = frozenset(avoid)

    def pool(self, kind: str) -> list[str]:
        """Returns the values of a list that may be used."""
        every = [str(value) for value in templates()["values"][kind]]
        return [value for value in every if value.casefold() not in self.avoid] or every

    def draw(self, kind: str) -> Any:
        """Draws a value of a kind of slot: a text, or a whole number."""
        if kind == "name":
            return f"{self.rng.choice(self.pool('first'))} {self.rng.choice(self.pool('last'))}"
        if kind in ("number", "year"):
            return self.rng.randint(*templates()["values"][kind])
        if kind == "small":
            return int(self.rng.choice(templates()["values"]["small"]))
        return self.rng.choice(self.pool(kind))

    def bind(self, *texts: Any) -> dict[str, Any]:
        """Draws a value for every slot in texts (or JSON values of texts): other values for other slots of a kind."""
        bound: dict[str, Any] = {}
        for text in _strings(texts):
            for match in SLOT.finditer(text):
                slot = match[1] + match[2]
                tries = 0
                while slot not in bound or (tries < 50 and list(bound.values()).count(bound[slot]) > 1):
                    bound[slot], tries = self.draw(match[1]), tries + 1
        return bound


def fill(text: str, bound: Mapping[str, Any]) -> str:
    """Fills the slots of a text; doubled braces are braces."""
    filled = SLOT.sub(lambda match: str(_value(match, bound)), text)
    return filled.replace("{{", "{").replace("}}", "}")


def fill_json(value: Any, bound: Mapping[str, Any]) -> Any:
    """Fills the slots of a JSON value; a text that is one slot becomes that slot's value."""
    if isinstance(value, dict):
        return {fill(key, bound): fill_json(one, bound) for key, one in value.items()}
    if isinstance(value, list):
        return [fill_json(one, bound) for one in value]
    if isinstance(value, str):
        match = SLOT.fullmatch(value)
        return _value(match, bound) if match else fill(value, bound)
    return value


def _value(match: re.Match[str], bound: Mapping[str, Any]) -> Any:
    value = bound[match[1] + match[2]]
    return value if match[3] is None else value.split()[0 if match[3] == "first" else 1]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _strings([key, one])
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _strings(one)


def schema_of(value: Any) -> dict[str, Any]:
    """Returns the JSON schema of a value's shape: its types, all keys required and no others."""
    if isinstance(value, dict):
        properties = {key: schema_of(one) for key, one in value.items()}
        return {"type": "object", "properties": properties, "required": list(value), "additionalProperties": False}
    if isinstance(value, list):
        return {"type": "array", "items": schema_of(value[0])}
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return {"type": kinds[type(value)]}
