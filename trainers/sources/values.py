"""New prompts by new values: an item whose expected values stand in its prompt gets others in both.

Numbers keep their order and names their alphabetical order, so that what follows from the order (the best, the sorted)
stays true; an item with a value that is the sum, difference or product of others is left alone.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalkit.verify import verify
from trainers.sources.made import Made, canonical
from trainers.sources.templates import Values, templates

LAST_YEAR = 2024
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}


def operation(prompt: str, answer: str) -> tuple[str, int, int] | None:
    """Returns the one operation by which the two whole numbers in a prompt give an answer, and them in their order."""
    numbers = re.findall(r"(?<![\w.,])\d+(?![\w]|[.,]\d)", prompt)
    if len(numbers) != 2 or not re.fullmatch(r"-?\d+", answer):
        return None
    a, b = map(int, numbers)
    fits = [sign for sign, apply in OPERATIONS.items() if apply(a, b) == int(answer)]
    return (fits[0], a, b) if len(fits) == 1 else None


def vary(prompt: str, spec: Mapping[str, Any], values: Values) -> tuple[str, dict[str, Any], str] | None:
    """Gives a prompt and its check new values.

    Returns:
        Prompt, spec and the answer that it expects; None where the values cannot be changed safely.
    """
    kind = spec.get("verifier")
    if kind == "numeric":
        return _vary_sum(prompt, spec, values.rng)
    if kind == "json_schema" and isinstance(spec.get("expected"), dict):
        changed = _vary_values(prompt, [spec["expected"]], values)
        if changed is None:
            return None
        text, new = changed
        made: dict[str, Any] = {**spec, "expected": new[0]}
        made["schema"] = _rename_keys(spec["schema"], spec["expected"], new[0])
        return text, made, canonical(new[0])
    if kind == "table" and spec.get("rows"):
        changed = _vary_values(prompt, spec["rows"], values)
        return None if changed is None else (changed[0], {**spec, "rows": changed[1]}, as_table(spec, changed[1]))
    return None


def as_table(spec: Mapping[str, Any], rows: Sequence[Sequence[str]]) -> str:
    """Writes the table that a spec expects."""
    if spec["format"] == "markdown":
        lines = [spec["columns"], ["---"] * len(spec["columns"]), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    quoted = [[f'"{cell}"' if "," in cell else cell for cell in line] for line in [spec["columns"], *rows]]
    return "\n".join(",".join(line) for line in quoted)


def _vary_sum(prompt: str, spec: Mapping[str, Any], rng: random.Random) -> tuple[str, dict[str, Any], str] | None:
    found = operation(prompt, str(spec.get("answer")))
    if found is None:
        return None
    sign, a, b = found
    x, y = (rng.randint(*span(number)) for number in (a, b))
    if sign == "-" and a >= b:
        x, y = max(x, y), min(x, y)
    news = iter((str(x), str(y)))
    text = re.sub(r"(?<![\w.,])\d+(?![\w]|[.,]\d)", lambda match: next(news), prompt)
    answer = str(OPERATIONS[sign](x, y))
    return text, {**spec, "answer": answer}, answer


def span(number: int) -> tuple[int, int]:
    """Returns the range of numbers with as many digits."""
    digits = len(str(number))
    return (10 ** (digits - 1) if digits > 1 else 1), 10**digits - 1


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key, one in value.items() for leaf in (key, *_leaves(one))]
    if isinstance(value, list):
        return [leaf for one in value for leaf in _leaves(one)]
    return [value]


def _vary_values(prompt: str, expected: Any, values: Values) -> tuple[str, Any] | None:
    """Replaces values in a prompt and in what it expects; None where one of them does not stand in the prompt."""
    keys = {
        leaf for leaf in _keys(expected) if f'"{leaf}"' in prompt or not _kind(leaf) or _written(leaf, prompt) is None
    }
    stays = {*keys, *_titles(expected, prompt)}
    leaves = [leaf for leaf in _leaves(expected) if not (leaf is None or isinstance(leaf, bool) or leaf in stays)]
    texts: dict[str, str] = {}  # as written in the prompt -> as expected
    for leaf in dict.fromkeys(map(str, leaves)):
        there = _written(leaf, prompt)
        if there is None:
            return None
        texts[there] = leaf
    numbers = [there for there in texts if re.fullmatch(r"\d+(?:\.\d+)?", there)]
    if _derived([float(number) for number in numbers]):
        return None
    mapping = _new_numbers(numbers, prompt, values.rng) | _new_words([t for t in texts if t not in numbers], values)
    if any(new is None for new in mapping.values()):
        return None
    news = {texts[old]: str(new) for old, new in mapping.items()}
    pattern = "|".join(re.escape(old) for old in sorted(mapping, key=len, reverse=True))
    text = re.sub(rf"(?<![\w.])(?:{pattern})(?!\w|\.\d)", lambda match: str(mapping[match.group()]), prompt)
    return text, _mapped(expected, news, keys)


def _titles(value: Any, prompt: str) -> set[str]:
    """Returns texts in quotation marks that are in no list of values: titles, which stay."""
    return {leaf for leaf in _leaves(value) if isinstance(leaf, str) and f'"{leaf}"' in prompt and not _listed(leaf)}


def _listed(word: str) -> str:
    """Returns the name of the list of values that a word is in; "" if it is in none."""
    return next((str(kind) for kind, known in templates()["values"].items() if word in known), "")


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for one in value.values() for key in _keys(one)}
    return {key for one in value for key in _keys(one)} if isinstance(value, list) else set()


def _written(leaf: str, prompt: str) -> str | None:
    """Returns a value as it stands in a prompt ("17.5" may be "17.50"), or None."""
    ways = [leaf] if not re.fullmatch(r"\d+\.\d+", leaf) else [leaf, f"{float(leaf):.2f}"]
    return next((way for way in ways if re.search(rf"(?<![\w.]){re.escape(way)}(?!\w|\.\d)", prompt)), None)


def _derived(numbers: Sequence[float]) -> bool:
    for a, b in itertools.permutations(numbers, 2):
        if any(c in (a + b, a - b, a * b) for c in numbers if c not in (a, b)):
            return True
    return False


def _new_numbers(numbers: Sequence[str], prompt: str, rng: random.Random) -> dict[str, str | None]:
    """Draws numbers that keep their order among each other and among the numbers of the prompt that stay."""
    stay = {float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)", prompt)} - {float(n) for n in numbers}
    ordered = sorted(numbers, key=float)
    mapping: dict[str, str | None] = dict.fromkeys(ordered)
    for _ in range(200):
        drawn = []
        for number in ordered:
            whole, _, part = number.partition(".")
            low, high = span(int(whole))
            if len(whole) == 4:  # a year stays one, and in the past
                low, high = int(whole) - 60, max(int(whole), LAST_YEAR)
            drawn.append(f"{rng.randint(low, high)}" + (f".{part}" if part else ""))
        new = [float(one) for one in drawn]
        kept = all((a < s) == (b < s) for a, b in zip(map(float, ordered), new, strict=True) for s in stay)
        if new == sorted(set(new)) and kept and not _derived(new) and not stay & set(new):
            return dict(zip(ordered, drawn, strict=True))
    return mapping


def _new_words(words: Sequence[str], values: Values) -> dict[str, str | None]:
    """Draws texts of the same list, or of the same shape, in the same alphabetical order."""
    kinds: dict[str, list[str]] = {}
    for word in words:
        kinds.setdefault(_kind(word), []).append(word)
    mapping: dict[str, str | None] = {}
    for kind, old in kinds.items():
        if kind == "day":  # in the order of the week
            week = [str(day) for day in templates()["values"]["day"]]
            old = sorted(old, key=week.index)
            new: list[str] = sorted(values.rng.sample(week, len(old)), key=week.index)
        elif kind == "name":
            drawn = {values.draw("name") for _ in range(60)} - set(words)
            new = sorted(values.rng.sample(sorted(drawn), len(old)))
        elif kind == "" or len(values.pool(kind)) < 2 * len(old):
            return dict.fromkeys(words)
        else:
            pool = [one for one in values.pool(kind) if one not in words]
            new = sorted(values.rng.sample(pool, len(old)))
        mapping |= dict(zip(old if kind == "day" else sorted(old), new, strict=True))
    return mapping


def _kind(word: str) -> str:
    return _listed(word) or ("name" if re.fullmatch(r"[A-Z]\w+ [A-Z]\w+", word) else "")


def _mapped(value: Any, news: Mapping[str, str], keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {news.get(k, k) if k not in keys else k: _mapped(one, news, keys) for k, one in value.items()}
    if isinstance(value, list):
        return [_mapped(one, news, keys) for one in value]
    new = news.get(str(value)) if value is not None and not isinstance(value, bool) else None
    if new is None:
        return value
    return type(value)(new) if isinstance(value, (int, float)) else new


def _rename_keys(schema: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Gives a schema the keys that were values of the prompt, as in {name: points}."""
    made: dict[str, Any] = copy.deepcopy(dict(schema))
    if isinstance(old, dict) and "properties" in made:
        renamed = dict(zip(old, new, strict=True))
        for (before, one), (after, other) in zip(old.items(), new.items(), strict=True):
            part = made["properties"].pop(before, {})
            made["properties"][after] = _rename_keys(part, one, other) if isinstance(one, dict) else part
        made["required"] = [renamed.get(key, key) for key in made.get("required", [])]
    return made


def from_item(item_id: int, prompt: str, spec: Mapping[str, Any], values: Values) -> Made | None:
    """Returns a new prompt by new values with the answer it expects, if that passes its own check."""
    varied = vary(prompt, spec, values)
    if varied is None or varied[0] == prompt:
        return None
    text, new, answer = varied
    check = verify(new, answer)
    if not check.passed:
        return None
    return Made(text, json.loads(json.dumps(new)), answer, "values", check.reason, item_id=item_id)
