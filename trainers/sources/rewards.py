"""Prompts with a check that gives the reward, for online RL."""

from __future__ import annotations

from trainers.material import Material
from trainers.plan import SourcePlan
from trainers.rows import Row, user
from trainers.sources.new_prompts import make_prompts, told


def rows(material: Material, source: SourcePlan, n: int) -> list[Row]:
    """Returns the slice's prompts that have a check, then new ones like them."""
    found = [
        Row("grpo", {"prompt": [dict(m) for m in item.messages], "verify": dict(item.verify)}, source.kind, item.id,
            {"way": "stored"})
        for item in material.items
        if item.verify is not None
    ]  # fmt: skip
    if len(found) < n:
        for made in make_prompts(material, source, n - len(found)):
            if made.verify is not None:
                content = {"prompt": user(made.prompt), "verify": dict(made.verify)}
                found.append(Row("grpo", content, source.kind, made.item_id, told(made)))
    return found[:n]
