"""Arena-Hard judgments: two games a question, five steps from A>>B to B>>A, against a baseline (in)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit.store.formats.foreign import Arena, Imported, add_arena
from evalkit.store.formats.tables import Row, read_table
from evalkit.store.formats.votes import Vote
from evalkit.store.ledger import Ledger
from evalkit.store.rows import Winner

KIND = "arena-hard"
BASELINE = "gpt-4-0314"
"""Of version 0.1, whose files do not name it."""
STEPS = {"A>>B": 1.0, "A>B": 0.75, "A=B": 0.5, "B>A": 0.25, "B>>A": 0.0, "B=A": 0.5, "A<B": 0.25, "A<<B": 0.0}
"""Probability that A's answer is the better one."""
UNREADABLE = "no verdict could be read from the judgment"


def import_arena_hard(ledger: Ledger, paths: Sequence[Path], baseline: str | None = None) -> Imported:
    """Reads judgment files, of version 0.1 (`question_id`) and 2.0 (`uid`, `baseline`), or all in folders.

    In the first game the baseline is shown as A, in the second the model.

    Args:
        baseline: The model compared with, where rows do not name it.

    Raises:
        UserError: Something is wrong in a file; nothing was written.
    """
    files = [file for path in paths for file in (sorted(path.rglob("*.jsonl")) if path.is_dir() else [path])]
    arena = Arena(KIND)
    assumed = 0
    for file in files:
        for row in read_table(file, ("model", "judge", "games")):
            assumed += not (row.values.get("baseline") or baseline)
            _games(arena, row, row.text("baseline", baseline or BASELINE))
    if assumed:
        arena.notes.append(f"{assumed} rows name no baseline; it is taken to be {BASELINE} (--baseline names another).")
    return add_arena(ledger, arena, files)


def _games(arena: Arena, row: Row, baseline: str) -> None:
    item = row.text("uid", "") or row.text("question_id")
    model, judge = row.text("model"), row.text("judge")
    if model == baseline:
        arena.skipped["the baseline against itself"] += 1
        return
    games = row.values["games"]
    if not isinstance(games, list) or not games or not all(isinstance(game, dict) for game in games):
        raise row.fault("games", "it must be a list of objects with `score` and `judgment`")
    name = f"{judge}_arena-hard"
    arena.judges[name] = {"published": "Arena-Hard", "kind": "llm", "model": judge}
    for number, game in enumerate(games):
        swapped = number % 2 == 1
        likely = _step(row, number, game.get("score"))
        if likely is not None and swapped:
            likely = 1 - likely
        winner: Winner | None = None
        if likely is not None:
            winner = "tie" if likely == 0.5 else "model_a" if likely > 0.5 else "model_b"
        vote = Vote(item, baseline, model, winner, ("judge", name), order="ba" if swapped else "ab")
        vote = replace(vote, replicate=number // 2, probability=likely, timestamp=row.time("tstamp"))
        error = UNREADABLE if likely is None else None
        rationale = _judgment(game.get("judgment"))
        arena.votes.append(replace(vote, category=row.text("category", ""), error=error, rationale=rationale))


def _step(row: Row, number: int, score: Any) -> float | None:
    if score is None:
        return None
    if score not in STEPS:
        raise row.fault("games", f"game {number + 1} has the score {score!r}; allowed are {', '.join(STEPS)} or null")
    return STEPS[score]


def _judgment(given: Any) -> str | None:
    if isinstance(given, dict):
        given = given.get("answer")
    return given if isinstance(given, str) and given else None
