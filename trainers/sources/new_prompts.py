"""New prompts like those that failed, made in the ways a source asks for; each answer verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from trainers.material import Material
from trainers.plan import SourcePlan
from trainers.rows import Row, assistant, said, user
from trainers.sources import constraints, evolve, forms
from trainers.sources.made import Made
from trainers.sources.templates import Values
from trainers.sources.values import from_item

SPARE = 1.3
"""So many more prompts are tried than rows are wanted, as filters and decontamination take some."""


def make_prompts(material: Material, source: SourcePlan, n: int) -> list[Made]:
    """Makes new prompts with verified answers.

    Args:
        material: The slice and its items of the training half.
        source: Says in which ways.
        n: Rows wanted; a third more are tried.
    """
    key = f"{n} {source.model_dump_json()}"
    if key not in material.made:
        material.made[key] = _make(material, source, n)
    return material.made[key]


def _make(material: Material, source: SourcePlan, n: int) -> list[Made]:
    makers = {
        "values": _by_values,
        "constraints": _by_templates,
        "evolve": evolve.evolved,
        "backtranslate": evolve.backtranslated,
    }
    # Templates last: they make up for what the other ways could not give.
    ways = sorted(source.ways, key=lambda way: way == "constraints")
    left, made = int(SPARE * n), []
    for place, way in enumerate(ways):
        made.append(makers[way](material, source, -(-left // (len(ways) - place))))
        left -= len(made[-1])
    found: dict[str, Made] = {}
    for turn in zip_longest(*made):
        for one in filter(None, turn):  # one of each way in turn, so that the first rows hold all of them
            found.setdefault(one.prompt, one)
    return list(found.values())


def _by_values(material: Material, source: SourcePlan, n: int) -> list[Made]:
    values = Values(forms.seeded(material.seed, "values"), material.avoid)
    checked = [item for item in material.items if item.verify is not None and len(item.messages) == 1]
    found: dict[str, Made] = {}
    for place in range(3 * n if checked else 0):
        item = checked[place % len(checked)]
        made = from_item(item.id, said(item.messages), item.verify or {}, values)
        if made is not None:
            found.setdefault(made.prompt, made)
        if len(found) == n:
            break
    return list(found.values())


def _by_templates(material: Material, source: SourcePlan, n: int) -> list[Made]:
    values = Values(forms.seeded(material.seed, "templates"), material.avoid)
    computed = [item for item in material.items if forms.known(item)]
    free = [item for item in material.items if constraints.known(item)]
    for kind, count in forms.untemplated(material.items).items():
        material.say(f"No template of new prompts knows the check {kind!r} of {count} items of the slice.")
    both = len(computed) + len(free)
    if not both:
        return []
    of_free = round(n * len(free) / both)
    made = forms.made_like(computed, n - of_free, values)
    return made + constraints.made_like(free, of_free, values, material.answerer(source))


def rows(material: Material, source: SourcePlan, n: int) -> list[Row]:
    """Makes supervised rows of new prompts."""
    return [
        Row(
            "sft",
            {"prompt": user(made.prompt), "completion": assistant(made.answer)},
            source.kind,
            made.item_id,
            told(made),
        )
        for made in make_prompts(material, source, n)
    ]


def told(made: Made) -> dict[str, Any]:
    """Returns the provenance of a made prompt."""
    who = "own answer" if made.own else "changed answer" if made.response_id is not None else "computed"
    about: Mapping[str, Any] = {"way": made.way, "answer": who, "check": made.reason, "response": made.response_id}
    return {key: value for key, value in about.items() if value is not None}


def plain_of(made: Sequence[Made]) -> list[str]:
    """Returns what made prompts ask without the instruction on form."""
    return list(dict.fromkeys(one.plain for one in made if one.plain))
