"""MT-bench and FastChat's llm_judge: questions, answers, judgments and votes as JSONL (in; `mt_bench_out` writes them).

What a file holds is told by the fields of its rows, so a folder as FastChat lays it out will do, or single files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from evalkit.errors import UserError
from evalkit.store.formats.foreign import WINNERS, Arena, Imported, Mark, Talk, add_arena
from evalkit.store.formats.messages import split_turns, texts_of
from evalkit.store.formats.tables import Row, read_table
from evalkit.store.formats.votes import Order, Vote
from evalkit.store.ledger import Ledger
from evalkit.store.rows import AnnotatorKind, Item, Winner

KIND = "mt-bench"
REFERENCE_CATEGORIES = ("math", "reasoning", "coding")
"""Whose questions FastChat's judges see reference answers to."""
INCONSISTENT = "tie (inconsistent)"
SIDES: dict[str, Winner] = {"model_1": "model_a", "model_2": "model_b", "tie": "tie", "both_bad": "both_bad"}
"""How FastChat names who won a game; it has no both_bad, which our own judges may say."""
NOT_PUBLISHED = (
    f"published as {INCONSISTENT!r}, without who won in which order; stored as a tie in one order and both_bad in the "
    "other, which is a tie on boards, an inconsistency in the audit, and says nothing of the first slot"
)
UNREADABLE = "no verdict could be read from the judgment"
Read = Callable[[Arena, Row], None]


def import_mt_bench(ledger: Ledger, paths: Sequence[Path]) -> Imported:
    """Reads MT-bench files, or all in folders.

    Votes of people are those of a file named human*, or of `expert_N` and `author_N`; all others are a judge's.

    Raises:
        UserError: Something is wrong in a file, or nothing of MT-bench is in it; nothing was written.
    """
    files = [file for path in paths for file in _files(path)]
    arena = Arena(KIND)
    answers: list[Row] = []
    for file in files:
        for row in read_table(file, ()):
            _reader(row, answers)(arena, row)
    _add_answers(arena, answers)
    unknown = sum(vote.rationale == NOT_PUBLISHED for vote in arena.votes) // 2
    if unknown:
        arena.notes.append(f"{unknown} pairs of verdicts were {NOT_PUBLISHED}.")
    if not (arena.items or arena.talks or arena.votes or arena.marks):
        names = ", ".join(path.name for path in files)
        raise UserError(f"{paths[0]}: nothing of MT-bench is in {names}: no questions, answers, judgments or votes")
    return add_arena(ledger, arena, files)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for ending in ("*.jsonl", "*.parquet") for file in path.rglob(ending))
    if not found:
        raise UserError(f"{path}: there are no .jsonl or .parquet files in this folder")
    return found


def _reader(row: Row, answers: list[Row]) -> Read:
    """Returns what reads a row, by its fields."""
    has = row.values.keys()
    if "prompt_template" in has:
        return lambda arena, _: arena.skipped.update(["a judge's prompt template"])
    if "choices" in has:
        return lambda _, one: answers.append(one)
    if "turns" in has:
        return _question
    if "g1_winner" in has:
        return _pair
    if "score" in has:
        return _single
    if "winner" in has:
        return _vote
    need = "turns (a question), choices (an answer), g1_winner or winner (a comparison), score (a grade)"
    raise UserError(f"{row.path}, line {row.line}: a row of MT-bench has one of the fields {need}; this one has none")


def _question(arena: Arena, row: Row) -> None:
    name, category = row.text("question_id"), row.text("category", "")
    if name in arena.items:
        raise row.fault("question_id", f"{name!r} is there already; every question has an id of its own")
    turns = texts_of(texts(row, "turns"))
    reference = {"turns": texts(row, "reference")} if row.values.get("reference") else None
    arena.items[name] = Item(turns, reference, {"category": category} if category else {}, name=name)


def texts(row: Row, field: str, values: Any = None) -> list[str]:
    """Returns a list of texts.

    Raises:
        UserError: It is no such list.
    """
    found = row.values.get(field) if values is None else values
    if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
        raise row.fault(field, "it must be a list of texts, one for each turn")
    return found


def _add_answers(arena: Arena, rows: Iterable[Row]) -> None:
    """Adds answers: a folder `reference_answer`, or a file on questions with references only, is no contestant's."""
    categories = {name: item.tags.get("category") for name, item in arena.items.items()}
    by_file: dict[Path, list[Row]] = {}
    for row in rows:
        by_file.setdefault(row.path, []).append(row)
    for path, those in by_file.items():
        asked = {categories.get(row.text("question_id")) for row in those}
        given = path.parent.name == "reference_answer"
        if given or (path.parent.name != "model_answer" and asked <= set(REFERENCE_CATEGORIES)):
            _references(arena, path, those)
            continue
        for row in those:
            for choice in _choices(row):
                arena.talks.append(Talk(row.text("question_id"), row.text("model_id"), tuple(choice)))


def _references(arena: Arena, path: Path, rows: Sequence[Row]) -> None:
    for row in rows:
        name = row.text("question_id")
        item = arena.items.get(name, Item((), tags={"item_id": name}, name=name))
        arena.items[name] = replace(item, reference={"turns": _choices(row)[0]})
    arena.notes.append(f"{path.name}: {len(rows)} reference answers, for judges; not the answers of a contestant.")


def _choices(row: Row) -> list[list[str]]:
    choices = row.values["choices"]
    if not isinstance(choices, list) or not choices or not all(isinstance(one, dict) for one in choices):
        raise row.fault("choices", "it must be a list of objects with `turns`")
    return [texts(row, "choices", one.get("turns")) for one in choices]


def _judge(row: Row, arena: Arena, mode: str) -> tuple[AnnotatorKind, str]:
    """Returns the judge of FastChat's own judgments: its model and mode, as FastChat names the files."""
    given = row.values.get("judge")
    model = given[0] if isinstance(given, list) and given else given
    if not isinstance(model, str) or not model:
        raise row.fault("judge", 'it must be a name, or a list of model and prompt such as ["gpt-4", "pair-v2"]')
    name = model if model.endswith(f"_{mode}") else f"{model}_{mode}"
    arena.judges[name] = {"published": "MT-bench", "kind": "llm", "model": model.removesuffix(f"_{mode}")}
    return "judge", name


def _pair(arena: Arena, row: Row) -> None:
    a, b = row.text("model_1"), row.text("model_2")
    if a == b:
        arena.skipped["a model against itself"] += 1
        return
    annotator, turn, moment = _judge(row, arena, "pair"), row.integer("turn", 1, 1) or 1, row.time("tstamp")
    orders: tuple[tuple[Order, str], ...] = (("ab", "g1"), ("ba", "g2"))  # in the second game model_2 is shown first
    for order, game in orders:
        said = row.choice(f"{game}_winner", [*SIDES, "error"])
        winner, error = SIDES.get(said), UNREADABLE if said == "error" else None
        rationale = row.text(f"{game}_judgment", "") or None
        vote = Vote(row.text("question_id"), a, b, winner, annotator, turn=turn, order=order, timestamp=moment)
        arena.votes.append(replace(vote, error=error, rationale=rationale))


def _single(arena: Arena, row: Row) -> None:
    score = row.number("score", -1, 10)
    if score is None:
        raise row.fault("score", "it is empty; a grade is a number from 1 to 10, or -1 where none could be read")
    failed = score < 0
    arena.marks.append(
        Mark(
            row.text("question_id"),
            row.text("model"),
            row.integer("turn", 1, 1) or 1,
            _judge(row, arena, "single"),
            "overall",
            None if failed else score,
            UNREADABLE if failed else None,
            row.text("judgment", "") or None,
        )
    )


def _vote(arena: Arena, row: Row) -> None:
    """Reads a row of the published votes: one for a person, or for both orders of a judge."""
    item, a, b, name = (row.text(field) for field in ("question_id", "model_a", "model_b", "judge"))
    if a == b:
        arena.skipped["a model against itself"] += 1
        return
    human = row.path.stem.startswith("human") or name.startswith(("expert_", "author_"))
    turn, moment = row.integer("turn", 1, 1) or 1, row.time("tstamp")
    said = row.choice("winner", [*WINNERS, INCONSISTENT])
    shown = row.choice("order", ("ab", "ba", ""), "")
    both = said == INCONSISTENT or (not human and name.endswith("_pair") and "order" not in row.values)
    if not human:
        arena.judges[name] = {"published": "MT-bench", "kind": "llm", "model": name.removesuffix("_pair")}
    answers = _conversations(arena, row, item, turn, (a, b))
    unknown: dict[Order, Winner] = {"ab": "tie", "ba": "both_bad"}  # two that differ, and neither favours a model
    orders = cast("tuple[Order, ...]", ("ab", "ba") if both else (shown,))
    for order in orders:
        winner = unknown[order] if said == INCONSISTENT else WINNERS[said]
        why = NOT_PUBLISHED if said == INCONSISTENT else None
        who: tuple[AnnotatorKind, str] = ("human" if human else "judge", name)
        vote = Vote(item, a, b, winner, who, turn=turn, order=order, timestamp=moment)
        arena.votes.append(replace(vote, rationale=why, answers=answers))


def _conversations(
    arena: Arena, row: Row, item: str, turn: int, models: tuple[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Reads the texts that the public set carries in conversation_a and conversation_b."""
    found = []
    for model, side in zip(models, ("a", "b"), strict=True):
        given = row.values.get(f"conversation_{side}")
        if not given:
            return None
        asked, said = split_turns(row, f"conversation_{side}", given)
        arena.talks.append(Talk(item, model, said))
        if len(said) < turn:
            raise row.fault(f"conversation_{side}", f"it has {len(said)} answers, and the vote is on turn {turn}")
        if item not in arena.items:
            arena.items[item] = Item(texts_of(asked), name=item)
        found.append(said)
    return found[0], found[1]


def prompt_name(mode: str, category: str, turn: int) -> str:
    """Returns FastChat's name of the judge prompt for a question and turn."""
    based = category in REFERENCE_CATEGORIES
    base = {"pair": "pair-math-v1" if based else "pair-v2", "single": "single-math-v1" if based else "single-v1"}[mode]
    return base if turn == 1 else f"{base}-multi-turn"
