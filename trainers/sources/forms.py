"""New prompts from our own templates whose answer is known: facts as JSON or a table, sums."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.store.training import TrainItem
from evalkit.verify import verify
from trainers.rows import said
from trainers.sources.made import Made, canonical
from trainers.sources.templates import Values, fill, fill_json, schema_of, templates
from trainers.sources.values import OPERATIONS, as_table, operation, span

COMPUTED = ("json_schema", "table", "numeric")
"""Verifiers for which templates with a known answer exist."""


def known(item: TrainItem) -> bool:
    """Whether there are templates like an item."""
    if item.verify is None or item.verify.get("verifier") not in COMPUTED:
        return False
    return item.verify["verifier"] != "numeric" or _sum_of(item) is not None


def made_like(items: Sequence[TrainItem], n: int, values: Values) -> list[Made]:
    """Makes new prompts like items, with their answers.

    Args:
        items: That failed; as many are made of each kind as there are items of it.
        n: How many are made.
        values: Draws what goes into the templates.

    Returns:
        Prompts, none of them twice; fewer than n where the templates have no more.
    """
    like = [item for item in items if known(item)]
    found: dict[str, Made] = {}
    for place in range(4 * n if like else 0):
        item = like[place % len(like)]
        one = _one(item, values)
        if one.prompt not in found and verify(one.verify or {}, one.answer).passed:
            found[one.prompt] = one
        if len(found) == n:
            break
    return list(found.values())


def _one(item: TrainItem, values: Values) -> Made:
    spec = item.verify or {}
    if spec["verifier"] == "json_schema":
        return _json(values)
    if spec["verifier"] == "table":
        return _table(str(spec["format"]), values)
    sign, a, b = _sum_of(item) or ("+", 10, 10)
    return _sum(sign, span(a), span(b), values)


def _json(values: Values) -> Made:
    frame = values.rng.choice(templates()["json"])
    bound = values.bind(frame["ask"], frame["value"], frame["plain"])
    expected = fill_json(frame["value"], bound)
    ending = values.rng.choice(templates()["json_endings"])
    spec = {"verifier": "json_schema", "schema": schema_of(expected), "expected": expected}
    prompt = f"{fill(frame['ask'], bound)} {ending}".strip()
    return Made(prompt, spec, canonical(expected), "constraints", "made with its answer", fill(frame["plain"], bound))


def _table(form: str, values: Values) -> Made:
    frame = values.rng.choice(templates()["tables"])
    rows, facts, first = [], [], set[str]()
    for _ in range(values.rng.randint(2, 4)):
        bound = values.bind(frame["fact"])
        cells = [fill(cell, bound) for cell in frame["row"]]
        if cells[0] not in first:
            first.add(cells[0])
            rows.append(cells)
            facts.append(fill(frame["fact"], bound))
    spec: dict[str, Any] = {"verifier": "table", "format": form, "columns": frame["columns"], "rows": rows}
    told = " ".join(facts)
    ask = frame["ask"].replace("{form}", templates()["table_forms"][form])
    ending = values.rng.choice(templates()["table_endings"])
    order = (told, ask, ending) if values.rng.random() < 0.5 else (f"{ask.rstrip('.')}: {told}", ending)
    plain = f"{told} {frame['plain']}"
    return Made(" ".join(order), spec, as_table(spec, rows), "constraints", "made with its answer", plain)


def _sum_of(item: TrainItem) -> tuple[str, int, int] | None:
    return operation(said(item.messages[-1:]), str((item.verify or {}).get("answer")))


def _sum(sign: str, first: tuple[int, int], second: tuple[int, int], values: Values) -> Made:
    rng = values.rng
    a, b = rng.randint(*first), rng.randint(*second)
    if sign == "-":
        a, b = max(a, b), min(a, b)
    answer = str(OPERATIONS[sign](a, b))
    frame = str(rng.choice(templates()["arithmetic"][sign])).replace("{a}", str(a)).replace("{b}", str(b))
    ending = rng.choice(templates()["arithmetic_endings"])
    plain = str(rng.choice(templates()["arithmetic_plain"])).replace("{a}", str(a))
    spec = {"verifier": "numeric", "answer": answer}
    plain = fill(plain, values.bind(plain))
    return Made(f"{frame} {ending}", spec, answer, "constraints", "made with its answer", plain)


def untemplated(items: Sequence[TrainItem]) -> Mapping[str, int]:
    """Counts the verifiers of items that neither these templates nor those of constraints know."""
    kinds = Counter(str((item.verify or {}).get("verifier", "no check")) for item in items if not known(item))
    kinds.pop("constraints", None)
    return kinds


def seeded(seed: int, what: str) -> random.Random:
    """Returns a generator of its own for a part of a recipe, so that no part moves another's draws."""
    return random.Random(f"{seed} {what}")
