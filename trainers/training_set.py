"""A training set: made by a recipe's sources, filtered, decontaminated, mixed by weight, and stored in the ledger."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from evalkit.engine import Engine
from evalkit.errors import UserError
from evalkit.models.base import sha256
from evalkit.prompts import read_prompts
from evalkit.store import Ledger, training
from evalkit.store import schema as tables
from evalkit.store.arena import user_turns
from evalkit.store.training import EvalItem
from evalkit.store.write_training import add_training_set
from trainers.decontaminate import Leak, find_leaks
from trainers.decontaminate import ensure_clean as clean
from trainers.diversity import diversity
from trainers.filters import keep_rows
from trainers.material import Grader, Material
from trainers.plan import GUARDS, ROWS_OF, DecontaminationPlan, RetrainPlan, SourcePlan, wanted_of
from trainers.rows import Row, RowKind, prompt_of, split_rows
from trainers.sources import answers, constraints, forms, guards, new_prompts, pairs, rewards, text

if TYPE_CHECKING:
    from evalkit.engine.progress import Progress

CONTROL = 0
"""Stands for the id of a control prompt that the ledger may not have yet."""
LISTED = 500
"""Dropped rows that are listed with the set, at most; all are counted."""
SOURCES = {
    "best_of_n": answers.rows,
    "teacher": answers.rows,
    "new_prompts": new_prompts.rows,
    "preferences": pairs.preferences,
    "outcomes": pairs.outcomes,
    "prompts": rewards.rows,
    "domain_text": text.rows,
    "replay": guards.replay,
    "contrast": guards.contrast,
}


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Rows to train on, and how they were made.

    Attributes:
        recipe: The plan's recipe, and what became of it: key, base, method, made, dropped, leaks, diversity, said,
            allowed (the reason why rows that touch evaluated items were kept; None if there are none).
    """

    id: int
    name: str
    slice_id: int | None
    rows: list[Row]
    recipe: Mapping[str, Any]

    def parts(self) -> tuple[list[Row], list[Row]]:
        """Returns the rows to train on and the recipe's share to validate on; see `trainers.rows.split_rows`."""
        return split_rows(self.rows, float(self.recipe.get("validation", 0.0)))

    def ensure_trainable(self, ledger: Ledger) -> int:
        """Refuses a set that touches an item of the ledger as it is now; see `trainers.decontaminate.ensure_clean`.

        Returns:
            How many rows touch one; only ever above 0 where the recipe gave a reason.

        Raises:
            UserError: Rows touch an item.
        """
        settings = DecontaminationPlan.model_validate(self.recipe.get("decontamination") or {})
        return clean(ledger, self.rows, settings, self.recipe.get("allow_contaminated"))


def build(
    ledger: Ledger,
    plan: RetrainPlan,
    *,
    engine: Engine,
    progress: Progress | None = None,
    grader: Grader | None = None,
) -> TrainingSet:
    """Builds the training set of a plan; the one that such a plan made before, under any name, is returned as it is.

    Killed anywhere, it goes on there: answers are in the ledger as soon as they are there, and all draws have seeds.

    Args:
        ledger: With the slice.
        plan: Says what is made.
        engine: Of the run that answers are filed under.
        progress: Who is told.
        grader: Grades stored answers, for a recipe with a judge.

    Raises:
        UserError: The slice is missing or has nothing to train on, a source lacks what it needs, or no row is left.
    """
    decides = plan.model_dump(mode="json", include={"slice", "base", "recipe", "method", "seed"})
    key = sha256({"plan": decides, "controls": [item.text for item in _controls(plan)]})
    known = _built(ledger, key)
    if known is not None:
        return known
    material = Material(ledger, plan, engine, progress, grader)
    try:
        made = _make(material)
    finally:
        material.release()
    rows = [row for _, part in made for row in part]
    kept, dropped = keep_rows(rows, plan.recipe, grader)
    items = training.eval_items(ledger) + _controls(plan)
    leaks = find_leaks(kept, items, plan.recipe.decontamination)
    allowed = plan.recipe.allow_contaminated
    clean_rows = _marked(kept, leaks) if allowed else _without(kept, leaks)
    chosen = _mixed(clean_rows, plan, material)
    if not chosen:
        raise UserError(_nothing(made, dropped, leaks, plan))
    random.Random(f"{plan.seed} order").shuffle(chosen)
    recipe = {
        **plan.recipe.model_dump(mode="json"),
        "key": key,
        "method": plan.method,
        "base": plan.base.model,
        "made": {source.kind: len(part) for source, part in made},
        "used": dict(Counter(row.source for row in chosen)),
        "dropped": dict(dropped),
        "compared": dict(Counter(item.half or "no half" for item in items)),
        "leaks": len(leaks),
        "leaked": [_told(kept[leak.row], leak) for leak in leaks[:LISTED]],
        "allowed": allowed if leaks else None,
        "diversity": diversity(rows, chosen, seed=plan.seed),
        "said": material.said,
    }
    stored = [(row.item_id, {**row.provenance, "kind": row.kind, "source": row.source}, row.content) for row in chosen]
    set_id = add_training_set(ledger, plan.name, material.slice.id, recipe, stored)
    return TrainingSet(set_id, plan.name, material.slice.id, chosen, recipe)


def load_training_set(ledger: Ledger, training_set_id: int) -> TrainingSet:
    """Reads a training set with all its rows, in order.

    Raises:
        UserError: There is no such set.
    """
    with ledger.engine.connect() as connection:
        about = connection.execute(
            sa.select(tables.TrainingSet).where(tables.TrainingSet.id == training_set_id)
        ).first()
        if about is None:
            raise UserError(f"there is no training set {training_set_id} in this ledger", code=2)
        columns = (tables.TrainingRow.item_id, tables.TrainingRow.provenance, tables.TrainingRow.content)
        query = sa.select(*columns).where(tables.TrainingRow.training_set_id == training_set_id)
        found = connection.execute(query.order_by(tables.TrainingRow.position)).all()
    rows = [_row(item_id, provenance, content) for item_id, provenance, content in found]
    return TrainingSet(about.id, about.name, about.slice_id, rows, about.recipe)


def yield_of(ledger: Ledger, slice_id: int) -> float:
    """Returns the share of a slice's items of the training half that new prompts with checked answers are known for."""
    items = training.train_items(ledger, slice_id)
    return sum(forms.known(item) or constraints.known(item) for item in items) / len(items) if items else 0.0


def _row(item_id: int | None, provenance: Mapping[str, Any], content: Mapping[str, Any]) -> Row:
    told = dict(provenance)
    kind: RowKind = told.pop("kind", "sft")
    return Row(kind, dict(content), str(told.pop("source", "")), item_id, told)


def _built(ledger: Ledger, key: str) -> TrainingSet | None:
    query = sa.select(tables.TrainingSet.id, tables.TrainingSet.recipe)
    with ledger.engine.connect() as connection:
        for set_id, recipe in connection.execute(query.order_by(tables.TrainingSet.id.desc())):
            if recipe.get("key") == key:
                return load_training_set(ledger, set_id)
    return None


def _make(material: Material) -> list[tuple[SourcePlan, list[Row]]]:
    """Makes rows of every source: a quarter more than its share."""
    plan = material.plan
    wants_kto = ROWS_OF[plan.method] == "kto"
    made = []
    for source in plan.recipe.sources:
        rows = SOURCES[source.kind](material, source, wanted_of(plan, source))
        if not rows:
            material.say(f"The source {source.kind} gave no row.")
        made.append((source, pairs.as_kto(rows) if wants_kto else rows))
    return made


def _controls(plan: RetrainPlan) -> list[EvalItem]:
    """Returns the gate's control prompts, which are in the ledger only once a gate has asked them."""
    if plan.gate.controls is None:
        return []
    return [
        EvalItem(CONTROL, "\n".join(user_turns(one.messages)), "held_out") for one in read_prompts(plan.gate.controls)
    ]


def _without(rows: Sequence[Row], leaks: Sequence[Leak]) -> list[Row]:
    touching = {leak.row for leak in leaks}
    return [row for place, row in enumerate(rows) if place not in touching]


def _marked(rows: Sequence[Row], leaks: Sequence[Leak]) -> list[Row]:
    by_row = {leak.row: leak for leak in leaks}
    return [
        row.told(touches={"item": by_row[place].item_id, "rule": by_row[place].rule}) if place in by_row else row
        for place, row in enumerate(rows)
    ]


def _mixed(rows: Sequence[Row], plan: RetrainPlan, material: Material) -> list[Row]:
    """Takes rows by the sources' weights.

    What a source lacks, others of its group make up for: those that teach, and those that guard. Guards then get the
    share that they have of the weights; raw text is limited as well by the general text that there is.
    """
    weight: dict[str, float] = {}
    for source in plan.recipe.sources:
        weight[source.kind] = weight.get(source.kind, 0.0) + source.weight
    have: dict[str, list[Row]] = {kind: [row for row in rows if row.source == kind] for kind in weight}
    guard: dict[str, float] = {kind: w for kind, w in weight.items() if kind in GUARDS}
    teach: dict[str, float] = {kind: w for kind, w in weight.items() if kind not in guard}
    whole = sum(weight.values())
    room = plan.recipe.rows * sum(teach.values()) / whole
    if ROWS_OF[plan.method] == "text" and guard:
        there = sum(len(have[kind]) for kind in guard)
        room = min(room, there * sum(teach.values()) / sum(guard.values()))
    taken = _fill(have, teach, round(room))
    ratio = sum(guard.values()) / sum(teach.values()) if teach else 0.0
    limit = round(len(taken) * ratio) if teach else plan.recipe.rows
    guards_taken = _fill(have, guard, limit)
    if len(guards_taken) < limit:
        material.say(f"Contrast and replay: {len(guards_taken)} rows of {limit} that the weights ask for.")
    return taken + guards_taken


def _fill(have: Mapping[str, Sequence[Row]], weight: Mapping[str, float], room: int) -> list[Row]:
    quota = dict.fromkeys(weight, 0)
    while sum(quota.values()) < room:
        open_ones = [kind for kind in weight if quota[kind] < len(have[kind])]
        if not open_ones:
            break
        # The source that is furthest below its share is next.
        quota[min(open_ones, key=lambda kind: ((quota[kind] + 1) / weight[kind], kind))] += 1
    return [row for kind, n in quota.items() for row in have[kind][:n]]


def _told(row: Row, leak: Leak) -> dict[str, Any]:
    return {
        "prompt": prompt_of(row)[:200],
        "source": row.source,
        "item": leak.item_id,
        "rule": leak.rule,
        "value": round(leak.value, 3),
        "half": "control prompt" if leak.item_id == CONTROL else "held out" if leak.held_out else "not assigned",
    }


def _nothing(
    made: Sequence[tuple[SourcePlan, list[Row]]], dropped: Counter[str], leaks: Sequence[Leak], plan: RetrainPlan
) -> str:
    parts = [f"{source.kind} made {len(rows)}" for source, rows in made]
    parts += [f"{n} dropped as {reason}" for reason, n in dropped.items()]
    parts += [f"{len(leaks)} touch items that are evaluated"] if leaks else []
    return (
        f"recipe: no row is left to train {plan.method} on ({'; '.join(parts)}): add a source such as new_prompts, a "
        "teacher or a judge, or loosen the filters"
    )
