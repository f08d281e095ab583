"""FastChat's battles of the public arena: a JSON list, or JSONL (in and out)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalkit.models.base import canonical_json
from evalkit.store.formats.foreign import WINNERS, Arena, Imported, Talk, add_arena
from evalkit.store.formats.given import verdicts
from evalkit.store.formats.messages import split_turns, texts_of
from evalkit.store.formats.tables import Row, read_table, write_objects
from evalkit.store.formats.votes import Vote
from evalkit.store.ledger import Ledger
from evalkit.store.rows import AnnotatorKind, Item

KIND = "fastchat"
REQUIRED = ("model_a", "model_b", "winner")
FACTS = ("language", "anony")
"""Kept as tags of the battle's item."""


def import_fastchat(ledger: Ledger, paths: Sequence[Path]) -> Imported:
    """Reads battles: model_a (shown left), model_b, winner, judge, turn, tstamp, language, anony, conversation_a, ...

    A battle without a question_id is an item of its own: nobody knows whether two had the same prompt.

    Raises:
        UserError: Something is wrong in a file; nothing was written.
    """
    arena = Arena(KIND)
    alike: Counter[str] = Counter()
    for path in paths:
        for row in read_table(path, REQUIRED):
            _battle(arena, row, alike)
    return add_arena(ledger, arena, paths)


def _battle(arena: Arena, row: Row, alike: Counter[str]) -> None:
    a, b = row.text("model_a"), row.text("model_b")
    if a == b:
        arena.skipped["a model against itself"] += 1
        return
    name = row.text("question_id", "")
    if not name:
        digest = hashlib.sha256(canonical_json(dict(row.values)).encode()).hexdigest()[:16]
        name = f"battle-{digest}" + (f"-{alike[digest]}" if alike[digest] else "")
        alike[digest] += 1
    winner = WINNERS[row.choice("winner", list(WINNERS))]
    tags: dict[str, Any] = {field: row.values[field] for field in FACTS if row.values.get(field) is not None}
    category = row.text("category", "")
    tags |= {"category": category} if category else {}
    turn, texts, asked = max(row.integer("turn", 1) or 1, 1), None, None
    if row.values.get("conversation_a") and row.values.get("conversation_b"):
        asked, said_a = split_turns(row, "conversation_a", row.values["conversation_a"])
        other, said_b = split_turns(row, "conversation_b", row.values["conversation_b"])
        if asked != other:
            raise row.fault("conversation_b", "the user says something else in it than in conversation_a")
        texts, turn = (said_a, said_b), len(said_a)
        arena.talks += [Talk(name, a, said_a), Talk(name, b, said_b)]
    if name not in arena.items:
        known = {"item_id": name, **tags} if asked is None else tags
        arena.items[name] = Item(texts_of(asked or ()), None, known, name=name)
    kind: AnnotatorKind = "judge" if row.text("annotator_kind", "human") == "judge" else "human"
    who = row.text("judge", "arena_voters")
    if kind == "judge":
        arena.judges[who] = {"published": "FastChat", "kind": "llm"}
    vote = Vote(name, a, b, winner, (kind, who), turn=turn, order="ab", timestamp=row.time("tstamp"), answers=texts)
    arena.votes.append(vote)


def export_fastchat(ledger: Ledger, path: Path) -> tuple[int, Counter[str]]:
    """Writes verdicts on the criterion overall as battles; the model shown first is model_a.

    Returns:
        The number of rows, and how many verdicts were left out, by the reason.

    Raises:
        UserError: The file cannot be written, or does not end in .json.
    """
    left: Counter[str] = Counter()
    rows = []
    for one in verdicts(ledger):
        if one.criterion != "overall" or one.winner is None:
            left["verdicts on another criterion than overall, or unreadable"] += 1
            continue
        winner, sides = one.winner, [(one.model_a, one.text_a, one.before_a), (one.model_b, one.text_b, one.before_b)]
        if one.order == "ba":
            sides.reverse()
            winner = {"model_a": "model_b", "model_b": "model_a"}.get(winner, winner)
        row: dict[str, Any] = {"question_id": one.item, "model_a": sides[0][0], "model_b": sides[1][0]}
        row |= {"winner": "tie (bothbad)" if winner == "both_bad" else winner, "judge": one.annotator}
        row |= {"turn": one.turn, "tstamp": one.seconds_1970, **{f: one.tags[f] for f in FACTS if f in one.tags}}
        row |= {"category": one.category} if one.category else {}
        row |= {"annotator_kind": "judge"} if one.annotator_kind == "judge" else {}
        for side, (_, text, before) in zip(("a", "b"), sides, strict=True):
            if text is not None and before:
                row[f"conversation_{side}"] = [*before, {"role": "assistant", "content": text}]
        rows.append(row)
    return write_objects(path, rows), left
