"""Pairs of a better and a worse answer: from verdicts, votes and ratings, or from what checks say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evalkit.store import training
from evalkit.store.training import Preferred
from evalkit.verify import verify
from trainers.asking import Prompt
from trainers.material import Material
from trainers.plan import SourcePlan
from trainers.rows import Row, assistant, user
from trainers.sources.new_prompts import make_prompts, told

Messages = Sequence[Mapping[str, Any]]


def preferences(material: Material, source: SourcePlan, n: int) -> list[Row]:
    """Returns pairs that verdicts and votes decided, and best and worst answers by grades of judges and people.

    Those with the largest margin come first; a pair found both ways is there once, by its verdicts.
    """
    ids = [item.id for item in material.items]
    messages = {item.id: item.messages for item in material.items}
    found: dict[tuple[int, str, str], Row] = {}
    for way, pairs in (
        ("verdicts", training.verdict_pairs(material.ledger, ids)),
        ("ratings", training.rating_pairs(material.ledger, ids)),
    ):
        for pair in pairs:
            row = _stored(pair, messages[pair.item_id], source, way)
            found.setdefault((pair.item_id, pair.chosen.text, pair.rejected.text), row)
    return sorted(found.values(), key=lambda row: -float(row.content["margin"]))[:n]


def _stored(pair: Preferred, messages: Messages, source: SourcePlan, way: str) -> Row:
    about = {
        "way": way,
        "said_by": list(pair.said_by),
        "responses": [pair.chosen.response_id, pair.rejected.response_id],
    }
    return pair_row(messages, pair.chosen.text, pair.rejected.text, pair.margin, source.kind, pair.item_id, about)


def outcomes(material: Material, source: SourcePlan, n: int) -> list[Row]:
    """Returns pairs of an answer that passes its check and one that fails it.

    First from answers in the ledger and answers drawn to the slice's own prompts; what is missing comes from new
    prompts: their verified answer, and the model's own answer where that fails.
    """
    base, recipe = material.base, material.plan.recipe
    checked = [item for item in material.items if item.verify is not None]
    good: dict[int, dict[str, tuple[float, int]]] = {}
    bad: dict[int, dict[str, tuple[float, int]]] = {}

    def file(item_id: int, text: str, passed: bool | None, score: float, response_id: int) -> None:
        if passed is not None and text.strip():
            (good if passed else bad).setdefault(item_id, {}).setdefault(text.strip(), (score, response_id))

    for one in material.given:
        file(one.item_id, one.text, training.passes(one), one.grade or 0.0, one.response_id)
    prompts = [Prompt(item.messages, item.verify, item.id, stored=True) for item in checked]
    label = f"{base.name}: {source.samples} answers each"
    drawn = base.ask(prompts, label, samples=source.samples, temperature=recipe.temperature)
    for prompt, answers in zip(prompts, drawn, strict=True):
        for answer in answers:
            if answer.check is not None and not (answer.cut and answer.passed):
                score = answer.check.score or 0.0
                file(prompt.item_id or 0, answer.text, answer.passed, score, answer.response_id)
    messages = {item.id: item.messages for item in material.items}
    found = []
    for item_id in sorted(good.keys() & bad.keys()):
        # The best of those that pass with the worst of those that fail, the second with the second worst ...
        best = sorted(good[item_id].items(), key=lambda one: -one[1][0])
        worst = sorted(bad[item_id].items(), key=lambda one: one[1][0])
        for (chosen, (high, a)), (rejected, (low, b)) in zip(best, worst, strict=False):
            about = {"way": "checks", "responses": [a, b]}
            found.append(pair_row(messages[item_id], chosen, rejected, high - low, source.kind, item_id, about))
    if len(found) < n:
        found += _of_new_prompts(material, source, n - len(found))
    return found[:n]


def _of_new_prompts(material: Material, source: SourcePlan, n: int) -> list[Row]:
    made = [one for one in make_prompts(material, source, n) if one.verify is not None and not one.own]
    prompts = [Prompt(tuple(user(one.prompt)), one.verify) for one in made]
    found = []
    for one, answers in zip(made, material.base.ask(prompts, f"{material.base.name}: answers to fail"), strict=True):
        wrong = next((a for a in answers if a.passed is False and a.text != one.answer), None)
        if wrong is not None and wrong.check is not None:
            margin = (verify(one.verify or {}, one.answer).score or 0.0) - (wrong.check.score or 0.0)
            about = {
                **told(one),
                "rejected": f"own answer: {wrong.check.reason}",
                "rejected_response": wrong.response_id,
            }
            found.append(pair_row(user(one.prompt), one.answer, wrong.text, margin, source.kind, one.item_id, about))
    return found


def pair_row(
    prompt: Messages, chosen: str, rejected: str, margin: float, source: str, item_id: int | None, about: dict[str, Any]
) -> Row:
    """Returns a preference row."""
    content = {
        "prompt": [dict(message) for message in prompt],
        "chosen": assistant(chosen),
        "rejected": assistant(rejected),
        "margin": round(margin, 6),
    }
    return Row("preference", content, source, item_id, about)


def as_kto(rows: Iterable[Row]) -> list[Row]:
    """Returns each pair as two rows, a good answer and a bad one, as KTO takes them."""
    found = []
    for row in rows:
        for name, label in (("chosen", True), ("rejected", False)):
            content = {"prompt": row.content["prompt"], "completion": row.content[name], "label": label}
            found.append(Row("kto", content, row.source, row.item_id, row.provenance))
    return found
