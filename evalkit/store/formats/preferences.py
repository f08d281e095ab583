"""Preference sets of the public hubs: chosen and rejected answers, or two models' conversations and a winner."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from evalkit.errors import UserError
from evalkit.models.base import Message, canonical_json
from evalkit.store.formats.foreign import WINNERS, Arena, Imported, Mark, Talk, add_arena
from evalkit.store.formats.given import Said, verdicts
from evalkit.store.formats.messages import dialogue, read_messages, split_turns, texts_of
from evalkit.store.formats.tables import Row, read_table, write_table
from evalkit.store.formats.votes import Order, Vote
from evalkit.store.ledger import Ledger
from evalkit.store.rows import AnnotatorKind, Item
from evalkit.store.write_judgments import outcome

KIND = "preferences"
COLUMNS: dict[str, type] = {
    **dict.fromkeys(("prompt", "chosen", "rejected"), list),
    **dict.fromkeys(("item_id", "category", "chosen_model", "rejected_model", "annotator", "annotator_kind"), str),
    **{"criterion": str, "order": str, "replicate": int, "probability": float, "timestamp": str},
}
KNOWN: dict[str, tuple[AnnotatorKind, str]] = {
    "ultrafeedback_binarized": ("judge", "gpt-4_ultrafeedback"),
    "hh-rlhf": ("human", "hh-rlhf_workers"),
}
"""Who preferred, in sets that do not say so themselves, by a part of their names."""


def import_preferences(
    ledger: Ledger, paths: Sequence[Path], annotator_kind: AnnotatorKind | None = None, hub: str = ""
) -> Imported:
    """Reads preference sets: `prompt, chosen, rejected`, or `model_a, model_b, winner, conversation_a, conversation_b`.

    Texts are text, messages, or dialogues of Human and Assistant; two conversations that part before the last answer
    are skipped.

    Args:
        annotator_kind: Who preferred, where neither the rows nor the set's name say so.
        hub: The set's name on the hub, where `paths` came from there.

    Raises:
        UserError: Something is wrong in a file; nothing was written.
    """
    arena = Arena(KIND)
    for path in paths:
        name = hub or path.stem
        for row in read_table(path, ()):
            if {"chosen", "rejected"} <= row.values.keys():
                _pair(arena, row, name, annotator_kind)
            elif {"model_a", "model_b", "winner"} <= row.values.keys():
                _battle(arena, row, name, annotator_kind)
            else:
                need = (
                    "chosen and rejected (with prompt), or model_a, model_b, winner and conversation_a, conversation_b"
                )
                raise UserError(f"{path}, line {row.line}: a preference needs the columns {need}")
    return add_arena(ledger, arena, paths)


def _annotator(
    arena: Arena, row: Row, name: str, kind: AnnotatorKind | None, given: AnnotatorKind | None = None
) -> tuple[AnnotatorKind, str]:
    who = row.text("annotator", "") or row.text("judge", "")
    known = next((known for part, known in KNOWN.items() if part in name.lower()), None)
    said = row.text("annotator_kind", "")
    if said:
        kind = "judge" if row.choice("annotator_kind", ("human", "judge")) == "judge" else "human"
    elif kind is None and known is not None and not who:
        kind, who = known
    kind = kind or given
    if kind is None:
        raise UserError(f"{row.path}: nothing says who preferred; add --annotator-kind human, or judge", code=2)
    who = who or f"{Path(name.partition('@')[0]).name}_{kind}s"
    if kind == "judge":
        arena.judges[who] = {"published": name, "kind": "llm"}
    return kind, who


def _conversation(row: Row, field: str) -> tuple[Message, ...]:
    """Reads a column that is text, a dialogue, messages, or the JSON of messages."""
    given = row.values.get(field)
    if isinstance(given, list):
        return tuple(read_messages(row, field, given))
    text = row.text(field, "")
    if text.startswith("[{"):
        return tuple(read_messages(row, field, text))
    if text.lstrip().startswith("Human:"):
        return tuple(dialogue(text))
    return ({"role": "user" if field == "prompt" else "assistant", "content": text},)


def _pair(arena: Arena, row: Row, name: str, kind: AnnotatorKind | None) -> None:
    chosen, rejected = _conversation(row, "chosen"), _conversation(row, "rejected")
    prompt = _conversation(row, "prompt") if row.values.get("prompt") else ()
    if len(chosen) > 1 or len(rejected) > 1:
        prompt = chosen[:-1]
    if not prompt:
        raise row.fault("prompt", "it is empty; give it, or conversations as chosen and rejected")
    if (len(chosen) > 1 or len(rejected) > 1) and rejected[:-1] != prompt:
        arena.skipped["two conversations that part before the last answer"] += 1
        return
    if not chosen[-1]["role"] == rejected[-1]["role"] == "assistant":
        raise row.fault("chosen", "the last message of chosen and rejected must be the assistant's")
    models = [row.text(f"{side}_model", "") or row.text(f"{side}-model", "") or side for side in ("chosen", "rejected")]
    if models[0] == models[1]:
        arena.skipped["a model against itself"] += 1
        return
    item = row.text("item_id", "") or row.text("prompt_id", "") or _digest(prompt)
    _add_item(arena, row, item, prompt)
    texts = (str(chosen[-1]["content"]),), (str(rejected[-1]["content"]),)
    arena.talks += [Talk(item, model, said) for model, said in zip(models, texts, strict=True)]
    who = _annotator(arena, row, name, kind)
    criterion = row.text("criterion", "overall")
    order = cast(Order, row.choice("order", ("ab", "ba"), ""))
    vote = Vote(item, models[0], models[1], "model_a", who, criterion, 1, order, row.integer("replicate", None))
    likely, moment = row.number("probability", 0, 1), row.time("timestamp")
    arena.votes.append(replace(vote, probability=likely, timestamp=moment, answers=texts))
    for side, model, said in zip(("chosen", "rejected"), models, texts, strict=True):
        score = row.number(f"score_{side}")
        if score is not None:
            arena.marks.append(Mark(item, model, 1, who, criterion, score, texts=said))


def _battle(arena: Arena, row: Row, name: str, kind: AnnotatorKind | None) -> None:
    a, b = row.text("model_a"), row.text("model_b")
    if a == b:
        arena.skipped["a model against itself"] += 1
        return
    asked, said_a = split_turns(row, "conversation_a", row.values.get("conversation_a"))
    other, said_b = split_turns(row, "conversation_b", row.values.get("conversation_b"))
    if asked != other:
        arena.skipped["two conversations with different words of the user"] += 1
        return
    item = _digest(texts_of(asked))
    _add_item(arena, row, item, texts_of(asked))
    arena.talks += [Talk(item, a, said_a), Talk(item, b, said_b)]
    winner = WINNERS[row.choice("winner", list(WINNERS))]
    who = _annotator(arena, row, name, kind, "human")
    moment = row.time("tstamp") or row.time("timestamp")
    vote = Vote(item, a, b, winner, who, turn=len(asked), order="ab", timestamp=moment, answers=(said_a, said_b))
    arena.votes.append(vote)


def _digest(messages: Sequence[Message]) -> str:
    return hashlib.sha256(canonical_json([dict(one) for one in messages]).encode()).hexdigest()[:16]


def _add_item(arena: Arena, row: Row, name: str, messages: tuple[Message, ...]) -> None:
    tags = {field: row.text(field) for field in ("category", "language") if row.text(field, "")}
    item = Item(messages, None, tags, name=name)
    first = arena.items.setdefault(name, item)
    if first.messages != messages:
        raise row.fault("prompt", f"the item {name!r} has another prompt in an earlier row")


def export_preferences(ledger: Ledger, path: Path, annotators: str = "*") -> tuple[int, Counter[str]]:
    """Writes one row for each battle and annotator: prompt, the chosen and the rejected answer, as messages.

    Both orders of a judge count as one verdict. Ties, both_bad and what the two orders disagree about have no chosen
    answer and are left out.

    Args:
        annotators: Pattern of the names whose verdicts are written.

    Returns:
        The number of rows, and how many battles were left out, by the reason.

    Raises:
        UserError: The file cannot be written, or no annotator fits.
    """
    left: Counter[str] = Counter()
    groups: defaultdict[tuple[Any, ...], list[Said]] = defaultdict(list)
    names = set()
    for one in verdicts(ledger):
        names.add(one.annotator)
        if fnmatchcase(one.annotator, annotators):
            groups[one.battle_id, one.annotator_kind, one.annotator, one.criterion, one.replicate].append(one)
    if not groups:
        from evalkit.stats.votes import list_names

        raise UserError(f"no annotator of battles fits {annotators!r}; there are {list_names(sorted(names))}", code=2)
    rows = [row for group in groups.values() if (row := _row(group, left)) is not None]
    return write_table(path, COLUMNS, [rows]), left


def _row(group: Sequence[Said], left: Counter[str]) -> tuple[Any, ...] | None:
    one = group[0]
    won = outcome([said.winner for said in group if said.winner is not None])
    why = ""
    if won not in ("model_a", "model_b"):
        why = "unreadable" if won is None else "ties, and what the two orders disagree about"
    elif not one.text_a or not one.text_b or not one.before_a:
        why = "battles without both texts"
    elif one.before_a != one.before_b:
        why = "later turns, where the models' earlier answers differ"
    if why:
        left[why] += 1
        return None
    sides = [(one.model_a, one.text_a), (one.model_b, one.text_b)]
    if won == "model_b":
        sides.reverse()
    (chosen, good), (rejected, bad) = sides
    likely = [said.probability for said in group]
    mean = None if None in likely else sum(p for p in likely if p is not None) / len(likely)
    order = one.order if len(group) == 1 else ""
    if won == "model_b":
        mean = None if mean is None else 1 - mean
        order = {"ab": "ba", "ba": "ab"}.get(order, order)
    texts = [[{"role": "assistant", "content": text}] for text in (good, bad)]
    prompt = [{"role": str(m["role"]), "content": str(m["content"])} for m in one.before_a]
    who = (one.item, one.category or None, chosen, rejected, one.annotator, one.annotator_kind, one.criterion)
    return (prompt, *texts, *who, order or None, one.replicate, mean, one.created_at)
