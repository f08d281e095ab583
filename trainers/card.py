"""The data card of a training set: what it is, how it was made, what it was compared with, and its limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainers.plan import SOURCES
from trainers.rows import answer_of, prompt_of
from trainers.training_set import TrainingSet

EXAMPLES = 3
SHOWN_LEAKS = 20


def card(training_set: TrainingSet, slice_name: str = "") -> str:
    """Returns the data card as Markdown."""
    recipe, rows = training_set.recipe, training_set.rows
    train, validation = training_set.parts()
    parts = [
        f"# Training set {training_set.id}: {training_set.name}",
        f"{len(rows):,} rows of kind {', '.join(sorted({row.kind for row in rows}))} for the method "
        f"{recipe.get('method', '?')} on {recipe.get('base', '?')}, made for the failure slice {slice_name or '?'!r}. "
        f"{len(train):,} to train on, {len(validation):,} to validate on.",
        "## Sources",
        _table(("source", "what", "made", "used"), _sources(recipe)),
        "## How rows were made",
        _table(("source", "way", "answer", "rows"), _ways(training_set)),
        "## Filters",
        _table(("dropped because", "rows"), sorted((recipe.get("dropped") or {}).items())) or "No row was dropped.",
        "## Decontamination",
        _decontamination(recipe),
        "## Diversity",
        _diversity(recipe.get("diversity") or {}),
        "## Examples",
        *(_example(training_set, place) for place in range(min(EXAMPLES, len(rows)))),
        "## Limits",
        _limits(recipe),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _sources(recipe: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    made, used = recipe.get("made") or {}, recipe.get("used") or {}
    return [(kind, SOURCES[kind], n, used.get(kind, 0)) for kind, n in made.items()]


def _ways(training_set: TrainingSet) -> list[tuple[Any, ...]]:
    count = Counter(
        (row.source, row.provenance.get("way", ""), row.provenance.get("answer") or row.provenance.get("model", ""))
        for row in training_set.rows
    )
    return [(*key, n) for key, n in sorted(count.items())]


def _decontamination(recipe: Mapping[str, Any]) -> str:
    compared = recipe.get("compared") or {}
    halves = ", ".join(f"{n:,} {half.replace('_', ' ')}" for half, n in sorted(compared.items()))
    leaked = recipe.get("leaked") or []
    said = f"Compared with every evaluated item of the ledger ({halves}); those of the training half may be known."
    if recipe.get("allowed"):
        said += f" {recipe.get('leaks', 0)} rows touch items and were KEPT, for this reason: {recipe['allowed']}"
    elif leaked:
        said += f" {recipe.get('leaks', 0)} rows touch items and were dropped:"
    else:
        said += " No row touches an item."
    table = _table(
        ("prompt", "source", "item", "rule", "value", "half"),
        [tuple(one.get(k, "") for k in ("prompt", "source", "item", "rule", "value", "half")) for one in leaked][
            :SHOWN_LEAKS
        ],
    )
    return said + (f"\n\n{table}" if table else "")


def _diversity(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    names = ("rows", "distinct_1", "distinct_2", "distinct_3", "mean_words", "clusters", "effective_clusters")
    rows = [(name.replace("_", " "), found["before"][name], found["after"][name]) for name in names]
    said = f"{found['coverage']:.0%} of the kinds of prompts that were made are in the set."
    return f"{_table(('', 'before', 'after'), rows)}\n\n{said}"


def _example(training_set: TrainingSet, place: int) -> str:
    row = training_set.rows[place]
    answer = answer_of(row)
    said = f"- {row.source}: {_short(prompt_of(row))!r}"
    return said + (f" gets {_short(answer)!r}" if answer else "")


def _limits(recipe: Mapping[str, Any]) -> str:
    lines = [
        "Paraphrases in another language than the item's are not found; of copies the numbers and names are.",
        "Items of the training half are in it: their scores after training say nothing.",
        *(recipe.get("said") or []),
    ]
    return "\n".join(f"- {line}" for line in lines)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 160 else f"{flat[:157]}..."


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    if not lines:
        return ""
    return "\n".join(f"| {' | '.join(line)} |" for line in ([*head], ["---"] * len(head), *lines))
