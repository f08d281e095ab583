"""Answers to the slice's own prompts that a check accepts: the model's own best of several, or a teacher's."""

from __future__ import annotations

from evalkit.store.training import passes
from evalkit.verify import verify
from trainers.asking import Drawn, Prompt
from trainers.material import Material
from trainers.plan import SourcePlan
from trainers.rows import Row, assistant

KEPT = 4
"""Different accepted answers to one prompt, at most."""


def rows(material: Material, source: SourcePlan, n: int) -> list[Row]:
    """Draws answers and keeps those that pass (rejection sampling): of each prompt the best by the check's score.

    Answers of the same model that the ledger holds already are used first. A prompt without a check needs a judge: the
    filter grades it then.

    Args:
        material: The slice's items of the training half.
        source: best_of_n (of the model to be trained, or of `model`) or teacher.
        n: Rows wanted, at most.
    """
    asker = material.answerer(source)
    checked = [item for item in material.items if item.verify is not None or material.grader is not None]
    if len(checked) < len(material.items):
        material.say(
            f"{len(material.items) - len(checked)} of {len(material.items)} prompts of the slice have no check, and "
            "there is no judge: no answer to them can be accepted."
        )
    prompts = [Prompt(item.messages, item.verify, item.id, stored=True) for item in checked]
    recipe = material.plan.recipe
    drawn = asker.ask(
        prompts, f"{asker.name}: {source.samples} answers each", samples=source.samples, temperature=recipe.temperature
    )
    stored: dict[int, list[Drawn]] = {}
    for given in material.given:
        if given.model_id == asker.model_id and passes(given) and given.finish_reason != "length":
            item = next(item for item in material.items if item.id == given.item_id)
            check = verify(item.verify, given.text) if item.verify is not None else None
            stored.setdefault(given.item_id, []).append(Drawn(given.response_id, given.text.strip(), check))
    found = []
    for prompt, answers in zip(prompts, drawn, strict=True):
        every = [*stored.get(prompt.item_id or 0, []), *answers]
        good = [one for one in every if not one.cut and (one.check is None or one.passed)]
        good.sort(key=lambda one: -(one.check.score or 0.0) if one.check else 0.0)
        for place, one in enumerate(list({one.text: one for one in good}.values())[:KEPT]):
            about = {"model": asker.name, "response": one.response_id, "drawn": len(every), "accepted": len(good)}
            if one.check is not None:
                about["check"] = one.check.reason
            content = {"prompt": [dict(m) for m in prompt.messages], "completion": assistant(one.text)}
            found.append((place, Row("sft", content, source.kind, prompt.item_id, about)))
    found.sort(key=lambda pair: pair[0])  # every prompt's best before any prompt's second
    return [row for _, row in found][:n]
