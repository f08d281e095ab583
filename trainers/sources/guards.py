"""Rows that hold the rest in place: contrast against leaking, replay against forgetting; the model's own answers."""

from __future__ import annotations

from evalkit.store import training
from evalkit.verify import verify
from evalkit.verify.refusal import SHOULD_REFUSE
from trainers.asking import Drawn, Prompt
from trainers.material import Material
from trainers.plan import ROWS_OF, SourcePlan, wanted_of
from trainers.rows import Row, assistant, said, user, whole
from trainers.sources import constraints, refusals, text
from trainers.sources.forms import seeded
from trainers.sources.new_prompts import make_prompts, plain_of
from trainers.sources.templates import templates

REPLAYED_ITEMS = 0.3
"""Share of the replay rows, refusals and the like left out, that are items of other benchmarks, as far as the model
answers these well. No more, as the gate cannot measure on them any longer."""


def contrast(material: Material, source: SourcePlan, n: int) -> list[Row]:
    """Returns prompts like those that failed without the instruction on form, answered by the model as it is.

    They show the model where the new behaviour does not belong.
    """
    parted = constraints.split([item for item in material.items if constraints.known(item)])
    tasks = [Prompt(tuple(user(task)), item_id=key) for key, (task, _) in sorted(parted.items())]
    made = next((one for one in material.plan.recipe.sources if one.kind == "new_prompts"), source)
    wanted = n if made is source else wanted_of(material.plan, made)
    plain = [Prompt(tuple(user(one))) for one in plain_of(make_prompts(material, made, wanted))]
    rng = seeded(material.seed, "contrast")
    rng.shuffle(plain)
    rng.shuffle(tasks)
    few = tasks[: n // 4]
    return _own(material, source, [*few, *plain], int(1.2 * n), "contrast")[:n]


def replay(material: Material, source: SourcePlan, n: int) -> list[Row]:
    """Returns what the model does already: items of other benchmarks that it answers well, general requests, and
    refusals of harmful ones (see `refusals`).

    Of the items, stored answers that pass; of the requests, the model's greedy answers. As raw text (for continued
    pre-training) these are written one after the other, or the text of `path` is taken.
    """
    if ROWS_OF[material.plan.method] == "text" and source.path is not None:
        return text.rows(material, source, n)
    found = refusals.rows(material, source, n)
    found += _well_answered(material, source)[: round((n - len(found)) * REPLAYED_ITEMS)]
    general = [str(one) for one in templates()["general"]]
    seeded(material.seed, "replay").shuffle(general)
    asked = [Prompt(tuple(user(one))) for one in general]
    found += _own(material, source, asked, n - len(found), "general")
    if len(found) < n:
        material.say(f"{source.kind}: {n} rows were asked for, and there is material for {len(found)}.")
    seeded(material.seed, "replay order").shuffle(found)  # the set takes the first: of each kind its share
    if ROWS_OF[material.plan.method] == "text":
        return [
            Row("text", {"text": f"{said(row.content['prompt'])}\n\n{said(row.content['completion'])}"}, source.kind,
                row.item_id, row.provenance)
            for row in found
        ]  # fmt: skip
    return found[:n]


def _well_answered(material: Material, source: SourcePlan) -> list[Row]:
    """Stored answers of the model to other items of the training half that pass, from all benchmarks in turn."""
    # Items that measure refusals are left to the gate, which has few; `refusals` brings requests of its own.
    items = {item.id: item for item in material.others if SHOULD_REFUSE not in item.tags}
    by_dataset: dict[int, list[Row]] = {}
    seen = set[int]()
    for one in training.given_answers(material.ledger, items):
        item, kept = items[one.item_id], whole(one.text, cut=one.finish_reason == "length")
        if one.model_id != material.base.model_id or one.item_id in seen or not kept or not training.passes(one):
            continue
        if item.verify is not None and not verify(item.verify, kept).passed:
            continue
        seen.add(one.item_id)
        content = {"prompt": [dict(m) for m in item.messages], "completion": assistant(kept)}
        about = {"way": "stored", "model": material.base.name, "response": one.response_id}
        by_dataset.setdefault(item.dataset_id, []).append(Row("sft", content, source.kind, item.id, about))
    rng = seeded(material.seed, "replayed")
    for rows in by_dataset.values():
        rng.shuffle(rows)
    turns = max(map(len, by_dataset.values()), default=0)
    return [rows[turn] for turn in range(turns) for rows in by_dataset.values() if turn < len(rows)]


def _own(material: Material, source: SourcePlan, prompts: list[Prompt], n: int, way: str) -> list[Row]:
    """Rows of the model's own greedy answers to the first n prompts, unchanged."""
    base = material.base
    found = []
    for prompt, answers in zip(prompts[:n], base.ask(prompts[:n], f"{base.name}: {source.kind}"), strict=True):
        for one in answers[:1]:
            found.append(_row(prompt, one, source, base.name, way))
    return found


def _row(prompt: Prompt, one: Drawn, source: SourcePlan, model: str, way: str) -> Row:
    content = {"prompt": [dict(m) for m in prompt.messages], "completion": assistant(one.text)}
    return Row("sft", content, source.kind, prompt.item_id, {"way": way, "model": model, "response": one.response_id})
