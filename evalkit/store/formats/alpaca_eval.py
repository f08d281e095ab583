"""AlpacaEval: model outputs and pairwise annotations, JSON lists (in and out)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit.store.formats.foreign import Arena, Imported, Talk, add_arena
from evalkit.store.formats.given import answers, file_name, make_folder, verdicts
from evalkit.store.formats.tables import Row, read_table, write_objects
from evalkit.store.formats.votes import Order, Vote
from evalkit.store.ledger import Ledger
from evalkit.store.rows import AnnotatorKind, Item, Winner

KIND = "alpaca-eval"
TIE = 1.5
SWITCHED = {"ab": False, "ba": True}
NO_PREFERENCE = "no preference could be read from the annotation"


def import_alpaca_eval(ledger: Ledger, paths: Sequence[Path], annotator_kind: AnnotatorKind = "judge") -> Imported:
    """Reads outputs and annotations, or all in folders; what a file holds is told by its fields.

    A preference of 1 is a win of output_1, 2 of output_2, 1.5 a tie; 2 - preference is the probability that output_1 is
    the better one.

    Args:
        annotator_kind: Of all annotators in the files.

    Raises:
        UserError: Something is wrong in a file; nothing was written.
    """
    files = [file for path in paths for file in (sorted(path.rglob("*.json")) if path.is_dir() else [path])]
    arena = Arena(KIND)
    for path in files:
        for row in read_table(path, ("instruction",)):
            (_annotation if "generator_1" in row.values else _output)(arena, row, annotator_kind)
    return add_arena(ledger, arena, files)


def _item(arena: Arena, row: Row) -> str:
    extra = row.text("input", "")
    prompt = row.text("instruction") + (f"\n\n{extra}" if extra else "")
    name = hashlib.sha256(prompt.encode()).hexdigest()[:16]
    category = row.text("dataset", "")
    if name not in arena.items:
        tags = {"category": category} if category else {}
        arena.items[name] = Item(({"role": "user", "content": prompt},), None, tags, name=name)
    return name


def _output(arena: Arena, row: Row, _: AnnotatorKind) -> None:
    if "output" not in row.values:
        raise row.fault("output", "it is missing; outputs have one, and annotations a preference")
    arena.talks.append(Talk(_item(arena, row), row.text("generator"), (row.text("output", ""),)))


def _annotation(arena: Arena, row: Row, kind: AnnotatorKind) -> None:
    a, b = row.text("generator_1"), row.text("generator_2")
    if a == b:
        arena.skipped["a model against itself"] += 1
        return
    item = _item(arena, row)
    texts = (row.text("output_1", ""),), (row.text("output_2", ""),)
    arena.talks += [Talk(item, model, said) for model, said in zip((a, b), texts, strict=True)]
    preference = row.number("preference", 0, 2)
    if preference is not None and preference < 1:
        if preference:
            raise row.fault("preference", f"{preference:g} is not between 1 (output_1) and 2 (output_2)")
        preference = TIE  # 0 was its older word for a tie
    name = row.text("annotator")
    if kind == "judge":
        arena.judges[name] = {"published": "AlpacaEval", "kind": "llm"}
    winner: Winner | None = None
    if preference is not None:
        winner = "tie" if preference == TIE else "model_a" if preference < TIE else "model_b"
    switched = row.text("is_switched_outputs", "").lower()
    order: Order = "ba" if switched == "true" else "ab" if switched == "false" else ""
    likely = None if preference is None else 2 - preference
    error = NO_PREFERENCE if preference is None else None
    completion = row.values.get("raw_completion")
    vote = Vote(item, a, b, winner, (kind, name), order=order, probability=likely, error=error, answers=texts)
    rationale = completion if isinstance(completion, str) and completion else None
    seconds = row.number("time_per_example", 0)
    arena.votes.append(replace(vote, timestamp=row.time("tstamp"), rationale=rationale, seconds=seconds))


def export_alpaca_eval(ledger: Ledger, folder: Path) -> tuple[int, Counter[str]]:
    """Writes model_outputs/MODEL.json and annotations.json: items of one user message, the criterion overall.

    A verdict without a probability is 1, 2 or 1.5; both_bad is a tie.

    Returns:
        The number of rows, and how many rows of the ledger were left out, by the reason.

    Raises:
        UserError: The folder or a file cannot be written.
    """
    left: Counter[str] = Counter()
    make_folder(folder / "model_outputs")
    files: dict[str, list[dict[str, Any]]] = {}
    for one in answers(ledger):
        if len(one.messages) != 1:
            left["answers in a conversation or without a prompt"] += 1
            continue
        row = {"dataset": one.category or None, "instruction": one.messages[0]["content"]}
        files.setdefault(file_name(one.model), []).append({**row, "output": one.text or "", "generator": one.model})
    count = 0
    for name, rows in files.items():
        count += write_objects(folder / "model_outputs" / f"{name}.json", rows)
    return count + write_objects(folder / "annotations.json", _annotations(ledger, left)), left


def _annotations(ledger: Ledger, left: Counter[str]) -> Iterator[dict[str, Any]]:
    words = {"model_a": 1.0, "model_b": 2.0, "tie": TIE, "both_bad": TIE, None: None}
    for one in verdicts(ledger):
        if one.criterion != "overall":
            left["verdicts on another criterion than overall"] += 1
        elif len(one.messages) != 1 or one.text_a is None or one.text_b is None:
            left["verdicts on a conversation, or without both texts"] += 1
        else:
            likely = None if one.winner is None else one.probability
            yield {
                **{"instruction": one.messages[0]["content"], "dataset": one.category or None},
                **{"output_1": one.text_a, "generator_1": one.model_a},
                **{"output_2": one.text_b, "generator_2": one.model_b},
                **{"annotator": one.annotator, "preference": words[one.winner] if likely is None else 2 - likely},
                **{"is_switched_outputs": SWITCHED.get(one.order), "time_per_example": one.seconds},
                **{"raw_completion": one.rationale, "tstamp": one.seconds_1970},
            }
